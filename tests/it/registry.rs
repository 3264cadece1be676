//! Changes of webhooks, as the deliveries show them.

use std::collections::HashSet;
use std::time::Duration;

use pombo::webhook::WebhookSpec;
use tokio::time::Instant;

use crate::support::pombo::World;
use crate::support::receiver::{Answer, Gate, Receiver, Step};
use crate::support::redis::Redis;
use crate::support::wait::{stays, until};

/// How long a change may take to be in force everywhere.
const IN_FORCE: Duration = Duration::from_millis(200);

/// Adds an event each few milliseconds until `receiver` has got one that was added after the call; returns how long
/// after the call that one was added.
async fn first_delivered(redis: &Redis, receiver: &Receiver, prefix: &str) -> Duration {
    let start = Instant::now();
    let mut added = Vec::new();
    let is_new = |id: &str| {
        id.strip_prefix(prefix)
            .and_then(|n| n.parse::<usize>().ok())
    };
    until(
        "an event under the change",
        async || {
            let at = start.elapsed();
            redis
                .event(&format!("{prefix}{}", added.len()), "a.b", "1")
                .await;
            added.push(at);
            let first = receiver
                .received()
                .iter()
                .filter_map(|r| is_new(r.header("x-event-id")))
                .min();
            first.map(|n| added[n])
        },
        Option::is_some,
    )
    .await
    .expect("an event that came")
}

#[tokio::test]
async fn a_webhook_made_changed_or_deleted_is_so_for_the_very_next_events() {
    let world = World::new().await;
    let (first, second) = (Receiver::start().await, Receiver::start().await);
    let _pombo = world.config.start().await;
    let mut webhook = world.webhooks.all("w", &first.url("/")).await;
    let made = first_delivered(&world.redis, &first, "made-").await;
    webhook.spec.url = second.url("/");
    world.webhooks.put(&mut webhook).await;
    let changed = first_delivered(&world.redis, &second, "changed-").await;
    println!("a new webhook was in force after {made:?}, a changed one after {changed:?}");
    assert!(made < IN_FORCE, "{made:?}");
    assert!(changed < IN_FORCE, "{changed:?}");
    world.redis.settled("events").await;

    world.webhooks.delete(&webhook).await;
    let deleted = Instant::now();
    until(
        "an event that nobody gets",
        async || {
            let before = second.received().len();
            world.redis.event("late", "a.b", "1").await;
            world.redis.settled("events").await;
            second.received().len() == before
        },
        |ignored| *ignored,
    )
    .await;
    println!("a deleted webhook was gone after {:?}", deleted.elapsed());
    assert!(deleted.elapsed() < IN_FORCE, "{:?}", deleted.elapsed());
}

#[tokio::test]
async fn wildcards_match_segments_and_tenants_never_mix() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    for tenant in ["acme", "umbrella"] {
        for (name, events) in [
            ("exact", &["crm.lead.created"][..]),
            ("one", &["crm.*.created"]),
            ("rest", &["crm.**"]),
            ("all", &["*"]),
            ("two", &["crm.deal.won", "audit.*"]),
        ] {
            let url = receiver.url(&format!("/{tenant}/{name}"));
            let owned = |spec: &mut WebhookSpec| spec.tenant = tenant.to_owned();
            let id = format!("{tenant}-{name}");
            world.webhooks.make(&id, &url, events, owned).await;
        }
    }
    let _pombo = world.config.start().await;
    for (tenant, event_type) in [
        ("acme", "crm.lead.created"),
        ("acme", "crm.lead.sub.created"),
        ("umbrella", "crm.deal.won"),
        ("umbrella", "audit.login"),
        ("acme", "crm"),
        ("nobody", "crm.deal.won"),
    ] {
        let fields = [("type", event_type), ("tenant", tenant), ("payload", "1")];
        world.redis.add("events", &fields).await;
    }
    world.redis.settled("events").await;
    let mut seen: Vec<String> = receiver
        .received()
        .iter()
        .map(|r| format!("{} {}", r.path, r.header("x-event-type")))
        .collect();
    seen.sort();
    let expected = [
        "/acme/all crm",
        "/acme/all crm.lead.created",
        "/acme/all crm.lead.sub.created",
        "/acme/exact crm.lead.created",
        "/acme/one crm.lead.created",
        "/acme/rest crm.lead.created",
        "/acme/rest crm.lead.sub.created",
        "/umbrella/all audit.login",
        "/umbrella/all crm.deal.won",
        "/umbrella/rest crm.deal.won",
        "/umbrella/two audit.login",
        "/umbrella/two crm.deal.won",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_paused_webhook_keeps_its_queue_and_goes_on_when_it_is_resumed() {
    let world = World::new().await;
    let receiver = Receiver::scripted(|_| Step::status(500)).await;
    let mut webhook = world.webhooks.all("w", &receiver.url("/failing")).await;
    let pombo = world.config.start().await;
    world.redis.events("e", "a.b", 20).await;
    receiver.wait_for(20).await;
    world.redis.settled("events").await;

    let well = Receiver::start().await;
    webhook.spec.active = false;
    webhook.spec.url = well.url("/");
    world.webhooks.put(&mut webhook).await;
    until(
        "no event for a paused webhook",
        async || {
            world.redis.event("late", "a.b", "1").await;
            world.redis.settled("events").await;
            pombo
                .metric("pombo_events_total", &[("outcome", "unmatched")])
                .await
        },
        |unmatched| *unmatched > 0.0,
    )
    .await;
    let queued = stays(
        "a queue that stands still",
        Duration::from_millis(500),
        async || (world.webhooks.queued(&webhook).await, well.received().len()),
        |(queued, sent)| *queued >= 20 && *sent == 0,
    )
    .await
    .0;

    webhook.spec.active = true;
    world.webhooks.put(&mut webhook).await;
    let received = well.wait_for(usize::try_from(queued).expect("a few")).await;
    assert!(
        received
            .iter()
            .all(|r| r.header("x-delivery-attempt") != "1" || r.header("x-event-id") == "late")
    );
    until(
        "an empty queue",
        async || world.webhooks.queued(&webhook).await,
        |queued| *queued == 0,
    )
    .await;
}

#[tokio::test]
async fn a_deleted_webhook_leaves_nothing_behind_and_one_made_again_inherits_nothing() {
    let world = World::with("[retry]\nmax_attempts = 1").await;
    let receiver = Receiver::start().await;
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    world.redis.event("done", "a.b", "1").await;
    world.webhooks.wait_for_history(&webhook, 1).await;
    receiver.push(Step::status(500));
    world.redis.event("dead", "a.b", "1").await;
    world.webhooks.wait_for_dead(&webhook, 1).await;
    world.webhooks.wait_for_counts(&webhook, 1, 1).await;
    let gate = Gate::new();
    receiver.push(Answer::new(200).after(&gate));
    receiver.push(Answer::new(503).header("retry-after", "60"));
    world.redis.event("flying", "a.b", "1").await;
    receiver.wait_for(3).await;
    world.redis.events("waiting", "a.b", 10).await;
    world.redis.settled("events").await;
    let traces = async || {
        let mut traces: Vec<String> = world
            .redis
            .keys("*")
            .await
            .into_iter()
            .filter(|key| key.contains(&webhook.uid))
            .collect();
        for set in world.redis.keys("pombo:{s*}:buried").await {
            let members: Vec<String> = world.redis.run(&format!("SMEMBERS {set}")).await;
            traces.extend(members);
        }
        for due in world.redis.keys("pombo:{s*}:due").await {
            let members: Vec<String> = world.redis.run(&format!("ZRANGE {due} 0 -1")).await;
            traces.extend(members);
        }
        traces
    };
    assert!(!traces().await.is_empty());
    let before = receiver.received().len();
    world.webhooks.delete(&webhook).await;
    let again = world.webhooks.all("w", &receiver.url("/again")).await;
    gate.open();
    until("no trace", traces, Vec::is_empty).await;
    // The deletion itself is remembered for a minute, for what a fan-out that did not know of it yet may still queue.
    let remembered: Vec<String> = world.redis.run("HVALS pombo:{cfg}:gone").await;
    assert_eq!(remembered, ["w"]);
    world.redis.event("new", "a.b", "1").await;
    let received = receiver
        .wait_until(|all| all.iter().any(|r| r.path == "/again"))
        .await;
    let again_got: Vec<_> = received
        .iter()
        .filter(|r| r.path == "/again")
        .map(|r| r.header("x-event-id"))
        .collect();
    assert_eq!(again_got, ["new"]);
    assert!(received.len() <= before + 2, "{received:?}");
    assert!(world.webhooks.dead(&again).await.is_empty());
}

#[tokio::test]
async fn all_webhooks_are_known_from_the_start_however_many_there_are() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let (many, url) = (1_300, receiver.url("/"));
    let made = (0..many).map(async |number| {
        let (id, wanted) = (format!("w{number}"), format!("kind.{number}"));
        let _ = world.webhooks.make(&id, &url, &[&wanted], |_| {}).await;
    });
    futures_util::future::join_all(made).await;
    let listed = world.webhooks.store().webhook_ids().await;
    assert_eq!(listed.expect("the ids").len(), many);
    let _pombo = world.config.start().await;
    for number in 0..many {
        let (id, wanted) = (format!("e{number}"), format!("kind.{number}"));
        world.redis.event(&id, &wanted, "1").await;
    }
    let received = receiver.wait_for(many).await;
    let ids: HashSet<_> = received.iter().map(|r| r.header("x-event-id")).collect();
    assert_eq!(ids.len(), many);
}
