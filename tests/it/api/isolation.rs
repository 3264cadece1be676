//! A tenant can never see, touch or guess another's things: every route of the served document is tried.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::pombo::{Pombo, World};
use crate::support::receiver::{Receiver, Step};
use crate::support::wait::until;

/// A daemon whose routes are walked.
pub struct Case<'a> {
    pub world: &'a World,
    pub pombo: &'a Pombo,
    /// What every path begins with.
    pub base: &'a str,
    /// What the tenant is called.
    pub tenant_field: &'a str,
}

#[tokio::test]
async fn no_route_gives_one_tenant_what_is_anothers() {
    let world = World::new().await;
    let pombo = world.config.start().await;
    let case = Case {
        world: &world,
        pombo: &pombo,
        base: "/v1",
        tenant_field: "tenantId",
    };
    no_route_gives_a_tenants_things_to_another(&case).await;
}

/// Tries every route with the ids of another tenant's things, and with ids of nothing: the answers are the same.
pub async fn no_route_gives_a_tenants_things_to_another(case: &Case<'_>) {
    let api = case.pombo.api();
    let owner = api.with_token(&case.world.webhooks.tenant_token("owner").await);
    let stranger = api.with_token(&case.world.webhooks.tenant_token("stranger").await);
    let operator = api.with_token(&case.world.webhooks.operator_token().await);
    let path = |rest: &str| format!("{}{rest}", case.base);

    // Things of each kind that belong to the owner.
    let receiver = Receiver::start().await;
    receiver.push(Step::status(410));
    let body = json!({ "name": "x", "url": receiver.url("/"), "events": ["webhook.test"] });
    let webhook = owner.post(&path("/webhooks"), &body).await.expect(201);
    let webhook = webhook["id"].as_str().unwrap();
    let active = async || {
        let metrics = case.pombo.metrics().await;
        metrics.value("pombo_webhooks", &[("state", "active")])
    };
    until("the webhook is in force", active, |active| *active == 1.0).await;
    let mut event = json!({ "id": "evt-1", "type": "webhook.test", "payload": {} });
    event[case.tenant_field] = json!("owner");
    operator.post(&path("/events"), &event).await.expect(202);
    let deliveries = path(&format!("/webhooks/{webhook}/deliveries"));
    let page = async || owner.get(&deliveries).await.expect(200);
    let page = until("the delivery is told", page, |page| page["total"] == 1).await;
    let delivery = page["data"][0]["id"].as_str().unwrap();
    let token = owner
        .post(&path("/tokens"), &json!({ "name": "x" }))
        .await
        .expect(201);
    let token = token["id"].as_str().unwrap();
    let retry = path(&format!("/webhooks/{webhook}/deliveries/retry"));
    let job = owner
        .post(&retry, &json!({ "event": "nothing.such" }))
        .await
        .expect(202);
    let job = job["id"].as_str().unwrap();

    let digest = "A".repeat(22);
    let nowhere = format!("wh_nowhere.{digest}");
    let ids = [
        ("{webhookId}", webhook, "wh_nowhere"),
        ("{deliveryId}", delivery, nowhere.as_str()),
        ("{tokenId}", token, "tok_nowhere"),
        ("{jobId}", job, "job_nowhere"),
    ];
    let document = api.get("/openapi.json").await.expect(200);
    let mut tried = 0;
    for (template, operations) in document["paths"].as_object().expect("paths") {
        if !ids
            .iter()
            .any(|(parameter, _, _)| template.contains(parameter))
        {
            continue;
        }
        let fill = |real: bool| {
            ids.iter()
                .fold(template.clone(), |path, (parameter, own, nothing)| {
                    path.replace(parameter, if real { own } else { nothing })
                })
        };
        for name in operations.as_object().expect("operations").keys() {
            let Ok(method) = name.to_ascii_uppercase().parse::<Method>() else {
                continue;
            };
            for body in [
                json!({}),
                json!({ "name": "taken over", "isActive": false }),
            ] {
                let ask = async |path: String| {
                    let answer = stranger
                        .send(method.clone(), &path, |request| match method {
                            Method::GET | Method::DELETE => request,
                            _ => request.json(&body),
                        })
                        .await;
                    (answer.status, without_request(answer.json))
                };
                let theirs = ask(fill(true)).await;
                let nothing = ask(fill(false)).await;
                assert_eq!(theirs, nothing, "{method} {template} tells that it exists");
                assert!(
                    theirs.0 == 404 || theirs.0 == 422,
                    "{method} {template} answered {theirs:?}"
                );
                tried += 1;
            }
        }
    }
    assert!(tried >= 20, "only {tried} requests were tried");

    // Nothing has changed, and lists show nothing.
    for list in ["/webhooks", "/tokens"] {
        let text = stranger.get(&path(list)).await.text;
        for id in [webhook, token, "owner"] {
            assert!(!text.contains(id), "{list} shows {id}: {text}");
        }
    }
    let field = case.tenant_field;
    for list in ["/webhooks", "/tokens"] {
        let named = stranger.get(&path(&format!("{list}?{field}=owner"))).await;
        assert_eq!(named.status, 403, "{}", named.text);
    }
    let mut body =
        json!({ "name": "x", "url": "https://example.com/", "events": ["webhook.test"] });
    body[field] = json!("owner");
    assert_eq!(stranger.post(&path("/webhooks"), &body).await.status, 403);
    assert_eq!(stranger.post(&path("/events"), &event).await.status, 403);
    let traced = stranger.get(&path("/events/evt-1/deliveries")).await;
    assert_ne!(
        traced.json["data"][0]["webhookId"], webhook,
        "{}",
        traced.text
    );
    let shown = owner
        .get(&path(&format!("/webhooks/{webhook}")))
        .await
        .expect(200);
    assert_eq!(shown["name"], "x");
}

/// A problem without what is different for every request.
fn without_request(mut problem: Value) -> Value {
    if let Some(members) = problem.as_object_mut() {
        members.remove("requestId");
        members.remove("instance");
    }
    problem
}
