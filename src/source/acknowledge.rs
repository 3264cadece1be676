//! The acknowledger of a source: acknowledges what is settled, many at a time, and moves the mark.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ticket::Table;
use crate::event::EntryId;
use crate::logging::StateLog;
use crate::settings::Trim;
use crate::store::StoreError;
use crate::store::source::SourceStream;

/// Most acknowledgements of one command.
const BATCH: usize = 1_000;
/// How long acknowledgements gather. Nobody waits for one.
const GATHER: Duration = Duration::from_millis(4);
/// How often the mark is written, if it moved.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// How often a source is trimmed, if the mark moved.
const TRIM_EVERY: Duration = Duration::from_secs(5);
/// The pause after a failure.
const AGAIN: Duration = Duration::from_millis(100);

/// What the acknowledger works with.
pub struct Parts {
    /// The stream.
    pub stream: SourceStream,
    /// Its unsettled entries.
    pub table: Arc<Table>,
    /// The generation of the stream's server that all of it comes from.
    pub generation: u64,
    /// Whether what all groups are done with is removed.
    pub trim: Trim,
    /// After this it ends as soon as nothing is unsettled.
    pub stop: CancellationToken,
    /// Cancelled when the era is over: it ends at once, after what is at hand.
    pub ended: CancellationToken,
}

/// Acknowledges until stopped and done, or the server is replaced.
pub async fn acknowledge(parts: Parts) {
    let state = StateLog::new("acknowledging of events");
    let trimming = StateLog::new("trimming of a source");
    let mut batch: Vec<EntryId> = Vec::new();
    let mut marked = EntryId::MIN;
    let mut trimmed = EntryId::MIN;
    let (mut marked_at, mut trimmed_at) = (Instant::now(), Instant::now());
    loop {
        if batch.is_empty() {
            let stopping = parts.stop.is_cancelled();
            if stopping && parts.table.is_done() && marked == parts.table.mark() {
                return;
            }
            let tick = if stopping {
                Duration::from_millis(10)
            } else {
                MARK_EVERY
            };
            tokio::select! {
                () = parts.table.until_settled() => parts.table.take_settled(&mut batch, BATCH),
                () = tokio::time::sleep(tick) => {}
                () = parts.stop.cancelled(), if !stopping => {}
                () = parts.ended.cancelled() => {
                    // Truths are flushed even by a daemon that was deposed.
                    parts.table.take_settled(&mut batch, usize::MAX);
                    let _ = parts.stream.acknowledge(&batch, None, parts.generation).await;
                    return;
                }
            }
        }
        if !batch.is_empty() && batch.len() < BATCH {
            tokio::time::sleep(GATHER).await;
            parts.table.take_settled(&mut batch, BATCH);
        }
        let mark_due = marked_at.elapsed() >= MARK_EVERY || parts.stop.is_cancelled();
        let mark = mark_due
            .then(|| parts.table.mark())
            .filter(|mark| *mark != marked);
        match parts
            .stream
            .acknowledge(&batch, mark, parts.generation)
            .await
        {
            Ok(mark_written) => {
                state.well();
                parts.table.acknowledged(&batch);
                batch.clear();
                // A mark that was refused is only late; at the end it must not keep the daemon from stopping.
                if let Some(mark) = mark.filter(|_| mark_written || parts.stop.is_cancelled()) {
                    marked = mark;
                }
                if mark_due {
                    marked_at = Instant::now();
                }
            }
            Err(StoreError::Replaced) => return,
            Err(error) => {
                state.trouble("failed", &error);
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    () = parts.ended.cancelled() => return,
                }
            }
        }
        if parts.trim == Trim::Acknowledged
            && trimmed_at.elapsed() >= TRIM_EVERY
            && trimmed != marked
        {
            trimmed_at = Instant::now();
            match parts.stream.trim(marked, parts.generation).await {
                Ok(_) => {
                    trimming.well();
                    trimmed = marked;
                }
                Err(error) => {
                    trimming.trouble("failed", &error);
                }
            }
        }
    }
}
