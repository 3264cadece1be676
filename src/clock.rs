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

/// The last moment that is written, `9999-12-30T22:00:00.999Z`: in no time zone is it after the year 9999.
const LAST_MS: u64 = 253_402_207_200_999;

/// A moment as RFC 3339 text in UTC with milliseconds, such as `2026-03-13T12:00:00.123Z`.
/// Moments after the year 9999 are shown as the last one of it.
pub fn rfc3339_ms(unix_ms: u64) -> String {
    const DAY_MS: u64 = 86_400_000;
    const ERA_DAYS: u64 = 146_097;
    let unix_ms = unix_ms.min(LAST_MS);
    let (days, of_day) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
    // By hand, because every envelope has one. Years that begin in March have their leap day last, and 400 of them are
    // always as long ("civil_from_days" of Howard Hinnant's chrono-compatible date algorithms); 719,468 days lie between
    // the 1st of March of the year 0 and 1970.
    let days = days + 719_468;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let (month, next_year) = match from_march {
        0..10 => (from_march + 3, 0),
        _ => (from_march - 9, 1),
    };
    let year = era * 400 + year_of_era + next_year;
    let mut text = String::with_capacity("2026-03-13T12:00:00.123Z".len());
    let mut put = |number: u64, digits: u32, after: char| {
        for at in (0..digits).rev() {
            // One digit: below ten.
            text.push(char::from(b'0' + (number / 10_u64.pow(at) % 10) as u8));
        }
        text.push(after);
    };
    put(year, 4, '-');
    put(month, 2, '-');
    put(day, 2, 'T');
    put(of_day / 3_600_000, 2, ':');
    put(of_day / 60_000 % 60, 2, ':');
    put(of_day / 1_000 % 60, 2, '.');
    put(of_day % 1_000, 3, 'Z');
    text
}
