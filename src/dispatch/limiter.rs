//! A webhook's rate limit: at most `burst` + rate × time in any stretch of time, across lanes and hand-overs.

use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as GovernorClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::Dispatch;
use crate::clock::Clock;
use crate::registry::Registered;
use crate::webhook::{RateLimit, Webhook};

/// The daemon's monotonic clock as the `governor` crate wants it.
#[derive(Clone)]
struct Monotonic(Clock);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Moment(Duration);

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Moment(self.0.saturating_sub(duration.into()))
    }
}

impl std::ops::Add<Nanos> for Moment {
    type Output = Moment;

    fn add(self, other: Nanos) -> Moment {
        Moment(self.0 + Duration::from(other))
    }
}

impl GovernorClock for Monotonic {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(self.0.monotonic())
    }
}

/// The most that a bucket holds, as where webhooks are validated: times the longest period it still fits.
const MOST_BURST: u32 = 100_000;

/// A token bucket.
pub struct Limiter {
    bucket: RateLimiter<NotKeyed, InMemoryState, Monotonic, NoOpMiddleware<Moment>>,
    clock: Clock,
    limit: RateLimit,
}

impl Limiter {
    /// A bucket for `limit`: full, or dry when another owner may have spent the burst just now.
    pub fn new(limit: RateLimit, dry: bool, clock: &Clock) -> Limiter {
        let burst = NonZeroU32::new(limit.burst.min(MOST_BURST)).unwrap_or(NonZeroU32::MIN);
        // Rounded up: a period a fraction of a nanosecond too short would beat the limit in the long run. The rate is
        // checked where webhooks are validated; one a day stands in for nonsense that other hands stored.
        let nanos = (1e9 / limit.per_second).ceil();
        let period = if nanos.is_finite() && (1.0..=86_400e9).contains(&nanos) {
            Duration::from_nanos(nanos as u64)
        } else {
            Duration::from_secs(86_400)
        };
        let quota = Quota::with_period(period)
            .unwrap_or(Quota::per_second(burst))
            .allow_burst(burst);
        let bucket = RateLimiter::direct_with_clock(quota, Monotonic(clock.clone()));
        if dry {
            // A whole burst always fits an untouched bucket.
            let _ = bucket.check_n(burst);
        }
        Limiter {
            bucket,
            clock: clock.clone(),
            limit,
        }
    }

    /// The limit that it keeps.
    pub fn limit(&self) -> &RateLimit {
        &self.limit
    }

    /// Takes a token, or says how long until there is one.
    ///
    /// # Errors
    ///
    /// The time to wait, at least a microsecond.
    pub fn take(&self) -> Result<(), Duration> {
        self.bucket.check().map_err(|not_until| {
            not_until
                .wait_time_from(Moment(self.clock.monotonic()))
                .max(Duration::from_micros(1))
        })
    }
}

impl Dispatch {
    /// The rate limiter of `to`, which is `webhook`; it outlives its lanes.
    pub(super) fn limiter(&self, to: &Registered, webhook: &Webhook) -> Option<Arc<Limiter>> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(limit) = &webhook.spec.rate_limit else {
            limiters.remove(&to.uid);
            return None;
        };
        if let Some((_, limiter)) = limiters.get(&to.uid)
            && limiter.limit() == limit
        {
            return Some(limiter.clone());
        }
        // Another owner may have spent the burst just before the shard came here; a limit that was changed starts dry
        // too, or a tenant could spend a burst with every change.
        let day = Duration::from_secs(86_400);
        let refill = Duration::try_from_secs_f64(f64::from(limit.burst) / limit.per_second)
            .map_or(day, |refill| refill.min(day));
        let dry = limiters.contains_key(&to.uid)
            || self.era.owned(to.shard).is_some_and(|owned| {
                owned.had_owner
                    && webhook.created_ms <= owned.claimed_ms
                    && self.clock.monotonic() < owned.claimed_at + refill
            });
        let limiter = Arc::new(Limiter::new(*limit, dry, &self.clock));
        limiters.insert(to.uid.clone(), (to.shard, limiter.clone()));
        Some(limiter)
    }

    /// A token of the webhook's own rate limit, for an attempt outside of its lane; or how long to wait for one. `None`
    /// where there is nothing to ask for: the webhook has no limit, is not known, or belongs to another daemon.
    pub fn test_token(&self, webhook_id: &str) -> Option<Result<(), Duration>> {
        let registered = self.registry.by_id(webhook_id)?;
        self.era.owned(registered.shard)?;
        let webhook = registered.webhook().ok()?;
        Some(self.limiter(&registered, &webhook)?.take())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent_until(limiter: &Limiter, advance: &mut dyn FnMut(Duration), until: Duration) -> u32 {
        let (mut sent, mut passed) = (0, Duration::ZERO);
        loop {
            match limiter.take() {
                Ok(()) => sent += 1,
                Err(wait) => {
                    if passed + wait > until {
                        return sent;
                    }
                    passed += wait;
                    advance(wait);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_greedy_sender_never_beats_the_limit_and_wastes_nothing(
            per_second in 0.5f64..500.0, burst in 1u32..50, seconds in 1u64..20,
        ) {
            let (clock, simulated) = Clock::simulated(0, 1);
            let limiter = Limiter::new(RateLimit { per_second, burst }, false, &clock);
            let sent = sent_until(&limiter, &mut |wait| simulated.advance(wait), Duration::from_secs(seconds));
            let allowed = f64::from(burst) + per_second * seconds as f64;
            prop_assert!(f64::from(sent) <= allowed + 1e-6, "{sent} sent, {allowed} allowed");
            prop_assert!(f64::from(sent) >= allowed - 1.5, "{sent} sent, {allowed} allowed");
        }
    }

    #[test]
    fn a_rate_that_is_no_whole_number_of_nanoseconds_is_not_beaten_either() {
        let (clock, simulated) = Clock::simulated(0, 1);
        let limit = RateLimit {
            per_second: 401.153_835_389_694_2,
            burst: 1,
        };
        let limiter = Limiter::new(limit, false, &clock);
        let sent = sent_until(
            &limiter,
            &mut |wait| simulated.advance(wait),
            Duration::from_secs(13),
        );
        assert!(f64::from(sent) <= 1.0 + limit.per_second * 13.0, "{sent}");
    }

    #[test]
    fn a_limit_that_no_validation_saw_does_no_harm() {
        let (clock, _) = Clock::simulated(0, 1);
        for (per_second, burst) in [
            (1e-300, 1),
            (f64::NAN, 0),
            (-1.0, u32::MAX),
            (f64::INFINITY, u32::MAX),
            (1e-12, u32::MAX),
        ] {
            let limiter = Limiter::new(RateLimit { per_second, burst }, true, &clock);
            let _ = limiter.take();
        }
    }

    #[test]
    fn a_dry_bucket_has_no_burst_to_give() {
        let (clock, simulated) = Clock::simulated(0, 1);
        let limiter = Limiter::new(
            RateLimit {
                per_second: 10.0,
                burst: 5,
            },
            true,
            &clock,
        );
        let sent = sent_until(
            &limiter,
            &mut |wait| simulated.advance(wait),
            Duration::from_secs(1),
        );
        assert!((9..=10).contains(&sent), "{sent}");
    }
}
