use proptest::prelude::*;

use super::*;

fn parts(payload: &[u8]) -> Parts<'_> {
    Parts {
        event_type: "crm.lead.created",
        tenant: Some("acme"),
        id: Some("evt_1"),
        fallback_id: "evt_fallback",
        time: None,
        payload,
    }
}

fn source(format: Format) -> SourceSettings {
    SourceSettings {
        format,
        ..SourceSettings::new("events")
    }
}

fn read_back(source: &SourceSettings, parts: &Parts<'_>) -> Event {
    compose(source, 1 << 20, &Arc::from("events"), parts, 1_000)
        .unwrap()
        .1
}

fn pointers(event_type: &str, tenant: &str, payload: &str) -> SourceSettings {
    let mut source = source(Format::Json);
    source.pointers.event_type = Some(event_type.into());
    source.pointers.tenant = Some(tenant.into());
    source.pointers.payload = Some(payload.into());
    source
}

#[test]
fn what_is_written_in_every_format_is_read_back_with_the_payloads_own_bytes() {
    let payload = br#"{ "n": 1.50, "a": [1,  2] }"#;
    for format in [Format::Fields, Format::Json, Format::CloudEvents] {
        let event = read_back(&source(format), &parts(payload));
        assert_eq!(event.event_type, "crm.lead.created");
        assert_eq!(
            (event.tenant.as_str(), event.id.as_str()),
            ("acme", "evt_1")
        );
        assert_eq!(event.payload, &payload[..], "{format:?}");
    }
}

#[test]
fn a_cloud_event_gets_an_id_even_if_none_is_given() {
    let none = Parts {
        id: None,
        tenant: None,
        ..parts(b"{}")
    };
    assert_eq!(
        read_back(&source(Format::CloudEvents), &none).id,
        "evt_fallback"
    );
    assert_eq!(read_back(&source(Format::Fields), &none).tenant, "default");
}

#[test]
fn pointers_may_be_deep_escaped_or_lead_into_the_payload() {
    let deep = pointers("/meta/a~1b/type", "/meta/tenant", "/body/data");
    let event = read_back(&deep, &parts(br#"{"x":1}"#));
    assert_eq!(
        (event.tenant.as_str(), &event.payload[..]),
        ("acme", &br#"{"x":1}"#[..])
    );

    let whole = pointers("/type", "/customer/tenant", "");
    let event = read_back(&whole, &parts(br#"{"x":1.0,"customer":{"y":2}}"#));
    assert_eq!(event.event_type, "crm.lead.created");
    assert_eq!(
        &event.payload[..],
        br#"{"customer":{"tenant":"acme","y":2},"id":"evt_1","type":"crm.lead.created","x":1.0}"#
    );
}

#[test]
fn what_has_no_place_is_said_in_plain_words() {
    let wrong = fields(&pointers("/data/type", "/t", "/data"), &parts(b"[1]")).unwrap_err();
    assert!(
        wrong.contains("\"/data/type\"") && wrong.contains("no object"),
        "{wrong}"
    );
    let wrong = fields(&source(Format::Json), &parts(b"{oops")).unwrap_err();
    assert!(
        wrong.contains("not valid JSON (line 1, column 2)"),
        "{wrong}"
    );
}

#[test]
fn a_time_is_written_where_the_layout_has_it() {
    let timed = Parts {
        time: Some("2026-03-13T12:00:00.123Z"),
        ..parts(b"{}")
    };
    for format in [Format::Fields, Format::Json, Format::CloudEvents] {
        let event = read_back(&source(format), &timed);
        assert_eq!(event.time_ms, 1_773_403_200_123, "{format:?}");
    }
}

#[test]
fn what_a_constant_says_otherwise_is_refused() {
    let mut source = source(Format::Fields);
    source.fields.tenant = None;
    source.constants.insert("tenant".into(), "other".into());
    let stream = Arc::from("events");
    let unfit = compose(&source, 1 << 20, &stream, &parts(b"{}"), 1_000).unwrap_err();
    assert!(
        unfit.to_string().contains("\"other\" and not \"acme\""),
        "{unfit}"
    );
}

proptest! {
    #[test]
    fn ids_and_tenants_of_any_visible_characters_come_back(id in "[!-~]{1,40}", tenant in "[!-~]{1,40}") {
        for format in [Format::Fields, Format::Json, Format::CloudEvents] {
            let given = Parts { id: Some(&id), tenant: Some(&tenant), ..parts(b"{}") };
            let event = read_back(&source(format), &given);
            prop_assert_eq!((&event.id, &event.tenant), (&id, &tenant));
        }
    }
}
