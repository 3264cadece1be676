//! What a run came to: a line for machines, a few for people, and the table of many.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::options::Options;
use crate::schedule::Kind;

/// One run, as it stands in `runs.jsonl`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub topology: String,
    pub seed: u64,
    pub daemons: usize,
    pub seconds: u64,
    /// How often each fault happened.
    pub faults: BTreeMap<String, u64>,
    /// kill -9 of daemons and of servers.
    pub kills: u64,
    /// In the source streams at the end.
    pub events: u64,
    /// XADD that Redis refused, and that it did not answer.
    pub refused: u64,
    pub unanswered: u64,
    /// Accepted, and not kept by Redis.
    pub lost_by_redis: u64,
    /// What the events became: one for each subscriber that wanted one.
    pub deliveries: u64,
    pub dead_letters: u64,
    pub attempts: u64,
    pub duplicates: u64,
    /// By the fault that came last before the repeat.
    pub duplicates_by_fault: BTreeMap<String, u64>,
    /// The most repeats of one delivery.
    pub most_repeats: u64,
    /// Neither delivered nor a dead letter.
    pub losses: u64,
    /// From the end of the last fault until nothing was left to do, ms.
    pub rest_ms: u64,
    pub peak_rss_kib: u64,
    /// What was wrong, in words; empty for a run that passed.
    pub failures: Vec<String>,
}

impl Outcome {
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

pub fn directory() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"));
    target.join("chaos")
}

/// Adds a line to `runs.jsonl`.
pub fn keep(outcome: &Outcome) -> std::io::Result<()> {
    std::fs::create_dir_all(directory())?;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory().join("runs.jsonl"))?;
    let mut line = serde_json::to_vec(outcome)?;
    line.push(b'\n');
    // One write a line: runs at the same time do not mix theirs.
    file.write_all(&line)
}

/// A run in a few lines.
pub fn tell(outcome: &Outcome, options: &Options) -> String {
    let mut text = String::new();
    let faults: Vec<String> = outcome
        .faults
        .iter()
        .map(|(name, times)| format!("{name} {times}"))
        .collect();
    let verdict = if outcome.passed() { "passed" } else { "FAILED" };
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "seed {}: {verdict}: {} events (refused {}, unanswered {}), {} deliveries, {} duplicates (at most {} of one), {} dead \
         letters, {} lost; {} kill -9; at rest after {:.1} s; {} MiB at most; {}",
        outcome.seed,
        outcome.events,
        outcome.refused,
        outcome.unanswered,
        outcome.deliveries,
        outcome.duplicates,
        outcome.most_repeats,
        outcome.dead_letters,
        outcome.losses,
        outcome.kills,
        outcome.rest_ms as f64 / 1_000.0,
        outcome.peak_rss_kib / 1_024,
        faults.join(", "),
    );
    for failure in &outcome.failures {
        let _ = writeln!(text, "  ! {failure}");
    }
    if !outcome.passed() {
        let _ = writeln!(text, "  again: {}", options.replay(outcome.seed));
    }
    text
}

/// Sums up all runs that were kept, as a table in Markdown: a row for each fault with the runs that it happened in.
pub fn table() -> Result<String, String> {
    let path = directory().join("runs.jsonl");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{}: {error}; run scripts/chaos first", path.display()))?;
    let runs = text
        .lines()
        .map(serde_json::from_str::<Outcome>)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let mut table = String::from(
        "| fault | runs | times | kill -9 | events | deliveries | duplicates after it | lost by Redis itself | lost |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let mut topologies: Vec<&str> = runs.iter().map(|run| run.topology.as_str()).collect();
    topologies.sort_unstable();
    topologies.dedup();
    for topology in topologies {
        for kind in Kind::ALL {
            let with: Vec<&Outcome> = runs
                .iter()
                .filter(|run| run.topology == topology && run.faults.contains_key(kind.name()))
                .collect();
            if !with.is_empty() {
                let times = with.iter().filter_map(|run| run.faults.get(kind.name()));
                let after = with
                    .iter()
                    .filter_map(|run| run.duplicates_by_fault.get(kind.name()));
                let name = format!("{topology}: {}", kind.describe());
                row(&mut table, &name, &with, times.sum(), after.sum());
            }
        }
    }
    let all: Vec<&Outcome> = runs.iter().collect();
    let times = runs.iter().flat_map(|run| run.faults.values()).sum();
    let duplicates = runs.iter().map(|run| run.duplicates).sum();
    row(&mut table, "**all runs**", &all, times, duplicates);
    let failed = runs.iter().filter(|run| !run.passed()).count();
    if failed > 0 {
        let _ = writeln!(table, "\n{failed} of {} runs failed.", runs.len());
    }
    Ok(table)
}

fn row(table: &mut String, name: &str, runs: &[&Outcome], times: u64, duplicates: u64) {
    let sum = |pick: fn(&Outcome) -> u64| runs.iter().map(|run| pick(run)).sum::<u64>();
    let _ = writeln!(
        table,
        "| {name} | {} | {times} | {} | {} | {} | {duplicates} | {} | {} |",
        runs.len(),
        sum(|run| run.kills),
        sum(|run| run.events),
        sum(|run| run.deliveries),
        sum(|run| run.lost_by_redis),
        sum(|run| run.losses),
    );
}
