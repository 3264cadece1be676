//! A webhook: what a tenant declares, and what Pombo keeps about it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::Secret;
use crate::settings::units;
use crate::signature::Scheme;
use crate::target::shown_url;

pub mod filter;
mod validation;

pub use crate::retry::RetryOverride;
pub use filter::{EventFilter, FilterError};
pub use validation::{FieldError, PREVIOUS, is_reserved_header};

#[cfg(test)]
pub(crate) mod tests;

/// The tenant where a platform has none.
pub const DEFAULT_TENANT: &str = "default";

/// What a user declares: the keys of a `[[webhooks]]` table for `pombo apply`, and the form in which a
/// webhook is stored.
///
/// Reading one checks its shape only; [`WebhookSpec::validate`] checks the values.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSpec {
    /// `[A-Za-z0-9_-]{1,64}`, unique in a Redis.
    pub id: String,
    /// Whose events it gets; visible ASCII, 1 to 256 bytes.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// For people; 1 to 100 characters.
    pub name: String,
    /// What it is there for, for people; at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where its deliveries are POSTed to; at most 2048 bytes.
    pub url: String,
    /// Which event types it wants; 1 to 100 filters.
    pub events: Vec<EventFilter>,
    /// What its deliveries are signed with; generated when it is not given. As plain text in the
    /// serialised form, which is for storage alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Whether its owner wants deliveries now. A webhook that Pombo disabled is [`Webhook::disabled`].
    #[serde(default = "yes")]
    pub active: bool,
    /// Headers that its deliveries carry besides Pombo's own; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How often it may be called; not limited when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// How many of its deliveries may be on the wire at once, 1 to 10,000; the daemon's setting when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// How long one attempt may take, 100 ms to 5 min; the daemon's setting when not given.
    #[serde(
        default,
        with = "units::option_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
    /// What its retry policy says otherwise than the daemon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryOverride>,
    /// Whether its deliveries keep their order.
    #[serde(default)]
    pub ordering: Ordering,
    /// What the body of its deliveries is; the daemon's setting when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_mode: Option<BodyMode>,
    /// How its deliveries are signed in the operator's header; the daemon's setting when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature_scheme: Option<Scheme>,
}

fn default_tenant() -> String {
    DEFAULT_TENANT.to_owned()
}

fn yes() -> bool {
    true
}

impl WebhookSpec {
    /// Whether any of its filters matches the event type.
    pub fn wants(&self, event_type: &str) -> bool {
        self.events.iter().any(|filter| filter.matches(event_type))
    }
}

/// Hides what may be secret: the secret, the values of headers, and the path and query of the URL.
impl fmt::Debug for WebhookSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSpec")
            .field("id", &self.id)
            .field("tenant", &self.tenant)
            .field("name", &self.name)
            .field("description", &self.description)
            .field("url", &shown_url(&self.url))
            .field("events", &self.events)
            .field("secret", &self.secret)
            .field("active", &self.active)
            .field("headers", &self.headers.keys())
            .field("rate_limit", &self.rate_limit)
            .field("max_in_flight", &self.max_in_flight)
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .field("ordering", &self.ordering)
            .field("body_mode", &self.body_mode)
            .field("signature_scheme", &self.signature_scheme)
            .finish()
    }
}

/// A token bucket: within any stretch of time a webhook gets at most `burst` + `per_second` × time attempts.
///
/// An empty bucket is full again within a day: `burst` is at most `per_second` × 86,400.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Tokens that flow in each second; 0.0001 to 100,000.
    pub per_second: f64,
    /// Tokens that the bucket holds; 1 to 100,000.
    #[serde(default = "one")]
    pub burst: u32,
}

fn one() -> u32 {
    1
}

/// Whether a webhook's deliveries keep the order of their events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// No order: as many at once as the limits allow.
    #[default]
    None,
    /// One in flight, and no next one before it is settled.
    Fifo,
}

/// What the body of a delivery is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyMode {
    /// A JSON object with the event's id, type, time and tenant, and the payload as its `data`.
    #[default]
    Envelope,
    /// The payload alone, byte for byte.
    Payload,
}

/// A webhook as the daemon knows it.
#[derive(Clone, PartialEq, Debug)]
pub struct Webhook {
    /// What its owner declares.
    pub spec: WebhookSpec,
    /// The incarnation: a webhook that is deleted and made again under the same id gets another, and
    /// inherits nothing.
    pub uid: String,
    /// Counts the changes of the webhook, from 1.
    pub version: u64,
    /// What its deliveries are signed with, the newest first: one, and two while one rotates.
    pub secrets: Vec<Secret>,
    /// Until when the secrets after the newest sign as well, in Unix milliseconds; `None` when there is no such end.
    pub rotation_ends_ms: Option<u64>,
    /// Set when Pombo disabled the webhook; only an explicit enable clears it.
    pub disabled: Option<Disabled>,
    /// Who made it, such as `apply`: what prunes the webhooks that it made itself.
    pub managed_by: Option<String>,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// When it was last changed, in Unix milliseconds.
    pub updated_ms: u64,
}

impl Webhook {
    /// The secrets that sign at `now_ms`, the newest first.
    pub fn secrets_at(&self, now_ms: u64) -> &[Secret] {
        match self.rotation_ends_ms {
            Some(end) if now_ms >= end => &self.secrets[..self.secrets.len().min(1)],
            _ => &self.secrets,
        }
    }

    /// Whether deliveries are sent: its owner wants them, and Pombo has not disabled it.
    pub fn delivers(&self) -> bool {
        self.spec.active && self.disabled.is_none()
    }
}

/// That Pombo disabled a webhook, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disabled {
    /// In plain words.
    pub reason: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}
