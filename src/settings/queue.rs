//! `[queue]`, `[rejected]`, `[notices]`: how much may wait, and how much is kept.

use serde::{Deserialize, Serialize};

use super::error::Report;
use super::schema::Key;

/// `[queue]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// Deliveries that may wait for one webhook; past it the newest are dead-lettered as `queue_full`.
    pub max_deliveries: u64,
    /// Deliveries that may wait for all webhooks; past it sources are not read. At least `max_deliveries`.
    pub max_total_deliveries: u64,
}

/// `[rejected]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedSettings {
    /// Rejected entries that are kept; the oldest fall out first.
    pub max_count: u64,
}

/// `[notices]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticesSettings {
    /// Notices that are kept; the oldest fall out first.
    pub max_count: u64,
}

const MOST_DELIVERIES: i64 = 1_000_000_000_000;
const MOST_KEPT: i64 = 1_000_000_000;

pub(super) const KEYS: &[Key] = &[
    Key::integer("max_deliveries", 1, MOST_DELIVERIES),
    Key::integer("max_total_deliveries", 1, MOST_DELIVERIES),
];

/// The keys of a section that does no more than cap a stream.
pub(super) const CAP_KEYS: &[Key] = &[Key::integer("max_count", 1, MOST_KEPT)];

impl QueueSettings {
    pub(super) fn check(&self, report: &mut Report) {
        if self.max_deliveries > self.max_total_deliveries {
            report.refuse(
                &["queue.max_deliveries", "queue.max_total_deliveries"],
                format!(
                    "is {}, above the bound for all webhooks together (queue.max_total_deliveries, {}): one dead \
                     webhook would stop the sources before its own bound is reached",
                    self.max_deliveries, self.max_total_deliveries
                ),
                "at most queue.max_total_deliveries",
            );
        }
    }
}
