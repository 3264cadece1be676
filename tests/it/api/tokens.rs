//! Tokens from their making to their end.

use serde_json::json;

use crate::support::api::ApiClient;
use crate::support::pombo::{Pombo, World};
use crate::support::wait::until;

async fn started(world: &World) -> (Pombo, ApiClient) {
    let pombo = world.config.start().await;
    let operator = world.webhooks.operator_token().await;
    let client = pombo.api().with_token(&operator);
    (pombo, client)
}

/// What a client with this token is answered: 200 if the token is accepted.
async fn status_with(pombo: &Pombo, token: &str) -> u16 {
    pombo.api().with_token(token).get("/v1/tokens").await.status
}

#[tokio::test]
async fn the_operator_makes_a_token_for_a_tenant_who_then_makes_and_ends_its_own() {
    let world = World::new().await;
    let (pombo, operator) = started(&world).await;
    let answer = operator
        .post("/v1/tokens", &json!({"tenantId": "acme", "name": "first"}))
        .await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let first = answer.expect(201);
    assert_eq!(first["tenantId"], "acme");
    assert_eq!(first["name"], "first");
    assert!(first["createdAt"].as_str().expect("a time").ends_with('Z'));
    let text = first["token"].as_str().expect("a token");
    assert!(text.starts_with("pmb_") && text.len() == 47, "{text}");

    let tenant = pombo.api().with_token(text);
    let second = tenant.post("/v1/tokens", &json!({"name": "second"})).await;
    let second = second.expect(201);
    assert_eq!(second["tenantId"], "acme");
    let listed = tenant.get("/v1/tokens").await.expect(200);
    let names: Vec<_> = listed.as_array().expect("a list").iter().collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[0]["name"], "second", "newest first");
    let masked = format!("pmb_…{}", &text[text.len() - 4..]);
    assert_eq!(names[1]["token"], masked.as_str());

    let second_text = second["token"].as_str().expect("a token").to_owned();
    assert_eq!(status_with(&pombo, &second_text).await, 200);
    let path = format!("/v1/tokens/{}", second["id"].as_str().expect("an id"));
    let ended = tenant.delete(&path).await;
    assert_eq!((ended.status, ended.text.as_str()), (204, ""));
    assert_eq!(status_with(&pombo, &second_text).await, 401);
    tenant.delete(&path).await.expect(404);
    let listed = tenant.get("/v1/tokens").await.expect(200);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_tenant_neither_sees_nor_touches_tokens_of_others() {
    let world = World::new().await;
    let (pombo, operator) = started(&world).await;
    let acme = world.webhooks.tenant_token("acme").await;
    let acme = pombo.api().with_token(&acme);
    let made = async |body| operator.post("/v1/tokens", &body).await;
    let others = made(json!({"tenantId": "other", "name": "theirs"}))
        .await
        .expect(201);
    let root = made(json!({"operator": true, "name": "root"}))
        .await
        .expect(201);
    assert_eq!(root["operator"], true);
    assert!(root.get("tenantId").is_none());

    for id in [&others["id"], &root["id"]] {
        let path = format!("/v1/tokens/{}", id.as_str().expect("an id"));
        let foreign = acme.delete(&path).await;
        let unknown = acme.delete("/v1/tokens/tok_nothing").await;
        assert_eq!((foreign.status, &foreign.text), (404, &unknown.text));
    }
    assert_eq!(acme.delete("/v1/tokens/%FF").await.status, 404);
    let listed = acme.get("/v1/tokens").await.expect(200);
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    for refused in [
        acme.get("/v1/tokens?tenantId=other").await,
        acme.post("/v1/tokens", &json!({"tenantId": "other", "name": "x"}))
            .await,
        acme.post("/v1/tokens", &json!({"operator": true, "name": "x"}))
            .await,
        acme.post("/v1/tokens/regenerate", &json!({"tenantId": "other"}))
            .await,
    ] {
        refused.expect(403);
    }
    let text = others["token"].as_str().expect("a token");
    assert_eq!(status_with(&pombo, text).await, 200);

    let all = operator.get("/v1/tokens").await.expect(200);
    assert_eq!(all.as_array().map(Vec::len), Some(4), "{all}");
    let theirs = operator.get("/v1/tokens?tenantId=other").await.expect(200);
    assert_eq!(theirs.as_array().map(Vec::len), Some(1), "{theirs}");
    let root = root["token"].as_str().expect("a token");
    let all = pombo.api().with_token(root).get("/v1/tokens").await;
    assert_eq!(all.expect(200).as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn regenerating_ends_the_old_tokens_at_once_or_after_the_grace() {
    let world = World::new().await;
    let (pombo, operator) = started(&world).await;
    let old = world.webhooks.tenant_token("acme").await;
    let other = world.webhooks.tenant_token("other").await;
    let tenant = pombo.api().with_token(&old);

    let new = tenant
        .post("/v1/tokens/regenerate", &json!({"graceSeconds": 3600}))
        .await
        .expect(201);
    let new = new["token"].as_str().expect("a token").to_owned();
    assert_eq!(status_with(&pombo, &old).await, 200);
    assert_eq!(status_with(&pombo, &new).await, 200);
    let listed = tenant.get("/v1/tokens").await.expect(200);
    assert!(listed[0].get("expiresAt").is_none(), "{listed}");
    let ends = listed[1]["expiresAt"].as_str().expect("an end").to_owned();

    // A longer grace does not lengthen one that runs, and the operator may do it without a body's name.
    let body = json!({"tenantId": "acme", "graceSeconds": 7200});
    let newer = operator.post("/v1/tokens/regenerate", &body).await;
    let newer = newer.expect(201)["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let listed = tenant.get("/v1/tokens").await.expect(200);
    assert_eq!(listed[2]["expiresAt"], ends.as_str(), "{listed}");

    // Without a body at all: at once.
    let tenant = pombo.api().with_token(&newer);
    let newest = tenant
        .send(reqwest::Method::POST, "/v1/tokens/regenerate", |request| {
            request
        })
        .await
        .expect(201);
    assert_eq!(newest["name"], "regenerated");
    for ended in [&old, &new, &newer] {
        assert_eq!(status_with(&pombo, ended).await, 401);
    }
    let newest = newest["token"].as_str().expect("a token");
    assert_eq!(status_with(&pombo, newest).await, 200);
    assert_eq!(status_with(&pombo, &other).await, 200);
}

#[tokio::test]
async fn a_token_ends_when_it_was_said_to_and_leaves_nothing_behind() {
    let world = World::new().await;
    let (pombo, operator) = started(&world).await;
    let soon = ::pombo::clock::rfc3339_ms(::pombo::clock::Clock::system().unix_ms() + 1_500);
    let body = json!({"tenantId": "acme", "name": "short", "expiresAt": soon});
    let made = operator.post("/v1/tokens", &body).await.expect(201);
    assert_eq!(made["expiresAt"], soon.as_str());
    let text = made["token"].as_str().expect("a token");
    until(
        "the end of the token",
        async || status_with(&pombo, text).await,
        |status| *status == 401,
    )
    .await;
    until(
        "a list without it",
        async || {
            let listed = operator.get("/v1/tokens?tenantId=acme").await;
            listed.expect(200).as_array().map(Vec::len)
        },
        |count| *count == Some(0),
    )
    .await;
    let id = made["id"].as_str().expect("an id");
    for index in ["token-ids", "tenant:acme:tokens"] {
        let mut command = redis::cmd("ZSCORE");
        command.arg(format!("pombo:{{cfg}}:{index}")).arg(id);
        let score: Option<u64> = world.redis.query(&command).await;
        assert_eq!(score, None, "{index}");
    }
    let mut command = redis::cmd("HEXISTS");
    command.arg("pombo:{cfg}:tokens").arg(id);
    assert!(!world.redis.query::<bool>(&command).await);
}

#[tokio::test]
async fn everything_wrong_with_a_token_that_is_asked_for_is_told_at_once() {
    let world = World::new().await;
    let (_pombo, operator) = started(&world).await;
    let body =
        json!({"name": "", "expiresAt": "2001-01-01T00:00:00Z", "operator": "yes", "nmae": 1});
    let answer = operator.post("/v1/tokens", &body).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let mut refused = answer.refused();
    refused.sort();
    assert_eq!(refused, ["/expiresAt", "/name", "/nmae", "/operator"]);
    let nameless = operator.post("/v1/tokens", &json!({})).await;
    assert_eq!(nameless.refused(), ["/name"]);
    let body = json!({"tenantId": "acme", "operator": true, "name": "x"});
    assert_eq!(
        operator.post("/v1/tokens", &body).await.refused(),
        ["/operator"]
    );
    let body = json!({"tenantId": "acme", "graceSeconds": 604_801});
    let answer = operator.post("/v1/tokens/regenerate", &body).await;
    assert_eq!(answer.refused(), ["/graceSeconds"]);
    assert_eq!(operator.get("/v1/tokens?page=2").await.status, 422);
}

#[tokio::test]
async fn a_tenant_has_a_thousand_tokens_at_most_and_ended_ones_make_room() {
    let world = World::new().await;
    let (pombo, operator) = started(&world).await;
    let first = world.webhooks.tenant_token("acme").await;
    // 998 ids whose tokens are there, and one whose token has ended.
    let mut commands = redis::pipe();
    for number in 0..999 {
        let id = format!("tok_{number}");
        commands
            .cmd("ZADD")
            .arg("pombo:{cfg}:tenant:acme:tokens")
            .arg(number)
            .arg(&id);
        commands
            .cmd("HSET")
            .arg("pombo:{cfg}:tokens")
            .arg(&id)
            .arg(number);
        if number > 0 {
            let body = json!({"v": 1, "id": id, "tenant": "acme", "name": "n", "hint": "abcd", "created_ms": number});
            commands
                .cmd("HSET")
                .arg(format!("pombo:{{cfg}}:token:{number}"))
                .arg("body")
                .arg(body.to_string());
        }
    }
    world.redis.pipeline(&commands).await;
    let body = json!({"tenantId": "acme", "name": "n"});
    operator.post("/v1/tokens", &body).await.expect(201);
    operator.post("/v1/tokens", &body).await.expect(409);
    let grace = json!({"graceSeconds": 60});
    let tenant = pombo.api().with_token(&first);
    tenant
        .post("/v1/tokens/regenerate", &grace)
        .await
        .expect(409);
    let listed = tenant.get("/v1/tokens").await.expect(200);
    assert_eq!(listed.as_array().map(Vec::len), Some(1_000));
    tenant
        .post("/v1/tokens/regenerate", &json!({}))
        .await
        .expect(201);
    let listed = operator.get("/v1/tokens?tenantId=acme").await.expect(200);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
}
