//! The metrics of one configured source, resolved once.

use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec};

use super::{Metrics, SOURCE_STOP_REASONS};

/// What the readers of one configured source count. All streams that its glob finds share it.
#[derive(Debug, Clone)]
pub struct SourceMetrics {
    /// Events that at least one webhook wanted.
    pub routed: IntCounter,
    /// Events that nobody wanted.
    pub unmatched: IntCounter,
    /// Entries that could not be read as events.
    pub rejected: IntCounter,
    /// Rejected entries that fell out of their bound, of whatever source.
    pub rejected_dropped: IntCounter,
    /// Entries that the platform trimmed too early.
    pub lost: IntCounter,
    /// Entries not given to the group yet.
    pub lag_entries: IntGauge,
    /// Age of the oldest of them, in seconds.
    pub lag_seconds: Gauge,
    name: String,
    stopped: IntGaugeVec,
}

impl SourceMetrics {
    pub(super) fn new(metrics: &Metrics, name: &str) -> Self {
        let events = |outcome| metrics.events_total.with_label_values(&[name, outcome]);
        SourceMetrics {
            routed: events("routed"),
            unmatched: events("unmatched"),
            rejected: events("rejected"),
            rejected_dropped: metrics.rejected_dropped_total.clone(),
            lost: metrics.events_lost_total.with_label_values(&[name]),
            lag_entries: metrics.source_lag_entries.with_label_values(&[name]),
            lag_seconds: metrics.source_lag_seconds.with_label_values(&[name]),
            name: name.to_owned(),
            stopped: metrics.source_stopped.clone(),
        }
    }

    /// Counts a stream of the source as standing still for `reason`, one of [`SOURCE_STOP_REASONS`], until the guard is
    /// dropped. A reason appears with its first stop and then stays.
    #[must_use]
    pub fn stopped(&self, reason: &'static str) -> Stopped {
        debug_assert!(
            SOURCE_STOP_REASONS.contains(&reason),
            "{reason} is no known reason"
        );
        let gauge = self
            .stopped
            .with_label_values(&[self.name.as_str(), reason]);
        gauge.inc();
        Stopped(gauge)
    }
}

/// One stream's standstill.
#[derive(Debug)]
pub struct Stopped(IntGauge);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.dec();
    }
}
