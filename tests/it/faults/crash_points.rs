//! A crash between any two commands that the daemon sends to Redis.
//!
//! A short scenario that goes through every kind of write: delivered at once, failed and tried again, given up, and
//! queued because the lane takes no offers. Behind a proxy it is cut at the n-th command, on either side of it; then
//! the daemon is killed and started again, or just connects anew. Whatever the n, nothing may be lost, and all must
//! come to rest.

use std::cell::RefCell;
use std::collections::BTreeMap;

use pombo::webhook::{Ordering, RetryOverride};
use tokio::time::Instant;

use super::ledger::{Dice, Ledger, at_rest, config};
use crate::support::pombo::{Config, Process, Webhooks};
use crate::support::proxy::{Proxy, Side};
use crate::support::receiver::{Receiver, Step};
use crate::support::redis::Redis;
use crate::support::wait::until;

/// How many crash points one run of the tests takes; `POMBO_CRASH_POINTS=all` takes every one.
const POINTS: usize = 120;
const SEED: u64 = 1;
/// Scenarios side by side, each with a Redis of its own.
const WORKERS: usize = 3;
const EVENTS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Kill,
    Reconnect,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    command: u64,
    side: Side,
    then: Then,
}

/// What one run of the scenario showed.
struct Run {
    commands: u64,
    cut: Option<String>,
    duplicates: u32,
    dead: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_commands_loses_nothing_and_leaves_nothing_behind() {
    let started = Instant::now();
    let whole = scenario(&Redis::start().await, None).await;
    assert_eq!((whole.duplicates, whole.dead), (0, EVENTS));
    let points = choose(whole.commands);
    println!(
        "the scenario takes {} commands; {} crash points, seed {SEED}",
        whole.commands,
        points.len()
    );
    let points = RefCell::new(points);
    let workers = (0..WORKERS).map(async |_| {
        let redis = Redis::start().await;
        let mut runs = Vec::new();
        loop {
            let next = points.borrow_mut().pop();
            let Some(point) = next else { return runs };
            // The last of these before a failure tell where it was.
            println!("{point:?}");
            let _: () = redis.run("FLUSHALL").await;
            runs.push(scenario(&redis, Some(point)).await);
        }
    });
    let mut cuts: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    let (mut reached, mut duplicates, mut extra) = (0, 0, 0);
    let runs = futures_util::future::join_all(workers).await;
    for run in runs.into_iter().flatten() {
        duplicates += run.duplicates;
        extra += run.dead - EVENTS;
        if let Some(command) = run.cut {
            reached += 1;
            let kind = command.split(' ').next().unwrap_or_default().to_owned();
            let count = cuts.entry(kind).or_default();
            count.0 += 1;
            count.1 += run.duplicates;
        }
    }
    println!(
        "{reached} cuts in {:?}: {duplicates} duplicates, {extra} dead letters twice; cuts and duplicates by command: {cuts:?}",
        started.elapsed()
    );
}

/// The crash points of this run: all of them, or a seeded choice.
fn choose(commands: u64) -> Vec<Point> {
    let mut all = Vec::new();
    for command in 1..=commands {
        for side in [Side::Before, Side::After] {
            for then in [Then::Kill, Then::Reconnect] {
                all.push(Point {
                    command,
                    side,
                    then,
                });
            }
        }
    }
    if std::env::var("POMBO_CRASH_POINTS").is_ok_and(|points| points == "all") {
        return all;
    }
    let mut dice = Dice::new(SEED);
    (0..POINTS)
        .map(|_| all.swap_remove(dice.below(all.len() as u64) as usize))
        .collect()
}

async fn scenario(redis: &Redis, point: Option<Point>) -> Run {
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| match request.path.as_str() {
            "/later" if request.header("x-delivery-attempt") == "1" => Step::status(500),
            "/never" => Step::status(500),
            _ => Step::status(200),
        })
        .await;
    let proxy = Proxy::start(redis).await;
    let few = |url: &str| config(url).with("[ownership]\nshards = 2");
    let config = few(&proxy.url());
    let webhooks = few(&redis.url()).webhooks().await;
    let never = subscribe(&webhooks, &receiver).await;
    if let Some(point) = point {
        proxy.cut_at(point.command, point.side, point.then == Then::Kill);
    }
    redis.events("e", "many", EVENTS / 2).await;
    let mut pombo = config.spawn_unready().await;
    // The second half comes while the daemon works, the first was there before it.
    until(
        "the first delivery, or the cut",
        async || (ledger.got("once") > 0, proxy.cut()),
        |(delivered, cut)| *delivered || cut.is_some(),
    )
    .await;
    redis
        .events_from("e", EVENTS / 2, "many", EVENTS - EVENTS / 2)
        .await;
    let killed = point.is_some_and(|point| point.then == Then::Kill);
    if killed {
        pombo = kill_at_cut(&config, &proxy, &ledger, redis, pombo).await;
    }
    whole(&ledger, redis).await;
    let dead = webhooks.dead(&never).await.len();
    let run = Run {
        commands: proxy.commands(),
        cut: proxy.cut(),
        duplicates: ledger.duplicates().values().sum(),
        dead,
    };
    pombo.kill().await;
    // One lost reply repeats one batch: that much and no more may come of one cut.
    let most = 2 * EVENTS as u32 * 3;
    assert!(
        run.duplicates <= most,
        "{point:?}: {} duplicates",
        run.duplicates
    );
    run
}

/// Waits for the cut, or for the end without one, then kills the daemon and starts its successor.
async fn kill_at_cut(
    config: &Config,
    proxy: &Proxy,
    ledger: &Ledger,
    redis: &Redis,
    pombo: Process,
) -> Process {
    let done = async || {
        let rest =
            redis.pending("events").await == 0 && redis.keys("pombo:{s*}:queue:*").await.is_empty();
        rest && ["once", "later", "ordered"]
            .iter()
            .all(|id| ledger.got(id) == EVENTS)
    };
    until(
        "the cut, or the end of the scenario",
        async || (proxy.cut(), done().await),
        |(cut, done)| cut.is_some() || *done,
    )
    .await;
    pombo.kill().await;
    proxy.mend();
    config.spawn_unready().await
}

/// `once` is healthy, `later` fails at first, `never` fails for good, `ordered` is queued because its order is kept.
async fn subscribe(webhooks: &Webhooks, receiver: &Receiver) -> pombo::webhook::Webhook {
    let url = |id: &str| receiver.url(&format!("/{id}"));
    webhooks.all("once", &url("once")).await;
    webhooks.all("later", &url("later")).await;
    let ordered = |spec: &mut pombo::webhook::WebhookSpec| spec.ordering = Ordering::Fifo;
    webhooks
        .make("ordered", &url("ordered"), &["*"], ordered)
        .await;
    let twice = |spec: &mut pombo::webhook::WebhookSpec| {
        spec.retry = Some(RetryOverride {
            max_attempts: Some(2),
            ..RetryOverride::default()
        });
    };
    webhooks.make("never", &url("never"), &["*"], twice).await
}

/// Waits until all is delivered or dead, and nothing is left.
async fn whole(ledger: &Ledger, redis: &Redis) {
    ledger
        .complete(&["once", "later", "ordered"], "e", EVENTS)
        .await;
    until(
        "the dead letters",
        async || {
            let letters = redis.keys("pombo:{s*}:dead:*").await;
            let mut events = Vec::new();
            for key in letters {
                let entries = redis.entries(&key).await;
                events.extend(entries.iter().map(|entry| entry.event_id()));
            }
            events.sort();
            events.dedup();
            events
        },
        |events| events.len() == EVENTS,
    )
    .await;
    at_rest(redis).await;
}
