//! What a webhook's lane keeps to, and what it keeps from others.

mod apart;

use std::time::Duration;

use bytes::Bytes;
use pombo::webhook::{Ordering, RateLimit, WebhookSpec};
use tokio::time::Instant;

use crate::support::pombo::World;
use crate::support::receiver::{Answer, Gate, Received, Receiver, Step};
use crate::support::wait::{stays, until};

#[tokio::test]
async fn a_rate_limit_is_never_beaten_and_not_wasted() {
    const RATE: f64 = 50.0;
    const BURST: usize = 10;
    const EVENTS: usize = 110;
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let limited = |spec: &mut WebhookSpec| {
        spec.rate_limit = Some(RateLimit {
            per_second: RATE,
            burst: BURST as u32,
        });
    };
    let url = receiver.url("/");
    let webhook = world.webhooks.make("w", &url, &["*"], limited).await;
    let pombo = world.config.start().await;
    let begun = Instant::now();
    let best = (EVENTS - BURST) as f64 / RATE;
    // The second time with what was saved up since the first: never more than a burst.
    for round in 1..=2 {
        let start = Instant::now();
        let before = receiver.received().len();
        let prefix = format!("e{round}-");
        world.redis.events(&prefix, "a.b", EVENTS).await;
        let received = receiver.wait_for(round * EVENTS).await;
        // Counted from before the first can have been sent: a busy machine makes them come later, never too early.
        for (count, one) in received[before..].iter().enumerate() {
            let (count, since) = (count + 1, (one.at - start).as_secs_f64());
            let allowed = BURST as f64 + RATE * since;
            assert!(count as f64 <= allowed, "{count} within {since} s");
        }
        let whole = start.elapsed().as_secs_f64();
        println!("round {round}: {EVENTS} requests took {whole:.3} s, at best {best:.3} s");
        assert!(whole < best + 10.0, "{whole}");
        until(
            "an empty queue",
            async || world.webhooks.queued(&webhook).await,
            |queued| *queued == 0,
        )
        .await;
        world.redis.settled("events").await;
    }
    let (waited, all) = (
        pombo.metric("pombo_rate_limited_seconds_total", &[]).await,
        begun.elapsed().as_secs_f64(),
    );
    println!("waited for {waited:.3} s of {all:.3} s");
    assert!(waited > 0.0 && waited <= all, "{waited} of {all}");
}

#[tokio::test]
async fn a_webhook_has_no_more_in_flight_than_it_allows() {
    let gate = Gate::new();
    let held = gate.clone();
    let receiver = Receiver::scripted(move |_| Answer::new(200).after(&held).into()).await;
    let world = World::new().await;
    let narrow = |spec: &mut WebhookSpec| spec.max_in_flight = Some(3);
    let url = receiver.url("/");
    world.webhooks.make("w", &url, &["*"], narrow).await;
    let pombo = world.config.start().await;
    world.redis.events("e", "a.b", 12).await;
    receiver.wait_for(3).await;
    stays(
        "three in flight",
        Duration::from_millis(1_500),
        async || receiver.received().len(),
        |requests| *requests == 3,
    )
    .await;
    assert_eq!(pombo.metric("pombo_in_flight", &[]).await, 3.0);
    gate.open();
    receiver.wait_for(12).await;
    world.redis.settled("events").await;
    assert!(receiver.connections() <= 3, "{}", receiver.connections());
}

#[tokio::test]
async fn a_fifo_webhook_gets_its_events_in_order_whatever_fails() {
    const EVENTS: usize = 40;
    let fails = |received: &Received| {
        let event: usize = received.header("x-event-id")[1..].parse().expect("e<n>");
        let attempt: usize = received
            .header("x-delivery-attempt")
            .parse()
            .expect("a number");
        match (event % 4, attempt) {
            (1, 1) => Step::status(500),
            (2, 1 | 2) => Step::status(404),
            (3, 1) if event % 8 == 3 => Step::Raw(Bytes::from_static(b"nonsense\r\n\r\n")),
            _ => Step::status(200),
        }
    };
    let receiver = Receiver::scripted(fails).await;
    let world = World::new().await;
    let ordered = |spec: &mut WebhookSpec| spec.ordering = Ordering::Fifo;
    let url = receiver.url("/");
    let webhook = world.webhooks.make("w", &url, &["*"], ordered).await;
    let pombo = world.config.start().await;
    world.redis.events("e", "a.b", EVENTS / 2).await;
    receiver.wait_for(5).await;
    // A restart in the middle changes nothing.
    pombo.stop().await;
    let _pombo = world.config.start().await;
    let more: Vec<String> = (EVENTS / 2..EVENTS).map(|n| format!("e{n}")).collect();
    for id in &more {
        world.redis.event(id, "a.b", "1").await;
    }
    until(
        "an empty queue",
        async || {
            world.redis.settled("events").await;
            world.webhooks.queued(&webhook).await
        },
        |queued| *queued == 0,
    )
    .await;
    let received = receiver.received();
    let mut expected = Vec::new();
    for event in 0..EVENTS {
        let attempts = match event % 8 {
            1 | 3 | 5 => 2,
            2 | 6 => 3,
            _ => 1,
        };
        expected.extend((1..=attempts).map(|attempt| (format!("e{event}"), attempt.to_string())));
    }
    let seen: Vec<(String, String)> = received
        .iter()
        .map(|r| {
            let (event, attempt) = (r.header("x-event-id"), r.header("x-delivery-attempt"));
            (event.to_owned(), attempt.to_owned())
        })
        .collect();
    assert_eq!(seen, expected);
}
