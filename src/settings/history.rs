//! `[history]`: how long, how many and with what deliveries that succeeded are kept to be looked at.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schema::{Key, Kind, days, minutes};
use super::units;

/// `[history]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistorySettings {
    /// How long a delivery that succeeded is kept, 1 min to 3,650 days.
    #[serde(with = "units::duration")]
    pub max_age: Duration,
    /// Deliveries that succeeded kept of one webhook, about; the oldest fall out first. 0 keeps none.
    pub max_count: u64,
    /// Whose payload is shown.
    pub payload: HistoryPayload,
}

/// Of which deliveries the payload is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryPayload {
    /// Of those that failed, and of those that still wait: they hold it anyway.
    Failed,
    /// Of those that succeeded too, whose records then hold it as well.
    All,
    /// Of none. Dead letters hold theirs all the same, because a replay needs it.
    None,
}

pub(super) const KEYS: &[Key] = &[
    Key::duration("max_age", minutes(1), days(3_650)),
    Key::integer("max_count", 0, 1_000_000_000),
    Key::new("payload", Kind::Choice(&["failed", "all", "none"])),
];
