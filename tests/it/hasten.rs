//! A delivery that waits for its next attempt, and for which somebody does not want to wait.

use std::time::Duration;

use pombo::event::EntryId;
use pombo::store::retry::Hastened;
use pombo::webhook::{Ordering, Webhook};
use tokio::time::Instant;

use crate::support::pombo::{Observed, World};
use crate::support::receiver::{Answer, Gate, Received, Receiver, Step};
use crate::support::wait::until;

const IN_AN_HOUR: &str = "[retry]\nfirst = \"1h\"\nlongest = \"1h\"";

/// How long what is asked for may take: far from an hour, and far from a busy machine's limits.
const A_MOMENT: Duration = Duration::from_secs(15);

/// The webhook's scheduled entries, by when they are due.
async fn scheduled(world: &World, webhook: &Webhook, count: usize) -> Vec<EntryId> {
    let shard = world.webhooks.store().shard_of(&webhook.spec.id);
    let words = format!("ZRANGE pombo:{{s{shard:02}}}:retry:{} 0 -1", webhook.uid);
    let ids = until(
        "what is scheduled",
        async || world.redis.run::<Vec<String>>(&words).await,
        |ids| ids.len() == count,
    )
    .await;
    ids.iter().map(|id| id.parse().expect("an id")).collect()
}

async fn no_lanes(pombo: &Observed) {
    pombo
        .wait_for_metric("pombo_lanes", &[], |lanes| lanes == 0.0)
        .await;
}

fn events(received: &[Received]) -> Vec<(&str, &str)> {
    let event = |one| {
        (
            Received::header(one, "x-event-id"),
            one.header("x-delivery-attempt"),
        )
    };
    received.iter().map(event).collect()
}

#[tokio::test]
async fn a_parked_lane_attempts_what_was_hastened_at_once() {
    let (world, receiver) = (World::with(IN_AN_HOUR).await, Receiver::start().await);
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    receiver.push(Step::status(500)).push(Step::status(500));
    world.redis.event("e1", "a.b", "1").await;
    receiver.wait_for(1).await;
    world.redis.event("e2", "a.b", "1").await;
    let ids = scheduled(&world, &webhook, 2).await;
    no_lanes(&pombo).await;

    assert_eq!(
        world.webhooks.hasten(&webhook, ids[0]).await,
        Hastened::Done
    );
    let asked = Instant::now();
    let received = receiver.wait_for(3).await;
    assert!(asked.elapsed() < A_MOMENT, "{:?}", asked.elapsed());
    assert_eq!(events(&received), [("e1", "1"), ("e2", "1"), ("e1", "2")]);
    assert_eq!(scheduled(&world, &webhook, 1).await, ids[1..]);
    let gone = until(
        "the delivered one gone",
        async || world.webhooks.hasten(&webhook, ids[0]).await,
        |hastened| *hastened == Hastened::Gone,
    );
    gone.await;
    no_lanes(&pombo).await;
    assert_eq!(
        world.webhooks.hasten(&webhook, ids[1]).await,
        Hastened::Done
    );
    assert_eq!(receiver.wait_for(4).await[3].header("x-event-id"), "e2");
    let kept = world.webhooks.wait_for_history(&webhook, 2).await;
    assert!(kept.iter().all(|kept| kept.log.records().len() == 2));
}

#[tokio::test]
async fn a_lane_that_is_busy_with_others_attempts_what_was_hastened_at_once() {
    let (world, receiver) = (World::with(IN_AN_HOUR).await, Receiver::start().await);
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    let gate = Gate::new();
    receiver.push(Answer::new(200).after(&gate));
    world.redis.event("hanging", "a.b", "1").await;
    receiver.wait_for(1).await;
    receiver.push(Step::status(500));
    world.redis.event("e1", "a.b", "1").await;
    receiver.wait_for(2).await;
    world.redis.settled("events").await;
    // The one in flight is scheduled too, for the case that its outcome is never seen.
    let ids = scheduled(&world, &webhook, 2).await;
    let failed = async |id: &EntryId| {
        let entries = world
            .redis
            .entries(&world.redis.keys("*:queue:*").await[0])
            .await;
        let found = entries.iter().find(|entry| entry.id == id.to_string());
        found.is_some_and(|entry| entry.event_id() == "e1")
    };
    let id = if failed(&ids[0]).await {
        ids[0]
    } else {
        ids[1]
    };
    assert_eq!(world.webhooks.hasten(&webhook, id).await, Hastened::Done);
    let asked = Instant::now();
    let received = receiver.wait_for(3).await;
    assert!(asked.elapsed() < A_MOMENT, "{:?}", asked.elapsed());
    assert_eq!(events(&received)[2], ("e1", "2"));
    // The hanging one alone, as soon as the answer to the other has been taken up.
    pombo
        .wait_for_metric("pombo_in_flight", &[], |flying| flying == 1.0)
        .await;
    gate.open();
    world.webhooks.wait_for_history(&webhook, 2).await;
}

#[tokio::test]
async fn a_parked_lane_that_keeps_the_order_goes_on_with_its_hastened_head() {
    let (world, receiver) = (World::with(IN_AN_HOUR).await, Receiver::start().await);
    let webhook = fifo(&world, &receiver).await;
    let pombo = world.config.start().await;
    receiver.push(Step::status(500)).push(Step::status(500));
    world.redis.events("e", "a.b", 3).await;
    let ids = scheduled(&world, &webhook, 1).await;
    no_lanes(&pombo).await;
    // Twice: the second time it has tries when it is hastened.
    assert_eq!(
        world.webhooks.hasten(&webhook, ids[0]).await,
        Hastened::Done
    );
    receiver.wait_for(2).await;
    let hastened = until(
        "the head scheduled again",
        async || world.webhooks.hasten(&webhook, ids[0]).await,
        |hastened| *hastened == Hastened::Done,
    );
    hastened.await;
    let asked = Instant::now();
    let received = receiver.wait_for(5).await;
    assert!(asked.elapsed() < A_MOMENT, "{:?}", asked.elapsed());
    let expected = [
        ("e0", "1"),
        ("e0", "2"),
        ("e0", "3"),
        ("e1", "1"),
        ("e2", "1"),
    ];
    assert_eq!(events(&received), expected);
}

#[tokio::test]
async fn a_live_lane_that_keeps_the_order_goes_on_with_its_hastened_head() {
    // A lane stays for what is due within five seconds.
    let soon = "[retry]\nfirst = \"4900ms\"\nlongest = \"4900ms\"";
    let (world, receiver) = (World::with(soon).await, Receiver::start().await);
    let webhook = fifo(&world, &receiver).await;
    let _pombo = world.config.start().await;
    receiver.push(Step::status(500));
    world.redis.events("e", "a.b", 2).await;
    let ids = scheduled(&world, &webhook, 1).await;
    assert_eq!(
        world.webhooks.hasten(&webhook, ids[0]).await,
        Hastened::Done
    );
    let received = receiver.wait_for(3).await;
    assert_eq!(events(&received), [("e0", "1"), ("e0", "2"), ("e1", "1")]);
    let pause = received[1].at - received[0].at;
    assert!(pause < Duration::from_secs(4), "{pause:?}");
}

#[tokio::test]
async fn a_replayed_delivery_keeps_its_place_in_the_order_and_its_attempts() {
    let (world, receiver) = (
        World::with("[retry]\nmax_attempts = 1").await,
        Receiver::start().await,
    );
    let webhook = fifo(&world, &receiver).await;
    let _pombo = world.config.start().await;
    receiver.push(Step::status(500));
    world.redis.events("e", "a.b", 1).await;
    let dead = world.webhooks.wait_for_dead(&webhook, 1).await;
    let gate = Gate::new();
    receiver.push(Answer::new(200).after(&gate));
    world.redis.events_from("e", 1, "a.b", 3).await;
    receiver.wait_for(2).await;
    world.redis.settled("events").await;
    world.webhooks.replay(&webhook, &dead[0]).await;
    gate.open();
    let received = receiver.wait_for(5).await;
    let expected = [
        ("e0", "1"),
        ("e1", "1"),
        ("e2", "1"),
        ("e3", "1"),
        ("e0", "2"),
    ];
    assert_eq!(events(&received), expected);
    let kept = world.webhooks.wait_for_history(&webhook, 4).await;
    assert_eq!((kept[0].attempts, kept[0].log.records().len()), (2, 2));
}

async fn fifo(world: &World, receiver: &Receiver) -> Webhook {
    let fifo = |spec: &mut pombo::webhook::WebhookSpec| spec.ordering = Ordering::Fifo;
    let url = receiver.url("/");
    world.webhooks.make("w", &url, &["*"], fifo).await
}
