//! Whether a request is what the daemon promises to send.

use std::sync::LazyLock;

use http::request::Parts;
use http::{HeaderMap, Method};

use crate::plan::{Plan, SUBSCRIBERS};
use crate::support::pombo::SECRET;

/// Each daemon of a run signs in a header of its own, so that a receiver knows whose request it is.
pub const DAEMON_HEADER: &str = "x-signature-d";

static VERIFIER: LazyLock<standardwebhooks::Webhook> =
    LazyLock::new(|| standardwebhooks::Webhook::new(SECRET).expect("a secret"));

/// What a request says of itself.
pub struct Attempt {
    pub number: u32,
    /// From 1.
    pub tries: u32,
    pub daemon: u8,
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Checks path, headers, signature and every byte of the body.
pub fn judge(plan: Plan, subscriber: usize, head: &Parts, body: &[u8]) -> Result<Attempt, String> {
    let one = &SUBSCRIBERS[subscriber];
    let headers = &head.headers;
    if head.method != Method::POST || head.uri.path() != "/hook" {
        return Err(format!("{} {} was asked for", head.method, head.uri));
    }
    let id = text(headers, "x-event-id");
    let number = Plan::number(id).ok_or_else(|| format!("an event {id:?} that nobody added"))?;
    if text(headers, "webhook-id") != id {
        return Err(format!("event {id} has another webhook-id"));
    }
    let event_type = plan.event_type(number);
    if text(headers, "x-event-type") != event_type || !one.wants(event_type) {
        return Err(format!("event {id} of type {event_type} is not for it"));
    }
    VERIFIER
        .verify(body, headers)
        .map_err(|error| format!("the signature of event {id}: {error}"))?;
    let payload = plan.payload(number);
    let right = if one.payload_only {
        body == payload.as_bytes()
    } else {
        let begins = format!(r#"{{"id":"{id}","type":"{event_type}","timestamp":""#);
        let ends = format!(r#"","tenantId":"default","data":{payload}}}"#);
        body.starts_with(begins.as_bytes()) && body.ends_with(ends.as_bytes())
    };
    if !right {
        return Err(format!("event {id} has another body"));
    }
    let daemon = headers
        .keys()
        .find_map(|name| name.as_str().strip_prefix(DAEMON_HEADER)?.parse().ok())
        .ok_or_else(|| format!("event {id} without the signature header of a daemon"))?;
    let tries = text(headers, "x-delivery-attempt").parse();
    let tries = tries.map_err(|_| format!("event {id} without the number of its attempt"))?;
    Ok(Attempt {
        number,
        tries,
        daemon,
    })
}
