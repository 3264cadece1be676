//! How far Pombo's group is on a source, and what of the stream is needed no more.

use redis::Value;

use super::SourceStream;
use crate::event::EntryId;
use crate::store::error::StoreError;
use crate::store::{scripts, value};

/// How far the group is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The counter of entries that the group was given; `None` while the server cannot tell.
    pub entries_read: Option<u64>,
    /// Entries that the group has not been given yet; at least this many.
    pub lag_entries: u64,
    /// When the oldest of them was added (Unix ms).
    pub oldest_unread_ms: Option<u64>,
    /// Entries found to have been trimmed before the group was given them; the counter passes them now.
    pub lost: u64,
    /// Whether the counter is known to be right now.
    pub is_exact: bool,
}

/// What is known of the counter of what a group was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// Whether it can be believed.
    pub is_kept: bool,
    /// Whether the server that has it now is noted as such.
    pub is_noted: bool,
}

impl SourceStream {
    /// Whether the group's counter of what it was given is still the one that was looked at last. A replica is not told
    /// of it, and the append-only file neither: after a failover or a restart it is too low, and what it lacks is no loss.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn counter(&self, generation: u64) -> Result<Counter, StoreError> {
        let mut command = redis::cmd("HGET");
        command
            .arg(self.keys.source(&self.stream))
            .arg("counted_on");
        let reply = self
            .link
            .connection_of(generation)?
            .command("read where a source was counted", command)
            .await?;
        let before = value::text(reply);
        let now = self.link.server_of(&self.stream);
        Ok(Counter {
            is_kept: before.is_none() || before == now,
            is_noted: before == now,
        })
    }

    /// Notes that the counter was put right on the server that has the stream now.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn note_counter(&self, generation: u64) -> Result<(), StoreError> {
        let mut command = redis::cmd("HSET");
        command
            .arg(self.keys.source(&self.stream))
            .arg("counted_on");
        command.arg(self.link.server_of(&self.stream).unwrap_or_default());
        self.link
            .connection_of(generation)?
            .command("note where a source was counted", command)
            .await
            .map(drop)
    }

    /// The last id that the group was given; `None` without a group.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn last_delivered(&self, generation: u64) -> Result<Option<EntryId>, StoreError> {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg(&self.stream);
        let reply = self
            .link
            .connection_of(generation)?
            .command("look at the consumer groups", command)
            .await?;
        let mut groups = value::items(reply).into_iter().map(value::text_map);
        let ours = groups.find(|group| {
            group
                .get("name")
                .is_some_and(|name| name == self.keys.group())
        });
        Ok(ours.and_then(|group| group.get("last-delivered-id")?.parse().ok()))
    }

    /// How far the group is. A loss is told once: its counter is put right thereby.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoGroup`] when group or stream are gone; whatever keeps Redis from answering.
    pub async fn progress(&self, generation: u64) -> Result<Progress, StoreError> {
        let mut connected = self.link.connection_of(generation)?;
        let call = scripts::PROGRESS
            .call()
            .key(self.stream.clone())
            .arg(self.keys.group());
        let reply = call.run(&mut connected).await?;
        if !matches!(reply, Value::Array(_)) {
            return Err(StoreError::NoGroup);
        }
        let mut found = value::items(reply).into_iter();
        let mut next = || found.next().unwrap_or(Value::Nil);
        let mut number = || value::integer(&next()).and_then(|n| u64::try_from(n).ok());
        let (entries_read, lag_entries) = (number(), number());
        let first_unread = value::text(next()).and_then(|id| id.parse::<EntryId>().ok());
        let lost = value::integer(&next()).unwrap_or(0).max(0).unsigned_abs();
        let is_exact = value::integer(&next()) == Some(1);
        Ok(Progress {
            entries_read,
            lag_entries: lag_entries.unwrap_or(0),
            oldest_unread_ms: first_unread.map(|id| id.ms),
            lost,
            is_exact,
        })
    }

    /// Trims what none of the stream's groups needs any more, at most up to `mark`. Returns how many entries went.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn trim(&self, mark: EntryId, generation: u64) -> Result<u64, StoreError> {
        let mut connected = self.link.connection_of(generation)?;
        let call = scripts::TRIM
            .call()
            .key(self.stream.clone())
            .arg(self.keys.group())
            .arg(mark.to_string());
        let reply = call.run(&mut connected).await?;
        Ok(value::integer(&reply).unwrap_or(0).max(0).unsigned_abs())
    }
}
