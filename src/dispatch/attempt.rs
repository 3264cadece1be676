//! One attempt, from top to bottom: the request of a delivery is made, signed, sent, and its answer judged.

mod once;
mod ready;
mod shown;
mod signatures;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::http_client::{Endpoint, Post, Posted, micros};
use crate::delivery::{AttemptRecord, Phases, RequestShape, ShapeText, delivery_id};
use crate::event::Event;
use crate::outcome::{AttemptResult, FailureKind, Outcome};
use crate::retry::RetryPolicy;
use crate::settings::Settings;
use crate::signature::{Scheme, SigningKeys};
use crate::target::TargetRules;
use crate::webhook::{BodyMode, PREVIOUS, Webhook, is_reserved_header};

pub use once::{Once, attempt_once};
pub use ready::Attempt;
pub use shown::shown_headers;
pub use signatures::Signatures;

/// Requests with longer payloads than this (bytes) are made and signed when they are sent, one after the other: all of a lane's at
/// a time would be much memory, and the first would wait for the last signature.
const MADE_AHEAD: usize = 16 * 1024;

/// What of a webhook's requests never changes, made once for all its attempts.
pub struct Prepared {
    to: Arc<Endpoint>,
    headers: HeaderMap,
    keys: SigningKeys,
    /// When a rotation ends (Unix ms), and what signs from then on. Requests are prepared once and made for days.
    rotated: Option<(u64, SigningKeys)>,
    scheme: Scheme,
    signature_header: HeaderName,
    previous_header: HeaderName,
    standard_webhooks: bool,
    body_mode: BodyMode,
    tenant_field: String,
    /// What the headers of its requests can be told from, and of those after the rotation, if one is under way.
    shape: ShapeText,
    shape_rotated: Option<ShapeText>,
    /// Why its URL may not be called at all, under settings that may be stricter than when it was stored.
    forbidden: Option<String>,
    /// The total deadline of an attempt.
    pub timeout: Duration,
    /// Most attempts at a time.
    pub max_in_flight: usize,
    /// The retry policy, overrides applied.
    pub retry: RetryPolicy,
}

/// Why a stored webhook cannot be called.
#[derive(Debug, thiserror::Error)]
#[error("the webhook cannot be called: {0}")]
pub struct Unusable(String);

/// An attempt that was made.
#[derive(Debug)]
pub struct Attempted {
    /// The answer or failure.
    pub result: AttemptResult,
    /// Which attempt it was, from 1.
    pub number: u32,
    /// When it was started (Unix ms).
    pub started_ms: u64,
    /// From its start to the end of what was read of the answer.
    pub duration: Duration,
    /// The parts of that time, as far as they are known.
    pub phases: Phases,
    /// What its request's headers can be told from; `None` where there was no request.
    pub shape: Option<ShapeText>,
}

impl Attempted {
    /// What an attempt comes to at a URL that may not be called.
    fn forbidden(prepared: &Prepared, number: u32, started_ms: u64) -> Attempted {
        let detail = prepared.forbidden.clone().unwrap_or_default();
        let kind = FailureKind::Forbidden;
        Attempted {
            result: AttemptResult::Failure { kind, detail },
            number,
            started_ms,
            duration: Duration::ZERO,
            phases: Phases::default(),
            shape: None,
        }
    }

    fn of(posted: Posted, prepared: &Prepared, number: u32, started_ms: u64) -> Attempted {
        Attempted {
            result: posted.result,
            number,
            started_ms,
            duration: posted.duration,
            phases: posted.phases,
            shape: Some(prepared.shape_at(started_ms)),
        }
    }

    /// The attempt as it is kept.
    pub fn into_record(self) -> AttemptRecord {
        let error = match self.result.outcome(self.started_ms) {
            Outcome::Delivered => String::new(),
            Outcome::Gone | Outcome::Failed { .. } => self.result.describe(),
        };
        AttemptRecord {
            number: self.number,
            started_ms: self.started_ms,
            status: self.result.status(),
            error,
            total_us: micros(self.duration),
            phases: self.phases,
            answer: match self.result {
                AttemptResult::Answer { body_start, .. } => text(body_start),
                AttemptResult::Failure { .. } => String::new(),
            },
            shape: self.shape,
        }
    }
}

/// Bytes as text; without a copy where they are text.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

const X_EVENT_ID: HeaderName = HeaderName::from_static("x-event-id");
const X_EVENT_TYPE: HeaderName = HeaderName::from_static("x-event-type");
const X_DELIVERY_ID: HeaderName = HeaderName::from_static("x-delivery-id");
const X_DELIVERY_ATTEMPT: HeaderName = HeaderName::from_static("x-delivery-attempt");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("pombo/", env!("CARGO_PKG_VERSION")));
/// Most headers of a request that are not the webhook's own.
const OWN_HEADERS: usize = 12;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Prepared {
    /// Prepares the requests of `webhook` under `settings`.
    ///
    /// # Errors
    ///
    /// What is stored passed validation once; it may have been written by other hands since.
    pub fn new(webhook: &Webhook, settings: &Settings) -> Result<Prepared, Unusable> {
        let spec = &webhook.spec;
        let uri = spec
            .url
            .parse()
            .map_err(|_| Unusable("its URL is not valid".to_owned()))?;
        let mut headers = HeaderMap::with_capacity(16 + spec.headers.len());
        for (name, value) in &spec.headers {
            if is_reserved_header(name, &settings.signature.header) {
                // It was allowed when the webhook was stored; by now Pombo itself sets it.
                continue;
            }
            let parsed = (
                HeaderName::try_from(name.as_str()),
                HeaderValue::try_from(value.as_str()),
            );
            let (Ok(header), Ok(mut value)) = parsed else {
                return Err(Unusable(format!("its header {name:?} is not valid")));
            };
            // Tenants put credentials here: nothing that prints a request may show them.
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let own_headers = headers.keys().map(|name| name.as_str().to_owned());
        let own_headers = own_headers.collect();
        headers.insert(header::USER_AGENT, USER_AGENT);
        let header_name = |name: &str| {
            HeaderName::try_from(name)
                .map_err(|_| Unusable("the setting signature.header is no header name".to_owned()))
        };
        let signature_header = header_name(&settings.signature.header)?;
        let previous_header = header_name(&format!("{}{PREVIOUS}", settings.signature.header))?;
        let keys_at = |at_ms| SigningKeys::new(webhook.secrets_at(at_ms));
        let rules = TargetRules::new(settings.targets.allow.clone(), settings.targets.https_only);
        let forbidden = rules
            .check_url(&spec.url)
            .err()
            .map(|error| error.to_string());
        let body_mode = spec.body_mode.unwrap_or(settings.delivery.body_mode);
        let scheme = spec.signature_scheme.unwrap_or(settings.signature.scheme);
        let (keys, rotated) = (
            keys_at(0),
            webhook.rotation_ends_ms.map(|end| (end, keys_at(end))),
        );
        let mut shape = RequestShape {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            envelope: body_mode == BodyMode::Envelope,
            signature_header: signature_header.as_str().to_owned(),
            standard_webhooks: settings.signature.standard_webhooks,
            previous_signature: false,
            standard_unsigned: false,
            own_headers,
        };
        let mut shape_with = |keys: &SigningKeys| {
            shape.previous_signature = keys.rotates() && scheme != Scheme::Timestamped;
            shape.standard_unsigned = shape.standard_webhooks && !keys.signs_standard();
            ShapeText::from(&shape)
        };
        Ok(Prepared {
            shape: shape_with(&keys),
            shape_rotated: rotated.as_ref().map(|(_, keys)| shape_with(keys)),
            forbidden,
            to: Arc::new(Endpoint::new(uri)),
            headers,
            keys,
            rotated,
            scheme,
            signature_header,
            previous_header,
            standard_webhooks: settings.signature.standard_webhooks,
            body_mode,
            tenant_field: settings.delivery.tenant_field.clone(),
            timeout: spec.timeout.unwrap_or(settings.delivery.timeout),
            max_in_flight: spec
                .max_in_flight
                .unwrap_or(settings.delivery.max_in_flight)
                .max(1) as usize,
            retry: match &spec.retry {
                Some(overrides) => settings.retry.overridden(overrides),
                None => settings.retry.clone(),
            },
        })
    }

    /// Whether the event can be sent at all: an envelope holds JSON and nothing else.
    pub fn can_carry(&self, event: &Event) -> bool {
        event.payload_is_json || self.body_mode == BodyMode::Payload
    }

    /// Whether requests for the event may be made and signed before they are sent, if there are any.
    fn can_make_ahead(&self, event: &Event) -> bool {
        self.forbidden.is_none() && event.payload.len() <= MADE_AHEAD
    }

    /// What the headers of a request that is made at `at_ms` (Unix ms) can be told from.
    pub fn shape_at(&self, at_ms: u64) -> ShapeText {
        let rotated = self.rotated.as_ref().is_some_and(|(end, _)| at_ms >= *end);
        let shape = self.shape_rotated.as_ref().filter(|_| rotated);
        shape.unwrap_or(&self.shape).clone()
    }

    /// The body: the platform's bytes, bare or in the envelope, never parsed.
    pub fn body(&self, event: &Event) -> Bytes {
        match self.body_mode {
            BodyMode::Payload => event.payload.clone(),
            BodyMode::Envelope => event.envelope(&self.tenant_field),
        }
    }

    /// Makes of the body what can be made before there is a request.
    pub fn make_ahead(&self, event: &mut Event) {
        if self.body_mode == BodyMode::Envelope {
            event.enclose(&self.tenant_field);
        }
    }

    /// The request of the `attempt`th attempt at `event`, signed as of `at_ms` (Unix ms), with the secrets that sign then;
    /// by what was `signed` ahead, if that holds.
    pub fn request(
        &self,
        event: &Event,
        webhook_id: &str,
        attempt: u32,
        at_ms: u64,
        signed: Option<Box<Signatures>>,
    ) -> Post {
        let body = self.body(event);
        let signatures = self.signatures(signed, event, &body, at_ms);
        // Room for all at once: a copy of the webhook's own would have to grow for each of the others.
        let mut headers = HeaderMap::with_capacity(self.headers.len() + OWN_HEADERS);
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        let content_type = match self.body_mode {
            BodyMode::Envelope => JSON,
            BodyMode::Payload => HeaderValue::try_from(event.content_type.as_str()).unwrap_or(JSON),
        };
        headers.insert(header::CONTENT_TYPE, content_type);
        insert(&mut headers, X_EVENT_ID, event.id.as_str());
        insert(&mut headers, X_EVENT_TYPE, event.event_type.as_str());
        insert(
            &mut headers,
            X_DELIVERY_ID,
            delivery_id(webhook_id, &event.stream, event.entry_id),
        );
        headers.insert(X_DELIVERY_ATTEMPT, HeaderValue::from(attempt));
        put(&mut headers, &self.signature_header, signatures.own);
        put(&mut headers, &self.previous_header, signatures.previous);
        if self.standard_webhooks {
            insert(&mut headers, WEBHOOK_ID, event.id.as_str());
            headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(at_ms / 1_000));
            put(&mut headers, &WEBHOOK_SIGNATURE, signatures.standard);
        }
        Post {
            to: self.to.clone(),
            headers,
            body,
            timeout: self.timeout,
        }
    }
}

fn put(headers: &mut HeaderMap, name: &HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        headers.insert(name.clone(), value);
    }
}

fn insert<V>(headers: &mut HeaderMap, name: HeaderName, value: V)
where
    HeaderValue: TryFrom<V>,
{
    // Ids and types are visible ASCII; what is stored by other hands and is not goes without the header.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
