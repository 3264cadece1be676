//! A job at work: one task that retries deliveries one after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::api::Api;
use crate::api::deliveries::expired_before;
use crate::event::EntryId;
use crate::store::StoreError;
use crate::store::deliveries::{From, Look, MOST_LOOKED_AT, Row, RowFilter, Shelf};
use crate::store::jobs::{JobStatus, StoredJob};
use crate::store::retry::Hastened;
use crate::webhook::Webhook;

/// So many deliveries at a turn, and a turn so often: 200 a second. By turns, because a timer is no finer than a
/// millisecond, and on a busy machine much coarser.
const TURN: u32 = 10;
const TURN_EVERY: Duration = Duration::from_millis(50);
/// How often the owner is woken, the room in the queue is measured and progress is noted.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How long a job waits for a Redis that does not answer before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a job ends before its time.
enum Stopped {
    /// The daemon stops.
    Interrupted,
    /// It cannot go on.
    Failed(String),
    /// Another job has its place: it was silent for too long. Nothing may be noted any more.
    Replaced,
}

/// A job at work.
pub(super) struct Work {
    pub(super) api: Arc<Api>,
    pub(super) shard: u16,
    pub(super) webhook: Webhook,
    pub(super) shelf: Shelf,
    pub(super) filter: RowFilter,
    /// The newest entry when the job began: it does not follow what comes while it runs.
    pub(super) until: EntryId,
    pub(super) job: StoredJob,
    /// How many more deliveries the queue can take, as it was last measured.
    pub(super) room: u64,
    /// How many more deliveries belong to this turn.
    pub(super) turn: u32,
    /// Whether the owner is to be woken.
    pub(super) untold: bool,
    pub(super) checked: Option<Instant>,
    pub(super) _slot: OwnedSemaphorePermit,
}

impl Work {
    /// Works to the end, and notes what it came to.
    pub(super) async fn run(mut self) {
        let stop = self.api.jobs.stop.clone();
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Err(Stopped::Interrupted),
            ended = self.all() => ended,
        };
        if self.untold {
            let uids = [self.webhook.uid.clone()];
            let woken = self.api.store.wake_owner(self.shard, &uids).await;
            if let Err(error) = woken {
                // It looks by itself after some seconds.
                tracing::debug!(%error, "the owner of retried deliveries was not woken");
            }
        }
        let (status, error) = match ended {
            Ok(()) => (JobStatus::Finished, None),
            Err(Stopped::Interrupted) => (JobStatus::Interrupted, None),
            Err(Stopped::Failed(error)) => (JobStatus::Failed, Some(error)),
            Err(Stopped::Replaced) => return,
        };
        let now_ms = self.api.clock.unix_ms();
        self.job.status = status;
        self.job.error = error;
        self.job.finished_ms = Some(now_ms);
        self.job.beat_ms = now_ms;
        if let Err(error) = self.api.store.note_job(&self.job).await {
            tracing::warn!(job_id = %self.job.id, %error, "the end of a job could not be noted");
        }
    }

    async fn all(&mut self) -> Result<(), Stopped> {
        let mut pace = tokio::time::interval(TURN_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut after = EntryId::MIN;
        while after < self.until {
            let seen = loop {
                let look = Look {
                    from: From::After {
                        after,
                        until: self.until,
                    },
                    floor_ms: expired_before(
                        &self.api.settings,
                        self.shelf,
                        self.api.clock.unix_ms(),
                    ),
                    now_ms: self.api.clock.unix_ms(),
                    most_entries: MOST_LOOKED_AT,
                    most_rows: MOST_LOOKED_AT,
                };
                let uid = &self.webhook.uid;
                let seen = self
                    .api
                    .store
                    .rows(self.shard, uid, self.shelf, &self.filter, &look);
                match seen.await {
                    Ok(seen) => break seen,
                    Err(error) => self.wait_out(error).await?,
                }
            };
            for row in &seen.rows {
                self.one(row, &mut pace).await?;
            }
            self.check().await?;
            match seen.last {
                Some(last) if !seen.ended => after = last,
                _ => break,
            }
        }
        Ok(())
    }

    async fn one(&mut self, row: &Row, pace: &mut Interval) -> Result<(), Stopped> {
        if self.turn == 0 {
            pace.tick().await;
            self.turn = TURN;
        }
        self.turn -= 1;
        loop {
            let due = self.checked.is_none_or(|at| at.elapsed() >= CHECK_EVERY);
            if due || (self.shelf == Shelf::Dead && self.room == 0) {
                self.check().await?;
            }
            if self.shelf == Shelf::Dead && self.room == 0 {
                return Err(Stopped::Failed(
                    "the webhook's queue is full (queue.max_deliveries); retry the rest when it has drained"
                        .to_owned(),
                ));
            }
            let (uid, id) = (&self.webhook.uid, row.place.id);
            let now_ms = self.api.clock.unix_ms();
            let retried = match self.shelf {
                Shelf::Dead => self.api.store.replay(self.shard, uid, id, now_ms).await,
                _ => {
                    let hastened = self.api.store.hasten(self.shard, uid, id, now_ms).await;
                    hastened.map(|hastened| hastened == Hastened::Done)
                }
            };
            match retried {
                Ok(true) => {
                    self.job.retried += 1;
                    self.room = self.room.saturating_sub(1);
                    self.untold = true;
                }
                Ok(false) => self.job.skipped += 1,
                Err(error) if error.is_passing() => {
                    self.wait_out(error).await?;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(job_id = %self.job.id, webhook_id = %self.webhook.spec.id, %error, "a delivery could not be retried");
                    self.job.failed += 1;
                }
            }
            return Ok(());
        }
    }

    /// Wakes the owner, measures the room in the queue, sees whether the webhook is still there, and notes the progress.
    async fn check(&mut self) -> Result<(), Stopped> {
        loop {
            match self.try_check().await {
                Ok(ended) => return ended,
                Err(error) => self.wait_out(error).await?,
            }
        }
    }

    async fn try_check(&mut self) -> Result<Result<(), Stopped>, StoreError> {
        let store = &self.api.store;
        let uids = [self.webhook.uid.clone()];
        if self.untold {
            store.wake_owner(self.shard, &uids).await?;
            self.untold = false;
        }
        let found = store.webhook(&self.webhook.spec.id).await?;
        if found.is_none_or(|found| found.uid != self.webhook.uid) {
            let deleted = "the webhook was deleted".to_owned();
            return Ok(Err(Stopped::Failed(deleted)));
        }
        if self.shelf == Shelf::Dead {
            let [uid] = uids.map(Arc::from);
            let lengths = store.queue_lengths(self.shard, &[uid]).await?;
            let queued = lengths.first().copied().unwrap_or(0);
            let most = self.api.settings.queue.max_deliveries;
            self.room = most.saturating_sub(queued);
        }
        let seen = self.job.retried + self.job.skipped + self.job.failed;
        self.job.matched = self.job.matched.max(seen);
        self.job.beat_ms = self.api.clock.unix_ms();
        if store.note_job(&self.job).await?.is_some() {
            return Ok(Err(Stopped::Replaced));
        }
        self.checked = Some(Instant::now());
        Ok(Ok(()))
    }

    /// Waits a moment after an error that may pass.
    async fn wait_out(&mut self, error: StoreError) -> Result<(), Stopped> {
        let since = self.checked.map_or(Duration::ZERO, |at| at.elapsed());
        if !error.is_passing() || since > PATIENCE {
            tracing::warn!(job_id = %self.job.id, %error, "a job gives up");
            return Err(Stopped::Failed(
                "Redis could not do it; the cause is in Pombo's log".to_owned(),
            ));
        }
        if self.checked.is_none() {
            self.checked = Some(Instant::now());
        }
        tokio::time::sleep(CHECK_EVERY).await;
        Ok(())
    }
}
