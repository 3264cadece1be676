//! Why an entry is no event.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::delivery::cut;

const LONGEST_EXCERPT: usize = 40;

/// That an entry cannot be read as an event, and why.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{detail} ({reason})")]
pub struct Rejection {
    /// The kind of trouble.
    pub reason: RejectReason,
    /// What is wrong, in plain words and on one line. Of the entry's bytes it holds a short excerpt of a
    /// wrong type, tenant, id, time or content type at most, and nothing of the payload.
    pub detail: String,
}

impl Rejection {
    pub(super) fn new(reason: RejectReason, detail: impl Into<String>) -> Self {
        Rejection {
            reason,
            detail: detail.into(),
        }
    }
}

/// The beginning of a text, safe to print.
pub(super) fn excerpt(text: &str) -> String {
    let start = cut(text, LONGEST_EXCERPT);
    let dots = if start.len() < text.len() { "…" } else { "" };
    format!("`{}{dots}`", start.escape_debug())
}

/// The kinds of trouble with an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RejectReason {
    /// The envelope is missing, no JSON object, or no CloudEvent.
    BadEnvelope,
    /// There is no event type.
    NoType,
    /// There is no tenant, and no default for it.
    NoTenant,
    /// There is no payload.
    NoPayload,
    /// The payload should be JSON and is not, or the base64 of a CloudEvent's data is broken.
    BadJson,
    /// The id cannot be used.
    BadId,
    /// The event type cannot be used.
    BadType,
    /// The tenant cannot be used.
    BadTenant,
    /// The time cannot be read.
    BadTime,
    /// The content type cannot be a header's value.
    BadContentType,
    /// The payload is larger than the settings allow.
    PayloadTooLarge,
}

impl RejectReason {
    /// Every reason, in the order of declaration.
    pub const ALL: [RejectReason; 11] = [
        RejectReason::BadEnvelope,
        RejectReason::NoType,
        RejectReason::NoTenant,
        RejectReason::NoPayload,
        RejectReason::BadJson,
        RejectReason::BadId,
        RejectReason::BadType,
        RejectReason::BadTenant,
        RejectReason::BadTime,
        RejectReason::BadContentType,
        RejectReason::PayloadTooLarge,
    ];

    /// The name in Redis, in metrics and in the output of commands: snake_case.
    pub fn as_str(self) -> &'static str {
        match self {
            RejectReason::BadEnvelope => "bad_envelope",
            RejectReason::NoType => "no_type",
            RejectReason::NoTenant => "no_tenant",
            RejectReason::NoPayload => "no_payload",
            RejectReason::BadJson => "bad_json",
            RejectReason::BadId => "bad_id",
            RejectReason::BadType => "bad_type",
            RejectReason::BadTenant => "bad_tenant",
            RejectReason::BadTime => "bad_time",
            RejectReason::BadContentType => "bad_content_type",
            RejectReason::PayloadTooLarge => "payload_too_large",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no [`RejectReason`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("no such reason of a rejected entry")]
pub struct UnknownRejectReason;

impl FromStr for RejectReason {
    type Err = UnknownRejectReason;

    fn from_str(text: &str) -> Result<Self, UnknownRejectReason> {
        RejectReason::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or(UnknownRejectReason)
    }
}
