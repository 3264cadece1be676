//! Format `cloudevents`: one field holds a CloudEvent 1.0 in structured mode JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::layout::{Body, Found, check_size, scalar_part};
use super::{RejectReason, Rejection, json};

/// Takes the parts out of the attributes that hold them.
pub(super) fn find(
    tenant_attribute: &str,
    envelope: &Bytes,
    max_payload_bytes: usize,
) -> Result<Found, Rejection> {
    let bad = |detail: &str| Rejection::new(RejectReason::BadEnvelope, detail);
    let event = json::Object::read(envelope)
        .ok_or_else(|| bad("the field that should hold the event holds no JSON object"))?;
    let version = event.member("specversion").and_then(json::scalar).flatten();
    if version.as_deref() != Some("1.0") {
        return Err(bad("this is no CloudEvent of specversion 1.0"));
    }
    let attribute = |name: &str, reason, what: &str| scalar_part(event.member(name), reason, what);
    Ok(Found {
        id: attribute("id", RejectReason::BadId, "id")?,
        event_type: attribute("type", RejectReason::BadType, "event type")?,
        tenant: attribute(tenant_attribute, RejectReason::BadTenant, "tenant")?,
        time: attribute("time", RejectReason::BadTime, "time")?,
        content_type: attribute(
            "datacontenttype",
            RejectReason::BadContentType,
            "content type",
        )?,
        body: body(&event, envelope, max_payload_bytes)?,
    })
}

fn body(
    event: &json::Object<'_>,
    envelope: &Bytes,
    max_payload_bytes: usize,
) -> Result<Option<Body>, Rejection> {
    if let Some(data) = event.member("data") {
        let json = envelope.slice_ref(data.as_bytes());
        // A string stands for itself in JSON, and for the text that it says in any other content type.
        // One with a lone surrogate says no text.
        return Ok(Some(match serde_json::from_str::<String>(data) {
            Ok(text) => Body::Text {
                json,
                text: Bytes::from(text),
            },
            Err(_) => Body::Json(json),
        }));
    }
    let Some(data) = event.member("data_base64") else {
        return Ok(None);
    };
    let broken = || Rejection::new(RejectReason::BadJson, "data_base64 is no base64");
    let text: String = serde_json::from_str(data).map_err(|_| broken())?;
    // Three bytes out of four characters: judged before the memory is spent.
    let size = (text.len() / 4 * 3).saturating_sub(padding(&text));
    check_size(size, max_payload_bytes)?;
    let bytes = STANDARD.decode(text).map_err(|_| broken())?;
    Ok(Some(Body::Bytes(Bytes::from(bytes))))
}

fn padding(base64: &str) -> usize {
    base64
        .bytes()
        .rev()
        .take(2)
        .filter(|byte| *byte == b'=')
        .count()
}
