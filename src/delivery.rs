//! A delivery: one event for one webhook. Its id, its tries, and why it may be given up.
//!
//! Its life as a table of states stands in [`life`].

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::event::EntryId;

mod attempt_log;
pub mod life;

pub use attempt_log::{AttemptLog, AttemptRecord, LONGEST_LOG, Phases, RequestShape, ShapeText};
pub use life::{Change, State, TRANSITIONS};

#[cfg(test)]
mod tests;

/// The longest error text that is kept with a delivery, in bytes.
pub const LONGEST_ERROR: usize = 300;

const DIGEST_BYTES: usize = 16;
/// 16 bytes in base64 without padding.
const DIGEST_CHARS: usize = 22;

/// The id of the delivery of one stream entry to one webhook:
/// `<webhook id>.<base64url of the first 16 bytes of sha256(webhook id NUL stream NUL entry id)>`.
///
/// It follows from what is delivered and to whom, so it survives a crash and is the same on every attempt.
pub fn delivery_id(webhook_id: &str, stream: &str, entry: EntryId) -> String {
    let mut id = String::with_capacity(webhook_id.len() + 1 + DIGEST_CHARS);
    id.push_str(webhook_id);
    id.push('.');
    push_digest(&mut id, &[webhook_id, stream, &entry.text()]);
    id
}

/// The webhook that a delivery id belongs to; `None` for what is no delivery id.
pub fn webhook_id_of(delivery_id: &str) -> Option<&str> {
    let (webhook_id, digest) = delivery_id.rsplit_once('.')?;
    let whole = digest.len() == DIGEST_CHARS
        && digest.bytes().all(is_id_byte)
        && !webhook_id.is_empty()
        && webhook_id.bytes().all(is_id_byte);
    whole.then_some(webhook_id)
}

/// Whether a byte may stand in a webhook's id; base64url uses the same alphabet.
pub(crate) fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Base64url of the first 16 bytes of the SHA-256 of the parts, joined by NUL bytes.
pub(crate) fn short_digest(parts: &[&str]) -> String {
    let mut text = String::with_capacity(DIGEST_CHARS);
    push_digest(&mut text, parts);
    text
}

fn push_digest(text: &mut String, parts: &[&str]) {
    let mut hasher = Sha256::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            hasher.update([0]);
        }
        hasher.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode_string(&hasher.finalize()[..DIGEST_BYTES], text);
}

/// What was tried so far for a delivery.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tries {
    /// Attempts ever made; the next one's number in the attempt header is one more.
    pub attempts: u32,
    /// Attempts since the start or the last replay; what the retry policy counts.
    pub since_replay: u32,
    /// When the first attempt since the start or the last replay began, in Unix milliseconds; 0 before it.
    pub first_attempt_ms: u64,
    /// The status of the last answer; `None` when the last attempt got none.
    pub last_status: Option<u16>,
    /// Why the last attempt failed, in plain words and at most [`LONGEST_ERROR`] bytes.
    pub last_error: String,
    /// When the last attempt began, in Unix milliseconds; 0 before the first.
    pub last_attempt_ms: u64,
    /// What happened in each attempt, as far as it is kept.
    pub log: AttemptLog,
}

impl Tries {
    /// These tries and one more that began at `began_ms` and failed for `error`, which is cut to
    /// [`LONGEST_ERROR`] bytes.
    pub fn failed(&self, began_ms: u64, status: Option<u16>, error: &str) -> Tries {
        let first = self.since_replay == 0;
        Tries {
            attempts: self.attempts.saturating_add(1),
            since_replay: self.since_replay.saturating_add(1),
            first_attempt_ms: if first {
                began_ms
            } else {
                self.first_attempt_ms
            },
            last_status: status,
            last_error: cut(error, LONGEST_ERROR).to_owned(),
            last_attempt_ms: began_ms,
            log: self.log.clone(),
        }
    }

    /// These tries after a replay: the retry policy counts anew, the attempt header goes on.
    pub fn replayed(&self) -> Tries {
        Tries {
            since_replay: 0,
            first_attempt_ms: 0,
            ..self.clone()
        }
    }
}

/// The beginning of a text, at most `bytes` long and never cut inside a character.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Why a delivery became a dead letter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// The last attempt that the retry policy allows has failed.
    Exhausted,
    /// The next attempt would come later than the retry policy allows.
    Expired,
    /// The receiver answered 410.
    Gone,
    /// The webhook's queue was at its bound.
    QueueFull,
    /// The body mode puts the payload into JSON, and the payload is none.
    NotJson,
}

impl DeadReason {
    /// Every reason, in the order of declaration: the labels that a metric can have.
    pub const ALL: [DeadReason; 5] = [
        DeadReason::Exhausted,
        DeadReason::Expired,
        DeadReason::Gone,
        DeadReason::QueueFull,
        DeadReason::NotJson,
    ];

    /// The name in Redis, in metrics and in the output of commands: snake_case.
    pub fn as_str(self) -> &'static str {
        match self {
            DeadReason::Exhausted => "exhausted",
            DeadReason::Expired => "expired",
            DeadReason::Gone => "gone",
            DeadReason::QueueFull => "queue_full",
            DeadReason::NotJson => "not_json",
        }
    }

    /// The reason in plain words.
    pub fn describe(self) -> &'static str {
        match self {
            DeadReason::Exhausted => "every attempt that the retry policy allows has failed",
            DeadReason::Expired => "the time that the retry policy allows has run out",
            DeadReason::Gone => "the receiver answered 410 Gone and wants nothing more",
            DeadReason::QueueFull => "the webhook's queue was full",
            DeadReason::NotJson => "the payload is not JSON and cannot be put into an envelope",
        }
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no [`DeadReason`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error(
    "no such reason of a dead letter (there are exhausted, expired, gone, queue_full and not_json)"
)]
pub struct UnknownReason;

impl FromStr for DeadReason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        DeadReason::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or(UnknownReason)
    }
}
