//! Two daemons on one Redis, one of which fails: the other takes over what it had.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::ledger::{Ledger, at_rest, config, share, subscribe};
use crate::fleet::members;
use crate::support::pombo::Config;
use crate::support::receiver::Step;
use crate::support::redis::Redis;
use crate::support::wait::until;

/// Two daemons that share everything but their names. The source belongs to the first.
fn two(redis: &Redis) -> (Config, Config) {
    let named = |name: &str| {
        config(&redis.url())
            .with(&format!("[instance]\nname = {name:?}"))
            .with("[ownership]\nlease = \"3s\"\n[redis]\nresponse_timeout = \"1s\"")
    };
    let of = members(&["first", "second"]);
    assert_eq!(of.of_source("events"), Some("first"));
    (named("first"), named("second"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_daemon_had_is_taken_over_within_the_lease_with_all_that_was_pending() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| match share(request.header("x-event-id"), 4) {
            0 if request.header("x-delivery-attempt") == "1" => Step::status(500),
            _ => Step::status(200),
        })
        .await;
    let (first, second) = two(&redis);
    subscribe(&first.webhooks().await, &receiver, &["a", "b"]).await;
    let first = first.spawn().await;
    let second = second.spawn().await;
    redis.events("e", "many", 2_000).await;
    until("half of it", async || ledger.got("a"), |got| *got >= 1_000).await;
    let killed = Instant::now();
    first.kill().await;
    redis.event("after", "many", "{}").await;
    until(
        "the other's first delivery",
        async || ledger.count("a", "after"),
        |count| *count > 0,
    )
    .await;
    let took = killed.elapsed();
    ledger.complete(&["a", "b"], "e", 2_000).await;
    at_rest(&redis).await;
    println!(
        "the other delivered {took:?} after the kill (lease 3 s); {} duplicates",
        ledger.duplicates().values().sum::<u32>()
    );
    // Within the lease, on a machine that is not busy with other tests.
    assert!(took < Duration::from_secs(20), "it took {took:?}");
    assert_eq!(second.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_slept_through_its_lease_is_fenced_and_joins_anew() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger
        .receiver(|request| match share(request.header("x-event-id"), 3) {
            0 if request.header("x-delivery-attempt") == "1" => Step::status(500),
            _ => Step::status(200),
        })
        .await;
    let of = members(&["first", "second"]);
    let (first, second) = two(&redis);
    subscribe(&first.webhooks().await, &receiver, &["a", "b"]).await;
    let first = first.spawn().await;
    let second = second.spawn().await;
    redis.events("e", "many", 2_000).await;
    until("some of it", async || ledger.got("a"), |got| *got >= 500).await;
    first.signal(Signal::STOP);
    second
        .wait_for_metric("pombo_shards_owned", &[], |owned| owned == 4.0)
        .await;
    ledger.complete(&["a", "b"], "e", 2_000).await;
    at_rest(&redis).await;
    let before: u32 = ledger.duplicates().values().sum();
    redis.events_from("e", 2_000, "many", 500).await;
    first.signal(Signal::CONT);
    first.log().wait_for("it joins anew").await;
    first.wait_ready().await;
    ledger.complete(&["a", "b"], "e", 2_500).await;
    at_rest(&redis).await;
    let after: u32 = ledger.duplicates().values().sum();
    println!(
        "{before} duplicates while the first daemon slept, {} when it went on",
        after - before
    );
    // What it may repeat is what it was about to send: nothing is queued or scheduled by it.
    let held = 2 * 64;
    assert!(after - before <= held, "{} duplicates", after - before);
    // What the other one read meanwhile was not lost.
    assert_eq!(first.metric("pombo_events_lost_total", &[]).await, 0.0);
    // It is given back what it had.
    let had = (0..4).filter(|shard| of.of_shard(*shard) == Some("first"));
    let had = had.count() as f64;
    first
        .wait_for_metric("pombo_shards_owned", &[], |owned| owned == had)
        .await;
    assert_eq!(first.stop().await, Some(0));
    assert_eq!(second.stop().await, Some(0));
}
