//! Format `fields`: each part of the event is a field of the entry.

use bytes::Bytes;

use super::layout::{Body, Found, Part};
use super::{RejectReason, Rejection};
use crate::settings::FieldNames;

/// The value of the first field of that name.
pub(super) fn value<'a>(fields: &'a [(Bytes, Bytes)], name: &str) -> Option<&'a Bytes> {
    fields
        .iter()
        .find(|(field, _)| field == name)
        .map(|(_, value)| value)
}

/// Takes the parts out of the fields that hold them.
pub(super) fn find(names: &FieldNames, fields: &[(Bytes, Bytes)]) -> Result<Found, Rejection> {
    let bytes = |name: &Option<String>| name.as_deref().and_then(|name| value(fields, name));
    let text = |name: &Option<String>, reason, what: &str| match bytes(name) {
        None => Ok(None),
        Some(value) => part(value, reason, what),
    };
    Ok(Found {
        id: text(&names.id, RejectReason::BadId, "id")?,
        event_type: text(&names.event_type, RejectReason::BadType, "event type")?,
        tenant: text(&names.tenant, RejectReason::BadTenant, "tenant")?,
        time: text(&names.time, RejectReason::BadTime, "time")?,
        content_type: text(
            &names.content_type,
            RejectReason::BadContentType,
            "content type",
        )?,
        body: bytes(&names.payload).cloned().map(Body::Bytes),
    })
}

fn part(value: &Bytes, reason: RejectReason, what: &str) -> Result<Part, Rejection> {
    match std::str::from_utf8(value) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(Rejection::new(reason, format!("the {what} is no text"))),
    }
}
