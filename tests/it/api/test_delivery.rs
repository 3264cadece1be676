//! Test deliveries: what is sent is what an event would be sent as, and all of it is told.

use pombo::settings::Secret;
use pombo::signature::{Scheme, verify};
use serde_json::{Value, json};

use crate::support::api::ApiClient;
use crate::support::pombo::{Pombo, World};
use crate::support::receiver::{Answer, Receiver, Step};

async fn start(toml: &str) -> (World, Pombo, ApiClient) {
    let world = World::with(toml).await;
    let pombo = world.config.start().await;
    let acme = pombo
        .api()
        .with_token(&world.webhooks.tenant_token("acme").await);
    (world, pombo, acme)
}

async fn make(acme: &ApiClient, body: &Value) -> (Value, String) {
    let made = acme.post("/v1/webhooks", body).await.expect(201);
    let path = format!("/v1/webhooks/{}/test", made["id"].as_str().expect("an id"));
    (made, path)
}

#[tokio::test]
async fn a_customer_tries_a_webhook_before_it_is_active_and_sees_what_was_sent() {
    let (world, _pombo, acme) = start("").await;
    let receiver = Receiver::scripted(|_| Answer::new(202).body("got it").into()).await;
    let (made, path) = make(
        &acme,
        &json!({ "name": "a", "url": receiver.url("/hook"), "events": ["a"], "isActive": false,
                 "headers": { "Authorization": "Bearer theirs" } }),
    )
    .await;
    let tested = acme
        .send(reqwest::Method::POST, &path, |request| request)
        .await
        .expect(200);
    assert_eq!(
        (&tested["status"], &tested["statusCode"]),
        (&json!("SUCCESS"), &json!(202))
    );
    assert_eq!(
        (&tested["event"], &tested["errorMessage"]),
        (&json!("webhook.test"), &Value::Null)
    );
    assert_eq!(tested["response"], json!({ "body": "got it" }));
    assert!(tested["durationMs"].as_f64().expect("a number") > 0.0);
    let phases = &tested["phases"];
    assert_eq!(phases["totalMs"], tested["durationMs"]);
    assert!(
        phases["connectMs"].is_number() && phases["firstByteMs"].is_number(),
        "{phases}"
    );
    assert!(phases["tlsMs"].is_null(), "{phases}");

    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(
        received.body,
        tested["request"]["body"]
            .as_str()
            .expect("a body")
            .as_bytes()
    );
    let sent = tested["request"]["headers"].as_object().expect("headers");
    assert_eq!(sent["authorization"], "Bearer theirs");
    for (name, value) in sent {
        assert_eq!(
            received.header(name),
            value.as_str().expect("a text"),
            "{name}"
        );
    }
    assert_eq!(sent["x-delivery-id"], tested["deliveryId"]);
    assert_eq!(sent["x-delivery-attempt"], "1");
    assert!(
        sent["x-event-id"]
            .as_str()
            .expect("an id")
            .starts_with("evt_test_")
    );
    let body: Value = serde_json::from_slice(&received.body).expect("JSON");
    assert_eq!(
        (&body["type"], &body["tenantId"]),
        (&json!("webhook.test"), &json!("acme"))
    );
    assert!(body["data"]["message"].is_string());

    let signature = received.header("x-signature");
    let (time, _) = signature[2..].split_once(',').expect("a time");
    let verified = verify(
        Scheme::Timestamped,
        &[Secret::new(made["secret"].as_str().expect("a secret"))],
        signature,
        &received.body,
        time.parse().expect("a time"),
        60,
    );
    assert!(verified.is_ok(), "{verified:?}");

    // Nothing of it is kept.
    let kept = world
        .webhooks
        .get(made["id"].as_str().expect("an id"))
        .await
        .expect("a webhook");
    assert_eq!(
        world.redis.keys(&format!("*{}*", kept.uid)).await,
        Vec::<String>::new()
    );
    assert_eq!(world.redis.run::<u64>("XLEN events").await, 0);
}

#[tokio::test]
async fn a_test_carries_the_sample_of_its_type_or_what_is_asked_for() {
    let catalogue = r#"[catalogue]
events = [{ type = "lead.created", sample = '{ "id": 1.0e0 }' }, { type = "lead.deleted" }]"#;
    let (_world, _pombo, acme) = start(catalogue).await;
    let receiver = Receiver::start().await;
    let (_, path) = make(
        &acme,
        &json!({ "name": "a", "url": receiver.url("/"), "events": ["*"], "bodyMode": "payload" }),
    )
    .await;
    for (body, payload) in [
        (r#"{"event":"lead.created"}"#, Some(r#"{ "id": 1.0e0 }"#)),
        (
            r#"{"event":"lead.created","payload":{ "id" : 2.50 }}"#,
            Some(r#"{ "id" : 2.50 }"#),
        ),
        (r#"{"payload":[1,  2]}"#, Some("[1,  2]")),
        (r#"{"payload":null}"#, Some("null")),
        (r#"{"event":"lead.deleted"}"#, None),
    ] {
        let sent = acme.send(reqwest::Method::POST, &path, |request| {
            request
                .header("content-type", "application/json")
                .body(body)
        });
        let tested = sent.await.expect(200);
        if let Some(payload) = payload {
            assert_eq!(tested["request"]["body"], payload);
        }
    }
    for (body, place) in [
        (json!({ "event": "lead.moved" }), "/event"),
        (json!({ "event": "lead.*" }), "/event"),
        (json!({ "event": null }), "/event"),
        (json!({ "event": 1 }), "/event"),
        (json!({ "type": "lead.created" }), "/type"),
    ] {
        let refused = acme.post(&path, &body).await;
        assert_eq!(
            (refused.status, refused.refused()),
            (422, vec![place.to_owned()]),
            "{body}"
        );
    }
    assert_eq!(receiver.received().len(), 5);
}

#[tokio::test]
async fn a_failed_test_says_why() {
    let (world, _pombo, acme) = start("[delivery]\nmax_payload = \"1KiB\"").await;
    let receiver = Receiver::start().await;
    receiver.push(Answer::new(500).body("oops"));
    receiver.push(Step::Hang);
    let body = json!({ "name": "a", "url": receiver.url("/"), "events": ["*"], "timeoutMs": 300 });
    let (made, path) = make(&acme, &body).await;
    let tested = acme.post(&path, &json!({})).await.expect(200);
    assert_eq!(
        (&tested["status"], &tested["statusCode"]),
        (&json!("FAILED"), &json!(500))
    );
    assert_eq!(tested["errorMessage"], "answered 500 Internal Server Error");
    assert_eq!(tested["response"]["body"], "oops");

    let tested = acme.post(&path, &json!({})).await.expect(200);
    assert_eq!(
        (&tested["statusCode"], &tested["response"]),
        (&Value::Null, &Value::Null)
    );
    let error = tested["errorMessage"].as_str().expect("an error");
    assert!(error.contains("no answer within the deadline"), "{error}");

    let large = acme
        .post(&path, &json!({ "payload": "x".repeat(1100) }))
        .await;
    assert_eq!(large.refused(), ["/payload"]);

    // An address that was allowed when the webhook was stored: nothing is connected to.
    let mut stored = world
        .webhooks
        .get(made["id"].as_str().expect("an id"))
        .await
        .expect("a webhook");
    stored.spec.url = "http://10.1.2.3/".to_owned();
    world.webhooks.put(&mut stored).await;
    let tested = acme.post(&path, &json!({})).await.expect(200);
    let error = tested["errorMessage"].as_str().expect("an error");
    assert!(error.contains("may not be called"), "{error}");
}

#[tokio::test]
async fn a_webhook_has_so_many_tests_a_minute_and_no_more() {
    let (_world, _pombo, acme) = start("").await;
    let receiver = Receiver::start().await;
    let body = json!({ "name": "a", "url": receiver.url("/"), "events": ["*"] });
    let (_, path) = make(&acme, &body).await;
    for _ in 0..10 {
        acme.post(&path, &json!({})).await.expect(200);
    }
    let refused = acme.post(&path, &json!({})).await;
    assert_eq!(refused.status, 429);
    let wait: u32 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=6).contains(&wait), "{wait}");
    assert_eq!(receiver.received().len(), 10);
    let (_, other) = make(&acme, &body).await;
    acme.post(&other, &json!({})).await.expect(200);
}
