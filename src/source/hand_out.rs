//! From entries to events, and to what is no event.

use std::sync::Arc;

use super::ticket::{Share, Table};
use super::{READ_BYTES, Reader};
use crate::store::StoreError;
use crate::store::rejected::Rejecting;
use crate::store::source::RawEntryOf;

impl Reader {
    /// Fans a batch out; what is no event is kept among the rejected.
    pub(super) async fn hand_out(
        &mut self,
        table: &Arc<Table>,
        entries: Vec<RawEntryOf>,
    ) -> Result<(), StoreError> {
        let mut rejected = Vec::new();
        let mut trimmed = Vec::new();
        let (number, mut bytes) = (entries.len(), 0usize);
        for entry in entries {
            let id = entry.id();
            let Some(share) = table.open(id) else {
                continue;
            };
            let Some(fields) = entry.into_fields() else {
                trimmed.push(id);
                share.settled();
                continue;
            };
            bytes += fields
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>();
            match self.parts.layout.read(&self.name, id, &fields) {
                Ok(event) => match self.parts.fanout.deliver(event, share).await {
                    0 => self.parts.metrics.unmatched.inc(),
                    _ => self.parts.metrics.routed.inc(),
                },
                Err(rejection) => rejected.push((
                    share,
                    Rejecting {
                        source: self.parts.settings.name.clone(),
                        stream: self.name.to_string(),
                        entry_id: id,
                        reason: rejection.reason.as_str(),
                        detail: rejection.detail,
                        fields,
                    },
                )),
            }
        }
        if let Some(average) = bytes.checked_div(number) {
            self.count = (READ_BYTES / average.max(1)).max(1);
        }
        if !trimmed.is_empty() {
            self.lost(
                trimmed.len() as u64,
                "trimmed by the platform while they were pending",
            );
        }
        self.reject(rejected).await
    }

    async fn reject(&self, rejected: Vec<(Share, Rejecting)>) -> Result<(), StoreError> {
        for chunk in chunked(rejected) {
            let (shares, batch): (Vec<Share>, Vec<Rejecting>) = chunk.into_iter().unzip();
            // On an error the shares break their tickets, and the entries are read again.
            let dropped = self
                .parts
                .store
                .reject(&batch, self.parts.most_rejected, self.parts.era.generation)
                .await?;
            shares.into_iter().for_each(Share::settled);
            self.parts.metrics.rejected.inc_by(batch.len() as u64);
            for rejecting in &batch {
                tracing::warn!(
                    source = %rejecting.source, stream = %rejecting.stream, entry = %rejecting.entry_id,
                    reason = rejecting.reason, detail = %rejecting.detail,
                    "an entry is no event; it is kept among the rejected"
                );
            }
            if dropped > 0 {
                self.rejected_dropped(dropped).await;
            }
        }
        Ok(())
    }
}

/// Bounded pieces: a rejected entry keeps all its fields, whatever their size.
fn chunked(rejected: Vec<(Share, Rejecting)>) -> Vec<Vec<(Share, Rejecting)>> {
    let mut chunks: Vec<Vec<_>> = Vec::new();
    let mut bytes = usize::MAX;
    for item in rejected {
        let size: usize = item
            .1
            .fields
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        match chunks.last_mut() {
            Some(chunk) if bytes < 1024 * 1024 && chunk.len() < 200 => {
                bytes += size;
                chunk.push(item);
            }
            _ => {
                bytes = size;
                chunks.push(vec![item]);
            }
        }
    }
    chunks
}
