//! `[shutdown]`: how the daemon stops.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schema::{Key, minutes};
use super::units;

/// `[shutdown]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownSettings {
    /// How long attempts in flight may go on after the signal, 0 s to 1 h.
    #[serde(with = "units::duration")]
    pub grace: Duration,
}

pub(super) const KEYS: &[Key] = &[Key::duration("grace", Duration::ZERO, minutes(60))];
