//! Webhooks over the API, and what they come to in the delivery path.

mod limits;
mod secrets;
mod versions;

use pombo::settings::Secret;
use pombo::signature::verify;
use serde_json::{Value, json};

use crate::support::api::ApiClient;
use crate::support::pombo::{Pombo, World};
use crate::support::receiver::{Received, Receiver};
use crate::support::wait::{stays, until};

const CATALOGUE: &str = r#"[catalogue]
events = [
  { type = "crm.lead.created", description = "Um lead foi criado", sample = '{"id": 1.0}' },
  { type = "crm.lead.deleted" },
  { type = "chat.message", description = "A message" },
]"#;

/// A daemon with clients of the operator and of the tenant `acme`.
struct Platform {
    world: World,
    pombo: Pombo,
    operator: ApiClient,
    acme: ApiClient,
}

impl Platform {
    async fn new() -> Platform {
        Platform::with("").await
    }

    async fn with(toml: &str) -> Platform {
        let world = World::with(toml).await;
        let pombo = world.config.start().await;
        let operator = pombo
            .api()
            .with_token(&world.webhooks.operator_token().await);
        let acme = pombo
            .api()
            .with_token(&world.webhooks.tenant_token("acme").await);
        Platform {
            world,
            pombo,
            operator,
            acme,
        }
    }

    async fn tenant(&self, tenant: &str) -> ApiClient {
        let token = self.world.webhooks.tenant_token(tenant).await;
        self.pombo.api().with_token(&token)
    }

    /// Adds an event of `acme` as the platform would.
    async fn event(&self, id: &str, event_type: &str) {
        let fields = [
            ("id", id),
            ("type", event_type),
            ("tenant", "acme"),
            ("payload", "{}"),
        ];
        self.world.redis.add("events", &fields).await;
    }

    /// Waits until the delivery path knows of every change so far: an event for a webhook made after them arrives.
    async fn known(&self, probe: &Receiver, mark: &str) {
        let body = json!({ "name": mark, "url": probe.url("/"), "events": ["probe"] });
        let made = self.operator.post("/v1/webhooks", &body).await.expect(201);
        let mut number = 0;
        until(
            "the delivery path following the changes",
            async || {
                number += 1;
                let id = format!("{mark}-{number}");
                let fields = [("id", &*id), ("type", "probe"), ("payload", "{}")];
                self.world.redis.add("events", &fields).await;
                self.world.redis.settled("events").await;
                probe.received().len()
            },
            |received| *received > 0,
        )
        .await;
        let path = format!("/v1/webhooks/{}", made["id"].as_str().expect("an id"));
        assert_eq!(self.operator.delete(&path).await.status, 204);
    }
}

fn hook(url: &str) -> Value {
    json!({ "name": "CRM sync", "url": url, "events": ["crm.**"] })
}

fn path_of(webhook: &Value) -> String {
    format!("/v1/webhooks/{}", webhook["id"].as_str().expect("an id"))
}

fn ids(requests: &[Received]) -> Vec<String> {
    requests
        .iter()
        .map(|request| request.header("x-event-id").to_owned())
        .collect()
}

#[tokio::test]
async fn a_customer_registers_a_webhook_and_its_next_lead_arrives_signed() {
    let platform = Platform::with(CATALOGUE).await;
    let receiver = Receiver::start().await;
    let body = json!({
        "name": "CRM sync",
        "description": "Keeps the ERP current",
        "url": receiver.url("/hooks"),
        "events": ["crm.lead.created", "chat.*"],
        "headers": { "X-Team": "integrations" },
    });
    let answer = platform.acme.post("/v1/webhooks", &body).await;
    let id = answer.json["id"].as_str().expect("an id").to_owned();
    assert_eq!(answer.header("location"), format!("/v1/webhooks/{id}"));
    assert!(answer.header("etag").starts_with('"'));
    assert_eq!(answer.header("cache-control"), "no-store");
    let made = answer.expect(201);
    assert!(id.starts_with("wh_") && id.len() == 25, "{id}");
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("whsec_"));
    assert_eq!(
        (&made["tenantId"], &made["isActive"], &made["ordering"]),
        (&json!("acme"), &json!(true), &json!("none"))
    );
    assert_eq!(made["createdAt"], made["updatedAt"]);

    let shown = platform.acme.get(&path_of(&made)).await.expect(200);
    assert_eq!(shown, made);

    until(
        "a lead delivered",
        async || {
            platform.event("evt_lead", "crm.lead.created").await;
            platform.world.redis.settled("events").await;
            receiver.received().len()
        },
        |received| *received > 0,
    )
    .await;
    let request = receiver.received().remove(0);
    assert_eq!(request.header("x-event-id"), "evt_lead");
    assert_eq!(request.header("x-team"), "integrations");
    let signature = request.header("x-signature");
    let (time, _) = signature[2..].split_once(',').expect("a time");
    let verified = verify(
        pombo::signature::Scheme::Timestamped,
        &[Secret::new(secret)],
        signature,
        &request.body,
        time.parse().expect("a time"),
        60,
    );
    assert!(verified.is_ok(), "{verified:?}");
}

#[tokio::test]
async fn a_paused_webhook_queues_nothing_new_and_keeps_what_waits() {
    let platform = Platform::new().await;
    let (receiver, probe) = (Receiver::start().await, Receiver::start().await);
    receiver.push(crate::support::receiver::Step::status(500));
    let mut body = hook(&receiver.url("/"));
    body["retry"] = json!({ "firstMs": 3_600_000, "longestMs": 3_600_000 });
    let made = platform.acme.post("/v1/webhooks", &body).await.expect(201);
    let kept = platform
        .world
        .webhooks
        .get(made["id"].as_str().expect("an id"))
        .await
        .expect("a webhook");
    until(
        "a delivery that waits for its retry",
        async || {
            if receiver.received().is_empty() {
                platform.event("evt_waits", "crm.lead.created").await;
                platform.world.redis.settled("events").await;
            }
            platform.world.webhooks.queued(&kept).await
        },
        |queued| *queued == 1,
    )
    .await;
    let pause = json!({ "isActive": false });
    let paused = platform.acme.patch(&path_of(&made), &pause).await;
    assert_eq!(paused.expect(200)["isActive"], false);
    platform.known(&probe, "paused").await;
    platform.event("evt_missed", "crm.lead.created").await;
    platform.world.redis.settled("events").await;
    assert_eq!(platform.world.webhooks.queued(&kept).await, 1);
    let listed = platform.acme.get("/v1/webhooks").await.expect(200);
    assert_eq!(listed[0]["stats"]["totalDeliveries"], 1);

    let resume = json!({ "isActive": true });
    let resumed = platform.acme.patch(&path_of(&made), &resume).await;
    assert_eq!(resumed.expect(200)["isActive"], true);
    until(
        "the next event delivered",
        async || {
            platform.event("evt_next", "crm.lead.created").await;
            platform.world.redis.settled("events").await;
            ids(&receiver.received())
        },
        |ids| ids.iter().any(|id| id == "evt_next"),
    )
    .await;
    let ids = ids(&receiver.received());
    assert!(!ids.contains(&"evt_missed".to_owned()), "{ids:?}");
}

#[tokio::test]
async fn a_deleted_webhook_receives_nothing_more_and_leaves_no_key_behind() {
    let platform = Platform::new().await;
    let (receiver, probe) = (Receiver::start().await, Receiver::start().await);
    for status in [500, 500] {
        receiver.push(crate::support::receiver::Step::status(status));
    }
    let mut body = hook(&receiver.url("/"));
    body["retry"] = json!({ "firstMs": 3_600_000, "longestMs": 3_600_000 });
    let made = platform.acme.post("/v1/webhooks", &body).await.expect(201);
    let id = made["id"].as_str().expect("an id");
    let kept = platform.world.webhooks.get(id).await.expect("a webhook");
    until(
        "deliveries that wait",
        async || {
            if receiver.received().len() < 2 {
                platform.event("evt_waits", "crm.lead.created").await;
                platform.world.redis.settled("events").await;
            }
            platform.world.webhooks.queued(&kept).await
        },
        |queued| *queued >= 2,
    )
    .await;
    let before = receiver.received().len();
    let path = path_of(&made);
    let answer = platform.acme.delete(&path).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    for answer in [
        platform.acme.get(&path).await,
        platform.acme.delete(&path).await,
        platform.acme.patch(&path, &json!({})).await,
    ] {
        assert_eq!(answer.status, 404);
    }
    platform.known(&probe, "deleted").await;
    platform.event("evt_after", "crm.lead.created").await;
    platform.world.redis.settled("events").await;
    let redis = &platform.world.redis;
    let (of_uid, of_id) = (format!("*{}*", kept.uid), format!("*{id}*"));
    until(
        "every key of the webhook gone",
        async || (redis.keys(&of_uid).await, redis.keys(&of_id).await),
        |(of_uid, of_id)| of_uid.is_empty() && of_id.is_empty(),
    )
    .await;
    assert_eq!(receiver.received().len(), before);
    assert_eq!(
        platform.acme.get("/v1/webhooks").await.expect(200),
        json!([])
    );
}

#[tokio::test]
async fn a_webhook_that_pombo_disabled_is_off_until_it_is_made_active() {
    let platform = Platform::new().await;
    let receiver = Receiver::start().await;
    receiver.push(crate::support::receiver::Step::status(410));
    let body = hook(&receiver.url("/"));
    let made = platform.acme.post("/v1/webhooks", &body).await.expect(201);
    let path = path_of(&made);
    let shown = until(
        "the webhook to be disabled",
        async || {
            if receiver.received().is_empty() {
                platform.event("evt_gone", "crm.lead.created").await;
                platform.world.redis.settled("events").await;
            }
            platform.acme.get(&path).await.json
        },
        |shown| shown.get("disabled").is_some(),
    )
    .await;
    assert_eq!(shown["isActive"], false);
    assert!(
        shown["disabled"]["reason"]
            .as_str()
            .expect("a reason")
            .contains("410")
    );
    let renamed = platform
        .acme
        .patch(&path, &json!({ "name": "Other" }))
        .await;
    assert_eq!(renamed.expect(200)["isActive"], false);
    let enabled = platform
        .acme
        .patch(&path, &json!({ "isActive": true }))
        .await;
    let enabled = enabled.expect(200);
    assert_eq!(
        (&enabled["isActive"], enabled.get("disabled")),
        (&json!(true), None)
    );
    until(
        "deliveries again",
        async || {
            platform.event("evt_again", "crm.lead.created").await;
            platform.world.redis.settled("events").await;
            receiver.received().len()
        },
        |received| *received > 1,
    )
    .await;
}

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

#[tokio::test]
async fn the_catalogue_is_listed_and_bounds_what_can_be_subscribed_to() {
    let platform = Platform::with(CATALOGUE).await;
    let listed = platform.acme.get("/v1/webhooks/events").await.expect(200);
    assert_eq!(
        listed,
        json!([
            { "type": "crm.lead.created", "description": "Um lead foi criado" },
            { "type": "crm.lead.deleted", "description": "" },
            { "type": "chat.message", "description": "A message" },
        ])
    );
    let mut body = hook("https://example.com/");
    body["events"] = json!([
        "crm.lead.created",
        "crm.lead.moved",
        "crm.**",
        "crm.*",
        "*.message",
        "*",
        "webhook.test",
        "order.*",
        "a..b",
        7,
    ]);
    let refused = platform.acme.post("/v1/webhooks", &body).await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.refused(),
        [
            "/events/1",
            "/events/3",
            "/events/7",
            "/events/8",
            "/events/9"
        ]
    );
}

#[tokio::test]
async fn a_webhook_of_a_file_can_be_changed_here_too() {
    let platform = Platform::new().await;
    let mut of_file = platform
        .world
        .webhooks
        .all("of-file", "https://example.com/")
        .await;
    of_file.managed_by = Some("apply".to_owned());
    platform.world.webhooks.put(&mut of_file).await;
    let paused = platform
        .operator
        .patch("/v1/webhooks/of-file", &json!({ "isActive": false }))
        .await;
    paused.expect(200);
    let found = platform
        .world
        .webhooks
        .get("of-file")
        .await
        .expect("a webhook");
    assert_eq!(
        (found.spec.active, found.managed_by.as_deref()),
        (false, Some("apply"))
    );
}

#[tokio::test]
async fn without_redis_requests_are_told_to_come_back() {
    let mut platform = Platform::new().await;
    platform.world.redis.kill();
    let answer = until(
        "an answer while Redis is away",
        async || platform.acme.get("/v1/webhooks").await,
        |answer| answer.status == 503,
    )
    .await;
    assert_ne!(answer.header("retry-after"), "");
    platform.world.redis.restart().await;
    // The token went with the data: any answer but 503 is one of a daemon that is back.
    until(
        "an answer again",
        async || platform.acme.get("/v1/webhooks").await.status,
        |status| *status == 401,
    )
    .await;
    stays(
        "that it answers",
        std::time::Duration::from_millis(100),
        async || platform.acme.get("/v1/webhooks").await.status,
        |status| *status == 401,
    )
    .await;
}
