//! What the customers of the two platforms do, over HTTP, by configuration alone: each call of their contracts.

mod jurichat;
mod wts_chat;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::api::ApiClient;
use crate::support::pombo::{Pombo, World};
use crate::support::receiver::Receiver;
use crate::support::wait::until;

/// A platform whose daemon runs with its profile, and one of its customers.
struct Platform {
    world: World,
    pombo: Pombo,
    /// The platform's own token.
    operator: ApiClient,
    /// The token of the customer `office-1`.
    customer: ApiClient,
    /// What every path begins with.
    base: &'static str,
    /// What the customer is called in bodies.
    tenant_field: &'static str,
}

impl Platform {
    async fn start(
        profile: &'static str,
        base: &'static str,
        tenant_field: &'static str,
    ) -> Platform {
        let mut world = World::new().await;
        world.config = world.config.with_profile(profile);
        let pombo = world.config.start().await;
        let operator = world.webhooks.operator_token().await;
        let customer = world.webhooks.tenant_token("office-1").await;
        Platform {
            operator: pombo.api().with_token(&operator),
            customer: pombo.api().with_token(&customer),
            world,
            pombo,
            base,
            tenant_field,
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.base)
    }

    /// The customer registers a webhook, and it is in force.
    async fn register(&self, receiver: &Receiver, events: &[&str]) -> Value {
        let body = json!({ "name": "ERP", "url": receiver.url("/hook"), "events": events });
        let webhook = self
            .customer
            .post(&self.path("/webhooks"), &body)
            .await
            .expect(201);
        self.in_force(1).await;
        webhook
    }

    /// Waits until the daemon knows of `count` webhooks that deliver.
    async fn in_force(&self, count: u64) {
        let known = async || {
            self.pombo
                .metrics()
                .await
                .value("pombo_webhooks", &[("state", "active")])
        };
        until("the webhooks are in force", known, |known| {
            *known == count as f64
        })
        .await;
    }

    /// The platform emits an event for the customer.
    async fn emit(&self, id: &str, event_type: &str, payload: &Value) {
        let mut body = json!({ "id": id, "type": event_type, "payload": payload });
        body[self.tenant_field] = json!("office-1");
        let answer = self.operator.post(&self.path("/events"), &body).await;
        assert_eq!(answer.expect(202)["id"], id);
    }

    /// The page of a webhook's deliveries, when it is as it should be.
    async fn deliveries_when(&self, webhook: &str, enough: impl Fn(&Value) -> bool) -> Value {
        let path = self.path(&format!("/webhooks/{webhook}/deliveries"));
        let page = async || self.customer.get(&path).await.expect(200);
        until("the deliveries are told", page, enough).await
    }

    /// Every event of the catalogue is emitted once, and arrives.
    async fn every_event_arrives(&self, types: &[&str]) {
        let receiver = Receiver::start().await;
        self.register(&receiver, types).await;
        for (number, event_type) in types.iter().enumerate() {
            self.emit(
                &format!("evt-{number}"),
                event_type,
                &json!({ "n": number }),
            )
            .await;
        }
        let received = receiver.wait_for(types.len()).await;
        let arrived: BTreeSet<&str> = received
            .iter()
            .map(|request| request.header("x-event-type"))
            .collect();
        assert_eq!(arrived, types.iter().copied().collect());
    }

    /// The names of the catalogue, each with a description.
    async fn catalogue(&self) -> Vec<(String, String)> {
        let answer = self.customer.get(&self.path("/webhooks/events")).await;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        answer
            .expect(200)
            .as_array()
            .expect("a list")
            .iter()
            .map(|event| (text(&event["type"]), text(&event["description"])))
            .collect()
    }
}

fn members(value: &Value) -> BTreeSet<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}
