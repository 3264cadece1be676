//! From a platform's streams to events.

mod loss;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pombo::event::EntryId;
use pombo::webhook::WebhookSpec;
use sha2::{Digest as _, Sha256};

use crate::support::pombo::World;
use crate::support::receiver::{Received, Receiver, Step};
use crate::support::redis::Redis;
use crate::support::wait::until;

/// The ids of the events that came, in order.
fn ids(received: &[Received]) -> Vec<&str> {
    let mut ids: Vec<&str> = received.iter().map(|r| r.header("x-event-id")).collect();
    ids.sort_unstable();
    ids
}

fn body_of<'a>(received: &'a [Received], event_type: &str) -> &'a str {
    let found = received
        .iter()
        .find(|r| r.header("x-event-type") == event_type);
    let found = found.unwrap_or_else(|| panic!("no {event_type} among {:?}", ids(received)));
    std::str::from_utf8(&found.body).expect("text")
}

const LAYOUTS: &str = r#"
    [[sources]]
    stream = "plain"
    [[sources]]
    stream = "mapped"
    fields = { type = "kind", tenant = "office", payload = "body", id = "uuid", time = "at" }
    [[sources]]
    stream = "fixed"
    constants = { type = "audit.entry", tenant = "acme" }
    [[sources]]
    stream = "enveloped"
    format = "json"
    field = "event"
    pointers = { type = "/meta/kind", tenant = "/meta/office", payload = "/body", id = "/meta/uuid", time = "/meta/at" }
    [[sources]]
    stream = "cloud"
    format = "cloudevents"
    field = "ce"
    tenant_attribute = "office"
"#;

#[tokio::test]
async fn entries_of_every_layout_arrive_as_events_with_the_payload_as_it_was_written() {
    let world = World::with(LAYOUTS).await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/");
    let acme = |spec: &mut WebhookSpec| spec.tenant = "acme".to_owned();
    world.webhooks.make("w", &url, &["*"], acme).await;
    let _pombo = world.config.start().await;
    let redis = &world.redis;
    redis
        .add(
            "plain",
            &[
                ("type", "crm.lead.created"),
                ("tenant", "acme"),
                ("payload", r#"{ "n" : 1.0 }"#),
                ("id", "p1"),
                ("time", "2026-03-13T12:00:00.5Z"),
                ("trace", "ignored"),
            ],
        )
        .await;
    redis
        .add(
            "mapped",
            &[
                ("kind", "crm.deal.won"),
                ("office", "acme"),
                ("body", "[1, 2]"),
                ("uuid", "m1"),
                ("at", "1773403200"),
            ],
        )
        .await;
    let entry = redis
        .add("fixed", &[("type", "not.this"), ("payload", "null")])
        .await;
    redis
        .add(
            "enveloped",
            &[(
                "event",
                r#"{"meta":{"kind":"crm.note","office":"acme","uuid":7,"at":1773403200123},"body":{"a": "\u00e9"}}"#,
            )],
        )
        .await;
    redis
        .add(
            "cloud",
            &[(
                "ce",
                r#"{"specversion":"1.0","type":"crm.call","source":"/x","id":"c1","office":"acme","time":"2026-03-13T12:00:00Z","data":{"b":2e1}}"#,
            )],
        )
        .await;
    redis
        .add(
            "cloud",
            &[(
                "ce",
                r#"{"specversion":"1.0","type":"crm.mail","source":"/x","id":"c2","office":"acme","time":"2026-03-13T12:00:00Z","data_base64":"eyJjIjozfQ=="}"#,
            )],
        )
        .await;
    let received = receiver.wait_for(6).await;

    let envelope = |id: &str, kind: &str, time: &str, data: &str| {
        format!(
            r#"{{"id":"{id}","type":"{kind}","timestamp":"{time}","tenantId":"acme","data":{data}}}"#
        )
    };
    let noon = "2026-03-13T12:00:00.000Z";
    for (id, kind, time, data) in [
        (
            "p1",
            "crm.lead.created",
            "2026-03-13T12:00:00.500Z",
            r#"{ "n" : 1.0 }"#,
        ),
        ("m1", "crm.deal.won", noon, "[1, 2]"),
        (
            "7",
            "crm.note",
            "2026-03-13T12:00:00.123Z",
            r#"{"a": "\u00e9"}"#,
        ),
        ("c1", "crm.call", noon, r#"{"b":2e1}"#),
        ("c2", "crm.mail", noon, r#"{"c":3}"#),
    ] {
        assert_eq!(body_of(&received, kind), envelope(id, kind, time, data));
    }
    let entry: EntryId = entry.parse().expect("an entry's id");
    let (id, time) = (
        derived_id("fixed", entry),
        pombo::clock::rfc3339_ms(entry.ms),
    );
    assert_eq!(
        body_of(&received, "audit.entry"),
        envelope(&id, "audit.entry", &time, "null")
    );
    for stream in ["plain", "mapped", "fixed", "enveloped", "cloud"] {
        redis.settled(stream).await;
    }
}

fn derived_id(stream: &str, entry: EntryId) -> String {
    let digest = Sha256::digest(format!("{stream}\0{entry}"));
    format!("evt_{}", URL_SAFE_NO_PAD.encode(&digest[..16]))
}

#[tokio::test]
async fn an_event_without_an_id_gets_one_that_is_the_same_on_every_attempt() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    receiver.push(Step::status(500)).push(Step::status(500));
    world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    let fields = [("type", "a.b"), ("payload", "1")];
    let entry = world.redis.add("events", &fields).await;
    let id = derived_id("events", entry.parse().expect("an entry's id"));
    assert_eq!(ids(&receiver.wait_for(3).await), [&id, &id, &id]);
}

#[tokio::test]
async fn what_is_no_event_is_kept_whole_with_its_reason_and_can_be_put_back() {
    let world = World::with("[delivery]\nmax_payload = 20\n[[sources]]\nstream = \"events\"").await;
    let receiver = Receiver::start().await;
    world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    let redis = &world.redis;
    let large = r#""twenty-one characters""#;
    let untyped = redis.add("events", &[("payload", "1"), ("x", "y")]).await;
    let broken = redis.event("b1", "a.b", "{\"n\":").await;
    let mut command = redis::cmd("XADD");
    command.arg("events").arg("*").arg("id").arg("l1");
    command.arg("type").arg("a.b").arg("payload").arg(large);
    command.arg(&b"\xff\x00"[..]).arg(&b"\xfe\r\n"[..]);
    let too_large: String = redis.query(&command).await;
    redis.event("good", "a.b", "2").await;
    assert_eq!(ids(&receiver.wait_for(1).await), ["good"]);
    redis.settled("events").await;

    let store = world.webhooks.store();
    let rejected = store.rejected(EntryId::MIN, 10).await.expect("a list");
    let seen: Vec<_> = rejected
        .iter()
        .map(|r| (r.entry_id.as_str(), r.reason.as_str(), r.stream.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (untyped.as_str(), "no_type", "events"),
            (broken.as_str(), "bad_json", "events"),
            (too_large.as_str(), "payload_too_large", "events"),
        ]
    );
    let fields: Vec<(&[u8], &[u8])> = rejected[2]
        .fields
        .iter()
        .map(|(name, value)| (&name[..], &value[..]))
        .collect();
    let expected: [(&[u8], &[u8]); 4] = [
        (b"id", b"l1"),
        (b"type", b"a.b"),
        (b"payload", large.as_bytes()),
        (b"\xff\x00", b"\xfe\r\n"),
    ];
    assert_eq!(fields, expected);
    assert!(
        rejected[2].detail.contains("23 bytes"),
        "{}",
        rejected[2].detail
    );
    let labels = [("source", "events"), ("outcome", "rejected")];
    assert_eq!(pombo.metric("pombo_events_total", &labels).await, 3.0);
    pombo.stop().await;

    let world = world.change("[delivery]\nmax_payload = 100");
    let _pombo = world.config.start().await;
    let store = world.webhooks.store();
    let put_back = store.requeue(&rejected[2], store.link()).await;
    put_back.expect("an entry that is put back");
    assert_eq!(ids(&receiver.wait_for(2).await), ["good", "l1"]);
    let left = store.rejected(EntryId::MIN, 10).await.expect("a list");
    assert_eq!(left.len(), 2);
}

#[tokio::test]
async fn a_stream_that_a_glob_finds_later_is_read_from_its_beginning() {
    let world = World::with(
        "[[sources]]\nname = \"shops\"\nstream = \"shop:*:events\"\nstart = \"$\"\ndiscover_every = \"1s\"",
    )
    .await;
    let (redis, receiver) = (&world.redis, Receiver::start().await);
    world.webhooks.all("w", &receiver.url("/")).await;
    let event = |id: &'static str| [("id", id), ("type", "a.b"), ("payload", "1")];
    redis.add("shop:1:events", &event("old")).await;
    redis.run::<()>("SET shop:x:events text").await;
    let pombo = world.config.start().await;
    redis.add("shop:2:events", &event("late-1")).await;
    redis.add("shop:2:events", &event("late-2")).await;
    redis.add("shop:1:events", &event("new")).await;
    let received = receiver.wait_for(3).await;
    assert_eq!(ids(&received), ["late-1", "late-2", "new"]);
    redis.settled("shop:1:events").await;
    redis.settled("shop:2:events").await;
    let metrics = pombo.metrics().await;
    let routed = [("source", "shops"), ("outcome", "routed")];
    assert_eq!(metrics.value("pombo_events_total", &routed), 3.0);
    assert!(!metrics.0.contains("shop:"), "a stream became a label");
}

#[tokio::test]
async fn a_source_on_another_redis_is_read_and_acknowledged_there() {
    let elsewhere = Redis::start().await;
    let source = format!(
        "[[sources]]\nstream = \"events\"\nurl = {:?}",
        elsewhere.url()
    );
    let world = World::with(&source).await;
    let receiver = Receiver::start().await;
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    receiver.push(Step::status(500));
    let _pombo = world.config.start().await;
    elsewhere.event("e1", "a.b", "1").await;
    receiver.wait_for(2).await;
    elsewhere.settled("events").await;
    until(
        "an empty queue",
        async || world.webhooks.queued(&webhook).await,
        |queued| *queued == 0,
    )
    .await;
    assert!(world.redis.keys("events").await.is_empty());
    // Its own state is all that Pombo keeps there.
    let keys = elsewhere.keys("*").await;
    assert!(
        keys.iter()
            .all(|key| key == "events" || key.contains(":source:")),
        "{keys:?}"
    );
}

#[tokio::test]
async fn while_the_redis_of_one_source_is_away_the_others_are_read_and_then_it_goes_on() {
    let mut elsewhere = Redis::durable().await;
    let sources = format!(
        "[[sources]]\nstream = \"events\"\n[[sources]]\nstream = \"away\"\nurl = {:?}",
        elsewhere.url()
    );
    let (world, receiver) = (World::with(&sources).await, Receiver::start().await);
    world.webhooks.all("w", &receiver.url("/")).await;
    let pombo = world.config.start().await;
    let event = |id: &'static str| [("id", id), ("type", "a.b"), ("payload", "1")];
    elsewhere.add("away", &event("a1")).await;
    receiver.wait_for(1).await;
    elsewhere.settled("away").await;
    elsewhere.kill();
    let page = pombo.wait_for_readyz(|page| page.status == 503).await;
    assert!(
        page.body.contains(r#""name":"redis","met":true"#),
        "{page:?}"
    );
    assert!(
        page.body
            .contains("1 of 2 source streams are not being read"),
        "{page:?}"
    );
    assert_eq!(
        pombo.metric("pombo_redis_up", &[]).await,
        1.0,
        "Pombo's own"
    );
    world.redis.event("e1", "a.b", "1").await;
    receiver.wait_for(2).await;
    world.redis.settled("events").await;

    elsewhere.restart().await;
    elsewhere.add("away", &event("a2")).await;
    receiver.wait_for(3).await;
    elsewhere.settled("away").await;
    pombo.wait_ready().await;
    assert_eq!(ids(&receiver.received()), ["a1", "a2", "e1"]);
    let reading = [("source", "away")];
    assert_eq!(pombo.metric("pombo_source_stopped", &reading).await, 0.0);
}

#[tokio::test]
async fn reading_starts_at_the_beginning_or_with_what_is_new_as_the_settings_say() {
    let sources =
        "[[sources]]\nstream = \"a\"\nstart = \"0\"\n[[sources]]\nstream = \"b\"\nstart = \"$\"";
    let world = World::with(sources).await;
    let receiver = Receiver::start().await;
    world.webhooks.all("w", &receiver.url("/")).await;
    let event = |id: &'static str| [("id", id), ("type", "a.b"), ("payload", "1")];
    for (stream, id) in [("a", "a-old"), ("b", "b-old")] {
        world.redis.add(stream, &event(id)).await;
    }
    let _pombo = world.config.start().await;
    for (stream, id) in [("a", "a-new"), ("b", "b-new")] {
        world.redis.add(stream, &event(id)).await;
    }
    let received = receiver.wait_for(3).await;
    world.redis.settled("a").await;
    world.redis.settled("b").await;
    assert_eq!(ids(&received), ["a-new", "a-old", "b-new"]);
    assert_eq!(receiver.received().len(), 3);
}

#[tokio::test]
async fn an_event_that_nobody_wants_is_acknowledged_and_counted() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/");
    world.webhooks.make("w", &url, &["x.y"], |_| {}).await;
    let pombo = world.config.start().await;
    world.redis.events("e", "a.b", 30).await;
    world.redis.settled("events").await;
    let unmatched = [("source", "events"), ("outcome", "unmatched")];
    assert_eq!(pombo.metric("pombo_events_total", &unmatched).await, 30.0);
    assert_eq!(
        pombo.metric("pombo_fanout_deliveries_total", &[]).await,
        0.0
    );
    assert!(receiver.received().is_empty());
}
