//! How the daemon ends.

use std::collections::HashSet;
use std::time::Duration;

use pombo::webhook::RateLimit;
use rustix::process::Signal;

use crate::support::pombo::World;
use crate::support::receiver::{Answer, Gate, Received, Receiver, Step};
use crate::support::wait::until;

fn ids(received: &[Received]) -> HashSet<String> {
    let id = |r: &Received| r.header("x-event-id").to_owned();
    received.iter().map(id).collect()
}

#[tokio::test]
async fn a_signal_in_the_middle_of_a_flow_finishes_what_flies_and_loses_and_repeats_nothing() {
    const EVENTS: usize = 600;
    let (world, receiver) = (World::new().await, Receiver::start().await);
    for n in 0..3 {
        world
            .webhooks
            .all(&format!("w{n}"), &receiver.url("/"))
            .await;
    }
    let gate = Gate::new();
    let held = gate.clone();
    let slow = Receiver::scripted(move |_| Answer::new(200).after(&held).into()).await;
    world.webhooks.all("slow", &slow.url("/")).await;
    let mut pombo = world.config.spawn().await;
    world.redis.events("e", "a.b", EVENTS).await;
    receiver.wait_for(200).await;
    slow.wait_for(1).await;
    pombo.terminate();
    pombo.log().wait_for("stopping").await;
    assert_eq!(pombo.get("/readyz").await.status, 503);
    gate.open();
    let start = tokio::time::Instant::now();
    assert_eq!(pombo.wait().await.code(), Some(0));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let before = receiver.received().len();
    let flown = slow.received().len();
    println!("stopped within {took:?}, after {before} deliveries and {flown} held up ones");

    // What was delivered is not pending any more: its successor delivers the rest and nothing again.
    let pombo = world.config.spawn().await;
    let all = receiver.wait_for(3 * EVENTS).await;
    slow.wait_for(EVENTS).await;
    world.redis.settled("events").await;
    until(
        "all delivered",
        async || world.redis.keys("pombo:{s*}:queue:*").await,
        Vec::is_empty,
    )
    .await;
    assert_eq!(ids(&all).len(), EVENTS);
    assert_eq!(receiver.received().len(), 3 * EVENTS, "repeated");
    assert_eq!(slow.received().len(), EVENTS, "repeated");
    assert_eq!(pombo.stop().await, Some(0));
}

#[tokio::test]
async fn what_the_grace_cuts_off_is_delivered_by_the_successor() {
    let world = World::with("[shutdown]\ngrace = \"300ms\"").await;
    let receiver = Receiver::start().await;
    world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.spawn().await;
    receiver.push(Step::Hang);
    world.redis.event("e1", "a.b", "1").await;
    receiver.wait_for(1).await;
    let start = tokio::time::Instant::now();
    assert_eq!(pombo.stop().await, Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    let _pombo = world.config.spawn().await;
    let received = receiver.wait_for(2).await;
    assert_eq!(received[1].header("webhook-id"), "e1");
    world.redis.settled("events").await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_nothing_is_lost() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    world.webhooks.all("w", &receiver.url("/")).await;
    let mut pombo = world.config.spawn().await;
    receiver.push(Step::Hang);
    world.redis.event("e1", "a.b", "1").await;
    receiver.wait_for(1).await;
    pombo.signal(Signal::INT);
    pombo.log().wait_for("stopping").await;
    let start = tokio::time::Instant::now();
    pombo.terminate();
    assert_eq!(pombo.wait().await.code(), Some(130));
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    pombo.log().wait_for("second signal").await;
    let _pombo = world.config.spawn().await;
    let received = receiver.wait_for(2).await;
    assert_eq!(received[1].header("webhook-id"), "e1");
    world.redis.settled("events").await;
}

#[tokio::test]
async fn lanes_that_wait_for_their_rate_do_not_keep_the_daemon_from_stopping() {
    const LANES: usize = 300;
    let (world, receiver) = (World::new().await, Receiver::start().await);
    for n in 0..LANES {
        world
            .webhooks
            .make(&format!("slow{n}"), &receiver.url("/"), &["*"], |spec| {
                spec.rate_limit = Some(RateLimit {
                    per_second: 0.001,
                    burst: 1,
                });
            })
            .await;
    }
    let mut pombo = world.config.spawn().await;
    world.redis.events("e", "a.b", 3).await;
    receiver.wait_for(LANES).await;
    world.redis.settled("events").await;
    pombo.terminate();
    assert_eq!(pombo.wait().await.code(), Some(0));
    assert!(
        !pombo
            .log()
            .lines()
            .iter()
            .any(|line| line.contains("the grace is over")),
        "nothing was in flight"
    );
}
