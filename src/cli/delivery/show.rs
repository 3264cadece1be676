//! Deliveries as they are printed.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::pretty::{body_lines, escape_line};
use crate::cli::table::{Table, field};

/// How much of a payload, and of an answer, is shown to people, in bytes.
const SHOWN_BODY: usize = 16 * 1024;

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_default()
}

fn number(of: &Value) -> String {
    match of {
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// A time in milliseconds, with its unit; "-" if it is not known.
pub fn milliseconds(of: &Value) -> String {
    match of.as_f64() {
        None => "-".to_owned(),
        Some(ms) if ms < 9.95 && ms.fract() != 0.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

/// What an attempt's time went to, in brackets; empty if nothing is known.
pub fn phases(of: &Value) -> String {
    let names = [
        ("dns", "dnsMs"),
        ("connect", "connectMs"),
        ("tls", "tlsMs"),
        ("first byte", "firstByteMs"),
    ];
    let known = names.iter().filter(|(_, name)| !of[*name].is_null());
    let known: Vec<String> = known
        .map(|(shown, name)| format!("{shown} {}", milliseconds(&of[*name])))
        .collect();
    match known.is_empty() {
        true => String::new(),
        false => format!(" ({})", known.join(", ")),
    }
}

/// Prints a list of deliveries; whether there are any.
pub fn list(deliveries: &Value, out: &mut dyn Write) -> io::Result<bool> {
    let mut table = Table::new(&[
        ("CREATED", 24),
        ("STATUS", 8),
        ("TRIES", 6),
        ("ANSWER", 6),
        ("EVENT", 32),
        ("DELIVERY", 60),
        ("NEXT TRY", 24),
        ("ERROR", 60),
    ]);
    for delivery in deliveries.as_array().into_iter().flatten() {
        let or_dash = |name: &str| match text(delivery, name) {
            "" => "-".to_owned(),
            text => text.to_owned(),
        };
        table.row([
            or_dash("createdAt"),
            or_dash("status"),
            number(&delivery["attemptCount"]),
            number(&delivery["statusCode"]),
            or_dash("event"),
            or_dash("id"),
            or_dash("nextRetryAt"),
            text(delivery, "errorMessage").to_owned(),
        ]);
    }
    table.print(out)?;
    Ok(!table.is_empty())
}

/// The payload of a delivery, token by token as the API wrote it: a number keeps its digits.
#[derive(Default, Deserialize)]
struct Verbatim<'a> {
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// Prints all that is known of a delivery; `as_it_came` is the same, unread.
pub fn whole(delivery: &Value, as_it_came: &str, out: &mut dyn Write) -> io::Result<()> {
    for (head, name) in [
        ("delivery", "id"),
        ("webhook", "webhookId"),
        ("event", "event"),
        ("event id", "eventId"),
        ("status", "status"),
        ("reason", "reason"),
        ("created", "createdAt"),
        ("finished", "finishedAt"),
        ("next try", "nextRetryAt"),
        ("kept until", "expiresAt"),
        ("error", "errorMessage"),
    ] {
        if !text(delivery, name).is_empty() {
            field(out, head, text(delivery, name))?;
        }
    }
    field(out, "tries", &number(&delivery["attemptCount"]))?;
    let verbatim: Verbatim<'_> = serde_json::from_str(as_it_came).unwrap_or_default();
    match (&delivery["payload"], verbatim.payload) {
        (Value::Null, _) | (_, None) => field(out, "payload", "(not kept)")?,
        (payload @ Value::String(_), _) => {
            field(out, "payload", "")?;
            body(payload, out)?;
        }
        (_, Some(payload)) => {
            field(out, "payload", "")?;
            for line in body_lines(payload.get().as_bytes(), SHOWN_BODY) {
                writeln!(out, "{line}")?;
            }
        }
    }
    for attempt in delivery["attempts"].as_array().into_iter().flatten() {
        writeln!(out)?;
        let answer = match attempt["statusCode"].as_u64() {
            Some(status) => format!("answered {status}"),
            None => "no answer".to_owned(),
        };
        let line = format!(
            "{} {}, {answer}, {}{}",
            number(&attempt["number"]),
            text(attempt, "startedAt"),
            milliseconds(&attempt["durationMs"]),
            phases(&attempt["phases"])
        );
        field(out, "try", &line)?;
        if !text(attempt, "errorMessage").is_empty() {
            field(out, "error", text(attempt, "errorMessage"))?;
        }
        let headers = attempt["requestHeaders"].as_object().into_iter().flatten();
        for (name, value) in headers {
            let value = value.as_str().unwrap_or_default();
            writeln!(out, "  {}", escape_line(&format!("{name}: {value}")))?;
        }
        match &attempt["responseBody"] {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            answer => {
                field(out, "answer", "")?;
                body(answer, out)?;
            }
        }
    }
    Ok(())
}

fn body(value: &Value, out: &mut dyn Write) -> io::Result<()> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for line in body_lines(text.as_bytes(), SHOWN_BODY) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(print: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        print(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_list_has_a_line_for_each_delivery_and_nothing_in_it_drives_the_terminal() {
        let deliveries = json!([
            {"id": "w.1", "status": "FAILED", "attemptCount": 3, "statusCode": 500, "event": "a.b",
             "createdAt": "2026-03-13T12:00:00.000Z", "errorMessage": "answered \u{1b}[2J"},
            {"id": "w.2", "surprise": true},
        ]);
        let text = printed(|out| assert!(list(&deliveries, out).unwrap()));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].ends_with("answered \\u{1b}[2J"), "{text}");
        assert!(lines[2].starts_with("-  "), "{text}");
    }

    #[test]
    fn a_delivery_is_shown_with_each_attempt() {
        let delivery = json!({
            "id": "w.1", "status": "SUCCESS", "attemptCount": 1, "payload": {"n": 1},
            "attempts": [{"number": 1, "startedAt": "2026-03-13T12:00:00.000Z", "statusCode": 200,
                "durationMs": 12, "phases": {"dnsMs": 0.4, "connectMs": 1, "tlsMs": null, "firstByteMs": 10},
                "requestHeaders": {"x-signature": "***"}, "responseBody": "ok"}],
        });
        let text = printed(|out| whole(&delivery, &delivery.to_string(), out).unwrap());
        for line in [
            "try              1 2026-03-13T12:00:00.000Z, answered 200, 12 ms (dns 0.4 ms, connect 1 ms, first byte 10 ms)",
            "  x-signature: ***",
            "    \"n\": 1",
            "  ok",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
