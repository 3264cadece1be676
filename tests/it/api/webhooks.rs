//! Webhooks over the API, and what they come to in the delivery path.

mod life;
mod limits;
mod secrets;
mod tenants;
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
