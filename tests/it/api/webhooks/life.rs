//! A webhook that is paused, deleted, or disabled by Pombo.

use serde_json::json;

use super::{Platform, hook, ids, path_of};
use crate::support::receiver::Receiver;
use crate::support::wait::until;

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
    let receiver = Receiver::scripted(|_| crate::support::receiver::Step::status(500)).await;
    let probe = Receiver::start().await;
    let mut body = hook(&receiver.url("/"));
    body["retry"] = json!({ "firstMs": 3_600_000, "longestMs": 3_600_000 });
    let made = platform.acme.post("/v1/webhooks", &body).await.expect(201);
    let id = made["id"].as_str().expect("an id");
    let kept = platform.world.webhooks.get(id).await.expect("a webhook");
    until(
        "deliveries that wait for their retry, and none on its way",
        async || {
            if receiver.received().len() < 2 {
                platform.event("evt_waits", "crm.lead.created").await;
            }
            // What is acknowledged is queued: once all of it was received, it waits for an hour.
            platform.world.redis.settled("events").await;
            let queued = platform.world.webhooks.queued(&kept).await;
            (queued, receiver.received().len() as u64)
        },
        |(queued, received)| *queued >= 2 && queued == received,
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
