//! Jobs that retry many deliveries: one task each, paced, with progress that any daemon can tell.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::caller::Caller;
use super::deliveries::{Status, expired_before, in_path, webhook_of};
use super::fields::Query;
use super::problem::{PROBLEM_JSON, Problem};
use super::responses::Guarded;
use crate::clock::rfc3339_ms;
use crate::delivery::is_id_byte;
use crate::event::EntryId;
use crate::store::StoreError;
use crate::store::deliveries::{From, Look, MOST_LOOKED_AT, Row, RowFilter, Shelf};
use crate::store::jobs::{JobStatus as StoredStatus, StoredJob};
use crate::store::retry::Hastened;
use crate::webhook::Webhook;

/// Jobs of one daemon at a time.
const MOST_JOBS: usize = 4;
/// So many deliveries at a turn, and a turn so often: 200 a second. By turns, because a timer is no finer than a
/// millisecond, and on a busy machine much coarser.
const TURN: u32 = 10;
const TURN_EVERY: Duration = Duration::from_millis(50);
/// How often the owner is woken, the room in the queue is measured and progress is noted.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How long a job waits for a Redis that does not answer before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a stop waits for the jobs' last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The jobs of this daemon.
pub struct Jobs {
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs {
            slots: Arc::new(Semaphore::new(MOST_JOBS)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }
}

impl Jobs {
    /// Interrupts all jobs, and waits a moment for them to say so. No other begins.
    pub async fn stop(&self) {
        self.slots.close();
        self.stop.cancel();
        self.tasks.close();
        // Without a Redis to say it to, silence says the same after a while.
        let _ = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
    }
}

/// All routes of jobs.
pub fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(show))
}

/// How it is with a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// It works.
    Running,
    /// It came to its end.
    Finished,
    /// It had to give up; `error` says why.
    Failed,
    /// Its daemon stopped, or says nothing any more. The same retry can simply be asked for again.
    Interrupted,
}

/// A job that retries many deliveries. It is kept for 7 days.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its id.
    #[schema(example = "job_8Zr1l4oVtq2YwYc7nGm5xQ")]
    pub id: String,
    /// The webhook whose deliveries it retries.
    #[schema(example = "wh_2ZvQ8r3fXk0aJ5sLw9tBnA")]
    pub webhook_id: String,
    /// How it is with it.
    pub status: JobStatus,
    /// Deliveries that it is about; where there are very many, more may be found while it runs.
    #[schema(example = 5000, minimum = 0)]
    pub matched: u64,
    /// Deliveries that it has retried so far.
    #[schema(example = 1200, minimum = 0)]
    pub retried: u64,
    /// Deliveries that somebody else was faster with.
    #[schema(example = 0, minimum = 0)]
    pub skipped: u64,
    /// Deliveries that could not be retried; the reason is in Pombo's log.
    #[schema(example = 0, minimum = 0)]
    pub failed: u64,
    /// When it began.
    #[schema(format = DateTime, example = "2026-03-13T12:00:00.000Z")]
    pub started_at: String,
    /// When it ended; null while it runs, and when its daemon is gone.
    #[schema(format = DateTime, example = "2026-03-13T12:00:25.000Z")]
    pub finished_at: Option<String>,
    /// Why it gave up; null if it did not.
    #[schema(example = "the webhook's queue is full")]
    pub error: Option<String>,
}

impl Job {
    fn of(stored: &StoredJob, now_ms: u64) -> Job {
        Job {
            id: stored.id.clone(),
            webhook_id: stored.webhook_id.clone(),
            status: match stored.status_at(now_ms) {
                StoredStatus::Running => JobStatus::Running,
                StoredStatus::Finished => JobStatus::Finished,
                StoredStatus::Failed => JobStatus::Failed,
                StoredStatus::Interrupted => JobStatus::Interrupted,
            },
            matched: stored.matched,
            retried: stored.retried,
            skipped: stored.skipped,
            failed: stored.failed,
            started_at: rfc3339_ms(stored.started_ms),
            finished_at: stored.finished_ms.map(rfc3339_ms),
            error: stored.error.clone(),
        }
    }
}

/// Show a job's progress
///
/// A job that said nothing for 30 seconds is `interrupted`: its daemon is gone.
#[utoipa::path(
    get,
    path = "/webhooks/{webhookId}/jobs/{jobId}",
    tag = "deliveries",
    operation_id = "getJob",
    params(
        ("webhookId" = String, Path, description = "The webhook's id.", example = "wh_2ZvQ8r3fXk0aJ5sLw9tBnA"),
        ("jobId" = String, Path, description = "The job's id.", example = "job_8Zr1l4oVtq2YwYc7nGm5xQ"),
    ),
    responses(
        (status = 200, description = "The job.", body = Job),
        Guarded,
        (status = 404, description = "There is no such job.", body = Problem, content_type = PROBLEM_JSON),
        (status = 422, description = "There are no such parameters.", body = Problem, content_type = PROBLEM_JSON),
    ),
)]
async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    const WHAT: &str = "job";
    Query::of(&uri).finish()?;
    let (webhook_id, job_id) = in_path(path, WHAT)?;
    let webhook = webhook_of(&api, &caller, &webhook_id, WHAT).await?;
    if job_id.len() > 64 || !job_id.bytes().all(is_id_byte) {
        return Err(Problem::not_found(WHAT));
    }
    let job = api.store.job(&job_id).await?;
    let job = job.filter(|job| job.webhook_id == webhook.spec.id && job.uid == webhook.uid);
    let job = job.ok_or_else(|| Problem::not_found(WHAT))?;
    api.answer(StatusCode::OK, &Job::of(&job, api.clock.unix_ms()))
}

/// Begins a job that retries what matches now.
///
/// # Errors
///
/// 409 while another one of the webhook runs, 429 while there are too many; whatever keeps Redis from answering.
pub(super) async fn begin(
    api: &Arc<Api>,
    webhook: Webhook,
    status: Status,
    filter: RowFilter,
    matched: u64,
) -> Result<Job, Problem> {
    let slot = api.jobs.slots.clone().try_acquire_owned().map_err(|_| {
        Problem::too_many(
            "This daemon works on as many jobs as it can. Try again when one of them has ended.",
            5,
        )
    })?;
    let shard = api.store.shard_of(&webhook.spec.id);
    let shelf = match status {
        Status::Failed => Shelf::Dead,
        _ => Shelf::Queue,
    };
    let until = api.store.newest_on(shard, &webhook.uid, shelf).await?;
    let now_ms = api.clock.unix_ms();
    let id = URL_SAFE_NO_PAD.encode(api.clock.random_bytes::<16>());
    let stored = StoredJob {
        v: 1,
        id: format!("job_{id}"),
        webhook_id: webhook.spec.id.clone(),
        uid: webhook.uid.clone(),
        status: StoredStatus::Running,
        matched,
        retried: 0,
        skipped: 0,
        failed: 0,
        started_ms: now_ms,
        finished_ms: None,
        beat_ms: now_ms,
        error: None,
    };
    if let Some(other) = api.store.note_job(&stored).await? {
        return Err(Problem::conflict(format!(
            "The job {other} retries deliveries of this webhook already."
        )));
    }
    let shown = Job::of(&stored, now_ms);
    let work = Work {
        api: api.clone(),
        shard,
        webhook,
        shelf,
        filter,
        until: until.unwrap_or(EntryId::MIN),
        job: stored,
        room: 0,
        turn: 0,
        untold: false,
        checked: None,
        _slot: slot,
    };
    api.jobs.tasks.spawn(work.run());
    Ok(shown)
}

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
struct Work {
    api: Arc<Api>,
    shard: u16,
    webhook: Webhook,
    shelf: Shelf,
    filter: RowFilter,
    /// The newest entry when the job began: it does not follow what comes while it runs.
    until: EntryId,
    job: StoredJob,
    /// How many more deliveries the queue can take, as it was last measured.
    room: u64,
    /// How many more deliveries belong to this turn.
    turn: u32,
    /// Whether the owner is to be woken.
    untold: bool,
    checked: Option<Instant>,
    _slot: OwnedSemaphorePermit,
}

impl Work {
    async fn run(mut self) {
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
            Ok(()) => (StoredStatus::Finished, None),
            Err(Stopped::Interrupted) => (StoredStatus::Interrupted, None),
            Err(Stopped::Failed(error)) => (StoredStatus::Failed, Some(error)),
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
