//! The daemons themselves: alive and ready, modest in memory, honest in their metrics, quiet in their logs.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Evidence;
use super::repeats::{AFTERMATH_MS, windows};
use crate::support::pombo::Metrics;

/// Shards of [`crate::daemons::SETTINGS`].
const SHARDS: f64 = 16.0;
/// How long until gauges, which are sampled, have followed.
const PATIENCE: Duration = Duration::from_secs(20);
/// A daemon of a run holds some thousand small deliveries at most, besides what the program itself takes.
const MOST_RSS_KIB: u64 = 300 * 1024;
/// Lines that a process may log, and how many more for each fault of the run: states are told when they change.
const LINES: usize = 150;
const LINES_A_FAULT: usize = 60;

/// So many answers can be on their way when a daemon drops what it has, or sleeps until they have timed out.
const UNHEARD_A_FAULT: u64 = 250;

/// Gauges that are 0 when nothing is left to do.
const AT_REST: [&str; 4] = [
    "pombo_queue_deliveries",
    "pombo_retry_deliveries",
    "pombo_in_flight",
    "pombo_taken_deliveries",
];

/// What may stand in a log as an error, since faults cause it by nature: a word of its message, and of its subject.
const EXPECTED_ERRORS: [(&str, &str); 2] = [
    // A daemon that slept, or was cut off, for longer than its lease.
    ("another daemon deposed this one; it joins anew", ""),
    // Redis was away, or full: the deliveries are their source's until it is there.
    ("trouble", "queueing of deliveries"),
];

/// Told for each dead letter, and not by the change of a state.
const EACH: &str = "a delivery was dead-lettered";

pub async fn check(evidence: &mut Evidence<'_>) {
    let begun = Instant::now();
    let mut wrong = loop {
        let wrong = look(evidence).await;
        if wrong.is_empty() || begun.elapsed() > PATIENCE {
            break wrong;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    let faults = evidence.world.windows.len();
    let mut peak = 0;
    for daemon in &mut evidence.world.daemons {
        daemon.sample();
        peak = peak.max(daemon.peak_rss_kib);
        for (process, log) in daemon.logs.iter().enumerate() {
            let lines = log.lines();
            let count = lines.iter().filter(|line| !line.contains(EACH)).count();
            if count > LINES + LINES_A_FAULT * faults {
                wrong.push(format!("d{}.{process} logged {count} lines", daemon.index));
            }
            for line in lines.iter().filter(|line| is_wrong(line)) {
                wrong.push(format!("d{}.{process} logged {line}", daemon.index));
            }
        }
    }
    if peak > MOST_RSS_KIB {
        wrong.push(format!("a daemon took {} MiB", peak / 1024));
    }
    evidence.outcome.peak_rss_kib = peak;
    evidence.fail_with("the daemons are well at the end", &wrong);
}

fn is_wrong(line: &str) -> bool {
    if line.contains("panicked at") {
        return true;
    }
    let Ok(line) = serde_json::from_str::<Value>(line) else {
        // Nothing but a panic or a library that goes its own way writes anything else.
        return true;
    };
    let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
    let expected = |(message, subject): &(&str, &str)| {
        text("message").contains(message) && text("subject").contains(subject)
    };
    text("level") == "ERROR" && !EXPECTED_ERRORS.iter().any(expected)
}

/// What is not yet as it must be.
async fn look(evidence: &Evidence<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let daemons = &evidence.world.daemons;
    let mut owned = 0.0;
    for daemon in &daemons[..daemons.len() - 1] {
        let name = format!("d{}", daemon.index);
        let Some(process) = daemon.process() else {
            wrong.push(format!("{name} does not run"));
            continue;
        };
        match process.try_get("/readyz").await {
            Ok(page) if page.status == 200 => {}
            Ok(page) => wrong.push(format!("{name} is not ready: {}", page.body.trim())),
            Err(error) => wrong.push(format!("{name} does not answer: {error}")),
        }
        let metrics = match process.try_get("/metrics").await {
            Ok(page) => Metrics(page.body),
            Err(_) => continue,
        };
        owned += metrics.value("pombo_shards_owned", &[]);
        for gauge in AT_REST {
            let value = metrics.value(gauge, &[]);
            if value != 0.0 {
                wrong.push(format!("{gauge} of {name} is {value}"));
            }
        }
        counts(evidence, daemon.index, &metrics, &mut wrong);
    }
    if owned != SHARDS {
        wrong.push(format!("the daemons own {owned} of {SHARDS} shards"));
    }
    wrong
}

/// The successes that a process counts are those that receivers saw of it, but for answers that a fault kept from it.
fn counts(evidence: &Evidence<'_>, index: usize, metrics: &Metrics, wrong: &mut Vec<String>) {
    let (since_ms, seen) = evidence.world.ledger.successes_of(index as u8);
    let delivered = metrics.value("pombo_deliveries_total", &[("outcome", "delivered")]);
    let answered = metrics.value("pombo_attempts_total", &[("outcome", "2xx")]);
    let faults = windows(evidence)
        .filter(|window| window.to_ms + AFTERMATH_MS >= since_ms)
        .count() as u64;
    let least = seen.saturating_sub(faults * UNHEARD_A_FAULT) as f64;
    let most = seen as f64;
    if !(least..=most).contains(&delivered) || !(least..=most).contains(&answered) {
        wrong.push(format!(
            "d{index} counts {delivered} deliveries and {answered} 2xx where receivers saw {seen} successes, {faults} faults ago"
        ));
    }
}
