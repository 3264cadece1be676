//! Replies of Redis that come late, in part, or not at all, while the server stays the same.

use std::time::Duration;

use super::ledger::{Dice, Ledger, at_rest, config, share, subscribe};
use crate::support::proxy::Proxy;
use crate::support::receiver::Step;
use crate::support::redis::Redis;
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_within_replies_during_a_flow_lose_nothing() {
    const CUTS: usize = 12;
    const EACH: usize = 200;
    let redis = Redis::start().await;
    let proxy = Proxy::start(&redis).await;
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| match share(request.header("x-event-id"), 6) {
            0 if request.header("x-delivery-attempt") == "1" => Step::status(500),
            _ => Step::status(200),
        })
        .await;
    let config_ = config(&proxy.url());
    let ids = ["a", "b", "c"];
    subscribe(&config(&redis.url()).webhooks().await, &receiver, &ids).await;
    let pombo = config_.start().await;
    let mut dice = Dice::new(7);
    for round in 0..CUTS {
        proxy.cut_within_replies(dice.below(60_000) + 1);
        redis.events_from("e", round * EACH, "many", EACH).await;
        let cut = proxy.wait_for_cut().await;
        assert!(!cut.is_empty());
    }
    ledger.complete(&ids, "e", CUTS * EACH).await;
    at_rest(&redis).await;
    let duplicates: u32 = ledger.duplicates().values().sum();
    let deliveries = CUTS * EACH * ids.len();
    println!("{CUTS} cuts within replies: {duplicates} duplicates of {deliveries} deliveries");
    // A lost reply repeats what its command stored or was handed: a batch each time, not the flow.
    assert!(
        duplicates as usize <= CUTS * ids.len() * EACH,
        "{duplicates} duplicates"
    );
    let metrics = pombo.metrics().await;
    assert_eq!(metrics.value("pombo_redis_generations_total", &[]), 0.0);
    assert_eq!(
        metrics.value("pombo_events_lost_total", &[]),
        0.0,
        "entries of a lost reply are read again, not lost"
    );
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_replies_slow_a_flow_down_and_repeat_nothing() {
    const EVENTS: usize = 600;
    let redis = Redis::start().await;
    let proxy = Proxy::start(&redis).await;
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| match share(request.header("x-event-id"), 3) {
            0 if request.header("x-delivery-attempt") == "1" => Step::status(500),
            _ => Step::status(200),
        })
        .await;
    let config_ = config(&proxy.url());
    let ids = ["a", "b"];
    subscribe(&config(&redis.url()).webhooks().await, &receiver, &ids).await;
    let pombo = config_.start().await;
    for (round, delay) in [20u64, 100, 300].into_iter().enumerate() {
        proxy.delay(Duration::from_millis(delay));
        let part = EVENTS / 3;
        redis.events_from("e", round * part, "many", part).await;
        let target = round * part + part / 2;
        until("half of it", async || ledger.got("a"), |got| *got >= target).await;
    }
    ledger.complete(&ids, "e", EVENTS).await;
    proxy.mend();
    at_rest(&redis).await;
    assert!(ledger.duplicates().is_empty(), "{:?}", ledger.duplicates());
    pombo.stop().await;
}
