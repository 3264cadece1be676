//! The parts of the benchmark (`benches/throughput`) that say what its figures mean: a bench target has no tests of its own.

#![allow(dead_code, reason = "the benchmark itself uses the rest")]

#[path = "../../benches/throughput/accepted.rs"]
mod accepted;
#[path = "../../benches/throughput/counts.rs"]
mod counts;
#[path = "../../benches/throughput/figures.rs"]
mod figures;
#[path = "../../benches/throughput/goals.rs"]
mod goals;
#[path = "../../benches/throughput/list.rs"]
mod list;
#[path = "../../benches/throughput/options.rs"]
mod options;
#[path = "../../benches/throughput/resp.rs"]
mod resp;
#[path = "../../benches/throughput/scenarios.rs"]
mod scenarios;

use crate::support::redis::{self, Redis};
use accepted::Accepted;
use counts::Counts;
use figures::{Better, KINDS, Measured, Run, Spread};
use goals::Bound;
use options::Options;
use resp::Events;
use scenarios::Scenario;

fn options(words: &str) -> Result<Options, String> {
    Options::parse(words.split_whitespace().map(str::to_owned))
}

fn picked(words: &str) -> Result<Vec<&'static str>, String> {
    let name = |scenario: &Scenario| scenario.name;
    let picked = options(words)?.pick(list::all(), name, |scenario| scenario.in_quick)?;
    Ok(picked.iter().map(name).collect())
}

fn measured(name: &'static str, key: &'static str, values: &[f64]) -> Measured {
    Measured {
        name,
        says: "",
        runs: values
            .iter()
            .map(|value| Run::from([(key, *value)]))
            .collect(),
    }
}

#[test]
fn a_spread_is_the_least_the_median_and_the_most() {
    let three = Spread {
        min: 1.0,
        median: 2.0,
        max: 9.0,
    };
    assert_eq!(figures::spread(vec![9.0, 1.0, 2.0]), Some(three));
    let four = figures::spread(vec![4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median);
    assert_eq!(four, Some(2.5));
    assert_eq!(figures::spread(Vec::new()), None);
}

#[test]
fn a_run_that_lost_or_repeated_a_delivery_is_not_whole() {
    assert!(measured("one", "ratio", &[0.7]).is_whole());
    assert!(measured("one", "lost", &[0.0, 0.0]).is_whole());
    assert!(!measured("one", "lost", &[0.0, 1.0]).is_whole());
    assert!(!measured("one", "duplicates", &[2.0]).is_whole());
}

#[test]
fn latencies_are_told_within_a_fiftieth_and_never_too_low() {
    let mut counts = Counts::new();
    assert_eq!(counts.quantile_ms(0.5), None);
    let events = Events::new(300);
    for us in 1..=1_000_u64 {
        counts.note(10_000_000 + us * 10, &events.payload(10_000_000), false);
    }
    for (share, ms) in [(0.5, 5.0), (0.99, 9.9), (1.0, 10.0)] {
        let told = counts.quantile_ms(share).unwrap();
        assert!(told >= ms && told <= ms * 1.02, "{share}: {told} for {ms}");
    }
    assert_eq!(counts.longest_us, 10_000);
    assert_eq!((counts.first_us, counts.last_us), (10_000_010, 10_010_000));
}

#[test]
fn the_time_of_adding_is_found_within_an_envelope_and_what_waited_at_the_gate_has_no_latency() {
    let mut counts = Counts::new();
    let mut body = b"{\"id\":\"e1\",\"data\":".to_vec();
    body.extend(Events::new(100).payload(1_000));
    body.push(b'}');
    counts.note(3_000, &body, true);
    assert_eq!((counts.gated, counts.quantile_ms(1.0)), (1, None));
    counts.note(3_000, &body, false);
    assert_eq!((counts.received, counts.quantile_ms(1.0)), (2, Some(2.0)));
    counts.note(4_000, b"no event of ours", false);
    assert_eq!((counts.received, counts.longest_us), (3, 2_000));
}

#[tokio::test]
async fn redis_takes_the_events_as_they_are_written() {
    use std::io::{Read as _, Write as _};
    let redis = Redis::start_with(redis::Options {
        tcp: true,
        ..redis::Options::default()
    })
    .await;
    let events = Events::new(1_024);
    let mut commands = Vec::new();
    for number in 0..3 {
        events.write(&mut commands, number, "bench.g7", 1_700_000_000_000_000);
    }
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    stream.write_all(&commands).unwrap();
    let (mut replies, mut ids) = (Vec::new(), 0);
    while ids < 3 {
        let mut some = [0; 7];
        let read = stream.read(&mut some).unwrap();
        assert!(read > 0, "{replies:?}");
        replies.extend_from_slice(&some[..read]);
        ids += resp::take_ids(&mut replies).unwrap();
    }
    assert!(replies.is_empty());
    let payload = events.payload(1_700_000_000_000_000);
    assert_eq!(payload.len(), 1_024);
    let json: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(json["at"], 1_700_000_000_000_000_u64);
    let entries = redis.entries("events").await;
    assert_eq!(entries.len(), 3);
    let last = &entries[2];
    assert_eq!(last.field("id"), "e000000002");
    assert_eq!(last.field("type"), "bench.g7");
    assert_eq!(last.field("payload").as_bytes(), payload);
}

#[test]
fn an_error_among_the_replies_is_told_and_half_a_reply_is_left() {
    let mut replies = b"$15\r\n1700000000000-0\r\n$15\r\n17000".to_vec();
    assert_eq!(resp::take_ids(&mut replies), Ok(1));
    assert_eq!(replies, b"$15\r\n17000");
    let mut replies = b"-OOM command not allowed\r\n".to_vec();
    let told = resp::take_ids(&mut replies).unwrap_err();
    assert!(told.contains("OOM"), "{told}");
}

#[test]
fn a_scenario_that_does_not_exist_is_refused_with_those_that_do() {
    let told = picked("one nonsense").unwrap_err();
    assert!(
        told.contains("nonsense") && told.contains("dead-neighbour"),
        "{told}"
    );
    assert!(options("--nonsense").unwrap_err().contains("--help"));
    assert!(options("--runs").is_err() && options("--runs many").is_err());
}

#[test]
fn scenarios_can_be_picked_by_name_and_a_first_look_takes_a_part_of_them() {
    assert_eq!(picked("hundred one").unwrap(), ["one", "hundred"]);
    assert_eq!(picked("").unwrap().len(), list::all().len());
    let quick = picked("--quick").unwrap();
    for name in ["one", "hundred", "steady", "idle"] {
        assert!(quick.contains(&name), "{name}");
    }
    assert!(quick.len() < list::all().len());
    assert_eq!(picked("--quick fleet2").unwrap(), ["fleet2"]);
}

#[test]
fn figures_are_of_three_runs_unless_it_is_a_first_look_which_is_never_accepted() {
    assert_eq!(options("--bench").unwrap().runs, 3);
    assert_eq!(options("--quick").unwrap().runs, 1);
    assert_eq!(options("--quick --runs 2").unwrap().runs, 2);
    assert!(options("--quick --accept").is_err());
}

#[test]
fn every_goal_is_of_a_scenario_and_a_figure_that_exist() {
    for (scenario, key, _) in goals::GOALS {
        assert!(list::named(scenario).is_some(), "{scenario}");
        assert!(figures::kind(key).is_some(), "{key}");
    }
    for scenario in list::all() {
        let base = scenario.base.is_none_or(|base| list::named(base).is_some());
        assert!(base, "{}", scenario.name);
    }
    let mut keys: Vec<&str> = KINDS.iter().map(|kind| kind.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), KINDS.len());
}

#[test]
fn a_goal_is_judged_by_the_median() {
    let judged = goals::judge(&[measured("one", "ratio", &[0.5, 0.71, 0.8])]);
    assert_eq!(judged.len(), 1);
    assert_eq!(judged[0].bound, Bound::AtLeast(0.70));
    assert!(judged[0].is_met());
    let judged = goals::judge(&[measured("steady", "p99_ms", &[1.0, 6.0, 7.0])]);
    assert!(!judged[0].is_met());
    assert!(goals::table(&judged).contains("**no**"));
}

#[test]
fn what_is_worse_by_more_than_a_tenth_is_pointed_out_and_nothing_else() {
    let mut accepted = Accepted::new();
    accepted::accept(
        &mut accepted,
        &[
            measured("one", "ratio", &[0.70]),
            measured("idle", "idle_mb", &[50.0]),
            measured("backlog", "draining_growth_mb", &[1.0]),
        ],
    );
    let worse = |name, key, now| {
        let differences = accepted::differences(&accepted, &[measured(name, key, &[now])]);
        assert_eq!(differences.len(), 1, "{name} {key}");
        differences[0].is_worse
    };
    assert!(worse("one", "ratio", 0.62));
    assert!(!worse("one", "ratio", 0.64));
    assert!(!worse("one", "ratio", 0.90));
    assert!(worse("idle", "idle_mb", 56.0));
    assert!(!worse("idle", "idle_mb", 40.0));
    // Four times as much, and nothing all the same.
    assert!(!worse("backlog", "draining_growth_mb", 4.0));
    let unknown = [measured("tls", "ratio", &[0.1])];
    assert_eq!(accepted::differences(&accepted, &unknown), []);
}

#[test]
fn accepting_keeps_what_was_not_run_and_only_what_any_machine_could_measure() {
    let mut accepted = Accepted::new();
    accepted::accept(&mut accepted, &[measured("one", "ratio", &[0.70])]);
    accepted::accept(&mut accepted, &[measured("tls", "ratio", &[0.6543219])]);
    accepted::accept(&mut accepted, &[measured("steady", "p99_ms", &[3.0])]);
    assert_eq!(accepted["one"]["ratio"], 0.70);
    assert_eq!(accepted["tls"]["ratio"], 0.654);
    assert!(!accepted.contains_key("steady"));
    let speeds = KINDS
        .iter()
        .filter(|kind| kind.key.ends_with("_per_second"));
    assert!(
        speeds
            .into_iter()
            .all(|kind| kind.better == Better::Neither)
    );
}

#[test]
fn the_accepted_figures_can_be_read_and_are_of_scenarios_that_exist() {
    let accepted = accepted::read(&accepted::file()).unwrap();
    for (scenario, figures) in &accepted {
        assert!(list::named(scenario).is_some(), "{scenario}");
        for key in figures.keys() {
            let kind = figures::kind(key);
            assert!(
                kind.is_some_and(|kind| kind.better != Better::Neither),
                "{key}"
            );
        }
    }
}
