//! What a webhook's fields may hold. Every mistake is told at once, with what is allowed instead.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;

use super::WebhookSpec;
use crate::delivery::is_id_byte;
use crate::target::TargetRules;

const LONGEST_ID: usize = 64;
const LONGEST_TENANT: usize = 256;
const LONGEST_NAME: usize = 100;
const LONGEST_DESCRIPTION: usize = 500;
const MOST_EVENTS: usize = 100;
const LONGEST_SECRET: usize = 512;
const MOST_HEADERS: usize = 32;
const LONGEST_HEADER_NAME: usize = 128;
const LONGEST_HEADER_VALUE: usize = 1024;
/// Attempts a second.
const RATES: RangeInclusive<f64> = 0.0001..=100_000.0;
const BURSTS: RangeInclusive<u32> = 1..=100_000;
/// How long an empty bucket may take to fill: after a restart a webhook waits no longer than this for its whole burst. With
/// the ranges above it also keeps the token bucket's arithmetic, in 64 bits of nanoseconds, far from its end.
const LONGEST_FILLING: Duration = Duration::from_secs(86_400);
const MOST_IN_FLIGHT: u32 = 10_000;
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The header of the signature where the settings name no other.
const DEFAULT_SIGNATURE_HEADER: &str = "x-signature";

/// Set by Pombo or by HTTP itself; names of these families too: see [`is_reserved_header`].
const RESERVED_HEADERS: [&str; 10] = [
    "content-type",
    "content-length",
    "host",
    "connection",
    "transfer-encoding",
    "te",
    "upgrade",
    "trailer",
    "keep-alive",
    "user-agent",
];

const RESERVED_FAMILIES: [&str; 4] = ["proxy-", "x-event-", "x-delivery-", "webhook-"];

/// What is wrong with one field. Neither a secret nor a header's value is ever part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldError {
    /// Where, such as `events[2]` or `retry.first`.
    pub field: String,
    /// What is wrong, in plain words.
    pub reason: String,
    /// What would be right.
    pub allowed: String,
}

impl FieldError {
    /// Says what is wrong with `field`, and what is allowed.
    pub fn new(
        field: impl Into<String>,
        reason: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        FieldError {
            field: field.into(),
            reason: reason.into(),
            allowed: allowed.into(),
        }
    }

    fn within(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} (allowed: {})",
            self.field, self.reason, self.allowed
        )
    }
}

impl std::error::Error for FieldError {}

/// What the name of the signature's header is followed by where the older secret's signature stands while one rotates.
pub const PREVIOUS: &str = "-previous";

/// Whether a webhook may not set a header of this name, because Pombo, HTTP, or the signature in
/// `signature_header` (and the older secret's beside it) does. Names compare without regard to case.
pub fn is_reserved_header(name: &str, signature_header: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    RESERVED_HEADERS.contains(&lower.as_str())
        || RESERVED_FAMILIES
            .iter()
            .any(|family| lower.starts_with(family))
        || lower
            .strip_suffix(PREVIOUS)
            .unwrap_or(&lower)
            .eq_ignore_ascii_case(signature_header)
        || lower.eq_ignore_ascii_case(signature_header)
}

impl WebhookSpec {
    /// Everything that is wrong with the values; empty when all is well. For a daemon whose signature
    /// stands in a header of another name than `x-signature` there is [`WebhookSpec::validate_for`].
    pub fn validate(&self, rules: &TargetRules) -> Vec<FieldError> {
        self.validate_for(rules, DEFAULT_SIGNATURE_HEADER)
    }

    /// Everything that is wrong with the values, with the name of the signature's header reserved.
    pub fn validate_for(&self, rules: &TargetRules, signature_header: &str) -> Vec<FieldError> {
        let mut errors = Vec::new();
        self.check_identity(&mut errors);
        if let Err(error) = rules.check_url(&self.url) {
            errors.push(FieldError::new(
                "url",
                error.to_string(),
                "an http:// or https:// URL without credentials, at most 2048 bytes, on an allowed network",
            ));
        }
        if self.events.is_empty() || self.events.len() > MOST_EVENTS {
            errors.push(FieldError::new(
                "events",
                format!("there are {} event filters", self.events.len()),
                "1 to 100 event filters",
            ));
        }
        self.check_secret(&mut errors);
        self.check_headers(signature_header, &mut errors);
        self.check_limits(&mut errors);
        if let Some(retry) = &self.retry {
            errors.extend(
                retry
                    .validate()
                    .into_iter()
                    .map(|error| error.within("retry")),
            );
        }
        errors
    }

    fn check_identity(&self, errors: &mut Vec<FieldError>) {
        if !(1..=LONGEST_ID).contains(&self.id.len()) || !self.id.bytes().all(is_id_byte) {
            errors.push(FieldError::new(
                "id",
                "this is no webhook id",
                "1 to 64 letters, digits, `_` and `-`",
            ));
        }
        let visible = self.tenant.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=LONGEST_TENANT).contains(&self.tenant.len()) || !visible {
            errors.push(FieldError::new(
                "tenant",
                "this is no tenant",
                "1 to 256 visible ASCII characters",
            ));
        }
        let characters = self.name.chars().count();
        if !(1..=LONGEST_NAME).contains(&characters) || self.name.chars().any(char::is_control) {
            errors.push(FieldError::new(
                "name",
                "the name is empty, too long, or holds control characters",
                "1 to 100 characters",
            ));
        }
        let unfit = |c: char| c.is_control() && c != '\n' && c != '\r' && c != '\t';
        if let Some(description) = &self.description
            && (description.chars().count() > LONGEST_DESCRIPTION || description.chars().any(unfit))
        {
            errors.push(FieldError::new(
                "description",
                "the description is too long, or holds control characters",
                "at most 500 characters",
            ));
        }
    }

    fn check_secret(&self, errors: &mut Vec<FieldError>) {
        let Some(secret) = &self.secret else {
            return;
        };
        let text = secret.expose();
        if !(1..=LONGEST_SECRET).contains(&text.len()) || text.chars().any(char::is_control) {
            errors.push(FieldError::new(
                "secret",
                "the secret is empty, too long, or holds control characters",
                "1 to 512 bytes; leave it out to have one generated",
            ));
        }
    }

    fn check_headers(&self, signature_header: &str, errors: &mut Vec<FieldError>) {
        if self.headers.len() > MOST_HEADERS {
            errors.push(FieldError::new(
                "headers",
                format!("there are {} headers", self.headers.len()),
                "at most 32 headers",
            ));
        }
        let mut seen = HashSet::new();
        for (name, value) in &self.headers {
            let field = format!("headers.{}", name.escape_debug());
            if name.len() > LONGEST_HEADER_NAME || HeaderName::from_bytes(name.as_bytes()).is_err()
            {
                errors.push(FieldError::new(
                    field,
                    "this is no name of a header",
                    "1 to 128 letters, digits and any of !#$%&'*+-.^_`|~",
                ));
                continue;
            }
            if is_reserved_header(name, signature_header) {
                errors.push(FieldError::new(
                    field.clone(),
                    "this header is set by Pombo or by HTTP itself",
                    "any other name than content-type, user-agent, host and such, proxy-*, x-event-*, \
                     x-delivery-*, webhook-* and the signature's (with or without -previous)",
                ));
            }
            if !seen.insert(name.to_ascii_lowercase()) {
                errors.push(FieldError::new(
                    field.clone(),
                    "this header is given twice, in different spellings",
                    "each header once",
                ));
            }
            let printable = value.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
            if value.len() > LONGEST_HEADER_VALUE || !printable {
                errors.push(FieldError::new(
                    field,
                    "the value is too long or holds control or non-ASCII characters",
                    "at most 1024 printable ASCII characters",
                ));
            }
        }
    }

    fn check_limits(&self, errors: &mut Vec<FieldError>) {
        if let Some(limit) = &self.rate_limit {
            // A value that is no number is in no range.
            let (rate_fits, burst_fits) = (
                RATES.contains(&limit.per_second),
                BURSTS.contains(&limit.burst),
            );
            let filling = f64::from(limit.burst) / limit.per_second;
            if !rate_fits {
                errors.push(FieldError::new(
                    "rate_limit.per_second",
                    "the rate is out of range",
                    "0.0001 to 100000",
                ));
            }
            if !burst_fits {
                errors.push(FieldError::new(
                    "rate_limit.burst",
                    "the burst is out of range",
                    "1 to 100000",
                ));
            } else if rate_fits && filling > LONGEST_FILLING.as_secs_f64() {
                errors.push(FieldError::new(
                    "rate_limit.burst",
                    "at this rate it would take longer than a day until a burst is allowed again",
                    "at most per_second × 86400",
                ));
            }
        }
        if self
            .max_in_flight
            .is_some_and(|most| !(1..=MOST_IN_FLIGHT).contains(&most))
        {
            errors.push(FieldError::new(
                "max_in_flight",
                "the number is out of range",
                "1 to 10000",
            ));
        }
        if self
            .timeout
            .is_some_and(|timeout| !(SHORTEST_TIMEOUT..=LONGEST_TIMEOUT).contains(&timeout))
        {
            errors.push(FieldError::new(
                "timeout",
                "the timeout is out of range",
                "100ms to 5m",
            ));
        }
    }
}
