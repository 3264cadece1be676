//! What happens to streams behind the daemon's back: groups destroyed, entries trimmed.

use std::collections::HashMap;

use crate::support::pombo::World;
use crate::support::receiver::{Received, Receiver};
use crate::support::wait::until;

#[tokio::test]
async fn a_lost_group_is_made_again_where_it_was_and_nothing_is_lost_or_replayed() {
    let world = World::new().await;
    let (redis, receiver) = (&world.redis, Receiver::start().await);
    world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    redis.events("before-", "a.b", 40).await;
    receiver.wait_for(40).await;
    redis.settled("events").await;
    let last = redis.group("events").await.expect("a group").last_delivered;
    until(
        "the mark at the last entry",
        async || {
            redis
                .run::<Option<String>>("HGET pombo:{cfg}:source:events mark")
                .await
        },
        |mark| mark.as_ref() == Some(&last),
    )
    .await;
    redis.run::<()>("XGROUP DESTROY events pombo").await;
    redis.events("after-", "a.b", 40).await;
    receiver.wait_for(80).await;
    redis.settled("events").await;
    let count = counts(&receiver.received());
    assert_eq!(count.len(), 80);
    assert!(count.values().all(|times| *times == 1), "{count:?}");
}

#[tokio::test]
async fn a_group_lost_in_the_middle_of_a_flow_costs_repeats_of_the_last_moment_and_no_event() {
    let world = World::new().await;
    let (redis, receiver) = (&world.redis, Receiver::start().await);
    world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    redis.events("old-", "a.b", 100).await;
    receiver.wait_for(100).await;
    redis.settled("events").await;
    let last = redis.group("events").await.expect("a group").last_delivered;
    until(
        "the mark at the last entry",
        async || {
            redis
                .run::<Option<String>>("HGET pombo:{cfg}:source:events mark")
                .await
        },
        |mark| mark.as_ref() == Some(&last),
    )
    .await;
    let mut destroyed = 0;
    for round in 0..20 {
        redis.events(&format!("{round}-"), "a.b", 100).await;
        if round % 7 == 3 {
            destroyed += redis.run::<i64>("XGROUP DESTROY events pombo").await;
        }
    }
    let all = receiver
        .wait_until(|received| counts(received).len() == 2_100)
        .await;
    redis.settled("events").await;
    println!(
        "{} requests for 2,100 events; the group was destroyed {destroyed} times",
        all.len()
    );
    let count = counts(&receiver.received());
    assert!(
        (0..100).all(|n| count[&format!("old-{n}")] == 1),
        "replayed from the start"
    );
}

/// How often each event came.
fn counts(received: &[Received]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for received in received {
        *counts
            .entry(received.header("x-event-id").to_owned())
            .or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn entries_trimmed_before_they_were_read_are_counted_exactly_and_told() {
    let world = World::new().await;
    let (redis, receiver) = (&world.redis, Receiver::start().await);
    world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    redis.events("a", "a.b", 10).await;
    receiver.wait_for(10).await;
    redis.settled("events").await;
    pombo.stop().await;

    redis.events("b", "a.b", 20).await;
    redis.run::<i64>("XTRIM events MAXLEN 5").await;
    let pombo = world.config.spawn().await;
    receiver.wait_for(15).await;
    pombo
        .wait_for_metric("pombo_events_lost_total", &[("source", "events")], |lost| {
            lost > 0.0
        })
        .await;
    let line = pombo.log().wait_for("before they were read").await;
    assert!(line.contains("15") && line.contains("ERROR"), "{line}");
    redis.events("c", "a.b", 1).await;
    receiver.wait_for(16).await;
    redis.settled("events").await;
    assert_eq!(pombo.metric("pombo_events_lost_total", &[]).await, 15.0);
}

#[tokio::test]
async fn entries_trimmed_while_they_were_pending_are_counted_acknowledged_and_told() {
    let world = World::new().await;
    let (redis, receiver) = (&world.redis, Receiver::start().await);
    world.webhooks.all("w", &receiver.url("/")).await;
    redis.events("a", "a.b", 10).await;
    redis.run::<()>("XGROUP CREATE events pombo 0").await;
    let read = "XREADGROUP GROUP pombo pombo COUNT 8 STREAMS events >";
    redis.run::<redis::Value>(read).await;
    redis.run::<i64>("XTRIM events MAXLEN 5").await;
    let pombo = world.config.spawn().await;
    let received = receiver.wait_for(5).await;
    redis.settled("events").await;
    assert_eq!(pombo.metric("pombo_events_lost_total", &[]).await, 5.0);
    pombo.log().wait_for("while they were pending").await;
    let mut ids: Vec<_> = received.iter().map(|r| r.header("x-event-id")).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a5", "a6", "a7", "a8", "a9"]);
}

#[tokio::test]
async fn trimming_removes_what_every_group_has_acknowledged_and_nothing_else() {
    let world = World::with("[[sources]]\nstream = \"events\"\ntrim = \"acknowledged\"").await;
    let (redis, receiver) = (&world.redis, Receiver::start().await);
    world.webhooks.all("w", &receiver.url("/")).await;
    redis
        .run::<()>("XGROUP CREATE events other 0 MKSTREAM")
        .await;
    redis.events("e", "a.b", 10).await;
    let ids: Vec<String> = redis
        .entries("events")
        .await
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    // The other group has three, and is done with the first and the last of them.
    let read = "XREADGROUP GROUP other reader COUNT 3 STREAMS events >";
    redis.run::<redis::Value>(read).await;
    redis
        .run::<i64>(&format!("XACK events other {} {}", ids[0], ids[2]))
        .await;
    let _pombo = world.config.start().await;
    receiver.wait_for(10).await;
    let length = async || redis.run::<usize>("XLEN events").await;
    until("the first trimming", length, |length| *length < 10).await;
    let left: Vec<String> = redis
        .entries("events")
        .await
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    assert_eq!(left, ids[1..]);

    let read = "XREADGROUP GROUP other reader COUNT 10 NOACK STREAMS events >";
    redis.run::<redis::Value>(read).await;
    redis
        .run::<i64>(&format!("XACK events other {}", ids[1]))
        .await;
    redis.events("f", "a.b", 1).await;
    until("the second trimming", length, |length| *length < 10).await;
    // The newest is the other group's to read.
    assert_eq!(redis.entries("events").await[0].field("id"), "f0");
    redis.settled("events").await;
}
