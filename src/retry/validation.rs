//! The ranges of a retry policy, alike for the daemon's own and for a webhook's override.

use std::time::Duration;

use super::{RetryOverride, RetryPolicy};
use crate::webhook::FieldError;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const LONGEST_AGE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const MOST_ATTEMPTS: u32 = 1000;

impl RetryPolicy {
    /// What is wrong with the policy; field names are bare (`first`, `max_age`). Empty when all is well.
    pub fn validate(&self) -> Vec<FieldError> {
        RetryOverride {
            first: Some(self.first),
            factor: Some(self.factor),
            longest: Some(self.longest),
            jitter: Some(self.jitter),
            max_attempts: Some(self.max_attempts),
            max_age: Some(self.max_age),
        }
        .validate()
    }
}

impl RetryOverride {
    /// What is wrong with the fields that are given; field names are bare (`first`, `max_age`).
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut check = |ok: bool, field: &str, reason: &str, allowed: &str| {
            if !ok {
                errors.push(FieldError::new(field, reason, allowed));
            }
        };
        let delay = |value: Option<Duration>| {
            value.is_none_or(|value| (SHORTEST..=LONGEST_DELAY).contains(&value))
        };

        check(
            delay(self.first),
            "first",
            "the first delay is out of range",
            "100ms to 30d",
        );
        check(
            self.factor
                .is_none_or(|value| (1.0..=100.0).contains(&value)),
            "factor",
            "the factor is out of range",
            "1 to 100",
        );
        check(
            delay(self.longest),
            "longest",
            "the longest delay is out of range",
            "100ms to 30d",
        );
        if let (Some(first), Some(longest)) = (self.first, self.longest) {
            check(
                first <= longest,
                "longest",
                "the longest delay is shorter than the first",
                "at least the first delay",
            );
        }
        check(
            self.jitter.is_none_or(|value| (0.0..=1.0).contains(&value)),
            "jitter",
            "the jitter is out of range",
            "0 to 1, as a share of the delay",
        );
        check(
            self.max_attempts
                .is_none_or(|value| (1..=MOST_ATTEMPTS).contains(&value)),
            "max_attempts",
            "the number of attempts is out of range",
            "1 to 1000, the first attempt counted",
        );
        check(
            self.max_age
                .is_none_or(|value| (SHORTEST..=LONGEST_AGE).contains(&value)),
            "max_age",
            "the age is out of range",
            "100ms to 365d",
        );
        errors
    }
}
