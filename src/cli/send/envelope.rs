//! The fields of an entry that says what an event says, in the layout of its source: the reverse of [`crate::event::Layout`].

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::settings::{FieldNames, Format, SourceSettings};

/// The parts of an event to be added.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Its type.
    pub event_type: &'a str,
    /// Its tenant, if it was given.
    pub tenant: Option<&'a str>,
    /// Its id, if it was given.
    pub id: Option<&'a str>,
    /// An id for layouts that cannot do without one.
    pub fallback_id: &'a str,
    /// Its payload: JSON, unless the format is `fields` and the content type is another.
    pub payload: &'a [u8],
}

/// The fields of the entry, in order.
///
/// # Errors
///
/// Says which part has no place in this layout.
pub fn fields(
    source: &SourceSettings,
    parts: &Parts<'_>,
) -> Result<Vec<(String, Vec<u8>)>, String> {
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
