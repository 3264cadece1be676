//! When to try again, or that it is time to give up: arithmetic over what is handed in.
//!
//! The base delays come from the `backoff` crate, which is named here and nowhere else. Its own
//! randomness and its time limit stay switched off: chance and time are arguments.

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use serde::{Deserialize, Serialize};

use crate::delivery::DeadReason;
use crate::settings::units;

mod validation;

#[cfg(test)]
mod tests;

/// How a failed delivery is tried again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// The delay after the first failed attempt; 100 ms to 30 days.
    #[serde(with = "units::duration")]
    pub first: Duration,
    /// By how much each delay is longer than the one before; 1 to 100.
    pub factor: f64,
    /// No delay is longer than this before jitter; 100 ms to 30 days.
    #[serde(with = "units::duration")]
    pub longest: Duration,
    /// The share of a delay by which chance makes it shorter or longer, so that what failed together
    /// does not come back together; 0 to 1.
    pub jitter: f64,
    /// Attempts in all, the first one counted; 1 to 1000.
    pub max_attempts: u32,
    /// No attempt starts later than this after the first one; 100 ms to 365 days.
    #[serde(with = "units::duration")]
    pub max_age: Duration,
}

/// What a webhook says otherwise than the daemon's [`RetryPolicy`]; the same names and ranges.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryOverride {
    /// See [`RetryPolicy::first`].
    #[serde(
        with = "units::option_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub first: Option<Duration>,
    /// See [`RetryPolicy::factor`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// See [`RetryPolicy::longest`].
    #[serde(
        with = "units::option_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub longest: Option<Duration>,
    /// See [`RetryPolicy::jitter`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
    /// See [`RetryPolicy::max_attempts`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// See [`RetryPolicy::max_age`].
    #[serde(
        with = "units::option_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_age: Option<Duration>,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Try again at this moment, in Unix milliseconds.
    At(u64),
    /// There is no next attempt, for this reason.
    GiveUp(DeadReason),
}

impl Default for RetryPolicy {
    /// Fifteen attempts within four days, after 5 s, 15 s, 45 s and so on up to 12 h.
    fn default() -> Self {
        RetryPolicy {
            first: Duration::from_secs(5),
            factor: 3.0,
            longest: Duration::from_secs(12 * 60 * 60),
            jitter: 0.2,
            max_attempts: 15,
            max_age: Duration::from_secs(4 * 24 * 60 * 60),
        }
    }
}

impl RetryPolicy {
    /// This policy with what `other` says otherwise.
    pub fn overridden(&self, other: &RetryOverride) -> RetryPolicy {
        RetryPolicy {
            first: other.first.unwrap_or(self.first),
            factor: other.factor.unwrap_or(self.factor),
            longest: other.longest.unwrap_or(self.longest),
            jitter: other.jitter.unwrap_or(self.jitter),
            max_attempts: other.max_attempts.unwrap_or(self.max_attempts),
            max_age: other.max_age.unwrap_or(self.max_age),
        }
    }

    /// What follows a failed attempt.
    ///
    /// `attempts_made` counts since the delivery's start or its last replay, this attempt included;
    /// `first_attempt_ms` is when the first of them began, `not_before_ms` what the receiver asked for
    /// (never answered with anything earlier), and `unit_random` a number in `[0, 1)` for the jitter.
    pub fn next(
        &self,
        attempts_made: u32,
        first_attempt_ms: u64,
        not_before_ms: Option<u64>,
        unit_random: f64,
        now_ms: u64,
    ) -> Next {
        if attempts_made >= self.max_attempts {
            return Next::GiveUp(DeadReason::Exhausted);
        }
        let spread = 1.0 + self.jitter * (2.0 * unit_random - 1.0);
        let delay_ms = self.base_delay(attempts_made).as_secs_f64() * 1_000.0 * spread;
        // A cast from f64 saturates: nothing negative, nothing that wraps.
        let due = now_ms.saturating_add(delay_ms.round() as u64);
        let due = due.max(not_before_ms.unwrap_or(0));

        let max_age_ms = u64::try_from(self.max_age.as_millis()).unwrap_or(u64::MAX);
        if due > first_attempt_ms.saturating_add(max_age_ms) {
            return Next::GiveUp(DeadReason::Expired);
        }
        Next::At(due)
    }

    /// The delay after the `attempts_made`-th attempt, before jitter. A first delay above the longest,
    /// which two halves of a policy from different places can amount to, is cut to the longest.
    pub fn base_delay(&self, attempts_made: u32) -> Duration {
        let mut steps: ExponentialBackoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first.min(self.longest))
            .with_multiplier(self.factor)
            .with_max_interval(self.longest)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        for _ in 1..attempts_made {
            let before = steps.current_interval;
            // What it returns is the interval with up to a nanosecond of the crate's own randomness
            // on top; the interval itself is exact.
            let _ = steps.next_backoff();
            if steps.current_interval <= before || steps.current_interval >= self.longest {
                break;
            }
        }
        steps.current_interval
    }
}
