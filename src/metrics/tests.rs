use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

/// The names that dashboards and alerts rely on, and the labels of each.
const PUBLISHED: &[(&str, &str)] = &[
    ("pombo_events_total", r#"{outcome="routed",source="crm"}"#),
    (
        "pombo_events_total",
        r#"{outcome="unmatched",source="crm"}"#,
    ),
    ("pombo_events_total", r#"{outcome="rejected",source="crm"}"#),
    ("pombo_events_lost_total", r#"{source="crm"}"#),
    ("pombo_fanout_deliveries_total", ""),
    ("pombo_fanout_queued_total", ""),
    ("pombo_taken_deliveries", ""),
    ("pombo_attempts_total", r#"{outcome="2xx"}"#),
    ("pombo_attempts_total", r#"{outcome="forbidden"}"#),
    ("pombo_attempt_duration_seconds_bucket", r#"{le="15"}"#),
    ("pombo_delivery_latency_seconds_bucket", r#"{le="0.001"}"#),
    ("pombo_deliveries_total", r#"{outcome="delivered"}"#),
    ("pombo_deliveries_total", r#"{outcome="dead"}"#),
    ("pombo_retries_total", ""),
    ("pombo_resends_total", ""),
    ("pombo_rejected_dropped_total", ""),
    ("pombo_dead_letters_total", r#"{reason="exhausted"}"#),
    ("pombo_dead_letters_dropped_total", r#"{cause="age"}"#),
    ("pombo_history_errors_total", ""),
    ("pombo_queue_deliveries", ""),
    ("pombo_retry_deliveries", ""),
    ("pombo_dead_letters_stored", ""),
    ("pombo_oldest_pending_seconds", ""),
    ("pombo_in_flight", ""),
    ("pombo_lanes", r#"{state="open"}"#),
    ("pombo_webhooks", r#"{state="active"}"#),
    ("pombo_rate_limited_seconds_total", ""),
    ("pombo_source_lag_entries", r#"{source="crm"}"#),
    ("pombo_source_lag_seconds", r#"{source="crm"}"#),
    (
        "pombo_source_stopped",
        r#"{reason="out_of_memory",source="crm"}"#,
    ),
    (
        "pombo_api_requests_total",
        r#"{method="GET",route="/v1/tokens",status="200"}"#,
    ),
    (
        "pombo_api_request_duration_seconds_bucket",
        r#"{method="GET",route="/v1/tokens",le="0.001"}"#,
    ),
    ("pombo_redis_errors_total", r#"{operation="read_a_source"}"#),
    ("pombo_redis_up", ""),
    ("pombo_redis_generations_total", ""),
    ("pombo_shards_owned", ""),
    ("pombo_shards_claimed_total", ""),
    ("pombo_shards_released_total", ""),
    ("pombo_instances", ""),
    ("pombo_beats_missed_total", ""),
    (
        "pombo_build_info",
        concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"),
    ),
    ("process_cpu_seconds_total", ""),
    ("process_resident_memory_bytes", ""),
    ("process_open_fds", ""),
];

/// A page with every metric on it.
fn full_page() -> String {
    let metrics = Metrics::new();
    let source = metrics.source("crm");
    drop(source.stopped("out_of_memory"));
    metrics.api_request("/v1/tokens", "GET", 200, Duration::from_micros(300));
    metrics.render()
}

#[test]
fn every_published_metric_is_on_the_page() {
    let page = full_page();
    for (name, labels) in PUBLISHED {
        let start = format!("{name}{labels} ");
        assert!(
            page.lines().any(|line| line.starts_with(&start)),
            "{start}is missing from\n{page}"
        );
    }
}

#[test]
fn every_metric_has_a_help_text() {
    let page = full_page();
    for family in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = family
            .split(' ')
            .next()
            .expect("split yields at least one part");
        let start = format!("# HELP {name} ");
        let help = page
            .lines()
            .find_map(|line| line.strip_prefix(start.as_str()));
        assert!(
            help.is_some_and(|help| help.len() > 10),
            "{name} has no help"
        );
    }
}

#[test]
fn every_metric_but_those_of_sources_and_routes_is_there_before_anything_happened() {
    let page = Metrics::new().render();
    for (name, labels) in PUBLISHED
        .iter()
        .filter(|(_, labels)| !labels.contains("source=") && !labels.contains("route="))
    {
        assert!(
            page.contains(&format!("{name}{labels} ")),
            "{name}{labels} is missing"
        );
    }
}

#[test]
fn an_attempt_is_counted_under_its_class_and_an_unknown_class_under_other() {
    let metrics = Metrics::new();
    for class in ATTEMPT_CLASSES {
        metrics.attempt(class, Duration::from_millis(3));
    }
    metrics.attempt("no such class", Duration::from_secs(400));
    let page = metrics.render();
    for class in &ATTEMPT_CLASSES[..9] {
        assert!(
            page.contains(&format!("pombo_attempts_total{{outcome=\"{class}\"}} 1\n")),
            "{class}"
        );
    }
    assert!(page.contains("pombo_attempts_total{outcome=\"other\"} 2\n"));
    assert!(page.contains("pombo_attempt_duration_seconds_bucket{le=\"0.005\"} 10\n"));
    assert!(page.contains("pombo_attempt_duration_seconds_bucket{le=\"+Inf\"} 11\n"));
}

#[test]
fn a_dead_delivery_counts_as_ended_and_under_its_reason() {
    let metrics = Metrics::new();
    metrics.dead("gone");
    metrics.delivered(Duration::from_millis(1));
    let page = metrics.render();
    assert!(page.contains("pombo_deliveries_total{outcome=\"dead\"} 1\n"));
    assert!(page.contains("pombo_deliveries_total{outcome=\"delivered\"} 1\n"));
    assert!(page.contains("pombo_dead_letters_total{reason=\"gone\"} 1\n"));
    assert!(page.contains("pombo_delivery_latency_seconds_bucket{le=\"0.001\"} 1\n"));
}

#[test]
fn the_name_of_a_source_cannot_break_the_page() {
    let metrics = Metrics::new();
    metrics.source("a\"b\\c\nd").routed.inc();
    assert!(metrics.render().contains(r#"source="a\"b\\c\nd"} 1"#));
}

#[test]
fn two_daemons_in_one_process_count_apart() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.retries_total.inc();
    assert!(other.render().contains("pombo_retries_total 0\n"));
}

/// `promtool` is Prometheus' own linter. Where it is not installed this test has nothing to say;
/// `scripts/test` installs it.
#[test]
fn promtool_has_nothing_to_complain_about() {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        eprintln!("promtool is not installed: not checked");
        return;
    };
    let mut stdin = promtool.stdin.take().expect("stdin is piped");
    stdin
        .write_all(full_page().as_bytes())
        .expect("promtool reads its input");
    drop(stdin);
    let answer = promtool.wait_with_output().expect("promtool ends");
    let said = [answer.stdout, answer.stderr].concat();
    assert!(
        answer.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}
