//! The tables, the file, and what the process ends with.

use std::path::Path;
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use crate::accepted::{self, Accepted};
use crate::figures::{KINDS, Measured, short};
use crate::options::Options;
use crate::{goals, usage};

/// The figures that stand in the table; others are told below it.
const IN_TABLE: &[&str] = &[
    "per_second",
    "bare_per_second",
    "ratio",
    "daemon_us",
    "redis_us",
    "receiver_us",
    "bare_client_us",
    "bare_receiver_us",
    "daemon_peak_mb",
    "queued_share",
    "redis_bytes_per_queued",
    "p50_ms",
    "p99_ms",
    "p999_ms",
    "longest_ms",
    "duplicates",
    "lost",
];
/// Of no interest by themselves; the file has them.
const IN_FILE_ONLY: &[&str] = &[
    "seconds",
    "late_ms",
    "adder_us",
    "daemon_of_bare",
    "redis_of_bare",
];

/// Prints and writes all, and says what the process ends with.
pub fn tell(options: &Options, all: &[Measured], before: Accepted) -> ExitCode {
    let judged = goals::judge(all);
    println!("{}\n", about(options));
    print!("{}", table(all));
    println!("\n{}", others(all));
    if !judged.is_empty() {
        if options.quick {
            println!("Goals are for runs of full length; this one was a first look.\n");
        }
        println!("{}", goals::table(&judged));
    }
    if options.compare {
        let differences = accepted::differences(&before, all);
        match differences.is_empty() {
            true => {
                println!("Nothing was accepted yet to compare with (scripts/bench --accept).\n")
            }
            false => {
                if options.quick {
                    println!(
                        "What was accepted is of runs of full length: this compares it with less.\n"
                    );
                }
                println!("{}", accepted::table(&differences));
            }
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    let file = folder.join("throughput.json");
    let text = serde_json::to_string_pretty(&to_json(options, all, &judged)).unwrap_or_default();
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, text));
    if let Err(error) = written {
        eprintln!("{} cannot be written: {error}", file.display());
    }
    let whole = all.iter().all(Measured::is_whole);
    if options.accept {
        match whole {
            true => accept(before, all),
            false => eprintln!("Not accepted: deliveries were lost or came twice."),
        }
    }
    if whole {
        ExitCode::SUCCESS
    } else {
        eprintln!("Deliveries were lost or came twice.");
        ExitCode::FAILURE
    }
}

fn accept(mut accepted: Accepted, all: &[Measured]) {
    accepted::accept(&mut accepted, all);
    let file = accepted::file();
    match accepted::write(&file, &accepted) {
        Ok(()) => println!("Accepted, in {}.", file.display()),
        Err(wrong) => eprintln!("{wrong}"),
    }
}

fn today() -> String {
    let today = jiff::Timestamp::now();
    today.strftime("%Y-%m-%d").to_string()
}

fn command(options: &Options) -> String {
    let mut words = vec!["scripts/bench".to_owned()];
    if options.quick {
        words.push("--quick".to_owned());
    }
    words.extend(["--runs".to_owned(), options.runs.to_string()]);
    words.extend(options.scenarios.iter().cloned());
    words.join(" ")
}

fn redis_version() -> String {
    let output = Command::new("redis-server").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    version.unwrap_or("unknown").to_owned()
}

fn about(options: &Options) -> String {
    format!(
        "{}, `{}`, {}, Redis {}. Median (lowest to highest) of {}.",
        today(),
        command(options),
        usage::machine(),
        redis_version(),
        options.runs,
    )
}

fn to_json(options: &Options, all: &[Measured], judged: &[goals::Judged]) -> Value {
    let scenarios: serde_json::Map<String, Value> = all
        .iter()
        .map(|measured| (measured.name.to_owned(), measured.to_json()))
        .collect();
    json!({
        "date": today(), "command": command(options), "quick": options.quick, "runs": options.runs,
        "machine": usage::machine(), "redis": redis_version(), "pombo": env!("CARGO_PKG_VERSION"),
        "goals": goals::to_json(judged), "scenarios": scenarios,
    })
}

/// What is delivered, in a row each.
fn table(all: &[Measured]) -> String {
    let mut text = "| scenario | deliveries/s | bare client/s | ratio | CPU µs each: daemon, Redis, receiver | bare client, its receiver | \
                    daemon MB | through queues | p50, p99, p99.9, max ms | twice | lost |\n\
                    | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for measured in all {
        let Some(rate) = measured.spread("per_second") else {
            continue;
        };
        let some = |keys: &[&str]| -> String {
            let medians = keys
                .iter()
                .filter_map(|key| measured.median(key).map(short));
            medians.collect::<Vec<_>>().join(", ")
        };
        let most = |key| measured.spread(key).map_or(0.0, |spread| spread.max);
        let ratio = measured
            .spread("ratio")
            .map(|ratio| format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max));
        text += &format!(
            "| `{}` | {:.0} ({:.0} to {:.0}) | {} | {} | {} | {} | {} | {:.0} % | {} | {} | {} |\n",
            measured.name,
            rate.median,
            rate.min,
            rate.max,
            some(&["bare_per_second"]),
            ratio.unwrap_or_default(),
            some(&["daemon_us", "redis_us", "receiver_us"]),
            some(&["bare_client_us", "bare_receiver_us"]),
            some(&["daemon_peak_mb"]),
            measured.median("queued_share").unwrap_or(0.0) * 100.0,
            some(&["p50_ms", "p99_ms", "p999_ms", "longest_ms"]),
            most("duplicates"),
            most("lost"),
        );
    }
    text
}

/// Everything else, in a line each.
fn others(all: &[Measured]) -> String {
    let mut text = String::new();
    for measured in all {
        let delivers = measured.spread("per_second").is_some();
        for kind in KINDS {
            let in_table = IN_TABLE.contains(&kind.key) && kind.key != "redis_bytes_per_queued";
            if (delivers && in_table) || IN_FILE_ONLY.contains(&kind.key) {
                continue;
            }
            if let Some(spread) = measured.spread(kind.key) {
                let (median, min, max) =
                    (short(spread.median), short(spread.min), short(spread.max));
                text += &format!(
                    "{}: {median} ({min} to {max}) {}\n",
                    measured.name, kind.says
                );
            }
        }
    }
    text
}
