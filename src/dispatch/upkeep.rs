//! What wakes lanes and what is left behind: the alarm, the sweep, and the queues of deleted webhooks.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Dispatch;
use crate::registry::Replaced;
use crate::store::StoreError;

/// How often one owned shard is asked for work that no wake-up told of.
const SWEEP_EVERY: Duration = Duration::from_secs(3);

/// Work of an unknown webhook is looked at again after this.
const UNKNOWN_AGAIN_MS: u64 = 60_000;
/// A deletion is remembered for this long after its queue was removed; any fan-out has seen it by then.
const FORGET_AFTER: Duration = Duration::from_secs(60);

impl Dispatch {
    /// Makes lanes when their time comes, until the era is over.
    pub async fn alarm(self: Arc<Dispatch>) {
        loop {
            let now_ms = self.clock.unix_ms();
            for (shard, uid) in self.agenda.take_due(now_ms) {
                if self.registry.by_uid(&uid).is_some() {
                    self.wake(shard, &uid);
                } else {
                    let dispatch = self.clone();
                    self.tasks
                        .spawn(async move { dispatch.resolve_unknown(shard, uid).await });
                }
            }
            let next = self.agenda.next();
            let wait = next.map_or(Duration::from_secs(60), |due| {
                Duration::from_millis(due.saturating_sub(self.clock.unix_ms()).clamp(1, 60_000))
            });
            tokio::select! {
                _ = self.era.ended() => return,
                () = self.agenda.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Work of a webhook that the registry does not know: deleted (its keys go), newer than the registry, or one that
    /// this daemon cannot read, whose queue waits for a daemon that can.
    async fn resolve_unknown(self: &Arc<Self>, shard: u16, uid: Arc<str>) {
        let cleared = match self.store.is_gone(&uid).await {
            Ok(true) => self.clear(shard, &uid).await.is_ok(),
            Ok(false) | Err(_) => false,
        };
        if !cleared {
            self.agenda.put(shard, uid, self.soon() + UNKNOWN_AGAIN_MS);
        }
    }

    /// Looks for work that no wake-up told of, one owned shard after the other, until the era is over.
    pub async fn sweep(self: Arc<Dispatch>) {
        loop {
            for shard in self.era.owned_shards() {
                tokio::select! {
                    _ = self.era.ended() => return,
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                }
                match self.store.due_by(shard, self.clock.unix_ms()).await {
                    Ok(due) => {
                        for (uid, _) in due {
                            let uid: Arc<str> = Arc::from(uid);
                            match self.lanes(shard).get(&uid) {
                                Some(lane) => lane.wake(),
                                None => self.agenda.put(shard, uid, 0),
                            }
                        }
                    }
                    Err(error) => tracing::debug!(%error, "sweeping a shard is tried again"),
                }
            }
            if self.era.owned_shards().is_empty() {
                tokio::select! {
                    _ = self.era.ended() => return,
                    () = tokio::time::sleep(SWEEP_EVERY) => {}
                }
            }
        }
    }

    /// A webhook changed: its lane is told, its queue looked at or cleared.
    pub fn webhook_replaced(self: &Arc<Dispatch>, change: &Replaced) {
        let (before, after) = (&change.before, &change.after);
        if let Some(before) = before {
            let same = after.as_ref().is_some_and(|after| after.uid == before.uid);
            let handle = self.lanes(before.shard).get(&before.uid).cloned();
            if let Some(handle) = handle {
                handle.change();
            }
            if !same && self.era.owned(before.shard).is_some() {
                let (dispatch, shard, uid) = (self.clone(), before.shard, before.uid.clone());
                self.tasks
                    .spawn(async move { dispatch.clear_when_idle(shard, uid).await });
            }
        }
        if let Some(after) = after {
            let resumed =
                after.delivers() && before.as_ref().is_none_or(|before| !before.delivers());
            if resumed {
                self.wake(after.shard, &after.uid);
            }
        }
    }

    /// Clears the queue of a deleted webhook once its lane is gone.
    async fn clear_when_idle(self: &Arc<Self>, shard: u16, uid: Arc<str>) {
        loop {
            if self.era.token().is_cancelled() {
                return;
            }
            let busy = self.lanes(shard).contains_key(&uid);
            if !busy {
                match self.store.is_gone(&uid).await {
                    // Not deleted but unreadable, or cleared already.
                    Ok(false) => return,
                    Ok(true) => match self.clear(shard, &uid).await {
                        Ok(()) => return,
                        Err(error) if self.era.ends_with(&error) => return,
                        Err(error) => {
                            tracing::debug!(%error, "clearing a deleted webhook's queue is tried again")
                        }
                    },
                    Err(error) => {
                        tracing::debug!(%error, "clearing a deleted webhook's queue is tried again")
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Removes what a deleted webhook left, and once more when no fan-out can still know it: what was queued for it in
    /// between would otherwise stay for ever. Only then is the deletion forgotten.
    pub(super) async fn clear(self: &Arc<Self>, shard: u16, uid: &str) -> Result<(), StoreError> {
        self.agenda.remove(uid);
        self.limiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
        self.buried().retain(|(_, buried)| **buried != *uid);
        self.stats.forget(uid);
        self.store.remove_lane(shard, uid).await?;
        let (dispatch, uid) = (self.clone(), uid.to_owned());
        self.tasks.spawn(async move {
            tokio::select! {
                _ = dispatch.era.ended() => return,
                () = tokio::time::sleep(FORGET_AFTER) => {}
            }
            let removed = dispatch.store.remove_lane(shard, &uid).await;
            if removed.is_ok() && dispatch.store.forget_gone(&uid).await.is_ok() {
                dispatch.agenda.remove(&uid);
            }
        });
        Ok(())
    }
}
