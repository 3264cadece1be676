//! The running counts of a webhook's finished deliveries, and what waits beside them.

use std::sync::Arc;

use super::error::StoreError;
use super::{Store, value};

/// Webhooks whose counts are read with one exchange.
const CHUNK: usize = 500;

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With a 2xx.
    Success,
    /// As a dead letter.
    Failed,
}

impl Ended {
    /// The field that counts it. REPLAY knows the name of the second one too.
    fn field(self) -> &'static str {
        match self {
            Ended::Success => "success",
            Ended::Failed => "failed",
        }
    }
}

/// Deliveries of one webhook that ended in one way since they were last written down.
#[derive(Debug, Clone)]
pub struct Count {
    /// The webhook's shard.
    pub shard: u16,
    /// The webhook's uid.
    pub uid: Arc<str>,
    /// How they ended.
    pub ended: Ended,
    /// How many.
    pub by: u64,
}

/// What is known of a webhook's deliveries in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Deliveries that the receiver has taken.
    pub success: u64,
    /// Deliveries that were given up and not replayed since.
    pub failed: u64,
    /// Deliveries in the queue, those that wait for a retry included.
    pub waiting: u64,
}

impl Stats {
    /// All deliveries.
    pub fn total(&self) -> u64 {
        self.success
            .saturating_add(self.failed)
            .saturating_add(self.waiting)
    }

    /// The share of finished deliveries that succeeded, from 0 to 1; 0 when none is finished.
    pub fn success_rate(&self) -> f64 {
        match self.success.saturating_add(self.failed) {
            0 => 0.0,
            // Beyond 2^53 deliveries the last digits do not matter.
            finished => self.success as f64 / finished as f64,
        }
    }
}

/// A count as it is kept: a replay takes one off, and may do so before the failure that it replays was added.
fn count(reply: Option<redis::Value>) -> u64 {
    reply
        .as_ref()
        .and_then(value::integer)
        .unwrap_or(0)
        .max(0)
        .unsigned_abs()
}

impl Store {
    /// Adds to the counts of webhooks. Returns for each whether it was added; one that a full Redis refused was not.
    ///
    /// # Errors
    ///
    /// After [`StoreError::Unavailable`] they may have been added.
    pub async fn add_counts(&self, counts: &[Count]) -> Result<Vec<bool>, StoreError> {
        let mut commands = redis::Pipeline::with_capacity(counts.len());
        for count in counts {
            commands
                .cmd("HINCRBY")
                .arg(self.keys().stats(count.shard, &count.uid))
                .arg(count.ended.field())
                .arg(count.by);
        }
        let mut connected = self.link().connection()?;
        let replies = connected.pipeline("count deliveries", &commands).await?;
        let added: Vec<bool> = replies
            .iter()
            .map(|reply| value::server_error(reply).is_none())
            .collect();
        if added.contains(&false) {
            connected.count_error("count deliveries");
        }
        Ok(added)
    }

    /// Reads the counts of webhooks, each given by shard and uid, in the order asked for. Counts that cannot be read are
    /// 0: they are told for people, and nothing depends on them.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn stats(&self, webhooks: &[(u16, &str)]) -> Result<Vec<Stats>, StoreError> {
        let mut found = Vec::with_capacity(webhooks.len());
        for chunk in webhooks.chunks(CHUNK) {
            let mut commands = redis::Pipeline::with_capacity(2 * chunk.len());
            for (shard, uid) in chunk {
                commands
                    .cmd("HMGET")
                    .arg(self.keys().stats(*shard, uid))
                    .arg("success")
                    .arg("failed");
                commands.cmd("XLEN").arg(self.keys().queue(*shard, uid));
            }
            let replies = self.link().slowly_each("read counts", &commands).await?;
            let mut replies = replies.into_iter();
            for _ in chunk {
                let mut counts =
                    value::items(replies.next().unwrap_or(redis::Value::Nil)).into_iter();
                found.push(Stats {
                    success: count(counts.next()),
                    failed: count(counts.next()),
                    waiting: count(replies.next()),
                });
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_share_of_what_is_finished() {
        let stats = Stats {
            success: 3,
            failed: 1,
            waiting: 6,
        };
        assert_eq!((stats.total(), stats.success_rate()), (10, 0.75));
        assert_eq!(Stats::default().success_rate(), 0.0);
    }

    #[test]
    fn a_count_below_zero_is_zero() {
        assert_eq!(count(Some(redis::Value::BulkString(b"-3".to_vec()))), 0);
        assert_eq!(count(Some(redis::Value::BulkString(b"7".to_vec()))), 7);
        assert_eq!(count(None), 0);
    }
}
