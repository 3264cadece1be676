//! Jobs that retry many deliveries: their progress, kept for a while, and that a webhook has one at a time.

use std::time::Duration;

use redis::Value;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::value::corrupt;
use super::{Store, scripts, value};

/// How long a job is kept after its last word.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// After so long without a word a job is taken for dead.
pub const SILENCE: Duration = Duration::from_secs(30);

/// How it is with a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// It works.
    Running,
    /// It came to its end.
    Finished,
    /// It had to give up.
    Failed,
    /// Its daemon stopped, or is gone.
    Interrupted,
}

/// A job as it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredJob {
    /// The version of this form.
    pub v: u8,
    /// Its id.
    pub id: String,
    /// The webhook whose deliveries it retries.
    pub webhook_id: String,
    /// The webhook's incarnation.
    pub uid: String,
    /// How it is with it.
    pub status: JobStatus,
    /// Deliveries that it is about, as far as they were counted.
    pub matched: u64,
    /// Of these, retried.
    pub retried: u64,
    /// Of these, no longer in the state in which they were to be retried.
    pub skipped: u64,
    /// Of these, those that could not be retried.
    pub failed: u64,
    /// When it began (Unix ms).
    pub started_ms: u64,
    /// When it ended (Unix ms).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// Its last word (Unix ms).
    pub beat_ms: u64,
    /// Why it gave up, in plain words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl StoredJob {
    /// How it is with it at `now_ms`: one that says nothing is interrupted.
    pub fn status_at(&self, now_ms: u64) -> JobStatus {
        let silent_ms = u128::from(now_ms.saturating_sub(self.beat_ms));
        match self.status {
            JobStatus::Running if silent_ms > SILENCE.as_millis() => JobStatus::Interrupted,
            status => status,
        }
    }
}

impl Store {
    /// JOB: notes the state of a job; while it runs it holds its webhook's one place. `Some` is the id of another job that
    /// holds it, and nothing is noted.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn note_job(&self, job: &StoredJob) -> Result<Option<String>, StoreError> {
        let holds_ms = match job.status {
            JobStatus::Running => u64::try_from(SILENCE.as_millis()).unwrap_or(u64::MAX),
            _ => 0,
        };
        // Text and numbers always serialise.
        let body = serde_json::to_string(job).unwrap_or_default();
        let reply = scripts::JOB
            .call()
            .key(self.keys().job(&job.id))
            .key(self.keys().running_job(&job.webhook_id))
            .arg(&job.id)
            .arg(body)
            .number(KEPT.as_secs())
            .number(holds_ms)
            .run(&mut self.link().connection()?)
            .await?;
        Ok(match reply {
            Value::Int(_) => None,
            holder => value::text(holder),
        })
    }

    /// A job by its id.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering; what is stored cannot be read.
    pub async fn job(&self, id: &str) -> Result<Option<StoredJob>, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("HGET").arg(self.keys().job(id)).arg("body");
        let reply = self.link().slowly("read a job", &commands).await?.pop();
        let Some(body) = reply.and_then(value::bytes) else {
            return Ok(None);
        };
        let job = serde_json::from_slice(&body)
            .map_err(|error| corrupt(format!("job {id}"), error.to_string()))?;
        Ok(Some(job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_without_a_word_is_interrupted() {
        let mut job = StoredJob {
            v: 1,
            id: "job_1".into(),
            webhook_id: "w".into(),
            uid: "u".into(),
            status: JobStatus::Running,
            matched: 1,
            retried: 0,
            skipped: 0,
            failed: 0,
            started_ms: 1_000,
            finished_ms: None,
            beat_ms: 1_000,
            error: None,
        };
        assert_eq!(job.status_at(31_000), JobStatus::Running);
        assert_eq!(job.status_at(31_001), JobStatus::Interrupted);
        job.status = JobStatus::Finished;
        assert_eq!(job.status_at(99_000), JobStatus::Finished);
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"id":"job_1","webhook_id":"w","uid":"u","status":"finished","matched":1,"retried":0,"skipped":0,"failed":0,"started_ms":1000,"beat_ms":1000}"#
        );
        assert_eq!(serde_json::from_str::<StoredJob>(&text).unwrap(), job);
    }
}
