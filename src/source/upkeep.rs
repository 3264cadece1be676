//! What a reader looks after beside its reads: entries in nobody's hands, how far the group is, and what was lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Reader;
use super::ticket::Table;
use crate::event::EntryId;
use crate::store::StoreError;
use crate::store::notices::Notice;

/// How long entries must have been pending before they are taken to be in nobody's hands.
const RECONCILE_IDLE: Duration = Duration::from_secs(5);
const RECONCILE_COUNT: usize = 500;
/// Entries read again at a time: their size is not known.
const RECONCILE_CHUNK: usize = 16;

impl Reader {
    /// Finds entries that are pending but in nobody's hands: broken tickets, and what a read of an earlier owner was
    /// handed after its end.
    pub(super) async fn reconcile(
        &mut self,
        table: &Arc<Table>,
        generation: u64,
    ) -> Result<(), StoreError> {
        self.reconciled_at = Instant::now();
        let mut start = EntryId::MIN;
        loop {
            let pending = self
                .parts
                .stream
                .pending(RECONCILE_IDLE, start, RECONCILE_COUNT, generation)
                .await?;
            let Some(last) = pending.last() else {
                return Ok(());
            };
            start = last.id.next();
            let full = pending.len() == RECONCILE_COUNT;
            let lost: Vec<EntryId> = pending
                .iter()
                .map(|entry| entry.id)
                .filter(|id| !table.holds(*id))
                .collect();
            if !lost.is_empty() {
                tracing::warn!(stream = %self.name, entries = lost.len(), "pending entries in nobody's hands are read again");
                for chunk in lost.chunks(RECONCILE_CHUNK) {
                    let entries = self.parts.stream.read_by_id(chunk, generation).await?;
                    self.hand_out(table, entries).await?;
                }
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Looks how far the group is, and whether its counter has passed entries that were never read.
    pub(super) async fn look(&mut self, generation: u64) -> Result<(), StoreError> {
        let progress = self.parts.stream.progress(generation).await?;
        self.looked_at = Some(Instant::now());
        self.parts.progress.send_modify(|state| {
            state.lag_entries = progress.lag_entries;
            state.oldest_unread_ms = progress.oldest_unread_ms;
        });
        // While this daemon's last beat is old another one may read: what the group was given by it was lost to nobody.
        let counted = self.counted.filter(|_| self.parts.era.is_valid());
        let skipped = match (counted, progress.entries_read) {
            // What another server was not told of is put right sooner or later, and is no loss.
            _ if !self.counter.is_kept => 0,
            (Some(before), Some(now)) => now.saturating_sub(before).saturating_sub(self.read_since),
            // At the first look, or when others may have read: what nobody was given.
            _ => progress.lost,
        };
        if progress.is_exact {
            // From now on it is this server's own.
            self.counter.is_kept = true;
            if !self.counter.is_noted {
                // A full Redis refuses it: then it is noted at a later look.
                self.counter.is_noted = self.parts.stream.note_counter(generation).await.is_ok();
            }
        }
        if skipped > 0 {
            self.lost(skipped, "trimmed by the platform before they were read");
        }
        self.counted = progress.entries_read;
        self.read_since = 0;
        Ok(())
    }

    pub(super) fn lost(&self, count: u64, how: &str) {
        self.parts.metrics.lost.inc_by(count);
        tracing::error!(
            stream = %self.name, count,
            "events were lost: {how}; raise the bound of the platform's trimming, or use trim = \"acknowledged\""
        );
    }

    /// Older rejected entries fell out of their bound: counted, logged and announced.
    pub(super) async fn rejected_dropped(&self, count: u64) {
        self.parts.metrics.rejected_dropped.inc_by(count);
        tracing::error!(
            count,
            "rejected entries fell out of their bound and are lost; see `pombo rejected list` and rejected.max_count"
        );
        let notice = Notice {
            kind: "rejected_dropped",
            tenant: None,
            webhook_id: None,
            detail: format!("{count} rejected entries fell out of their bound"),
        };
        let now_ms = self.parts.clock.unix_ms();
        if let Err(error) = self
            .parts
            .store
            .announce(&notice, now_ms, self.parts.most_notices)
            .await
        {
            tracing::warn!(%error, "a notice could not be announced");
        }
    }
}
