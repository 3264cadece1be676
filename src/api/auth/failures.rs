//! Slows down whoever guesses tokens, by address, within bounds of memory.
//!
//! What is limited is failing, not asking: many tenants can share one address, and a bad client among them must not lock
//! the others out. Tokens cannot be guessed anyway (256 bits), so that the limit only has to keep Redis and the CPU from
//! working for those who try. An address beyond its limit is therefore looked up for at a trickle, and without any limit
//! for tokens that were valid lately.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Looking up tokens for an address beyond its limit: how many at once, and how many a second.
const TRICKLE_BURST: f64 = 10.0;
const TRICKLE_PER_S: f64 = 2.0;
/// A limit is for this long, after which an address that did not fail is as good as unknown.
const MINUTE: Duration = Duration::from_secs(60);
/// How long a token that was valid is taken for one that is worth looking up: once this to twice this.
const ACCEPTED_FOR: Duration = Duration::from_secs(600);
/// Addresses and accepted tokens that are remembered: once this to twice this.
const MOST_ADDRESSES: usize = 20_000;
const MOST_ACCEPTED: usize = 20_000;

/// The failures of all addresses.
pub(super) struct Failures {
    per_minute: f64,
    memory: Mutex<Memory>,
}

struct Memory {
    addresses: Lately<IpAddr, Bucket>,
    /// By digest.
    accepted: Lately<String, ()>,
}

/// What an address may still do, as of `at`.
#[derive(Clone, Copy)]
struct Bucket {
    failures: f64,
    lookups: f64,
    at: Duration,
}

impl Bucket {
    fn full(per_minute: f64, now: Duration) -> Bucket {
        Bucket {
            failures: per_minute,
            lookups: TRICKLE_BURST,
            at: now,
        }
    }

    fn refill(&mut self, per_minute: f64, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        let filled = self.failures + passed * per_minute / MINUTE.as_secs_f64();
        self.failures = filled.min(per_minute);
        self.lookups = (self.lookups + passed * TRICKLE_PER_S).min(TRICKLE_BURST);
    }

    /// Seconds until the next failure is one of those that are allowed, rounded up.
    fn wait_s(&self, per_minute: f64) -> u32 {
        let missing = (1.0 - self.failures).max(0.0);
        // At most a minute, at one failure a minute.
        (missing * MINUTE.as_secs_f64() / per_minute)
            .ceil()
            .max(1.0) as u32
    }
}

impl Failures {
    pub(super) fn new(per_minute: u32) -> Failures {
        Failures {
            per_minute: f64::from(per_minute.max(1)),
            memory: Mutex::new(Memory {
                addresses: Lately::new(MINUTE, MOST_ADDRESSES),
                accepted: Lately::new(ACCEPTED_FOR, MOST_ACCEPTED),
            }),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Memory) -> T) -> T {
        // No code panics half-way through a change of it, so a poisoned one is whole.
        act(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a token from `address` is to be looked up; else the seconds to wait.
    pub(super) fn admit(&self, address: IpAddr, digest: &str, now: Duration) -> Result<(), u32> {
        self.with(|memory| {
            let Some(bucket) = memory.addresses.get(&address, now) else {
                return Ok(());
            };
            bucket.refill(self.per_minute, now);
            if bucket.failures >= 1.0 {
                return Ok(());
            }
            let wait_s = bucket.wait_s(self.per_minute);
            if memory.accepted.get(digest, now).is_some() {
                return Ok(());
            }
            if bucket.lookups >= 1.0 {
                bucket.lookups -= 1.0;
                return Ok(());
            }
            Err(wait_s)
        })
    }

    /// Notes that a token was valid.
    pub(super) fn accepted(&self, digest: String, now: Duration) {
        self.with(|memory| memory.accepted.put(digest, (), now));
    }

    /// Notes that a token from `address` was not valid. Beyond the limit: the seconds to wait.
    pub(super) fn refused(&self, address: IpAddr, now: Duration) -> Result<(), u32> {
        self.with(|memory| {
            let fresh = Bucket::full(self.per_minute, now);
            let found = memory.addresses.get(&address, now).copied();
            let mut bucket = found.unwrap_or(fresh);
            bucket.refill(self.per_minute, now);
            let allowed = bucket.failures >= 1.0;
            let wait_s = bucket.wait_s(self.per_minute);
            if allowed {
                bucket.failures -= 1.0;
            }
            memory.addresses.put(address, bucket, now);
            allowed.then_some(()).ok_or(wait_s)
        })
    }
}

/// What was used lately, in two generations: a full or old one becomes the elder, and what was the elder is forgotten.
struct Lately<K, V> {
    young: HashMap<K, V>,
    elder: HashMap<K, V>,
    turned: Duration,
    every: Duration,
    most: usize,
}

impl<K: Eq + Hash, V> Lately<K, V> {
    fn new(every: Duration, most: usize) -> Lately<K, V> {
        Lately {
            young: HashMap::new(),
            elder: HashMap::new(),
            turned: Duration::ZERO,
            every,
            most,
        }
    }

    fn turn(&mut self, now: Duration) {
        let age = now.saturating_sub(self.turned);
        if age >= self.every || self.young.len() >= self.most {
            self.elder = std::mem::take(&mut self.young);
            self.turned = now;
        }
        if age >= self.every * 2 {
            self.elder.clear();
        }
    }

    fn get<Q>(&mut self, key: &Q, now: Duration) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.turn(now);
        match self.young.get_mut(key) {
            Some(value) => Some(value),
            None => self.elder.get_mut(key),
        }
    }

    fn put(&mut self, key: K, value: V, now: Duration) {
        self.turn(now);
        self.elder.remove(&key);
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_address_may_fail_so_often_in_a_minute_and_then_a_bit_at_a_time() {
        let failures = Failures::new(6);
        for _ in 0..6 {
            assert_eq!(failures.admit(ONE, "x", at(0)), Ok(()));
            assert_eq!(failures.refused(ONE, at(0)), Ok(()));
        }
        assert_eq!(failures.refused(ONE, at(0)), Err(10));
        assert_eq!(failures.refused(OTHER, at(0)), Ok(()));
        assert_eq!(failures.refused(ONE, at(4_000)), Err(6));
        assert_eq!(failures.refused(ONE, at(10_001)), Ok(()));
        assert!(failures.refused(ONE, at(10_001)).is_err());
        // A pause of a minute and more: all is forgotten.
        for _ in 0..6 {
            assert_eq!(failures.refused(ONE, at(200_000)), Ok(()));
        }
    }

    #[test]
    fn beyond_the_limit_tokens_are_looked_up_at_a_trickle_and_known_ones_always() {
        let failures = Failures::new(1);
        failures.accepted("good".into(), at(0));
        assert_eq!(failures.refused(ONE, at(0)), Ok(()));
        let looked_up = |digest: &str, now| {
            (0..100)
                .filter(|_| failures.admit(ONE, digest, at(now)).is_ok())
                .count()
        };
        assert_eq!(looked_up("guess", 0), 10);
        assert_eq!(looked_up("good", 0), 100);
        assert_eq!(looked_up("guess", 2_000), 4);
        assert_eq!(failures.admit(OTHER, "guess", at(2_000)), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_in_use() {
        let mut lately = Lately::new(at(60_000), 100);
        lately.put(0u32, (), at(0));
        for key in 1..10_000 {
            lately.put(key, (), at(1));
            lately.put(0, (), at(1));
            assert!(lately.young.len() + lately.elder.len() <= 200);
        }
        assert!(lately.get(&0, at(1)).is_some());
        assert!(lately.get(&1, at(1)).is_none());
        assert!(lately.get(&0, at(60_500)).is_some());
        assert!(lately.get(&0, at(240_000)).is_none());
    }
}
