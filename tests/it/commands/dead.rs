//! `pombo dead`.

use std::sync::Arc;
use std::time::Duration;

use pombo::clock::Clock;
use pombo::delivery::DeadReason;
use pombo::store::Store;
use pombo::store::changes::{Change, Position};

use super::place::{Place, bury};

const WEBHOOKS: &str = r#"
[[webhooks]]
id = "a"
tenant = "acme"
name = "A"
url = "https://example.com/a"
events = ["*"]

[[webhooks]]
id = "b"
tenant = "globex"
name = "B"
url = "https://example.com/b"
events = ["*"]
"#;

fn with_webhooks() -> Place {
    let place = Place::new("");
    let file = place.write("hooks.toml", WEBHOOKS);
    place.run(&["apply", &file]).ok();
    place
}

fn ids(listed: &serde_json::Value) -> Vec<String> {
    let listed = listed.as_array().unwrap();
    listed
        .iter()
        .map(|letter| letter["delivery_id"].as_str().unwrap().to_owned())
        .collect()
}

async fn waiting(store: &Store, id: &str) -> u64 {
    let webhook = store.webhook(id).await.unwrap().unwrap();
    let place = (store.shard_of(id), Arc::from(webhook.uid.as_str()));
    store.sizes(&[place]).await.unwrap().waiting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_and_shown_with_what_is_known_of_them() {
    let place = with_webhooks();
    let (store, _stop) = place.store().await;
    let settings = place.settings();
    let now = Clock::system().unix_ms();
    let day = 86_400_000;
    let mut buried = Vec::new();
    for n in 0..20 {
        let at = now - day + n;
        buried.push(bury(&store, &settings, "a", 1_000 + n, DeadReason::Exhausted, at).await);
    }
    let other = bury(&store, &settings, "b", 2_000, DeadReason::Gone, now - 1_000).await;

    let all = place.run(&["dead", "list", "--output", "json"]).json();
    assert_eq!(ids(&all).len(), 21);
    let of_a = place
        .run(&["dead", "list", "--webhook", "a", "--output", "json"])
        .json();
    assert_eq!(ids(&of_a), buried);
    let first = &of_a[0];
    assert_eq!(first["webhook_id"], "a");
    assert_eq!(
        (&first["event_id"], &first["event_type"]),
        (&"evt_1000".into(), &"crm.lead.created".into())
    );
    assert_eq!(
        (&first["reason"], &first["attempts"]),
        (&"exhausted".into(), &15.into())
    );
    assert_eq!(
        (&first["last_status"], &first["tenant"]),
        (&503.into(), &"acme".into())
    );
    assert_eq!(first["last_error"], "answered 503\u{1b}[2J");
    assert_eq!(first["payload_size"], 26);

    for filter in [
        &["--tenant", "globex"][..],
        &["--reason", "gone"],
        &["--newer-than", "1h"],
        &["--webhook", "b", "--older-than", "1ms"],
    ] {
        let command = [&["dead", "list", "--output", "json"], filter].concat();
        assert_eq!(
            ids(&place.run(&command).json()),
            std::slice::from_ref(&other),
            "{filter:?}"
        );
    }
    let limited = place
        .run(&["dead", "list", "--limit", "3", "--output", "json"])
        .json();
    assert_eq!(ids(&limited).len(), 3);
    let none = place.run(&["dead", "list", "--webhook", "c", "--output", "json"]);
    assert_eq!(none.ok(), "[]\n");

    let table = place.run(&["dead", "list", "--webhook", "b"]).ok();
    assert_eq!(table.lines().count(), 2);
    assert!(
        table.contains(&other) && table.contains("answered 503\\u{1b}[2J"),
        "{table}"
    );

    let shown = place.run(&["dead", "show", &other]).ok();
    for part in [
        &*other,
        "n\": 1.50",
        "\\u{202e}",
        "go away",
        "503\\u{1b}[2J",
        "gone: ",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let whole = place
        .run(&["dead", "show", &other, "--output", "json"])
        .json();
    assert_eq!(whole["payload"], "{\"n\": 1.50, \"text\": \"\u{202e}\"}");
    assert_eq!(whole["last_answer"], "go away");
    let unknown = other.replace('b', "a");
    assert_eq!(place.run(&["dead", "show", &unknown]).code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_letters_are_back_in_their_queue_and_the_owner_is_woken() {
    let place = with_webhooks();
    let (store, _stop) = place.store().await;
    let settings = place.settings();
    let now = Clock::system().unix_ms();
    let mut buried = Vec::new();
    for n in 0..5 {
        buried.push(
            bury(
                &store,
                &settings,
                "a",
                1_000 + n,
                DeadReason::Exhausted,
                now,
            )
            .await,
        );
    }
    bury(&store, &settings, "b", 2_000, DeadReason::Gone, now).await;
    let shard = store.shard_of("a");
    assert!(store.claim(shard, "", "somebody:1").await.unwrap());

    let dry = place
        .run(&["dead", "replay", "--webhook", "a", "--dry-run"])
        .ok();
    assert!(dry.contains("5 dead letters would be replayed"), "{dry}");
    assert_eq!(waiting(&store, "a").await, 0);

    let one = place
        .run(&["dead", "replay", &buried[2], "--rate", "1000"])
        .ok();
    assert_eq!(one, "1 dead letter replayed\n");
    assert_eq!(waiting(&store, "a").await, 1);
    let mut connected = store.link().connection().unwrap();
    let mut position = Position::default();
    let changes = store
        .follow(
            &mut connected,
            "somebody",
            &mut position,
            Duration::from_millis(1),
        )
        .await
        .unwrap();
    let uid = store.webhook("a").await.unwrap().unwrap().uid;
    assert!(
        changes.contains(&Change::Wake {
            shard,
            uid,
            rescheduled: true
        }),
        "{changes:?}"
    );

    let rest = place.run(&["dead", "replay", "--reason", "exhausted"]).ok();
    assert_eq!(rest, "4 dead letters replayed\n");
    assert_eq!(
        (waiting(&store, "a").await, waiting(&store, "b").await),
        (5, 0)
    );
    let left = place.run(&["dead", "list", "--output", "json"]).json();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!(place.run(&["dead", "replay", &buried[2]]).code, 1);

    let mut idle = store.webhook("b").await.unwrap().unwrap();
    idle.spec.active = false;
    store.put_webhook(&idle).await.unwrap();
    let outcome = place.run(&["dead", "replay", "--all"]);
    assert!(
        outcome.errors.contains("1 of them wait in their queue"),
        "{}",
        outcome.errors
    );
    assert_eq!(outcome.ok(), "1 dead letter replayed\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_leaves_what_has_no_webhook_or_no_room() {
    let place = with_webhooks();
    let mut settings = std::fs::read_to_string(place.path("pombo.toml")).unwrap();
    settings.push_str("[queue]\nmax_deliveries = 2\nmax_total_deliveries = 2\n");
    place.write("pombo.toml", &settings);
    let (store, _stop) = place.store().await;
    let settings = place.settings();
    let now = Clock::system().unix_ms();
    for n in 0..3 {
        bury(
            &store,
            &settings,
            "a",
            1_000 + n,
            DeadReason::QueueFull,
            now,
        )
        .await;
        bury(
            &store,
            &settings,
            "b",
            1_000 + n,
            DeadReason::QueueFull,
            now,
        )
        .await;
    }
    let gone = store.webhook("b").await.unwrap().unwrap();
    store.delete_webhook(&gone).await.unwrap();

    let outcome = place.run(&["dead", "replay", "--all"]);
    assert_eq!(
        (outcome.code, outcome.out.as_str()),
        (1, "2 dead letters replayed\n")
    );
    assert!(
        outcome
            .errors
            .contains("1 dead letter not replayed: the queue of the webhook is full"),
        "{}",
        outcome.errors
    );
    assert!(
        outcome
            .errors
            .contains("3 dead letters not replayed: their webhook was deleted"),
        "{}",
        outcome.errors
    );
    assert_eq!(waiting(&store, "a").await, 2);
    let left = place
        .run(&["dead", "list", "--webhook", "b", "--output", "json"])
        .json();
    assert_eq!(left[0]["webhook_exists"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purged_letters_are_gone_for_good() {
    let place = with_webhooks();
    let (store, _stop) = place.store().await;
    let settings = place.settings();
    let now = Clock::system().unix_ms();
    let old = bury(
        &store,
        &settings,
        "a",
        1_000,
        DeadReason::Expired,
        now - 86_400_000,
    )
    .await;
    let new = bury(&store, &settings, "a", 1_001, DeadReason::Expired, now).await;

    let dry = place
        .run(&["dead", "purge", "--older-than", "1h", "--dry-run"])
        .ok();
    assert!(dry.ends_with("1 dead letter would be purged\n"), "{dry}");
    let unasked = place.run(&["dead", "purge", "--older-than", "1h"]);
    assert_eq!(unasked.code, 64);
    assert!(unasked.errors.contains("--yes"), "{}", unasked.errors);

    let purged = place
        .run(&["dead", "purge", "--older-than", "1h", "--yes"])
        .ok();
    assert_eq!(purged, "1 dead letter purged\n");
    let left = place.run(&["dead", "list", "--output", "json"]).json();
    assert_eq!(ids(&left), [new]);
    assert_eq!(place.run(&["dead", "purge", &old, "--yes"]).code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_is_named_and_does_not_hide_the_dead_letters_of_others() {
    let place = with_webhooks();
    let (store, _stop) = place.store().await;
    let settings = place.settings();
    let now = Clock::system().unix_ms();
    bury(&store, &settings, "a", 1_000, DeadReason::Gone, now).await;
    let kept = bury(&store, &settings, "b", 2_000, DeadReason::Gone, now).await;
    let webhook = store.webhook("a").await.unwrap().unwrap();
    let key = store.keys().dead(store.shard_of("a"), &webhook.uid);
    place.redis(&["SET", &key, "not a stream"]);
    let outcome = place.run(&["dead", "list", "--output", "json"]);
    assert_eq!(outcome.code, 1, "{}", outcome.errors);
    assert!(outcome.errors.contains(&key), "{}", outcome.errors);
    assert_eq!(ids(&serde_json::from_str(&outcome.out).unwrap()), [kept]);
}
