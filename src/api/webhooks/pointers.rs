//! What is wrong with a webhook, in the API's words: where in the body, and what is allowed in its units.

use crate::api::fields::token;
use crate::api::problem::Invalid;
use crate::webhook::{FieldError, WebhookSpec};

/// The longest name of a header that is told back.
const LONGEST_SHOWN: usize = 100;

/// Fields that have another name in the API, and what is allowed where durations are numbers there.
const NAMES: &[(&str, &str, Option<&str>)] = &[
    ("rate_limit.per_second", "/rateLimit/perSecond", None),
    ("rate_limit.burst", "/rateLimit/burst", None),
    ("max_in_flight", "/maxInFlight", None),
    (
        "timeout",
        "/timeoutMs",
        Some("100 to 300000 (milliseconds)"),
    ),
    (
        "retry.first",
        "/retry/firstMs",
        Some("100 to 2592000000 (milliseconds)"),
    ),
    ("retry.factor", "/retry/factor", None),
    (
        "retry.longest",
        "/retry/longestMs",
        Some("100 to 2592000000 (milliseconds), and at least firstMs"),
    ),
    ("retry.jitter", "/retry/jitter", None),
    ("retry.max_attempts", "/retry/maxAttempts", None),
    (
        "retry.max_age",
        "/retry/maxAgeMs",
        Some("100 to 31536000000 (milliseconds)"),
    ),
];

/// The error as the API tells it.
pub fn invalid(error: FieldError, spec: &WebhookSpec) -> Invalid {
    let FieldError {
        field,
        reason,
        allowed,
    } = error;
    if let Some((_, pointer, own)) = NAMES.iter().find(|(name, ..)| *name == field) {
        let allowed = own.map_or_else(|| allowed.replace("per_second", "perSecond"), str::to_owned);
        return Invalid::at(*pointer, reason, allowed);
    }
    let pointer = match field.strip_prefix("headers.") {
        Some(shown) => {
            let written = spec
                .headers
                .keys()
                .find(|name| name.escape_debug().to_string() == shown);
            let name: String = written
                .map_or(shown, |name| name.as_str())
                .chars()
                .take(LONGEST_SHOWN)
                .collect();
            format!("/headers/{}", token(&name))
        }
        None => format!("/{field}"),
    };
    Invalid::at(pointer, reason, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::TargetRules;

    #[test]
    fn every_field_that_can_be_wrong_has_a_pointer_into_the_body() {
        let spec: WebhookSpec = serde_json::from_value(serde_json::json!({
            "id": "w", "name": "", "description": "x".repeat(501), "url": "ftp://x", "events": [],
            "headers": { "a/b~c": "x", "host": "x", "x-a": "é" },
            "rate_limit": { "per_second": 0, "burst": 0 },
            "max_in_flight": 0,
            "timeout": "1ms",
            "retry": { "first": "1ms", "factor": 0, "longest": "31d", "jitter": 2, "max_attempts": 0, "max_age": "1ms" },
        }))
        .unwrap();
        let errors = spec.validate_for(&TargetRules::default(), "x-signature");
        let told: Vec<Invalid> = errors
            .into_iter()
            .map(|error| invalid(error, &spec))
            .collect();
        let pointers: Vec<&str> = told
            .iter()
            .filter_map(|error| error.pointer.as_deref())
            .collect();
        assert_eq!(
            pointers,
            [
                "/name",
                "/description",
                "/url",
                "/events",
                "/headers/a~1b~0c",
                "/headers/host",
                "/headers/x-a",
                "/rateLimit/perSecond",
                "/rateLimit/burst",
                "/maxInFlight",
                "/timeoutMs",
                "/retry/firstMs",
                "/retry/factor",
                "/retry/longestMs",
                "/retry/jitter",
                "/retry/maxAttempts",
                "/retry/maxAgeMs",
            ]
        );
        assert!(
            told.iter().all(|error| !error.allowed.contains("ms to ")),
            "{told:#?}"
        );
    }
}
