//! What becomes of a delivery when an attempt fails.

use std::time::Duration;

use bytes::Bytes;
use pombo::retry::RetryOverride;
use pombo::webhook::{Webhook, WebhookSpec};

use crate::support::pombo::World;
use crate::support::receiver::{Answer, Gate, Received, Receiver, Step};
use crate::support::tls::TestCa;
use crate::support::wait::{stays, until};

fn script(received: &Received) -> Step {
    match received.path.as_str() {
        "/302" => Answer::new(302).header("location", "/elsewhere").into(),
        "/404" => Answer::new(404).body("no such\nhook").into(),
        "/500" => Step::status(500),
        "/reset" => Step::Reset,
        "/close" => Step::Close,
        "/garbage" => Step::Raw(Bytes::from_static(b"220 mail.example.com ESMTP\r\n\r\n")),
        "/hang" => Step::Hang,
        other => panic!("nothing may be sent to {other}"),
    }
}

/// Path or URL, the class in metrics, the last status, and words of the error.
const FAILURES: [(&str, &str, Option<u16>, &str); 11] = [
    ("/302", "3xx", Some(302), "answered 302 Found"),
    ("/404", "4xx", Some(404), "answered 404 Not Found"),
    (
        "/500",
        "5xx",
        Some(500),
        "answered 500 Internal Server Error",
    ),
    ("/reset", "connect", None, "it reset the connection"),
    ("/close", "connect", None, "closed the connection"),
    ("/garbage", "other", None, "is not HTTP"),
    ("/hang", "timeout", None, "no answer within the deadline"),
    (
        "http://127.0.0.1:1/",
        "connect",
        None,
        "the connection failed",
    ),
    ("http://nowhere.invalid/", "dns", None, "could not resolve"),
    ("http://10.0.0.1/", "forbidden", None, "may not be called"),
    ("SECURE", "tls", None, "could not secure"),
];

#[tokio::test]
async fn every_kind_of_failure_is_tried_again_and_then_kept_as_dead_with_what_was_seen() {
    let world = World::with("[retry]\nmax_attempts = 2").await;
    let receiver = Receiver::scripted(script).await;
    let untrusted = Receiver::start_tls(&TestCa::new()).await;
    let mut webhooks = Vec::new();
    for (index, (target, ..)) in FAILURES.iter().enumerate() {
        let url = match target.strip_prefix('/') {
            Some(path) => receiver.url(&format!("/{path}")),
            None => target.replace("SECURE", &untrusted.url("/")),
        };
        let hasty = |spec: &mut WebhookSpec| spec.timeout = Some(Duration::from_millis(500));
        let id = format!("w{index}");
        webhooks.push(world.webhooks.make(&id, &url, &["*"], hasty).await);
    }
    let pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "{\"n\":1}").await;
    for ((target, _, status, words), webhook) in FAILURES.iter().zip(&webhooks) {
        let dead = world.webhooks.wait_for_dead(webhook, 1).await;
        let ending = &dead[0].ending;
        let tries = &ending.tries;
        assert_eq!(ending.reason.as_str(), "exhausted", "{target}");
        assert_eq!(tries.attempts, 2, "{target}: {tries:?}");
        assert_eq!(tries.last_status, *status, "{target}: {tries:?}");
        assert!(tries.last_error.contains(words), "{target}: {tries:?}");
        assert!(ending.delivery_id.starts_with(&webhook.spec.id));
        let answer = if *target == "/404" {
            "no such\nhook"
        } else {
            ""
        };
        assert_eq!(ending.answer, answer, "{target}");
        assert_eq!(dead[0].event.id, "e1");
        assert_eq!(dead[0].event.payload, "{\"n\":1}");
        assert_eq!(world.webhooks.queued(webhook).await, 0, "{target}");
    }
    world.redis.settled("events").await;
    let metrics = pombo.metrics().await;
    let of = |class: &str| FAILURES.iter().filter(|failure| failure.1 == class).count();
    for (_, class, ..) in FAILURES {
        let counted = metrics.value("pombo_attempts_total", &[("outcome", class)]);
        assert_eq!(counted, 2.0 * of(class) as f64, "{class}");
    }
    let exhausted = metrics.value("pombo_dead_letters_total", &[("reason", "exhausted")]);
    assert_eq!(exhausted, FAILURES.len() as f64);
    let dead = metrics.value("pombo_deliveries_total", &[("outcome", "dead")]);
    assert_eq!(dead, FAILURES.len() as f64);
    assert_eq!(
        metrics.value("pombo_retries_total", &[]),
        FAILURES.len() as f64
    );
    assert_eq!(metrics.value("pombo_in_flight", &[]), 0.0);
}

#[tokio::test]
async fn a_delivery_whose_time_is_over_is_dead_as_expired() {
    let world = World::new().await;
    let receiver = Receiver::scripted(|_| Step::status(500)).await;
    let retry = RetryOverride {
        first: Some(Duration::from_millis(200)),
        longest: Some(Duration::from_millis(200)),
        max_age: Some(Duration::from_millis(300)),
        ..RetryOverride::default()
    };
    let brief = |spec: &mut WebhookSpec| spec.retry = Some(retry);
    let url = receiver.url("/");
    let webhook = world.webhooks.make("w", &url, &["*"], brief).await;
    let _pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "1").await;
    let dead = world.webhooks.wait_for_dead(&webhook, 1).await;
    assert_eq!(dead[0].ending.reason.as_str(), "expired");
    assert_eq!(dead[0].ending.tries.attempts, 2);
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn a_410_ends_the_delivery_and_disables_its_webhook_until_it_is_enabled() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    receiver.push(Step::status(410));
    world.redis.event("e1", "a.b", "1").await;
    let dead = world.webhooks.wait_for_dead(&webhook, 1).await;
    let ending = &dead[0].ending;
    assert_eq!(ending.reason.as_str(), "gone");
    assert_eq!(
        (ending.tries.attempts, ending.tries.last_status),
        (1, Some(410))
    );
    let disabled = |webhook: &Option<Webhook>| {
        webhook
            .as_ref()
            .is_some_and(|webhook| webhook.disabled.is_some())
    };
    let found = until(
        "the webhook disabled",
        async || world.webhooks.get("w").await,
        disabled,
    )
    .await;
    let mut found = found.expect("a webhook");
    let reason = &found.disabled.as_ref().expect("it is disabled").reason;
    assert!(reason.contains("410"), "{reason}");
    assert!(found.spec.active, "that is its owner's to say");
    let notices = until(
        "a notice",
        async || world.redis.entries("pombo:{cfg}:notices").await,
        |notices| !notices.is_empty(),
    )
    .await;
    assert_eq!(notices[0].field("kind"), "webhook_disabled");
    assert_eq!(notices[0].field("webhook_id"), "w");

    // The daemon follows its own change.
    pombo
        .wait_for_metric("pombo_webhooks", &[("state", "disabled")], |count| {
            count == 1.0
        })
        .await;
    world.redis.event("e2", "a.b", "2").await;
    world.redis.settled("events").await;
    assert_eq!(receiver.received().len(), 1);
    let unmatched = [("outcome", "unmatched")];
    assert_eq!(pombo.metric("pombo_events_total", &unmatched).await, 1.0);

    found.disabled = None;
    world.webhooks.put(&mut found).await;
    let again = until(
        "deliveries again",
        async || {
            world.redis.event("e3", "a.b", "3").await;
            receiver.received().len()
        },
        |requests| *requests > 1,
    );
    again.await;
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_pause_gets_it_for_its_whole_lane_and_nobody_else_does() {
    let world = World::new().await;
    let (busy, other) = (Receiver::start().await, Receiver::start().await);
    world.webhooks.all("busy", &busy.url("/")).await;
    world.webhooks.all("other", &other.url("/")).await;
    let pombo = world.config.start().await;
    for status in [503, 429] {
        let before = busy.received().len();
        busy.push(Answer::new(status).header("retry-after", "2"));
        world.redis.events(&format!("{status}-a"), "a.b", 1).await;
        busy.wait_for(before + 1).await;
        pombo
            .wait_for_metric("pombo_lanes", &[("state", "held")], |held| held == 1.0)
            .await;
        world.redis.events(&format!("{status}-b"), "a.b", 5).await;
        other.wait_for(before + 6 - usize::from(before > 0)).await;
        world.redis.settled("events").await;
        assert_eq!(busy.received().len(), before + 1);
        let all = busy.wait_for(before + 7).await;
        let pause = all[before + 1].at - all[before].at;
        assert!(pause > Duration::from_millis(1_900), "{status}: {pause:?}");
        assert!(pause < Duration::from_millis(3_000), "{status}: {pause:?}");
    }
}

#[tokio::test]
async fn a_hanging_receiver_does_not_pin_the_stream_and_its_answer_still_counts() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    let gate = Gate::new();
    receiver.push(Answer::new(200).after(&gate));
    world.redis.event("e1", "a.b", "1").await;
    receiver.wait_for(1).await;
    assert_eq!(world.redis.pending("events").await, 1);
    world.redis.settled("events").await;
    assert_eq!(world.webhooks.queued(&webhook).await, 1);
    assert_eq!(pombo.metric("pombo_in_flight", &[]).await, 1.0);

    gate.open();
    until(
        "an empty queue",
        async || world.webhooks.sizes(&webhook).await,
        |sizes| (sizes.waiting, sizes.scheduled) == (0, 0),
    )
    .await;
    stays(
        "one request",
        Duration::from_millis(300),
        async || receiver.received().len(),
        |requests| *requests == 1,
    )
    .await;
}

#[tokio::test]
async fn an_attempt_in_flight_that_then_fails_is_retried_from_its_queue() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    let gate = Gate::new();
    receiver.push(Answer::new(500).after(&gate));
    world.redis.event("e1", "a.b", "1").await;
    world.redis.settled("events").await;
    assert_eq!(receiver.received().len(), 1);
    gate.open();
    let received = receiver.wait_for(2).await;
    assert_eq!(received[1].header("x-delivery-attempt"), "2");
    until(
        "an empty queue",
        async || world.webhooks.sizes(&webhook).await,
        |sizes| (sizes.waiting, sizes.scheduled) == (0, 0),
    )
    .await;
}
