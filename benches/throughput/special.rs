//! Scenarios that look at more than how fast events are delivered.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::figures::Run;
use crate::progress::Progress;
use crate::receiver::now_us;
use crate::scenarios::{GATED, Scenario};
use crate::usage::{self, Since};
use crate::world::{PATIENCE, World};

/// After a start, before an idle daemon is looked at.
const REST: Duration = Duration::from_secs(3);
/// Events a second for the neighbours of a backlog, and how often some are added.
const BESIDE_RATE: u64 = 500;
const BESIDE_EVERY: Duration = Duration::from_millis(20);
/// Requests to one webhook at a time, by default: so many can be neither in its queue's schedule nor delivered.
const IN_FLIGHT: u64 = 64;

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

/// Many webhooks and nothing to do: memory, CPU, and how long a start takes until the first delivery.
pub async fn idle(scenario: &Scenario, quick: bool, progress: &Progress) -> Run {
    let watched = Duration::from_secs(if quick { 5 } else { 30 });
    progress.step(&format!("{} webhooks", scenario.webhooks));
    let mut world = World::start(scenario).await;
    world.kill_daemons();
    world.reset().await;
    world.adder.add(&scenario.event_types(), 1).await;
    let started = now_us();
    world.start_daemon(0).await;
    let settled = world.settled(1, false, |_| {}).await;
    let first = world.counts().await.first_us.saturating_sub(started);
    sleep(REST).await;
    progress.step(&format!("nothing for {watched:?}"));
    let pid = world.daemons[0].pid();
    let used = Since::now(vec![pid]);
    let began = Instant::now();
    sleep(watched).await;
    let busy = used.us_each(1) / began.elapsed().as_micros() as f64;
    Run::from([
        ("first_delivery_ms", ms(first)),
        ("idle_cpu_percent", busy * 100.0),
        ("idle_mb", mb(usage::memory(pid))),
        ("idle_anonymous_mb", mb(usage::anonymous_memory(pid))),
        ("lost", if settled.is_some() { 0.0 } else { 1.0 }),
    ])
}

/// Deliveries that wait for one webhook, and what they cost it and the others.
pub async fn backlog(scenario: &Scenario, quick: bool, progress: &Progress) -> Run {
    let mut world = World::start(scenario).await;
    let pid = world.daemons[0].pid();
    let others = scenario.other_event_types();
    let warm_up = 10 * scenario.webhooks;
    world.adder.add(&others, warm_up).await;
    let warm = world.settled(warm_up, false, |_| {}).await;
    let before = usage::memory(pid);
    let redis_before = world.redis_bytes_without_events().await;
    progress.step("queueing");
    let started = Instant::now();
    world.adder.add(&[GATED.to_owned()], scenario.events).await;
    world.acknowledged().await;
    let queueing = scenario.events as f64 / started.elapsed().as_secs_f64();
    let redis_after = world.redis_bytes_without_events().await;
    let queue = world.keys("queue").await;
    let waiting_for = world.sum_of("XLEN", &queue).await;
    let bytes = redis_after.saturating_sub(redis_before) as f64 / waiting_for as f64;

    progress.step("waiting");
    world.reset().await;
    let beside = Duration::from_secs(if quick { 2 } else { 10 });
    let (began, mut waiting) = (Instant::now(), usage::memory(pid));
    let mut ticks = interval(BESIDE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let some = BESIDE_RATE * BESIDE_EVERY.as_millis() as u64 / 1_000;
    let mut sent = 0;
    while began.elapsed() < beside {
        ticks.tick().await;
        world.adder.add(&others, some).await;
        sent += some;
        waiting = waiting.max(usage::memory(pid));
    }
    let others_whole = world.settled(sent, false, |_| {}).await;
    let meanwhile = world.counts().await;

    progress.step("draining");
    world.reset().await;
    // Those whose attempt has timed out by now follow by their retry policy.
    let schedules = world.keys("retry").await;
    let set_aside = world.sum_of("ZCARD", &schedules).await;
    let wanted = waiting_for.saturating_sub(set_aside + IN_FLIGHT);
    world.open_gate().await;
    let (opened, opened_us) = (Instant::now(), now_us());
    let mut draining = waiting;
    let mut sent = 0;
    let drained = loop {
        ticks.tick().await;
        world.adder.add(&others, some).await;
        sent += some;
        draining = draining.max(usage::memory(pid));
        let counts = world.counts().await;
        progress.count(counts.gated, waiting_for);
        if counts.gated >= wanted || opened.elapsed() >= PATIENCE {
            let took = counts.last_us.saturating_sub(opened_us);
            break counts.gated as f64 / (took as f64 / 1e6);
        }
    };
    // What is neither delivered nor still in its queue is lost. Removing what was delivered may take a moment.
    let all = scenario.events + sent;
    let mut lost = all;
    let checking = Instant::now();
    while lost > 0 && checking.elapsed() < Duration::from_secs(10) {
        sleep(BESIDE_EVERY).await;
        let delivered = world.counts().await.unique();
        let left = world.sum_of("XLEN", &queue).await;
        lost = all.abs_diff(delivered + left);
    }
    let counts = world.counts().await;
    let never = [warm.is_none(), others_whole.is_none()];
    lost += never.into_iter().map(u64::from).sum::<u64>();
    let growth = |now: u64| mb(now.saturating_sub(before));
    let mut run = Run::from([
        ("queued_per_second", queueing),
        ("redis_bytes_per_queued", bytes),
        ("before_mb", mb(before)),
        ("waiting_growth_mb", growth(waiting)),
        ("draining_growth_mb", growth(draining)),
        ("daemon_peak_mb", mb(usage::peak_memory(pid))),
        ("drained_per_second", drained),
        ("received_per_second", drained),
        ("set_aside", set_aside as f64),
        (
            "duplicates",
            (counts.duplicates + meanwhile.duplicates) as f64,
        ),
        ("lost", lost as f64),
    ]);
    for (key, counts) in [
        ("others_p99_waiting_ms", &meanwhile),
        ("others_p99_draining_ms", &counts),
    ] {
        run.extend(counts.quantile_ms(0.99).map(|ms| (key, ms)));
    }
    run
}

/// kill -9 while deliveries wait: how soon the successor delivers.
pub async fn restart(scenario: &Scenario, quick: bool, progress: &Progress) -> Run {
    let mut world = World::start(scenario).await;
    let redis_before = world.redis_bytes_without_events().await;
    progress.step("queueing");
    world
        .adder
        .add(&scenario.event_types(), scenario.events)
        .await;
    world.acknowledged().await;
    let redis_after = world.redis_bytes_without_events().await;
    let queues = world.keys("queue").await;
    let waiting = world.sum_of("XLEN", &queues).await;
    world.kill_daemons();
    // Of what was in flight, a queue knows that nobody may try it again before its attempt's deadline.
    let schedules = world.keys("retry").await;
    let set_aside = world.sum_of("ZCARD", &schedules).await;
    world.open_gate().await;
    world.reset().await;
    progress.step("starting again");
    let started = now_us();
    world.start_daemon(0).await;
    let told = |done| progress.count(done, scenario.events);
    let in_queues = scenario.events - set_aside;
    let mut settled = world.settled(in_queues, false, told).await;
    let counts = world.counts().await;
    let since_start = |us: u64| ms(us.saturating_sub(started));
    let bytes = redis_after.saturating_sub(redis_before) as f64 / waiting as f64;
    let mut run = Run::from([
        ("first_delivery_ms", since_start(counts.first_us)),
        ("in_queues_ms", since_start(counts.last_us)),
        ("set_aside", set_aside as f64),
        ("redis_bytes_per_queued", bytes),
        (
            "daemon_peak_mb",
            mb(usage::peak_memory(world.daemons[0].pid())),
        ),
    ]);
    // A first look does not wait for them, only that they are still there.
    let kept = if quick { set_aside } else { 0 };
    if !quick {
        progress.step(&format!("waiting for {set_aside} that were in flight"));
        settled = world.settled(scenario.events, true, told).await;
        run.insert("last_ms", since_start(world.counts().await.last_us));
    }
    let counts = world.counts().await;
    let lost = match settled {
        Some(_) => 0,
        None => scenario.events.saturating_sub(counts.unique() + kept),
    };
    run.insert("duplicates", counts.duplicates as f64);
    run.insert("lost", lost as f64);
    run
}
