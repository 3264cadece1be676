//! How many test deliveries there may be: each holds a request of the API and calls a receiver that a tenant chose.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::dispatch::limiter::Limiter;
use crate::webhook::RateLimit;

/// Tests of one webhook in a minute.
const PER_MINUTE: u32 = 10;
/// After so long a limiter is as good as new, and forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Webhooks that are remembered; when there are more, those beyond wait for others to be forgotten.
const MOST_WEBHOOKS: usize = 10_000;
/// Tests at the same time: of one tenant, and of all.
const MOST_OF_TENANT: usize = 4;
const MOST_AT_ONCE: usize = 32;
/// When to come back after being turned away because too many are under way.
const BUSY_AGAIN: Duration = Duration::from_secs(2);

/// The limits on test deliveries of this daemon.
#[derive(Clone, Default)]
pub struct TestLimits {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    limiters: HashMap<String, Known>,
    under_way: HashMap<String, usize>,
}

struct Known {
    limiter: Limiter,
    used: Duration,
}

/// Leave to send one test; it is given back when it is dropped.
pub struct Leave {
    limits: TestLimits,
    tenant: String,
}

impl TestLimits {
    fn state(&self) -> MutexGuard<'_, State> {
        // Counters and a map: nothing panics halfway through a change of them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave to send a test of the webhook `uid` of `tenant`.
    ///
    /// # Errors
    ///
    /// How long to wait before it is asked for again.
    pub fn take(&self, tenant: &str, uid: &str, clock: &Clock) -> Result<Leave, Duration> {
        let now = clock.monotonic();
        let mut state = self.state();
        let of_tenant = state.under_way.get(tenant).copied().unwrap_or(0);
        let of_all: usize = state.under_way.values().sum();
        if of_tenant >= MOST_OF_TENANT || of_all >= MOST_AT_ONCE {
            return Err(BUSY_AGAIN);
        }
        if !state.limiters.contains_key(uid) && state.limiters.len() >= MOST_WEBHOOKS {
            state
                .limiters
                .retain(|_, known| now.saturating_sub(known.used) < FORGET_AFTER);
            if state.limiters.len() >= MOST_WEBHOOKS {
                return Err(FORGET_AFTER);
            }
        }
        let known = state.limiters.entry(uid.to_owned()).or_insert_with(|| {
            let limit = RateLimit {
                per_second: f64::from(PER_MINUTE) / 60.0,
                burst: PER_MINUTE,
            };
            Known {
                limiter: Limiter::new(limit, false, clock),
                used: now,
            }
        });
        known.limiter.take()?;
        known.used = now;
        *state.under_way.entry(tenant.to_owned()).or_default() += 1;
        Ok(Leave {
            limits: self.clone(),
            tenant: tenant.to_owned(),
        })
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut state = self.limits.state();
        if let Some(count) = state.under_way.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                state.under_way.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_has_ten_tests_a_minute() {
        let (clock, simulated) = Clock::simulated(0, 1);
        let limits = TestLimits::default();
        for _ in 0..PER_MINUTE {
            assert!(limits.take("acme", "a", &clock).is_ok());
        }
        let wait = limits.take("acme", "a", &clock).err().unwrap();
        assert!(wait > Duration::from_secs(5) && wait <= Duration::from_secs(6));
        assert!(limits.take("acme", "b", &clock).is_ok());
        simulated.advance(Duration::from_secs(7));
        assert!(limits.take("acme", "a", &clock).is_ok());
    }

    #[test]
    fn a_tenant_with_many_hanging_receivers_leaves_room_for_others() {
        let (clock, _) = Clock::simulated(0, 1);
        let limits = TestLimits::default();
        let take = |tenant: &str, uid: usize| limits.take(tenant, &uid.to_string(), &clock);
        let mut held: Vec<Leave> = (0..4)
            .map(|uid| take("hostile", uid).ok().unwrap())
            .collect();
        assert!(take("hostile", 4).is_err());
        assert!(take("acme", 5).is_ok());
        held.pop();
        assert!(take("hostile", 4).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let (clock, simulated) = Clock::simulated(0, 1);
        let limits = TestLimits::default();
        for uid in 0..MOST_WEBHOOKS {
            assert!(limits.take("acme", &uid.to_string(), &clock).is_ok());
        }
        assert!(limits.take("acme", "one more", &clock).is_err());
        simulated.advance(FORGET_AFTER);
        assert!(limits.take("acme", "one more", &clock).is_ok());
        assert_eq!(limits.state().limiters.len(), 1);
    }
}
