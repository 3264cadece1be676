//! How a delivery looks.

use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Delivery;
use crate::cli::pretty::{body_lines, bounded, compact_json, escape_line, is_json};
use crate::cli::signature_check::Check;
use crate::clock::rfc3339_ms;

/// How much of a body is shown to people, in bytes.
const SHOWN_BODY: usize = 16 * 1024;

/// How much of a header is shown to people, in bytes.
const SHOWN_HEADER: usize = 256;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// A delivery for people, without a line end after it. Whatever the sender wrote is bounded and cannot drive the terminal.
pub fn as_text(delivery: &Delivery, answered: StatusCode, colours: bool) -> String {
    let paint = |text: String, colour: &str| {
        if colours {
            format!("{colour}{text}{PLAIN}")
        } else {
            text
        }
    };
    let header = |value: Option<&str>| escape_line(bounded(value.unwrap_or("-"), SHOWN_HEADER).0);
    let check = |name: &str, check: &Check| match check {
        Check::Unchecked => format!("{name} not verified"),
        Check::Missing => paint(format!("{name} missing"), RED),
        Check::Verified => paint(format!("{name} verified"), GREEN),
        Check::Failed(reason) => paint(format!("{name} WRONG: {}", header(Some(reason))), RED),
    };
    let attempt = delivery.attempt().map_or("-".to_owned(), |n| n.to_string());
    let colour = if answered.is_success() { GREEN } else { RED };
    let mut lines = vec![
        format!(
            "{}  {}  {} {}  answered {}",
            rfc3339_ms(delivery.at_ms),
            paint(header(delivery.event_type()), BOLD),
            delivery.method,
            header(Some(&delivery.path)),
            paint(answered.as_str().to_owned(), colour),
        ),
        format!(
            "  event {}  delivery {}  attempt {attempt}",
            header(delivery.event_id()),
            header(delivery.delivery_id()),
        ),
        format!(
            "  {}, {}",
            check("signature", &delivery.checks.signature),
            check("standard webhooks", &delivery.checks.standard),
        ),
    ];
    lines.extend(body_lines(&delivery.body, SHOWN_BODY));
    lines.join("\n")
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event_type: Option<&'a str>,
    event_id: Option<&'a str>,
    delivery_id: Option<&'a str>,
    attempt: Option<u32>,
    signature: &'static str,
    signature_error: Option<&'a str>,
    standard_webhooks: &'static str,
    standard_webhooks_error: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    content_type: Option<&'a str>,
    status: u16,
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Json(Box<RawValue>),
    Text(std::borrow::Cow<'a, str>),
}

/// A delivery as one line of JSON, without a line end after it. A JSON body stands in it as it came, but for the space
/// between its tokens; any other is a string.
pub fn as_json(delivery: &Delivery, answered: StatusCode) -> String {
    let json = std::str::from_utf8(&delivery.body)
        .ok()
        .filter(|text| is_json(text.as_bytes()))
        .and_then(|text| RawValue::from_string(compact_json(text)).ok());
    let body = match json {
        Some(json) => Body::Json(json),
        None => Body::Text(String::from_utf8_lossy(&delivery.body)),
    };
    let checks = &delivery.checks;
    let line = Line {
        time: rfc3339_ms(delivery.at_ms),
        event_type: delivery.event_type(),
        event_id: delivery.event_id(),
        delivery_id: delivery.delivery_id(),
        attempt: delivery.attempt(),
        signature: checks.signature.as_str(),
        signature_error: checks.signature.reason(),
        standard_webhooks: checks.standard.as_str(),
        standard_webhooks_error: checks.standard.reason(),
        method: delivery.method.as_str(),
        path: &delivery.path,
        content_type: delivery.content_type(),
        status: answered.as_u16(),
        body,
    };
    // Strings, numbers and valid JSON always serialise.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::cli::signature_check::Checks;

    fn delivery(body: &'static [u8]) -> Delivery {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-event-type", "crm.lead.created"),
            ("x-event-id", "evt_1"),
            ("x-delivery-id", "wh.abc"),
            ("x-delivery-attempt", "2"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Delivery {
            at_ms: 1_773_403_200_123,
            method: Method::POST,
            path: "/hook".to_owned(),
            headers,
            body: Bytes::from_static(body),
            checks: Checks {
                signature: Check::Verified,
                standard: Check::Failed("no signature fits".to_owned()),
            },
        }
    }

    #[test]
    fn people_see_what_came_and_whether_it_is_genuine() {
        let text = as_text(&delivery(br#"{"b":1,"a":[]}"#), StatusCode::OK, false);
        let expected = "2026-03-13T12:00:00.123Z  crm.lead.created  POST /hook  answered 200\n  event evt_1  delivery wh.abc  attempt 2\n  signature verified, standard webhooks WRONG: no signature fits\n  {\n    \"b\": 1,\n    \"a\": []\n  }";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_body_cannot_drive_the_terminal_nor_flood_it() {
        let text = as_text(&delivery(b"\x1b[2Jhi"), StatusCode::OK, false);
        assert!(text.ends_with("  \\u{1b}[2Jhi"), "{text}");
        let long: &'static [u8] = vec![b'a'; 1 << 20].leak();
        let text = as_text(&delivery(long), StatusCode::OK, false);
        assert!(text.len() < 2 * SHOWN_BODY);
        assert!(text.ends_with("… (the body has 1048576 bytes)"));
        let text = as_text(&delivery(b"\xff\xfe"), StatusCode::OK, false);
        assert!(text.ends_with("(2 bytes that are no text)"));
    }

    #[test]
    fn programs_get_one_line_with_the_body_as_it_came() {
        let json = as_json(&delivery(b"{\"b\": 1.0,\n \"a\": 2}"), StatusCode::OK);
        assert!(!json.contains('\n'));
        assert!(json.contains(r#""body":{"b":1.0,"a":2}"#), "{json}");
        assert!(json.contains(r#""signature":"verified""#), "{json}");
        assert!(json.contains(r#""attempt":2"#), "{json}");
        let json = as_json(&delivery(b"plain\n"), StatusCode::OK);
        assert!(json.contains(r#""body":"plain\n""#), "{json}");
    }
}
