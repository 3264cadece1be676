use proptest::prelude::*;

use super::*;
use crate::delivery::AttemptRecord;

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
        enclosed: None,
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
        stream in ".{1,20}", time_ms in prop::option::of(any::<u64>()),
        content_type in prop::option::of("[!-~]{1,20}"), payload_is_json in any::<bool>(),
    ) {
        let mut event = event(payload, id);
        event.stream = stream.into();
        event.time_ms = time_ms.unwrap_or(event.entry_id.ms);
        event.content_type = content_type.unwrap_or(JSON_TYPE.to_owned());
        event.payload_is_json = payload_is_json;
        for fields in [queue_fields(&event, attempts), first_queue_fields(&event, attempts)] {
            let read = read_queued(&entry(fields)).unwrap();
            prop_assert!(*read.event == event, "{:?}", read.event);
            prop_assert_eq!(read.attempts_before, attempts);
        }
    }

    #[test]
    fn tries_read_back_as_they_were_written(
        attempts in any::<u32>(), first in any::<u64>(), status in prop::option::of(any::<u16>()), error in ".{0,80}",
    ) {
        let tries = Tries {
            attempts, since_replay: attempts / 2, first_attempt_ms: first, last_attempt_ms: first,
            last_status: status, last_error: error, log: log(),
        };
        prop_assert_eq!(read_tries(write_tries(&tries).as_bytes()).unwrap(), tries);
    }

    #[test]
    fn no_stored_bytes_make_the_reader_panic(
        fields in prop::collection::vec(("[viltnmoecjpald]", prop::collection::vec(any::<u8>(), 0..20)), 0..12),
    ) {
        let fields = fields.into_iter().map(|(name, value)| (Bytes::from(name), Bytes::from(value))).collect();
        let entry = RawEntry { id: EntryId::MIN, fields: Some(fields) };
        let _ = (read_queued(&entry), read_history(&entry));
    }
}

fn log() -> AttemptLog {
    let mut log = AttemptLog::default();
    for number in 1..=2 {
        log.push(AttemptRecord {
            number,
            started_ms: 1_700_000_000_500 + u64::from(number),
            status: Some(200),
            total_us: 1_234,
            ..AttemptRecord::default()
        });
    }
    log
}

fn history_fields(event: &Event, with_payload: bool) -> Fields {
    let mut command = Cmd::new();
    write_history(&mut command, event, 2, &log(), with_payload);
    let arguments: Vec<Bytes> = command
        .args_iter()
        .map(|argument| match argument {
            redis::Arg::Simple(bytes) => Bytes::copy_from_slice(bytes),
            _ => panic!("no text"),
        })
        .collect();
    let names = ["d", "p"].into_iter();
    let pairs = names.zip(arguments.chunks(2));
    pairs
        .map(|(name, pair)| {
            assert_eq!(name.as_bytes(), pair[0]);
            (name, pair[1].clone())
        })
        .collect()
}

/// An entry of a queue as version 1 had it.
fn first_queue_fields(event: &Event, attempts: u32) -> Fields {
    [
        ("v", "1".to_owned()),
        ("i", event.id.clone()),
        ("t", event.event_type.clone()),
        ("n", event.tenant.clone()),
        ("m", event.time_ms.to_string()),
        ("o", event.stream.to_string()),
        ("e", event.entry_id.to_string()),
        ("c", event.content_type.clone()),
        ("j", u8::from(event.payload_is_json).to_string()),
        ("a", attempts.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name, Bytes::from(value)))
    .chain([("p", event.payload.clone())])
    .collect()
}

/// An entry of a history as version 1 had it.
fn first_history_fields(event: &Event) -> Fields {
    let mut fields = first_queue_fields(event, 2);
    let log = serde_json::to_vec(&log()).unwrap();
    fields.push(("l", log.into()));
    fields
}

proptest! {
    #[test]
    fn a_finished_delivery_reads_back_whatever_of_it_goes_without_saying(
        id in "[!-~]{1,64}", stream in ".{1,20}", time_ms in prop::option::of(any::<u64>()),
        content_type in prop::option::of("[!-~]{1,20}"), payload_is_json in any::<bool>(),
    ) {
        let mut event = event(b"{}".to_vec(), id);
        event.stream = stream.into();
        event.time_ms = time_ms.unwrap_or(event.entry_id.ms);
        event.content_type = content_type.unwrap_or(JSON_TYPE.to_owned());
        event.payload_is_json = payload_is_json;
        let read = read_history(&entry(history_fields(&event, true))).unwrap();
        prop_assert!(*read.event == event, "{:?}", read.event);
        prop_assert_eq!((read.attempts, read.log), (2, log()));
        let read = read_history(&entry(first_history_fields(&event))).unwrap();
        prop_assert!(*read.event == event, "{:?}", read.event);
        prop_assert_eq!((read.attempts, read.log), (2, log()));
    }
}

#[test]
fn a_finished_delivery_reads_back_with_its_attempts_and_its_payload_if_that_was_kept() {
    let event = event(b"{}".to_vec(), "e1".into());
    for with_payload in [false, true] {
        let read = read_history(&entry(history_fields(&event, with_payload))).unwrap();
        assert_eq!(read.event.payload.is_empty(), !with_payload);
        assert_eq!((read.attempts, read.log), (2, log()));
        assert_eq!(read.event.entry_id, event.entry_id);
    }
    let mut wrong = history_fields(&event, true);
    for (text, words) in [
        ("{\"v\":9}", "reads \"1\" and \"3\": upgrade"),
        ("", "it cannot be read"),
        ("[]", "it cannot be read"),
        ("{\"v\":3,\"i\":\"e1\"}", "it cannot be read"),
        (
            r#"{"v":3,"i":"e","t":"a","n":"t","o":"s","e":"5-5"}"#,
            "no attempts",
        ),
        (
            r#"{"v":3,"i":"e","t":"a","n":"t","o":"s","e":"5-x"}"#,
            "not an entry id",
        ),
    ] {
        wrong[0].1 = Bytes::from_static(text.as_bytes());
        let error = read_history(&entry(wrong.clone())).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn an_unknown_version_is_refused_with_what_to_do() {
    let event = event(vec![], "e".into());
    for (mut fields, version) in [
        (queue_fields(&event, 0), r#"{"v":9,"new":true}"#),
        (first_queue_fields(&event, 0), "9"),
    ] {
        fields[0].1 = Bytes::from_static(version.as_bytes());
        // Whatever else it has or lacks.
        fields.retain(|(name, _)| *name != "p");
        let error = read_queued(&entry(fields)).unwrap_err().to_string();
        assert!(
            error.contains("version \"9\"") && error.contains("upgrade"),
            "{error}"
        );
    }
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
    let flat = |fields: Fields| {
        let flat: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value)))
            .collect();
        flat.join(" ")
    };
    let event = event(b"{}".to_vec(), "e1".into());
    assert_eq!(queue_fields(&event, 3).len() as u64, QUEUE_FIELDS);
    assert_eq!(
        flat(queue_fields(&event, 3)),
        "d={\"v\":3,\"i\":\"e1\",\"t\":\"crm.lead.created\",\"n\":\"t1\",\"o\":\"events\",\"e\":\"1700000000456-7\",\
         \"m\":1700000000123} p={} a=3"
    );
    assert_eq!(
        flat(history_fields(&event, true)),
        "d={\"v\":3,\"i\":\"e1\",\"t\":\"crm.lead.created\",\"n\":\"t1\",\"o\":\"events\",\"e\":\"1700000000456-7\",\
         \"m\":1700000000123,\"a\":2,\"l\":[{\"n\":1,\"t\":1700000000501,\"s\":200,\"d\":1234},{\"n\":2,\"t\":1700000000502,\"s\":200,\"d\":1234}]} p={}"
    );
}

#[test]
fn the_stored_bytes_of_today_read_back_with_what_the_next_version_may_add() {
    const TRIES: &str = r#"{"v":1,"n":2,"r":1,"f":1700000000500,"l":1700000000600,"s":503,"e":"answered 503","g":[{"n":1,"t":1700000000501,"s":200,"d":1234},{"n":2,"t":1700000000502,"s":200,"d":1234}]}"#;
    let tries = Tries {
        attempts: 2,
        since_replay: 1,
        first_attempt_ms: 1_700_000_000_500,
        last_attempt_ms: 1_700_000_000_600,
        last_status: Some(503),
        last_error: "answered 503".into(),
        log: log(),
    };
    assert_eq!(write_tries(&tries), TRIES);
    assert_eq!(read_tries(TRIES.as_bytes()).unwrap(), tries);
    let more = TRIES.replace(r#""n":2,"r""#, r#""new":{"x":1},"n":2,"r""#);
    assert_eq!(read_tries(more.as_bytes()).unwrap(), tries);

    let event = event(b"{}".to_vec(), "e1".into());
    let packed = r#"{"v":3,"i":"e1","t":"crm.lead.created","n":"t1","new":[1],"o":"events","e":"1700000000456-7","a":2,"l":[]}"#;
    let mut finished = history_fields(&event, true);
    finished[0].1 = Bytes::from_static(packed.as_bytes());
    for mut fields in [
        queue_fields(&event, 3),
        first_queue_fields(&event, 3),
        finished,
    ] {
        fields.insert(1, ("new", Bytes::from_static(b"of the next version")));
        let entry = entry(fields);
        let id = match read_queued(&entry) {
            Ok(read) => read.event.id.clone(),
            Err(_) => read_history(&entry).unwrap().event.id.clone(),
        };
        assert_eq!(id, "e1");
    }
}
