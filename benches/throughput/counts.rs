//! What the receiver counts.

use serde::{Deserialize, Serialize};

/// Under which payloads say when they were added (Unix µs, 16 digits).
pub const STAMP: &str = "{\"at\":";
/// Digits after it.
pub const STAMP_DIGITS: usize = 16;
/// Upper bounds of the latencies that are counted, each a fiftieth above the one before: up to ten minutes.
const BUCKETS: usize = 900;
const STEP: f64 = 1.02;
/// The first bound (µs).
const FIRST_US: f64 = 10.0;

/// What the receiver has counted since it was reset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub received: u64,
    pub duplicates: u64,
    /// Connections that were made to it.
    pub connections: u64,
    /// Of those received, the ones that had waited at the gate; their latencies are not counted.
    pub gated: u64,
    /// For each bound, how many arrived within it and not within the one before.
    latencies: Vec<u64>,
    /// The longest (µs).
    pub longest_us: u64,
    /// When the first and the last came (Unix µs).
    pub first_us: u64,
    pub last_us: u64,
}

impl Counts {
    pub fn new() -> Counts {
        Counts {
            latencies: vec![0; BUCKETS],
            ..Counts::default()
        }
    }

    /// How many different ones came.
    pub fn unique(&self) -> u64 {
        self.received.saturating_sub(self.duplicates)
    }

    /// Counts a delivery that came at `now_us` (Unix µs).
    pub fn note(&mut self, now_us: u64, body: &[u8], gated: bool) {
        if self.received == 0 {
            self.first_us = now_us;
        }
        self.received += 1;
        self.last_us = now_us;
        if gated {
            self.gated += 1;
        } else if let Some(added_us) = added_us(body) {
            self.note_latency(now_us.saturating_sub(added_us));
        }
    }

    fn note_latency(&mut self, us: u64) {
        self.longest_us = self.longest_us.max(us);
        let bucket = ((us as f64 / FIRST_US).max(1.0).ln() / STEP.ln()).ceil() as usize;
        if let Some(count) = self.latencies.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
        }
    }

    /// The latency that `share` of all stay within (ms), at most a fiftieth too high; `None` if none came.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let all: u64 = self.latencies.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = self.latencies.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        let bound = FIRST_US * STEP.powi(i32::try_from(bucket?).ok()?);
        Some(bound.min(self.longest_us as f64) / 1_000.0)
    }
}

/// When the event in `body` was added (Unix µs). The body is the whole event, or an envelope around it.
fn added_us(body: &[u8]) -> Option<u64> {
    let at = body
        .windows(STAMP.len())
        .position(|at| at == STAMP.as_bytes())?;
    let from = at + STAMP.len();
    let digits = body.get(from..from + STAMP_DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
