//! `[dead_letters]`: how long and how many dead letters are kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schema::{Key, days, minutes};
use super::units;

/// `[dead_letters]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterSettings {
    /// How long a dead letter is kept, 1 min to 3,650 days.
    #[serde(with = "units::duration")]
    pub max_age: Duration,
    /// Dead letters kept of one webhook; the oldest fall out first.
    pub max_count: u64,
}

pub(super) const KEYS: &[Key] = &[
    Key::duration("max_age", minutes(1), days(3_650)),
    Key::integer("max_count", 1, 1_000_000_000),
];
