//! Rejected entries as they are printed.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::pretty::{body_lines, escape_line};
use crate::clock::rfc3339_ms;
use crate::store::rejected::Rejected;

/// How much of a field is shown to people, in bytes.
const SHOWN_FIELD: usize = 16 * 1024;

/// A rejected entry in a JSON list.
#[derive(Serialize)]
struct Row<'a> {
    id: String,
    at: String,
    source: &'a str,
    stream: &'a str,
    entry_id: &'a str,
    reason: &'a str,
    detail: &'a str,
    size: usize,
}

/// A rejected entry with its fields: each name's value is text, or `{"base64": …}` of what is no text.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    fields: Map<String, Value>,
}

/// What an entry takes in memory, about.
pub fn size(fields: &[(Bytes, Bytes)]) -> usize {
    fields
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

fn row(rejected: &Rejected) -> Row<'_> {
    Row {
        id: rejected.id.to_string(),
        at: rfc3339_ms(rejected.id.ms),
        source: &rejected.source,
        stream: &rejected.stream,
        entry_id: &rejected.entry_id,
        reason: &rejected.reason,
        detail: &rejected.detail,
        size: size(&rejected.fields),
    }
}

/// A rejected entry as one JSON object, without its fields.
pub fn as_json(rejected: &Rejected) -> serde_json::Result<String> {
    serde_json::to_string(&row(rejected))
}

/// A rejected entry as one JSON object, with its fields.
pub fn as_whole_json(rejected: &Rejected) -> serde_json::Result<String> {
    let field = |(name, value): &(Bytes, Bytes)| {
        let value = match std::str::from_utf8(value) {
            Ok(text) => Value::from(text),
            Err(_) => serde_json::json!({ "base64": STANDARD.encode(value) }),
        };
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    serde_json::to_string_pretty(&Whole {
        row: row(rejected),
        fields: rejected.fields.iter().map(field).collect(),
    })
}

/// The head of the table.
pub fn table_head() -> String {
    line(["ID", "AT", "SOURCE", "ENTRY", "REASON", "DETAIL"])
}

/// A rejected entry as a line of the table.
pub fn table_line(rejected: &Rejected) -> String {
    line([
        &rejected.id.to_string(),
        &rfc3339_ms(rejected.id.ms),
        &escape_line(&rejected.source),
        &escape_line(&rejected.entry_id),
        &escape_line(&rejected.reason),
        &escape_line(&rejected.detail),
    ])
}

/// Widths are fixed, as lines are printed before later ones are known.
fn line([id, at, source, entry, reason, detail]: [&str; 6]) -> String {
    let line = format!("{id:<17}  {at:<24}  {source:<16}  {entry:<17}  {reason:<17}  {detail}");
    line.trim_end().to_owned()
}

/// All that is known of a rejected entry, for people.
///
/// # Errors
///
/// `out` cannot be written to.
pub fn whole(rejected: &Rejected, out: &mut dyn Write) -> io::Result<()> {
    let mut field = |name: &str, value: &str| writeln!(out, "{name:<10}{}", escape_line(value));
    field("id", &rejected.id.to_string())?;
    field("rejected", &rfc3339_ms(rejected.id.ms))?;
    field("source", &rejected.source)?;
    let entry = format!("{} of the stream {}", rejected.entry_id, rejected.stream);
    field("entry", &entry)?;
    field(
        "reason",
        &format!("{}: {}", rejected.reason, rejected.detail),
    )?;
    for (name, value) in &rejected.fields {
        let name = escape_line(&String::from_utf8_lossy(name));
        writeln!(out, "field {name}, {} bytes", value.len())?;
        for line in body_lines(value, SHOWN_FIELD) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
