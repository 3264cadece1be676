//! Attempts as they can be looked at: told from what was kept of them, or made once to be seen.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pombo::clock::Clock;
use pombo::delivery::ShapeText;
use pombo::dispatch::attempt::{Once, Prepared, attempt_once, shown_headers};
use pombo::dispatch::http_client::HttpClient;
use pombo::dispatch::threads::LaneThreads;
use pombo::dispatch::{Dispatch, Parts};
use pombo::event::{EntryId, Event};
use pombo::membership::Membership;
use pombo::metrics::Metrics;
use pombo::outcome::AttemptResult;
use pombo::registry::Registry;
use pombo::settings::{Secret, Settings};
use pombo::signature::Scheme;
use pombo::target::TargetRules;
use pombo::webhook::{BodyMode, RateLimit, Webhook, WebhookSpec};

use crate::support::pombo::{World, webhook};
use crate::support::receiver::{Answer, Received, Receiver, Step};

fn own_headers(spec: &mut WebhookSpec) {
    spec.headers = [("Authorization", "Bearer secret"), ("x-a|b", "c")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
}

/// What came, as pairs in the order of their names.
fn as_received(received: &Received) -> Vec<(String, String)> {
    let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), value.to_str().expect("text").to_owned())
    };
    let mut headers: Vec<_> = received.headers.iter().map(pair).collect();
    headers.sort();
    headers
}

#[tokio::test]
async fn the_headers_of_kept_attempts_are_told_as_they_were_sent_without_what_is_secret() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let url = |path: &str| receiver.url(path);
    let plain = world
        .webhooks
        .make("plain", &url("/plain"), &["*"], own_headers)
        .await;
    let mut rotating = webhook("rotating", &url("/rotating"), &["*"]);
    rotating.secrets = vec![Secret::new("not base64!"), Secret::new("neither!")];
    rotating.spec.signature_scheme = Some(Scheme::Hex);
    rotating.spec.body_mode = Some(BodyMode::Payload);
    world.webhooks.put(&mut rotating).await;
    let _pombo = world.config.start().await;
    receiver.push(Step::status(500)).push(Step::status(500));
    world.redis.event("e1", "a.b", "{\"n\":1}").await;
    let received = receiver.wait_for(4).await;
    for webhook in [&plain, &rotating] {
        let kept = world.webhooks.wait_for_history(webhook, 1).await.remove(0);
        for attempt in kept.log.records() {
            let shape = attempt.shape.as_ref().and_then(ShapeText::read);
            let shape = shape.expect("a shape");
            let id = &webhook.spec.id;
            let shown = shown_headers(&shape, &kept.event, id, attempt.number, attempt.started_ms);
            let number = attempt.number.to_string();
            let sent = received.iter().find(|one| {
                one.path == format!("/{id}") && one.header("x-delivery-attempt") == number
            });
            let secret = |name: &str| {
                name.contains("signature") || ["authorization", "x-a|b"].contains(&name)
            };
            let expected: Vec<(String, String)> = as_received(sent.expect("a request"))
                .into_iter()
                .filter(|(name, _)| name != "host" && name != "content-length")
                .map(|(name, value)| match secret(&name) {
                    true => (name, "***".to_owned()),
                    false => (name, value),
                })
                .collect();
            assert_eq!(shown, expected);
        }
    }
}

fn event(payload: &'static str) -> Event {
    Event {
        id: "test_1".to_owned(),
        event_type: "webhook.test".to_owned(),
        tenant: "default".to_owned(),
        time_ms: 1_773_403_200_123,
        arrived_ms: 1_773_403_200_123,
        stream: "test".into(),
        entry_id: EntryId { ms: 7, seq: 1 },
        content_type: "application/json".to_owned(),
        payload: payload.into(),
        payload_is_json: true,
        enclosed: None,
    }
}

fn client(settings: &Settings) -> HttpClient {
    let rules = TargetRules::new(settings.targets.allow.clone(), settings.targets.https_only);
    HttpClient::new(Arc::new(rules), &settings.delivery, None::<&Path>).expect("a client")
}

async fn try_out(settings: &Settings, webhook: &Webhook) -> Once {
    let prepared = Prepared::new(webhook, settings).expect("a webhook that can be called");
    let (client, clock) = (client(settings), Clock::system());
    attempt_once(&client, &clock, &prepared, &event("{}"), &webhook.spec.id).await
}

#[tokio::test]
async fn an_attempt_outside_of_any_lane_tells_all_of_itself() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let settings = world.config.settings();
    receiver.push(Answer::new(418).body("short and stout"));
    let mut tried = webhook("w", &receiver.url("/hook?a=b"), &["*"]);
    own_headers(&mut tried.spec);
    let once = try_out(&settings, &tried).await;
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(
        once.headers,
        as_received(&received),
        "every one, and nothing hidden"
    );
    let attempted = &once.attempted;
    assert!(
        matches!(&attempted.result, AttemptResult::Answer { status: 418, body_start, .. }
            if body_start == b"short and stout"),
        "{attempted:?}"
    );
    let phases = attempted.phases;
    let first_byte = Duration::from_micros(phases.first_byte_us.expect("an answer"));
    assert!(phases.connect_us.is_some() && first_byte <= attempted.duration);
    assert!(!format!("{once:?}").contains("Bearer"), "{once:?}");

    // The same rules hold as for deliveries.
    let forbidden = try_out(&settings, &webhook("w", "http://10.0.0.1/", &["*"])).await;
    let AttemptResult::Failure { detail, .. } = &forbidden.attempted.result else {
        panic!("{forbidden:?}");
    };
    assert!(detail.contains("10.0.0.1"), "{detail}");
    assert!(world.redis.keys("*").await.is_empty(), "nothing is kept");
}

#[tokio::test]
async fn an_attempt_outside_of_any_lane_takes_a_token_of_the_webhooks_own_limit() {
    let world = World::new().await;
    let settings = Arc::new(world.config.settings());
    let url = "http://127.0.0.1:1/";
    let limited = |spec: &mut WebhookSpec| {
        spec.rate_limit = Some(RateLimit {
            per_second: 0.01,
            burst: 2,
        });
    };
    let made = [
        world.webhooks.make("limited", url, &["*"], limited).await,
        world.webhooks.make("free", url, &["*"], |_| {}).await,
    ];
    let (store, clock, metrics) = (
        world.webhooks.store().clone(),
        Clock::system(),
        Metrics::new(),
    );
    let lease = settings.ownership.lease;
    let mut membership = Membership::new(store.clone(), clock.clone(), "n".to_owned(), lease);
    let (era, members) = membership.join().await.expect("an era");
    let registry = Arc::new(Registry::new(store.shards()));
    registry.load(made, &[]);
    let dispatch = Dispatch::new(Parts {
        threads: Arc::new(LaneThreads::start(1, &Arc::new(client(&settings))).unwrap()),
        store,
        settings,
        clock,
        metrics,
        era: era.clone(),
        registry,
    });
    assert_eq!(dispatch.test_token("free"), None);
    assert_eq!(dispatch.test_token("unknown"), None);
    for _ in 0..2 {
        assert_eq!(dispatch.test_token("limited"), Some(Ok(())));
    }
    let wait = dispatch.test_token("limited").expect("a limit");
    let wait = wait.expect_err("both tokens are spent");
    assert!(
        wait > Duration::from_secs(60) && wait <= Duration::from_secs(100),
        "{wait:?}"
    );
    membership.leave(&era, &members).await.expect("an answer");
    era.end(pombo::membership::Ending::Stopped);
}
