//! The stored forms: how deliveries, tries, dead letters, finished deliveries and rejected entries are written to Redis and
//! read back.
//!
//! Every form carries its version in the field `v`. The readers of deliveries, also of those among the dead letters and in a
//! history, and of tries refuse a version that they do not know, so that an older daemon never misreads what a newer one wrote. One-letter
//! names: they stand in every entry of every queue.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::value::{RawEntry, corrupt};
use crate::delivery::{AttemptLog, Tries};
use crate::event::{EntryId, Event};

#[cfg(test)]
mod tests;

/// The version of the stored forms that this daemon writes.
pub const STORED_VERSION: &str = "1";

/// Fields and values of a stream entry, in order.
pub(crate) type Fields = Vec<(&'static str, Bytes)>;

/// A delivery as its queue holds it.
#[derive(Debug, Clone)]
pub struct QueuedDelivery {
    /// Its entry in the queue.
    pub id: EntryId,
    /// The event that it delivers.
    pub event: Arc<Event>,
    /// Attempts before a replay: the attempt header counts on from here.
    pub attempts_before: u32,
    /// What its queue has cost in bytes, about.
    pub size: usize,
}

/// The fields of a queue entry.
///
/// The same names in the same order for every delivery: Redis then stores the names once per node of the stream.
pub(crate) fn queue_fields(event: &Event, attempts_before: u32) -> Fields {
    vec![
        ("v", Bytes::from_static(STORED_VERSION.as_bytes())),
        ("i", Bytes::from(event.id.clone())),
        ("t", Bytes::from(event.event_type.clone())),
        ("n", Bytes::from(event.tenant.clone())),
        ("m", Bytes::from(event.time_ms.to_string())),
        ("o", Bytes::copy_from_slice(event.stream.as_bytes())),
        ("e", Bytes::from(event.entry_id.to_string())),
        ("c", Bytes::from(event.content_type.clone())),
        (
            "j",
            Bytes::from_static(if event.payload_is_json { b"1" } else { b"0" }),
        ),
        ("p", event.payload.clone()),
        ("a", Bytes::from(attempts_before.to_string())),
    ]
}

/// The fields of an entry of a history, one after the other: those of its queue entry without the payload, what became of
/// it, and the payload last, if it is kept.
///
/// Handed out and not collected: this is written for every delivery, straight into the command.
pub(crate) fn write_history(
    event: &Event,
    attempts: u32,
    log: &AttemptLog,
    with_payload: bool,
    mut put: impl FnMut(&'static str, &[u8]),
) {
    put("v", STORED_VERSION.as_bytes());
    put("i", event.id.as_bytes());
    put("t", event.event_type.as_bytes());
    put("n", event.tenant.as_bytes());
    put("m", event.time_ms.to_string().as_bytes());
    put("o", event.stream.as_bytes());
    put("e", event.entry_id.to_string().as_bytes());
    put("c", event.content_type.as_bytes());
    put("j", if event.payload_is_json { b"1" } else { b"0" });
    put("a", attempts.to_string().as_bytes());
    // Numbers and text always serialise.
    put("l", &serde_json::to_vec(log).unwrap_or_default());
    if with_payload {
        put("p", &event.payload);
    }
}

/// A delivery that succeeded, as its webhook's history holds it.
#[derive(Debug, Clone)]
pub(crate) struct FinishedDelivery {
    /// The event that it delivered; its payload is empty where none was kept.
    pub event: Arc<Event>,
    /// Attempts in all, the successful one included.
    pub attempts: u32,
    /// What happened in each attempt, as far as it is kept.
    pub log: AttemptLog,
}

/// Reads an entry of a history.
///
/// # Errors
///
/// [`StoreError::Corrupt`] names the entry and what is wrong with it.
pub(crate) fn read_history(entry: &RawEntry) -> Result<FinishedDelivery, StoreError> {
    let fields = EntryFields(entry, "history entry");
    fields.check_version()?;
    let log = serde_json::from_slice(&fields.bytes("l")?)
        .map_err(|error| fields.corrupt(format!("its attempts cannot be read: {error}")))?;
    Ok(FinishedDelivery {
        event: Arc::new(fields.event(entry.bytes("p").unwrap_or_default())?),
        attempts: fields.parse("a", "a number")?,
        log,
    })
}

/// A stream entry that is a delivery, and what it is called.
struct EntryFields<'a>(&'a RawEntry, &'static str);

impl EntryFields<'_> {
    fn corrupt(&self, reason: String) -> StoreError {
        corrupt(format!("{} {}", self.1, self.0.id), reason)
    }

    fn bytes(&self, name: &str) -> Result<Bytes, StoreError> {
        let found = self.0.bytes(name);
        found.ok_or_else(|| self.corrupt(format!("the field {name:?} is missing")))
    }

    fn text(&self, name: &str) -> Result<String, StoreError> {
        String::from_utf8(self.bytes(name)?.into())
            .map_err(|_| self.corrupt(format!("the field {name:?} is not text")))
    }

    fn parse<T: FromStr>(&self, name: &str, form: &str) -> Result<T, StoreError> {
        let parsed = self.text(name)?.parse();
        parsed.map_err(|_| self.corrupt(format!("the field {name:?} is not {form}")))
    }

    /// First of all: of another version nothing else is known.
    fn check_version(&self) -> Result<(), StoreError> {
        check_version(&self.text("v")?).map_err(|detail| self.corrupt(detail))
    }

    fn event(&self, payload: Bytes) -> Result<Event, StoreError> {
        let entry_id: EntryId = self.parse("e", "an entry id")?;
        Ok(Event {
            id: self.text("i")?,
            event_type: self.text("t")?,
            tenant: self.text("n")?,
            time_ms: self.parse("m", "a time in Unix ms")?,
            arrived_ms: entry_id.ms,
            stream: Arc::from(self.text("o")?),
            entry_id,
            content_type: self.text("c")?,
            payload_is_json: self.text("j")? == "1",
            payload,
        })
    }
}

/// Reads a queue entry, or the delivery part of a dead letter.
///
/// # Errors
///
/// [`StoreError::Corrupt`] names the entry and what is wrong with it.
pub(crate) fn read_queued(entry: &RawEntry) -> Result<QueuedDelivery, StoreError> {
    let fields = EntryFields(entry, "queue entry");
    fields.check_version()?;
    let event = fields.event(fields.bytes("p")?)?;
    let size =
        event.payload.len() + event.id.len() + event.event_type.len() + event.tenant.len() + 128;
    Ok(QueuedDelivery {
        id: entry.id,
        event: Arc::new(event),
        attempts_before: fields.parse("a", "a number")?,
        size,
    })
}

/// # Errors
///
/// What is wrong with the version, and what to do.
fn check_version(version: &str) -> Result<(), String> {
    if version == STORED_VERSION {
        return Ok(());
    }
    Err(format!(
        "its form has version {version:?}, and this daemon reads {STORED_VERSION:?}: upgrade it"
    ))
}

/// What every version of the stored tries has.
#[derive(Deserialize)]
struct TriesVersion {
    v: u8,
}

#[derive(Serialize, Deserialize)]
struct StoredTries {
    v: u8,
    n: u32,
    r: u32,
    f: u64,
    l: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<u16>,
    #[serde(default)]
    e: String,
    #[serde(default, skip_serializing_if = "AttemptLog::is_empty")]
    g: AttemptLog,
}

/// The tries of a delivery as they are stored beside its queue entry.
pub(crate) fn write_tries(tries: &Tries) -> String {
    let stored = StoredTries {
        v: 1,
        n: tries.attempts,
        r: tries.since_replay,
        f: tries.first_attempt_ms,
        l: tries.last_attempt_ms,
        s: tries.last_status,
        e: tries.last_error.clone(),
        g: tries.log.clone(),
    };
    // Numbers and text always serialise.
    serde_json::to_string(&stored).unwrap_or_default()
}

/// Reads the tries of a delivery.
///
/// # Errors
///
/// [`StoreError::Corrupt`] when they are of another form.
pub(crate) fn read_tries(text: &[u8]) -> Result<Tries, StoreError> {
    let unreadable = |detail| corrupt("the tries of a delivery", detail);
    let malformed = |error: serde_json::Error| unreadable(error.to_string());
    // First the version alone: of another one nothing else is known.
    let TriesVersion { v } = serde_json::from_slice(text).map_err(malformed)?;
    check_version(&v.to_string()).map_err(unreadable)?;
    let stored: StoredTries = serde_json::from_slice(text).map_err(malformed)?;
    Ok(Tries {
        attempts: stored.n,
        since_replay: stored.r,
        first_attempt_ms: stored.f,
        last_attempt_ms: stored.l,
        last_status: stored.s,
        last_error: stored.e,
        log: stored.g,
    })
}
