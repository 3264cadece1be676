//! `[retry]`: the retry policy of webhooks that have none of their own. The type is that of the arithmetic itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Report;
use super::schema::{Key, Kind, days, millis};
use super::units::{self, format_duration};
use crate::retry::RetryPolicy;

/// How a [`RetryPolicy`] is written in the settings.
#[derive(Serialize, Deserialize)]
#[serde(remote = "RetryPolicy")]
pub(super) struct RetryText {
    #[serde(with = "units::duration")]
    first: Duration,
    factor: f64,
    #[serde(with = "units::duration")]
    longest: Duration,
    jitter: f64,
    max_attempts: u32,
    #[serde(with = "units::duration")]
    max_age: Duration,
}

pub(super) const KEYS: &[Key] = &[
    Key::duration("first", millis(100), days(7)),
    Key::new(
        "factor",
        Kind::Float {
            allowed: "a number from 1.0 to 100.0",
            check: |factor| (1.0..=100.0).contains(&factor),
        },
    ),
    Key::duration("longest", millis(100), days(30)),
    Key::new(
        "jitter",
        Kind::Float {
            allowed: "a number from 0.0 to below 1.0, such as 0.2",
            check: |jitter| (0.0..1.0).contains(&jitter),
        },
    ),
    Key::integer("max_attempts", 1, 100_000),
    Key::duration("max_age", millis(1_000), days(365)),
];

pub(super) fn check(policy: &RetryPolicy, report: &mut Report) {
    if policy.first > policy.longest {
        report.refuse(
            &["retry.first", "retry.longest"],
            format!(
                "is {}, above the longest delay (retry.longest, {})",
                format_duration(policy.first),
                format_duration(policy.longest)
            ),
            "at most retry.longest",
        );
    }
    if policy.max_attempts > 1 && policy.max_age < policy.first {
        report.refuse(
            &["retry.max_age", "retry.first", "retry.max_attempts"],
            format!(
                "is {}, over before the first retry (retry.first, {}): nothing would ever be tried again",
                format_duration(policy.max_age),
                format_duration(policy.first)
            ),
            "at least retry.first; or retry.max_attempts = 1 if you want no retries",
        );
    }
}
