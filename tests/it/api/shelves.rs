//! Deliveries on the shelves of a webhook, written in their stored form as the delivery path writes them.

use pombo::clock::Clock;
use pombo::delivery::delivery_id;
use pombo::store::Keys;
use pombo::webhook::Webhook;
use serde_json::json;

use crate::support::api::ApiClient;
use crate::support::pombo::{Pombo, World};

/// 2026-03-13T12:00:00Z.
pub const NOON: u64 = 1_773_403_200_000;

/// A delivery to be.
#[derive(Clone, Debug)]
pub struct Made {
    pub event_id: String,
    pub event_type: &'static str,
    /// When its event arrived (Unix ms).
    pub arrived_ms: u64,
    pub payload: String,
    pub is_json: bool,
}

impl Made {
    /// The event `e<n>` that arrived `n` seconds after [`NOON`].
    pub fn new(n: u64) -> Made {
        Made {
            event_id: format!("e{n}"),
            event_type: "crm.lead.created",
            arrived_ms: NOON + n * 1_000,
            payload: format!(r#"{{"n": {n}, "price": 1.50}}"#),
            is_json: true,
        }
    }

    pub fn of_type(self, event_type: &'static str) -> Made {
        Made { event_type, ..self }
    }

    pub fn with_payload(self, payload: &str, is_json: bool) -> Made {
        Made {
            payload: payload.to_owned(),
            is_json,
            ..self
        }
    }

    /// The id of its delivery to `webhook`.
    pub fn id(&self, webhook: &Webhook) -> String {
        let entry = format!("{}-0", self.arrived_ms).parse().unwrap();
        delivery_id(&webhook.spec.id, "events", entry)
    }

    /// Whether it stands in the first form, with a field for each part, as what was stored before an upgrade.
    fn is_old(&self) -> bool {
        (self.arrived_ms - NOON) / 1_000 % 2 == 1
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        if !self.is_old() {
            return vec![("d", self.text().to_string())];
        }
        vec![
            ("v", "1".into()),
            ("i", self.event_id.clone()),
            ("t", self.event_type.into()),
            ("n", "default".into()),
            ("m", self.arrived_ms.to_string()),
            ("o", "events".into()),
            ("e", format!("{}-0", self.arrived_ms)),
            ("c", "application/json".into()),
            ("j", u8::from(self.is_json).to_string()),
        ]
    }

    fn text(&self) -> serde_json::Value {
        let mut text = json!({
            "v": 3, "i": self.event_id, "t": self.event_type, "n": "default", "o": "events",
            "e": format!("{}-0", self.arrived_ms),
        });
        if !self.is_json {
            text["j"] = json!(0);
        }
        text
    }

    /// The same as the entry of a history has it, after two attempts.
    fn finished_fields(&self) -> Vec<(&'static str, String)> {
        let log = log(2, 200);
        if self.is_old() {
            let mut fields = self.fields();
            fields.extend([("a", "2".into()), ("l", log.to_string())]);
            return fields;
        }
        let mut text = self.text();
        text["a"] = json!(2);
        text["l"] = log;
        vec![("d", text.to_string())]
    }
}

/// A log of attempts as it is stored: `count` of them, the last one with this status.
pub fn log(count: u32, last_status: u16) -> serde_json::Value {
    let attempts = (1..=count).map(|number| {
        let status = if number == count { last_status } else { 503 };
        let error = match status {
            200..=299 => String::new(),
            status => format!("answered {status}"),
        };
        let mut attempt = json!({
            "n": number, "t": NOON + u64::from(number) * 1_000, "s": status, "d": 42_400, "q": 1_200, "f": 41_000,
            "b": format!("answer {number}"), "h": "0.1.0|e|x-signature|1|authorization",
        });
        if !error.is_empty() {
            attempt["e"] = json!(error);
        }
        attempt
    });
    attempts.collect()
}

fn tries(count: u32) -> String {
    json!({
        "v": 1, "n": count, "r": count, "f": NOON + 1_000, "l": NOON + 1_000 * u64::from(count), "s": 503,
        "e": "answered 503", "g": log(count, 503),
    })
    .to_string()
}

fn dead_fields(webhook: &Webhook, made: &Made) -> Vec<(&'static str, String)> {
    let mut fields = made.fields();
    fields.extend([
        ("p", made.payload.clone()),
        ("a", "0".into()),
        ("webhook_id", webhook.spec.id.clone()),
        ("delivery_id", made.id(webhook)),
        ("reason", "exhausted".into()),
        ("attempts", "3".into()),
        ("first_attempt_ms", (NOON + 1_000).to_string()),
        ("last_attempt_ms", (NOON + 3_000).to_string()),
        ("last_status", "503".into()),
        ("last_error", "answered 503".into()),
        ("answer", "answer 3".into()),
        ("at_ms", Clock::system().unix_ms().to_string()),
        ("again", tries(3).replace("\"r\":3", "\"r\":0")),
    ]);
    fields
}

/// A world with the API, and tokens for it.
pub struct Place {
    pub world: World,
    pub pombo: Pombo,
    pub operator: ApiClient,
    keys: Keys,
}

impl Place {
    pub async fn new() -> Place {
        Place::with("").await
    }

    /// With `toml` laid over the settings.
    pub async fn with(toml: &str) -> Place {
        let world = World::with(toml).await;
        let pombo = world.config.start().await;
        let token = world.webhooks.operator_token().await;
        let operator = pombo.api().with_token(&token);
        Place {
            world,
            pombo,
            operator,
            keys: Keys::new("pombo"),
        }
    }

    /// A client of a tenant.
    pub async fn tenant(&self, tenant: &str) -> ApiClient {
        let token = self.world.webhooks.tenant_token(tenant).await;
        self.pombo.api().with_token(&token)
    }

    /// A webhook of the tenant `default` that is paused: what is on its shelves stays there.
    pub async fn paused(&self, id: &str) -> Webhook {
        let make = self
            .world
            .webhooks
            .make(id, "http://127.0.0.1:9/", &["*"], |spec| {
                spec.active = false;
            });
        make.await
    }

    /// A webhook of the tenant `default` that gets every event from now on.
    pub async fn active(&self, id: &str, url: &str) -> Webhook {
        let webhook = self.world.webhooks.all(id, url).await;
        let active = [("state", "active")];
        self.pombo
            .wait_for_metric("pombo_webhooks", &active, |count| count == 1.0)
            .await;
        webhook
    }

    pub fn shard(&self, webhook: &Webhook) -> u16 {
        self.world.webhooks.store().shard_of(&webhook.spec.id)
    }

    pub fn queue_key(&self, webhook: &Webhook) -> String {
        self.keys.queue(self.shard(webhook), &webhook.uid)
    }

    pub fn dead_key(&self, webhook: &Webhook) -> String {
        self.keys.dead(self.shard(webhook), &webhook.uid)
    }

    pub fn history_key(&self, webhook: &Webhook) -> String {
        self.keys.history(self.shard(webhook), &webhook.uid)
    }

    pub async fn add(&self, key: &str, fields: &[(&'static str, String)]) -> String {
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.world.redis.add(key, &fields).await
    }

    /// It waits for its first attempt.
    pub async fn queued(&self, webhook: &Webhook, made: &Made) -> String {
        let mut fields = made.fields();
        fields.extend([("p", made.payload.clone()), ("a", "0".into())]);
        self.add(&self.queue_key(webhook), &fields).await
    }

    /// It has failed twice, and its next attempt is due then.
    pub async fn scheduled(&self, webhook: &Webhook, made: &Made, due_ms: u64) {
        let id = self.queued(webhook, made).await;
        let (shard, uid) = (self.shard(webhook), &webhook.uid);
        let mut commands = redis::pipe();
        let retry = commands.cmd("ZADD").arg(self.keys.retry(shard, uid));
        retry.arg(due_ms).arg(&id);
        let stored = commands.cmd("HSET").arg(self.keys.tries(shard, uid));
        stored.arg(&id).arg(tries(2));
        self.world.redis.pipeline(&commands).await;
    }

    /// It was given up after three attempts.
    pub async fn dead(&self, webhook: &Webhook, made: &Made) -> String {
        self.add(&self.dead_key(webhook), &dead_fields(webhook, made))
            .await
    }

    /// The same for `count` deliveries of a type, at once.
    pub async fn dead_many(&self, webhook: &Webhook, event_type: &'static str, count: u64) {
        let key = self.dead_key(webhook);
        let mut commands = redis::pipe();
        for n in 0..count {
            let add = commands.cmd("XADD").arg(&key).arg("*");
            for (name, value) in dead_fields(webhook, &Made::new(n).of_type(event_type)) {
                add.arg(name).arg(value);
            }
        }
        self.world.redis.pipeline(&commands).await;
    }

    /// It succeeded at the second attempt.
    pub async fn finished(&self, webhook: &Webhook, made: &Made, with_payload: bool) -> String {
        let mut fields = made.finished_fields();
        if with_payload {
            fields.push(("p", made.payload.clone()));
        }
        self.add(&self.history_key(webhook), &fields).await
    }
}

/// The ids of the events of a page.
pub fn events(page: &serde_json::Value) -> Vec<String> {
    let data = page["data"].as_array().expect("a list");
    data.iter()
        .map(|delivery| delivery["eventId"].as_str().expect("an id").to_owned())
        .collect()
}
