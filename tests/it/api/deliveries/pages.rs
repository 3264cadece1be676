//! Pages of deliveries: their order, what narrows them, and how far they look.

use pombo::clock::Clock;
use serde_json::json;

use super::HOUR;
use crate::api::shelves::{Made, Place, events};
use crate::support::receiver::Receiver;
use crate::support::wait::until;

#[tokio::test]
async fn pages_over_all_shelves_follow_the_arrival_of_the_events() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let later = Clock::system().unix_ms() + HOUR;
    // In an order of its own on each shelf, as retries and replays leave it.
    for n in (0..60).map(|n| (n * 37) % 60) {
        let made = Made::new(n);
        match n % 4 {
            0 => drop(place.queued(&webhook, &made).await),
            1 => place.scheduled(&webhook, &made, later).await,
            2 => drop(place.dead(&webhook, &made).await),
            _ => drop(place.finished(&webhook, &made, true).await),
        }
    }
    let mut seen = Vec::new();
    for page in 1..=5 {
        let path = format!("/v1/webhooks/w/deliveries?page={page}&limit=13");
        let page = place.operator.get(&path).await.expect(200);
        assert_eq!(
            (&page["total"], &page["totalPages"]),
            (&json!(60), &json!(5))
        );
        seen.extend(events(&page));
    }
    let expected: Vec<String> = (0..60).rev().map(|n| format!("e{n}")).collect();
    assert_eq!(seen, expected);
    let path = "/v1/webhooks/w/deliveries?page=6&limit=13";
    assert_eq!(events(&place.operator.get(path).await.expect(200)), [""; 0]);
}

#[tokio::test]
async fn deliveries_are_narrowed_by_event_and_time_and_then_counted() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    for n in 0..700 {
        let made = Made::new(n).of_type(if n % 7 == 0 {
            "contact.created"
        } else {
            "contact.updated"
        });
        place.finished(&webhook, &made, false).await;
    }
    let page = |query: &'static str| {
        let path = format!("/v1/webhooks/w/deliveries?{query}");
        async { (place.operator.clone(), path) }
    };
    let ask = async |query: &'static str| {
        let (api, path) = page(query).await;
        let answer = api.get(&path).await;
        assert_eq!(answer.header("pombo-total"), "exact");
        let body = answer.expect(200);
        (body["total"].as_u64().unwrap(), events(&body))
    };
    let (total, found) = ask("event=contact.created&limit=2").await;
    assert_eq!(
        (total, found),
        (100, vec!["e693".to_owned(), "e686".to_owned()])
    );
    // From the tenth second on, up to the twelfth, which does not belong to it.
    let (total, found) = ask("since=2026-03-13T12:00:10Z&until=2026-03-13T13:00:12%2B01:00").await;
    assert_eq!(
        (total, found),
        (2, vec!["e11".to_owned(), "e10".to_owned()])
    );
    let (total, _) = ask("event=nothing.like.it").await;
    assert_eq!(total, 0);
    let path = "/v1/webhooks/w/deliveries?page=101&limit=100&status=DONE&colour=red";
    let mut refused = place.operator.get(path).await.refused();
    refused.sort();
    assert_eq!(refused, ["colour", "page", "status"]);
}

#[tokio::test]
async fn beyond_its_budget_a_listing_says_that_there_is_more() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let key = place.history_key(&webhook);
    // Each succeeded three milliseconds after its event had arrived.
    let script = r"for n = 1, 21000 do
        local arrived = tonumber(ARGV[1]) + n
        redis.call('XADD', KEYS[1], (arrived + 3) .. '-0', 'v', '1', 'i', 'e' .. n, 't', n == 1 and 'old' or 'new',
          'n', 'default', 'm', '1', 'o', 'events', 'e', arrived .. '-0', 'c', 'text/plain', 'j', '0', 'a', '1', 'l', '[]')
      end";
    let first = Clock::system().unix_ms() - 30_000;
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(1).arg(&key).arg(first);
    let _: Option<String> = place.world.redis.query(&command).await;
    let answer = place
        .operator
        .get("/v1/webhooks/w/deliveries?event=old")
        .await;
    assert_eq!(answer.header("pombo-total"), "at-least");
    assert_eq!(answer.expect(200)["total"], 0);
    let answer = place.operator.get("/v1/webhooks/w/deliveries").await;
    assert_eq!(answer.header("pombo-total"), "exact");
    assert_eq!(answer.expect(200)["total"], 21_000);
    // By its id it is found, however far back.
    let old = Made {
        arrived_ms: first + 1,
        ..Made::new(0)
    };
    let path = format!("/v1/webhooks/deliveries/{}", old.id(&webhook));
    assert_eq!(place.operator.get(&path).await.expect(200)["event"], "old");
    // Once it is known where it is, it is found at once; and no more when it is gone.
    assert_eq!(place.operator.get(&path).await.expect(200)["eventId"], "e1");
    let _: u64 = place.world.redis.run(&format!("UNLINK {key}")).await;
    assert_eq!(place.operator.get(&path).await.status, 404);
}

#[tokio::test]
async fn where_many_deliveries_took_long_the_first_page_is_in_order_as_best_it_can_be() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let key = place.history_key(&webhook);
    // Each took a minute, and they ended within a second.
    let script = r#"for n = 1, 1000 do
        local ended = tonumber(ARGV[1]) + n
        redis.call('XADD', KEYS[1], ended .. '-0', 'd', '{"v":3,"i":"e' .. n .. '","t":"a","n":"default",'
          .. '"o":"events","e":"' .. (ended - 60000) .. '-0","a":1,"l":[]}')
      end"#;
    let first = Clock::system().unix_ms() - 30_000;
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(1).arg(&key).arg(first);
    let _: Option<String> = place.world.redis.query(&command).await;
    let path = "/v1/webhooks/w/deliveries?limit=3";
    let answer = place.operator.get(path).await;
    assert_eq!(answer.header("pombo-order"), "best-effort");
    let page = answer.expect(200);
    assert_eq!(page["total"], 1_000);
    assert_eq!(events(&page), ["e1000", "e999", "e998"]);
    let answer = place
        .operator
        .get("/v1/webhooks/w/deliveries?limit=100&page=10")
        .await;
    assert_eq!(answer.header("pombo-order"), "exact");
    assert_eq!(events(&answer.expect(200))[99], "e1");
}

#[tokio::test]
async fn a_delivered_event_with_quotes_in_its_id_is_listed_by_it() {
    lists_by_quoted_id(Place::new().await).await;
}

#[tokio::test]
async fn a_delivered_event_with_quotes_in_its_id_is_listed_by_it_where_payloads_are_kept() {
    lists_by_quoted_id(Place::with("[history]\npayload = \"all\"").await).await;
}

async fn lists_by_quoted_id(place: Place) {
    let receiver = Receiver::start().await;
    place.world.webhooks.all("w", &receiver.url("/")).await;
    for id in ["plain", r#"quo"ted\"#] {
        let event = [("id", id), ("type", "a.b"), ("payload", "{}")];
        until(
            "the delivery of a new event",
            async || {
                place.world.redis.add("events", &event).await;
                place.world.redis.settled("events").await;
                receiver.received()
            },
            |received| {
                let last = received.last();
                last.is_some_and(|last| last.header("x-event-id") == id)
            },
        )
        .await;
    }
    let listed = until(
        "both in the list",
        async || {
            let page = place.operator.get("/v1/webhooks/w/deliveries").await;
            events(&page.expect(200))
        },
        |listed| listed.first().is_some_and(|newest| newest != "plain"),
    )
    .await;
    assert_eq!(listed[0], r#"quo"ted\"#);
    assert_eq!(listed[listed.len() - 1], "plain");
}

#[tokio::test]
async fn a_page_has_all_that_is_counted_while_deliveries_come() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    let come = async {
        for n in 0..90 {
            place.finished(&webhook, &Made::new(n), true).await;
        }
    };
    let list = async {
        let mut total = 0;
        while total < 90 {
            let path = "/v1/webhooks/w/deliveries?limit=100";
            let page = place.operator.get(path).await.expect(200);
            total = page["total"].as_u64().unwrap();
            assert_eq!(events(&page).len() as u64, total);
        }
    };
    tokio::join!(come, list);
}
