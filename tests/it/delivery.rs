//! A delivery as its receiver sees it: bytes, headers, signatures, attempts.

use std::time::Duration;

use pombo::clock::Clock;
use pombo::delivery::{delivery_id, webhook_id_of};
use pombo::settings::Secret;
use pombo::signature::{Scheme, verify, verify_standard};
use pombo::webhook::{BodyMode, WebhookSpec};

use crate::support::pombo::{SECRET, World, webhook};
use crate::support::receiver::{Received, Receiver, Step};
use crate::support::tls::TestCa;
use crate::support::wait::until;

fn now_s() -> u64 {
    Clock::system().unix_ms() / 1_000
}

/// Checks both signatures of a request as a receiver would.
fn check_signatures(received: &Received, secret: &str) {
    let secrets = [Secret::new(secret)];
    let signature = received.header("x-signature");
    let checked = verify(
        Scheme::Timestamped,
        &secrets,
        signature,
        &received.body,
        now_s(),
        300,
    );
    checked.unwrap_or_else(|error| panic!("{error}: {signature}"));
    let checked = verify_standard(
        &secrets,
        received.header("webhook-id"),
        received.header("webhook-timestamp"),
        received.header("webhook-signature"),
        &received.body,
        now_s(),
        300,
    );
    checked.unwrap_or_else(|error| panic!("{error}: {received:?}"));
}

#[tokio::test]
async fn a_delivery_has_exactly_these_headers_and_bytes() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let url = receiver.url("/hook?for=me");
    let headers = |spec: &mut WebhookSpec| {
        spec.headers = [("Authorization", "Bearer secret"), ("x-mine", "a b")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    };
    world.webhooks.make("w-1", &url, &["crm.*"], headers).await;
    let _pombo = world.config.start().await;
    let payload = "{ \"b\":1e0,\"a\": \"\\u00e9\" , \"a\":null}";
    let fields = [
        ("id", "evt_1"),
        ("type", "crm.created"),
        ("time", "1773403200123"),
        ("payload", payload),
    ];
    let entry = world.redis.add("events", &fields).await;
    let received = receiver.wait_for(1).await.remove(0);

    assert_eq!(received.method, "POST");
    assert_eq!(received.path, "/hook?for=me");
    let body = format!(
        r#"{{"id":"evt_1","type":"crm.created","timestamp":"2026-03-13T12:00:00.123Z","tenantId":"default","data":{payload}}}"#
    );
    assert_eq!(received.body, body.as_bytes());
    let mut names: Vec<&str> = received.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "authorization",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
        "x-delivery-attempt",
        "x-delivery-id",
        "x-event-id",
        "x-event-type",
        "x-mine",
        "x-signature",
    ];
    assert_eq!(names, expected);
    let delivery = delivery_id("w-1", "events", entry.parse().expect("an entry's id"));
    assert_eq!(webhook_id_of(&delivery), Some("w-1"));
    let agent = concat!("pombo/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("authorization", "Bearer secret"),
        ("content-length", body.len().to_string().as_str()),
        ("content-type", "application/json"),
        ("host", receiver.address().to_string().as_str()),
        ("user-agent", agent),
        ("webhook-id", "evt_1"),
        ("x-delivery-attempt", "1"),
        ("x-delivery-id", &delivery),
        ("x-event-id", "evt_1"),
        ("x-event-type", "crm.created"),
        ("x-mine", "a b"),
    ] {
        assert_eq!(received.header(name), value, "{name}");
    }
    check_signatures(&received, SECRET);
}

#[tokio::test]
async fn a_bare_payload_goes_out_byte_for_byte_with_its_own_content_type() {
    let fields = r#"
        [[sources]]
        stream = "events"
        fields = { content_type = "mime" }
    "#;
    let (world, receiver) = (World::with(fields).await, Receiver::start().await);
    let bare = |spec: &mut WebhookSpec| spec.body_mode = Some(BodyMode::Payload);
    let url = receiver.url("/");
    world.webhooks.make("bare", &url, &["*"], bare).await;
    let _pombo = world.config.start().await;
    let payload = b"a;b\r\n\xff\x00\"\\";
    let mut command = redis::cmd("XADD");
    command
        .arg("events")
        .arg("*")
        .arg("type")
        .arg("report.ready");
    command.arg("mime").arg("text/csv; charset=latin1");
    command.arg("payload").arg(&payload[..]);
    world.redis.query::<String>(&command).await;
    world.redis.event("e2", "report.ready", " [1 ,2] ").await;
    let received = receiver.wait_for(2).await;
    let csv = received.iter().find(|r| r.header("x-event-id") != "e2");
    let csv = csv.expect("the first event");
    assert_eq!(csv.body, &payload[..]);
    assert_eq!(csv.header("content-type"), "text/csv; charset=latin1");
    let json = received.iter().find(|r| r.header("x-event-id") == "e2");
    let json = json.expect("the second event");
    assert_eq!(json.body, " [1 ,2] ");
    assert_eq!(json.header("content-type"), "application/json");
    received.iter().for_each(|r| check_signatures(r, SECRET));
}

#[tokio::test]
async fn what_is_no_json_is_not_put_into_an_envelope_but_kept_as_dead() {
    let source = "[[sources]]\nstream = \"events\"\ncontent_type = \"text/plain\"";
    let (world, receiver) = (World::with(source).await, Receiver::start().await);
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "{\"n\":1}").await;
    let dead = world.webhooks.wait_for_dead(&webhook, 1).await;
    assert_eq!(dead[0].ending.reason.as_str(), "not_json");
    assert_eq!(dead[0].event.payload, "{\"n\":1}");
    world.redis.settled("events").await;
    assert!(receiver.received().is_empty());
}

#[tokio::test]
async fn every_attempt_of_a_delivery_carries_the_same_ids_and_counts_on() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    receiver.push(Step::Reset).push(Step::status(500));
    let webhook = world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "{\"n\":1}").await;
    let received = receiver.wait_for(3).await;
    for (index, one) in received.iter().enumerate() {
        assert_eq!(one.header("x-delivery-attempt"), (index + 1).to_string());
        for header in ["webhook-id", "x-delivery-id", "x-event-id"] {
            assert_eq!(one.header(header), received[0].header(header));
        }
        assert_eq!(one.body, received[0].body);
        check_signatures(one, SECRET);
        if let Some(before) = index.checked_sub(1) {
            let pause = one.at - received[before].at;
            assert!(pause >= Duration::from_millis(95), "{pause:?}");
            assert!(pause < Duration::from_millis(1_000), "{pause:?}");
        }
    }
    until(
        "nothing left in the queue",
        async || world.webhooks.queued(&webhook).await,
        |queued| *queued == 0,
    )
    .await;
    world.redis.settled("events").await;
}

#[tokio::test]
async fn while_a_secret_rotates_both_secrets_verify() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let newer = "whsec_bmV3ZXIgbmV3ZXIgbmV3ZXIgbmV3ZXIgbmV3ZXI=";
    let mut rotating = webhook("w", &receiver.url("/"), &["*"]);
    rotating.secrets.insert(0, Secret::new(newer));
    world.webhooks.put(&mut rotating).await;
    // A secret of the platform's own choosing need not be base64.
    let mut plain = webhook("plain", &receiver.url("/plain"), &["*"]);
    plain.secrets = vec![Secret::new("not base64!")];
    world.webhooks.put(&mut plain).await;
    let _pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "1").await;
    let received = receiver.wait_for(2).await;
    let to = |path: &str| received.iter().find(|r| r.path == path).expect("a request");
    for secret in [newer, SECRET] {
        check_signatures(to("/"), secret);
    }
    assert_eq!(to("/").header("x-signature").matches("v1=").count(), 2);
    assert_eq!(to("/").header("webhook-signature").split(' ').count(), 2);
    assert_eq!(to("/plain").header("webhook-id"), "e1");
    assert!(!to("/plain").headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn header_and_scheme_of_the_signature_are_as_the_settings_say() {
    let settings = r#"
        [signature]
        header = "X-Hub-Signature-256"
        scheme = "sha256"
        standard_webhooks = false
        [delivery]
        tenant_field = "office_id"
    "#;
    let (world, receiver) = (World::with(settings).await, Receiver::start().await);
    world.webhooks.all("w", &receiver.url("/")).await;
    let _pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "1").await;
    let received = receiver.wait_for(1).await.remove(0);
    let header = received.header("x-hub-signature-256");
    let secrets = [Secret::new(SECRET)];
    verify(Scheme::Sha256, &secrets, header, &received.body, 0, 0).expect("a signature");
    for absent in [
        "x-signature",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ] {
        assert!(!received.headers.contains_key(absent), "{absent}");
    }
    let body = std::str::from_utf8(&received.body).expect("text");
    assert!(
        body.contains(r#""office_id":"default","data":1}"#),
        "{body}"
    );
}

#[tokio::test]
async fn receivers_behind_tls_are_reached_by_http_1_and_2() {
    let ca = TestCa::new();
    let settings = format!("[targets]\nca_file = {:?}", ca.file());
    let world = World::with(&settings).await;
    let (one, two) = (
        Receiver::start_tls(&ca).await,
        Receiver::start_http2(&ca).await,
    );
    let by_name = one.url_by_name("localhost", "/");
    world.webhooks.all("one", &by_name).await;
    world.webhooks.all("two", &two.url("/")).await;
    let _pombo = world.config.start().await;
    world.redis.events("e", "a.b", 50).await;
    let (first, second) = (one.wait_for(50).await, two.wait_for(50).await);
    assert_eq!(first[0].version, http::Version::HTTP_11);
    assert!(second.iter().all(|r| r.version == http::Version::HTTP_2));
    // Before it is known that they speak HTTP/2 more connections may be begun; one is used.
    assert!(second.iter().all(|r| r.connection == second[0].connection));
    first
        .iter()
        .chain(&second)
        .for_each(|r| check_signatures(r, SECRET));
    world.redis.settled("events").await;
}
