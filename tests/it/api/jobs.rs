//! Jobs that retry many deliveries.

use pombo::clock::Clock;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::shelves::{Made, Place};
use crate::support::api::ApiClient;
use crate::support::receiver::{Receiver, Step};
use crate::support::wait::until;

const HOUR: u64 = 3_600_000;
const RETRY: &str = "/v1/webhooks/w/deliveries/retry";

/// Waits until a job has ended, for as long as it gets on.
async fn ended(api: &ApiClient, path: &str) -> Value {
    let mut job = api.get(path).await.expect(200);
    while job["status"] == "running" {
        let done = job["retried"].clone();
        job = until(
            "progress of a job",
            async || api.get(path).await.expect(200),
            |job| job["status"] != "running" || job["retried"] != done,
        )
        .await;
    }
    job
}

#[tokio::test]
async fn thousands_of_failed_deliveries_are_retried_while_new_ones_fail() {
    let place = Place::with("[retry]\nmax_attempts = 1").await;
    let receiver = Receiver::scripted(|received| match received.header("x-delivery-attempt") {
        "1" => Step::status(500),
        _ => Step::status(200),
    })
    .await;
    let webhook = place.active("w", &receiver.url("/")).await;
    let api = place.tenant("default").await;
    place.dead_many(&webhook, "a.b", 5_000).await;

    let counted = api.post(RETRY, &json!({"dryRun": true})).await.expect(200);
    assert_eq!(counted, json!({"matched": 5_000, "exact": true}));
    let counted = api
        .post(RETRY, &json!({"dryRun": true, "event": "a.c"}))
        .await;
    assert_eq!(counted.expect(200), json!({"matched": 0, "exact": true}));

    let began = Instant::now();
    let begun = api.post(RETRY, &json!({"event": "a.b"})).await;
    let path = begun.header("location").to_owned();
    let begun = begun.expect(202);
    assert_eq!(
        path,
        format!("/v1/webhooks/w/jobs/{}", begun["id"].as_str().unwrap())
    );
    assert_eq!(
        (&begun["status"], &begun["matched"]),
        (&json!("running"), &json!(5_000))
    );

    // One job of a webhook at a time, and none of another's.
    let second = api.post(RETRY, &json!({})).await;
    assert_eq!(second.status, 409);
    let detail = second.json["detail"].as_str().unwrap();
    assert!(detail.contains(begun["id"].as_str().unwrap()), "{detail}");
    let stranger = place.tenant("globex").await;
    assert_eq!(stranger.get(&path).await.status, 404);
    assert_eq!(stranger.post(RETRY, &json!({})).await.status, 404);

    place.world.redis.events("new", "a.b", 100).await;
    let job = ended(&api, &path).await;
    assert_eq!(job["status"], "finished", "{job}");
    assert_eq!(
        (&job["retried"], &job["failed"]),
        (&json!(5_000), &json!(0))
    );
    assert!(job["finishedAt"].is_string());
    // 200 a second.
    assert!(began.elapsed().as_secs() >= 23, "{:?}", began.elapsed());

    let received = receiver.wait_for(5_100).await;
    let again = received
        .iter()
        .filter(|one| one.header("x-delivery-attempt") == "4");
    assert_eq!(again.count(), 5_000);
    let left = place.world.webhooks.wait_for_dead(&webhook, 100).await;
    assert!(left.iter().all(|letter| letter.event.id.starts_with("new")));
    assert_eq!(left.len(), 100);
}

#[tokio::test]
async fn a_job_hastens_what_waits_for_its_retry_and_leaves_the_rest() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let now = Clock::system().unix_ms();
    for n in 0..30 {
        let made = Made::new(n).of_type(if n % 2 == 0 { "even" } else { "odd" });
        place.scheduled(&webhook, &made, now + HOUR).await;
    }
    place.queued(&webhook, &Made::new(40)).await;
    let body = json!({"status": "RETRYING", "event": "odd", "since": "2026-03-13T12:00:10Z"});
    let begun = place.operator.post(RETRY, &body).await;
    let path = begun.header("location").to_owned();
    assert_eq!(begun.expect(202)["matched"], 10);
    let job = ended(&place.operator, &path).await;
    assert_eq!(
        (&job["status"], &job["retried"]),
        (&json!("finished"), &json!(10))
    );
    let total = async |status: &str| {
        let path = format!("/v1/webhooks/w/deliveries?status={status}");
        place.operator.get(&path).await.expect(200)["total"].clone()
    };
    assert_eq!(total("RETRYING").await, 20);
    assert_eq!(total("PENDING").await, 11);
}

#[tokio::test]
async fn a_job_is_interrupted_by_the_end_of_its_daemon_and_can_be_asked_for_again() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    place.dead_many(&webhook, "a.b", 600).await;
    let begun = place.operator.post(RETRY, &json!({})).await;
    let path = begun.header("location").to_owned();
    begun.expect(202);
    until(
        "a job that has begun its work",
        async || place.operator.get(&path).await.expect(200),
        |job| job["retried"] != 0,
    )
    .await;
    let token = place.world.webhooks.operator_token().await;
    let Place { world, pombo, .. } = place;
    pombo.stop().await;
    let pombo = world.config.start().await;
    let api = pombo.api().with_token(&token);
    let job = api.get(&path).await.expect(200);
    assert_eq!(job["status"], "interrupted", "{job}");
    let begun = api.post(RETRY, &json!({})).await;
    let path = begun.header("location").to_owned();
    begun.expect(202);
    let job = ended(&api, &path).await;
    assert_eq!(job["status"], "finished");
    assert_eq!(world.webhooks.queued(&webhook).await, 600);
}

#[tokio::test]
async fn a_job_ends_with_its_webhook_and_unknown_ones_are_not_found() {
    let place = Place::new().await;
    let mut webhook = place.paused("w").await;
    place.dead_many(&webhook, "a.b", 2_000).await;
    let begun = place.operator.post(RETRY, &json!({})).await;
    let path = begun.header("location").to_owned();
    let id = begun.expect(202)["id"].as_str().unwrap().to_owned();
    for other in [
        "/v1/webhooks/w/jobs/job_nothing".to_owned(),
        "/v1/webhooks/w/jobs/%2A".to_owned(),
        format!("/v1/webhooks/x/jobs/{id}"),
    ] {
        assert_eq!(place.operator.get(&other).await.status, 404, "{other}");
    }
    let stored = async || -> Value {
        let body: String = place
            .world
            .redis
            .run(&format!("HGET pombo:{{cfg}}:job:{id} body"))
            .await;
        serde_json::from_str(&body).unwrap()
    };
    place.world.webhooks.delete(&webhook).await;
    let job = until("a job that ended", stored, |job| job["status"] != "running").await;
    assert_eq!(job["status"], "failed");
    assert_eq!(job["error"], "the webhook was deleted");
    assert_eq!(place.operator.get(&path).await.status, 404);
    // Made again under the same id it is another one, and inherits nothing.
    webhook.version = 0;
    webhook.uid = format!("{}-again", webhook.uid);
    place.world.webhooks.put(&mut webhook).await;
    assert_eq!(place.operator.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_daemon_takes_on_four_jobs_at_a_time() {
    let place = Place::new().await;
    let mut statuses = Vec::new();
    for id in ["a", "b", "c", "d", "e"] {
        let webhook = place.paused(id).await;
        place.dead_many(&webhook, "a.b", 400).await;
    }
    for id in ["a", "b", "c", "d", "e"] {
        let path = format!("/v1/webhooks/{id}/deliveries/retry");
        statuses.push(place.operator.post(&path, &json!({})).await.status);
    }
    assert_eq!(statuses, [202, 202, 202, 202, 429]);
}
