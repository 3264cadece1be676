//! Every field at its edges, and everything that is wrong at once.

use serde_json::{Value, json};

use super::{Platform, hook, path_of};

/// Values of one field at its edges, and just beyond.
fn edges() -> Vec<(&'static str, Vec<Value>, Vec<Value>)> {
    let long = |n: usize| Value::from("é".repeat(n));
    let events = |n: usize| Value::from(vec!["a.b"; n]);
    let headers = |n: usize| -> Value {
        let all = (0..n).map(|n| (format!("x-{n}"), json!("v")));
        Value::Object(all.collect())
    };
    let url = |n: usize| format!("https://example.com/{}", "x".repeat(n - 20));
    vec![
        (
            "name",
            vec![json!("x"), long(100)],
            vec![json!(""), long(101), json!("a\u{7}"), json!(1), Value::Null],
        ),
        (
            "description",
            vec![long(500), json!(""), Value::Null],
            vec![long(501), json!(["x"])],
        ),
        (
            "url",
            vec![
                json!(url(2048)),
                json!("http://127.0.0.1:1/x?y=z"),
                json!("HTTPS://exämple.com/ü"),
            ],
            vec![
                json!(url(2049)),
                json!("ftp://example.com"),
                json!("http:example.com"),
                json!("/relative"),
                json!("https://user:geheim@example.com"),
                json!("https://"),
                json!("http://10.0.0.1/"),
                json!("http://[::1]:0/"),
                json!("https://example.com/a b"),
                Value::Null,
            ],
        ),
        (
            "events",
            vec![events(1), events(100)],
            vec![json!([]), events(101), json!("a.b"), Value::Null],
        ),
        (
            "isActive",
            vec![json!(false)],
            vec![json!("false"), json!(0), Value::Null],
        ),
        (
            "headers",
            vec![
                headers(32),
                json!({}),
                Value::Null,
                json!({ "x-long": "v".repeat(1024), "Authorization": "Bearer x" }),
            ],
            vec![headers(33), json!([]), json!("x")],
        ),
        (
            "rateLimit",
            vec![
                json!({ "perSecond": 0.0001 }),
                json!({ "perSecond": 100_000, "burst": 100_000 }),
                Value::Null,
            ],
            vec![json!(5), json!([])],
        ),
        (
            "maxInFlight",
            vec![json!(1), json!(10_000), json!(2.0), Value::Null],
            vec![
                json!(0),
                json!(10_001),
                json!(-1),
                json!(1.5),
                json!(u64::MAX),
            ],
        ),
        (
            "timeoutMs",
            vec![json!(100), json!(300_000), Value::Null],
            vec![json!(99), json!(300_001), json!("15s")],
        ),
        (
            "retry",
            vec![
                json!({}),
                json!({ "firstMs": 100, "factor": 1, "longestMs": 100, "jitter": 0, "maxAttempts": 1, "maxAgeMs": 100 }),
                json!({ "firstMs": 2_592_000_000u64, "factor": 100, "longestMs": 2_592_000_000u64, "jitter": 1,
                        "maxAttempts": 1000, "maxAgeMs": 31_536_000_000u64 }),
                Value::Null,
            ],
            vec![json!("often")],
        ),
        (
            "ordering",
            vec![json!("fifo"), json!("none"), Value::Null],
            vec![json!("lifo"), json!(1)],
        ),
        (
            "bodyMode",
            vec![json!("payload"), json!("envelope"), Value::Null],
            vec![json!("both")],
        ),
        (
            "signatureScheme",
            vec![
                json!("hex"),
                json!("sha256"),
                json!("timestamped"),
                Value::Null,
            ],
            vec![json!("md5")],
        ),
    ]
}

#[tokio::test]
async fn every_field_is_taken_up_to_its_edge_and_refused_beyond_it() {
    let platform = Platform::new().await;
    let plain = platform
        .acme
        .post("/v1/webhooks", &hook("https://example.com/"))
        .await
        .expect(201);
    for (field, fine, wrong) in edges() {
        for value in fine {
            let mut body = hook("https://example.com/");
            body[field] = value.clone();
            let answer = platform.acme.post("/v1/webhooks", &body).await;
            assert_eq!(answer.status, 201, "{field} {value}: {}", answer.text);
            let changed = platform
                .acme
                .patch(&path_of(&plain), &json!({ (field): value }))
                .await;
            assert_eq!(changed.status, 200, "{field} {value}: {}", changed.text);
        }
        for value in wrong {
            let mut body = hook("https://example.com/");
            body[field] = value.clone();
            let answer = platform.acme.post("/v1/webhooks", &body).await;
            assert_eq!(
                (answer.status, answer.refused()),
                (422, vec![format!("/{field}")]),
                "{value}: {}",
                answer.text
            );
            assert!(!answer.text.contains("geheim"), "{}", answer.text);
            let changed = platform
                .acme
                .patch(&path_of(&plain), &json!({ (field): value }))
                .await;
            assert_eq!(
                (changed.status, changed.refused()),
                (422, vec![format!("/{field}")]),
                "{value}"
            );
        }
    }
}

#[tokio::test]
async fn every_mistake_is_told_at_once_and_no_secret_is_told_back() {
    let platform = Platform::new().await;
    let body = json!({
        "name": "",
        "url": "https://me:geheim@example.com/geheim",
        "events": ["a..b", "x*"],
        "secret": "geheim",
        "headers": { "host": "geheim", "x-b": "gehéim", "x-c": 3, "X-D": "1", "x-d": "2", "bad name": "geheim" },
        "rateLimit": { "perSecond": 0, "burst": 0, "per": 1 },
        "timeoutMs": 1,
        "retry": { "firstMs": 1, "maxAgeMs": -1, "jitter": "much" },
        "ordering": "lifo",
        "webhookUrl": "geheim",
    });
    let answer = platform.acme.post("/v1/webhooks", &body).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let mut refused = answer.refused();
    refused.sort();
    assert_eq!(
        refused,
        [
            "/events/0",
            "/events/1",
            "/headers/bad name",
            "/headers/host",
            "/headers/x-b",
            "/headers/x-c",
            "/headers/x-d",
            "/name",
            "/ordering",
            "/rateLimit/burst",
            "/rateLimit/per",
            "/rateLimit/perSecond",
            "/retry/firstMs",
            "/retry/jitter",
            "/retry/maxAgeMs",
            "/secret",
            "/timeoutMs",
            "/url",
            "/webhookUrl",
        ]
    );
    assert!(!answer.text.contains("geh"), "{}", answer.text);

    let empty = platform.acme.post("/v1/webhooks", &json!({})).await;
    assert_eq!(empty.refused(), ["/name", "/url", "/events"]);
}

#[tokio::test]
async fn a_change_says_what_is_to_be_different_and_nothing_else_changes() {
    let platform = Platform::new().await;
    let mut body = hook("https://example.com/");
    body["description"] = json!("old");
    body["headers"] = json!({ "X-Team": "a", "x-other": "b" });
    body["rateLimit"] = json!({ "perSecond": 2.5, "burst": 3 });
    body["retry"] = json!({ "firstMs": 200, "maxAttempts": 3 });
    body["maxInFlight"] = json!(4);
    body["timeoutMs"] = json!(1500);
    body["ordering"] = json!("fifo");
    body["bodyMode"] = json!("payload");
    body["signatureScheme"] = json!("hex");
    let made = platform.acme.post("/v1/webhooks", &body).await.expect(201);
    for field in [
        "headers",
        "rateLimit",
        "retry",
        "maxInFlight",
        "timeoutMs",
        "ordering",
        "bodyMode",
        "signatureScheme",
    ] {
        assert_eq!(made[field], body[field], "{field}");
    }
    let path = path_of(&made);
    let same = platform.acme.patch(&path, &json!({})).await;
    let mut expected = made.clone();
    expected
        .as_object_mut()
        .expect("an object")
        .remove("secret");
    assert_eq!(same.json, expected);

    let change = json!({ "events": ["x"], "headers": { "x-new": "1" }, "retry": { "factor": 2 }, "description": null });
    let changed = platform.acme.patch(&path, &change).await.expect(200);
    assert_eq!(changed["events"], json!(["x"]));
    assert_eq!(changed["headers"], json!({ "x-new": "1" }));
    assert_eq!(changed["retry"], json!({ "factor": 2.0 }));
    assert_eq!(changed["description"], Value::Null);
    assert_eq!(changed["rateLimit"], body["rateLimit"]);
    assert!(changed.get("secret").is_none());

    let clear = json!({ "headers": null, "rateLimit": null, "retry": null, "maxInFlight": null, "timeoutMs": null,
                        "ordering": null, "bodyMode": null, "signatureScheme": null });
    let cleared = platform.acme.patch(&path, &clear).await.expect(200);
    let fields: Vec<&String> = cleared.as_object().expect("an object").keys().collect();
    assert_eq!(
        fields,
        [
            "createdAt",
            "description",
            "events",
            "headers",
            "id",
            "isActive",
            "name",
            "ordering",
            "tenantId",
            "updatedAt",
            "url"
        ]
    );
    assert_eq!(
        (&cleared["headers"], &cleared["ordering"]),
        (&json!({}), &json!("none"))
    );

    let refused = platform
        .acme
        .patch(
            &path,
            &json!({ "secret": "0123456789abcdef", "tenantId": "acme", "id": "x" }),
        )
        .await;
    assert_eq!(refused.refused(), ["/secret", "/tenantId", "/id"]);
    assert!(refused.text.contains("/secret/rotate"), "{}", refused.text);
}

#[tokio::test]
async fn a_stored_webhook_that_stricter_settings_refuse_can_still_be_paused() {
    let platform = Platform::with("[targets]\nhttps_only = true").await;
    let made = platform
        .world
        .webhooks
        .all("old", "http://example.com/")
        .await;
    let paused = platform
        .operator
        .patch("/v1/webhooks/old", &json!({ "isActive": false }))
        .await;
    paused.expect(200);
    let change = json!({ "url": "http://example.com/" });
    assert_eq!(
        platform
            .operator
            .patch("/v1/webhooks/old", &change)
            .await
            .refused(),
        ["/url"]
    );
    let found = platform.world.webhooks.get("old").await.expect("a webhook");
    assert_eq!(
        (found.spec.active, found.version),
        (false, made.version + 1)
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_told_as_such() {
    let platform = Platform::new().await;
    for (content_type, body, status) in [
        ("application/json", "{", 400),
        ("application/json", "[]", 422),
        ("text/plain", "{}", 415),
        ("application/json", "\u{0}", 400),
    ] {
        let sent = platform
            .acme
            .send(reqwest::Method::POST, "/v1/webhooks", |request| {
                request.header("content-type", content_type).body(body)
            });
        let answer = sent.await;
        assert_eq!(answer.status, status, "{body:?}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    for id in ["%ff", "%00", "a.b", &"x".repeat(65), "wh_%2F"] {
        assert_eq!(
            platform
                .acme
                .get(&format!("/v1/webhooks/{id}"))
                .await
                .status,
            404,
            "{id}"
        );
    }
}

#[tokio::test]
async fn a_tenant_can_make_so_many_webhooks_and_no_more() {
    let platform = Platform::new().await;
    let key = platform
        .world
        .webhooks
        .store()
        .keys()
        .tenant_webhooks("acme");
    let mut fill = redis::cmd("ZADD");
    fill.arg(&key);
    for n in 0..10_000 {
        fill.arg(n).arg(format!("hook-{n}"));
    }
    let _: u64 = platform.world.redis.query(&fill).await;
    let refused = platform
        .acme
        .post("/v1/webhooks", &hook("https://example.com/"))
        .await;
    assert_eq!(refused.status, 409);
    assert!(refused.text.contains("10000"), "{}", refused.text);
    platform
        .operator
        .post("/v1/webhooks", &hook("https://example.com/"))
        .await
        .expect(201);
}
