//! The fields of an entry that says what an event says, in the layout of its source: the reverse of [`Layout`].
//!
//! For those who add events on the platform's behalf. Nothing is to be added that Pombo would read as another event than
//! the one that was asked for, so what is composed is read back before it is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{EntryId, Event, Layout, Rejection};
use crate::settings::{FieldNames, Format, SourceSettings};

mod glob;

/// The parts of an event to be added.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Its type.
    pub event_type: &'a str,
    /// Its tenant, if it was given.
    pub tenant: Option<&'a str>,
    /// Its id, if it was given.
    pub id: Option<&'a str>,
    /// An id for layouts that cannot do without one, if none was given.
    pub fallback_id: &'a str,
    /// When it happened, in RFC 3339, if it was given.
    pub time: Option<&'a str>,
    /// Its payload: JSON, unless the format is `fields` and the content type is another.
    pub payload: &'a [u8],
}

/// Why parts cannot be made an entry of a source, in plain words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(String);

/// An entry to be added.
#[derive(Debug, Clone)]
pub struct Composed {
    /// Its fields, in order.
    pub fields: Vec<(String, Vec<u8>)>,
    layout: Layout,
    stream: Arc<str>,
}

impl Composed {
    /// The event as it will be read once the entry has this id: an event without an id of its own gets one made from it.
    ///
    /// # Errors
    ///
    /// What keeps Pombo from reading it; nothing once [`compose`] has returned it.
    pub fn event(&self, entry_id: EntryId) -> Result<Event, Rejection> {
        let fields: Vec<(Bytes, Bytes)> = self
            .fields
            .iter()
            .map(|(name, value)| (Bytes::from(name.clone()), Bytes::from(value.clone())))
            .collect();
        self.layout.read(&self.stream, entry_id, &fields)
    }
}

/// The entry of `source` that says what `parts` say, and the event as Pombo would read it if it were added to `stream`
/// now.
///
/// # Errors
///
/// A part has no place in this layout; the source would reject the entry, or would read another type, tenant or id than
/// was asked for, because its settings have a constant.
pub fn compose(
    source: &SourceSettings,
    max_payload: usize,
    stream: &Arc<str>,
    parts: &Parts<'_>,
    now_ms: u64,
) -> Result<(Composed, Event), Unfit> {
    let composed = Composed {
        fields: fields(source, parts).map_err(Unfit)?,
        layout: Layout::new(source, max_payload),
        stream: stream.clone(),
    };
    let entry_id = EntryId { ms: now_ms, seq: 0 };
    let event = composed.event(entry_id).map_err(|rejection| {
        let detail = &rejection.detail;
        Unfit(format!(
            "the source {:?} would reject it: {detail}",
            source.name
        ))
    })?;
    check_same(parts, &event, &source.name).map_err(Unfit)?;
    Ok((composed, event))
}

/// Whether the event says what was asked for, and not what a constant or a default of its source says.
fn check_same(parts: &Parts<'_>, event: &Event, source: &str) -> Result<(), String> {
    for (what, asked, found) in [
        ("type", Some(parts.event_type), &event.event_type),
        ("tenant", parts.tenant, &event.tenant),
        ("id", parts.id, &event.id),
    ] {
        if let Some(asked) = asked
            && asked != found
        {
            return Err(format!(
                "an event of the source {source:?} would have the {what} {found:?} and not {asked:?}: the layout in the \
                 settings has a constant, or no place, for the {what}"
            ));
        }
    }
    Ok(())
}

/// Whether the layout of a source has a place for an event's own id.
pub fn has_place_for_id(source: &SourceSettings) -> bool {
    match source.format {
        Format::Fields => source.fields.id.is_some(),
        Format::Json => source.pointers.id.is_some(),
        Format::CloudEvents => true,
    }
}

/// Whether entries of `stream` are events of `source`: it is the source's own stream, or matches its glob.
pub fn reads(source: &SourceSettings, stream: &str) -> bool {
    if source.is_glob() {
        glob::matches(&source.stream, stream)
    } else {
        source.stream == stream
    }
}

/// The fields of the entry, in order.
fn fields(source: &SourceSettings, parts: &Parts<'_>) -> Result<Vec<(String, Vec<u8>)>, String> {
    match source.format {
        Format::Fields => plain(&source.fields, parts),
        Format::Json => {
            let envelope = json(&source.pointers, parts)?;
            Ok(vec![(source.field.clone(), envelope.into_bytes())])
        }
        Format::CloudEvents => {
            let envelope = cloud_event(&source.tenant_attribute, parts)?;
            Ok(vec![(source.field.clone(), envelope.into_bytes())])
        }
    }
}

/// Where each part but the payload goes. A part without a place is left out: the event that is read from the entry shows
/// whether a constant or a default says the same.
fn places<'a>(
    names: &'a FieldNames,
    parts: &Parts<'a>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let given = [
        (&names.event_type, Some(parts.event_type)),
        (&names.tenant, parts.tenant),
        (&names.id, parts.id),
        (&names.time, parts.time),
    ];
    given
        .into_iter()
        .filter_map(|(name, part)| Some((name.as_deref()?, part?)))
}

fn plain(names: &FieldNames, parts: &Parts<'_>) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut fields: Vec<(String, Vec<u8>)> = places(names, parts)
        .map(|(name, part)| (name.to_owned(), part.as_bytes().to_vec()))
        .collect();
    let payload = names
        .payload
        .clone()
        .ok_or("the source has no field for a payload")?;
    fields.push((payload, parts.payload.to_vec()));
    Ok(fields)
}

fn payload_text<'a>(parts: &Parts<'a>) -> Result<&'a RawValue, String> {
    serde_json::from_slice(parts.payload).map_err(|error| {
        format!(
            "the payload is not valid JSON (line {}, column {}), which the format of the source asks for",
            error.line(),
            error.column()
        )
    })
}

fn json(pointers: &FieldNames, parts: &Parts<'_>) -> Result<String, String> {
    let mut envelope = Node::Object(BTreeMap::new());
    let payload = payload_text(parts)?.get().to_owned();
    // The payload first: other pointers may lead into it.
    envelope.put(
        pointers.payload.as_deref().unwrap_or(""),
        Node::Raw(payload),
    )?;
    for (pointer, part) in places(pointers, parts) {
        envelope.put(pointer, Node::Raw(quoted(part)))?;
    }
    Ok(envelope.write())
}

fn cloud_event(tenant_attribute: &str, parts: &Parts<'_>) -> Result<String, String> {
    let payload = payload_text(parts)?;
    let mut event = format!(
        "{{\"specversion\":\"1.0\",\"id\":{},\"source\":\"/pombo/send\",\"type\":{}",
        quoted(parts.id.unwrap_or(parts.fallback_id)),
        quoted(parts.event_type)
    );
    if let Some(tenant) = parts.tenant {
        event.push_str(&format!(",{}:{}", quoted(tenant_attribute), quoted(tenant)));
    }
    if let Some(time) = parts.time {
        event.push_str(&format!(",\"time\":{}", quoted(time)));
    }
    event.push_str(&format!(",\"data\":{}}}", payload.get()));
    Ok(event)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A JSON value that is built: what was written stays as it was written, unless something is put into it.
enum Node {
    Raw(String),
    Object(BTreeMap<String, Node>),
}

impl Node {
    /// Puts `value` where the JSON pointer leads to, through objects that are made where there are none.
    fn put(&mut self, pointer: &str, value: Node) -> Result<(), String> {
        let Some(path) = pointer.strip_prefix('/') else {
            *self = value;
            return Ok(());
        };
        let mut node = self;
        for token in path.split('/') {
            let name = token.replace("~1", "/").replace("~0", "~");
            node = node
                .members()
                .ok_or_else(|| {
                    format!("the pointer {pointer:?} of the source leads into what is no object")
                })?
                .entry(name)
                .or_insert_with(|| Node::Object(BTreeMap::new()));
        }
        *node = value;
        Ok(())
    }

    /// The members of an object, taken apart if it was not yet.
    fn members(&mut self) -> Option<&mut BTreeMap<String, Node>> {
        if let Node::Raw(text) = self {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let members = members
                .into_iter()
                .map(|(name, value)| (name, Node::Raw(value.get().to_owned())))
                .collect();
            *self = Node::Object(members);
        }
        match self {
            Node::Object(members) => Some(members),
            Node::Raw(_) => None,
        }
    }

    fn write(&self) -> String {
        match self {
            Node::Raw(text) => text.clone(),
            Node::Object(members) => {
                let members: Vec<String> = members
                    .iter()
                    .map(|(name, node)| format!("{}:{}", quoted(name), node.write()))
                    .collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests;
