use super::*;
use crate::event::json::{Object, is_json, scalar};

const ENVELOPE: &str = r#"{ "id":"e-1", "type":"crm.lead.created", "tenant":42,
    "time": 1773403200, "data" :  {"b": 1.0, "a":[1,  2], "u":"\u00e9"} }"#;

#[test]
fn an_envelope_is_taken_apart_by_pointers_and_its_payload_is_its_own_bytes() {
    let event = read(&source(Format::Json), &[("data", ENVELOPE.as_bytes())]).unwrap();
    assert_eq!(event.id, "e-1");
    assert_eq!(event.event_type, "crm.lead.created");
    assert_eq!(event.tenant, "42");
    assert_eq!(event.time_ms, 1_773_403_200_000);
    assert_eq!(event.payload, r#"{"b": 1.0, "a":[1,  2], "u":"\u00e9"}"#);
    assert!(event.payload_is_json);
}

#[test]
fn pointers_go_into_objects_arrays_and_escaped_names() {
    let text = br#"{"a/b":{"~":[10,{"x":"deep"}]},"":1,"k":1,"k":2,"n":null}"#;
    let object = Object::read(text).unwrap();
    assert_eq!(object.point("/a~1b/~0/1/x"), Some("\"deep\""));
    assert_eq!(object.point("/a~1b/~0/0"), Some("10"));
    assert_eq!(object.point("/"), Some("1"));
    assert_eq!(object.point("/k"), Some("2"), "the last of two wins");
    assert_eq!(object.point("/n"), Some("null"));
    assert_eq!(object.point("").map(str::len), Some(text.len()));
    for pointer in [
        "k",
        "/x",
        "/a~1b/~0/2",
        "/a~1b/~0/01",
        "/a~1b/~0/-",
        "/k/x",
        "/a~1b/~0/1/x/y",
    ] {
        assert_eq!(object.point(pointer), None, "{pointer}");
    }
}

#[test]
fn a_nested_object_has_its_last_duplicate_too() {
    let object = Object::read(br#"{"a":{"k":1,"k":2}}"#).unwrap();
    assert_eq!(object.point("/a/k"), Some("2"));
}

#[test]
fn null_is_as_good_as_missing_and_other_kinds_are_wrong() {
    let mut settings = source(Format::Json);
    settings.defaults = pair("tenant", "default");
    let event = read(
        &settings,
        &[("data", br#"{"type":"a","tenant":null,"data":null}"#)],
    )
    .unwrap();
    assert_eq!(
        (&*event.tenant, &event.payload[..]),
        ("default", &b"null"[..])
    );
    for (text, expected) in [
        (r#"{"tenant":"t","data":1}"#, RejectReason::NoType),
        (
            r#"{"type":{},"tenant":"t","data":1}"#,
            RejectReason::BadType,
        ),
        (
            r#"{"type":"a","tenant":["t"],"data":1}"#,
            RejectReason::BadTenant,
        ),
        (r#"{"type":"a","id":true,"data":1}"#, RejectReason::BadId),
        (r#"{"type":"a","time":1.5,"data":1}"#, RejectReason::BadTime),
        (r#"{"type":"a\n","data":1}"#, RejectReason::BadType),
        (r#"{"type":"\ud800","data":1}"#, RejectReason::BadType),
        (r#"{"type":"a"}"#, RejectReason::NoPayload),
        (r#"[1]"#, RejectReason::BadEnvelope),
        (r#"{"type":"a","data":1"#, RejectReason::BadEnvelope),
        ("", RejectReason::BadEnvelope),
    ] {
        assert_eq!(
            reason(&settings, &[("data", text.as_bytes())]),
            expected,
            "{text}"
        );
    }
    assert_eq!(
        reason(&settings, &[("other", b"{}")]),
        RejectReason::BadEnvelope
    );
}

#[test]
fn without_a_pointer_to_the_payload_the_envelope_is_the_payload() {
    let mut settings = source(Format::Json);
    settings.pointers.payload = None;
    let event = read(&settings, &[("data", ENVELOPE.as_bytes())]).unwrap();
    assert_eq!(event.payload, ENVELOPE);
}

#[test]
fn the_bound_is_on_the_payload_and_not_on_the_envelope() {
    let settings = source(Format::Json);
    let envelope = |payload: usize| {
        format!(
            r#"{{"type":"a","tenant":"t","x":"{}","data":"{}"}}"#,
            "y".repeat(2 * LIMIT),
            "z".repeat(payload - 2)
        )
    };
    assert!(read(&settings, &[("data", envelope(LIMIT).as_bytes())]).is_ok());
    assert_eq!(
        reason(&settings, &[("data", envelope(LIMIT + 1).as_bytes())]),
        RejectReason::PayloadTooLarge
    );
}

#[test]
fn nesting_of_any_depth_neither_overflows_nor_is_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(is_json(deep.as_bytes()));
    let object = format!(r#"{{"a":{deep}}}"#);
    assert!(Object::read(object.as_bytes()).is_some_and(|object| object.point("/a/0/0").is_some()));
}

#[test]
fn scalars_are_strings_and_whole_numbers() {
    assert_eq!(scalar(r#""a\u0062""#), Some(Some("ab".into())));
    assert_eq!(scalar("-12"), Some(Some("-12".into())));
    assert_eq!(scalar("null"), Some(None));
    for text in ["1.0", "1e5", "true", "[]", "{}"] {
        assert_eq!(scalar(text), None, "{text}");
    }
}

fn json_texts() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,3})?(e[0-9])?",
        "\"([a-z ]|\\\\u00e9|\\\\n|é)*\"",
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..4), "[ \n]{0,2}").prop_map(
                |(items, space)| format!("[{space}{}{space}]", items.join(&format!(",{space}")))
            ),
            (
                prop::collection::vec(("[a-z]{0,3}", inner), 0..4),
                "[ \t]{0,2}"
            )
                .prop_map(|(items, space)| {
                    let members: Vec<String> = items
                        .iter()
                        .map(|(key, value)| format!("\"{key}\"{space}:{space}{value}"))
                        .collect();
                    format!("{{{space}{}}}", members.join(&format!("{space},")))
                }),
        ]
    })
}

proptest! {
    #[test]
    fn the_payload_of_an_envelope_is_the_very_slice_of_the_entry(
        payload in json_texts(),
        before in "[ \n]{0,3}",
        after in json_texts(),
    ) {
        let start = format!(r#"{{"type":"a","tenant":"t",{before}"data":{before}"#);
        let envelope = format!(r#"{start}{payload}{before},"more":{after}}}"#);
        let bytes = Bytes::from(envelope);
        let fields = vec![(Bytes::from_static(b"data"), bytes.clone())];
        let event = Layout::new(&source(Format::Json), 1 << 20).read(&"s".into(), ENTRY, &fields).unwrap();
        prop_assert_eq!(&event.payload, &payload);
        prop_assert_eq!(event.payload.as_ptr(), bytes[start.len()..].as_ptr());
    }

    #[test]
    fn what_is_json_agrees_with_a_whole_parse(text in prop_oneof![json_texts(), "[\\[\\]{}\",:0-9a-z ]{0,12}"]) {
        let parsed = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        prop_assert_eq!(is_json(text.as_bytes()), parsed);
    }

    #[test]
    fn pointers_agree_with_the_librarys_own(
        text in json_texts(),
        tokens in prop::collection::vec("[a-z]{0,3}|[0-3]", 0..4),
    ) {
        let text = format!(r#"{{"a":{text}}}"#);
        let pointer: String = std::iter::once("a").chain(tokens.iter().map(String::as_str))
            .map(|token| format!("/{token}")).collect();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let found = Object::read(text.as_bytes()).unwrap().point(&pointer)
            .map(|part| serde_json::from_str::<serde_json::Value>(part).unwrap());
        prop_assert_eq!(found.as_ref(), value.pointer(&pointer));
    }
}
