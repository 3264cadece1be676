//! Where the parts of an event stand in the entries of a source.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::rejection::excerpt;
use super::{EntryId, Event, RejectReason, Rejection, cloudevents, fields, json, moment};
use crate::delivery::short_digest;
use crate::settings::{FieldNames, Format, SourceSettings};

/// Ids, types, tenants and content types become headers, and none of them needs more.
const LONGEST_PART: usize = 256;
/// What the types end with that are JSON too.
const JSON_SUFFIX: &str = "+json";

/// How the entries of one source are read.
#[derive(Clone, Debug)]
pub struct Layout {
    format: Format,
    /// Names of entry fields, or JSON pointers, as the format has it.
    names: FieldNames,
    envelope_field: String,
    tenant_attribute: String,
    constants: Fallbacks,
    defaults: Fallbacks,
    content_type: String,
    max_payload_bytes: usize,
}

#[derive(Clone, Debug)]
struct Fallbacks {
    event_type: Option<String>,
    tenant: Option<String>,
    id: Option<String>,
    content_type: Option<String>,
}

impl Fallbacks {
    fn new(values: &BTreeMap<String, String>) -> Self {
        let value = |key: &str| values.get(key).cloned();
        Fallbacks {
            event_type: value("type"),
            tenant: value("tenant"),
            id: value("id"),
            content_type: value("content_type"),
        }
    }
}

/// A part as the entry has it: nothing there, or a text.
pub(super) type Part = Option<String>;

/// The parts of an event as they were found, before constants, defaults and checks.
#[derive(Default)]
pub(super) struct Found {
    pub(super) id: Part,
    pub(super) event_type: Part,
    pub(super) tenant: Part,
    pub(super) time: Part,
    pub(super) content_type: Part,
    pub(super) body: Option<Body>,
}

/// A payload, and what is known about it.
pub(super) enum Body {
    /// One JSON value, known to be one.
    Json(Bytes),
    /// Whatever the content type says; JSON types are yet to be checked.
    Bytes(Bytes),
    /// A text inside a JSON text: a payload of its own where the content type is not JSON, or else
    /// the JSON string that it is written as.
    Text { json: Bytes, text: Bytes },
}

impl Layout {
    /// The layout of a source's entries, with the bound on their payloads.
    pub fn new(source: &SourceSettings, max_payload_bytes: usize) -> Layout {
        let names = match source.format {
            Format::Json => &source.pointers,
            Format::Fields | Format::CloudEvents => &source.fields,
        };
        Layout {
            format: source.format,
            names: names.clone(),
            envelope_field: source.field.clone(),
            tenant_attribute: source.tenant_attribute.clone(),
            constants: Fallbacks::new(&source.constants),
            defaults: Fallbacks::new(&source.defaults),
            content_type: source.content_type.clone(),
            max_payload_bytes,
        }
    }

    /// Reads an entry as an event.
    ///
    /// # Errors
    ///
    /// Says what is wrong with an entry that is no event.
    pub fn read(
        &self,
        stream: &Arc<str>,
        entry_id: EntryId,
        fields: &[(Bytes, Bytes)],
    ) -> Result<Event, Rejection> {
        let found = match self.format {
            Format::Fields => fields::find(&self.names, fields)?,
            Format::Json => {
                let envelope = self.envelope(fields)?;
                json_parts(&self.names, envelope)?
            }
            Format::CloudEvents => {
                let envelope = self.envelope(fields)?;
                cloudevents::find(&self.tenant_attribute, envelope, self.max_payload_bytes)?
            }
        };
        self.assemble(stream, entry_id, found)
    }

    fn envelope<'a>(&self, fields: &'a [(Bytes, Bytes)]) -> Result<&'a Bytes, Rejection> {
        fields::value(fields, &self.envelope_field).ok_or_else(|| {
            Rejection::new(
                RejectReason::BadEnvelope,
                format!(
                    "the entry has no field {}, which should hold the event",
                    excerpt(&self.envelope_field)
                ),
            )
        })
    }

    fn assemble(
        &self,
        stream: &Arc<str>,
        entry_id: EntryId,
        found: Found,
    ) -> Result<Event, Rejection> {
        let choose = |constant: &Option<String>, found: Part, default: &Option<String>| {
            constant.clone().or(found).or_else(|| default.clone())
        };
        let filled = |part: Part| part.filter(|text| !text.is_empty());
        let (constants, defaults) = (&self.constants, &self.defaults);

        let event_type = choose(
            &constants.event_type,
            filled(found.event_type),
            &defaults.event_type,
        )
        .ok_or_else(|| Rejection::new(RejectReason::NoType, "there is no event type"))?;
        check_part(&event_type, RejectReason::BadType, "event type")?;

        // An empty tenant is a mistake of the platform's, and must not reach the default tenant.
        let tenant = choose(&constants.tenant, found.tenant, &defaults.tenant)
            .ok_or_else(|| Rejection::new(RejectReason::NoTenant, "there is no tenant"))?;
        check_part(&tenant, RejectReason::BadTenant, "tenant")?;

        let id = match choose(&constants.id, filled(found.id), &defaults.id) {
            Some(id) => id,
            None => format!("evt_{}", short_digest(&[stream, &entry_id.text()])),
        };
        check_part(&id, RejectReason::BadId, "id")?;

        let time_ms = match filled(found.time) {
            None => entry_id.ms,
            Some(text) => moment::parse(&text).ok_or_else(|| {
                Rejection::new(
                    RejectReason::BadTime,
                    format!(
                        "the time {} is neither RFC 3339 nor a whole number of seconds or milliseconds \
                         since 1970",
                        excerpt(&text)
                    ),
                )
            })?,
        };

        let content_type = choose(
            &constants.content_type,
            filled(found.content_type),
            &defaults.content_type,
        )
        .unwrap_or_else(|| self.content_type.clone());
        check_content_type(&content_type)?;

        let body = found
            .body
            .ok_or_else(|| Rejection::new(RejectReason::NoPayload, "there is no payload"))?;
        let (payload, payload_is_json) = self.payload(body, &content_type)?;

        Ok(Event {
            id,
            event_type,
            tenant,
            time_ms,
            arrived_ms: entry_id.ms,
            stream: Arc::clone(stream),
            entry_id,
            content_type,
            payload,
            payload_is_json,
            enclosed: None,
        })
    }

    fn payload(&self, body: Body, content_type: &str) -> Result<(Bytes, bool), Rejection> {
        let json_type = is_json_type(content_type);
        let (payload, known_json) = match body {
            Body::Json(bytes) => (bytes, true),
            Body::Text { json, .. } if json_type => (json, true),
            Body::Text { text, .. } => (text, false),
            Body::Bytes(bytes) => (bytes, false),
        };
        check_size(payload.len(), self.max_payload_bytes)?;
        if json_type && !known_json && !json::is_json(&payload) {
            return Err(Rejection::new(
                RejectReason::BadJson,
                format!(
                    "the payload is not valid JSON, which its content type {} asks for",
                    excerpt(content_type)
                ),
            ));
        }
        Ok((payload, known_json || json_type))
    }
}

/// The parts of an envelope by JSON pointers; without a pointer to the payload the envelope is all of it.
fn json_parts(pointers: &FieldNames, envelope: &Bytes) -> Result<Found, Rejection> {
    let object = json::Object::read(envelope).ok_or_else(|| {
        Rejection::new(
            RejectReason::BadEnvelope,
            "the field that should hold the event holds no JSON object",
        )
    })?;
    let text = |pointer: &Option<String>, reason, what: &str| match pointer {
        None => Ok(None),
        Some(pointer) => scalar_part(object.point(pointer), reason, what),
    };
    let payload = match &pointers.payload {
        None => Some(envelope.clone()),
        Some(pointer) => object
            .point(pointer)
            .map(|value| envelope.slice_ref(value.as_bytes())),
    };
    Ok(Found {
        id: text(&pointers.id, RejectReason::BadId, "id")?,
        event_type: text(&pointers.event_type, RejectReason::BadType, "event type")?,
        tenant: text(&pointers.tenant, RejectReason::BadTenant, "tenant")?,
        time: text(&pointers.time, RejectReason::BadTime, "time")?,
        content_type: text(
            &pointers.content_type,
            RejectReason::BadContentType,
            "content type",
        )?,
        body: payload.map(Body::Json),
    })
}

/// A part that stands in JSON: a string or a whole number; `null` is as good as nothing.
pub(super) fn scalar_part(
    value: Option<&str>,
    reason: RejectReason,
    what: &str,
) -> Result<Part, Rejection> {
    match value {
        None => Ok(None),
        Some(value) => json::scalar(value).ok_or_else(|| {
            Rejection::new(
                reason,
                format!("the {what} is neither a string nor a whole number"),
            )
        }),
    }
}

pub(super) fn check_size(bytes: usize, most: usize) -> Result<(), Rejection> {
    if bytes <= most {
        return Ok(());
    }
    Err(Rejection::new(
        RejectReason::PayloadTooLarge,
        format!(
            "the payload has {bytes} bytes, more than the {most} that delivery.max_payload allows"
        ),
    ))
}

fn check_part(text: &str, reason: RejectReason, what: &str) -> Result<(), Rejection> {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if visible && (1..=LONGEST_PART).contains(&text.len()) {
        return Ok(());
    }
    Err(Rejection::new(
        reason,
        format!(
            "the {what} {} is not 1 to 256 visible ASCII characters",
            excerpt(text)
        ),
    ))
}

fn check_content_type(text: &str) -> Result<(), Rejection> {
    let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    if printable && (1..=LONGEST_PART).contains(&text.len()) && text.trim() == text {
        return Ok(());
    }
    Err(Rejection::new(
        RejectReason::BadContentType,
        format!(
            "the content type {} is not 1 to 256 printable ASCII characters",
            excerpt(text)
        ),
    ))
}

/// `application/json`, or anything that ends in `+json`, whatever its parameters.
fn is_json_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let suffix = essence.len().checked_sub(JSON_SUFFIX.len());
    // Where it is cut inside a character it does not end so.
    let suffix = suffix.and_then(|at| essence.get(at..));
    essence.eq_ignore_ascii_case("application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(JSON_SUFFIX))
}
