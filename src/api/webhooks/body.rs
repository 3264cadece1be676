//! What bodies about webhooks may hold, for the documentation. They are read by `changes`.

use std::collections::BTreeMap;

use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

use super::view::{BodyModeName, OrderingName, SchemeName};

/// A webhook to be made.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "for the documentation alone")]
pub struct NewWebhook {
    /// Whose webhook it is. Tokens of a tenant need not say it; the operator's make webhooks of the tenant `default`
    /// without it.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 256,
        pattern = "^[!-~]+$",
        example = "acme"
    )]
    tenant_id: Option<String>,
    /// Its name, for people; no control characters.
    #[schema(min_length = 1, max_length = 100, example = "CRM sync")]
    name: String,
    /// What it is there for.
    #[schema(max_length = 500, example = "Keeps the ERP's customers current")]
    description: Option<String>,
    /// Where its deliveries are POSTed to: an absolute URL without user or password. Private and local addresses are
    /// refused unless this installation allows them.
    #[schema(
        format = "uri",
        max_length = 2048,
        pattern = "^[Hh][Tt][Tt][Pp][Ss]?://",
        example = "https://erp.example.com/hooks"
    )]
    url: String,
    /// The event types that it gets: types of the catalogue, or patterns that match some of them. `*` stands for one
    /// segment between dots, a final `**` for one or more, `*` alone for everything.
    #[schema(min_items = 1, max_items = 100, example = json!(["crm.lead.created", "chat.**"]))]
    events: Vec<Filter>,
    /// What its deliveries are signed with; generated if it is left out.
    #[schema(
        min_length = 16,
        max_length = 512,
        pattern = "^[ -~]+$",
        example = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    )]
    secret: Option<String>,
    /// Whether events are queued for it and sent.
    #[schema(nullable = false, default = true)]
    is_active: Option<bool>,
    /// Headers that its deliveries carry besides Pombo's own: at most 32, their names in any case but each once.
    #[schema(schema_with = headers)]
    headers: Option<BTreeMap<String, String>>,
    /// How often it may be called; null is no limit.
    rate_limit: Option<NewRateLimit>,
    /// How many of its deliveries may be on the wire at once; null is as the installation says.
    #[schema(minimum = 1, maximum = 10000, example = 8)]
    max_in_flight: Option<u32>,
    /// How long one attempt may take, in milliseconds; null is as the installation says.
    #[schema(minimum = 100, maximum = 300000, example = 15000)]
    timeout_ms: Option<u64>,
    /// What its retry policy says otherwise than the installation's. It is replaced as a whole; null clears it.
    retry: Option<NewRetry>,
    /// Whether its deliveries keep their order; null is `none`.
    #[schema(example = "none")]
    ordering: Option<OrderingName>,
    /// What the body of its deliveries is; null is as the installation says.
    #[schema(example = "envelope")]
    body_mode: Option<BodyModeName>,
    /// How its deliveries are signed; null is as the installation says.
    #[schema(example = "timestamped")]
    signature_scheme: Option<SchemeName>,
}

/// What is to be different of a webhook. What is left out stays as it is.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "for the documentation alone")]
pub struct WebhookChanges {
    /// Its name, for people.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 100,
        example = "CRM sync"
    )]
    name: Option<String>,
    /// What it is there for; null clears it.
    #[schema(max_length = 500, example = "Keeps the ERP's customers current")]
    description: Option<String>,
    /// Where its deliveries are POSTed to.
    #[schema(
        nullable = false,
        format = "uri",
        max_length = 2048,
        pattern = "^[Hh][Tt][Tt][Pp][Ss]?://",
        example = "https://erp.example.com/hooks"
    )]
    url: Option<String>,
    /// The event types that it gets; the whole list is replaced.
    #[schema(nullable = false, min_items = 1, max_items = 100, example = json!(["crm.lead.created", "chat.**"]))]
    events: Option<Vec<Filter>>,
    /// Whether events are queued for it and sent. True also enables a webhook that Pombo disabled.
    #[schema(nullable = false)]
    is_active: Option<bool>,
    /// Headers that its deliveries carry besides Pombo's own; all of them are replaced, null clears them.
    #[schema(schema_with = headers)]
    headers: Option<BTreeMap<String, String>>,
    /// How often it may be called; null is no limit.
    rate_limit: Option<NewRateLimit>,
    /// How many of its deliveries may be on the wire at once; null is as the installation says.
    #[schema(minimum = 1, maximum = 10000, example = 8)]
    max_in_flight: Option<u32>,
    /// How long one attempt may take, in milliseconds; null is as the installation says.
    #[schema(minimum = 100, maximum = 300000, example = 15000)]
    timeout_ms: Option<u64>,
    /// What its retry policy says otherwise than the installation's. It is replaced as a whole; null clears it.
    retry: Option<NewRetry>,
    /// Whether its deliveries keep their order; null is `none`.
    #[schema(example = "none")]
    ordering: Option<OrderingName>,
    /// What the body of its deliveries is; null is as the installation says.
    #[schema(example = "envelope")]
    body_mode: Option<BodyModeName>,
    /// How its deliveries are signed; null is as the installation says.
    #[schema(example = "timestamped")]
    signature_scheme: Option<SchemeName>,
}

/// An event type or a pattern.
#[derive(ToSchema)]
#[schema(
    min_length = 1,
    max_length = 256,
    pattern = "^[!-~]+$",
    example = "crm.lead.created"
)]
#[allow(dead_code, reason = "for the documentation alone")]
pub struct Filter(String);

/// At most 32 headers, or null. The derive has no word for a bound on a map.
fn headers() -> Schema {
    let value = ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(1024))
        .pattern(Some("^[ -~]*$"))
        .build();
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some(
            "Headers that its deliveries carry besides Pombo's own: at most 32, their names in any case but each once. \
             The whole set is replaced; null is none.",
        ))
        .max_properties(Some(32))
        .additional_properties(Some(Schema::Object(value)))
        .examples([serde_json::json!({ "x-team": "integrations" })])
        .into()
}

/// A limit on how often a webhook may be called.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "for the documentation alone")]
pub struct NewRateLimit {
    /// Attempts a second.
    #[schema(minimum = 0.0001, maximum = 100000, example = 50.0)]
    per_second: f64,
    /// Attempts that may come at once; at most `perSecond` × 86400.
    #[schema(
        nullable = false,
        minimum = 1,
        maximum = 100000,
        default = 1,
        example = 10
    )]
    burst: Option<u32>,
}

/// How failed deliveries are tried again.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "for the documentation alone")]
pub struct NewRetry {
    /// The delay after the first failed attempt, in milliseconds.
    #[schema(minimum = 100, maximum = 2592000000i64, example = 5000)]
    first_ms: Option<u64>,
    /// By how much each delay is longer than the one before.
    #[schema(minimum = 1, maximum = 100, example = 3.0)]
    factor: Option<f64>,
    /// No delay is longer, in milliseconds; not less than `firstMs`.
    #[schema(minimum = 100, maximum = 2592000000i64, example = 43200000)]
    longest_ms: Option<u64>,
    /// The share of a delay by which chance makes it shorter or longer.
    #[schema(minimum = 0, maximum = 1, example = 0.2)]
    jitter: Option<f64>,
    /// Attempts in all, the first one counted.
    #[schema(minimum = 1, maximum = 1000, example = 15)]
    max_attempts: Option<u32>,
    /// No attempt starts later than this after the first one, in milliseconds.
    #[schema(minimum = 100, maximum = 31536000000i64, example = 345600000)]
    max_age_ms: Option<u64>,
}

/// How a secret is replaced.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "for the documentation alone")]
pub struct Rotation {
    /// For how long the present secret signs beside the new one, in seconds: the time that receivers have to learn the
    /// new one. 0 ends it at once.
    #[schema(
        nullable = false,
        minimum = 0,
        maximum = 2592000,
        default = 86400,
        example = 86400
    )]
    grace_seconds: Option<u64>,
    /// The new secret; generated if it is left out.
    #[schema(
        min_length = 16,
        max_length = 512,
        pattern = "^[ -~]+$",
        example = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    )]
    secret: Option<String>,
}

/// What a test delivery carries.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code, reason = "for the documentation alone")]
pub struct TestRequest {
    /// The event type: one of the catalogue, or `webhook.test`.
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 256,
        pattern = "^[!-~]+$",
        default = "webhook.test",
        example = "webhook.test"
    )]
    event: Option<String>,
    /// The payload, any JSON. If it is left out: the sample that the catalogue has for the type, or a short message.
    #[schema(value_type = Value, required = false, example = json!({"message": "Hello"}))]
    payload: serde_json::Value,
}
