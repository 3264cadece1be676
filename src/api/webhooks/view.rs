//! A webhook as the API shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::rfc3339_ms;
use crate::retry::RetryOverride;
use crate::signature::Scheme;
use crate::store::stats::Stats;
use crate::webhook::{BodyMode, Ordering, Webhook};

/// A subscription: where a tenant's events are delivered, and how. Fields that were never set are left out, but for
/// those that every webhook has.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
pub struct WebhookView {
    /// The webhook's id.
    #[schema(example = "wh_9yTqGg7bqk0H4rK1mYx2Zw")]
    pub id: String,
    /// Whose events it gets.
    #[schema(example = "acme")]
    pub tenant_id: String,
    /// Its name, for people.
    #[schema(example = "CRM sync")]
    pub name: String,
    /// What it is there for.
    #[schema(required, example = "Keeps the ERP's customers current")]
    pub description: Option<String>,
    /// Where its deliveries are POSTed to.
    #[schema(example = "https://erp.example.com/hooks")]
    pub url: String,
    /// The event types that it gets, by name or by pattern.
    #[schema(example = json!(["crm.lead.created", "chat.**"]))]
    pub events: Vec<String>,
    /// Whether new events are queued for it and sent. What was queued before waits meanwhile.
    #[schema(example = true)]
    pub is_active: bool,
    /// Headers that its deliveries carry besides Pombo's own.
    #[schema(example = json!({"x-team": "integrations"}))]
    pub headers: BTreeMap<String, String>,
    /// How often it may be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub rate_limit: Option<RateLimitView>,
    /// How many of its deliveries may be on the wire at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 8)]
    pub max_in_flight: Option<u32>,
    /// How long one attempt may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 15000)]
    pub timeout_ms: Option<u64>,
    /// What its retry policy says otherwise than the installation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry: Option<RetryView>,
    /// Whether its deliveries keep their order.
    #[schema(example = "none")]
    pub ordering: OrderingName,
    /// What the body of its deliveries is, if it is not what the installation says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "envelope")]
    pub body_mode: Option<BodyModeName>,
    /// How its deliveries are signed, if not as the installation says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "timestamped")]
    pub signature_scheme: Option<SchemeName>,
    /// There when Pombo stopped delivering to it, because its receiver answered 410 Gone: set `isActive` to true to
    /// begin again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub disabled: Option<DisabledView>,
    /// Until when the secret before the present one signs as well, while one is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        format = "date-time",
        example = "2026-03-14T12:00:00.123Z"
    )]
    pub secret_rotation_ends_at: Option<String>,
    /// When it was made.
    #[schema(format = "date-time", example = "2026-03-13T12:00:00.123Z")]
    pub created_at: String,
    /// When it was last changed.
    #[schema(format = "date-time", example = "2026-03-13T12:00:00.123Z")]
    pub updated_at: String,
}

/// A webhook and what its deliveries are signed with.
#[derive(Serialize, ToSchema)]
pub struct WebhookWithSecret {
    /// The webhook.
    #[serde(flatten)]
    pub webhook: WebhookView,
    /// What its deliveries are signed with. Shown here, and when it is made or replaced, and nowhere else.
    #[schema(example = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")]
    pub secret: String,
}

/// A webhook and how its deliveries go.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListedWebhook {
    /// The webhook.
    #[serde(flatten)]
    pub webhook: WebhookView,
    /// How its deliveries go.
    pub stats: StatsView,
}

/// How often a webhook may be called: within any stretch of time `burst` + `perSecond` × seconds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RateLimit)]
pub struct RateLimitView {
    /// Attempts a second.
    #[schema(example = 50.0)]
    pub per_second: f64,
    /// Attempts that may come at once.
    #[schema(example = 10)]
    pub burst: u32,
}

/// How failed deliveries are tried again; what is left out is as the installation says.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Retry)]
pub struct RetryView {
    /// The delay after the first failed attempt, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 5000)]
    pub first_ms: Option<u64>,
    /// By how much each delay is longer than the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 3.0)]
    pub factor: Option<f64>,
    /// No delay is longer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 43200000)]
    pub longest_ms: Option<u64>,
    /// The share of a delay by which chance makes it shorter or longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 0.2)]
    pub jitter: Option<f64>,
    /// Attempts in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 15)]
    pub max_attempts: Option<u32>,
    /// No attempt starts later than this after the first one, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 345600000)]
    pub max_age_ms: Option<u64>,
}

/// That Pombo stopped delivering to a webhook, and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Disabled)]
pub struct DisabledView {
    /// In plain words.
    #[schema(example = "the receiver answered 410 Gone")]
    pub reason: String,
    /// When.
    #[schema(format = "date-time", example = "2026-03-13T12:00:00.123Z")]
    pub at: String,
}

/// Deliveries of a webhook in numbers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Stats)]
pub struct StatsView {
    /// All deliveries: those that succeeded, those that failed for good, and those that wait.
    #[schema(example = 1280)]
    pub total_deliveries: u64,
    /// Deliveries that the receiver took.
    #[schema(example = 1264)]
    pub success_count: u64,
    /// Deliveries that were given up.
    #[schema(example = 4)]
    pub failed_count: u64,
    /// The share of finished deliveries that succeeded, from 0 to 1; 0 when none is finished.
    #[schema(minimum = 0, maximum = 1, example = 0.997)]
    pub success_rate: f64,
}

/// Whether deliveries keep the order of their events.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Ordering)]
pub enum OrderingName {
    /// As many at once as the limits allow.
    None,
    /// One at a time, and no next one before it is settled.
    Fifo,
}

/// What the body of a delivery is.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BodyMode)]
pub enum BodyModeName {
    /// A JSON object with the event's id, type, time and tenant, and the payload as its `data`.
    Envelope,
    /// The payload alone, byte for byte.
    Payload,
}

/// How a delivery is signed, always by HMAC-SHA256 with the webhook's secret.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SignatureScheme)]
pub enum SchemeName {
    /// `t=<unix seconds>,v1=<hex over "<t>.<body>">`.
    Timestamped,
    /// `sha256=<hex over the body>`.
    Sha256,
    /// The hex over the body.
    Hex,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl WebhookView {
    /// The webhook as it is shown at `now_ms`.
    pub fn of(webhook: &Webhook, now_ms: u64) -> WebhookView {
        let spec = &webhook.spec;
        let rotates = webhook.secrets_at(now_ms).len() > 1;
        WebhookView {
            id: spec.id.clone(),
            tenant_id: spec.tenant.clone(),
            name: spec.name.clone(),
            description: spec.description.clone(),
            url: spec.url.clone(),
            events: spec.events.iter().map(ToString::to_string).collect(),
            // To its owner a webhook that Pombo disabled is as much off as one that the owner paused.
            is_active: webhook.delivers(),
            headers: spec.headers.clone(),
            rate_limit: spec.rate_limit.map(|limit| RateLimitView {
                per_second: limit.per_second,
                burst: limit.burst,
            }),
            max_in_flight: spec.max_in_flight,
            timeout_ms: spec.timeout.map(millis),
            retry: spec.retry.as_ref().map(retry),
            ordering: match spec.ordering {
                Ordering::None => OrderingName::None,
                Ordering::Fifo => OrderingName::Fifo,
            },
            body_mode: spec.body_mode.map(|mode| match mode {
                BodyMode::Envelope => BodyModeName::Envelope,
                BodyMode::Payload => BodyModeName::Payload,
            }),
            signature_scheme: spec.signature_scheme.map(|scheme| match scheme {
                Scheme::Timestamped => SchemeName::Timestamped,
                Scheme::Sha256 => SchemeName::Sha256,
                Scheme::Hex => SchemeName::Hex,
            }),
            disabled: webhook.disabled.as_ref().map(|disabled| DisabledView {
                reason: disabled.reason.clone(),
                at: rfc3339_ms(disabled.at_ms),
            }),
            secret_rotation_ends_at: webhook.rotation_ends_ms.filter(|_| rotates).map(rfc3339_ms),
            created_at: rfc3339_ms(webhook.created_ms),
            updated_at: rfc3339_ms(webhook.updated_ms),
        }
    }

    /// The same with the newest secret.
    pub fn with_secret(webhook: &Webhook, now_ms: u64) -> WebhookWithSecret {
        let secret = webhook.secrets.first();
        WebhookWithSecret {
            webhook: WebhookView::of(webhook, now_ms),
            secret: secret.map_or_else(String::new, |secret| secret.expose().to_owned()),
        }
    }
}

fn retry(retry: &RetryOverride) -> RetryView {
    RetryView {
        first_ms: retry.first.map(millis),
        factor: retry.factor,
        longest_ms: retry.longest.map(millis),
        jitter: retry.jitter,
        max_attempts: retry.max_attempts,
        max_age_ms: retry.max_age.map(millis),
    }
}

impl From<Stats> for StatsView {
    fn from(stats: Stats) -> StatsView {
        StatsView {
            total_deliveries: stats.total(),
            success_count: stats.success,
            failed_count: stats.failed,
            success_rate: stats.success_rate(),
        }
    }
}
