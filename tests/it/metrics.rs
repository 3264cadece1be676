//! What the daemon shows of itself.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use crate::support::pombo::{Metrics, World};
use crate::support::receiver::{Answer, Gate, Received, Receiver, Step};

/// Every metric that others rely on.
const NAMES: &str = "
    pombo_events_total pombo_fanout_deliveries_total pombo_attempts_total pombo_attempt_duration_seconds_count
    pombo_delivery_latency_seconds_count pombo_deliveries_total pombo_retries_total pombo_dead_letters_total
    pombo_queue_deliveries pombo_retry_deliveries pombo_dead_letters_stored pombo_oldest_pending_seconds pombo_in_flight
    pombo_lanes pombo_rate_limited_seconds_total pombo_source_lag_entries pombo_source_lag_seconds
    pombo_redis_errors_total pombo_redis_up pombo_shards_owned pombo_build_info process_cpu_seconds_total
    process_resident_memory_bytes process_open_fds pombo_events_lost_total pombo_taken_deliveries
    pombo_fanout_queued_total pombo_dead_letters_dropped_total pombo_webhooks pombo_resends_total
    pombo_beats_missed_total pombo_redis_generations_total pombo_history_errors_total
";

const EVENTS: usize = 20;

#[tokio::test]
async fn after_a_flow_every_metric_is_there_and_they_agree() {
    let world = World::with("[retry]\nmax_attempts = 2").await;
    let gate = Gate::new();
    let held = gate.clone();
    let script = move |received: &Received| {
        let first = received.header("x-delivery-attempt") == "1";
        match received.path.as_str() {
            "/flaky" if first => Step::status(503),
            "/dead" => Step::status(400),
            "/slow" if first => Answer::new(200).after(&held).into(),
            _ => Step::status(200),
        }
    };
    let receiver = Receiver::scripted(script).await;
    for path in ["well", "flaky", "dead", "slow"] {
        let url = receiver.url(&format!("/{path}"));
        world.webhooks.make(path, &url, &["a.b"], |_| {}).await;
    }
    let pombo = world.config.start().await;
    world.redis.events("e", "a.b", EVENTS).await;
    world.redis.events("nobody", "x.y", 3).await;
    world.redis.add("events", &[("payload", "no type")]).await;
    world.redis.settled("events").await;
    let count = EVENTS as f64;
    pombo
        .wait_for_metric("pombo_dead_letters_stored", &[], |stored| stored == count)
        .await;
    let metrics = pombo
        .wait_for_metric("pombo_queue_deliveries", &[], |queued| queued == count)
        .await;
    assert_eq!(metrics, count, "what hangs is in its queue");
    let during = pombo.metrics().await;
    assert_eq!(during.value("pombo_in_flight", &[]), count);
    assert!(during.value("pombo_oldest_pending_seconds", &[]) > 0.5);
    gate.open();
    let delivered = [("outcome", "delivered")];
    pombo
        .wait_for_metric("pombo_deliveries_total", &delivered, |all| {
            all == 3.0 * count
        })
        .await;
    pombo
        .wait_for_metric("pombo_queue_deliveries", &[], |queued| queued == 0.0)
        .await;
    let metrics = pombo.metrics().await;
    check_values(&metrics);
    let missing: Vec<&str> = NAMES
        .split_whitespace()
        .filter(|name| !metrics.has(name))
        .collect();
    assert!(
        missing.is_empty(),
        "{missing:?} are missing:\n{}",
        metrics.0
    );
    // No label that a tenant can make grow.
    for word in ["well", "flaky", "default", "127.0.0.1", "evt"] {
        assert!(!metrics.0.contains(word), "{word} is a label");
    }
    check_by_promtool(&metrics).await;
}

fn check_values(metrics: &Metrics) {
    let count = EVENTS as f64;
    let events = |outcome| metrics.value("pombo_events_total", &[("outcome", outcome)]);
    assert_eq!(
        [events("routed"), events("unmatched"), events("rejected")],
        [count, 3.0, 1.0]
    );
    let attempts = |outcome| metrics.value("pombo_attempts_total", &[("outcome", outcome)]);
    assert_eq!(
        [attempts("2xx"), attempts("4xx"), attempts("5xx")],
        [3.0 * count, 2.0 * count, count]
    );
    let all = metrics.value("pombo_attempts_total", &[]);
    assert_eq!(
        metrics.value("pombo_attempt_duration_seconds_count", &[]),
        all
    );
    let dead = [("outcome", "dead")];
    for (name, labels, value) in [
        ("pombo_fanout_deliveries_total", &[][..], 4.0 * count),
        ("pombo_delivery_latency_seconds_count", &[], 3.0 * count),
        ("pombo_deliveries_total", &dead, count),
        (
            "pombo_dead_letters_total",
            &[("reason", "exhausted")],
            count,
        ),
        ("pombo_dead_letters_stored", &[], count),
        ("pombo_retries_total", &[], 2.0 * count),
        ("pombo_retry_deliveries", &[], 0.0),
        ("pombo_in_flight", &[], 0.0),
        ("pombo_taken_deliveries", &[], 0.0),
        ("pombo_events_lost_total", &[], 0.0),
        ("pombo_source_lag_entries", &[("source", "events")], 0.0),
        ("pombo_source_lag_seconds", &[], 0.0),
        ("pombo_redis_up", &[], 1.0),
        ("pombo_redis_errors_total", &[], 0.0),
        ("pombo_history_errors_total", &[], 0.0),
        ("pombo_redis_generations_total", &[], 0.0),
        ("pombo_shards_owned", &[], 64.0),
        ("pombo_webhooks", &[("state", "active")], 4.0),
        ("pombo_oldest_pending_seconds", &[], 0.0),
        (
            "pombo_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1.0,
        ),
    ] {
        assert_eq!(metrics.value(name, labels), value, "{name} {labels:?}");
    }
}

/// Where promtool is installed, it finds nothing to say.
async fn check_by_promtool(metrics: &Metrics) {
    let started = tokio::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = started else {
        println!("promtool is not installed: not checked");
        return;
    };
    let mut input = promtool.stdin.take().expect("a pipe");
    input
        .write_all(metrics.0.as_bytes())
        .await
        .expect("written");
    drop(input);
    let output = promtool.wait_with_output().await.expect("its output");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn while_redis_is_away_the_daemon_lives_is_not_ready_and_says_why_and_then_goes_on() {
    let mut world = World::new().await;
    let receiver = Receiver::start().await;
    let pombo = world.config.start().await;
    assert_eq!(pombo.get("/readyz").await.status, 200);
    let page = pombo.get("/readyz").await.body;
    assert!(page.contains(r#"{"name":"redis","met":true}"#), "{page}");

    world.redis.kill();
    let page = pombo.wait_for_readyz(|page| page.status == 503).await;
    assert!(
        page.body.contains(r#""name":"redis","met":false,"reason""#),
        "{page:?}"
    );
    assert_eq!(pombo.get("/healthz").await.body, "ok\n");
    pombo
        .wait_for_metric("pombo_redis_up", &[], |up| up == 0.0)
        .await;

    world.redis.restart().await;
    pombo.wait_ready().await;
    let webhooks = world.config.webhooks().await;
    webhooks.all("w", &receiver.url("/")).await;
    // An event that is read before its webhook is known is nobody's.
    let active = [("state", "active")];
    pombo
        .wait_for_metric("pombo_webhooks", &active, |count| count == 1.0)
        .await;
    world.redis.event("e1", "a.b", "1").await;
    receiver.wait_for(1).await;
    world.redis.settled("events").await;
    let metrics = pombo.metrics().await;
    assert_eq!(metrics.value("pombo_redis_up", &[]), 1.0);
    assert_eq!(metrics.value("pombo_redis_generations_total", &[]), 1.0);
    assert!(metrics.value("pombo_redis_errors_total", &[]) > 0.0);
}

#[tokio::test]
async fn the_listener_answers_its_three_pages_and_nothing_else() {
    let world = World::new().await;
    let pombo = world.config.start().await;
    let metrics = pombo.get("/metrics").await;
    assert!(
        metrics
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        metrics.head
    );
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/", 404),
        ("/metrics/x", 404),
    ] {
        assert_eq!(pombo.get(path).await.status, status, "{path}");
    }
}
