//! What became of events that were added under an idempotency key, for a day.

use std::time::Duration;

use redis::Value;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::value::corrupt;
use super::{Store, value};

/// How long an answer is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// What is kept under a key.
#[derive(Serialize, Deserialize)]
struct Record {
    v: u8,
    /// Digest of the request.
    request: String,
    /// The answer; none while the request is at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is this request's now.
    New,
    /// Another exchange with the same key is at work, or was cut off a moment ago.
    AtWork,
    /// It was used for another request.
    OtherRequest,
    /// It was used for the same request, and this was the answer.
    Answered(String),
}

impl Store {
    /// Takes the key of this digest for a request, unless it is taken. A request that is cut off holds it for `at_work`
    /// and no longer.
    ///
    /// # Errors
    ///
    /// A full Redis refuses; whatever keeps it from answering.
    pub async fn begin_idempotent(
        &self,
        digest: &str,
        request: &str,
        at_work: Duration,
    ) -> Result<Known, StoreError> {
        let key = self.keys().idempotency(digest);
        let mut commands = redis::pipe();
        commands
            .cmd("SET")
            .arg(&key)
            .arg(write(request, None))
            .arg("NX")
            .arg("PX")
            .arg(millis(at_work));
        commands.cmd("GET").arg(&key);
        let replies = self
            .link()
            .connection()?
            .all("take an idempotency key", &commands)
            .await?;
        let mut replies = replies.into_iter();
        if !matches!(replies.next(), None | Some(Value::Nil)) {
            return Ok(Known::New);
        }
        let Some(kept) = replies.next().and_then(value::bytes) else {
            // It ran out between the two commands.
            return Ok(Known::AtWork);
        };
        let record: Record = serde_json::from_slice(&kept).map_err(|error| {
            let at = format!(
                "not in the form of this version (column {})",
                error.column()
            );
            corrupt("an idempotency key", at)
        })?;
        Ok(match record {
            record if record.request != request => Known::OtherRequest,
            Record {
                answer: Some(answer),
                ..
            } => Known::Answered(answer),
            _ => Known::AtWork,
        })
    }

    /// Notes the answer. Right even from a request that lost the key for taking too long: the event was added.
    ///
    /// # Errors
    ///
    /// A full Redis refuses; whatever keeps it from answering.
    pub async fn end_idempotent(
        &self,
        digest: &str,
        request: &str,
        answer: &str,
    ) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command
            .arg(self.keys().idempotency(digest))
            .arg(write(request, Some(answer)))
            .arg("PX")
            .arg(millis(REMEMBERED));
        self.link()
            .connection()?
            .command("keep an answer", command)
            .await
            .map(drop)
    }

    /// Gives a key back whose request was not carried out.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn forget_idempotent(&self, digest: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("UNLINK");
        command.arg(self.keys().idempotency(digest));
        self.link()
            .connection()?
            .command("give an idempotency key back", command)
            .await
            .map(drop)
    }
}

fn write(request: &str, answer: Option<&str>) -> String {
    let record = Record {
        v: 1,
        request: request.to_owned(),
        answer: answer.map(str::to_owned),
    };
    // Text always serialises.
    serde_json::to_string(&record).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
