//! The two ways of looking at a history: whole, and by the script that leaves payloads in Redis.

use pombo::event::EntryId;
use pombo::store::Store;
use pombo::store::deliveries::{From, Look, MOST_LOOKED_AT, Row, RowFilter, Shelf, Waiting};
use pombo::webhook::Webhook;
use serde_json::json;

use crate::api::shelves::{Made, NOON, Place};
use crate::support::pombo::Config;
use crate::support::redis::Redis;

/// Every row under `filter`, in looks of `most_rows` rows at most.
async fn rows(
    store: &Store,
    webhook: &Webhook,
    filter: &RowFilter,
    first: From,
    most_rows: usize,
) -> Vec<Row> {
    let shard = store.shard_of(&webhook.spec.id);
    let (mut found, mut from) = (Vec::new(), first);
    loop {
        let look = Look {
            from,
            floor_ms: NOON,
            now_ms: NOON + 1_000_000,
            most_entries: MOST_LOOKED_AT,
            most_rows,
        };
        let seen = store
            .rows(shard, &webhook.uid, Shelf::History, filter, &look)
            .await
            .expect("an answer");
        assert!(seen.rows.len() <= most_rows && seen.cost <= MOST_LOOKED_AT);
        found.extend(seen.rows);
        if seen.ended {
            return found;
        }
        from = match (from, seen.last) {
            (From::After { until, .. }, Some(after)) => From::After { after, until },
            (_, before) => From::Before(before),
        };
    }
}

/// Adds an entry that came to the history of `webhook` at `ms`.
async fn add_at(place: &Place, webhook: &Webhook, ms: u64, fields: &[(&str, String)]) {
    let mut command = redis::cmd("XADD");
    command
        .arg(place.history_key(webhook))
        .arg(format!("{ms}-0"));
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    let _: String = place.world.redis.query(&command).await;
}

#[tokio::test]
async fn a_history_is_seen_the_same_whole_and_by_the_script() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    for n in 0..260_u64 {
        let ms = NOON + n * 1_000;
        let id = if n % 50 == 7 {
            format!("e\"{n}\\")
        } else {
            format!("e{n}")
        };
        let kind = if n % 3 == 0 { "a.b" } else { "c.d" };
        let whole = json!({
            // What a newer version wrote cannot be shown, and is there all the same.
            "v": if n % 90 == 5 { 9 } else { 3 }, "i": id, "t": kind, "n": "default", "o": "events",
            "e": format!("{ms}-0"), "a": 1, "l": [],
        });
        let fields = match n % 20 {
            0 => vec![
                ("v", "1".to_owned()),
                ("i", id),
                ("t", kind.to_owned()),
                ("n", "default".to_owned()),
                ("o", "events".to_owned()),
                ("e", format!("{ms}-0")),
            ],
            1 => vec![("d", "[".to_owned())],
            2 => vec![("x", "no delivery".to_owned())],
            // In an order of its own, as another hand may have written it.
            3 => vec![(
                "d",
                format!(r#"{{"e":"{ms}-0","o":"s","t":"{kind}","i":"{n}"}}"#),
            )],
            _ => vec![("d", whole.to_string())],
        };
        // The first ones have expired.
        add_at(&place, &webhook, ms - 10_000, &fields).await;
    }
    let config = Config::new(&place.world.redis).with("[history]\npayload = \"all\"");
    let (by_script, whole) = (config.webhooks().await, &place.world.webhooks);
    let all = RowFilter::default();
    let filters = [
        all.clone(),
        RowFilter {
            event_type: Some("a.b".into()),
            ..all.clone()
        },
        RowFilter {
            event_id: Some("e\"57\\".into()),
            ..all.clone()
        },
        RowFilter {
            since_ms: Some(NOON + 30_000),
            until_ms: Some(NOON + 90_000),
            ..all.clone()
        },
        RowFilter {
            waiting: Some(Waiting::ForItsTime),
            ..all.clone()
        },
        RowFilter {
            waiting: Some(Waiting::ForItsTurn),
            ..all.clone()
        },
    ];
    let at = |n: u64| EntryId {
        ms: NOON + n * 1_000,
        seq: 0,
    };
    let ways = [
        From::Before(None),
        From::Before(Some(at(100))),
        From::After {
            after: EntryId::MIN,
            until: EntryId::MAX,
        },
        From::After {
            after: at(20),
            until: at(200),
        },
    ];
    let mut counts = Vec::new();
    for filter in &filters {
        for from in ways {
            for most in [7, MOST_LOOKED_AT] {
                let as_whole = rows(whole.store(), &webhook, filter, from, most).await;
                let scripted = rows(by_script.store(), &webhook, filter, from, most).await;
                assert_eq!(as_whole, scripted, "{filter:?} {from:?} {most}");
                counts.push(as_whole.len());
            }
        }
    }
    // 250 have not expired, 24 of them are no deliveries.
    assert_eq!(counts[0], 226);
    assert_eq!(
        counts.iter().filter(|count| **count == 0).count(),
        ways.len() * 2
    );
}

/// How many scripts the server has run.
async fn scripts_run(redis: &Redis) -> u64 {
    let info: String = redis.run("INFO commandstats").await;
    let calls = info.lines().filter_map(|line| {
        let rest = line.strip_prefix("cmdstat_eval")?;
        rest.split_once("calls=")?
            .1
            .split(',')
            .next()?
            .parse::<u64>()
            .ok()
    });
    calls.sum()
}

#[tokio::test]
async fn payloads_that_other_settings_left_are_met_once_and_stay_in_redis_from_then_on() {
    let place = Place::new().await;
    let webhook = place.paused("w").await;
    for n in 0..60 {
        place.finished(&webhook, &Made::new(n), n < 30).await;
    }
    let store = place.world.webhooks.store();
    let shard = place.shard(&webhook);
    let look = async |most_rows| {
        let before = scripts_run(&place.world.redis).await;
        let look = Look {
            from: From::Before(None),
            floor_ms: 0,
            now_ms: NOON,
            most_entries: MOST_LOOKED_AT,
            most_rows,
        };
        let all = RowFilter::default();
        let seen = store.rows(shard, &webhook.uid, Shelf::History, &all, &look);
        let rows = seen.await.expect("an answer").rows.len();
        (rows, scripts_run(&place.world.redis).await - before)
    };
    // The newest have none.
    assert_eq!(look(20).await, (20, 0));
    let (rows, scripts) = look(60).await;
    assert!(rows > 30 && scripts == 0, "{rows} {scripts}");
    let (rows, scripts) = look(20).await;
    assert!(rows == 20 && scripts > 0, "{rows} {scripts}");
}
