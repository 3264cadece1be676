//! A delivery as it came over the wire: made, signed and sent as the daemon does it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use pombo::clock::Clock;
use pombo::dispatch::attempt::Prepared;
use pombo::dispatch::http_client::HttpClient;
use pombo::event::{EntryId, Event};
use pombo::outcome::AttemptResult;
use pombo::settings::{Secret, Settings};
use pombo::target::TargetRules;
use pombo::webhook::BodyMode;
use serde_json::{Value, json};

use crate::support::pombo::webhook;
use crate::support::receiver::Receiver;

/// What a receiver got.
pub struct Captured {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Sends an event with this payload, now, to a webhook with these secrets, the newest first.
pub async fn capture(secrets: &[&str], body_mode: BodyMode, payload: &str) -> Captured {
    capture_at(secrets, body_mode, payload, now_unix_s()).await
}

/// What a signature's time is compared with.
pub fn now_unix_s() -> u64 {
    Clock::system().unix_ms() / 1_000
}

/// The same, signed at another time than now.
pub async fn capture_at(
    secrets: &[&str],
    body_mode: BodyMode,
    payload: &str,
    unix_s: u64,
) -> Captured {
    let receiver = Receiver::start().await;
    let mut webhook = webhook("w", &receiver.url("/hook"), &["*"]);
    webhook.secrets = secrets.iter().map(|secret| Secret::from(*secret)).collect();
    webhook.spec.body_mode = Some(body_mode);
    let settings = Settings::defaults_for_tests();
    let now_ms = unix_s * 1_000;
    let event = Event {
        id: "evt_1".into(),
        event_type: "crm.lead.created".into(),
        tenant: "lima-advogados".into(),
        time_ms: now_ms,
        arrived_ms: now_ms,
        stream: "events".into(),
        entry_id: EntryId { ms: now_ms, seq: 0 },
        content_type: "application/json".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        payload_is_json: true,
        enclosed: None,
    };
    let prepared = Prepared::new(&webhook, &settings).expect("a webhook that can be called");
    let request = prepared.request(&event, "w", 1, now_ms, None);

    let allowed = "127.0.0.0/8".parse().expect("a network");
    let rules = Arc::new(TargetRules::new(vec![allowed], false));
    let client = HttpClient::new(rules, &settings.delivery, None).expect("a client");
    let posted = client.post(request).await;
    assert!(
        matches!(posted.result, AttemptResult::Answer { status: 200, .. }),
        "{posted:?}"
    );
    let received = receiver.wait_for(1).await.remove(0);
    Captured {
        headers: received.headers,
        body: received.body,
    }
}

impl Captured {
    /// The header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// As the scripts beside this file read it.
    pub fn to_json(&self, secret: &str) -> Value {
        let headers: BTreeMap<&str, &str> = self
            .headers
            .keys()
            .map(|name| (name.as_str(), self.header(name.as_str())))
            .collect();
        json!({
            "secret": secret,
            "headers": headers,
            "body_base64": STANDARD.encode(&self.body),
        })
    }
}
