//! A secret is replaced: for a while both sign, then the newest alone.

use std::sync::atomic::{AtomicUsize, Ordering};

use pombo::clock::Clock;
use pombo::settings::Secret;
use pombo::signature::{Scheme, verify, verify_standard};
use pombo::webhook::{Webhook, WebhookSpec};

use crate::support::pombo::{SECRET, World, webhook};
use crate::support::receiver::{Answer, Gate, Received, Receiver, Step};
use crate::support::wait::until;

const NEWER: &str = "whsec_bmV3ZXIgbmV3ZXIgbmV3ZXIgbmV3ZXIgbmV3ZXI=";

fn now_ms() -> u64 {
    Clock::system().unix_ms()
}

/// A webhook whose rotation goes on for so long yet.
fn rotating(id: &str, url: &str, for_ms: u64) -> Webhook {
    let mut rotating = webhook(id, url, &["*"]);
    rotating.secrets.insert(0, Secret::new(NEWER));
    rotating.rotation_ends_ms = Some(now_ms() + for_ms);
    rotating
}

/// Whether a signature is one by `secret`.
fn is_by(secret: &str, scheme: Scheme, signature: &str, received: &Received) -> bool {
    let secrets = [Secret::new(secret)];
    let now_s = now_ms() / 1_000;
    verify(scheme, &secrets, signature, &received.body, now_s, 300).is_ok()
}

fn is_standard_by(secret: &str, received: &Received) -> bool {
    let verified = verify_standard(
        &[Secret::new(secret)],
        received.header("webhook-id"),
        received.header("webhook-timestamp"),
        received.header("webhook-signature"),
        &received.body,
        now_ms() / 1_000,
        300,
    );
    verified.is_ok()
}

#[tokio::test]
async fn when_a_rotation_ends_the_newest_secret_signs_alone_though_nothing_else_changed() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let gate = Gate::new();
    let mut rotating = rotating("w", &receiver.url("/"), 4_000);
    world.webhooks.put(&mut rotating).await;
    let _pombo = world.config.start().await;
    // One that hangs keeps the lane, and with it what its requests were prepared with.
    receiver.push(Answer::new(200).after(&gate));
    world.redis.event("hanging", "a.b", "1").await;
    receiver.wait_for(1).await;
    world.redis.event("e1", "a.b", "1").await;
    let during = receiver.wait_for(2).await.remove(1);
    let end = rotating.rotation_ends_ms.expect("an end");
    assert!(now_ms() < end, "this machine is too slow for this test");
    for secret in [NEWER, SECRET] {
        let signature = during.header("x-signature");
        assert!(is_by(secret, Scheme::Timestamped, signature, &during));
        assert!(is_standard_by(secret, &during));
    }
    until(
        "the end of the rotation",
        async || now_ms(),
        |now| *now >= end,
    )
    .await;
    world.redis.event("e2", "a.b", "1").await;
    let after = receiver.wait_for(3).await.remove(2);
    let signature = after.header("x-signature");
    assert_eq!(signature.matches("v1=").count(), 1);
    assert!(is_by(NEWER, Scheme::Timestamped, signature, &after));
    assert!(is_standard_by(NEWER, &after) && !is_standard_by(SECRET, &after));
    gate.open();
}

#[tokio::test]
async fn a_scheme_of_one_signature_sends_the_older_secrets_in_a_header_of_its_own() {
    let settings = "[signature]\nheader = \"X-Hub\"\nscheme = \"sha256\"";
    let (world, receiver) = (World::with(settings).await, Receiver::start().await);
    let mut sha256 = rotating("sha256", &receiver.url("/sha256"), 600_000);
    world.webhooks.put(&mut sha256).await;
    let mut hex = rotating("hex", &receiver.url("/hex"), 600_000);
    hex.spec.signature_scheme = Some(Scheme::Hex);
    world.webhooks.put(&mut hex).await;
    let mut over = rotating("over", &receiver.url("/over"), 0);
    world.webhooks.put(&mut over).await;
    world.webhooks.all("never", &receiver.url("/never")).await;
    let mut timed = rotating("timed", &receiver.url("/timed"), 600_000);
    timed.spec.signature_scheme = Some(Scheme::Timestamped);
    world.webhooks.put(&mut timed).await;
    let _pombo = world.config.start().await;
    world.redis.event("e1", "a.b", "1").await;
    let received = receiver.wait_for(5).await;
    let to = |path: &str| received.iter().find(|r| r.path == path).expect("a request");
    for (path, scheme) in [("/sha256", Scheme::Sha256), ("/hex", Scheme::Hex)] {
        let one = to(path);
        let (newest, previous) = (one.header("x-hub"), one.header("x-hub-previous"));
        assert!(is_by(NEWER, scheme, newest, one), "{one:?}");
        assert!(is_by(SECRET, scheme, previous, one), "{one:?}");
        assert!(!is_by(SECRET, scheme, newest, one));
    }
    for (path, secret) in [("/over", NEWER), ("/never", SECRET)] {
        let one = to(path);
        assert!(is_by(secret, Scheme::Sha256, one.header("x-hub"), one));
        assert!(!one.headers.contains_key("x-hub-previous"), "{one:?}");
    }
    let one = to("/timed");
    assert_eq!(one.header("x-hub").matches("v1=").count(), 2);
    assert!(!one.headers.contains_key("x-hub-previous"));
}

#[tokio::test]
async fn what_was_read_of_a_queue_before_its_secret_was_replaced_is_signed_by_the_new_one() {
    const IN_FLIGHT: usize = 64;
    const BEFORE: usize = 500;
    const ALL: usize = 1_000;
    let world = World::new().await;
    let (first, second, count) = (Gate::new(), Gate::new(), AtomicUsize::new(0));
    let gates = (first.clone(), second.clone());
    let receiver = Receiver::scripted(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        ..IN_FLIGHT => Answer::new(200).after(&gates.0).into(),
        IN_FLIGHT..BEFORE => Step::status(200),
        _ => Answer::new(200).after(&gates.1).into(),
    });
    let receiver = receiver.await;
    let url = receiver.url("/");
    let in_flight = |spec: &mut WebhookSpec| spec.max_in_flight = Some(IN_FLIGHT as u32);
    let mut webhook = world.webhooks.make("w", &url, &["a.*"], in_flight).await;
    let _pombo = world.config.start().await;
    world.redis.events("queued", "a.b", ALL).await;
    world.redis.settled("events").await;
    first.open();
    receiver.wait_for(BEFORE + IN_FLIGHT).await;
    webhook.secrets = vec![Secret::new(NEWER)];
    world.webhooks.put(&mut webhook).await;
    // Changes are taken up in their order.
    let probe = Receiver::start().await;
    let url = probe.url("/");
    let _later = world.webhooks.make("later", &url, &["b.c"], |_| {}).await;
    let known = async || {
        world.redis.event("later", "b.c", "1").await;
        probe.received().len()
    };
    until("the later webhook", known, |received| *received > 0).await;
    second.open();
    let received = receiver.wait_for(ALL).await;
    for (number, one) in received.iter().enumerate() {
        let secret = match number < BEFORE + IN_FLIGHT {
            true => SECRET,
            false => NEWER,
        };
        let signature = one.header("x-signature");
        assert!(
            is_by(secret, Scheme::Timestamped, signature, one),
            "{number}"
        );
        assert!(is_standard_by(secret, one), "{number}");
    }
}
