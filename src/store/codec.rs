//! The stored forms: how deliveries, tries, dead letters and rejected entries are written to Redis and read back.
//!
//! Every form carries its version in the field `v`. The readers of deliveries, also of those among the dead letters, and of
//! tries refuse a version that they do not know, so that an older daemon never misreads what a newer one wrote. One-letter
//! names: they stand in every entry of every queue.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::value::{RawEntry, corrupt};
use crate::delivery::{AttemptLog, Tries};
use crate::event::{EntryId, Event};

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

/// Reads a queue entry, or the delivery part of a dead letter.
///
/// # Errors
///
/// [`StoreError::Corrupt`] names the entry and what is wrong with it.
pub(crate) fn read_queued(entry: &RawEntry) -> Result<QueuedDelivery, StoreError> {
    let what = || format!("queue entry {}", entry.id);
    let bytes = |name: &str| {
        entry
            .bytes(name)
            .ok_or_else(|| corrupt(what(), format!("the field {name:?} is missing")))
    };
    let text = |name: &str| {
        bytes(name).and_then(|value| {
            String::from_utf8(value.into())
                .map_err(|_| corrupt(what(), format!("the field {name:?} is not text")))
        })
    };
    let version = text("v")?;
    check_version(&version).map_err(|detail| corrupt(what(), detail))?;
    let parse = |name: &'static str, reason: &str| {
        corrupt(what(), format!("the field {name:?} is not {reason}"))
    };
    let payload = bytes("p")?;
    let entry_id: EntryId = text("e")?.parse().map_err(|_| parse("e", "an entry id"))?;
    let event = Event {
        id: text("i")?,
        event_type: text("t")?,
        tenant: text("n")?,
        time_ms: text("m")?
            .parse()
            .map_err(|_| parse("m", "a time in Unix ms"))?,
        arrived_ms: entry_id.ms,
        stream: Arc::from(text("o")?),
        entry_id,
        content_type: text("c")?,
        payload_is_json: text("j")? == "1",
        payload,
    };
    let size =
        event.payload.len() + event.id.len() + event.event_type.len() + event.tenant.len() + 128;
    Ok(QueuedDelivery {
        id: entry.id,
        event: Arc::new(event),
        attempts_before: text("a")?.parse().map_err(|_| parse("a", "a number"))?,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(payload: Vec<u8>, id: String) -> Event {
        Event {
            id,
            event_type: "crm.lead.created".into(),
            tenant: "t1".into(),
            time_ms: 1_700_000_000_123,
            arrived_ms: 1_700_000_000_456,
            stream: "events".into(),
            entry_id: EntryId {
                ms: 1_700_000_000_456,
                seq: 7,
            },
            content_type: "application/json".into(),
            payload_is_json: true,
            payload: payload.into(),
        }
    }

    fn entry(fields: Fields) -> RawEntry {
        RawEntry {
            id: EntryId { ms: 5, seq: 1 },
            fields: Some(
                fields
                    .into_iter()
                    .map(|(name, value)| (Bytes::from_static(name.as_bytes()), value))
                    .collect(),
            ),
        }
    }

    proptest! {
        #[test]
        fn a_queued_delivery_reads_back_as_it_was_written(
            payload in prop::collection::vec(any::<u8>(), 0..300), id in "[!-~]{1,64}", attempts in any::<u32>(),
        ) {
            let event = event(payload, id);
            let read = read_queued(&entry(queue_fields(&event, attempts))).unwrap();
            prop_assert_eq!(&read.event.payload, &event.payload);
            prop_assert_eq!(&read.event.id, &event.id);
            prop_assert_eq!(read.event.entry_id, event.entry_id);
            prop_assert_eq!(read.event.arrived_ms, event.arrived_ms);
            prop_assert_eq!(read.attempts_before, attempts);
        }

        #[test]
        fn tries_read_back_as_they_were_written(
            attempts in any::<u32>(), first in any::<u64>(), status in prop::option::of(any::<u16>()), error in ".{0,80}",
        ) {
            let tries = Tries {
                attempts, since_replay: attempts / 2, first_attempt_ms: first, last_attempt_ms: first,
                last_status: status, last_error: error, log: AttemptLog::default(),
            };
            prop_assert_eq!(read_tries(write_tries(&tries).as_bytes()).unwrap(), tries);
        }

        #[test]
        fn no_stored_bytes_make_the_reader_panic(
            fields in prop::collection::vec(("[viltnmoecjpa]", prop::collection::vec(any::<u8>(), 0..20)), 0..12),
        ) {
            let fields = fields.into_iter().map(|(name, value)| (Bytes::from(name), Bytes::from(value))).collect();
            let _ = read_queued(&RawEntry { id: EntryId::MIN, fields: Some(fields) });
        }
    }

    #[test]
    fn an_unknown_version_is_refused_with_what_to_do() {
        let mut fields = queue_fields(&event(vec![], "e".into()), 0);
        fields[0].1 = Bytes::from_static(b"9");
        let error = read_queued(&entry(fields)).unwrap_err().to_string();
        assert!(
            error.contains("version \"9\"") && error.contains("upgrade"),
            "{error}"
        );
    }

    #[test]
    fn tries_of_an_unknown_version_are_refused_whatever_else_they_hold() {
        let today = write_tries(&Tries::default());
        for text in [
            today.replace("\"v\":1", "\"v\":2"),
            r#"{"v":2,"new":true}"#.to_owned(),
        ] {
            let error = read_tries(text.as_bytes()).unwrap_err().to_string();
            assert!(
                error.contains("version \"2\"") && error.contains("upgrade"),
                "{error}"
            );
        }
        assert!(read_tries(today.replace("\"v\":1,", "").as_bytes()).is_err());
    }

    #[test]
    fn the_stored_bytes_of_today_are_pinned() {
        let fields = queue_fields(&event(b"{}".to_vec(), "e1".into()), 3);
        let flat: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
            .collect();
        assert_eq!(
            flat.join(" "),
            "v=1 i=e1 t=crm.lead.created n=t1 m=1700000000123 o=events e=1700000000456-7 c=application/json j=1 p={} a=3"
        );
    }
}
