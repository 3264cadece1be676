//! Secrets: chosen, shown where they may be, and replaced.

use serde_json::{Value, json};

use super::{Platform, hook, path_of};

#[tokio::test]
async fn a_secret_can_be_chosen_and_is_shown_in_three_places_only() {
    let platform = Platform::new().await;
    for (secret, fits) in [
        ("s".repeat(16), true),
        ("s".repeat(512), true),
        ("s".repeat(15), false),
        ("s".repeat(513), false),
        ("0123456789abcde\n".to_owned(), false),
        ("0123456789abcdefé".to_owned(), false),
    ] {
        let mut body = hook("https://example.com/");
        body["secret"] = json!(secret);
        let answer = platform.acme.post("/v1/webhooks", &body).await;
        if !fits {
            assert_eq!(
                (answer.status, answer.refused()),
                (422, vec!["/secret".to_owned()])
            );
            assert!(!answer.text.contains(&secret));
            continue;
        }
        let made = answer.expect(201);
        assert_eq!(made["secret"], secret);
        let path = path_of(&made);
        assert_eq!(platform.acme.get(&path).await.json["secret"], secret);
        let listed = platform.acme.get("/v1/webhooks").await;
        assert!(!listed.text.contains(&secret));
        let changed = platform
            .acme
            .patch(&path, &json!({ "name": "Other" }))
            .await;
        assert!(!changed.text.contains(&secret));
    }
}

#[tokio::test]
async fn a_secret_is_replaced_with_a_time_in_which_both_sign() {
    let platform = Platform::new().await;
    let made = platform
        .acme
        .post("/v1/webhooks", &hook("https://example.com/"))
        .await
        .expect(201);
    let (path, id) = (path_of(&made), made["id"].as_str().expect("an id"));
    let rotate = format!("{path}/secret/rotate");
    let before = pombo::clock::Clock::system().unix_ms();
    let rotated = platform
        .acme
        .send(reqwest::Method::POST, &rotate, |request| request)
        .await;
    let first = rotated.expect(200);
    assert_ne!(first["secret"], made["secret"]);
    assert_ne!(first["secretRotationEndsAt"], Value::Null);
    let kept = platform.world.webhooks.get(id).await.expect("a webhook");
    let ends = kept.rotation_ends_ms.expect("an end");
    assert!((before + 86_400_000..before + 86_460_000).contains(&ends));
    let texts = |webhook: &pombo::webhook::Webhook| -> Vec<String> {
        webhook
            .secrets
            .iter()
            .map(|secret| secret.expose().to_owned())
            .collect()
    };
    assert_eq!(
        texts(&kept),
        [first["secret"].clone(), made["secret"].clone()]
    );

    let chosen = json!({ "graceSeconds": 2_592_000, "secret": "a secret of our own" });
    let second = platform.acme.post(&rotate, &chosen).await.expect(200);
    assert_eq!(second["secret"], "a secret of our own");
    let kept = platform.world.webhooks.get(id).await.expect("a webhook");
    assert_eq!(
        texts(&kept),
        [second["secret"].clone(), first["secret"].clone()]
    );

    let same = platform
        .acme
        .post(&rotate, &json!({ "secret": "a secret of our own" }))
        .await;
    assert_eq!(same.refused(), ["/secret"]);
    for wrong in [json!(-1), json!(2_592_001), json!("1d"), Value::Null] {
        let answer = platform
            .acme
            .post(&rotate, &json!({ "graceSeconds": wrong }))
            .await;
        assert_eq!(answer.refused(), ["/graceSeconds"]);
    }

    let at_once = platform
        .acme
        .post(&rotate, &json!({ "graceSeconds": 0 }))
        .await
        .expect(200);
    assert_eq!(at_once.get("secretRotationEndsAt"), None);
    let kept = platform.world.webhooks.get(id).await.expect("a webhook");
    assert_eq!(
        (texts(&kept), kept.rotation_ends_ms),
        (
            vec![at_once["secret"].as_str().expect("a secret").to_owned()],
            None
        )
    );
}
