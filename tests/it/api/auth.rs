//! Who is let in, and who is not.

mod key_sets;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::jwt::{SigningKey, claims, seconds_from_now};
use crate::support::pombo::{Pombo, World};

const SECRET: &str = "a secret of thirty-two bytes or more";
/// Many failures, none of them about their number.
const PATIENT: &str = "[api]\nfailed_auth_per_minute = 1000000\n";

/// What a client with this token is answered: 200 if it is accepted, as a tenant.
async fn status_with(pombo: &Pombo, token: &str) -> u16 {
    pombo.api().with_token(token).get("/v1/tokens").await.status
}

/// The tenant as which a token is accepted.
async fn tenant_with(pombo: &Pombo, token: &str) -> Option<String> {
    let client = pombo.api().with_token(token);
    let made = client.post("/v1/tokens", &json!({"name": "n"})).await;
    made.json["tenantId"].as_str().map(str::to_owned)
}

/// A daemon that accepts tokens signed by `key`, and more settings of `[api.jwt]`.
async fn accepting(key: &SigningKey, more: &str) -> (World, Pombo) {
    let world = World::with(PATIENT).await;
    let given = if key.public_pem.is_empty() {
        format!("secret = {SECRET:?}")
    } else {
        let path = world.config.directory().join("jwt.pem");
        std::fs::write(&path, &key.public_pem).expect("a written key");
        format!("public_key_file = {path:?}")
    };
    let algorithm = key.algorithm();
    let world = world.change(&format!(
        "[api.jwt]\nalgorithm = \"{algorithm}\"\n{given}\n{more}"
    ));
    let pombo = world.config.start().await;
    (world, pombo)
}

#[tokio::test]
async fn a_token_signed_with_any_of_the_four_algorithms_is_its_tenants() {
    for key in [
        SigningKey::hmac(SECRET),
        SigningKey::rsa(),
        SigningKey::ec(),
        SigningKey::ed(),
    ] {
        let (_world, pombo) = accepting(&key, "").await;
        let token = key.sign(&claims("acme"));
        let name = key.algorithm();
        assert_eq!(
            tenant_with(&pombo, &token).await.as_deref(),
            Some("acme"),
            "{name}"
        );
        // In the other header too, and a number as the tenant.
        let numbered = key.sign(&json!({"tenantId": 42, "exp": seconds_from_now(60)}));
        let client = pombo.api().with_header("x-api-key", &numbered);
        let made = client.post("/v1/tokens", &json!({"name": "n"})).await;
        assert_eq!(made.expect(201)["tenantId"], "42", "{name}");
        // Signed by nobody we know, and changed after it was signed.
        let forged = match name.as_str() {
            "HS256" => SigningKey::hmac("another secret of thirty-two bytes"),
            "RS256" => SigningKey::rsa(),
            "ES256" => SigningKey::ec(),
            _ => SigningKey::ed(),
        };
        let forged = forged.sign(&claims("acme"));
        assert_eq!(status_with(&pombo, &forged).await, 401, "{name}");
        let other = key.sign(&claims("other"));
        let (head, rest) = token.split_once('.').expect("dots");
        let (_, signature) = rest.split_once('.').expect("dots");
        let claimed = other.split('.').nth(1).expect("dots");
        let changed = format!("{head}.{claimed}.{signature}");
        assert_eq!(status_with(&pombo, &changed).await, 401, "{name}");
    }
}

#[tokio::test]
async fn the_algorithm_is_never_the_tokens_choice() {
    let key = SigningKey::rsa();
    let (_world, pombo) = accepting(&key, "").await;
    assert_eq!(status_with(&pombo, &key.sign(&claims("acme"))).await, 200);
    // The public key is no secret: anybody can make an HMAC with it.
    for secret in [key.public_pem.as_str(), key.public_pem.trim_end()] {
        let confused = SigningKey::hmac(secret).sign(&claims("acme"));
        assert_eq!(status_with(&pombo, &confused).await, 401);
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for header in [
        json!({"alg": "none", "typ": "JWT"}),
        json!({"alg": "None"}),
        json!({"alg": "RS256"}),
        json!({}),
    ] {
        let unsigned = format!("{}.{}.", part(&header), part(&claims("acme")));
        assert_eq!(status_with(&pombo, &unsigned).await, 401, "{header}");
    }
    // A key that comes with the token is nobody's.
    let own = SigningKey::rsa();
    let brought = own.sign(&claims("acme"));
    let header = json!({"alg": "RS256", "jwk": own.jwk("own")});
    let rest = brought.split_once('.').expect("dots").1;
    let brought = format!("{}.{rest}", part(&header));
    assert_eq!(status_with(&pombo, &brought).await, 401);
}

#[tokio::test]
async fn what_a_token_claims_must_hold() {
    let key = SigningKey::hmac(SECRET);
    let rules = "tenant_claim = \"officeId\"\naudience = \"pombo\"\nissuer = \"https://auth.example.com\"\nleeway = \"5s\"";
    let (_world, pombo) = accepting(&key, rules).await;
    let good = json!({
        "officeId": "acme",
        "exp": seconds_from_now(300),
        "nbf": seconds_from_now(-300),
        "aud": ["web", "pombo"],
        "iss": "https://auth.example.com",
    });
    assert_eq!(
        tenant_with(&pombo, &key.sign(&good)).await.as_deref(),
        Some("acme")
    );
    for (claim, value) in [
        ("exp", json!(seconds_from_now(-60))),
        ("exp", json!(null)),
        ("nbf", json!(seconds_from_now(300))),
        ("aud", json!("another")),
        ("aud", json!(null)),
        ("iss", json!("https://auth.example.org")),
        ("officeId", json!("")),
        ("officeId", json!(null)),
        ("officeId", json!({"id": "acme"})),
    ] {
        let mut bad = good.clone();
        bad[claim] = value.clone();
        let answer = pombo
            .api()
            .with_token(&key.sign(&bad))
            .get("/v1/tokens")
            .await;
        assert_eq!(answer.status, 401, "{claim} {value}");
        assert_eq!(answer.json["detail"], "The token is not valid.");
    }
    // It is one tenant's and not the operator's, whatever else it says.
    let mut bold = good.clone();
    bold["operator"] = json!(true);
    let client = pombo.api().with_token(&key.sign(&bold));
    let refused = client
        .post("/v1/tokens", &json!({"operator": true, "name": "n"}))
        .await;
    refused.expect(403);
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_told_before_anything_starts() {
    let world = World::new().await;
    let path = world.config.directory().join("jwt.pem");
    let ec = SigningKey::ec();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    let mut world = world;
    for (algorithm, pem) in [
        ("RS256", ec.public_pem.as_str()),
        ("EdDSA", ec.public_pem.as_str()),
        ("ES256", &p384.public_key_pem()),
        ("ES256", &p384.serialize_pem()),
        ("ES256", "no key at all"),
    ] {
        std::fs::write(&path, pem).expect("a written key");
        world = world.change(&format!(
            "[api.jwt]\nalgorithm = \"{algorithm}\"\npublic_key_file = {path:?}"
        ));
        let mut pombo = world.config.spawn_unready().await;
        assert_eq!(pombo.wait().await.code(), Some(78), "{algorithm} {pem}");
        let log = pombo.log().lines().join("\n");
        assert!(log.contains("api.jwt.public_key_file"), "{log}");
    }
}

#[tokio::test]
async fn every_token_that_is_not_valid_is_refused_in_the_same_words() {
    let world = World::with(PATIENT).await;
    let world = world.change(&format!("[api.jwt]\nsecret = {SECRET:?}"));
    let pombo = world.config.start().await;
    let mut seen = std::collections::BTreeSet::new();
    for wrong in [
        "pmb_3q2-7wEjRWeJq83vEjRWeJq83u8SNFZ4mrze7xI0Vng",
        "pmb_",
        "something",
        "a.b.c",
        "eyJhbGciOiJIUzI1NiJ9.e30.x",
        "....",
    ] {
        let answer = pombo.api().with_token(wrong).get("/v1/tokens").await;
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"pombo\"");
        assert_eq!(answer.status, 401, "{wrong}");
        seen.insert(answer.text);
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    let missing = pombo.api().get("/v1/tokens").await;
    assert!(missing.text.contains("x-api-key"), "{}", missing.text);
    missing.expect(401);
}

#[tokio::test]
async fn the_operators_token_of_the_settings_opens_everything() {
    let world = World::new().await;
    let path = world.config.directory().join("operator");
    std::fs::write(
        &path,
        "an operator's token of the settings\n".replace([' ', '\''], "-"),
    )
    .expect("a written token");
    let world = world.change(&format!("[api]\noperator_token_file = {path:?}"));
    let pombo = world.config.start().await;
    let operator = pombo
        .api()
        .with_token("an-operator-s-token-of-the-settings");
    let body = json!({"tenantId": "acme", "name": "n"});
    operator.post("/v1/tokens", &body).await.expect(201);
    assert_eq!(
        status_with(&pombo, "an-operator-s-token-of-the-setting").await,
        401
    );
}

#[tokio::test]
async fn failures_of_one_address_are_limited_and_valid_tokens_go_on() {
    let world =
        World::with("[api]\nfailed_auth_per_minute = 5\ntrusted_proxies = [\"127.0.0.0/8\"]").await;
    let pombo = world.config.start().await;
    let token = world.webhooks.tenant_token("acme").await;
    let from = |address: &str| pombo.api().with_header("x-forwarded-for", address);
    let attacker = from("198.51.100.7");
    for _ in 0..5 {
        attacker
            .with_token("pmb_guess")
            .get("/v1/tokens")
            .await
            .expect(401);
    }
    let refused = attacker.with_token("pmb_guess").get("/v1/tokens").await;
    let wait: u32 = refused.header("retry-after").parse().expect("seconds");
    assert!((1..=12).contains(&wait), "{wait}");
    assert_eq!(refused.expect(429)["type"], "urn:pombo:problem:too-many");
    // Behind the same address a tenant goes on, even when the attacker does too.
    let neighbour = attacker.with_token(&token);
    neighbour.get("/v1/tokens").await.expect(200);
    for _ in 0..50 {
        attacker
            .with_token("pmb_guess")
            .get("/v1/tokens")
            .await
            .expect(429);
    }
    neighbour.get("/v1/tokens").await.expect(200);
    // What the client itself says before its proxy's word counts for nothing, and other addresses are others.
    let forged = from("203.0.113.1, 198.51.100.7").with_token("pmb_guess");
    forged.get("/v1/tokens").await.expect(429);
    let other = from("203.0.113.1").with_token("pmb_guess");
    other.get("/v1/tokens").await.expect(401);
    for host in ["1", "2", "3", "4", "5", "6"] {
        let same = from(&format!("2001:db8:1:2::{host}")).with_token("pmb_guess");
        same.get("/v1/tokens")
            .await
            .expect(if host == "6" { 429 } else { 401 });
    }
    // Whoever sends no token at all is told so, and guesses nothing.
    attacker.get("/v1/tokens").await.expect(401);
}
