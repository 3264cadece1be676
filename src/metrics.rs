//! Every metric of the daemon: its name, its help, its labels and its buckets.
//!
//! One [`Metrics`] is made at start and handed to whoever counts; nothing here is global, so that
//! tests run side by side. Label values come from closed sets (`&'static str` arguments, or the
//! names of configured sources): no tenant, webhook, URL or discovered stream ever becomes a label,
//! because a label that a tenant can make grow is memory that it can make grow. What is counted per
//! delivery is resolved once, here, and never looked up by label on the hot path.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder,
};

mod make;
mod source;
#[cfg(test)]
mod tests;

pub use source::SourceMetrics;

/// The media type of what [`Metrics::render`] returns.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The classes of attempts, as `AttemptResult::class` names them: the values of the label `outcome`
/// of `pombo_attempts_total`. The last one also takes whatever is not listed.
pub const ATTEMPT_CLASSES: [&str; 10] = [
    "2xx",
    "3xx",
    "4xx",
    "5xx",
    "timeout",
    "connect",
    "tls",
    "dns",
    "forbidden",
    "other",
];

/// Reasons for dead letters that are shown as 0 from the start, so that the first one is seen as an
/// increase.
pub const DEAD_REASONS: [&str; 5] = ["exhausted", "expired", "gone", "queue_full", "not_json"];

/// Why a dead letter fell out of its stream without anyone replaying it: too old, or one too many.
pub const DROP_CAUSES: [&str; 2] = ["age", "count"];

/// Why the reading of a source stands still: the values of the label `reason` of `pombo_source_stopped`.
pub const SOURCE_STOP_REASONS: [&str; 17] = [
    // Redis refuses what is asked of it, for now.
    "out_of_memory",
    "read_only",
    "no_replicas",
    "cannot_persist",
    "loading",
    "busy",
    "resharding",
    "cluster_down",
    // Redis cannot be read from.
    "group_lost",
    "unavailable",
    "failed",
    // Pombo itself reads no more: until its webhooks are known, and all in a form that it reads, Redis or its queues have
    // room, its beats arrive.
    "registry_stale",
    "newer_version",
    "memory_watermark",
    "queues_full",
    "beat_missed",
    // What was read cannot be acknowledged.
    "unacknowledged",
];

/// Groups of Redis commands that are shown as 0 from the start; the steps of the delivery state
/// machine.
pub const REDIS_OPERATIONS: [&str; 12] = [
    "read_a_source",
    "acknowledge_events",
    "queue_deliveries",
    "read_a_queue",
    "read_due_retries",
    "remove_settled_deliveries",
    "store_a_delivery",
    "schedule_a_retry",
    "dead-letter_a_delivery",
    "park_a_lane",
    "beat",
    "follow_changes",
];

/// The daemon's metrics. Gauges about Redis tell what this daemon owns: sum them over the replicas.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,

    /// Events read from the sources, by configured source and by what became of them (`routed`,
    /// `unmatched`, `rejected`). Readers of a source use [`Metrics::source`] instead of looking
    /// labels up.
    pub events_total: IntCounterVec,
    /// Entries that the platform trimmed from a source before they were read, or before they were
    /// settled.
    pub events_lost_total: IntCounterVec,
    /// Entries of a source that its group has not been given yet.
    pub source_lag_entries: IntGaugeVec,
    /// Age of the oldest entry of a source that its group has not been given yet, in seconds.
    pub source_lag_seconds: GaugeVec,
    /// 1 while the reading of a source stands still for this reason, else 0. Its reasons are
    /// [`SOURCE_STOP_REASONS`].
    pub source_stopped: IntGaugeVec,

    /// Deliveries that events fanned out into.
    pub fanout_deliveries_total: IntCounter,
    /// Deliveries that fan-out wrote to their queue because their lane could not send them at once.
    pub fanout_queued_total: IntCounter,
    /// Deliveries that their lanes have taken and that have no home but their source entry.
    pub taken_deliveries: IntGauge,

    /// Requests sent again at once because a reused idle connection turned out to be dead; they are
    /// no attempts.
    pub resends_total: IntCounter,
    /// Rejected entries that fell out of their bound.
    pub rejected_dropped_total: IntCounter,
    /// Deliveries put off to a later attempt.
    pub retries_total: IntCounter,
    /// Dead letters by reason. [`Metrics::dead`] counts one.
    pub dead_letters_total: IntCounterVec,
    /// Dead letters that fell out of their stream by age or count. Its causes are [`DROP_CAUSES`].
    pub dead_letters_dropped_total: IntCounterVec,
    /// Records of finished deliveries (entries of a history, counts) that could not be written and are lost.
    pub history_errors_total: IntCounter,
    /// Seconds that lanes spent waiting for a token of their webhook's rate limit.
    pub rate_limited_seconds_total: prometheus::Counter,

    /// Deliveries stored in queues.
    pub queue_deliveries: IntGauge,
    /// Stored deliveries that wait for their next attempt; part of `queue_deliveries`.
    pub retry_deliveries: IntGauge,
    /// Dead letters kept.
    pub dead_letters_stored: IntGauge,
    /// Age of the oldest delivery that is neither delivered nor dead, in seconds.
    pub oldest_pending_seconds: Gauge,
    /// Attempts on the wire.
    pub in_flight: IntGauge,
    /// Lanes with a task, by state.
    pub lanes: Lanes,
    /// Webhooks known, by state.
    pub webhooks: Webhooks,

    /// Redis commands that failed, by what they were for; the label is one of the store's own
    /// constants.
    pub redis_errors_total: IntCounterVec,
    /// 1 while the daemon's own Redis answers, else 0. Those of sources show in `source_stopped`.
    pub redis_up: IntGauge,
    /// Times that Redis came back as another server (restarted or failed over), so that memory was
    /// dropped and all recovered.
    pub redis_generations_total: IntCounter,
    /// Stores that fewer replicas than `redis.wait_replicas` had in time.
    pub replicas_missed_total: IntCounter,
    /// Shards that this daemon owns.
    pub shards_owned: IntGauge,
    /// Shards that this daemon claimed.
    pub shards_claimed_total: IntCounter,
    /// Shards that this daemon handed over.
    pub shards_released_total: IntCounter,
    /// Daemons that live, as the last beat showed them.
    pub instances: IntGauge,
    /// Heartbeats to Redis that were late or failed.
    pub beats_missed_total: IntCounter,

    api_requests_total: IntCounterVec,
    api_request_duration_seconds: HistogramVec,
    attempts: [IntCounter; ATTEMPT_CLASSES.len()],
    attempt_duration_seconds: Histogram,
    delivery_latency_seconds: Histogram,
    delivered: IntCounter,
    dead: IntCounter,
}

/// `pombo_lanes{state}`: lanes with a task. A webhook without work has no lane.
#[derive(Debug)]
pub struct Lanes {
    /// Caught up: takes offers straight from fan-out.
    pub open: IntGauge,
    /// Works off its queue.
    pub behind: IntGauge,
    /// Waits because its subscriber asked for it (429 or 503 with Retry-After).
    pub held: IntGauge,
}

/// `pombo_webhooks{state}`: webhooks in the registry.
#[derive(Debug)]
pub struct Webhooks {
    /// Gets deliveries.
    pub active: IntGauge,
    /// Switched off by its owner.
    pub inactive: IntGauge,
    /// Switched off by Pombo, until it is enabled again.
    pub disabled: IntGauge,
}

impl Metrics {
    /// All metrics at zero, in a registry of their own.
    pub fn new() -> Arc<Metrics> {
        let registry = Registry::new();
        let metrics = make::metrics(&registry);
        make::register(&registry, ProcessCollector::for_self());
        Arc::new(metrics)
    }

    /// The counters of one configured source, resolved once for its readers.
    ///
    /// `source` is the source's name in the settings, never the name of a stream that a glob found.
    pub fn source(&self, source: &str) -> SourceMetrics {
        SourceMetrics::new(self, source)
    }

    /// Counts one attempt that came to an end: `class` is one of [`ATTEMPT_CLASSES`], `duration`
    /// from before the connection was sought to the end of the answer.
    pub fn attempt(&self, class: &str, duration: Duration) {
        let known = ATTEMPT_CLASSES.iter().position(|known| *known == class);
        self.attempts[known.unwrap_or(ATTEMPT_CLASSES.len() - 1)].inc();
        self.attempt_duration_seconds
            .observe(duration.as_secs_f64());
    }

    /// Counts one delivery that ended with a 2xx, `latency` after its event arrived in the stream.
    pub fn delivered(&self, latency: Duration) {
        self.delivered.inc();
        self.delivery_latency_seconds.observe(latency.as_secs_f64());
    }

    /// Counts one delivery that ended as a dead letter.
    pub fn dead(&self, reason: &'static str) {
        self.dead.inc();
        self.dead_letters_total.with_label_values(&[reason]).inc();
    }

    /// Counts one request to the API. `route` is the template of a path or one word for all others, `method` one of few.
    pub fn api_request(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let status = status.to_string();
        self.api_requests_total
            .with_label_values(&[route, method, status.as_str()])
            .inc();
        self.api_request_duration_seconds
            .with_label_values(&[route, method])
            .observe(took.as_secs_f64());
    }

    /// Counts `count` dead letters that fell out of their stream; `cause` is one of
    /// [`DROP_CAUSES`].
    pub fn dead_letters_dropped(&self, cause: &'static str, count: u64) {
        self.dead_letters_dropped_total
            .with_label_values(&[cause])
            .inc_by(count);
    }

    /// Counts one failed Redis command or pipeline; `operation` is what the store was doing, in its own words.
    pub fn redis_error(&self, operation: &'static str) {
        let label = operation.replace(' ', "_").replace('\'', "");
        self.redis_errors_total
            .with_label_values(&[label.as_str()])
            .inc();
    }

    /// Every metric in Prometheus' text format. Reads `/proc`, which may take a millisecond with
    /// many open files: not for a thread that sends.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            // Encoding fails only for a family without samples, which `gather` leaves out; half a
            // page is better than none.
            tracing::error!(%error, "metrics could not be rendered completely");
        }
        text
    }
}
