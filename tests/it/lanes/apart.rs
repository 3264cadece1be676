//! One subscriber never hurts another.

use std::time::Duration;

use pombo::webhook::{Webhook, WebhookSpec};
use rustix::process::Signal;

use crate::support::pombo::World;
use crate::support::receiver::{Answer, Gate, Received, Receiver, Step};
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_hanging_subscriber_among_fifty_leaves_the_others_unaffected() {
    const EVENTS: usize = 30;
    let world = World::with("[delivery]\nmax_in_flight = 10").await;
    let receiver = Receiver::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    let hanging = Receiver::scripted(move |_| Answer::new(200).after(&held).into()).await;
    let stuck = world.webhooks.all("stuck", &hanging.url("/")).await;
    for n in 1..50 {
        let url = receiver.url(&format!("/{n}"));
        world.webhooks.all(&format!("w{n}"), &url).await;
    }
    let pombo = world.config.start().await;
    let start = tokio::time::Instant::now();
    world.redis.events("e", "a.b", EVENTS).await;
    let all = receiver.wait_for(49 * EVENTS).await;
    let took = start.elapsed();
    println!(
        "{} deliveries took {took:?} beside one that hangs",
        all.len()
    );
    assert_eq!(hanging.received().len(), 10);
    // What hangs is kept in its own queue, and pins nothing.
    world.redis.settled("events").await;
    assert_eq!(world.webhooks.queued(&stuck).await, EVENTS as u64);
    // What was received last may not have been answered yet: on a busy machine it is stored meanwhile.
    let delivered = [("outcome", "delivered")];
    pombo
        .wait_for_metric("pombo_deliveries_total", &delivered, |all| {
            all == 49.0 * EVENTS as f64
        })
        .await;
    assert_eq!(receiver.received().len(), 49 * EVENTS, "nothing came twice");

    gate.open();
    hanging.wait_for(EVENTS).await;
    until(
        "an empty queue",
        async || world.webhooks.queued(&stuck).await,
        |queued| *queued == 0,
    )
    .await;
    assert_eq!(hanging.received().len(), EVENTS, "nothing came twice");
}

#[tokio::test]
async fn a_few_hanging_subscribers_cannot_have_the_whole_cap_on_attempts() {
    const EVENTS: usize = 30;
    let caps = "[delivery]\nmax_in_flight = 8\nmax_in_flight_total = 8";
    let (world, receiver) = (World::with(caps).await, Receiver::start().await);
    let hanging = Receiver::scripted(|_| Step::Hang).await;
    for n in 0..3 {
        world
            .webhooks
            .all(&format!("stuck{n}"), &hanging.url("/"))
            .await;
    }
    let pombo = world.config.start().await;
    world.redis.events("first", "a.b", EVENTS).await;
    world.redis.settled("events").await;
    let in_flight = pombo.metric("pombo_in_flight", &[]).await;
    assert!((3.0..8.0).contains(&in_flight), "{in_flight}");

    world.webhooks.all("well", &receiver.url("/")).await;
    until(
        "the new webhook",
        async || {
            world.redis.event("probe", "a.b", "1").await;
            receiver.received().len()
        },
        |requests| *requests > 0,
    )
    .await;
    let start = tokio::time::Instant::now();
    world.redis.events("second", "a.b", EVENTS).await;
    receiver
        .wait_until(|all| {
            let second = all
                .iter()
                .filter(|r| r.header("x-event-id").starts_with("second"));
            second.count() >= EVENTS
        })
        .await;
    let took = start.elapsed();
    println!("{EVENTS} deliveries took {took:?} in what was left of the cap");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_receivers_have_as_many_attempts_in_flight_as_they_may() {
    /// More together than keep a thread busy.
    const WEBHOOKS: usize = 16;
    const EVENTS: usize = 40;
    let (world, gate) = (World::new().await, Gate::new());
    let held = gate.clone();
    let slow = Receiver::scripted(move |_| Answer::new(200).after(&held).into()).await;
    for n in 0..WEBHOOKS {
        let url = slow.url(&format!("/{n}"));
        world.webhooks.all(&format!("w{n}"), &url).await;
    }
    let pombo = world.config.start().await;
    world.redis.events("e", "a.b", EVENTS).await;
    let all = slow.wait_for(WEBHOOKS * EVENTS).await;
    assert_eq!(all.len(), WEBHOOKS * EVENTS);
    let in_flight = pombo.metric("pombo_in_flight", &[]).await;
    assert_eq!(in_flight, (WEBHOOKS * EVENTS) as f64);
    gate.open();
    world.redis.settled("events").await;
    assert_eq!(
        slow.received().len(),
        WEBHOOKS * EVENTS,
        "nothing came twice"
    );
}

#[tokio::test]
async fn a_full_queue_dead_letters_the_newest_and_hurts_nobody_else() {
    let bound = "[queue]\nmax_deliveries = 5";
    let (world, receiver) = (World::with(bound).await, Receiver::start().await);
    let busy = Receiver::start().await;
    let full = world.webhooks.all("full", &busy.url("/")).await;
    world.webhooks.all("well", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    busy.push(Answer::new(503).header("retry-after", "3"));
    world.redis.event("first", "a.b", "1").await;
    pombo
        .wait_for_metric("pombo_lanes", &[("state", "held")], |held| held == 1.0)
        .await;
    world.redis.events("e", "a.b", 20).await;
    receiver.wait_for(21).await;
    world.redis.settled("events").await;
    assert_eq!(world.webhooks.queued(&full).await, 5);
    let dead = world.webhooks.wait_for_dead(&full, 16).await;
    for (n, letter) in dead.iter().enumerate() {
        assert_eq!(letter.event.id, format!("e{}", n + 4));
        assert_eq!(letter.ending.reason.as_str(), "queue_full");
        assert_eq!(letter.ending.tries.attempts, 0);
    }
    assert_eq!(dead.len(), 16);
    let reason = [("reason", "queue_full")];
    assert_eq!(
        pombo.metric("pombo_dead_letters_total", &reason).await,
        16.0
    );

    // The queue drains, and has room again.
    busy.wait_for(6).await;
    drained(&world, &full).await;
    world.redis.event("later", "a.b", "1").await;
    busy.wait_for(7).await;
}

async fn drained(world: &World, webhook: &Webhook) {
    until(
        "an empty queue",
        async || world.webhooks.queued(webhook).await,
        |queued| *queued == 0,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nothing_breaks_every_delivery_is_made_once_however_it_went_through_its_queue() {
    const EVENTS: usize = 600;
    let gate = Gate::new();
    let held = gate.clone();
    let script = move |received: &Received| match received.header("x-delivery-attempt") {
        "1" if received.header("x-event-id").ends_with('0') => Answer::new(500).after(&held).into(),
        "1" => Step::status(500),
        "2" => Step::status(503),
        _ => Step::status(200),
    };
    let receiver = Receiver::scripted(script).await;
    let world = World::new().await;
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    world.redis.events("e", "a.b", EVENTS).await;
    world.redis.settled("events").await;
    gate.open();
    let delivered = [("outcome", "delivered")];
    pombo
        .wait_for_metric("pombo_deliveries_total", &delivered, |count| {
            count >= EVENTS as f64
        })
        .await;
    drained(&world, &webhook).await;
    assert_eq!(receiver.received().len(), 3 * EVENTS);
    assert_eq!(
        pombo.metric("pombo_deliveries_total", &delivered).await,
        EVENTS as f64
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_stood_still_for_a_moment_makes_no_delivery_wait_in_its_queue() {
    /// Longer than what is taken may linger, and far shorter than what is in flight may take.
    const STANDSTILL: Duration = Duration::from_millis(400);
    const ROUNDS: usize = 8;
    let world = World::new().await;
    let (first, second) = (Gate::new(), Gate::new());
    let gates = [first.clone(), second.clone()];
    let receiver = Receiver::scripted(move |request| {
        let gate = usize::from(request.header("x-event-id").ends_with("second"));
        Answer::new(200).after(&gates[gate]).into()
    })
    .await;
    let one_at_a_time = |spec: &mut WebhookSpec| spec.max_in_flight = Some(1);
    let webhook = world
        .webhooks
        .make("w", &receiver.url("/"), &["*"], one_at_a_time)
        .await;
    let pombo = world.config.spawn().await;
    let mut stored = 0;
    for round in 0..ROUNDS {
        first.close();
        second.close();
        world
            .redis
            .event(&format!("{round}-first"), "a.b", "{}")
            .await;
        receiver.wait_for(2 * round + 1).await;
        world
            .redis
            .event(&format!("{round}-second"), "a.b", "{}")
            .await;
        // Counted as soon as it is handed out, and far from lingering then.
        let handed_out = 2.0 * (round + 1) as f64;
        pombo
            .wait_for_metric("pombo_fanout_deliveries_total", &[], |count| {
                count == handed_out
            })
            .await;
        pombo.signal(Signal::STOP);
        first.open();
        // Nothing is waited for: this is the standstill itself.
        tokio::time::sleep(STANDSTILL).await;
        pombo.signal(Signal::CONT);
        receiver.wait_for(2 * round + 2).await;
        let queued = world.webhooks.queued(&webhook).await;
        second.open();
        world.redis.settled("events").await;
        stored += usize::from(queued > 0);
        until(
            "an empty queue",
            async || world.webhooks.queued(&webhook).await,
            |queued| *queued == 0,
        )
        .await;
    }
    // Where this test itself was held up, what lingered then was rightly stored.
    assert!(stored <= ROUNDS / 2, "{stored} of {ROUNDS} times");
}
