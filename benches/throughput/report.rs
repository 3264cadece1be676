//! The table, the file, and the comparison with the figures that were accepted last.

use std::path::Path;

use serde_json::{Value, json};

use crate::scenarios::{How, Pace, Scenario};

/// The figures that were accepted last, as ratios.
const ACCEPTED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/benches/throughput/accepted.json"
);
/// A ratio that is worse by more than this is pointed out.
const WORSE_BY: f64 = 0.1;

/// One run.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub per_second: f64,
    /// Of the bare client in turn with it; 0 where that is of no use.
    pub raw_per_second: f64,
    pub daemon_us: f64,
    pub redis_us: f64,
    pub receiver_us: f64,
    pub daemon_peak_bytes: u64,
    /// Of all deliveries, those that passed through their queue.
    pub queued_share: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub longest_ms: f64,
    pub duplicates: u64,
    pub lost: u64,
    /// What else there is to say, by name.
    pub extra: Vec<(&'static str, f64)>,
}

impl Figures {
    fn ratio(&self) -> f64 {
        match self.raw_per_second > 0.0 {
            true => self.per_second / self.raw_per_second,
            false => 0.0,
        }
    }
}

pub struct Measured {
    pub scenario: Scenario,
    pub figures: Vec<Figures>,
}

/// Minimum, median and maximum.
fn spread(measured: &Measured, figure: impl Fn(&Figures) -> f64) -> (f64, f64, f64) {
    let mut values: Vec<f64> = measured.figures.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
    let last = values.len().saturating_sub(1);
    (at(0), (at(last / 2) + at(values.len() / 2)) / 2.0, at(last))
}

pub fn print(all: &[Measured]) {
    println!(
        "| scenario | deliveries/s (min to max) | of the bare client | daemon, Redis, receiver µs | daemon MB | through queues | p50, p99, p99.9, max ms | twice | lost |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for measured in all
        .iter()
        .filter(|measured| measured.scenario.how == How::Deliver)
    {
        let median = |figure: fn(&Figures) -> f64| spread(measured, figure).1;
        let (low, rate, high) = spread(measured, |figures| figures.per_second);
        let ratio = match measured.scenario.pace {
            Pace::Flood => format!("{:.2}", median(Figures::ratio)),
            Pace::Steady(_) => String::new(),
        };
        println!(
            "| `{}` | {rate:.0} ({low:.0} to {high:.0}) | {ratio} | {:.1}, {:.1}, {:.1} | {:.0} | {:.0} % | {:.1}, {:.1}, {:.1}, {:.0} | {} | {} |",
            measured.scenario.name,
            median(|figures| figures.daemon_us),
            median(|figures| figures.redis_us),
            median(|figures| figures.receiver_us),
            median(|figures| figures.daemon_peak_bytes as f64) / 1e6,
            median(|figures| figures.queued_share) * 100.0,
            median(|figures| figures.p50_ms),
            median(|figures| figures.p99_ms),
            median(|figures| figures.p999_ms),
            median(|figures| figures.longest_ms),
            spread(measured, |figures| figures.duplicates as f64).2,
            spread(measured, |figures| figures.lost as f64).2,
        );
    }
    println!();
    for measured in all {
        let names = measured.figures.first().map(|figures| &figures.extra);
        for (index, (name, _)) in names.into_iter().flatten().enumerate() {
            let (low, median, high) = spread(measured, |figures| figures.extra[index].1);
            let scenario = measured.scenario.name;
            println!("{scenario}: {name} {median:.2} ({low:.2} to {high:.2})");
        }
    }
}

/// Writes `target/bench/throughput.json`. False if something was lost or delivered twice.
pub fn write(all: &[Measured]) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    let file = folder.join("throughput.json");
    let runs =
        |measured: &Measured| -> Vec<Value> { measured.figures.iter().map(json_of).collect() };
    let scenarios: serde_json::Map<String, Value> = all
        .iter()
        .map(|measured| (measured.scenario.name.to_owned(), json!(runs(measured))))
        .collect();
    let text = serde_json::to_string_pretty(&Value::Object(scenarios)).unwrap_or_default();
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, text));
    if let Err(error) = written {
        eprintln!("{} could not be written: {error}", file.display());
    }
    let whole = |figures: &Figures| figures.lost == 0 && figures.duplicates == 0;
    all.iter().flat_map(|measured| &measured.figures).all(whole)
}

fn json_of(figures: &Figures) -> Value {
    let extra: serde_json::Map<String, Value> = figures
        .extra
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    json!({
        "extra": extra,
        "deliveries_per_second": figures.per_second,
        "bare_client_per_second": figures.raw_per_second,
        "ratio": figures.ratio(),
        "daemon_us_per_delivery": figures.daemon_us,
        "redis_us_per_delivery": figures.redis_us,
        "receiver_us_per_delivery": figures.receiver_us,
        "daemon_peak_bytes": figures.daemon_peak_bytes,
        "queued_share": figures.queued_share,
        "p50_ms": figures.p50_ms,
        "p99_ms": figures.p99_ms,
        "p999_ms": figures.p999_ms,
        "longest_ms": figures.longest_ms,
        "duplicates": figures.duplicates,
        "lost": figures.lost,
    })
}

/// Prints how the ratios differ from those that were accepted last.
pub fn compare(all: &[Measured]) {
    let text = std::fs::read_to_string(ACCEPTED).unwrap_or_default();
    let accepted: Value = serde_json::from_str(&text).unwrap_or_default();
    println!();
    for measured in all {
        let name = measured.scenario.name;
        let (_, ratio, _) = spread(measured, Figures::ratio);
        match accepted[name]["ratio"].as_f64() {
            Some(before) if before > 0.0 => {
                let change = ratio / before - 1.0;
                let note = if change < -WORSE_BY { "  WORSE" } else { "" };
                println!(
                    "{name}: {ratio:.2}, accepted {before:.2} ({:+.0} %){note}",
                    change * 100.0
                );
            }
            _ => println!("{name}: {ratio:.2}, nothing accepted yet"),
        }
    }
}
