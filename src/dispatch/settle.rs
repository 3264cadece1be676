//! The settler: removes delivered entries from their queues, many at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::handle::LaneHandle;
use crate::logging::StateLog;
use crate::membership::Era;
use crate::store::Store;
use crate::store::queue::Removal;

/// Most removals of one pipeline.
const BATCH: usize = 1_000;
/// How long removals gather. A delivered entry that stays a moment longer costs nothing but a repeat after a crash.
const GATHER: Duration = Duration::from_millis(1);
/// The pause before a failed removal is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// A removal, and the lane that must not sleep before it is done.
pub(super) struct Settled {
    pub removal: Removal,
    pub lane: Arc<LaneHandle>,
}

/// Removes what arrives until the sender is gone or the era over. What is left then is delivered again.
pub(super) async fn settle(
    store: Store,
    era: Arc<Era>,
    mut arriving: mpsc::UnboundedReceiver<Settled>,
) {
    let state = StateLog::new("removing of settled deliveries");
    let mut batch = Vec::new();
    while arriving.recv_many(&mut batch, BATCH).await > 0 {
        if batch.len() < BATCH {
            tokio::time::sleep(GATHER).await;
            while batch.len() < BATCH {
                match arriving.try_recv() {
                    Ok(settled) => batch.push(settled),
                    Err(_) => break,
                }
            }
        }
        let removals: Vec<Removal> = batch
            .iter()
            .map(|settled| settled.removal.clone())
            .collect();
        loop {
            match store.remove(&removals, era.generation).await {
                Ok(()) => {
                    state.well();
                    break;
                }
                // Removing one exact id after its success is right even from a deposed daemon; on a replaced server
                // the id may mean something else.
                Err(crate::store::StoreError::Replaced) => {
                    era.ends_with(&crate::store::StoreError::Replaced);
                    return;
                }
                Err(error) => {
                    state.trouble("failed", &error);
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        _ = era.ended() => return,
                    }
                }
            }
        }
        for settled in batch.drain(..) {
            settled.lane.removal_done(settled.removal.id);
        }
    }
}
