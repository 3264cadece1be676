//! Whose webhooks these are: tenants see their own, the operator all.

use serde_json::json;

use super::{Platform, hook, path_of};
use crate::support::receiver::Receiver;

#[tokio::test]
async fn nobody_can_see_or_touch_the_webhooks_of_another_tenant() {
    let platform = Platform::new().await;
    let other = platform.tenant("other").await;
    let receiver = Receiver::start().await;
    let body = hook(&receiver.url("/"));
    let made = platform.acme.post("/v1/webhooks", &body).await.expect(201);
    let (path, nowhere) = (path_of(&made), "/v1/webhooks/wh_AAAAAAAAAAAAAAAAAAAAAA");
    for suffix in ["", "/secret/rotate", "/test"] {
        for (method, body) in [
            ("GET", None),
            ("DELETE", None),
            ("PATCH", Some(json!({ "name": "mine" }))),
            ("POST", Some(json!({}))),
        ] {
            let ask = async |path: &str| {
                let method = method.parse().expect("a method");
                let path = format!("{path}{suffix}");
                let asked = other.send(method, &path, |request| {
                    let request = request.header("if-match", "\"x\"");
                    match &body {
                        Some(body) => request.json(body),
                        None => request,
                    }
                });
                asked.await
            };
            let (theirs, nothing) = (ask(&path).await, ask(nowhere).await);
            assert!(
                matches!(theirs.status, 404 | 405),
                "{method} {suffix}: {}",
                theirs.text
            );
            assert_eq!((theirs.status, theirs.text), (nothing.status, nothing.text));
        }
    }
    assert_eq!(other.get("/v1/webhooks").await.expect(200), json!([]));
    let after = format!("/v1/webhooks?after={}", made["id"].as_str().expect("an id"));
    assert_eq!(other.get(&after).await.status, 422);
    assert_eq!(other.get("/v1/webhooks?tenantId=acme").await.status, 403);
    let mut theirs = body.clone();
    theirs["tenantId"] = json!("acme");
    assert_eq!(other.post("/v1/webhooks", &theirs).await.status, 403);
    assert_eq!(platform.acme.get(&path).await.expect(200), made);
    assert!(receiver.received().is_empty());

    for path in ["/v1/webhooks", "/v1/webhooks/events", &path] {
        assert_eq!(platform.pombo.api().get(path).await.status, 401);
    }
}

#[tokio::test]
async fn the_operator_serves_all_tenants_and_lists_page_by_page() {
    let platform = Platform::new().await;
    let mut made = Vec::new();
    for (n, tenant) in ["acme", "other", "acme"].into_iter().enumerate() {
        let mut body = hook("https://example.com/");
        body["name"] = json!(format!("hook {n}"));
        body["tenantId"] = json!(tenant);
        let answer = platform.operator.post("/v1/webhooks", &body).await;
        made.push(answer.expect(201)["id"].as_str().expect("an id").to_owned());
    }
    let body = hook("https://example.com/");
    let of_default = platform
        .operator
        .post("/v1/webhooks", &body)
        .await
        .expect(201);
    assert_eq!(of_default["tenantId"], "default");
    let listed = async |query: &str| -> Vec<String> {
        let answer = platform.operator.get(&format!("/v1/webhooks{query}")).await;
        let list = answer.expect(200);
        let list = list.as_array().expect("a list");
        assert!(list.iter().all(|webhook| webhook.get("secret").is_none()));
        list.iter()
            .map(|webhook| webhook["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    assert_eq!(listed("").await.len(), 4);
    let mut acmes = listed("?tenantId=acme").await;
    assert_eq!(acmes.len(), 2);
    acmes.sort();
    let mut expected = vec![made[0].clone(), made[2].clone()];
    expected.sort();
    assert_eq!(acmes, expected);
    let (mut walked, mut query) = (Vec::new(), "?limit=3".to_owned());
    loop {
        let page = listed(&query).await;
        walked.extend(page.iter().cloned());
        if page.len() < 3 {
            break;
        }
        query = format!("?limit=3&after={}", page[2]);
    }
    assert_eq!(walked, listed("").await);
    for wrong in [
        "?limit=0",
        "?limit=10001",
        "?limit=x",
        "?after=nobody",
        "?colour=red",
    ] {
        let answer = platform.operator.get(&format!("/v1/webhooks{wrong}")).await;
        assert_eq!(answer.status, 422, "{wrong}");
        assert_eq!(
            answer.refused(),
            [wrong[1..].split_once('=').expect("a name").0]
        );
    }
}

#[tokio::test]
async fn a_thousand_webhooks_are_listed_with_their_counts() {
    let platform = Platform::new().await;
    let store = platform.world.webhooks.store();
    for n in 0..1_000 {
        let id = format!("hook-{n:04}");
        let made = platform
            .world
            .webhooks
            .make(&id, "https://example.com/", &["*"], |spec| {
                spec.tenant = "acme".into()
            })
            .await;
        if n == 7 {
            let key = store.keys().stats(store.shard_of(&id), &made.uid);
            let _: u64 = platform
                .world
                .redis
                .run(&format!("HSET {key} success 3 failed 1"))
                .await;
        }
    }
    let started = tokio::time::Instant::now();
    let listed = platform.acme.get("/v1/webhooks").await.expect(200);
    println!("1,000 webhooks listed in {:?}", started.elapsed());
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), 1_000);
    assert_eq!(
        listed[7]["stats"],
        json!({ "totalDeliveries": 4, "successCount": 3, "failedCount": 1, "successRate": 0.75 })
    );
    assert_eq!(listed[8]["stats"]["successRate"], 0.0);
    let ids: Vec<&str> = listed
        .iter()
        .filter_map(|webhook| webhook["id"].as_str())
        .collect();
    assert!(ids.is_sorted(), "they are in the order of their creation");
}

#[tokio::test]
async fn the_tenants_field_has_the_name_of_the_setting() {
    let platform = Platform::with("[api]\ntenant_field = \"officeId\"\nbase_path = \"/\"").await;
    let mut body = hook("https://example.com/");
    body["officeId"] = json!("acme");
    let made = platform.acme.post("/webhooks", &body).await.expect(201);
    assert_eq!(
        (&made["officeId"], made.get("tenantId")),
        (&json!("acme"), None)
    );
    let listed = platform
        .operator
        .get("/webhooks?officeId=acme")
        .await
        .expect(200);
    assert_eq!(listed[0]["officeId"], "acme");
    let refused = platform.operator.get("/webhooks?tenantId=acme").await;
    assert_eq!(refused.refused(), ["tenantId"]);
}
