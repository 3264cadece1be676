//! What an attempt came to, and what that means for its delivery.

use std::time::UNIX_EPOCH;

use http::StatusCode;

use crate::delivery::{LONGEST_ERROR, cut};

#[cfg(test)]
mod tests;

/// How much of an answer's body is kept to be shown, in bytes.
pub const LONGEST_BODY_START: usize = 1024;

/// The longest wait that a receiver may ask for, in milliseconds: an hour.
const LONGEST_HINT_MS: u64 = 60 * 60 * 1_000;

/// Why an attempt got no answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FailureKind {
    /// The deadline passed first.
    Timeout,
    /// No connection came about, or it broke before an answer.
    Connect,
    /// The connection could not be secured.
    Tls,
    /// The host's name could not be resolved.
    Dns,
    /// The host's address may not be called.
    Forbidden,
    /// Anything else, such as what came back not being HTTP.
    Other,
}

impl FailureKind {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Timeout => "timeout",
            FailureKind::Connect => "connect",
            FailureKind::Tls => "tls",
            FailureKind::Dns => "dns",
            FailureKind::Forbidden => "forbidden",
            FailureKind::Other => "other",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            FailureKind::Timeout => "no answer within the deadline",
            FailureKind::Connect => "the connection failed",
            FailureKind::Tls => "could not secure the connection",
            FailureKind::Dns => "could not resolve the host's name",
            FailureKind::Forbidden => "the address may not be called",
            FailureKind::Other => "no proper answer",
        }
    }
}

/// What one POST came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AttemptResult {
    /// There was an answer; its status line and headers decide.
    Answer {
        /// The status code.
        status: u16,
        /// The `retry-after` header, as it came.
        retry_after: Option<String>,
        /// The beginning of the body, at most [`LONGEST_BODY_START`] bytes.
        body_start: Vec<u8>,
    },
    /// There was none.
    Failure {
        /// Why.
        kind: FailureKind,
        /// More about it, in plain words, without what [`AttemptResult::describe`] says anyway; may be
        /// empty.
        detail: String,
    },
}

/// What an attempt means for its delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// The receiver wants nothing more: the delivery is dead and its webhook to be disabled.
    Gone,
    /// It has to be tried again, or given up.
    Failed {
        /// Why, in plain words, on one line.
        reason: String,
        /// The receiver asked for nothing before this moment, in Unix milliseconds; the whole lane
        /// waits. At most an hour from now.
        not_before_ms: Option<u64>,
    },
}

impl AttemptResult {
    /// Judges the attempt: any 2xx is a delivery, 410 the end of the webhook, all else a failure. A wait
    /// that a 429 or 503 asks for counts from `now_ms`.
    pub fn outcome(&self, now_ms: u64) -> Outcome {
        match self {
            AttemptResult::Answer {
                status: 200..=299, ..
            } => Outcome::Delivered,
            AttemptResult::Answer { status: 410, .. } => Outcome::Gone,
            AttemptResult::Answer {
                status: 429 | 503,
                retry_after: Some(retry_after),
                ..
            } => Outcome::Failed {
                reason: self.describe(),
                not_before_ms: not_before(retry_after, now_ms),
            },
            _ => Outcome::Failed {
                reason: self.describe(),
                not_before_ms: None,
            },
        }
    }

    /// The label in metrics: `2xx`, `3xx`, `4xx`, `5xx`, `timeout`, `connect`, `tls`, `dns`, `forbidden`
    /// or `other`.
    pub fn class(&self) -> &'static str {
        match self {
            AttemptResult::Answer { status, .. } => match status {
                200..=299 => "2xx",
                300..=399 => "3xx",
                400..=499 => "4xx",
                500..=599 => "5xx",
                _ => "other",
            },
            AttemptResult::Failure { kind, .. } => kind.as_str(),
        }
    }

    /// The status of the answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            AttemptResult::Answer { status, .. } => Some(*status),
            AttemptResult::Failure { .. } => None,
        }
    }

    /// What happened in plain words, such as `answered 500 Internal Server Error`, on one line of at
    /// most 300 bytes.
    pub fn describe(&self) -> String {
        match self {
            AttemptResult::Answer { status, .. } => {
                let phrase = StatusCode::from_u16(*status)
                    .ok()
                    .and_then(|status| status.canonical_reason());
                match phrase {
                    Some(phrase) => format!("answered {status} {phrase}"),
                    None => format!("answered {status}"),
                }
            }
            AttemptResult::Failure { kind, detail } if detail.is_empty() => {
                kind.describe().to_owned()
            }
            AttemptResult::Failure { kind, detail } => {
                let text = format!("{}: {detail}", kind.describe());
                let line: String = text
                    .chars()
                    .map(|c| if c.is_control() { ' ' } else { c })
                    .collect();
                cut(&line, LONGEST_ERROR).to_owned()
            }
        }
    }
}

/// The moment that a `retry-after` header names, cut to an hour from now; `None` where it names none, or
/// one that has passed.
fn not_before(retry_after: &str, now_ms: u64) -> Option<u64> {
    let text = retry_after.trim();
    let wait_ms = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too large to be read is a long wait all the same.
        let seconds: u64 = text.parse().unwrap_or(u64::MAX);
        seconds.saturating_mul(1_000)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        let since_epoch = date.duration_since(UNIX_EPOCH).ok()?;
        let date_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        date_ms.saturating_sub(now_ms)
    };
    (wait_ms > 0).then(|| now_ms.saturating_add(wait_ms.min(LONGEST_HINT_MS)))
}
