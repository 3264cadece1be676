//! Makes and registers every metric: the one place with names, help texts and buckets.

use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{
    ATTEMPT_CLASSES, Collector, DEAD_REASONS, DROP_CAUSES, Lanes, Metrics, REDIS_OPERATIONS,
    Webhooks,
};

/// Seconds. From a receiver on the same machine (1 ms) to the longest timeout that a webhook may
/// have (5 min). 15 s is the default timeout and 5 s that of connecting, each an edge, so that
/// "slow" and "timed out" stay apart.
const ATTEMPT_BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 60.0, 300.0,
];

/// Seconds. Arrival is known to the millisecond, so nothing finer is told; the first edges are what
/// a healthy lane is judged by (p50 below 1 ms, p99 around 1 to 2 ms). 1 s is when a taken delivery
/// is stored at the latest. The default retries come 5 s, 20 s, 65 s and 200 s after the first
/// attempt (give or take a fifth) and each falls into a bucket of its own; 4 days is the default
/// end of a delivery's life.
const LATENCY_BUCKETS: [f64; 20] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 90.0, 300.0,
    1_800.0, 7_200.0, 43_200.0, 172_800.0, 345_600.0,
];

/// Seconds. A look-up in Redis takes a millisecond, a test delivery or a long list up to the request's timeout (30 s by
/// default).
const API_BUCKETS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 30.0,
];

/// Registers a metric, and gives it back.
///
/// # Panics
/// When two metrics share a name or a name is malformed. All names stand in this file and every run
/// of the program makes them all before anything else starts, so that a test that calls
/// `Metrics::new` proves that it cannot happen.
pub(super) fn register<C: Collector + 'static>(registry: &Registry, collector: C) {
    registry
        .register(Box::new(collector))
        .expect("metric names are constants, and distinct");
}

fn made<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("metric names, labels and buckets are well-formed constants");
    register(registry, metric.clone());
    metric
}

/// Every metric but the process's own, registered.
pub(super) fn metrics(registry: &Registry) -> Metrics {
    let counter = |name, help| made(registry, IntCounter::new(name, help));
    let counters = |name, help, labels: &[&str]| {
        made(registry, IntCounterVec::new(Opts::new(name, help), labels))
    };
    let gauge = |name, help| made(registry, IntGauge::new(name, help));
    let gauges = |name, help, labels: &[&str]| {
        made(registry, IntGaugeVec::new(Opts::new(name, help), labels))
    };
    let histogram = |name, help, buckets: &[f64]| {
        made(
            registry,
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())),
        )
    };

    let attempts = counters(
        "pombo_attempts_total",
        "POSTs that came to an end, by the class of the answer or the kind of failure.",
        &["outcome"],
    );
    let deliveries = counters(
        "pombo_deliveries_total",
        "Deliveries that came to an end: delivered or dead.",
        &["outcome"],
    );
    let lanes = gauges(
        "pombo_lanes",
        "Webhooks being worked on, by the state of their lane.",
        &["state"],
    );
    let webhooks = gauges("pombo_webhooks", "Webhooks known, by state.", &["state"]);
    gauges(
        "pombo_build_info",
        "Always 1; its label tells the version that runs.",
        &["version"],
    )
    .with_label_values(&[env!("CARGO_PKG_VERSION")])
    .set(1);

    let dead_letters_total = counters(
        "pombo_dead_letters_total",
        "Deliveries that were given up, by reason.",
        &["reason"],
    );
    show_from_the_start(&dead_letters_total, &DEAD_REASONS);
    let dead_letters_dropped_total = counters(
        "pombo_dead_letters_dropped_total",
        "Dead letters removed because they were too old (age) or too many (count).",
        &["cause"],
    );
    show_from_the_start(&dead_letters_dropped_total, &DROP_CAUSES);
    let redis_errors_total = counters(
        "pombo_redis_errors_total",
        "Redis commands that failed, by what they were for.",
        &["operation"],
    );
    show_from_the_start(&redis_errors_total, &REDIS_OPERATIONS);

    Metrics {
        registry: registry.clone(),
        events_total: counters(
            "pombo_events_total",
            "Entries read from a source: routed to webhooks, wanted by none (unmatched), or no events (rejected).",
            &["source", "outcome"],
        ),
        events_lost_total: counters(
            "pombo_events_lost_total",
            "Entries that were trimmed from a source's stream before Pombo had settled them.",
            &["source"],
        ),
        source_lag_entries: gauges(
            "pombo_source_lag_entries",
            "Entries in a source's streams that have not been read yet.",
            &["source"],
        ),
        source_lag_seconds: made(
            registry,
            GaugeVec::new(
                Opts::new(
                    "pombo_source_lag_seconds",
                    "Age in seconds of the oldest entry that has not been read yet.",
                ),
                &["source"],
            ),
        ),
        source_stopped: gauges(
            "pombo_source_stopped",
            "Streams of a source that are not read, for this reason.",
            &["source", "reason"],
        ),
        fanout_deliveries_total: counter(
            "pombo_fanout_deliveries_total",
            "Deliveries that events became: one for each webhook that wanted one.",
        ),
        fanout_queued_total: counter(
            "pombo_fanout_queued_total",
            "Deliveries written to their queue at once, because they could not be sent at once.",
        ),
        taken_deliveries: gauge(
            "pombo_taken_deliveries",
            "Deliveries being sent straight from the source, without having been stored.",
        ),
        api_requests_total: counters(
            "pombo_api_requests_total",
            "Requests to the API that were answered, or whose client hung up before that (status 499).",
            &["route", "method", "status"],
        ),
        api_request_duration_seconds: made(
            registry,
            HistogramVec::new(
                HistogramOpts::new(
                    "pombo_api_request_duration_seconds",
                    "Time from the head of a request to the API to its answer, in seconds.",
                )
                .buckets(API_BUCKETS.to_vec()),
                &["route", "method"],
            ),
        ),
        attempts: ATTEMPT_CLASSES.map(|class| attempts.with_label_values(&[class])),
        attempt_duration_seconds: histogram(
            "pombo_attempt_duration_seconds",
            "Time that a POST took, connecting included, in seconds.",
            &ATTEMPT_BUCKETS,
        ),
        delivery_latency_seconds: histogram(
            "pombo_delivery_latency_seconds",
            "Time from an event's arrival in the stream to the 2xx of a delivery, in seconds.",
            &LATENCY_BUCKETS,
        ),
        delivered: deliveries.with_label_values(&["delivered"]),
        dead: deliveries.with_label_values(&["dead"]),
        rejected_dropped_total: counter(
            "pombo_rejected_dropped_total",
            "Rejected entries that fell out of their bound and are lost.",
        ),
        resends_total: counter(
            "pombo_resends_total",
            "Requests sent again at once because the kept connection was dead; not attempts.",
        ),
        retries_total: counter(
            "pombo_retries_total",
            "Deliveries put off to a later attempt.",
        ),
        dead_letters_total,
        dead_letters_dropped_total,
        history_errors_total: counter(
            "pombo_history_errors_total",
            "Records of finished deliveries (history, statistics) that could not be written and are lost.",
        ),
        rate_limited_seconds_total: made(
            registry,
            Counter::new(
                "pombo_rate_limited_seconds_total",
                "Time that webhooks with work waited for their rate limit, in seconds.",
            ),
        ),
        queue_deliveries: gauge(
            "pombo_queue_deliveries",
            "Deliveries stored in the queues of this daemon's shards.",
        ),
        retry_deliveries: gauge(
            "pombo_retry_deliveries",
            "Stored deliveries that wait for their next attempt; part of pombo_queue_deliveries.",
        ),
        dead_letters_stored: gauge(
            "pombo_dead_letters_stored",
            "Dead letters kept in this daemon's shards.",
        ),
        oldest_pending_seconds: made(
            registry,
            Gauge::new(
                "pombo_oldest_pending_seconds",
                "Age of the event of the oldest queued delivery, in seconds.",
            ),
        ),
        in_flight: gauge("pombo_in_flight", "POSTs on the wire."),
        lanes: Lanes {
            open: lanes.with_label_values(&["open"]),
            behind: lanes.with_label_values(&["behind"]),
            held: lanes.with_label_values(&["held"]),
        },
        webhooks: Webhooks {
            active: webhooks.with_label_values(&["active"]),
            inactive: webhooks.with_label_values(&["inactive"]),
            disabled: webhooks.with_label_values(&["disabled"]),
        },
        redis_errors_total,
        redis_up: gauge(
            "pombo_redis_up",
            "1 while the Redis that holds the state of Pombo answers, else 0.",
        ),
        redis_generations_total: counter(
            "pombo_redis_generations_total",
            "Times that Redis came back as another server, by a restart or a failover.",
        ),
        shards_owned: gauge("pombo_shards_owned", "Shards that this daemon owns."),
        shards_claimed_total: counter(
            "pombo_shards_claimed_total",
            "Shards that this daemon claimed after it had joined.",
        ),
        shards_released_total: counter(
            "pombo_shards_released_total",
            "Shards that this daemon handed over to others.",
        ),
        instances: gauge(
            "pombo_instances",
            "Daemons on this Redis that live, this one among them, as its last beat showed.",
        ),
        beats_missed_total: counter(
            "pombo_beats_missed_total",
            "Heartbeats to Redis that were late or failed.",
        ),
    }
}

fn show_from_the_start(counters: &IntCounterVec, values: &[&str]) {
    for value in values {
        counters.with_label_values(&[*value]).inc_by(0);
    }
}
