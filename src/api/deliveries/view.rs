//! A delivery as the API tells it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{Object, ObjectBuilder};

use super::{kept_for, shows_payload};
use crate::api::Api;
use crate::clock::rfc3339_ms;
use crate::delivery::{AttemptLog, AttemptRecord, Phases, delivery_id};
use crate::dispatch::attempt::shown_headers;
use crate::event::Event;
use crate::store::deliveries::{Record, RecordState};
use crate::webhook::Webhook;

/// How it is with a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// It waits for its turn: its first attempt, or another one that is due.
    Pending,
    /// A 2xx was the answer.
    Success,
    /// It was given up, and can be retried by hand.
    Failed,
    /// An attempt failed, and the next one is scheduled.
    Retrying,
}

impl Status {
    /// Every status by its name.
    pub const CHOICES: [(&'static str, Status); 4] = [
        ("PENDING", Status::Pending),
        ("SUCCESS", Status::Success),
        ("FAILED", Status::Failed),
        ("RETRYING", Status::Retrying),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "PENDING",
            Status::Success => "SUCCESS",
            Status::Failed => "FAILED",
            Status::Retrying => "RETRYING",
        }
    }

    /// That of a queued delivery that is due then.
    pub fn of_queued(due_ms: Option<u64>, now_ms: u64) -> Status {
        match due_ms {
            Some(due_ms) if due_ms > now_ms => Status::Retrying,
            _ => Status::Pending,
        }
    }

    /// That of a record.
    pub fn of(record: &Record, now_ms: u64) -> Status {
        match &record.state {
            RecordState::Queued { due_ms, .. } => Status::of_queued(*due_ms, now_ms),
            RecordState::Dead(_) => Status::Failed,
            RecordState::Finished { .. } => Status::Success,
        }
    }
}

/// A delivery: one event for one webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Its id, which is also the header `x-delivery-id` of each of its attempts.
    #[schema(example = "wh_2ZvQ8r3fXk0aJ5sLw9tBnA.6Jm0c1tQnC3Z0VJt4m7b9g")]
    pub id: String,
    /// The webhook that it is for.
    #[schema(example = "wh_2ZvQ8r3fXk0aJ5sLw9tBnA")]
    pub webhook_id: String,
    /// The event's type.
    #[schema(example = "crm.lead.created")]
    pub event: String,
    /// The event's id.
    #[schema(example = "evt_01J9Z3")]
    pub event_id: String,
    /// How it is with it.
    pub status: Status,
    /// The status of the last attempt's answer; null if there was none.
    #[schema(example = 500, minimum = 0, maximum = 999)]
    pub status_code: Option<u16>,
    /// The event's payload: JSON byte for byte as the platform wrote it, a text if it is none. Null where it is not kept
    /// (the setting `history.payload`), and in lists where it is larger than 64 KiB; the delivery itself has it whole.
    #[schema(schema_with = any_payload, required)]
    pub payload: Option<Box<RawValue>>,
    /// The beginning of the last attempt's answer; null if there was none.
    #[schema(example = "Internal Server Error")]
    pub response_body: Option<String>,
    /// Why the last attempt failed; null if it did not.
    #[schema(example = "answered 500 Internal Server Error")]
    pub error_message: Option<String>,
    /// How long the last attempt took, in milliseconds; null before the first.
    #[schema(example = 42, minimum = 0)]
    pub duration_ms: Option<u64>,
    /// How many attempts were made.
    #[schema(example = 3, minimum = 0)]
    pub attempt_count: u32,
    /// When the next attempt is due; null unless the status is `RETRYING`.
    #[schema(format = DateTime, example = "2026-03-13T12:05:00.000Z")]
    pub next_retry_at: Option<String>,
    /// When the event arrived.
    #[schema(format = DateTime, example = "2026-03-13T12:00:00.000Z")]
    pub created_at: String,
    /// When it succeeded or was given up; null while it waits.
    #[schema(format = DateTime, example = "2026-03-13T12:10:00.000Z")]
    pub finished_at: Option<String>,
    /// Of a finished delivery, until when it is kept; of one that waits, when it is given up at the latest, null before
    /// its first attempt.
    #[schema(format = DateTime, example = "2026-03-20T12:10:00.000Z")]
    pub expires_at: Option<String>,
    /// Why it was given up: `exhausted`, `expired`, `gone`, `queue_full` or `not_json`; null unless the status is `FAILED`.
    #[schema(example = "exhausted")]
    pub reason: Option<String>,
}

/// A payload in the documentation: any JSON. By hand, because the derived schema of any JSON has no example.
fn any_payload() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .description(Some(
            "The event's payload: JSON byte for byte as the platform wrote it, a text if it is none. Null where it is not \
             kept (the setting `history.payload`), and in lists where it is larger than 64 KiB; the delivery itself has it \
             whole.",
        ))
        .examples([serde_json::json!({"name": "Ada"})])
        .build()
}

/// A delivery with its attempts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryDetail {
    /// The delivery.
    #[serde(flatten)]
    pub delivery: Delivery,
    /// Its attempts in order: the first one and the newest, 20 at most.
    pub attempts: Vec<Attempt>,
}

/// One attempt of a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Which one it was, from 1.
    #[schema(example = 1, minimum = 0)]
    pub number: u32,
    /// When it began.
    #[schema(format = DateTime, example = "2026-03-13T12:00:00.012Z")]
    pub started_at: String,
    /// The status of the answer; null if there was none.
    #[schema(example = 500, minimum = 0, maximum = 999)]
    pub status_code: Option<u16>,
    /// How long it took, in milliseconds.
    #[schema(example = 42, minimum = 0)]
    pub duration_ms: u64,
    /// What that time went into.
    pub phases: AttemptPhases,
    /// The headers that were sent, by their names; signatures and the webhook's own headers are masked as `***`. Null
    /// where it is not known.
    #[schema(example = json!({"content-type": "application/json", "webhook-signature": "***"}))]
    pub request_headers: Option<BTreeMap<String, String>>,
    /// The beginning of the answer: up to 1 KiB of the last attempt, 256 bytes of those before; null if there was none.
    #[schema(example = "Internal Server Error")]
    pub response_body: Option<String>,
    /// Why it failed; null if it did not.
    #[schema(example = "answered 500 Internal Server Error")]
    pub error_message: Option<String>,
}

/// The parts of an attempt, in milliseconds; null where there was no such part, as over a connection that was there
/// already.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptPhases {
    /// Looking up the receiver's name.
    #[schema(example = 1.2, minimum = 0)]
    pub dns_ms: Option<f64>,
    /// TCP's handshake.
    #[schema(example = 8.4, minimum = 0)]
    pub connect_ms: Option<f64>,
    /// TLS' handshake.
    #[schema(example = 17.9, minimum = 0)]
    pub tls_ms: Option<f64>,
    /// From the start of the attempt to the head of the answer.
    #[schema(example = 41.7, minimum = 0)]
    pub first_byte_ms: Option<f64>,
    /// All of it.
    #[schema(example = 42.1, minimum = 0)]
    pub total_ms: f64,
}

/// Microseconds in milliseconds.
fn ms(us: u64) -> f64 {
    // Exact up to 285 years.
    us as f64 / 1_000.0
}

/// Microseconds in whole milliseconds, the nearest.
fn whole_ms(us: u64) -> u64 {
    us.saturating_add(500) / 1_000
}

fn told(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl AttemptPhases {
    fn of(phases: &Phases, total_us: u64) -> AttemptPhases {
        AttemptPhases {
            dns_ms: phases.dns_us.map(ms),
            connect_ms: phases.connect_us.map(ms),
            tls_ms: phases.tls_us.map(ms),
            first_byte_ms: phases.first_byte_us.map(ms),
            total_ms: ms(total_us),
        }
    }
}

impl Attempt {
    fn of(record: &AttemptRecord, event: &Event, webhook_id: &str) -> Attempt {
        Attempt {
            number: record.number,
            started_at: rfc3339_ms(record.started_ms),
            status_code: record.status,
            duration_ms: whole_ms(record.total_us),
            phases: AttemptPhases::of(&record.phases, record.total_us),
            request_headers: request_headers(record, event, webhook_id),
            response_body: record.status.map(|_| record.answer.clone()),
            error_message: told(&record.error),
        }
    }
}

/// The headers of an attempt as they were sent, with what is secret masked; `None` where there was no request, or nobody saw
/// how it ended.
fn request_headers(
    record: &AttemptRecord,
    event: &Event,
    webhook_id: &str,
) -> Option<BTreeMap<String, String>> {
    let shape = record.shape.as_ref()?.read()?;
    let headers = shown_headers(&shape, event, webhook_id, record.number, record.started_ms);
    Some(headers.into_iter().collect())
}

fn json(text: &str) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(text).ok()
}

/// The payload as it is shown.
fn payload(api: &Api, record: &Record) -> Option<Box<RawValue>> {
    let event = record.event();
    if record.payload_left_out || !shows_payload(&api.settings, record) {
        return None;
    }
    match serde_json::from_slice::<&RawValue>(&event.payload) {
        Ok(value) => Some(value.to_owned()),
        Err(_) => json(&String::from_utf8_lossy(&event.payload)),
    }
}

impl Delivery {
    /// A delivery of `webhook` as it is at `now_ms`.
    pub fn of(api: &Api, webhook: &Webhook, record: &Record, now_ms: u64) -> Delivery {
        let settings = &api.settings;
        let event = record.event();
        let status = Status::of(record, now_ms);
        let end = |age: std::time::Duration, from_ms: u64| {
            from_ms.saturating_add(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
        };
        let mut delivery = Delivery {
            id: delivery_id(&webhook.spec.id, &event.stream, event.entry_id),
            webhook_id: webhook.spec.id.clone(),
            event: event.event_type.clone(),
            event_id: event.id.clone(),
            status,
            status_code: None,
            payload: payload(api, record),
            response_body: None,
            error_message: None,
            duration_ms: None,
            attempt_count: 0,
            next_retry_at: None,
            created_at: rfc3339_ms(event.arrived_ms),
            finished_at: None,
            expires_at: None,
            reason: None,
        };
        match &record.state {
            RecordState::Queued { due_ms, tries, .. } => {
                delivery.attempt_count = tries.attempts;
                delivery.status_code = tries.last_status;
                delivery.error_message = told(&tries.last_error);
                delivery.last_of(&tries.log);
                if status == Status::Retrying {
                    delivery.next_retry_at = due_ms.map(rfc3339_ms);
                }
                let policy = match &webhook.spec.retry {
                    Some(own) => settings.retry.overridden(own),
                    None => settings.retry.clone(),
                };
                if tries.first_attempt_ms > 0 {
                    let end = end(policy.max_age, tries.first_attempt_ms);
                    delivery.expires_at = Some(rfc3339_ms(end));
                }
            }
            RecordState::Dead(letter) => {
                let ending = &letter.ending;
                delivery.attempt_count = ending.tries.attempts;
                delivery.status_code = ending.tries.last_status;
                delivery.error_message = told(&ending.tries.last_error);
                delivery.response_body = ending
                    .tries
                    .last_status
                    .map(|_| String::from_utf8_lossy(&ending.answer).into_owned());
                delivery.last_of(&ending.tries.log);
                delivery.finished_at = Some(rfc3339_ms(ending.at_ms));
                delivery.reason = Some(ending.reason.as_str().to_owned());
            }
            RecordState::Finished { attempts, log, .. } => {
                delivery.attempt_count = *attempts;
                delivery.last_of(log);
                delivery.finished_at = Some(rfc3339_ms(record.place.id.ms));
            }
        }
        if let Some(age) = kept_for(settings, record.place.shelf) {
            delivery.expires_at = Some(rfc3339_ms(end(age, record.place.id.ms)));
        }
        delivery
    }

    /// Takes over what the log tells of the last attempt.
    fn last_of(&mut self, log: &AttemptLog) {
        let Some(last) = log.records().last() else {
            return;
        };
        self.status_code = last.status;
        self.error_message = told(&last.error);
        self.duration_ms = Some(whole_ms(last.total_us));
        self.response_body = last.status.map(|_| last.answer.clone());
    }
}

impl DeliveryDetail {
    /// A delivery of `webhook` as it is at `now_ms`, with its attempts.
    pub fn of(api: &Api, webhook: &Webhook, record: &Record, now_ms: u64) -> DeliveryDetail {
        let delivery = Delivery::of(api, webhook, record, now_ms);
        let log = match &record.state {
            RecordState::Queued { tries, .. } => &tries.log,
            RecordState::Dead(letter) => &letter.ending.tries.log,
            RecordState::Finished { log, .. } => log,
        };
        let event = record.event();
        DeliveryDetail {
            attempts: log
                .records()
                .iter()
                .map(|attempt| Attempt::of(attempt, event, &delivery.webhook_id))
                .collect(),
            delivery,
        }
    }
}
