//! The only place that reads time and draws random numbers.
//!
//! Everything else gets both as arguments or through a [`Clock`], so that a test can decide what
//! time it is and what the dice show.

#![allow(clippy::disallowed_methods, reason = "this is where they are wrapped")]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

#[cfg(test)]
mod tests;

/// What a [`Clock`] is made of: two clocks and a source of chance.
trait Source: Send + Sync {
    fn unix_ms(&self) -> u64;
    fn monotonic(&self) -> Duration;
    fn random_unit(&self) -> f64;
    fn fill_random(&self, bytes: &mut [u8]);
}

/// A cheap handle to the time and to randomness; clones share the same clock.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn Source>,
}

impl Clock {
    /// The machine's own clocks and the operating system's random numbers.
    pub fn system() -> Clock {
        Clock {
            source: Arc::new(System {
                origin: Instant::now(),
            }),
        }
    }

    /// A clock that stands still until its [`SimulatedClock`] advances it, and whose random numbers
    /// follow from `seed` alone. The wall clock starts at `start_unix_ms`, the monotonic one at zero.
    pub fn simulated(start_unix_ms: u64, seed: u64) -> (Clock, SimulatedClock) {
        let simulated = SimulatedClock {
            state: Arc::new(Mutex::new(Simulation {
                start_unix_ms,
                elapsed: Duration::ZERO,
                chance: StdRng::seed_from_u64(seed),
            })),
        };
        let clock = Clock {
            source: Arc::new(simulated.clone()),
        };
        (clock, simulated)
    }

    /// The wall clock: milliseconds since 1970-01-01 UTC. It may be set back by the machine's owner;
    /// what must not be fooled by that uses [`Clock::monotonic`].
    pub fn unix_ms(&self) -> u64 {
        self.source.unix_ms()
    }

    /// Time since an arbitrary moment of this process; it never goes back, and means nothing to any
    /// other process.
    pub fn monotonic(&self) -> Duration {
        self.source.monotonic()
    }

    /// A random number, evenly spread over `[0, 1)`.
    pub fn random_unit(&self) -> f64 {
        self.source.random_unit()
    }

    /// Random bytes that are fit for secrets and nonces (not so from a simulated clock).
    pub fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.source.fill_random(&mut bytes);
        bytes
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("unix_ms", &self.unix_ms())
            .finish_non_exhaustive()
    }
}

struct System {
    origin: Instant,
}

impl Source for System {
    fn unix_ms(&self) -> u64 {
        // A machine that believes to be before 1970 is answered with 1970.
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn random_unit(&self) -> f64 {
        rand::rng().random()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// The hand on a simulated [`Clock`].
#[derive(Clone)]
pub struct SimulatedClock {
    state: Arc<Mutex<Simulation>>,
}

struct Simulation {
    start_unix_ms: u64,
    elapsed: Duration,
    chance: StdRng,
}

impl SimulatedClock {
    /// Moves the wall clock and the monotonic clock forward by `by`.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state();
        state.elapsed = state.elapsed.saturating_add(by);
    }

    fn state(&self) -> MutexGuard<'_, Simulation> {
        // No code panics half-way through a change of the state, so a poisoned one is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SimulatedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedClock")
            .field("elapsed", &self.state().elapsed)
            .finish_non_exhaustive()
    }
}

impl Source for SimulatedClock {
    fn unix_ms(&self) -> u64 {
        let state = self.state();
        let elapsed = u64::try_from(state.elapsed.as_millis()).unwrap_or(u64::MAX);
        state.start_unix_ms.saturating_add(elapsed)
    }

    fn monotonic(&self) -> Duration {
        self.state().elapsed
    }

    fn random_unit(&self) -> f64 {
        self.state().chance.random()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.state().chance.fill_bytes(bytes);
    }
}

/// A moment as RFC 3339 text in UTC with milliseconds, such as `2026-03-13T12:00:00.123Z`.
/// Moments after the year 9999 are shown as the last one of it.
pub fn rfc3339_ms(unix_ms: u64) -> String {
    let moment = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .unwrap_or(jiff::Timestamp::MAX);
    format!("{moment:.3}")
}
