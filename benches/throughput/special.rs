//! Scenarios that look at more than how fast events are delivered.

use std::time::Duration;

use tokio::time::Instant;

use crate::measure::progress;
use crate::receiver::now_us;
use crate::report::Figures;
use crate::scenarios::{GATED, Scenario};
use crate::usage;
use crate::world::{OPERATOR, World};

/// How long an idle daemon is looked at.
const IDLE: Duration = Duration::from_secs(30);
/// After a start, and before that.
const REST: Duration = Duration::from_secs(3);
/// For how long the neighbours of a backlog are looked at while it waits.
const BESIDE: Duration = Duration::from_secs(10);
/// Events a second for the neighbours of a backlog.
const BESIDE_RATE: u64 = 500;

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Many webhooks and nothing to do: memory, CPU, and how long a start takes until the first delivery.
pub async fn idle(scenario: &Scenario, title: &str) -> Figures {
    progress(&format!("{title}: {} webhooks", scenario.webhooks));
    let mut world = World::start(scenario).await;
    world.daemons.clear();
    world.reset().await;
    world.add(scenario, 0, 1).await;
    let started = now_us();
    world.start_daemon(0).await;
    world.settled(1, |_| {}).await;
    let first = world.counts().await.first_us.saturating_sub(started);
    tokio::time::sleep(REST).await;
    progress(&format!("{title}: nothing for {IDLE:?}"));
    let pid = world.daemons[0].0.id();
    let before = usage::cpu(pid);
    let began = Instant::now();
    tokio::time::sleep(IDLE).await;
    let busy = (usage::cpu(pid) - before).as_secs_f64() / began.elapsed().as_secs_f64();
    Figures {
        extra: vec![
            (
                "ms from a cold start to the first delivery",
                first as f64 / 1e3,
            ),
            ("% of one core", busy * 100.0),
            ("MB", mb(usage::memory(pid))),
        ],
        ..Figures::default()
    }
}

/// Deliveries that wait for one webhook, and what they cost it and the others.
pub async fn backlog(scenario: &Scenario, title: &str) -> Figures {
    let mut world = World::start(scenario).await;
    let pid = world.daemons[0].0.id();
    let warm_up = 10 * scenario.webhooks;
    let others = |number: u64| format!("bench.g{}", 1 + number % (scenario.webhooks - 1));
    world.add_of(others, scenario.payload, 0, warm_up).await;
    world.settled(warm_up, |_| {}).await;
    let before = usage::memory(pid);
    progress(&format!("{title}: queueing"));
    let gated = |_| GATED.to_owned();
    let mut next = warm_up;
    let started = Instant::now();
    world
        .add_of(gated, scenario.payload, next, next + scenario.events)
        .await;
    world.acknowledged().await;
    let queueing = scenario.events as f64 / started.elapsed().as_secs_f64();
    next += scenario.events;
    let waiting = usage::memory(pid);
    let keys: Vec<String> = world.ask(&["KEYS", "pombo:*queue:u0"]).await;
    let bytes: u64 = world
        .ask(&["MEMORY", "USAGE", &keys[0], "SAMPLES", "0"])
        .await;

    progress(&format!("{title}: waiting"));
    world.reset().await;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while began.elapsed() < BESIDE {
        ticks.tick().await;
        let more = next + BESIDE_RATE / 50;
        world.add_of(others, scenario.payload, next, more).await;
        next = more;
    }
    world.acknowledged().await;
    let meanwhile = world.counts().await;

    world.reset().await;
    world.open_gate().await;
    let opened = Instant::now();
    let mut draining = waiting;
    let drained = loop {
        ticks.tick().await;
        let more = next + BESIDE_RATE / 50;
        world.add_of(others, scenario.payload, next, more).await;
        next = more;
        draining = draining.max(usage::memory(pid));
        let counts = world.counts().await;
        progress(&format!("{title}: {} of {}", counts.gated, scenario.events));
        // What was in flight when the gate opened is retried later, by the policy.
        if counts.gated + 10_000 >= scenario.events {
            break counts.gated as f64 / opened.elapsed().as_secs_f64();
        }
    };
    let counts = world.counts().await;
    Figures {
        duplicates: counts.duplicates + meanwhile.duplicates,
        extra: vec![
            ("queued a second", queueing),
            (
                "bytes of Redis for each that waits",
                bytes as f64 / scenario.events as f64,
            ),
            ("MB before", mb(before)),
            (
                "MB more while they wait",
                mb(waiting.saturating_sub(before)),
            ),
            (
                "MB more at most while they drain",
                mb(draining.saturating_sub(before)),
            ),
            (
                "others' p99 ms while they wait",
                meanwhile.quantile_ms(0.99),
            ),
            ("others' p99 ms while they drain", counts.quantile_ms(0.99)),
            ("drained a second", drained),
        ],
        ..Figures::default()
    }
}

/// kill -9 while deliveries wait: how soon the successor delivers.
pub async fn restart(scenario: &Scenario, title: &str) -> Figures {
    let mut world = World::start(scenario).await;
    progress(&format!("{title}: queueing"));
    world.add(scenario, 0, scenario.events).await;
    world.acknowledged().await;
    world.daemons.clear();
    world.open_gate().await;
    world.reset().await;
    progress(&format!("{title}: starting again"));
    let started = now_us();
    world.start_daemon(0).await;
    let settled = world.settled(scenario.events, |_| {}).await;
    let counts = world.counts().await;
    Figures {
        lost: match settled {
            true => 0,
            false => scenario.events - (counts.received - counts.duplicates),
        },
        extra: vec![
            (
                "ms from the start to the first delivery",
                counts.first_us.saturating_sub(started) as f64 / 1e3,
            ),
            (
                "ms from the start to the last delivery",
                counts.last_us.saturating_sub(started) as f64 / 1e3,
            ),
        ],
        ..Figures::default()
    }
}

/// Asks the management API `rate` times a second, until it is aborted.
pub async fn ask_api(port: u16, rate: u64) {
    // The client wants one even where it speaks no TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let mut ticks =
        tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1));
    for number in 0.. {
        ticks.tick().await;
        let path = match number % 2 {
            0 => format!("webhooks/w{}", number % 100),
            _ => format!("webhooks/w{}/deliveries?limit=10", number % 100),
        };
        let request = client
            .get(format!("http://127.0.0.1:{port}/v1/{path}"))
            .bearer_auth(OPERATOR);
        tokio::spawn(async move { request.send().await?.bytes().await });
    }
}

/// How many requests the API has answered well.
pub async fn answered(world: &World) -> f64 {
    world.sum("pombo_api_requests_total").await
}
