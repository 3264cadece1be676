//! Jobs that retry many deliveries: one task each, paced, with progress that any daemon can tell.

mod work;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::work::Work;
use super::caller::Caller;
use super::deliveries::Status;
use super::fields::Query;
use super::path::in_path;
use super::problem::{PROBLEM_JSON, Problem};
use super::responses::Guarded;
use super::{Api, webhooks};
use crate::clock::rfc3339_ms;
use crate::delivery::is_id_byte;
use crate::event::EntryId;
use crate::store::deliveries::{RowFilter, Shelf};
use crate::store::jobs::{JobStatus as StoredStatus, StoredJob};
use crate::webhook::Webhook;

/// Jobs of one daemon at a time.
const MOST_JOBS: usize = 4;
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
    tag = "Deliveries",
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
    let webhook = webhooks::find(&api, &caller, &webhook_id, WHAT).await?;
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
