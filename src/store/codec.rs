//! The stored forms: how deliveries, tries, dead letters, finished deliveries and rejected entries are written to Redis and
//! read back.
//!
//! A delivery is one text, its payload beside it, on whichever shelf it stands: each field of an entry costs the daemon and
//! Redis about as much as all that is in that text. Every form carries its version. The readers of deliveries, also of those
//! among the dead letters and in a history, and of tries refuse a version that they do not know, so that an older daemon
//! never misreads what a newer one wrote. One-letter names: they stand in every entry of every queue.

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

/// The version of tries and of rejected entries, and the first one of deliveries, which had each part of the event in a
/// field of its own, `v` among them.
pub const STORED_VERSION: &str = "1";
/// The version of deliveries that this daemon writes. The second one, which had the attempts of a finished delivery in a
/// field of their own, was in no release and is not read.
const DELIVERY_VERSION: u8 = 3;
/// What stands in place of the content type of nearly every event.
const JSON_TYPE: &str = "application/json";
/// What a delivery takes as text, about.
const USUAL_BYTES: usize = 256;

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
pub(crate) const QUEUE_FIELDS: u64 = 3;

/// Hands out the fields of a queue entry one after the other, to be written straight into a command: the delivery as one
/// text, its payload, and attempts before a replay.
///
/// The same names in the same order for every delivery: Redis then stores the names once per node of the stream.
pub(crate) fn each_queue_field(
    event: &Event,
    attempts_before: u32,
    mut put: impl FnMut(&'static str, &[u8]),
) {
    let entry_id = event.entry_id.text();
    let mut text = Vec::with_capacity(USUAL_BYTES);
    // Numbers and text always serialise, and writing to memory does not fail.
    let _ = serde_json::to_writer(&mut text, &StoredDelivery::of(event, &entry_id));
    put("d", &text);
    put("p", &event.payload);
    put("a", itoa::Buffer::new().format(attempts_before).as_bytes());
}

/// The fields of a queue entry, to which others are added.
pub(crate) fn queue_fields(event: &Event, attempts_before: u32) -> Fields {
    let mut fields = Fields::new();
    each_queue_field(event, attempts_before, |name, value| {
        fields.push((name, Bytes::copy_from_slice(value)));
    });
    fields
}

/// What of a delivery stands in the field `d`: all but the payload. What goes without saying is left out.
#[derive(Serialize, Deserialize)]
struct StoredDelivery<'a> {
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
    /// If it is not the time of `e`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<u64>,
    /// If it is not [`JSON_TYPE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<Cow<'a, str>>,
    /// 0 if the payload is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    j: Option<u8>,
    /// Of a finished one: how many attempts were made, and what happened in each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    a: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    l: Option<Cow<'a, AttemptLog>>,
}

impl<'a> StoredDelivery<'a> {
    /// A delivery of `event`, whose entry in its source is `entry_id`.
    fn of(event: &'a Event, entry_id: &'a str) -> StoredDelivery<'a> {
        StoredDelivery {
            v: DELIVERY_VERSION,
            i: Cow::Borrowed(&event.id),
            t: Cow::Borrowed(&event.event_type),
            n: Cow::Borrowed(&event.tenant),
            o: Cow::Borrowed(&event.stream),
            e: Cow::Borrowed(entry_id),
            m: (event.time_ms != event.entry_id.ms).then_some(event.time_ms),
            c: (event.content_type != JSON_TYPE).then_some(Cow::Borrowed(&event.content_type)),
            j: (!event.payload_is_json).then_some(0),
            a: None,
            l: None,
        }
    }

    /// The event, unless what it has as its entry's id is none.
    fn event(&self, payload: Bytes) -> Option<Event> {
        let entry_id: EntryId = self.e.parse().ok()?;
        Some(Event {
            id: self.i.as_ref().to_owned(),
            event_type: self.t.as_ref().to_owned(),
            tenant: self.n.as_ref().to_owned(),
            time_ms: self.m.unwrap_or(entry_id.ms),
            arrived_ms: entry_id.ms,
            stream: Arc::from(&*self.o),
            entry_id,
            content_type: self.c.as_deref().unwrap_or(JSON_TYPE).to_owned(),
            payload_is_json: self.j != Some(0),
            payload,
            enclosed: None,
        })
    }
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
    let stored = StoredDelivery {
        a: Some(attempts),
        l: Some(Cow::Borrowed(log)),
        ..StoredDelivery::of(event, &entry_id)
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
    if fields.is_first_form()? {
        let log = serde_json::from_slice(fields.bytes("l")?)
            .map_err(|error| fields.corrupt(format!("its attempts cannot be read: {error}")))?;
        return Ok(FinishedDelivery {
            event: Arc::new(fields.first_event(payload)?),
            attempts: fields.parse("a", "a number")?,
            log,
        });
    }
    let stored = fields.delivery()?;
    let event = Arc::new(fields.event_of(&stored, payload)?);
    let (Some(attempts), Some(log)) = (stored.a, stored.l) else {
        return Err(fields.corrupt("it has no attempts".into()));
    };
    Ok(FinishedDelivery {
        event,
        attempts,
        log: log.into_owned(),
    })
}

/// What tells deliveries apart.
pub(crate) struct Head {
    pub entry_id: EntryId,
    pub stream: String,
    pub event_type: String,
    pub event_id: String,
}

/// The same in the field `d`; the rest is passed over.
#[derive(Deserialize)]
struct StoredHead<'a> {
    #[serde(borrow, default)]
    i: Cow<'a, str>,
    #[serde(borrow, default)]
    t: Cow<'a, str>,
    #[serde(borrow, default)]
    o: Cow<'a, str>,
    #[serde(borrow)]
    e: Cow<'a, str>,
}

/// Reads what tells a delivery of a history from others, whatever its version: one that only a newer daemon can read whole is
/// there all the same.
///
/// # Errors
///
/// [`StoreError::Corrupt`] names the entry and what is wrong with it.
pub(crate) fn read_head(entry: &RawEntry) -> Result<Head, StoreError> {
    let fields = EntryFields(entry, "history entry");
    let Some(text) = entry.get("d") else {
        let text = |name| entry.text(name).unwrap_or_default();
        return Ok(Head {
            entry_id: fields.parse("e", "an entry id")?,
            stream: text("o"),
            event_type: text("t"),
            event_id: text("i"),
        });
    };
    let head: StoredHead = serde_json::from_slice(text)
        .map_err(|error| fields.corrupt(format!("it cannot be read: {error}")))?;
    let entry_id = head.e.parse();
    let unread = |_| fields.corrupt("what it has as \"e\" is not an entry id".into());
    Ok(Head {
        entry_id: entry_id.map_err(unread)?,
        stream: head.o.into_owned(),
        event_type: head.t.into_owned(),
        event_id: head.i.into_owned(),
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

    /// Whether it has each part of its event in a field of its own. First of all: of another version nothing else is known.
    fn is_first_form(&self) -> Result<bool, StoreError> {
        if self.0.get("v").is_none() {
            return Ok(false);
        }
        match self.text("v")? {
            STORED_VERSION => Ok(true),
            other => Err(self.corrupt(unknown_version(other, &known_of_deliveries()))),
        }
    }

    fn first_event(&self, payload: Bytes) -> Result<Event, StoreError> {
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
            enclosed: None,
        })
    }

    fn delivery(&self) -> Result<StoredDelivery<'_>, StoreError> {
        let text = self.bytes("d")?;
        let malformed =
            |error: serde_json::Error| self.corrupt(format!("it cannot be read: {error}"));
        let stored: Result<StoredDelivery, _> = serde_json::from_slice(text);
        match stored {
            Ok(stored) if stored.v == DELIVERY_VERSION => Ok(stored),
            // Of another version nothing else is known: it may be what keeps the rest from being read.
            read => {
                let StoredVersion { v } = serde_json::from_slice(text).map_err(malformed)?;
                if v != DELIVERY_VERSION {
                    let words = unknown_version(&v.to_string(), &known_of_deliveries());
                    return Err(self.corrupt(words));
                }
                read.map_err(malformed)
            }
        }
    }

    fn event_of(&self, stored: &StoredDelivery<'_>, payload: Bytes) -> Result<Event, StoreError> {
        let event = stored.event(payload);
        event.ok_or_else(|| self.corrupt("what it has as \"e\" is not an entry id".into()))
    }
}

/// Reads a queue entry, or the delivery part of a dead letter.
///
/// # Errors
///
/// [`StoreError::Corrupt`] names the entry and what is wrong with it.
pub(crate) fn read_queued(entry: &RawEntry) -> Result<QueuedDelivery, StoreError> {
    let fields = EntryFields(entry, "queue entry");
    let event = match fields.is_first_form()? {
        true => fields.first_event(fields.bytes("p")?.clone())?,
        false => {
            let stored = fields.delivery()?;
            fields.event_of(&stored, fields.bytes("p")?.clone())?
        }
    };
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

fn known_of_deliveries() -> String {
    format!("{STORED_VERSION:?} and \"{DELIVERY_VERSION}\"")
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
