//! The consumer group, or the stream itself, is lost while events flow.

use std::time::Duration;

use super::ledger::{Ledger, at_rest, config, subscribe};
use crate::support::receiver::Step;
use crate::support::redis::Redis;
use crate::support::wait::{stays, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_destroyed_during_a_flow_is_made_again_and_nothing_is_skipped() {
    const ROUNDS: usize = 4;
    const EACH: usize = 300;
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let config = config(&redis.url());
    subscribe(&config.webhooks().await, &receiver, &["a", "b"]).await;
    let pombo = config.start().await;
    for round in 0..ROUNDS {
        redis.events_from("e", round * EACH, "many", EACH).await;
        let target = round * EACH + EACH / 4;
        until("some of it", async || ledger.got("a"), |got| *got >= target).await;
        let destroyed: u64 = redis.run("XGROUP DESTROY events pombo").await;
        assert_eq!(destroyed, 1);
    }
    ledger.complete(&["a", "b"], "e", ROUNDS * EACH).await;
    at_rest(&redis).await;
    println!(
        "{ROUNDS} groups destroyed during {} events: {} duplicates of {} deliveries",
        ROUNDS * EACH,
        ledger.duplicates().values().sum::<u32>(),
        2 * ROUNDS * EACH
    );
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_lost_long_after_its_events_does_not_replay_them() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let config = config(&redis.url());
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.start().await;
    redis.events("e", "many", 200).await;
    ledger.complete(&["w"], "e", 200).await;
    let last = redis.group("events").await.expect("a group").last_delivered;
    until(
        "the mark at the end",
        async || {
            redis
                .run::<Option<String>>("HGET pombo:{cfg}:source:events mark")
                .await
        },
        |mark| mark.as_deref() == Some(&last),
    )
    .await;
    let _: u64 = redis.run("XGROUP DESTROY events pombo").await;
    redis.events_from("e", 200, "many", 50).await;
    ledger.complete(&["w"], "e", 250).await;
    at_rest(&redis).await;
    assert!(ledger.duplicates().is_empty(), "{:?}", ledger.duplicates());
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_began_at_the_end_is_made_again_there_and_not_from_the_beginning() {
    let redis = Redis::start().await;
    redis.events("old", "many", 50).await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let config = config(&redis.url()).with("[[sources]]\nstream = \"events\"\nstart = \"$\"");
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.start().await;
    let _: u64 = redis.run("XGROUP DESTROY events pombo").await;
    redis.events("e", "many", 20).await;
    ledger.complete(&["w"], "e", 20).await;
    at_rest(&redis).await;
    stays(
        "nothing old is sent",
        Duration::from_millis(200),
        async || ledger.got("w"),
        |got| *got == 20,
    )
    .await;
    pombo.stop().await;
    // The same while no daemon runs.
    let _: u64 = redis.run("XGROUP DESTROY events pombo").await;
    redis.events_from("e", 20, "many", 20).await;
    let pombo = config.start().await;
    ledger.complete(&["w"], "e", 40).await;
    at_rest(&redis).await;
    assert_eq!(ledger.got("w"), 40);
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_deleted_and_comes_back_is_read_from_its_first_new_entry() {
    const EACH: usize = 200;
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let config = config(&redis.url());
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.start().await;
    for round in 0..3 {
        redis.events_from("e", round * EACH, "many", EACH).await;
        ledger.complete(&["w"], "e", (round + 1) * EACH).await;
        let _: u64 = redis.run("DEL events").await;
    }
    redis.events_from("e", 3 * EACH, "many", EACH).await;
    ledger.complete(&["w"], "e", 4 * EACH).await;
    at_rest(&redis).await;
    println!(
        "three deleted streams: {} duplicates",
        ledger.duplicates().values().sum::<u32>()
    );
    assert_eq!(pombo.metric("pombo_events_lost_total", &[]).await, 0.0);
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_stands_anew_with_lower_ids_is_read_from_its_beginning() {
    let redis = Redis::start().await;
    let ledger = Ledger::default();
    let receiver = ledger.receiver(|_| Step::status(200)).await;
    let config = config(&redis.url());
    subscribe(&config.webhooks().await, &receiver, &["w"]).await;
    let pombo = config.spawn().await;
    // An id far in the future: the clock of the platform's Redis was wrong for a while.
    let _: String = redis
        .run("XADD events 9999999999999-0 id far type many payload {}")
        .await;
    until("the first", async || ledger.got("w"), |got| *got == 1).await;
    at_rest(&redis).await;
    let _: u64 = redis.run("DEL events").await;
    redis.events("e", "many", 50).await;
    ledger.complete(&["w"], "e", 50).await;
    at_rest(&redis).await;
    assert_eq!(pombo.stop().await, Some(0));
}
