//! Events over the API: what is in the stream, whose it is, and what a repeat comes to.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, ApiClient};
use crate::support::pombo::{Pombo, World};
use crate::support::receiver::Receiver;
use crate::support::redis::Redis;
use crate::support::wait::until;

async fn start(toml: &str) -> (World, Pombo, ApiClient, ApiClient) {
    let world = World::with(toml).await;
    let pombo = world.config.start().await;
    let operator = pombo
        .api()
        .with_token(&world.webhooks.operator_token().await);
    let acme = pombo
        .api()
        .with_token(&world.webhooks.tenant_token("acme").await);
    (world, pombo, operator, acme)
}

async fn add(client: &ApiClient, key: Option<&str>, body: &str) -> Answer {
    let sent = client.send(Method::POST, "/v1/events", |request| {
        let request = request
            .header("content-type", "application/json")
            .body(body.to_owned());
        match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        }
    });
    sent.await
}

#[tokio::test]
async fn an_event_is_in_the_stream_as_it_was_sent_and_is_delivered() {
    let (world, _pombo, _, acme) = start("").await;
    let receiver = Receiver::start().await;
    let body =
        json!({ "name": "a", "url": receiver.url("/"), "events": ["*"], "bodyMode": "payload" });
    acme.post("/v1/webhooks", &body).await.expect(201);
    let payload = r#"{ "b": 1.50, "a":"é", "b" : 2 }"#;
    let body = format!(
        r#"{{"id":"evt_1","type":"a.b","payload": {payload} ,"time":"2026-03-13T13:00:00+01:00","source":"events","stream":"events"}}"#
    );
    let added = add(&acme, None, &body).await.expect(202);
    let entry = world.redis.entries("events").await.remove(0);
    assert_eq!(
        added,
        json!({ "id": "evt_1", "type": "a.b", "tenantId": "acme", "stream": "events", "entryId": entry.id })
    );
    assert_eq!(entry.field("payload"), payload);
    assert_eq!(entry.field("tenant"), "acme");
    assert_eq!(entry.field("time"), "2026-03-13T12:00:00.000Z");

    let received = until(
        "an event delivered",
        async || {
            add(&acme, None, r#"{"type":"a.b","payload":[1.0]}"#)
                .await
                .expect(202);
            world.redis.settled("events").await;
            receiver.received()
        },
        |received| !received.is_empty(),
    )
    .await;
    assert!(
        received
            .iter()
            .any(|one| one.body == b"[1.0]"[..] || one.body == payload.as_bytes())
    );
}

#[tokio::test]
async fn every_mistake_about_an_event_is_told_at_once() {
    let catalogue =
        "[catalogue]\nevents = [{ type = \"a.b\" }]\n[delivery]\nmax_payload = \"1KiB\"";
    let (world, _pombo, operator, acme) = start(catalogue).await;
    let wrong = json!({
        "id": "", "type": "a.c", "payload": "x".repeat(1100), "time": "yesterday", "source": "other",
        "stream": 3, "priority": 1,
    });
    let mut refused = add(&acme, Some("two words"), &wrong.to_string())
        .await
        .refused();
    refused.sort();
    assert_eq!(
        refused,
        [
            "/id",
            "/payload",
            "/priority",
            "/source",
            "/stream",
            "/time",
            "/type",
            "Idempotency-Key"
        ]
    );
    assert_eq!(
        add(&acme, None, "{}").await.refused(),
        ["/type", "/payload"]
    );
    for wrong in [
        json!({ "type": "a b", "payload": 1 }),
        json!({ "type": "*", "payload": 1 }),
        json!({ "type": null, "payload": 1 }),
    ] {
        assert_eq!(
            add(&acme, None, &wrong.to_string()).await.refused(),
            ["/type"],
            "{wrong}"
        );
    }
    let wrong = json!({ "type": "a.b", "payload": 1, "time": "1969-12-31T23:59:59Z" });
    assert_eq!(
        add(&acme, None, &wrong.to_string()).await.refused(),
        ["/time"]
    );
    let named = add(
        &operator,
        None,
        r#"{"type":"a.b","payload":1,"source":"x"}"#,
    )
    .await;
    assert!(named.text.contains("one of events"), "{}", named.text);
    let hidden = add(&acme, None, r#"{"type":"a.b","payload":1,"source":"x"}"#).await;
    assert!(!hidden.text.contains("one of"), "{}", hidden.text);
    let theirs = add(
        &acme,
        None,
        r#"{"type":"a.b","payload":1,"tenantId":"other"}"#,
    )
    .await;
    assert_eq!(theirs.status, 403);
    assert_eq!(world.redis.run::<u64>("XLEN events").await, 0);
    for fine in [
        r#"{"type":"webhook.test","payload":null}"#,
        r#"{"type":"a.b","payload":1}"#,
    ] {
        add(&acme, None, fine).await.expect(202);
    }
    let fine = json!({ "id": "!".repeat(256), "type": "a.b", "payload": "x".repeat(1022) });
    add(&acme, None, &fine.to_string()).await.expect(202);
}

#[tokio::test]
async fn an_id_is_always_told_and_written_where_there_is_a_place_for_it() {
    let sources = r#"
[[sources]]
name = "plain"
stream = "plain"
[[sources]]
name = "json"
stream = "json"
format = "json"
[[sources]]
name = "ce"
stream = "ce"
format = "cloudevents"
[[sources]]
name = "bare"
stream = "bare"
fields = { id = "" }
[[sources]]
name = "constant"
stream = "constant"
fields = { tenant = "" }
constants = { tenant = "other" }
"#;
    let (world, _pombo, operator, acme) = start(sources).await;
    for name in ["plain", "json", "ce", "bare"] {
        let body = json!({ "type": "a.b", "payload": { "n": 1 }, "source": name });
        let added = add(&acme, None, &body.to_string()).await.expect(202);
        let id = added["id"].as_str().expect("an id");
        assert!(id.starts_with("evt_"), "{id}");
        let entry = world.redis.entries(name).await.remove(0);
        let written = entry.fields.iter().any(|(_, value)| value.contains(id));
        assert_eq!(written, name != "bare", "{name}");
    }
    let refused = add(&acme, None, r#"{"type":"a.b","payload":1}"#).await;
    assert_eq!(refused.refused(), ["/source"]);
    let no_place = add(
        &acme,
        None,
        r#"{"id":"x","type":"a.b","payload":1,"source":"bare"}"#,
    )
    .await;
    assert_eq!(no_place.refused(), [""]);
    let theirs = add(
        &acme,
        None,
        r#"{"type":"a.b","payload":1,"source":"constant"}"#,
    )
    .await;
    assert_eq!(theirs.refused(), [""]);
    let added = add(
        &operator,
        None,
        r#"{"type":"a.b","payload":1,"source":"constant"}"#,
    )
    .await;
    assert_eq!(added.expect(202)["tenantId"], "other");
    let added = add(
        &operator,
        None,
        r#"{"type":"a.b","payload":1,"source":"plain"}"#,
    )
    .await;
    assert_eq!(added.expect(202)["tenantId"], "default");
    assert_eq!(world.redis.run::<u64>("XLEN constant").await, 1);
}

#[tokio::test]
async fn a_source_that_stands_for_several_streams_needs_one_of_them_named() {
    let (world, _pombo, operator, acme) =
        start("[[sources]]\nname = \"shops\"\nstream = \"shop:*\"").await;
    let body = |stream: &str| json!({ "type": "a", "payload": 1, "stream": stream }).to_string();
    assert_eq!(
        add(&operator, None, r#"{"type":"a","payload":1}"#)
            .await
            .refused(),
        ["/stream"]
    );
    assert_eq!(
        add(&operator, None, &body("pombo:meta")).await.refused(),
        ["/stream"]
    );
    assert_eq!(world.redis.run::<u64>("EXISTS shop:new").await, 0);
    let added = add(&operator, None, &body("shop:new")).await.expect(202);
    assert_eq!(added["stream"], "shop:new");
    // Which streams there are is not for tenants to find out, and those of others not for them to write to.
    for stream in ["shop:new", "shop:other"] {
        let tried = add(&acme, None, &body(stream)).await;
        assert_eq!(
            (tried.status, tried.refused()),
            (422, vec!["/source".to_owned()])
        );
    }
    assert_eq!(world.redis.run::<u64>("XLEN shop:new").await, 1);
}

#[tokio::test]
async fn the_same_request_under_the_same_key_adds_one_event() {
    let (world, _pombo, _, acme) = start("").await;
    let other = _pombo
        .api()
        .with_token(&world.webhooks.tenant_token("other").await);
    let body = r#"{"type":"a.b","payload":{"n":1}}"#;
    let first = add(&acme, Some("k1"), body).await;
    assert_eq!(first.header("idempotency-replayed"), "");
    let again = add(&acme, Some("k1"), body).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!((first.status, &first.json), (again.status, &again.json));
    let answers = join_all((0..10).map(|_| add(&acme, Some("k2"), body))).await;
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer.status, 202 | 409)),
        "{answers:#?}"
    );
    let made = answers
        .iter()
        .filter(|answer| answer.status == 202 && answer.header("idempotency-replayed").is_empty());
    assert_eq!(made.count(), 1);
    assert_eq!(world.redis.run::<u64>("XLEN events").await, 2);

    let another = add(&acme, Some("k1"), r#"{"type":"a.b","payload":{"n":2}}"#).await;
    assert_eq!(
        (another.status, another.refused()),
        (422, vec!["Idempotency-Key".to_owned()])
    );
    let theirs = add(&other, Some("k1"), body).await;
    assert_eq!(
        (theirs.status, theirs.header("idempotency-replayed")),
        (202, "")
    );
    assert_ne!(theirs.json["id"], first.json["id"]);

    let keys = world.redis.keys("*idempotency*").await;
    assert_eq!(keys.len(), 3);
    for key in keys {
        let left: i64 = world.redis.run(&format!("PTTL {key}")).await;
        assert!((86_000_000..=86_400_000).contains(&left), "{left}");
        assert!(!key.contains("k1") && !key.contains("acme"));
    }
}

#[tokio::test]
async fn a_key_whose_request_was_not_carried_out_is_free_again() {
    let elsewhere = Redis::start().await;
    let sources = format!(
        "[[sources]]\nname = \"elsewhere\"\nstream = \"events\"\nurl = {:?}",
        elsewhere.url()
    );
    let (world, _pombo, _, acme) = start(&sources).await;
    // A string stands where the stream should be.
    let _: String = elsewhere.run("SET events x").await;
    let body = r#"{"type":"a.b","payload":1}"#;
    assert!(add(&acme, Some("k"), body).await.status >= 500);
    let _: u64 = elsewhere.run("DEL events").await;
    let added = until(
        "the event added",
        async || add(&acme, Some("k"), body).await,
        |answer| answer.status == 202,
    )
    .await;
    assert_eq!(added.header("idempotency-replayed"), "");

    // One that was cut off before its answer was kept is at work for a while; then the event is added once more, under
    // the same id.
    let key = world.redis.keys("*idempotency*").await.remove(0);
    let kept: String = world.redis.run(&format!("GET {key}")).await;
    let mut open: Value = serde_json::from_str(&kept).expect("JSON");
    open.as_object_mut().expect("an object").remove("answer");
    let _: String = world.redis.run(&format!("SET {key} {open}")).await;
    assert_eq!(add(&acme, Some("k"), body).await.status, 409);
    let _: u64 = world.redis.run(&format!("DEL {key}")).await;
    let repeated = add(&acme, Some("k"), body).await.expect(202);
    assert_eq!(repeated["id"], added.json["id"]);
    assert_ne!(repeated["entryId"], added.json["entryId"]);
}

#[tokio::test]
async fn while_its_source_is_away_an_event_is_refused_for_now() {
    let mut elsewhere = Redis::start().await;
    let sources = format!(
        "[[sources]]\nname = \"elsewhere\"\nstream = \"events\"\nurl = {:?}",
        elsewhere.url()
    );
    let (_world, _pombo, _, acme) = start(&sources).await;
    let body = r#"{"type":"a.b","payload":1}"#;
    add(&acme, None, body).await.expect(202);
    elsewhere.kill();
    let refused = until(
        "a refusal",
        async || add(&acme, None, body).await,
        |answer| answer.status != 202,
    )
    .await;
    assert_eq!(refused.status, 503);
    assert_ne!(refused.header("retry-after"), "");
    elsewhere.restart().await;
    until(
        "the source back",
        async || add(&acme, None, body).await.status,
        |status| *status == 202,
    )
    .await;
}
