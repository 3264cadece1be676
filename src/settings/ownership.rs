//! `[ownership]`: how the webhooks are divided among daemons.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schema::{Key, millis, minutes};
use super::units;

/// `[ownership]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnershipSettings {
    /// Into how many shards the webhooks are divided, 1 to 1,024; fixed once a Redis is in use.
    pub shards: u16,
    /// After how long without a sign of life a daemon is deposed, 3 s to 5 min.
    #[serde(with = "units::duration")]
    pub lease: Duration,
    /// How long what moves to another daemon waits for what is in flight, 100 ms to 1 min.
    #[serde(with = "units::duration")]
    pub handover: Duration,
}

pub(super) const KEYS: &[Key] = &[
    Key::integer("shards", 1, 1_024),
    Key::duration("lease", millis(3_000), minutes(5)),
    Key::duration("handover", millis(100), minutes(1)),
];
