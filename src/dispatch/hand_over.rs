//! Ending what goes on in a shard that another daemon is to have.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Dispatch;
use super::handle::LaneHandle;
use crate::membership::Owned;

/// How often it is looked whether the lanes of a shard that moves have ended.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// How long the removals of what was delivered in a lane that was cut off are waited for.
const SETTLE_WITHIN: Duration = Duration::from_millis(500);

impl Dispatch {
    pub(super) fn is_draining(&self, shard: u16) -> bool {
        let draining = self.draining.get(usize::from(shard));
        draining.is_some_and(|draining| draining.load(Ordering::Acquire))
    }

    fn set_draining(&self, shard: u16, draining: bool) {
        if let Some(shard) = self.draining.get(usize::from(shard)) {
            shard.store(draining, Ordering::Release);
        }
    }

    /// Ends everything that goes on in a shard that another daemon is to have: nothing more is started, what waits is
    /// stored, what flies may land until `deadline` and is cut off then. Returns what the shard was owned under, to be
    /// released; nothing of it is in memory any more.
    pub async fn hand_over(&self, shard: u16, deadline: Instant) -> Option<Arc<Owned>> {
        let owned = self.era.owned(shard)?;
        self.set_draining(shard, true);
        // Once: a lane that is called again while it parks would begin anew. One that is made from now on knows by itself.
        self.lanes(shard)
            .values()
            .for_each(|handle| handle.change());
        let mut cut: Vec<Arc<LaneHandle>> = Vec::new();
        loop {
            {
                // Lanes are made under the same lock, and only in a shard that is owned.
                let lanes = self.lanes(shard);
                if lanes.is_empty() {
                    self.era.disown(shard);
                    break;
                }
            }
            if Instant::now() >= deadline && !owned.cut.is_cancelled() {
                tracing::warn!(
                    shard,
                    "what is still in flight in a shard that moves is cut off, and will be delivered again"
                );
                cut = self.lanes(shard).values().cloned().collect();
                owned.cut.cancel();
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        // What was delivered before the cut would be delivered again, if the next owner found it still there.
        let settled_by = Instant::now() + SETTLE_WITHIN;
        while cut.iter().any(|lane| lane.unsettled() > 0) && Instant::now() < settled_by {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        self.agenda.remove_shard(shard);
        self.buried().retain(|(buried, _)| *buried != shard);
        // Another owner spends from now on: should the shard come back, its limiters start dry.
        self.limiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, (of, _)| *of != shard);
        self.set_draining(shard, false);
        Some(owned)
    }
}
