//! The daemon is killed, again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use pombo::webhook::{Ordering, RateLimit};
use tokio::time::Instant;

use super::ledger::{Delivery, Dice, Ledger, at_rest, config, share, subscribe, unfinished};
use crate::support::receiver::Step;
use crate::support::redis::Redis;
use crate::support::wait::until;

const KILLS: usize = 20;
const EVENTS: usize = 5_000;
const SEED: u64 = 20_260_101;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_nothing_and_repeat_only_what_was_unfinished() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let healthy = ledger.receiver(|_| Step::status(200)).await;
    let flaky = ledger
        .receiver(|request| {
            let first = request.header("x-delivery-attempt") == "1";
            match share(request.header("x-event-id"), 20) {
                0 | 1 if first => Step::status(503),
                2 if first => Step::Reset,
                3 if first => Step::Hang,
                _ => Step::status(200),
            }
        })
        .await;
    let config =
        config(&redis.url()).with("[delivery]\ntimeout = \"1500ms\"\nconnect_timeout = \"1s\"");
    let webhooks = config.webhooks().await;
    subscribe(&webhooks, &healthy, &["healthy", "other"]).await;
    subscribe(&webhooks, &flaky, &["flaky"]).await;
    let all = ["*"];
    let limited = |spec: &mut pombo::webhook::WebhookSpec| {
        spec.rate_limit = Some(RateLimit {
            per_second: 1_500.0,
            burst: 20,
        });
    };
    webhooks
        .make("limited", &healthy.url("/limited"), &all, limited)
        .await;
    let ordered = |spec: &mut pombo::webhook::WebhookSpec| spec.ordering = Ordering::Fifo;
    webhooks
        .make("ordered", &healthy.url("/ordered"), &["few"], ordered)
        .await;
    let ids = ["healthy", "other", "flaky", "limited"];

    let mut dice = Dice::new(SEED);
    let mut allowed: BTreeMap<Delivery, u32> = BTreeMap::new();
    let (mut added, mut bound) = (0, 0u64);
    for _ in 0..KILLS {
        let pombo = config.spawn_unready().await;
        let more = EVENTS / KILLS;
        redis.events_from("e", added, "many", more).await;
        let target = added + 1 + dice.below(more as u64) as usize;
        added += more;
        until(
            "some of the flow",
            async || ledger.got("healthy"),
            |got| *got >= target,
        )
        .await;
        pombo.kill().await;
        for (delivery, homes) in unfinished(&redis, &ids).await {
            bound += u64::from(homes);
            *allowed.entry(delivery).or_default() += homes;
        }
    }
    let started = Instant::now();
    let pombo = config.spawn().await;
    ledger.complete(&ids, "e", EVENTS).await;
    at_rest(&redis).await;
    let duplicates = ledger.duplicates();
    let repeated: u64 = duplicates.values().map(|count| u64::from(*count)).sum();
    println!(
        "{KILLS} kills, seed {SEED}: {EVENTS} events to {} webhooks; {repeated} duplicates of {} deliveries, \
         of at most {bound} that were unfinished; at rest {:?} after the last start",
        ids.len(),
        duplicates.len(),
        started.elapsed(),
    );
    for (delivery, count) in duplicates {
        let most = allowed.get(&delivery).copied().unwrap_or(0);
        assert!(
            count <= most,
            "{delivery:?} was repeated {count} times, and unfinished {most} times when the daemon was killed"
        );
    }
    assert!(ledger.got("ordered") == 0, "nobody sent it anything");
    assert_eq!(pombo.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_successor_of_a_killed_daemon_delivers_without_waiting_for_its_lease() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    // All 64 shards: what a successor takes over in real life.
    let config = crate::support::pombo::Config::new(&redis);
    let webhooks = config.webhooks().await;
    subscribe(&webhooks, &receiver, &["w"]).await;
    let mut took = Vec::new();
    let mut pombo = config.spawn().await;
    for round in 0..5 {
        let event = format!("before{round}");
        redis.event(&event, "many", "{}").await;
        ledger_has(&ledger, &event).await;
        let killed = Instant::now();
        pombo.kill().await;
        let event = format!("after{round}");
        redis.event(&event, "many", "{}").await;
        pombo = config.spawn_unready().await;
        ledger_has(&ledger, &event).await;
        took.push(killed.elapsed());
    }
    took.sort();
    println!("from kill -9 to the successor's first delivery, five times: {took:?}");
    // Far more than it takes, and far less than waiting for the lease (10 s) to run out, which is what this would catch.
    assert!(took[2] < Duration::from_secs(5), "it took {took:?}");
    assert_eq!(pombo.stop().await, Some(0));
}

async fn ledger_has(ledger: &Ledger, event: &str) {
    until(event, async || ledger.count("w", event), |count| *count > 0).await;
}
