use super::*;

fn event(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","type":"a.b","source":"/x","id":"1","tenant":"t",{members}}}"#)
}

fn read_one(members: &str) -> Result<Event, Rejection> {
    read(
        &source(Format::CloudEvents),
        &[("data", event(members).as_bytes())],
    )
}

#[test]
fn json_data_is_kept_as_it_is_written() {
    let event = read_one(r#""time":"2026-03-13T12:00:00Z","data": {"a" : 1.0}"#).unwrap();
    assert_eq!(
        (&*event.id, &*event.event_type, &*event.tenant),
        ("1", "a.b", "t")
    );
    assert_eq!(event.time_ms, 1_773_403_200_000);
    assert_eq!(event.payload, r#"{"a" : 1.0}"#);
    assert_eq!(event.content_type, "application/json");
    assert!(event.payload_is_json);
}

#[test]
fn a_string_is_json_or_a_text_as_its_content_type_says() {
    let plain = read_one(r#""datacontenttype":"text/xml","data":"<a>\u00e9</a>""#).unwrap();
    assert_eq!(plain.payload, "<a>é</a>");
    assert_eq!(plain.content_type, "text/xml");
    assert!(!plain.payload_is_json);

    let json = read_one(r#""data":"\u00e9""#).unwrap();
    assert_eq!(json.payload, r#""\u00e9""#);
    assert!(json.payload_is_json);
}

#[test]
fn other_data_under_another_content_type_stays_json() {
    let event = read_one(r#""datacontenttype":"text/plain","data":{"a":1}"#).unwrap();
    assert_eq!(event.payload, r#"{"a":1}"#);
    assert!(event.payload_is_json);
}

#[test]
fn binary_data_is_decoded() {
    let event = read_one(r#""datacontenttype":"image/png","data_base64":"/wCA""#).unwrap();
    assert_eq!(event.payload.as_ref(), b"\xff\x00\x80");
    assert_eq!(event.content_type, "image/png");
    assert!(!event.payload_is_json);
    let event = read_one(r#""data_base64":"eyJhIjoxfQ==""#).unwrap();
    assert_eq!(event.payload, r#"{"a":1}"#);
    assert!(event.payload_is_json);
}

#[test]
fn what_is_no_cloudevent_is_rejected() {
    for (members, expected) in [
        (r#""x":1"#, RejectReason::NoPayload),
        (r#""data_base64":"no base64!""#, RejectReason::BadJson),
        (r#""data_base64":"=""#, RejectReason::BadJson),
        (r#""data_base64":7"#, RejectReason::BadJson),
        (r#""data_base64":"/wCA""#, RejectReason::BadJson),
        (r#""data":1,"specversion":"0.3""#, RejectReason::BadEnvelope),
        (r#""data":1,"type":null"#, RejectReason::NoType),
        (r#""data":1,"tenant":null"#, RejectReason::NoTenant),
        (r#""data":1,"time":"now""#, RejectReason::BadTime),
    ] {
        assert_eq!(read_one(members).unwrap_err().reason, expected, "{members}");
    }
    let settings = source(Format::CloudEvents);
    let without_version: &[u8] = br#"{"type":"a","tenant":"t","data":1}"#;
    assert_eq!(
        reason(&settings, &[("data", without_version)]),
        RejectReason::BadEnvelope
    );
}

#[test]
fn the_bound_is_on_the_decoded_bytes() {
    let members = |bytes: usize| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(vec![b'x'; bytes]);
        format!(r#""datacontenttype":"text/plain","data_base64":"{text}""#)
    };
    for bytes in [LIMIT - 2, LIMIT - 1, LIMIT] {
        assert_eq!(read_one(&members(bytes)).unwrap().payload.len(), bytes);
    }
    for bytes in [LIMIT + 1, LIMIT + 2] {
        let rejection = read_one(&members(bytes)).unwrap_err();
        assert_eq!(rejection.reason, RejectReason::PayloadTooLarge);
    }
}

#[test]
fn the_tenant_stands_in_an_attribute_of_the_platforms_choosing() {
    let mut settings = source(Format::CloudEvents);
    settings.tenant_attribute = "officeid".into();
    let text = event(r#""officeid":"o-1","data":1"#);
    let event = read(&settings, &[("data", text.as_bytes())]).unwrap();
    assert_eq!(event.tenant, "o-1");
}

proptest! {
    #[test]
    fn binary_data_of_any_bytes_is_kept(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let event = read_one(&format!(r#""datacontenttype":"a/b","data_base64":"{text}""#)).unwrap();
        prop_assert_eq!(event.payload.as_ref(), &bytes[..]);
    }
}
