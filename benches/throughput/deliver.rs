//! Events are added, and delivered: how fast, how soon, and at what cost.

use std::time::Duration;

use tokio::time::Instant;

use crate::api_client::ApiClient;
use crate::figures::Run;
use crate::progress::Progress;
use crate::receiver::now_us;
use crate::scenarios::{Pace, Scenario};
use crate::usage::{self, Since};
use crate::world::World;

/// For how long events are added at an even pace after a flood; and for a first look.
const PACED_S: u64 = 5;
const QUICK_PACED_S: u64 = 2;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub run: Run,
    /// From the first XADD to the last receipt: what is compared where one receiver never answers, whose deliveries are
    /// settled later.
    pub received_per_second: f64,
    /// Events a second at the even pace after the flood, and the p99 then.
    pub pace: Option<u64>,
    pub paced_p99_ms: Option<f64>,
}

/// Runs `scenario`. After its flood, if there is a `pace`, events come at that pace (a second; 0 for half of what was just
/// made).
pub async fn deliver(
    scenario: &Scenario,
    pace: Option<u64>,
    quick: bool,
    progress: &Progress,
) -> Delivered {
    progress.step(&format!("starting {}", scenario.name));
    let types = scenario.event_types();
    let mut world = World::start(scenario).await;
    // Connections, caches and the allocator's first pages are not what is measured.
    world.adder.add(&types, scenario.warm_up()).await;
    let warm = scenario.deliveries_of(0, scenario.warm_up());
    let warm = world.settled(warm, false, |_| {}).await;
    world.reset().await;
    let queued_before = world.sum("pombo_fanout_queued_total ").await;
    let daemons: Vec<u32> = world.daemons.iter().map(|daemon| daemon.pid()).collect();
    let daemon = Since::now(daemons.clone());
    let redis = Since::now(vec![world.redis.pid()]);
    let receiver = Since::now(vec![world.receiver.process.pid()]);
    let lead = Since::now(vec![std::process::id()]);
    let api = ApiClient::start(&world, scenario.api_requests);
    let from = world.adder.next();
    let to = from + scenario.events;
    let wanted = scenario.deliveries_of(from, to);
    progress.step(&format!("{wanted} deliveries"));
    let (started, started_us) = (Instant::now(), now_us());
    let late = match scenario.pace {
        Pace::Flood => {
            world.adder.add(&types, scenario.events).await;
            None
        }
        Pace::Steady(rate) => Some(world.adder.add_paced(&types, scenario.events, rate).await),
    };
    // The queue of a receiver that never answers stays full.
    let told = |done| progress.count(done, wanted);
    let ended = world.settled(wanted, !scenario.dead, told).await;
    let took = ended.unwrap_or_else(Instant::now) - started;
    let answered = match api {
        Some(api) => Some(api.end(took).await),
        None => None,
    };
    let counts = world.counts().await;
    let received = Duration::from_micros(counts.last_us.saturating_sub(started_us));
    let received_per_second = wanted as f64 / received.as_secs_f64();
    let queued = world.sum("pombo_fanout_queued_total ").await - queued_before;
    let peak: u64 = daemons.iter().map(|pid| usage::peak_memory(*pid)).sum();
    let lost = match ended.is_some() && warm.is_some() {
        true => 0,
        false => wanted.saturating_sub(counts.unique()).max(1),
    };
    let mut run = Run::from([
        ("seconds", took.as_secs_f64()),
        ("per_second", wanted as f64 / took.as_secs_f64()),
        ("received_per_second", received_per_second),
        ("daemon_us", daemon.us_each(wanted)),
        ("redis_us", redis.us_each(wanted)),
        ("receiver_us", receiver.us_each(wanted)),
        ("adder_us", lead.us_each(wanted)),
        ("daemon_peak_mb", peak as f64 / 1e6),
        ("queued_share", queued / wanted as f64),
        ("connections", counts.connections as f64),
        ("duplicates", counts.duplicates as f64),
        ("lost", lost as f64),
    ]);
    let latencies = match scenario.pace {
        Pace::Steady(_) => ["p50_ms", "p99_ms", "p999_ms"],
        Pace::Flood => ["flood_p50_ms", "flood_p99_ms", "flood_p999_ms"],
    };
    for (key, share) in latencies.into_iter().zip([0.5, 0.99, 0.999]) {
        run.extend(counts.quantile_ms(share).map(|ms| (key, ms)));
    }
    if let Some(late) = late {
        run.insert("longest_ms", counts.longest_us as f64 / 1e3);
        run.insert("late_ms", late.as_secs_f64() * 1e3);
    }
    run.extend(answered.into_iter().flatten());
    let mut delivered = Delivered {
        run,
        received_per_second,
        pace: pace.map(|pace| match pace {
            0 => (received_per_second / 2.0) as u64,
            pace => pace,
        }),
        paced_p99_ms: None,
    };
    if let Some(pace) = delivered.pace {
        progress.step(&format!("{pace} a second"));
        let count = pace * if quick { QUICK_PACED_S } else { PACED_S };
        paced(scenario, &mut world, &mut delivered, pace, count).await;
    }
    if let Some(bytes) = bytes_per_queued(&mut world).await {
        delivered.run.insert("redis_bytes_per_queued", bytes);
    }
    delivered
}

/// Latency says something only where events do not wait for those before them: at a pace below what the machine can do.
async fn paced(
    scenario: &Scenario,
    world: &mut World,
    delivered: &mut Delivered,
    pace: u64,
    count: u64,
) {
    world.reset().await;
    let api = ApiClient::start(world, scenario.api_requests);
    let types = scenario.event_types();
    let from = world.adder.next();
    let late = world.adder.add_paced(&types, count, pace).await;
    let wanted = scenario.deliveries_of(from, from + count);
    let settled = world.settled(wanted, false, |_| {}).await;
    drop(api);
    let counts = world.counts().await;
    delivered.paced_p99_ms = counts.quantile_ms(0.99);
    let run = &mut delivered.run;
    if settled.is_none() {
        *run.entry("lost").or_default() += wanted.saturating_sub(counts.unique()).max(1) as f64;
    }
    *run.entry("duplicates").or_default() += counts.duplicates as f64;
    run.insert("paced_per_second", pace as f64);
    run.insert("late_ms", late.as_secs_f64() * 1e3);
    for (key, share) in [
        ("paced_p50_ms", 0.5),
        ("paced_p99_ms", 0.99),
        ("paced_p999_ms", 0.999),
    ] {
        run.extend(counts.quantile_ms(share).map(|ms| (key, ms)));
    }
}

/// Bytes that Redis has for each delivery that waits in a queue; `None` if none does.
async fn bytes_per_queued(world: &mut World) -> Option<f64> {
    let mut keys = Vec::new();
    for key in world.keys("queue").await {
        if world.ask::<u64>(&["XLEN", &key]).await > 0 {
            keys.push(key);
        }
    }
    let waiting = world.sum_of("XLEN", &keys).await;
    let bytes = world.sum_of("MEMORY USAGE", &keys).await;
    (waiting > 0).then(|| bytes as f64 / waiting as f64)
}
