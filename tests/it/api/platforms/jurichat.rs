//! JuriChat: the calls of its contract, as its customers make them.

use pombo::clock::Clock;
use pombo::settings::Secret;
use pombo::signature::{Scheme, verify};
use serde_json::{Value, json};

use super::{Platform, members};
use crate::support::receiver::{Receiver, Step};
use crate::support::wait::{stays, until};

const EVENTS: [&str; 11] = [
    "crm.lead.created",
    "crm.lead.updated",
    "crm.lead.deleted",
    "crm.lead.moved",
    "chat.conversation.created",
    "chat.conversation.updated",
    "chat.conversation.assigned",
    "contact.created",
    "contact.updated",
    "contact.deleted",
    "webhook.test",
];

async fn jurichat() -> Platform {
    Platform::start("jurichat", "", "officeId").await
}

#[tokio::test]
async fn a_customer_registers_a_webhook_and_its_next_lead_arrives_signed() {
    let (platform, receiver) = (jurichat().await, Receiver::start().await);
    let body = json!({
        "name": "Integração com CRM",
        "url": receiver.url("/hook"),
        "events": ["crm.lead.created"],
        "description": "Envia os leads ao ERP",
        "isActive": true,
        "headers": { "Authorization": "Bearer erp" },
    });
    let webhook = platform.customer.post("/webhooks", &body).await.expect(201);
    let expected = [
        "id",
        "officeId",
        "name",
        "description",
        "url",
        "secret",
        "events",
        "isActive",
        "headers",
        "createdAt",
        "updatedAt",
    ];
    for name in expected {
        assert!(
            members(&webhook).contains(name),
            "{name} is missing: {webhook}"
        );
    }
    assert_eq!(webhook["officeId"], "office-1");
    assert_eq!(webhook["description"], "Envia os leads ao ERP");
    platform.in_force(1).await;

    let lead = json!({ "id": "lead-1", "name": "Maria" });
    platform.emit("evt-1", "crm.lead.created", &lead).await;
    platform.emit("evt-2", "crm.lead.deleted", &lead).await;
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(received.header("authorization"), "Bearer erp");
    let body: Value = serde_json::from_slice(&received.body).expect("an envelope");
    assert_eq!(
        (&body["officeId"], &body["data"]),
        (&json!("office-1"), &lead)
    );
    let secret = webhook["secret"].as_str().expect("a secret");
    let checked = verify(
        Scheme::Sha256,
        &[Secret::new(secret)],
        received.header("x-jurichat-signature"),
        &received.body,
        Clock::system().unix_ms() / 1_000,
        300,
    );
    checked.expect("a signature that verifies");
    platform.world.redis.settled("events").await;
    assert_eq!(receiver.received().len(), 1, "only what it asked for");
}

#[tokio::test]
async fn every_event_of_the_catalogue_reaches_who_asked_for_it() {
    jurichat().await.every_event_arrives(&EVENTS).await;
}

#[tokio::test]
async fn a_customer_reads_the_catalogue_in_portuguese() {
    let catalogue = jurichat().await.catalogue().await;
    let names: Vec<&str> = catalogue.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, EVENTS);
    assert_eq!(catalogue[0].1, "Um lead foi criado no CRM");
}

#[tokio::test]
async fn a_customer_may_ask_for_events_of_the_catalogue_and_nothing_else() {
    let platform = jurichat().await;
    let body =
        |events: Value| json!({ "name": "x", "url": "https://example.com/", "events": events });
    let unknown = body(json!(["crm.lead.created", "crm.lead.sold"]));
    let answer = platform.customer.post("/webhooks", &unknown).await;
    assert_eq!(
        (answer.status, answer.refused()),
        (422, vec!["/events/1".to_owned()])
    );
    let none = platform.customer.post("/webhooks", &body(json!([]))).await;
    assert_eq!(
        (none.status, none.refused()),
        (422, vec!["/events".to_owned()])
    );
    let pattern = body(json!(["crm.**"]));
    platform
        .customer
        .post("/webhooks", &pattern)
        .await
        .expect(201);
    let useless = platform
        .customer
        .post("/webhooks", &body(json!(["billing.**"])))
        .await;
    assert_eq!(useless.status, 422);
}

#[tokio::test]
async fn an_office_calls_with_its_api_key_in_the_header_of_the_platform() {
    let platform = jurichat().await;
    let token = platform.world.webhooks.tenant_token("office-2").await;
    let office = platform
        .pombo
        .api()
        .with_header("x-jurichat-api-key", &token);
    assert_eq!(office.get("/webhooks").await.expect(200), json!([]));
    let unknown = platform
        .pombo
        .api()
        .with_header("x-jurichat-api-key", "nonsense");
    assert_eq!(unknown.get("/webhooks").await.status, 401);
}

#[tokio::test]
async fn a_customer_lists_its_webhooks_with_their_numbers_and_without_secrets() {
    let platform = jurichat().await;
    let receiver = Receiver::start().await;
    let webhook = platform.register(&receiver, &["contact.created"]).await;
    platform.emit("evt-1", "contact.created", &json!({})).await;
    receiver.wait_for(1).await;
    let list = async || platform.customer.get("/webhooks").await.expect(200);
    let list = until("the delivery is counted", list, |list| {
        list[0]["stats"]["successCount"] == 1
    })
    .await;
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    assert_eq!(list[0]["id"], webhook["id"]);
    assert!(list[0].get("secret").is_none());
    assert_eq!(
        list[0]["stats"],
        json!({ "totalDeliveries": 1, "successCount": 1, "failedCount": 0, "successRate": 1.0 })
    );
    let id = webhook["id"].as_str().unwrap();
    let one = platform
        .customer
        .get(&format!("/webhooks/{id}"))
        .await
        .expect(200);
    assert_eq!(
        (&one["secret"], &one["headers"]),
        (&webhook["secret"], &json!({}))
    );
}

#[tokio::test]
async fn a_customer_changes_its_webhook_piece_by_piece() {
    let platform = jurichat().await;
    let body = json!({
        "name": "x", "url": "https://example.com/a", "events": ["crm.lead.created", "crm.lead.moved"],
        "description": "y", "headers": { "x-a": "1" },
    });
    let webhook = platform.customer.post("/webhooks", &body).await.expect(201);
    let path = format!("/webhooks/{}", webhook["id"].as_str().unwrap());
    let change = json!({ "events": ["contact.deleted"], "description": null, "headers": null, "isActive": false });
    let changed = platform.customer.patch(&path, &change).await.expect(200);
    assert_eq!(changed["events"], json!(["contact.deleted"]));
    assert_eq!(
        (&changed["description"], &changed["headers"]),
        (&Value::Null, &json!({}))
    );
    assert_eq!(
        (&changed["name"], &changed["isActive"]),
        (&json!("x"), &json!(false))
    );
    assert!(changed.get("secret").is_none());
    let read = platform.customer.get(&path).await.expect(200);
    assert_eq!(read["events"], json!(["contact.deleted"]));
    assert_eq!(read["secret"], webhook["secret"]);
}

#[tokio::test]
async fn a_paused_webhook_gets_nothing_new_and_a_deleted_one_nothing_more() {
    let (platform, receiver) = (jurichat().await, Receiver::start().await);
    let webhook = platform.register(&receiver, &["contact.created"]).await;
    let path = format!("/webhooks/{}", webhook["id"].as_str().unwrap());
    platform
        .customer
        .patch(&path, &json!({ "isActive": false }))
        .await
        .expect(200);
    platform.in_force(0).await;
    platform.emit("evt-1", "contact.created", &json!({})).await;
    platform.world.redis.settled("events").await;
    platform
        .customer
        .patch(&path, &json!({ "isActive": true }))
        .await
        .expect(200);
    platform.in_force(1).await;
    platform.emit("evt-2", "contact.created", &json!({})).await;
    let received = receiver.wait_for(1).await;
    assert_eq!(received[0].header("x-event-id"), "evt-2");

    assert_eq!(platform.customer.delete(&path).await.status, 204);
    assert_eq!(platform.customer.get(&path).await.status, 404);
    platform.in_force(0).await;
    platform.emit("evt-3", "contact.created", &json!({})).await;
    platform.world.redis.settled("events").await;
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn a_customer_sees_what_failed_and_has_it_sent_again() {
    let (platform, receiver) = (jurichat().await, Receiver::start().await);
    receiver.push(Step::status(410));
    let webhook = platform.register(&receiver, &["crm.lead.moved"]).await;
    let id = webhook["id"].as_str().unwrap();
    platform
        .emit("evt-1", "crm.lead.moved", &json!({ "to": "won" }))
        .await;
    let page = platform
        .deliveries_when(id, |page| page["data"][0]["status"] == "FAILED")
        .await;
    assert_eq!(
        (
            &page["total"],
            &page["page"],
            &page["limit"],
            &page["totalPages"]
        ),
        (&json!(1), &json!(1), &json!(20), &json!(1))
    );
    let delivery = &page["data"][0];
    let expected = [
        "id",
        "webhookId",
        "event",
        "status",
        "statusCode",
        "payload",
        "responseBody",
        "errorMessage",
        "durationMs",
        "attemptCount",
        "nextRetryAt",
        "createdAt",
        "expiresAt",
    ];
    for name in expected {
        assert!(
            members(delivery).contains(name),
            "{name} is missing: {delivery}"
        );
    }
    assert_eq!(delivery["event"], "crm.lead.moved");
    assert_eq!(
        (&delivery["statusCode"], &delivery["attemptCount"]),
        (&json!(410), &json!(1))
    );
    assert_eq!(delivery["payload"], json!({ "to": "won" }));

    // A receiver that answered 410 has its webhook disabled: the customer switches it on again.
    let path = format!("/webhooks/{id}");
    let shown = async || platform.customer.get(&path).await.expect(200);
    until("it is disabled", shown, |webhook| {
        webhook.get("disabled").is_some()
    })
    .await;
    platform
        .customer
        .patch(&path, &json!({ "isActive": true }))
        .await
        .expect(200);

    let delivery_id = delivery["id"].as_str().unwrap();
    let retry = format!("/webhooks/deliveries/{delivery_id}/retry");
    let answer = platform.customer.post(&retry, &json!({})).await.expect(200);
    assert_eq!(answer["deliveryId"], delivery_id);
    assert!(answer["message"].is_string());
    let page = platform
        .deliveries_when(id, |page| page["data"][0]["status"] == "SUCCESS")
        .await;
    assert_eq!(
        (&page["total"], &page["data"][0]["attemptCount"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(page["data"][0]["id"], delivery_id);

    // What has arrived is not sent again.
    assert_eq!(platform.customer.post(&retry, &json!({})).await.status, 409);
    let one = platform
        .customer
        .get(&format!("/webhooks/deliveries/{delivery_id}"))
        .await
        .expect(200);
    let attempts = one["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 2, "{one}");
    assert_eq!(
        (&attempts[0]["statusCode"], &attempts[1]["statusCode"]),
        (&json!(410), &json!(200))
    );
}

#[tokio::test]
async fn a_delivery_that_waits_for_its_retry_can_be_sent_at_once() {
    let mut platform = jurichat().await;
    platform.pombo.stop().await;
    platform.world = platform
        .world
        .change("[retry]\nfirst = \"1h\"\nlongest = \"2h\"");
    platform.pombo = platform.world.config.start().await;
    let token = platform.world.webhooks.tenant_token("office-1").await;
    platform.customer = platform.pombo.api().with_token(&token);
    let operator = platform.world.webhooks.operator_token().await;
    platform.operator = platform.pombo.api().with_token(&operator);
    let receiver = Receiver::start().await;
    receiver.push(Step::status(500));
    let webhook = platform.register(&receiver, &["crm.lead.moved"]).await;
    platform.emit("evt-1", "crm.lead.moved", &json!({})).await;
    let id = webhook["id"].as_str().unwrap();
    let page = platform
        .deliveries_when(id, |page| page["data"][0]["status"] == "RETRYING")
        .await;
    assert!(page["data"][0]["nextRetryAt"].is_string(), "{page}");
    let delivery = page["data"][0]["id"].as_str().unwrap();
    let retry = format!("/webhooks/deliveries/{delivery}/retry");
    platform.customer.post(&retry, &json!({})).await.expect(200);
    receiver.wait_for(2).await;
    platform
        .deliveries_when(id, |page| page["data"][0]["status"] == "SUCCESS")
        .await;
}

#[tokio::test]
async fn a_customer_tries_its_receiver_without_waiting_for_an_event() {
    let (platform, receiver) = (jurichat().await, Receiver::start().await);
    let webhook = platform.register(&receiver, &["contact.created"]).await;
    let path = format!("/webhooks/{}/test", webhook["id"].as_str().unwrap());
    let attempt = platform.customer.post(&path, &json!({})).await.expect(200);
    assert_eq!(
        (&attempt["status"], &attempt["statusCode"]),
        (&json!("SUCCESS"), &json!(200))
    );
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(received.header("x-event-type"), "webhook.test");
    let sent = received.header("x-jurichat-signature");
    assert_eq!(attempt["request"]["headers"]["x-jurichat-signature"], sent);
    let sample = platform
        .customer
        .post(&path, &json!({ "event": "crm.lead.moved" }))
        .await;
    assert_eq!(sample.expect(200)["event"], "crm.lead.moved");
    let received = receiver.wait_for(2).await.remove(1);
    let body: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(body["data"]["to"], "Em negociação");
}

#[tokio::test]
async fn another_office_cannot_see_touch_or_guess_anything() {
    let platform = jurichat().await;
    super::super::isolation::no_route_gives_a_tenants_things_to_another(&platform_world(&platform))
        .await;
}

/// What the walk over all routes needs of a platform.
fn platform_world(platform: &Platform) -> super::super::isolation::Case<'_> {
    super::super::isolation::Case {
        world: &platform.world,
        pombo: &platform.pombo,
        base: platform.base,
        tenant_field: platform.tenant_field,
    }
}

#[tokio::test]
async fn what_is_queued_waits_while_its_webhook_is_paused_and_keeps_its_order() {
    let (platform, receiver) = (jurichat().await, Receiver::start().await);
    receiver.push(Step::Hang);
    let body = json!({
        "name": "slow", "url": receiver.url("/hook"), "events": ["contact.created"],
        "ordering": "fifo", "timeoutMs": 1000,
    });
    let webhook = platform.customer.post("/webhooks", &body).await.expect(201);
    platform.in_force(1).await;
    let path = format!("/webhooks/{}", webhook["id"].as_str().unwrap());
    for n in 0..3 {
        platform
            .emit(&format!("evt-{n}"), "contact.created", &json!({ "n": n }))
            .await;
    }
    receiver.wait_for(1).await;
    platform
        .customer
        .patch(&path, &json!({ "isActive": false }))
        .await
        .expect(200);
    platform.in_force(0).await;
    let page = platform
        .deliveries_when(webhook["id"].as_str().unwrap(), |page| page["total"] == 3)
        .await;
    assert_eq!(page["data"][0]["status"], "PENDING");
    let seen = async || receiver.received().len();
    stays(
        "what is queued waits",
        std::time::Duration::from_secs(2),
        seen,
        |seen| *seen == 1,
    )
    .await;
    platform
        .customer
        .patch(&path, &json!({ "isActive": true }))
        .await
        .expect(200);
    let received = receiver.wait_until(|all| all.len() >= 4).await;
    let order: Vec<&str> = received[1..4]
        .iter()
        .map(|one| one.header("x-event-id"))
        .collect();
    assert_eq!(order, ["evt-0", "evt-1", "evt-2"]);
}
