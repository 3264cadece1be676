//! Test deliveries: one attempt, now, outside the queue, and told with all that was sent and came back.
//!
//! It goes the way of every attempt: the same client, target rules, deadline, headers and signature. Nothing of it is
//! kept: it is no event, has no history, and is not tried again.

mod limits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

pub use self::limits::TestLimits;
use super::catalogue::{self, ALLOWED_EVENT, TEST_EVENT};
use super::{body, find};
use crate::api::Api;
use crate::api::caller::Caller;
use crate::api::fields::{Field, Fields};
use crate::api::path::WebhookId;
use crate::api::problem::Problem;
use crate::api::responses::{Guarded, OfWebhook, WithBody};
use crate::delivery::{Phases, delivery_id, short_digest};
use crate::dispatch::attempt::{Prepared, attempt_once};
use crate::event::{EntryId, Event};
use crate::outcome::{AttemptResult, Outcome};
use crate::webhook::Webhook;

/// The stream that a test's delivery id is made with: a name that no source can have, as it is empty.
const NO_STREAM: &str = "";
/// What a test carries where neither the caller nor the catalogue says.
const MESSAGE: &str =
    r#"{"message":"This is a test delivery. It was sent on request, and nothing happened."}"#;
/// What is left of the request's time for the answer once the attempt has ended.
const MARGIN: Duration = Duration::from_secs(1);

/// Whether an attempt succeeded.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TestStatus {
    /// The receiver answered with a 2xx.
    Success,
    /// It did not.
    Failed,
}

/// What became of a test delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestResult {
    /// The id that the delivery was sent under.
    #[schema(example = "wh_9yTqGg7bqk0H4rK1mYx2Zw.Ub6YcHZ5J8o3aGkq2lWm1A")]
    pub delivery_id: String,
    /// The event type.
    #[schema(example = "webhook.test")]
    pub event: String,
    /// Whether it succeeded.
    pub status: TestStatus,
    /// The status of the answer; null if there was none.
    #[schema(required, example = 200)]
    pub status_code: Option<u16>,
    /// How long it took, in milliseconds.
    #[schema(example = 42.5)]
    pub duration_ms: f64,
    /// The parts of that time.
    pub phases: TestPhases,
    /// What was sent.
    pub request: TestedRequest,
    /// What came back; null if nothing did.
    #[schema(required)]
    pub response: Option<TestedResponse>,
    /// Why it failed, in plain words; null if it did not.
    #[schema(required, example = "answered 500 Internal Server Error")]
    pub error_message: Option<String>,
}

/// How long the parts of an attempt took, in milliseconds; null where there was no such part.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TestPhases {
    /// Looking up the receiver's name.
    #[schema(required, example = 1.2)]
    pub dns_ms: Option<f64>,
    /// Connecting.
    #[schema(required, example = 8.1)]
    pub connect_ms: Option<f64>,
    /// Securing the connection.
    #[schema(required, example = 12.9)]
    pub tls_ms: Option<f64>,
    /// From the start to the head of the answer.
    #[schema(required, example = 41.7)]
    pub first_byte_ms: Option<f64>,
    /// From the start to the end.
    #[schema(example = 42.5)]
    pub total_ms: f64,
}

/// What was sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestedRequest {
    /// Where it went.
    #[schema(example = "https://erp.example.com/hooks")]
    pub url: String,
    /// Every header as it was sent, but for those of the connection itself (host, content-length).
    #[schema(example = json!({"x-event-type": "webhook.test"}))]
    pub headers: BTreeMap<String, String>,
    /// The body, byte for byte what was signed.
    #[schema(example = "{\"message\":\"Hello\"}")]
    pub body: String,
}

/// What came back.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestedResponse {
    /// The beginning of its body, at most 1 KiB; what is not UTF-8 in it is replaced.
    #[schema(example = "ok")]
    pub body: String,
}

/// Send a test delivery
///
/// Sends `webhook.test`, or a sample of a type of the catalogue, to the webhook now, and answers with what was sent and
/// what came back: the same request that an event would be, signed with the webhook's secret. It works for webhooks that
/// are not active, too, so that they can be tried before they are. At most ten in a minute for each webhook at each daemon,
/// and within the webhook's own rate limit where the daemon owns it; no longer than this API lets a request take.
#[utoipa::path(
    post,
    path = "/webhooks/{webhookId}/test",
    operation_id = "testWebhook",
    tag = "Webhooks",
    params(("webhookId" = String, Path, description = "The webhook's id.", example = "wh_9yTqGg7bqk0H4rK1mYx2Zw")),
    request_body = Option<body::TestRequest>,
    responses(
        (status = 200, description = "What became of it, whether the receiver took it or not.", body = TestResult),
        (status = 409, description = "The webhook cannot be called at all.", body = Problem,
            content_type = "application/problem+json"),
        OfWebhook,
        WithBody,
        Guarded,
    )
)]
pub async fn send(
    State(api): State<Arc<Api>>,
    caller: Caller,
    WebhookId(id): WebhookId,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let webhook = find(&api, &caller, &id, "webhook").await?;
    let mut fields = Fields::of_body(&headers, &body)?;
    let event = event(&api, &webhook, &mut fields);
    fields.finish()?;
    let _leave = leave(&api, &webhook)?;
    let dispatch = api.dispatch.load_full();
    if let Some(Err(wait)) = dispatch.and_then(|dispatch| dispatch.test_token(&id)) {
        return Err(later("The webhook's own rate limit is used up.", wait));
    }
    let result = attempt(&api, &webhook, &event).await?;
    api.answer(StatusCode::OK, &result)
}

/// The event that the body asks for. What is wrong with it is noted in `fields`.
fn event(api: &Api, webhook: &Webhook, fields: &mut Fields) -> Event {
    let catalogue = &api.settings.catalogue;
    let event_type = match fields.text("event", ALLOWED_EVENT) {
        Field::Given(event_type) => {
            if let Some((detail, allowed)) = catalogue::refusal_of_type(&event_type, catalogue) {
                fields.refuse("event", detail, allowed);
            }
            event_type
        }
        Field::Null => {
            fields.refuse("event", "is null", ALLOWED_EVENT);
            String::new()
        }
        Field::Absent => TEST_EVENT.to_owned(),
    };
    let given = fields.raw("payload");
    let sample = || {
        let known = catalogue.find(&event_type);
        known.and_then(|known| known.sample.as_deref())
    };
    let payload = match &given {
        Some(given) => given.get(),
        None => sample().unwrap_or(MESSAGE),
    };
    let most = api.settings.delivery.max_payload;
    if given.is_some() && payload.len() > most {
        let detail = format!("has {} bytes", payload.len());
        fields.refuse("payload", detail, format!("JSON of at most {most} bytes"));
    }
    let now_ms = api.clock.unix_ms();
    let chance = hex::encode(api.clock.random_bytes::<16>());
    Event {
        id: format!("evt_test_{}", short_digest(&[&chance])),
        event_type,
        tenant: webhook.spec.tenant.clone(),
        time_ms: now_ms,
        arrived_ms: now_ms,
        stream: Arc::from(NO_STREAM),
        entry_id: EntryId {
            ms: now_ms,
            seq: u64::from_be_bytes(api.clock.random_bytes()),
        },
        content_type: "application/json".to_owned(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        payload_is_json: true,
        enclosed: None,
    }
}

fn leave(api: &Api, webhook: &Webhook) -> Result<limits::Leave, Problem> {
    let taken = api
        .tests
        .take(&webhook.spec.tenant, &webhook.uid, &api.clock);
    taken.map_err(|wait| later("There were too many test deliveries just now.", wait))
}

fn later(detail: &str, wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs_f64().ceil() as u64).unwrap_or(u32::MAX);
    Problem::too_many(detail, seconds)
}

async fn attempt(api: &Api, webhook: &Webhook, event: &Event) -> Result<TestResult, Problem> {
    let id = &webhook.spec.id;
    let mut prepared = Prepared::new(webhook, &api.settings)
        .map_err(|unusable| Problem::conflict(format!("{unusable}.")))?;
    // The caller is to be told of a receiver that hangs, and not only that the request took too long.
    let most = api.settings.api.request_timeout;
    let most = most.saturating_sub(MARGIN).max(most / 2);
    prepared.timeout = prepared.timeout.min(most);
    let once = attempt_once(&api.http, &api.clock, &prepared, event, id).await;
    let result = once.attempted.result;
    let sent = TestedRequest {
        url: webhook.spec.url.clone(),
        headers: once.headers.into_iter().collect(),
        body: String::from_utf8_lossy(&prepared.body(event)).into_owned(),
    };
    let delivered = result.outcome(api.clock.unix_ms()) == Outcome::Delivered;
    let total_ms = once.attempted.duration.as_secs_f64() * 1_000.0;
    let phases = once.attempted.phases;
    Ok(TestResult {
        delivery_id: delivery_id(id, &event.stream, event.entry_id),
        event: event.event_type.clone(),
        status: if delivered {
            TestStatus::Success
        } else {
            TestStatus::Failed
        },
        status_code: result.status(),
        duration_ms: total_ms,
        phases: shown_phases(phases, total_ms),
        request: sent,
        error_message: (!delivered).then(|| result.describe()),
        response: match result {
            AttemptResult::Answer { body_start, .. } => Some(TestedResponse {
                body: String::from_utf8_lossy(&body_start).into_owned(),
            }),
            AttemptResult::Failure { .. } => None,
        },
    })
}

fn shown_phases(phases: Phases, total_ms: f64) -> TestPhases {
    let millis = |us: Option<u64>| us.map(|us| us as f64 / 1_000.0);
    TestPhases {
        dns_ms: millis(phases.dns_us),
        connect_ms: millis(phases.connect_us),
        tls_ms: millis(phases.tls_us),
        first_byte_ms: millis(phases.first_byte_us),
        total_ms,
    }
}
