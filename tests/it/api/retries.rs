//! Retrying deliveries by hand, over the API.

use std::time::Duration;

use pombo::clock::Clock;
use serde_json::{Value, json};

use super::shelves::{Made, Place, events};
use crate::support::receiver::{Receiver, Step};
use crate::support::wait::until;

const HOUR: u64 = 3_600_000;

#[tokio::test]
async fn a_customer_mends_its_receiver_and_retries_a_failed_delivery() {
    let place = Place::with("[retry]\nmax_attempts = 1").await;
    let receiver = Receiver::scripted(|received| match received.header("x-delivery-attempt") {
        "1" => Step::status(500),
        _ => Step::status(200),
    })
    .await;
    let webhook = place.active("w", &receiver.url("/")).await;
    place.world.redis.event("e1", "a.b", r#"{"n":1}"#).await;
    let dead = place.world.webhooks.wait_for_dead(&webhook, 1).await;
    let id = dead[0].ending.delivery_id.clone();
    let api = place.tenant("default").await;
    let path = format!("/v1/webhooks/deliveries/{id}");
    assert_eq!(api.get(&path).await.expect(200)["status"], "FAILED");

    let answer = api
        .post(&format!("{path}/retry"), &json!({}))
        .await
        .expect(200);
    assert_eq!(answer["deliveryId"], id);
    assert!(answer["message"].is_string());
    let delivery = until(
        "a delivery that succeeded",
        async || api.get(&path).await.json,
        |delivery| delivery["status"] == "SUCCESS",
    )
    .await;
    assert_eq!(delivery["attemptCount"], 2);
    let statuses: Vec<&Value> = delivery["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| &attempt["statusCode"])
        .collect();
    assert_eq!(statuses, [500, 200]);
    // What is told of the request is what the receiver got.
    let received = receiver.wait_for(2).await;
    let headers = delivery["attempts"][1]["requestHeaders"]
        .as_object()
        .unwrap();
    for (name, value) in headers {
        let sent = received[1].header(name);
        assert!(
            *value == sent || value == "***",
            "{name}: {value}, sent {sent}"
        );
    }
    assert_eq!(headers["x-delivery-attempt"], "2");
    assert!(
        delivery["attempts"][1]["phases"]["totalMs"]
            .as_f64()
            .unwrap()
            > 0.0
    );

    let refused = api.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!(refused.status, 409);
    assert!(refused.json["detail"].as_str().unwrap().contains("SUCCESS"));
}

#[tokio::test]
async fn a_delivery_that_waits_an_hour_for_its_retry_is_hastened() {
    let place = Place::with("[retry]\nfirst = \"1h\"\nlongest = \"1h\"").await;
    let receiver = Receiver::scripted(|received| match received.header("x-delivery-attempt") {
        "1" => Step::status(500),
        _ => Step::status(200),
    })
    .await;
    let _webhook = place.active("w", &receiver.url("/")).await;
    place.world.redis.event("e1", "a.b", "1").await;
    let api = place.tenant("default").await;
    let page = until(
        "a delivery that waits for its retry",
        async || {
            api.get("/v1/webhooks/w/deliveries?status=RETRYING")
                .await
                .json
        },
        |page| page["total"] == 1,
    )
    .await;
    let id = page["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(page["data"][0]["statusCode"], 500);
    let path = format!("/v1/webhooks/deliveries/{id}/retry");
    api.post(&path, &json!({})).await.expect(200);
    let received = receiver.wait_for(2).await;
    assert_eq!(received[1].header("x-delivery-id"), id);
}

#[tokio::test]
async fn what_neither_failed_nor_waits_for_a_retry_is_a_conflict() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let now = Clock::system().unix_ms();
    place.queued(&webhook, &Made::new(1)).await;
    place.scheduled(&webhook, &Made::new(2), now - HOUR).await;
    place.finished(&webhook, &Made::new(3), false).await;
    for (n, status) in [(1, "PENDING"), (2, "PENDING"), (3, "SUCCESS")] {
        let path = format!(
            "/v1/webhooks/deliveries/{}/retry",
            Made::new(n).id(&webhook)
        );
        let answer = place.operator.post(&path, &json!({})).await;
        assert_eq!(answer.status, 409, "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(
            answer.json["detail"].as_str().unwrap().contains(status),
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn retries_of_a_paused_webhook_are_taken_and_wait() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let now = Clock::system().unix_ms();
    let (failed, waiting) = (Made::new(1), Made::new(2));
    place.dead(&webhook, &failed).await;
    place.scheduled(&webhook, &waiting, now + HOUR).await;
    for made in [&failed, &waiting] {
        let path = format!("/v1/webhooks/deliveries/{}", made.id(&webhook));
        let answer = place
            .operator
            .post(&format!("{path}/retry"), &json!({}))
            .await
            .expect(200);
        assert!(answer["message"].as_str().unwrap().contains("not active"));
        let delivery = place.operator.get(&path).await.expect(200);
        assert_eq!(delivery["status"], "PENDING");
        let again = place
            .operator
            .post(&format!("{path}/retry"), &json!({}))
            .await;
        assert_eq!(again.status, 409);
    }
    // What was tried counts on.
    let page = place
        .operator
        .get("/v1/webhooks/w/deliveries?status=PENDING")
        .await
        .expect(200);
    assert_eq!(events(&page), ["e2", "e1"]);
    assert_eq!(page["data"][1]["attemptCount"], 3);
}

#[tokio::test]
async fn many_who_retry_the_same_delivery_send_it_once() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let made = Made::new(1);
    place.dead(&webhook, &made).await;
    let path = format!("/v1/webhooks/deliveries/{}/retry", made.id(&webhook));
    let body = json!({});
    let all = (0..10).map(|_| place.operator.post(&path, &body));
    let answers = futures_util::future::join_all(all).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert_eq!(statuses[1..], [409; 9]);
    assert_eq!(place.world.webhooks.queued(&webhook).await, 1);
}

#[tokio::test]
async fn nothing_is_retried_into_a_full_queue() {
    let place = Place::with("[queue]\nmax_deliveries = 1000").await;
    let webhook = place.paused("w").await;
    for n in 0..1_000 {
        place.queued(&webhook, &Made::new(n)).await;
    }
    let made = Made::new(2_000);
    place.dead(&webhook, &made).await;
    let path = format!("/v1/webhooks/deliveries/{}/retry", made.id(&webhook));
    let answer = place.operator.post(&path, &json!({})).await;
    assert_eq!(answer.status, 409);
    assert!(answer.json["detail"].as_str().unwrap().contains("full"));
    assert_eq!(place.world.webhooks.dead(&webhook).await.len(), 1);
    // A job says so too.
    let begun = place
        .operator
        .post("/v1/webhooks/w/deliveries/retry", &json!({}))
        .await;
    let path = begun.header("location").to_owned();
    begun.expect(202);
    let job = until(
        "a job that gave up",
        async || place.operator.get(&path).await.json,
        |job| job["status"] != "running",
    )
    .await;
    assert_eq!(job["status"], "failed");
    assert!(job["error"].as_str().unwrap().contains("full"), "{job}");
    tokio::time::timeout(Duration::from_secs(20), place.pombo.stop())
        .await
        .expect("a daemon that stops");
}
