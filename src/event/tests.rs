use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::settings::{FieldNames, Format, SourceSettings};

mod cloudevents_tests;
mod json_tests;

const LIMIT: usize = 1_000;
const ENTRY: EntryId = EntryId {
    ms: 1_773_403_200_123,
    seq: 4,
};

fn names(parts: [&str; 6]) -> FieldNames {
    let [event_type, tenant, payload, id, time, content_type] =
        parts.map(|part| (!part.is_empty()).then(|| part.to_owned()));
    FieldNames {
        event_type,
        tenant,
        payload,
        id,
        time,
        content_type,
    }
}

/// The one place in these tests that knows every setting of a source.
fn source(format: Format) -> SourceSettings {
    SourceSettings {
        format,
        fields: names(["type", "tenant", "payload", "id", "time", "ctype"]),
        pointers: names(["/type", "/tenant", "/data", "/id", "/time", ""]),
        field: "data".into(),
        tenant_attribute: "tenant".into(),
        constants: BTreeMap::new(),
        defaults: BTreeMap::new(),
        content_type: "application/json".into(),
        ..SourceSettings::new("events")
    }
}

fn read(source: &SourceSettings, fields: &[(&str, &[u8])]) -> Result<Event, Rejection> {
    let fields: Vec<(Bytes, Bytes)> = fields
        .iter()
        .map(|(name, value)| {
            (
                Bytes::copy_from_slice(name.as_bytes()),
                Bytes::copy_from_slice(value),
            )
        })
        .collect();
    Layout::new(source, LIMIT).read(&"events".into(), ENTRY, &fields)
}

fn reason(source: &SourceSettings, fields: &[(&str, &[u8])]) -> RejectReason {
    let rejection = read(source, fields).unwrap_err();
    assert!(!rejection.detail.is_empty() && !rejection.detail.contains('\n'));
    rejection.reason
}

fn pair(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

#[test]
fn an_entry_with_all_its_fields_is_read_as_it_stands() {
    let event = read(
        &source(Format::Fields),
        &[
            ("id", b"e-1"),
            ("type", b"crm.lead.created"),
            ("tenant", b"acme"),
            ("time", b"2026-03-13T12:00:00.5Z"),
            ("payload", b" {\"a\": 1.0} \n"),
            ("other", b"ignored"),
        ],
    )
    .unwrap();
    assert_eq!(event.id, "e-1");
    assert_eq!(event.event_type, "crm.lead.created");
    assert_eq!(event.tenant, "acme");
    assert_eq!(event.time_ms, 1_773_403_200_500);
    assert_eq!(event.arrived_ms, ENTRY.ms);
    assert_eq!((&*event.stream, event.entry_id), ("events", ENTRY));
    assert_eq!(event.content_type, "application/json");
    assert_eq!(event.payload, " {\"a\": 1.0} \n");
    assert!(event.payload_is_json);
}

#[test]
fn a_missing_id_follows_from_stream_and_entry_and_a_missing_time_is_the_entrys() {
    let fields: [(&str, &[u8]); 4] = [
        ("type", b"a"),
        ("tenant", b"t"),
        ("payload", b"1"),
        ("id", b""),
    ];
    let event = read(&source(Format::Fields), &fields).unwrap();
    assert_eq!(event.id, "evt_V92uRb8NfvAcD3RdhP3ylQ");
    assert_eq!(event.time_ms, ENTRY.ms);
    assert_eq!(event, read(&source(Format::Fields), &fields).unwrap());
}

#[test]
fn constants_win_over_fields_and_defaults_fill_gaps() {
    let mut settings = source(Format::Fields);
    settings.constants = pair("type", "fixed.type");
    settings.defaults = pair("tenant", "default");
    let event = read(&settings, &[("type", b"other"), ("payload", b"1")]).unwrap();
    assert_eq!(
        (&*event.event_type, &*event.tenant),
        ("fixed.type", "default")
    );
    let event = read(&settings, &[("tenant", b"acme"), ("payload", b"1")]).unwrap();
    assert_eq!(event.tenant, "acme");
}

#[test]
fn an_empty_tenant_never_falls_to_the_default_one() {
    let mut settings = source(Format::Fields);
    settings.defaults = pair("tenant", "default");
    let fields: [(&str, &[u8]); 3] = [("type", b"a"), ("tenant", b""), ("payload", b"1")];
    assert_eq!(reason(&settings, &fields), RejectReason::BadTenant);
}

#[test]
fn what_is_no_event_is_rejected_with_its_reason() {
    let settings = source(Format::Fields);
    let long = [b'x'; 257];
    let big = [b'1'; LIMIT + 1];
    let whole: [(&str, &[u8]); 3] = [("type", b"a"), ("tenant", b"t"), ("payload", b"1")];
    assert!(read(&settings, &whole).is_ok());
    let cases: [(&str, Option<&[u8]>, RejectReason); 18] = [
        ("type", None, RejectReason::NoType),
        ("type", Some(b""), RejectReason::NoType),
        ("type", Some(b"a b"), RejectReason::BadType),
        ("type", Some(&long), RejectReason::BadType),
        ("type", Some(b"\xff"), RejectReason::BadType),
        ("tenant", None, RejectReason::NoTenant),
        ("tenant", Some("é".as_bytes()), RejectReason::BadTenant),
        ("id", Some(b"a\r\nx: y"), RejectReason::BadId),
        ("time", Some(b"yesterday"), RejectReason::BadTime),
        ("time", Some(b"1969-12-31T23:59:59Z"), RejectReason::BadTime),
        ("time", Some(b"99999999999999999999"), RejectReason::BadTime),
        (
            "ctype",
            Some(b"text/plain\r\n"),
            RejectReason::BadContentType,
        ),
        ("payload", None, RejectReason::NoPayload),
        ("payload", Some(b""), RejectReason::BadJson),
        ("payload", Some(b"{"), RejectReason::BadJson),
        ("payload", Some(b"{} {}"), RejectReason::BadJson),
        ("payload", Some(b"\"\xff\""), RejectReason::BadJson),
        ("payload", Some(&big), RejectReason::PayloadTooLarge),
    ];
    for (name, value, expected) in cases {
        let mut fields: Vec<(&str, &[u8])> = whole.to_vec();
        fields.retain(|(field, _)| *field != name);
        fields.extend(value.map(|value| (name, value)));
        assert_eq!(reason(&settings, &fields), expected, "{name} {value:?}");
    }
}

#[test]
fn other_content_types_take_any_bytes() {
    let settings = source(Format::Fields);
    let fields: [(&str, &[u8]); 4] = [
        ("type", b"a"),
        ("tenant", b"t"),
        ("payload", b"\xff\x00{"),
        ("ctype", b"text/plain; charset=latin1"),
    ];
    let event = read(&settings, &fields).unwrap();
    assert_eq!(event.payload.as_ref(), b"\xff\x00{");
    assert_eq!(event.content_type, "text/plain; charset=latin1");
    assert!(!event.payload_is_json);
}

#[test]
fn json_by_any_of_its_names_must_be_json() {
    let settings = source(Format::Fields);
    for content_type in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/ld+json",
    ] {
        let fields: [(&str, &[u8]); 4] = [
            ("type", b"a"),
            ("tenant", b"t"),
            ("payload", b"nope"),
            ("ctype", content_type.as_bytes()),
        ];
        assert_eq!(
            reason(&settings, &fields),
            RejectReason::BadJson,
            "{content_type}"
        );
    }
}

#[test]
fn times_are_read_in_seconds_milliseconds_and_text() {
    for (text, ms) in [
        ("0", 0),
        ("1773403200", 1_773_403_200_000),
        ("99999999999", 99_999_999_999_000),
        ("100000000000", 100_000_000_000),
        ("1773403200123", 1_773_403_200_123),
        ("2026-03-13T12:00:00Z", 1_773_403_200_000),
        ("2026-03-13T09:00:00.123456-03:00", 1_773_403_200_123),
    ] {
        assert_eq!(moment::parse(text), Some(ms), "{text}");
    }
    for text in [
        "",
        "-1",
        "+1",
        "1.5",
        "2026-03-13",
        "12:00",
        "253402300800000",
    ] {
        assert_eq!(moment::parse(text), None, "{text}");
    }
}

#[test]
fn details_show_little_and_debug_shows_no_payload() {
    let settings = source(Format::Fields);
    let long = format!("{}hidden", "a ".repeat(40));
    let rejection = read(&settings, &[("type", long.as_bytes())]).unwrap_err();
    assert!(!rejection.detail.contains("hidden"), "{rejection}");
    let fields: [(&str, &[u8]); 3] = [("type", b"a"), ("tenant", b"t"), ("payload", b"hidden")];
    let rejection = read(&settings, &fields).unwrap_err();
    assert!(!rejection.to_string().contains("hidden"), "{rejection}");
    let fields: [(&str, &[u8]); 3] = [("type", b"a"), ("tenant", b"t"), ("payload", b"\"hidden\"")];
    let event = read(&settings, &fields).unwrap();
    assert!(!format!("{event:?}").contains("hidden"));
}

#[test]
fn every_reject_reason_has_a_name_that_reads_back() {
    for reason in RejectReason::ALL {
        assert_eq!(reason.as_str().parse(), Ok(reason));
    }
    assert_eq!("nothing".parse::<RejectReason>(), Err(UnknownRejectReason));
}

#[test]
fn entry_ids_order_and_step_as_redis_does() {
    let id = |ms, seq| EntryId { ms, seq };
    assert_eq!("5-7".parse(), Ok(id(5, 7)));
    assert_eq!(id(5, 7).to_string(), "5-7");
    assert!(id(5, 7) < id(5, 8) && id(5, u64::MAX) < id(6, 0));
    assert_eq!(id(5, u64::MAX).next(), id(6, 0));
    assert_eq!(id(6, 0).previous(), id(5, u64::MAX));
    assert_eq!(EntryId::MAX.next(), EntryId::MAX);
    assert_eq!(EntryId::MIN.previous(), EntryId::MIN);
    for text in [
        "",
        "5",
        "5-",
        "-7",
        "5-7-1",
        "+5-7",
        "5 -7",
        "a-b",
        "5-18446744073709551616",
    ] {
        assert_eq!(text.parse::<EntryId>(), Err(EntryIdError), "{text}");
    }
}

proptest! {
    #[test]
    fn entry_ids_read_back_and_step_there_and_back(ms in any::<u64>(), seq in any::<u64>()) {
        let id = EntryId { ms, seq };
        prop_assert_eq!(&*id.text(), format!("{ms}-{seq}"));
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        if id != EntryId::MAX {
            prop_assert!(id.next() > id);
            prop_assert_eq!(id.next().previous(), id);
        }
    }

    #[test]
    fn a_payload_of_any_bytes_is_the_very_slice_of_its_field(
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut settings = source(Format::Fields);
        settings.constants = BTreeMap::from(
            [("type", "a"), ("tenant", "t"), ("content_type", "text/plain")]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let bytes = Bytes::from(payload.clone());
        let fields = vec![(Bytes::from_static(b"payload"), bytes.clone())];
        let event = Layout::new(&settings, LIMIT).read(&"s".into(), ENTRY, &fields).unwrap();
        prop_assert_eq!(&event.payload, &payload);
        prop_assert_eq!(event.payload.as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn any_entry_is_judged_without_a_panic(
        fields in prop::collection::vec(
            ("type|tenant|payload|id|time|data", "[{}\\[\\]\":,a-z0-9.= \\PC]{0,30}"), 0..8),
        format in prop::sample::select(vec![Format::Fields, Format::Json, Format::CloudEvents]),
    ) {
        let fields: Vec<(&str, &[u8])> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let _ = read(&source(format), &fields);
    }
}
