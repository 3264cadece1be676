//! The headers of a request that was made once, told from what is kept of it.

use http::HeaderValue;

use super::{
    WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, X_DELIVERY_ATTEMPT, X_DELIVERY_ID,
    X_EVENT_ID, X_EVENT_TYPE,
};
use crate::delivery::{RequestShape, delivery_id};
use crate::event::Event;
use crate::webhook::PREVIOUS;

/// Stands for what is secret, and for what was not kept.
const MASKED: &str = "***";

/// The headers of the `attempt`th attempt at delivering `event` to a webhook, which began at `started_ms` (Unix ms), as
/// they were sent, in the order of their names. The values of signatures and of the webhook's own headers are masked, and
/// those are left out that follow from URL and body, `host` and `content-length`.
pub fn shown_headers(
    shape: &RequestShape,
    event: &Event,
    webhook_id: &str,
    attempt: u32,
    started_ms: u64,
) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::with_capacity(16 + shape.own_headers.len());
    let mut put = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
    let valid = HeaderValue::try_from(event.content_type.as_str()).is_ok();
    let content_type = match !shape.envelope && valid {
        true => event.content_type.as_str(),
        false => "application/json",
    };
    put("content-type", content_type);
    put("user-agent", &format!("pombo/{}", shape.version));
    put(X_EVENT_ID.as_str(), &event.id);
    put(X_EVENT_TYPE.as_str(), &event.event_type);
    let delivery = delivery_id(webhook_id, &event.stream, event.entry_id);
    put(X_DELIVERY_ID.as_str(), &delivery);
    put(X_DELIVERY_ATTEMPT.as_str(), &attempt.to_string());
    put(&shape.signature_header, MASKED);
    if shape.previous_signature {
        put(&format!("{}{PREVIOUS}", shape.signature_header), MASKED);
    }
    if shape.standard_webhooks {
        put(WEBHOOK_ID.as_str(), &event.id);
        put(
            WEBHOOK_TIMESTAMP.as_str(),
            &(started_ms / 1_000).to_string(),
        );
        if !shape.standard_unsigned {
            put(WEBHOOK_SIGNATURE.as_str(), MASKED);
        }
    }
    shape.own_headers.iter().for_each(|name| put(name, MASKED));
    headers.sort();
    headers
}
