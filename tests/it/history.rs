//! What is kept of finished deliveries: histories, attempts, counts.

use std::time::Duration;

use pombo::clock::Clock;
use pombo::delivery::{AttemptRecord, ShapeText};
use pombo::webhook::{Ordering, RetryOverride, WebhookSpec};

use crate::support::pombo::{Config, World};
use crate::support::receiver::{Answer, Gate, Received, Receiver, Step};
use crate::support::redis::{Options, Redis};
use crate::support::wait::until;

/// Status and error of each attempt, by number.
fn outcomes(log: &[AttemptRecord]) -> Vec<(u32, Option<u16>, &str)> {
    log.iter()
        .map(|record| (record.number, record.status, record.error.as_str()))
        .collect()
}

#[tokio::test]
async fn a_delivery_that_succeeds_at_once_is_kept_with_its_attempt_and_without_its_payload() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    receiver.push(Answer::new(201).body("thank you"));
    let headers = |spec: &mut WebhookSpec| {
        spec.headers = [("X-Team".to_owned(), "a b".to_owned())].into();
    };
    let webhook = world
        .webhooks
        .make("w", &receiver.url("/"), &["*"], headers)
        .await;
    let _pombo = world.config.start().await;
    let before_ms = Clock::system().unix_ms();
    let entry = world.redis.event("e1", "a.b", "{\"n\":1}").await;
    let kept = world.webhooks.wait_for_history(&webhook, 1).await.remove(0);
    let after_ms = Clock::system().unix_ms();

    assert_eq!((kept.attempts, kept.has_payload), (1, false));
    assert_eq!(
        (
            &*kept.event.id,
            &*kept.event.event_type,
            &*kept.event.stream
        ),
        ("e1", "a.b", "events")
    );
    assert_eq!(kept.event.entry_id.to_string(), entry);
    assert!((before_ms..=after_ms).contains(&kept.id.ms), "{}", kept.id);
    let [attempt] = kept.log.records() else {
        panic!("one attempt: {:?}", kept.log);
    };
    assert_eq!((attempt.number, attempt.status), (1, Some(201)));
    assert_eq!((&*attempt.error, &*attempt.answer), ("", "thank you"));
    assert!((before_ms..=after_ms).contains(&attempt.started_ms));
    let phases = &attempt.phases;
    let first_byte = phases.first_byte_us.expect("an answer");
    assert!(phases.connect_us.expect("a new connection") <= first_byte);
    assert!(first_byte <= attempt.total_us && attempt.total_us < 30_000_000);
    assert_eq!(
        (phases.dns_us, phases.tls_us),
        (None, None),
        "there was neither"
    );
    let shape = attempt.shape.as_ref().and_then(ShapeText::read);
    let shape = shape.expect("a shape").to_string();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(shape, format!("{version}|e|x-signature|1|x-team"));
    world.redis.settled("events").await;
    assert_eq!(world.webhooks.queued(&webhook).await, 0);
}

#[tokio::test]
async fn long_payloads_are_part_of_a_record_where_all_are_kept_and_of_none_elsewhere() {
    for (kept, is_kept) in [("all", true), ("failed", false)] {
        let world = World::with(&format!("[history]\npayload = \"{kept}\"")).await;
        let receiver = Receiver::start().await;
        let webhook = world.webhooks.all("w", &receiver.url("/")).await;
        let _pombo = world.config.start().await;
        let payload = format!("\"{}\"", "x".repeat(50_000));
        world.redis.event("e1", "a.b", &payload).await;
        let found = world.webhooks.wait_for_history(&webhook, 1).await.remove(0);
        assert_eq!(found.has_payload, is_kept);
        let expected = if is_kept { payload.as_str() } else { "" };
        assert_eq!(found.event.payload, expected.as_bytes());
        assert_eq!((found.attempts, &*found.event.id), (1, "e1"));
    }
}

#[tokio::test]
async fn a_delivery_that_succeeds_at_last_is_kept_with_every_attempt() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let broken = Answer::new(500).body("broken");
    receiver.push(Step::Reset).push(broken);
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "{\"n\":1}").await;
    let kept = world.webhooks.wait_for_history(&webhook, 1).await.remove(0);
    assert_eq!(kept.attempts, 3);
    let log = kept.log.records();
    assert_eq!(log.len(), 3);
    assert_eq!((log[0].number, log[0].status), (1, None));
    assert!(log[0].error.contains("reset"), "{:?}", log[0]);
    assert_eq!(
        outcomes(&log[1..]),
        [
            (2, Some(500), "answered 500 Internal Server Error"),
            (3, Some(200), "")
        ]
    );
    assert_eq!(log[1].answer, "broken");
    for (earlier, later) in log.iter().zip(&log[1..]) {
        assert!(later.started_ms >= earlier.started_ms + 95, "{log:?}");
    }
    assert!(log.iter().all(|attempt| attempt.total_us > 0), "{log:?}");
    let counts = world.webhooks.wait_for_counts(&webhook, 1, 0).await;
    assert_eq!((counts.success, counts.failed), (1, 0));
}

#[tokio::test]
async fn an_attempt_that_was_stored_in_flight_leaves_its_real_record_when_it_lands() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let gate = Gate::new();
    receiver.push(Answer::new(503).after(&gate));
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "1").await;
    world.redis.settled("events").await;
    assert_eq!(world.webhooks.sizes(&webhook).await.scheduled, 1);
    gate.open();
    let kept = world.webhooks.wait_for_history(&webhook, 1).await.remove(0);
    let log = kept.log.records();
    assert_eq!(
        outcomes(log),
        [
            (1, Some(503), "answered 503 Service Unavailable"),
            (2, Some(200), "")
        ]
    );
    assert!(log[0].total_us >= 1_000_000, "{log:?}");
}

#[tokio::test]
async fn after_a_crash_the_attempt_that_nobody_saw_the_end_of_says_so() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    receiver.push(Step::Hang);
    let brief = |spec: &mut WebhookSpec| spec.timeout = Some(Duration::from_millis(2_000));
    let webhook = world
        .webhooks
        .make("w", &receiver.url("/"), &["*"], brief)
        .await;
    let pombo = world.config.spawn().await;
    let before_ms = Clock::system().unix_ms();
    world.redis.event("e1", "a.b", "1").await;
    world.redis.settled("events").await;
    pombo.kill().await;
    let _pombo = world.config.spawn().await;
    let kept = world.webhooks.wait_for_history(&webhook, 1).await.remove(0);
    let log = kept.log.records();
    assert_eq!(
        outcomes(log),
        [
            (1, None, "the outcome of the attempt was not seen"),
            (2, Some(200), "")
        ]
    );
    assert_eq!(kept.attempts, 2);
    assert!(log[0].started_ms >= before_ms && log[0].started_ms < log[1].started_ms);
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn a_dead_letter_holds_every_attempt_and_its_payload() {
    let world = World::with("[retry]\nmax_attempts = 2\n[history]\npayload = \"none\"").await;
    let receiver = Receiver::scripted(|_| Answer::new(400).body("no").into()).await;
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "{\"n\":1}").await;
    let dead = world.webhooks.wait_for_dead(&webhook, 1).await.remove(0);
    assert_eq!(dead.event.payload, "{\"n\":1}");
    let log = dead.ending.tries.log.records();
    let words = "answered 400 Bad Request";
    assert_eq!(
        outcomes(log),
        [(1, Some(400), words), (2, Some(400), words)]
    );
    assert_eq!(log[1].answer, "no");
    assert!(world.webhooks.history(&webhook).await.is_empty());
    world.webhooks.wait_for_counts(&webhook, 0, 1).await;
}

#[tokio::test]
async fn payloads_of_what_succeeded_are_kept_only_if_the_settings_say_so() {
    let payload = "{ \"n\" : 1.0e0 }";
    for (setting, expected) in [("failed", None), ("all", Some(payload)), ("none", None)] {
        let world = World::with(&format!("[history]\npayload = {setting:?}")).await;
        let receiver = Receiver::start().await;
        let webhook = world.webhooks.all("w", &receiver.url("/")).await;
        let _pombo = world.config.start().await;
        world.redis.event("e1", "a.b", payload).await;
        let kept = world.webhooks.wait_for_history(&webhook, 1).await.remove(0);
        assert_eq!(kept.has_payload, expected.is_some(), "{setting}");
        assert_eq!(
            kept.event.payload,
            expected.unwrap_or_default(),
            "{setting}"
        );
    }
}

/// Whole nodes of a stream are trimmed: here each holds one entry.
async fn world_of_small_nodes(toml: &str) -> (Redis, Config) {
    let redis = Redis::start_with(Options {
        arguments: vec!["--stream-node-max-entries".to_owned(), "1".to_owned()],
        ..Options::default()
    })
    .await;
    let config = Config::new(&redis).with(toml);
    (redis, config)
}

#[tokio::test]
async fn a_history_keeps_to_its_number_and_to_its_age() {
    let (redis, config) = world_of_small_nodes("[history]\nmax_count = 3\nmax_age = \"1h\"").await;
    let webhooks = config.webhooks().await;
    let receiver = Receiver::start().await;
    let webhook = webhooks.all("w", &receiver.url("/")).await;
    let shard = webhooks.store().shard_of("w");
    let history = format!("pombo:{{s{shard:02}}}:history:{}", webhook.uid);
    let now_ms = Clock::system().unix_ms();
    let (old, young) = (now_ms - 3_700_000, now_ms - 3_500_000);
    for id in [1_000, old, young] {
        let _: String = redis.run(&format!("XADD {history} {id}-0 f v")).await;
    }
    let _pombo = config.start().await;
    let ids = async || -> Vec<String> {
        let entries = redis.entries(&history).await;
        entries.into_iter().map(|entry| entry.id).collect()
    };
    until("what is too old gone", ids, |ids| {
        *ids == [format!("{young}-0")]
    })
    .await;
    for n in 0..5 {
        redis.event(&format!("e{n}"), "a.b", "1").await;
        receiver.wait_for(n + 1).await;
    }
    let kept = until(
        "the newest three",
        async || webhooks.history(&webhook).await,
        |kept| kept.first().is_some_and(|newest| newest.event.id == "e4"),
    )
    .await;
    let ids: Vec<&str> = kept.iter().map(|kept| kept.event.id.as_str()).collect();
    assert_eq!(ids, ["e4", "e3", "e2"]);
}

#[tokio::test]
async fn a_history_of_none_is_not_written_and_what_there_was_goes() {
    let world = World::with("[history]\nmax_count = 0").await;
    let receiver = Receiver::start().await;
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let shard = world.webhooks.store().shard_of("w");
    let history = format!("pombo:{{s{shard:02}}}:history:{}", webhook.uid);
    let _: String = world.redis.run(&format!("XADD {history} * f v")).await;
    let _pombo = world.config.start().await;
    world.redis.events("e", "a.b", 10).await;
    world.webhooks.wait_for_counts(&webhook, 10, 0).await;
    until(
        "an empty history",
        async || world.redis.run::<u64>(&format!("XLEN {history}")).await,
        |length| *length == 0,
    )
    .await;
}

#[tokio::test]
async fn counts_tell_successes_and_dead_letters_and_a_replay_takes_one_back() {
    let world = World::with("[retry]\nmax_attempts = 1\n[queue]\nmax_deliveries = 2").await;
    let receiver = Receiver::scripted(|received: &Received| {
        let bad = received.header("x-event-id").starts_with("bad");
        let first = received.header("x-delivery-attempt") == "1";
        Step::status(if bad && first { 400 } else { 200 })
    })
    .await;
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let fifo = |spec: &mut WebhookSpec| spec.ordering = Ordering::Fifo;
    let gate = Gate::new();
    let held = gate.clone();
    let slow = Receiver::scripted(move |_| Answer::new(200).after(&held).into()).await;
    let full = world
        .webhooks
        .make("full", &slow.url("/"), &["*"], fifo)
        .await;
    let pombo = world.config.start().await;
    world.redis.events("good", "a.b", 7).await;
    world.redis.events("bad", "a.b", 3).await;
    let counts = world.webhooks.wait_for_counts(&webhook, 7, 3).await;
    assert_eq!((counts.success, counts.failed), (7, 3));
    // What the reader of the source buries for a full queue counts too.
    world.webhooks.wait_for_counts(&full, 0, 8).await;

    let dead = world.webhooks.wait_for_dead(&webhook, 3).await;
    world.webhooks.replay(&webhook, &dead[0]).await;
    world.webhooks.wait_for_counts(&webhook, 8, 2).await;
    gate.open();
    world.webhooks.wait_for_counts(&full, 2, 8).await;

    // The last ones are written down when the daemon stops.
    world.redis.events("last", "a.b", 3).await;
    receiver.wait_for(14).await;
    world.redis.settled("events").await;
    pombo.stop().await;
    let counts = world.webhooks.counts(&webhook).await;
    assert_eq!((counts.success, counts.failed), (11, 2));
    assert_eq!(world.webhooks.history(&webhook).await.len(), 11);
}

#[tokio::test]
async fn a_full_redis_keeps_no_history_and_loses_no_delivery() {
    const EVENTS: usize = 20;
    let (world, gate) = (World::new().await, Gate::new());
    let held = gate.clone();
    let receiver = Receiver::scripted(move |_| Answer::new(200).after(&held).into()).await;
    let plain = world.webhooks.all("plain", &receiver.url("/plain")).await;
    let fifo = |spec: &mut WebhookSpec| spec.ordering = Ordering::Fifo;
    let fifo = world
        .webhooks
        .make("fifo", &receiver.url("/fifo"), &["*"], fifo)
        .await;
    let pombo = world.config.start().await;
    world.redis.events("e", "a.b", EVENTS).await;
    // Everything is in its queue, part of it in flight.
    world.redis.settled("events").await;
    let _: () = world.redis.run("CONFIG SET maxmemory 1").await;
    gate.open();
    receiver.wait_for(2 * EVENTS).await;
    for webhook in [&plain, &fifo] {
        until(
            "an empty queue",
            async || world.webhooks.sizes(webhook).await,
            |sizes| (sizes.waiting, sizes.scheduled) == (0, 0),
        )
        .await;
        assert!(world.webhooks.history(webhook).await.is_empty());
    }
    let all = 2.0 * EVENTS as f64;
    let lost = "pombo_history_errors_total";
    pombo.wait_for_metric(lost, &[], |lost| lost == all).await;
    let operation = [("operation", "keep_a_history")];
    let errors = pombo.metric("pombo_redis_errors_total", &operation).await;
    assert!(errors >= 1.0);
    assert_eq!(receiver.received().len(), 2 * EVENTS);

    // Counts are summed until there is room.
    let _: () = world.redis.run("CONFIG SET maxmemory 0").await;
    for webhook in [&plain, &fifo] {
        world
            .webhooks
            .wait_for_counts(webhook, EVENTS as u64, 0)
            .await;
    }
    pombo.stop().await;
}

#[tokio::test]
async fn while_redis_is_away_deliveries_wait_and_their_records_are_written_when_it_is_back() {
    let mut world = World::new().await.change("[ownership]\nlease = \"60s\"");
    let (receiver, gate) = (Receiver::start().await, Gate::new());
    let retry = |spec: &mut WebhookSpec| {
        spec.retry = Some(RetryOverride {
            max_attempts: Some(3),
            ..RetryOverride::default()
        });
    };
    receiver.push(Answer::new(200).after(&gate));
    let webhook = world
        .webhooks
        .make("w", &receiver.url("/"), &["*"], retry)
        .await;
    let pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "1").await;
    receiver.wait_for(1).await;
    world.redis.freeze();
    gate.open();
    pombo
        .wait_for_metric("pombo_deliveries_total", &[("outcome", "delivered")], |n| {
            n == 1.0
        })
        .await;
    world.redis.thaw();
    world.webhooks.wait_for_history(&webhook, 1).await;
    assert_eq!(receiver.received().len(), 1);
    pombo.stop().await;
    world.redis.kill();
}
