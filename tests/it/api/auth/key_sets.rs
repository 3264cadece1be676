//! Keys that are fetched: a set over HTTP, which rotates, hangs, or is not to be trusted.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{PATIENT, SECRET, status_with};
use crate::support::jwt::{SigningKey, claims};
use crate::support::pombo::World;
use crate::support::receiver::{Answer, Receiver, Step};
use crate::support::tls::TestCa;
use crate::support::wait::until;

/// A key set over HTTP that a test changes; nothing is a server in trouble.
struct KeyServer {
    receiver: Receiver,
    set: Arc<Mutex<Option<Value>>>,
}

impl KeyServer {
    async fn start() -> KeyServer {
        let set = Arc::new(Mutex::new(None::<Value>));
        let shown = set.clone();
        let receiver = Receiver::scripted(move |_| match &*shown.lock().expect("the set") {
            Some(set) => Answer::new(200).body(set.to_string()).into(),
            None => Step::status(500),
        })
        .await;
        KeyServer { receiver, set }
    }

    fn show(&self, keys: &[Value]) {
        *self.set.lock().expect("the set") = Some(json!({ "keys": keys }));
    }

    fn fail(&self) {
        *self.set.lock().expect("the set") = None;
    }

    fn asked(&self) -> usize {
        self.receiver.received().len()
    }

    async fn world(&self, refresh: &str) -> World {
        let url = self.receiver.url("/.well-known/jwks.json?key=hunter2");
        World::with(&format!(
            "{PATIENT}[api.jwt]\njwks_url = {url:?}\njwks_refresh = {refresh:?}\n"
        ))
        .await
    }
}

#[tokio::test]
async fn keys_of_a_set_are_found_by_their_ids_and_only_asymmetric_ones() {
    let server = KeyServer::start().await;
    let keys = [SigningKey::rsa(), SigningKey::ec(), SigningKey::ed()];
    let shared = SigningKey::hmac(SECRET);
    server.show(&[
        keys[0].jwk("r"),
        keys[1].jwk("c"),
        keys[2].jwk("d"),
        shared.jwk("s"),
    ]);
    let world = server.world("1d").await;
    let pombo = world.config.start().await;
    assert_eq!(server.asked(), 0, "nobody needs it yet");
    for (key, id) in keys.iter().zip(["r", "c", "d"]) {
        let named = key.sign_as(Some(id), &claims("acme"));
        assert_eq!(status_with(&pombo, &named).await, 200, "{id}");
        let unnamed = key.sign(&claims("acme"));
        assert_eq!(status_with(&pombo, &unnamed).await, 200, "{id} unnamed");
        let misnamed = key.sign_as(Some(if id == "r" { "c" } else { "r" }), &claims("acme"));
        assert_eq!(status_with(&pombo, &misnamed).await, 401, "{id} misnamed");
    }
    for id in [Some("s"), None] {
        let symmetric = shared.sign_as(id, &claims("acme"));
        assert_eq!(status_with(&pombo, &symmetric).await, 401);
    }
    let confused = SigningKey::hmac(&keys[0].public_pem).sign_as(Some("r"), &claims("acme"));
    assert_eq!(status_with(&pombo, &confused).await, 401);
    // Unknown ids do not make it be fetched time and again.
    let stranger = SigningKey::ec();
    for number in 0..20 {
        let id = format!("unknown-{number}");
        let token = stranger.sign_as(Some(&id), &claims("acme"));
        assert_eq!(status_with(&pombo, &token).await, 401);
    }
    assert!(server.asked() <= 3, "asked {} times", server.asked());
}

#[tokio::test]
async fn a_rotated_key_is_found_and_the_set_outlives_its_server() {
    let server = KeyServer::start().await;
    let (old, new) = (SigningKey::ec(), SigningKey::ec());
    let world = server.world("1s").await;
    let pombo = world.config.spawn().await;
    let status = async |token: &str| pombo.api().with_token(token).get("/v1/tokens").await;

    // Without any key it cannot be told whether a token is good.
    let token = old.sign_as(Some("old"), &claims("acme"));
    let unknown = status(&token).await;
    assert!(!unknown.header("retry-after").is_empty());
    unknown.expect(503);
    server.show(&[old.jwk("old")]);
    until(
        "the old key",
        async || status(&token).await.status,
        |status| *status == 200,
    )
    .await;

    server.show(&[new.jwk("new")]);
    let rotated = new.sign_as(Some("new"), &claims("acme"));
    until(
        "the new key",
        async || status(&rotated).await.status,
        |status| *status == 200,
    )
    .await;
    status(&token).await.expect(401);

    server.fail();
    let asked = server.asked();
    until(
        "some fetches that fail",
        async || {
            status(&rotated).await.expect(200);
            server.asked()
        },
        |now| *now >= asked + 2,
    )
    .await;
    let line = pombo.log().wait_for("the JSON Web Key Set").await;
    assert!(
        !line.contains("hunter2") && !line.contains("jwks.json"),
        "{line}"
    );
    let log = pombo.log().lines();
    let told = |word: &str| {
        let about = |line: &&String| line.contains("the JSON Web Key Set") && line.contains(word);
        log.iter().filter(about).count()
    };
    assert_eq!(told("500"), 2, "at the beginning, and now: {log:#?}");
    for token in [token, rotated] {
        assert!(!log.join("\n").contains(&token));
    }
}

#[tokio::test]
async fn a_key_set_over_tls_needs_an_authority_that_is_trusted() {
    let authority = TestCa::new();
    let receiver = Receiver::start_tls(&authority).await;
    let key = SigningKey::ed();
    let set = json!({"keys": [key.jwk("one")]}).to_string();
    let token = key.sign_as(Some("one"), &claims("acme"));
    let url = receiver.url("/keys");
    let world = World::with(&format!("[api.jwt]\njwks_url = {url:?}")).await;
    let pombo = world.config.start().await;
    assert_eq!(status_with(&pombo, &token).await, 503);
    pombo.stop().await;
    let file = authority.file();
    let world = world.change(&format!("[api.jwt]\njwks_ca_file = {file:?}"));
    receiver.push(Answer::new(200).body(set));
    let pombo = world.config.start().await;
    assert_eq!(status_with(&pombo, &token).await, 200);
}

#[tokio::test]
async fn a_key_set_that_is_too_large_or_elsewhere_is_not_taken() {
    let key = SigningKey::ed();
    let mut large = json!({"keys": [key.jwk("one")]});
    large["padding"] = json!("x".repeat(2 << 20));
    for wrong in [
        Answer::new(200).body(large.to_string()),
        Answer::new(200).endless(),
        Answer::new(200).body("{\"keys\": 7}"),
        Answer::new(302).header("location", "/elsewhere"),
    ] {
        let receiver = Receiver::scripted(|_| Step::Hang).await;
        receiver.push(wrong);
        let url = receiver.url("/keys");
        let world = World::with(&format!("[api.jwt]\njwks_url = {url:?}")).await;
        let pombo = world.config.start().await;
        let token = key.sign_as(Some("one"), &claims("acme"));
        assert_eq!(status_with(&pombo, &token).await, 503);
    }
}
