//! Deliveries over the API: pages of them, one with its attempts, those of an event.

mod looks;
mod pages;

use pombo::clock::Clock;
use serde_json::{Value, json};

use super::shelves::{Made, NOON, Place, events};

const HOUR: u64 = 3_600_000;

fn ids(page: &Value) -> Vec<String> {
    let data = page["data"].as_array().expect("a list");
    data.iter()
        .map(|delivery| delivery["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[tokio::test]
async fn a_customer_sees_every_delivery_with_its_status_and_what_is_known_of_it() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let now = Clock::system().unix_ms();
    let api = place.tenant("default").await;
    let made: Vec<Made> = (1..=5).map(Made::new).collect();
    place.queued(&webhook, &made[0]).await;
    place.scheduled(&webhook, &made[1], now + HOUR).await;
    place.scheduled(&webhook, &made[2], now - HOUR).await;
    place.dead(&webhook, &made[3]).await;
    place.finished(&webhook, &made[4], false).await;

    let answer = api.get("/v1/webhooks/w/deliveries").await;
    assert_eq!(answer.header("pombo-total"), "exact");
    let page = answer.expect(200);
    assert_eq!(page["total"], 5);
    assert_eq!(
        (&page["page"], &page["limit"], &page["totalPages"]),
        (&json!(1), &json!(20), &json!(1))
    );
    assert_eq!(events(&page), ["e5", "e4", "e3", "e2", "e1"]);
    let data = page["data"].as_array().unwrap();
    let statuses: Vec<&Value> = data.iter().map(|delivery| &delivery["status"]).collect();
    assert_eq!(
        statuses,
        ["SUCCESS", "FAILED", "PENDING", "RETRYING", "PENDING"]
    );

    let success = &data[0];
    assert_eq!(success["id"], made[4].id(&webhook));
    assert_eq!(success["webhookId"], "w");
    assert_eq!(success["event"], "crm.lead.created");
    assert_eq!(success["statusCode"], 200);
    assert_eq!(success["payload"], Value::Null);
    assert_eq!(success["responseBody"], "answer 2");
    assert_eq!(success["errorMessage"], Value::Null);
    assert_eq!(success["durationMs"], 42);
    assert_eq!(success["attemptCount"], 2);
    assert_eq!(success["createdAt"], "2026-03-13T12:00:05.000Z");
    assert!(success["finishedAt"].is_string() && success["expiresAt"].is_string());

    let failed = &data[1];
    assert_eq!(failed["attemptCount"], 3);
    assert_eq!(failed["reason"], "exhausted");
    assert_eq!(failed["errorMessage"], "answered 503");
    assert_eq!(failed["payload"], json!({"n": 4, "price": 1.50}));

    let retrying = &data[3];
    assert_eq!(retrying["attemptCount"], 2);
    assert_eq!(
        retrying["nextRetryAt"],
        pombo::clock::rfc3339_ms(now + HOUR)
    );
    // The first attempt and the four days of the retry policy.
    assert_eq!(retrying["expiresAt"], "2026-03-17T12:00:01.000Z");
    assert_eq!(data[2]["nextRetryAt"], Value::Null);

    let pending = &data[4];
    assert_eq!(pending["attemptCount"], 0);
    for unknown in [
        "statusCode",
        "responseBody",
        "errorMessage",
        "durationMs",
        "nextRetryAt",
        "expiresAt",
        "finishedAt",
        "reason",
    ] {
        assert_eq!(pending[unknown], Value::Null, "{unknown}");
    }

    for (status, expected) in [
        ("PENDING", vec!["e3", "e1"]),
        ("RETRYING", vec!["e2"]),
        ("FAILED", vec!["e4"]),
        ("SUCCESS", vec!["e5"]),
    ] {
        let path = format!("/v1/webhooks/w/deliveries?status={status}");
        let page = api.get(&path).await.expect(200);
        assert_eq!(events(&page), expected, "{status}");
        assert_eq!(page["total"], expected.len(), "{status}");
        // The same with a filter that must be counted row by row.
        let page = api
            .get(&format!("{path}&event=crm.lead.created"))
            .await
            .expect(200);
        assert_eq!(events(&page), expected, "{status}");
        assert_eq!(page["total"], expected.len(), "{status}");
    }
}

#[tokio::test]
async fn payloads_come_byte_for_byte_and_large_ones_only_in_the_delivery_itself() {
    let place = Place::with("[history]\npayload = \"all\"").await;
    let webhook = place.paused("w").await;
    let exact = Made::new(1).with_payload("{ \"b\": 1.50e0,\"a\":12345678901234567890123 }", true);
    let text = Made::new(2).with_payload("no <json> at all", false);
    let large = format!("\"{}\"", "x".repeat(70_000));
    let large = Made::new(3).with_payload(&large, true);
    place.finished(&webhook, &exact, true).await;
    place.queued(&webhook, &text).await;
    place.dead(&webhook, &large).await;
    let answer = place.operator.get("/v1/webhooks/w/deliveries").await;
    assert!(answer.text.contains(&exact.payload), "{}", answer.text);
    let page = answer.expect(200);
    assert_eq!(page["data"][0]["payload"], Value::Null);
    assert_eq!(page["data"][1]["payload"], "no <json> at all");
    let path = format!("/v1/webhooks/deliveries/{}", large.id(&webhook));
    let whole = place.operator.get(&path).await.expect(200);
    assert_eq!(whole["payload"].as_str().unwrap().len(), 70_000);
}

#[tokio::test]
async fn no_payload_is_shown_where_the_settings_say_so() {
    let place = Place::with("[history]\npayload = \"none\"").await;
    let webhook = place.paused("w").await;
    place.finished(&webhook, &Made::new(1), true).await;
    place.queued(&webhook, &Made::new(2)).await;
    place.dead(&webhook, &Made::new(3)).await;
    let page = place
        .operator
        .get("/v1/webhooks/w/deliveries")
        .await
        .expect(200);
    for delivery in page["data"].as_array().unwrap() {
        assert_eq!(delivery["payload"], Value::Null);
    }
    let path = format!("/v1/webhooks/deliveries/{}", Made::new(3).id(&webhook));
    assert_eq!(
        place.operator.get(&path).await.expect(200)["payload"],
        Value::Null
    );
}

#[tokio::test]
async fn a_delivery_is_shown_with_every_attempt() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let made = Made::new(1);
    place.dead(&webhook, &made).await;
    let path = format!("/v1/webhooks/deliveries/{}", made.id(&webhook));
    let delivery = place.operator.get(&path).await.expect(200);
    assert_eq!(delivery["id"], made.id(&webhook));
    assert_eq!(delivery["status"], "FAILED");
    let attempts = delivery["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3);
    assert_eq!(attempts[0]["number"], 1);
    assert_eq!(attempts[0]["startedAt"], "2026-03-13T12:00:01.000Z");
    assert_eq!(attempts[0]["statusCode"], 503);
    assert_eq!(attempts[0]["durationMs"], 42);
    assert_eq!(attempts[0]["errorMessage"], "answered 503");
    assert_eq!(attempts[2]["responseBody"], "answer 3");
    assert_eq!(
        attempts[0]["phases"],
        json!({"dnsMs": 1.2, "connectMs": null, "tlsMs": null, "firstByteMs": 41.0, "totalMs": 42.4})
    );
    let headers = attempts[1]["requestHeaders"].as_object().expect("headers");
    assert_eq!(headers["authorization"], "***");
    assert_eq!(headers["x-delivery-id"], made.id(&webhook));
    assert_eq!(headers["x-delivery-attempt"], "2");
}

#[tokio::test]
async fn what_cannot_be_read_is_left_out_and_the_rest_is_shown() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    place.dead(&webhook, &Made::new(1)).await;
    place.finished(&webhook, &Made::new(2), false).await;
    for key in [
        place.dead_key(&webhook),
        place.history_key(&webhook),
        place.queue_key(&webhook),
    ] {
        place.add(&key, &[("junk", "1".into())]).await;
        place
            .add(&key, &[("v", "9".into()), ("e", "5-5".into())])
            .await;
        let broken = [
            ("v", "1".into()),
            ("e", format!("{}-0", NOON + 9_000)),
            ("i", "broken".into()),
            ("l", "{".into()),
        ];
        place.add(&key, &broken).await;
    }
    let page = place
        .operator
        .get("/v1/webhooks/w/deliveries")
        .await
        .expect(200);
    assert_eq!(events(&page), ["e2", "e1"]);
    let page = place
        .operator
        .get("/v1/webhooks/w/deliveries?event=crm.lead.created")
        .await;
    assert_eq!(events(&page.expect(200)), ["e2", "e1"]);
    let path = format!("/v1/webhooks/deliveries/{}", Made::new(1).id(&webhook));
    place.operator.get(&path).await.expect(200);
    let traced = place
        .operator
        .get("/v1/events/broken/deliveries?tenantId=default")
        .await;
    assert_eq!(events(&traced.expect(200)), [""; 0]);
}

#[tokio::test]
async fn another_tenants_deliveries_are_told_in_the_words_of_those_that_do_not_exist() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let made = Made::new(1);
    place.dead(&webhook, &made).await;
    let stranger = place.tenant("globex").await;
    let own = place.tenant("default").await;
    let there = made.id(&webhook);
    let nowhere = there.replacen("w.", "nothing.", 1);
    let pairs = [
        (
            "/v1/webhooks/w/deliveries".to_owned(),
            "/v1/webhooks/x/deliveries".to_owned(),
        ),
        (
            format!("/v1/webhooks/deliveries/{there}"),
            format!("/v1/webhooks/deliveries/{nowhere}"),
        ),
    ];
    for (others, missing) in pairs {
        own.get(&others).await.expect(200);
        let (others, missing) = (stranger.get(&others).await, stranger.get(&missing).await);
        assert_eq!((others.status, missing.status), (404, 404));
        assert_eq!(others.text, missing.text);
    }
    let (others, missing) = (
        stranger
            .post(
                &format!("/v1/webhooks/deliveries/{there}/retry"),
                &json!({}),
            )
            .await,
        stranger
            .post(
                &format!("/v1/webhooks/deliveries/{nowhere}/retry"),
                &json!({}),
            )
            .await,
    );
    assert_eq!((others.status, &others.text), (404, &missing.text));
    let refused = stranger
        .get("/v1/events/e1/deliveries?tenantId=default")
        .await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        stranger.get("/v1/events/e1/deliveries").await.expect(200)["data"],
        json!([])
    );
    assert_eq!(place.world.webhooks.dead(&webhook).await.len(), 1);
}

#[tokio::test]
async fn ids_that_are_none_are_no_delivery() {
    let place = Place::new().await;
    place.paused("w").await;
    for id in [
        "x",
        "w",
        "w.",
        ".abc",
        "w.short",
        "w.aaaaaaaaaaaaaaaaaaaaaa",
        "w.aaaaaaaaaaaaaaaaaaaaa%00",
        "%ff%fe",
        "w.aaaaaaaaaaaaaaaaaaaaa%20",
        "*",
        "w%2Fdeliveries",
        "pombo:{cfg}:webhooks",
        "%0D%0A",
        "w.%F0%9F%90%A6",
    ] {
        let answer = place
            .operator
            .get(&format!("/v1/webhooks/deliveries/{id}"))
            .await;
        assert_eq!(answer.status, 404, "{id}: {}", answer.text);
        let answer = place
            .operator
            .post(&format!("/v1/webhooks/deliveries/{id}/retry"), &json!({}))
            .await;
        assert_eq!(answer.status, 404, "{id}: {}", answer.text);
    }
    let long = "a".repeat(5_000);
    let answer = place
        .operator
        .get(&format!("/v1/webhooks/{long}/deliveries"))
        .await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn the_deliveries_of_an_event_are_found_at_all_webhooks_of_its_tenant() {
    let place = Place::new().await;
    let (one, two) = (place.paused("one").await, place.paused("two").await);
    let made = Made::new(7);
    place.dead(&one, &made).await;
    place.dead(&one, &Made::new(8)).await;
    place.finished(&two, &made, false).await;
    let own = place.tenant("default").await;
    let found = own.get("/v1/events/e7/deliveries").await.expect(200);
    assert_eq!(found["complete"], true);
    let mut found = ids(&found);
    found.sort();
    assert_eq!(found, [made.id(&one), made.id(&two)]);
    // The operator must say whose event it is.
    let refused = place.operator.get("/v1/events/e7/deliveries").await;
    assert_eq!(
        (refused.status, refused.refused()),
        (422, vec!["tenantId".to_owned()])
    );
    let found = place
        .operator
        .get("/v1/events/e7/deliveries?tenantId=default")
        .await;
    assert_eq!(ids(&found.expect(200)).len(), 2);
}
