//! What is kept of deliveries that were given up, and how they come back.

use pombo::webhook::Webhook;

use crate::support::pombo::World;
use crate::support::receiver::{Received, Receiver, Step};
use crate::support::wait::until;

#[tokio::test]
async fn more_dead_letters_than_are_kept_push_the_oldest_out_which_is_counted_and_announced() {
    let caps = "[retry]\nmax_attempts = 1\n[dead_letters]\nmax_count = 3";
    let world = World::with(caps).await;
    let receiver = Receiver::scripted(|_| Step::status(404)).await;
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    for n in 0..5 {
        world.redis.event(&format!("e{n}"), "a.b", "1").await;
        receiver.wait_for(n + 1).await;
        world.redis.settled("events").await;
    }
    let dead = world.webhooks.dead(&webhook).await;
    let ids: Vec<&str> = dead.iter().map(|letter| letter.event.id.as_str()).collect();
    assert_eq!(ids, ["e2", "e3", "e4"]);
    let by_count = [("cause", "count")];
    let dropped = pombo
        .metric("pombo_dead_letters_dropped_total", &by_count)
        .await;
    assert_eq!(dropped, 2.0);
    let notices = until(
        "two notices",
        async || world.redis.entries("pombo:{cfg}:notices").await,
        |notices| notices.len() == 2,
    )
    .await;
    for notice in notices {
        assert_eq!(notice.field("kind"), "dead_letters_dropped");
        assert_eq!(notice.field("webhook_id"), "w");
        assert_eq!(notice.field("tenant"), "default");
        assert!(notice.field("detail").contains("count"), "{notice:?}");
    }
    pombo
        .wait_for_metric("pombo_dead_letters_stored", &[], |stored| stored == 3.0)
        .await;
}

#[tokio::test]
async fn a_replay_starts_the_retries_anew_while_the_attempts_count_on() {
    let world = World::with("[retry]\nmax_attempts = 2").await;
    let fails = |received: &Received| match received.header("x-delivery-attempt") {
        "1" | "2" | "3" => Step::status(500),
        _ => Step::status(200),
    };
    let receiver = Receiver::scripted(fails).await;
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    let payload = r#"{"price": 1.10}"#;
    world.redis.event("e1", "a.b", payload).await;
    let dead = world.webhooks.wait_for_dead(&webhook, 1).await;
    assert_eq!(dead[0].ending.tries.attempts, 2);

    world.webhooks.replay(&webhook, &dead[0]).await;
    let received = receiver.wait_for(4).await;
    let attempts: Vec<&str> = received
        .iter()
        .map(|r| r.header("x-delivery-attempt"))
        .collect();
    assert_eq!(attempts, ["1", "2", "3", "4"]);
    let kept = world.webhooks.wait_for_history(&webhook, 1).await.remove(0);
    let log = kept.log.records().iter();
    let log: Vec<_> = log.map(|record| (record.number, record.status)).collect();
    let expected = [500, 500, 500, 200].map(Some);
    assert_eq!(log, (1..).zip(expected).collect::<Vec<_>>());
    for one in &received {
        assert_eq!(one.header("x-delivery-id"), dead[0].ending.delivery_id);
        assert_eq!(one.header("webhook-id"), "e1");
        assert_eq!(one.body, received[0].body);
    }
    empty(&world, &webhook).await;
}

#[tokio::test]
async fn a_replayed_delivery_that_fails_again_is_dead_again_with_all_its_attempts() {
    let world = World::with("[retry]\nmax_attempts = 2").await;
    let receiver = Receiver::scripted(|_| Step::status(500)).await;
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    world.redis.events("e", "a.b", 3).await;
    let dead = world.webhooks.wait_for_dead(&webhook, 3).await;
    // Whoever comes second finds that it was put back already.
    world.webhooks.replay(&webhook, &dead[1]).await;
    until(
        "the replayed one dead again",
        async || {
            let dead = world.webhooks.dead(&webhook).await;
            dead.last().map(|letter| letter.ending.tries.attempts)
        },
        |attempts| *attempts == Some(4),
    )
    .await;
    let dead = world.webhooks.dead(&webhook).await;
    assert_eq!(dead.len(), 3);
    assert_eq!(receiver.received().len(), 8);
    let exhausted = [("reason", "exhausted")];
    assert_eq!(
        pombo.metric("pombo_dead_letters_total", &exhausted).await,
        4.0
    );
    empty(&world, &webhook).await;
}

async fn empty(world: &World, webhook: &Webhook) {
    until(
        "an empty queue",
        async || world.webhooks.sizes(webhook).await,
        |sizes| (sizes.waiting, sizes.scheduled) == (0, 0),
    )
    .await;
}
