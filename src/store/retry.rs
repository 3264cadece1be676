//! Schedules of deliveries that wait for their next attempt, as others than their lane see them.

use super::error::StoreError;
use super::{Store, scripts, value};
use crate::event::EntryId;

/// What came of moving a schedule forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hastened {
    /// It is due now.
    Done,
    /// It has no schedule, or was due already; nothing was changed.
    NotScheduled,
    /// There is no such entry in the queue any more.
    Gone,
}

impl Store {
    /// HASTEN: makes the queued delivery `id`, which waits for its next attempt, due now. The caller wakes the owner with
    /// [`Store::wake_owner`].
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn hasten(
        &self,
        shard: u16,
        uid: &str,
        id: EntryId,
        now_ms: u64,
    ) -> Result<Hastened, StoreError> {
        let reply = scripts::HASTEN
            .call()
            .key(self.keys().queue(shard, uid))
            .key(self.keys().retry(shard, uid))
            .key(self.keys().due(shard))
            .arg(id.to_string())
            .arg(uid)
            .number(now_ms)
            .run(&mut self.link().connection()?)
            .await?;
        match value::text(reply).as_deref() {
            Some("OK") => Ok(Hastened::Done),
            Some("NOT_SCHEDULED") => Ok(Hastened::NotScheduled),
            Some("GONE") => Ok(Hastened::Gone),
            other => Err(value::corrupt(
                "the reply of HASTEN",
                format!("{other:?} is none of its answers"),
            )),
        }
    }
}
