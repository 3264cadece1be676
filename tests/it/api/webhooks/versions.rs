//! Versions: a change can be made to depend on what its author saw.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::{Platform, hook, path_of};

#[tokio::test]
async fn a_change_of_a_version_that_is_no_more_is_refused() {
    let platform = Platform::new().await;
    let made = platform
        .acme
        .post("/v1/webhooks", &hook("https://example.com/"))
        .await;
    let first = made.header("etag").to_owned();
    let path = path_of(&made.json);
    assert_eq!(platform.acme.get(&path).await.header("etag"), first);
    let ask = async |method: Method, suffix: &str, tag: &str, body: serde_json::Value| {
        let path = format!("{path}{suffix}");
        let sent = platform.acme.send(method, &path, |request| {
            request.header("if-match", tag).json(&body)
        });
        sent.await
    };
    let changed = ask(Method::PATCH, "", &first, json!({ "name": "Second" })).await;
    assert_eq!(changed.status, 200);
    let second = changed.header("etag").to_owned();
    assert_ne!(first, second);

    for (method, suffix) in [
        (Method::PATCH, ""),
        (Method::DELETE, ""),
        (Method::POST, "/secret/rotate"),
    ] {
        for stale in [first.as_str(), "\"\"", "garbage", &format!("W/{second}")] {
            let body = if suffix.is_empty() {
                json!({ "name": "Third" })
            } else {
                json!({})
            };
            let refused = ask(method.clone(), suffix, stale, body).await;
            assert_eq!(refused.status, 412, "{method} {stale}: {}", refused.text);
        }
    }
    assert_eq!(platform.acme.get(&path).await.json["name"], "Second");
    let tags = format!("\"other\", {second}");
    let third = ask(Method::PATCH, "", &tags, json!({ "name": "Third" })).await;
    assert_eq!(third.status, 200);
    let rotated = ask(
        Method::POST,
        "/secret/rotate",
        third.header("etag"),
        json!({}),
    )
    .await;
    assert_eq!(rotated.status, 200);
    assert_ne!(rotated.header("etag"), third.header("etag"));
    assert_eq!(
        ask(Method::PATCH, "", "*", json!({ "name": "Fourth" }))
            .await
            .status,
        200
    );
    assert_eq!(ask(Method::DELETE, "", "*", json!({})).await.status, 204);
    assert_eq!(ask(Method::DELETE, "", "*", json!({})).await.status, 404);
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_made() {
    let platform = Platform::new().await;
    let made = platform
        .acme
        .post("/v1/webhooks", &hook("https://example.com/"))
        .await
        .expect(201);
    let path = path_of(&made);
    let changes = [
        json!({ "name": "New" }),
        json!({ "description": "New" }),
        json!({ "timeoutMs": 1000 }),
        json!({ "maxInFlight": 3 }),
    ];
    let answers = join_all(
        changes
            .iter()
            .map(|change| platform.acme.patch(&path, change)),
    )
    .await;
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{answers:#?}"
    );
    let found = platform.acme.get(&path).await.expect(200);
    for change in changes {
        for (field, value) in change.as_object().expect("an object") {
            assert_eq!(found[field], *value, "{field}");
        }
    }
}

#[tokio::test]
async fn of_changes_of_one_version_at_the_same_time_one_is_made() {
    let platform = Platform::new().await;
    let made = platform
        .acme
        .post("/v1/webhooks", &hook("https://example.com/"))
        .await;
    let (path, tag) = (path_of(&made.json), made.header("etag").to_owned());
    let answers = join_all((0..8).map(|n| {
        let body = json!({ "name": format!("name {n}") });
        let tag = tag.clone();
        platform.acme.send(Method::PATCH, &path, move |request| {
            request.header("if-match", tag).json(&body)
        })
    }))
    .await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
}
