//! What is to be reached, on two cores with everything switched on that is on by default.

use serde_json::{Value, json};

use super::figures::{Measured, kind, short};

/// What a figure's median is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub fn is_met(self, measured: f64) -> bool {
        match self {
            Bound::AtLeast(least) => measured >= least,
            Bound::AtMost(most) => measured <= most,
        }
    }
}

/// Of which scenario, which figure, and what it is to be.
pub const GOALS: &[(&str, &str, Bound)] = &[
    ("one", "ratio", Bound::AtLeast(0.70)),
    ("one", "daemon_us", Bound::AtMost(20.0)),
    ("one", "redis_us", Bound::AtMost(10.0)),
    ("hundred", "ratio", Bound::AtLeast(0.70)),
    ("hundred", "daemon_us", Bound::AtMost(20.0)),
    ("hundred", "redis_us", Bound::AtMost(10.0)),
    ("one-aof", "ratio", Bound::AtLeast(0.60)),
    ("hundred-aof", "ratio", Bound::AtLeast(0.60)),
    ("fanout", "ratio", Bound::AtLeast(0.90)),
    ("ten-thousand", "seconds", Bound::AtMost(1.0)),
    ("dead-neighbour", "rate_of_base", Bound::AtLeast(0.95)),
    ("dead-neighbour", "p99_of_base", Bound::AtMost(1.2)),
    ("steady", "p50_ms", Bound::AtMost(1.0)),
    ("steady", "p99_ms", Bound::AtMost(5.0)),
    ("idle", "idle_mb", Bound::AtMost(60.0)),
    ("idle", "idle_cpu_percent", Bound::AtMost(0.5)),
    ("idle", "first_delivery_ms", Bound::AtMost(2_000.0)),
    ("backlog", "waiting_growth_mb", Bound::AtMost(20.0)),
    ("backlog", "draining_growth_mb", Bound::AtMost(20.0)),
    ("backlog", "rate_of_base", Bound::AtLeast(1.0)),
    ("restart", "first_delivery_ms", Bound::AtMost(1_000.0)),
    ("tls", "ratio", Bound::AtLeast(0.65)),
    ("api-beside", "rate_of_base", Bound::AtLeast(0.95)),
    ("api-beside", "api_per_second", Bound::AtLeast(195.0)),
    ("api-beside", "api_failed", Bound::AtMost(0.0)),
];

/// A goal, and what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    pub scenario: &'static str,
    pub key: &'static str,
    pub bound: Bound,
    /// The median over the runs.
    pub measured: f64,
}

impl Judged {
    pub fn is_met(&self) -> bool {
        self.bound.is_met(self.measured)
    }
}

/// The goals of the scenarios that were run.
pub fn judge(all: &[Measured]) -> Vec<Judged> {
    let judged = |(scenario, key, bound): &(&'static str, &'static str, Bound)| {
        let measured = all.iter().find(|measured| measured.name == *scenario)?;
        Some(Judged {
            scenario,
            key,
            bound: *bound,
            measured: measured.median(key)?,
        })
    };
    GOALS.iter().filter_map(judged).collect()
}

/// The goals as a table in Markdown.
pub fn table(judged: &[Judged]) -> String {
    let mut text =
        "| scenario | figure | goal | measured | met |\n| --- | --- | --- | --- | --- |\n"
            .to_owned();
    for goal in judged {
        let bound = match goal.bound {
            Bound::AtLeast(least) => format!("at least {}", short(least)),
            Bound::AtMost(most) => format!("at most {}", short(most)),
        };
        let says = kind(goal.key).map_or(goal.key, |kind| kind.says);
        let met = if goal.is_met() { "yes" } else { "**no**" };
        let measured = short(goal.measured);
        text += &format!(
            "| `{}` | {says} | {bound} | {measured} | {met} |\n",
            goal.scenario
        );
    }
    text
}

pub fn to_json(judged: &[Judged]) -> Value {
    let goals = judged.iter().map(|goal| {
        let (name, bound) = match goal.bound {
            Bound::AtLeast(least) => ("at_least", least),
            Bound::AtMost(most) => ("at_most", most),
        };
        json!({
            "scenario": goal.scenario, "figure": goal.key, name: bound,
            "measured": goal.measured, "met": goal.is_met(),
        })
    });
    goals.collect()
}
