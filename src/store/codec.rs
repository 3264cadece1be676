//! The stored forms: how deliveries, tries, dead letters, finished deliveries and rejected entries are written to Redis and
//! read back.
//!
//! Every form carries its version in the field `v`; an entry of a history, which is one text, as a part of that. The readers
//! of deliveries, also of those among the dead letters and in a history, and of tries refuse a version that they do not
//! know, so that an older daemon never misreads what a newer one wrote. One-letter names: they stand in every entry of every
//! queue.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, RedisWrite};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::value::{RawEntry, corrupt};
use crate::delivery::{AttemptLog, Tries};
use crate::event::{EntryId, Event};

#[cfg(test)]
mod tests;

/// The version of the stored forms that this daemon writes, but for entries of histories.
pub const STORED_VERSION: &str = "1";
/// The version of the entries of histories: in the first one each part of the event was a field, as in a queue. The second
/// one, which had the attempts in a field of their own, was in no release and is not read.
const HISTORY_VERSION: u8 = 3;
/// What stands in place of the content type of nearly every event.
const JSON_TYPE: &str = "application/json";

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

/// How many fields a queue entry has.
pub(crate) const QUEUE_FIELDS: u64 = 11;

/// Hands out the fields of a queue entry one after the other, to be written straight into a command.
///
/// The same names in the same order for every delivery: Redis then stores the names once per node of the stream.
pub(crate) fn each_queue_field(
    event: &Event,
    attempts_before: u32,
    mut put: impl FnMut(&'static str, &[u8]),
) {
    let mut digits = itoa::Buffer::new();
    put("v", STORED_VERSION.as_bytes());
    put("i", event.id.as_bytes());
    put("t", event.event_type.as_bytes());
    put("n", event.tenant.as_bytes());
    put("m", digits.format(event.time_ms).as_bytes());
    put("o", event.stream.as_bytes());
    put("e", event.entry_id.text().as_bytes());
    put("c", event.content_type.as_bytes());
    put("j", if event.payload_is_json { b"1" } else { b"0" });
    put("p", &event.payload);
    put("a", digits.format(attempts_before).as_bytes());
}

/// The fields of a queue entry, to which others are added.
pub(crate) fn queue_fields(event: &Event, attempts_before: u32) -> Fields {
    let mut fields = Fields::new();
    each_queue_field(event, attempts_before, |name, value| {
        fields.push((name, Bytes::copy_from_slice(value)));
    });
    fields
}

/// What of a finished delivery stands in the field `d` of its history's entry: one text, because each field of an entry
/// costs the daemon and Redis about as much as all that is in this one. What goes without saying is left out.
#[derive(Serialize, Deserialize)]
struct StoredFinished<'a> {
    v: u8,
    #[serde(borrow)]
    i: Cow<'a, str>,
    #[serde(borrow)]
    t: Cow<'a, str>,
    #[serde(borrow)]
    n: Cow<'a, str>,
    #[serde(borrow)]
    o: Cow<'a, str>,
    #[serde(borrow)]
    e: Cow<'a, str>,
    a: u32,
    /// If it is not the time of `e`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<u64>,
    /// If it is not [`JSON_TYPE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<Cow<'a, str>>,
    /// 0 if the payload is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    j: Option<u8>,
    /// What happened in each attempt.
    l: Cow<'a, AttemptLog>,
}

/// Adds the fields of an entry of a history to the command that writes it: the event with the attempts at it, and the
/// payload, if it is kept.
pub(crate) fn write_history(
    command: &mut Cmd,
    event: &Event,
    attempts: u32,
    log: &AttemptLog,
    with_payload: bool,
) {
    let entry_id = event.entry_id.text();
    let stored = StoredFinished {
        v: HISTORY_VERSION,
        i: Cow::Borrowed(&event.id),
        t: Cow::Borrowed(&event.event_type),
        n: Cow::Borrowed(&event.tenant),
        o: Cow::Borrowed(&event.stream),
        e: Cow::Borrowed(&entry_id),
        a: attempts,
        m: (event.time_ms != event.entry_id.ms).then_some(event.time_ms),
        c: (event.content_type != JSON_TYPE).then_some(Cow::Borrowed(&event.content_type)),
        j: (!event.payload_is_json).then_some(0),
        l: Cow::Borrowed(log),
    };
    command.arg("d");
    // Numbers and text always serialise, and writing to memory does not fail.
    let _ = serde_json::to_writer(command.writer_for_next_arg(), &stored);
    if with_payload {
        command.arg("p").arg(&event.payload[..]);
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
    let payload = entry.bytes("p").unwrap_or_default();
    if entry.get("v").is_none() {
        return fields.packed(payload);
    }
    let version = fields.text("v")?;
    if version != STORED_VERSION {
        return Err(fields.corrupt(unknown_version(version, &known_in_histories())));
    }
    let log = serde_json::from_slice(fields.bytes("l")?)
        .map_err(|error| fields.corrupt(format!("its attempts cannot be read: {error}")))?;
    Ok(FinishedDelivery {
        event: Arc::new(fields.event(payload)?),
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

    fn bytes(&self, name: &str) -> Result<&Bytes, StoreError> {
        let found = self.0.get(name);
        found.ok_or_else(|| self.corrupt(format!("the field {name:?} is missing")))
    }

    fn text(&self, name: &str) -> Result<&str, StoreError> {
        std::str::from_utf8(self.bytes(name)?)
            .map_err(|_| self.corrupt(format!("the field {name:?} is not text")))
    }

    fn parse<T: FromStr>(&self, name: &str, form: &str) -> Result<T, StoreError> {
        let parsed = self.text(name)?.parse();
        parsed.map_err(|_| self.corrupt(format!("the field {name:?} is not {form}")))
    }

    /// First of all: of another version nothing else is known.
    fn check_version(&self) -> Result<(), StoreError> {
        check_version(self.text("v")?).map_err(|detail| self.corrupt(detail))
    }

    fn event(&self, payload: Bytes) -> Result<Event, StoreError> {
        let entry_id: EntryId = self.parse("e", "an entry id")?;
        Ok(Event {
            id: self.text("i")?.to_owned(),
            event_type: self.text("t")?.to_owned(),
            tenant: self.text("n")?.to_owned(),
            time_ms: self.parse("m", "a time in Unix ms")?,
            arrived_ms: entry_id.ms,
            stream: Arc::from(self.text("o")?),
            entry_id,
            content_type: self.text("c")?.to_owned(),
            payload_is_json: self.text("j")? == "1",
            payload,
        })
    }

    /// The delivery of [`StoredFinished`].
    fn packed(&self, payload: Bytes) -> Result<FinishedDelivery, StoreError> {
        let text = self.bytes("d")?;
        let malformed =
            |error: serde_json::Error| self.corrupt(format!("it cannot be read: {error}"));
        // First the version alone: of another one nothing else is known.
        let StoredVersion { v } = serde_json::from_slice(text).map_err(malformed)?;
        if v != HISTORY_VERSION {
            return Err(self.corrupt(unknown_version(&v.to_string(), &known_in_histories())));
        }
        let stored: StoredFinished = serde_json::from_slice(text).map_err(malformed)?;
        let entry_id: EntryId = stored
            .e
            .parse()
            .map_err(|_| self.corrupt("what it has as \"e\" is not an entry id".into()))?;
        let event = Event {
            id: stored.i.into_owned(),
            event_type: stored.t.into_owned(),
            tenant: stored.n.into_owned(),
            time_ms: stored.m.unwrap_or(entry_id.ms),
            arrived_ms: entry_id.ms,
            stream: Arc::from(&*stored.o),
            entry_id,
            content_type: stored.c.unwrap_or(Cow::Borrowed(JSON_TYPE)).into_owned(),
            payload_is_json: stored.j != Some(0),
            payload,
        };
        Ok(FinishedDelivery {
            event: Arc::new(event),
            attempts: stored.a,
            log: stored.l.into_owned(),
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
    let event = fields.event(fields.bytes("p")?.clone())?;
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
    Err(unknown_version(version, &format!("{STORED_VERSION:?}")))
}

fn known_in_histories() -> String {
    format!("{STORED_VERSION:?} and \"{HISTORY_VERSION}\"")
}

fn unknown_version(version: &str, known: &str) -> String {
    format!("its form has version {version:?}, and this daemon reads {known}: upgrade it")
}

/// What every version of a form that is one text has.
#[derive(Deserialize)]
struct StoredVersion {
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
    let StoredVersion { v } = serde_json::from_slice(text).map_err(malformed)?;
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
