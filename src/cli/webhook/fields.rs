//! A webhook's fields on the command line, and as the API takes them.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::cli::trouble::Trouble;
use crate::exit::Exit;
use crate::settings::units::parse_duration;

/// The most that is read of a file with fields, in bytes.
const MOST_FIELDS: usize = 1 << 20;

/// The fields of a webhook that can be given.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FieldArgs {
    /// Its name, for people
    #[arg(long)]
    name: Option<String>,

    /// The URL that its deliveries go to
    #[arg(long, value_name = "URL")]
    target: Option<String>,

    /// An event type that it wants, or a pattern such as 'crm.lead.*'; may be given more than once
    #[arg(long, value_name = "TYPE")]
    event: Vec<String>,

    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// A header of each delivery, as 'name: value'; may be given more than once
    #[arg(long, value_name = "HEADER", value_parser = header)]
    header: Vec<(String, String)>,

    /// Have it get nothing for now
    #[arg(long)]
    inactive: bool,

    /// Deliveries a second at most, such as 20 or 0.5
    #[arg(long, value_name = "PER_SECOND")]
    rate_limit: Option<f64>,

    /// How many deliveries may go out at once after a pause, with --rate-limit
    #[arg(long, value_name = "N", requires = "rate_limit")]
    burst: Option<u64>,

    /// Deliveries on the wire at the same time at most
    #[arg(long, value_name = "N")]
    max_in_flight: Option<u64>,

    /// How long an attempt may take, such as 10s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,

    /// none, or fifo: one delivery at a time, in order
    #[arg(long, value_name = "ORDER")]
    ordering: Option<String>,

    /// envelope, or payload: the platform's bytes alone
    #[arg(long, value_name = "MODE")]
    body_mode: Option<String>,

    /// How deliveries are signed: timestamped, sha256 or hex
    #[arg(long, value_name = "SCHEME")]
    signature_scheme: Option<String>,

    /// A file with fields as a JSON object, as the API takes them, such as retry; "-" reads standard input. The options lie over it
    #[arg(long, value_name = "FILE")]
    fields: Option<String>,
}

fn header(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("it must be a name, a colon and a value"),
    }
}

impl FieldArgs {
    /// The body of a request: an object with what was given.
    ///
    /// # Errors
    ///
    /// The file of fields cannot be read, or is no JSON object.
    pub fn body(&self) -> Result<Value, Trouble> {
        let mut body = match &self.fields {
            Some(file) => fields_of(file)?,
            None => Map::new(),
        };
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        set("name", text(&self.name));
        set("url", text(&self.target));
        set("description", text(&self.description));
        set("ordering", text(&self.ordering));
        set("bodyMode", text(&self.body_mode));
        set("signatureScheme", text(&self.signature_scheme));
        set("maxInFlight", self.max_in_flight.map(Value::from));
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        set("timeoutMs", self.timeout.map(|time| ms(time).into()));
        set("isActive", self.inactive.then_some(false.into()));
        set(
            "events",
            (!self.event.is_empty()).then(|| self.event.clone().into()),
        );
        let headers = self.header.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.as_str().into()));
        set(
            "headers",
            (!self.header.is_empty()).then(|| Value::Object(headers.collect())),
        );
        set(
            "rateLimit",
            self.rate_limit.map(|per_second| {
                let mut limit = json!({ "perSecond": per_second });
                if let Some(burst) = self.burst {
                    limit["burst"] = burst.into();
                }
                limit
            }),
        );
        Ok(Value::Object(body))
    }
}

fn fields_of(file: &str) -> Result<Map<String, Value>, Trouble> {
    let text = read(file, MOST_FIELDS)?;
    match serde_json::from_slice::<Value>(&text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Trouble::new(
            Exit::Data,
            format!("what is in {file} is no JSON object"),
        )),
        // The reason tells the place, and nothing of what stands there.
        Err(error) => Err(Trouble::new(
            Exit::Data,
            format!("what is in {file} is no JSON: {error}"),
        )),
    }
}

/// Reads a file, or standard input for "-".
fn read(file: &str, most: usize) -> Result<Vec<u8>, Trouble> {
    let trouble = |error: std::io::Error| {
        let what = if file == "-" { "standard input" } else { file };
        Trouble::new(Exit::NoInput, format!("cannot read {what}: {error}"))
    };
    let input: Box<dyn std::io::Read> = match file {
        "-" => Box::new(std::io::stdin().lock()),
        _ => Box::new(std::fs::File::open(file).map_err(trouble)?),
    };
    let mut bytes = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    input.take(bound).read_to_end(&mut bytes).map_err(trouble)?;
    if bytes.len() > most {
        let message = format!("what is in {file} is larger than {most} bytes");
        return Err(Trouble::new(Exit::Data, message));
    }
    Ok(bytes)
}

/// The secret in a file, as a JSON text.
///
/// # Errors
///
/// The file cannot be read, or is no text.
pub fn secret_of(file: Option<&Path>) -> Result<Option<Value>, Trouble> {
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file).map_err(|error| {
        let file = file.display();
        Trouble::new(
            Exit::NoInput,
            format!("cannot read the secret in {file}: {error}"),
        )
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Some(text.into()))
}

/// A payload of the command line, "-" for standard input: valid JSON, byte for byte.
///
/// # Errors
///
/// It cannot be read, is too large, or is no JSON.
pub fn payload(given: &str, most: usize) -> Result<Box<RawValue>, Trouble> {
    let text = match given {
        "-" => String::from_utf8(read("-", most)?)
            .map_err(|_| Trouble::new(Exit::Data, "the payload is no text"))?,
        text => text.to_owned(),
    };
    RawValue::from_string(text.trim().to_owned())
        .map_err(|error| Trouble::new(Exit::Data, format!("the payload is no JSON: {error}")))
}

/// An object with `payload` added as it is written.
pub fn with_payload(object: &Value, payload: &RawValue) -> String {
    let text = object.to_string();
    let open = text.strip_suffix('}').unwrap_or(&text);
    let comma = if open.len() > 1 { "," } else { "" };
    format!("{open}{comma}\"payload\":{}}}", payload.get())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn body(arguments: &[&str]) -> Value {
        let command = FieldArgs::augment_args(clap::Command::new("x").no_binary_name(true));
        let matches = command.try_get_matches_from(arguments).unwrap();
        FieldArgs::from_arg_matches(&matches)
            .unwrap()
            .body()
            .unwrap()
    }

    #[test]
    fn only_what_is_given_is_sent() {
        assert_eq!(body(&[]), json!({}));
        assert_eq!(
            body(&[
                "--name",
                "ERP",
                "--event",
                "a.b",
                "--event",
                "c.*",
                "--header",
                "X-Team: a: b",
                "--rate-limit",
                "0.5",
                "--burst",
                "3",
                "--timeout",
                "2s",
                "--inactive",
            ]),
            json!({
                "name": "ERP", "events": ["a.b", "c.*"], "headers": {"X-Team": "a: b"},
                "rateLimit": {"perSecond": 0.5, "burst": 3}, "timeoutMs": 2000, "isActive": false,
            })
        );
    }

    #[test]
    fn options_lie_over_the_file_of_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fields.json");
        std::fs::write(&path, r#"{"name":"a","retry":{"maxAttempts":3}}"#).unwrap();
        assert_eq!(
            body(&["--fields", path.to_str().unwrap(), "--name", "b"]),
            json!({"name": "b", "retry": {"maxAttempts": 3}})
        );
    }

    #[test]
    fn a_payload_is_sent_as_it_is_written() {
        let raw = payload(r#" { "n": 1.50 } "#, 100).unwrap();
        assert_eq!(
            with_payload(&json!({}), &raw),
            r#"{"payload":{ "n": 1.50 }}"#
        );
        assert_eq!(
            with_payload(&json!({"event": "a}"}), &raw),
            r#"{"event":"a}","payload":{ "n": 1.50 }}"#
        );
        assert_eq!(payload("{", 100).unwrap_err().exit, Exit::Data);
    }
}
