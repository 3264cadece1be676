//! Running counts of a webhook's finished deliveries.

use std::sync::Arc;

use redis::Value;

use super::error::StoreError;
use super::{Store, value};

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

/// What a webhook's deliveries came to since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that succeeded.
    pub success: u64,
    /// Those that became dead letters and were not replayed since.
    pub failed: u64,
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

    /// The counts of webhooks, in the order asked for.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn counts(&self, webhooks: &[(u16, Arc<str>)]) -> Result<Vec<Counts>, StoreError> {
        let mut commands = redis::Pipeline::with_capacity(webhooks.len());
        for (shard, uid) in webhooks {
            commands
                .cmd("HMGET")
                .arg(self.keys().stats(*shard, uid))
                .arg(Ended::Success.field())
                .arg(Ended::Failed.field());
        }
        let replies = self.link().slowly("read counts", &commands).await?;
        Ok(replies.into_iter().map(read).collect())
    }
}

fn read(reply: Value) -> Counts {
    let mut counts = value::items(reply).into_iter().map(|count| {
        // A replay is counted at once and a dead letter within a second: in between it may be below zero.
        value::integer(&count).unwrap_or(0).max(0).unsigned_abs()
    });
    Counts {
        success: counts.next().unwrap_or(0),
        failed: counts.next().unwrap_or(0),
    }
}
