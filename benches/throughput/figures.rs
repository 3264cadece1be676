//! What is measured: figures by name, what each is called, and how they spread over the runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What one run came to, by the keys of [`KINDS`].
pub type Run = BTreeMap<&'static str, f64>;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    /// It depends on the machine, or says no more than what happened: never compared with an earlier run.
    Neither,
}

/// A figure.
#[derive(Debug)]
pub struct Kind {
    pub key: &'static str,
    /// For people, with its unit.
    pub says: &'static str,
    pub better: Better,
    /// A difference up to this is noise, whatever its share (in the figure's unit).
    pub slack: f64,
}

const fn told(key: &'static str, says: &'static str) -> Kind {
    Kind {
        key,
        says,
        better: Better::Neither,
        slack: 0.0,
    }
}

const fn compared(key: &'static str, says: &'static str, better: Better, slack: f64) -> Kind {
    Kind {
        key,
        says,
        better,
        slack,
    }
}

/// All figures. Those that are compared do not depend on how fast the machine is: ratios, and memory.
pub const KINDS: &[Kind] = &[
    told("per_second", "deliveries/s"),
    told("bare_per_second", "requests/s of the bare client"),
    compared("ratio", "of the bare client's rate", Better::Higher, 0.01),
    told("seconds", "seconds from first XADD to last settlement"),
    told("daemon_us", "µs of CPU of the daemon, each"),
    told("redis_us", "µs of CPU of Redis, each"),
    told("receiver_us", "µs of CPU of the receiver, each"),
    told("adder_us", "µs of CPU of the benchmark's own adder, each"),
    told("bare_client_us", "µs of CPU of the bare client, each"),
    told("bare_receiver_us", "µs of CPU of its receiver, each"),
    compared(
        "daemon_of_bare",
        "times the bare client's CPU, the daemon",
        Better::Lower,
        0.05,
    ),
    compared(
        "redis_of_bare",
        "times the bare client's CPU, Redis",
        Better::Lower,
        0.05,
    ),
    compared(
        "daemon_peak_mb",
        "MB of the daemon at most",
        Better::Lower,
        8.0,
    ),
    compared(
        "redis_bytes_per_queued",
        "bytes of Redis for each delivery that waits",
        Better::Lower,
        20.0,
    ),
    told("queued_share", "of all deliveries, through their queue"),
    told("p50_ms", "ms from XADD to receipt, p50"),
    told("p99_ms", "ms from XADD to receipt, p99"),
    told("p999_ms", "ms from XADD to receipt, p99.9"),
    told("longest_ms", "ms from XADD to receipt, the longest"),
    told(
        "bare_p50_ms",
        "ms from making to receipt by the bare client at the same pace, p50",
    ),
    told(
        "bare_p99_ms",
        "ms from making to receipt by the bare client at the same pace, p99",
    ),
    told("late_ms", "ms that the adder was late at most"),
    told("connections", "connections made meanwhile"),
    told(
        "stolen_percent",
        "% of the CPU that the machine's host gave to others",
    ),
    told("duplicates", "delivered twice"),
    told("lost", "not delivered"),
    told(
        "base_per_second",
        "deliveries/s of its measure (see the scenario)",
    ),
    compared(
        "rate_of_base",
        "of the rate of its measure",
        Better::Higher,
        0.02,
    ),
    told("paced_per_second", "events/s at the even pace"),
    told("paced_p50_ms", "ms at that pace, p50"),
    told("paced_p99_ms", "ms at that pace, p99"),
    told("base_p99_ms", "ms, the p99 of its measure at that pace"),
    compared(
        "p99_of_base",
        "times the p99 of its measure",
        Better::Lower,
        0.2,
    ),
    told("api_per_second", "API requests made a second and answered"),
    told("api_failed", "API requests that failed"),
    told("api_p50_ms", "ms that the API took to answer, p50"),
    told("api_p99_ms", "ms that the API took to answer, p99"),
    told(
        "first_delivery_ms",
        "ms from the start to the first delivery",
    ),
    told("idle_cpu_percent", "% of one core"),
    compared("idle_mb", "MB of the daemon", Better::Lower, 2.0),
    told(
        "idle_anonymous_mb",
        "MB of them its own, and not the program's file",
    ),
    told("queued_per_second", "queued a second"),
    told("before_mb", "MB of the daemon before"),
    compared(
        "waiting_growth_mb",
        "MB more while they wait",
        Better::Lower,
        4.0,
    ),
    compared(
        "draining_growth_mb",
        "MB more at most while they drain",
        Better::Lower,
        4.0,
    ),
    told(
        "others_p99_waiting_ms",
        "ms, the others' p99 while they wait",
    ),
    told(
        "others_p99_draining_ms",
        "ms, the others' p99 while they drain",
    ),
    told("drained_per_second", "drained a second"),
    told(
        "set_aside",
        "set aside, for they were in flight: they follow by their retry policy",
    ),
    told(
        "in_queues_ms",
        "ms from the start until all but those set aside are delivered",
    ),
    told("last_ms", "ms from the start to the very last"),
];

/// What the figure `key` is.
pub fn kind(key: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.key == key)
}

/// How a figure came out over the runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

/// The spread of `values`; `None` if there are none.
pub fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    Some(Spread {
        min,
        median: (low + high) / 2.0,
        max,
    })
}

/// A scenario's runs.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub name: &'static str,
    pub says: &'static str,
    pub runs: Vec<Run>,
}

impl Measured {
    /// How the figure `key` came out, over the runs that have it.
    pub fn spread(&self, key: &str) -> Option<Spread> {
        spread(
            self.runs
                .iter()
                .filter_map(|run| run.get(key).copied())
                .collect(),
        )
    }

    /// The median of the figure `key`.
    pub fn median(&self, key: &str) -> Option<f64> {
        self.spread(key).map(|spread| spread.median)
    }

    /// Whether every run delivered everything, and nothing twice.
    pub fn is_whole(&self) -> bool {
        let none = |run: &Run, key| run.get(key).is_none_or(|number| *number == 0.0);
        self.runs
            .iter()
            .all(|run| none(run, "lost") && none(run, "duplicates"))
    }

    pub fn to_json(&self) -> Value {
        let figures: serde_json::Map<String, Value> = KINDS
            .iter()
            .filter_map(|kind| {
                let Spread { min, median, max } = self.spread(kind.key)?;
                let says = json!({"says": kind.says, "min": min, "median": median, "max": max});
                Some((kind.key.to_owned(), says))
            })
            .collect();
        json!({"says": self.says, "figures": figures, "runs": self.runs})
    }
}

/// Text of a number: as many digits as are of use.
pub fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 || number == 0.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 0.01 => format!("{number:.2}"),
        _ => format!("{number:.4}"),
    }
}
