//! Dead letters as they are printed.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::cli::pretty::{body_lines, bounded, escape_line};
use crate::clock::rfc3339_ms;
use crate::store::dead::DeadLetter;

/// How much of a payload, and of an answer, is shown to people, in bytes.
const SHOWN_BODY: usize = 16 * 1024;
/// How much of an error stands in a table, in bytes.
const SHOWN_ERROR: usize = 80;

/// A dead letter in a JSON list.
#[derive(Serialize)]
struct Row<'a> {
    delivery_id: &'a str,
    webhook_id: &'a str,
    webhook_exists: bool,
    tenant: &'a str,
    event_id: &'a str,
    event_type: &'a str,
    reason: &'static str,
    attempts: u32,
    last_status: Option<u16>,
    last_error: &'a str,
    at: String,
    event_at: String,
    first_attempt_at: Option<String>,
    last_attempt_at: Option<String>,
    stream: &'a str,
    entry_id: String,
    content_type: &'a str,
    payload_size: usize,
}

/// A dead letter with its payload, which is text or base64 of what is no text; so is the answer.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_answer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_answer_base64: Option<String>,
}

fn moment(unix_ms: u64) -> Option<String> {
    (unix_ms > 0).then(|| rfc3339_ms(unix_ms))
}

fn row(letter: &DeadLetter, webhook_exists: bool) -> Row<'_> {
    let (event, ending) = (&*letter.event, &letter.ending);
    Row {
        delivery_id: &ending.delivery_id,
        webhook_id: &ending.webhook_id,
        webhook_exists,
        tenant: &event.tenant,
        event_id: &event.id,
        event_type: &event.event_type,
        reason: ending.reason.as_str(),
        attempts: ending.tries.attempts,
        last_status: ending.tries.last_status,
        last_error: &ending.tries.last_error,
        at: rfc3339_ms(ending.at_ms),
        event_at: rfc3339_ms(event.time_ms),
        first_attempt_at: moment(ending.tries.first_attempt_ms),
        last_attempt_at: moment(ending.tries.last_attempt_ms),
        stream: &event.stream,
        entry_id: event.entry_id.to_string(),
        content_type: &event.content_type,
        payload_size: event.payload.len(),
    }
}

fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// A dead letter as one JSON object, without its payload.
pub fn as_json(letter: &DeadLetter, webhook_exists: bool) -> serde_json::Result<String> {
    serde_json::to_string(&row(letter, webhook_exists))
}

/// A dead letter as one JSON object, with its whole payload.
pub fn as_whole_json(letter: &DeadLetter, webhook_exists: bool) -> serde_json::Result<String> {
    let (payload, payload_base64) = text_or_base64(&letter.event.payload);
    let (last_answer, last_answer_base64) = text_or_base64(&letter.ending.answer);
    serde_json::to_string_pretty(&Whole {
        row: row(letter, webhook_exists),
        payload,
        payload_base64,
        last_answer,
        last_answer_base64,
    })
}

/// The head of the table.
pub fn table_head() -> String {
    line([
        "AT", "REASON", "TRIES", "STATUS", "TYPE", "DELIVERY", "ERROR",
    ])
}

/// A dead letter as a line of the table.
pub fn table_line(letter: &DeadLetter) -> String {
    let (event, ending) = (&*letter.event, &letter.ending);
    let status = ending.tries.last_status;
    let error = escape_line(bounded(&ending.tries.last_error, SHOWN_ERROR).0);
    line([
        &rfc3339_ms(ending.at_ms),
        ending.reason.as_str(),
        &ending.tries.attempts.to_string(),
        &status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
        &escape_line(&event.event_type),
        &escape_line(&ending.delivery_id),
        &error,
    ])
}

/// Widths are fixed, as lines are printed before later ones are known.
fn line([at, reason, tries, status, event_type, delivery, error]: [&str; 7]) -> String {
    let line = format!(
        "{at:<24}  {reason:<10}  {tries:>5}  {status:>6}  {event_type:<24}  {delivery:<36}  {error}"
    );
    line.trim_end().to_owned()
}

/// All that is known of a dead letter, for people.
///
/// # Errors
///
/// `out` cannot be written to.
pub fn whole(letter: &DeadLetter, webhook_exists: bool, out: &mut dyn Write) -> io::Result<()> {
    let (event, ending) = (&*letter.event, &letter.ending);
    let tries = &ending.tries;
    let mut field = |name: &str, value: String| writeln!(out, "{name:<13}{}", escape_line(&value));
    field("delivery", ending.delivery_id.clone())?;
    let gone = if webhook_exists { "" } else { " (deleted)" };
    field("webhook", format!("{}{gone}", ending.webhook_id))?;
    field("tenant", event.tenant.clone())?;
    field("event", format!("{}, {}", event.event_type, event.id))?;
    field("event at", rfc3339_ms(event.time_ms))?;
    field(
        "entry",
        format!("{} of the stream {}", event.entry_id, event.stream),
    )?;
    let reason = ending.reason;
    field("given up", rfc3339_ms(ending.at_ms))?;
    field("reason", format!("{reason}: {}", reason.describe()))?;
    let mut attempts = tries.attempts.to_string();
    for (word, at_ms) in [
        ("first", tries.first_attempt_ms),
        ("last", tries.last_attempt_ms),
    ] {
        if let Some(at) = moment(at_ms) {
            attempts.push_str(&format!(", {word} at {at}"));
        }
    }
    field("attempts", attempts)?;
    if let Some(status) = tries.last_status {
        field("last status", status.to_string())?;
    }
    if !tries.last_error.is_empty() {
        field("last error", tries.last_error.clone())?;
    }
    let size = event.payload.len();
    field("payload", format!("{size} bytes of {}", event.content_type))?;
    for line in body_lines(&event.payload, SHOWN_BODY) {
        writeln!(out, "{line}")?;
    }
    if !ending.answer.is_empty() {
        writeln!(out, "last answer  its first {} bytes", ending.answer.len())?;
        for line in body_lines(&ending.answer, SHOWN_BODY) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
