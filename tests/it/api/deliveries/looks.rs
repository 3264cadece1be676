//! The two ways of looking at a history: whole, and by the script that leaves payloads in Redis.

use pombo::event::EntryId;
use pombo::store::deliveries::{
    Counting, From, Look, MOST_LOOKED_AT, Place, Row, RowFilter, Shelf, Waiting,
};
use pombo::store::{Keys, Store};
use pombo::webhook::Webhook;
use serde_json::json;

use crate::api::shelves::NOON;
use crate::support::pombo::{Config, World};

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

/// A webhook without a daemon, so that nobody else runs scripts or trims.
struct Shelves {
    world: World,
    webhook: Webhook,
    key: String,
}

impl Shelves {
    async fn new() -> Shelves {
        let world = World::new().await;
        let make = world
            .webhooks
            .make("w", "http://127.0.0.1:9/", &["*"], |_| {});
        let webhook = make.await;
        let shard = world.webhooks.store().shard_of(&webhook.spec.id);
        let key = Keys::new("pombo").history(shard, &webhook.uid);
        Shelves {
            world,
            webhook,
            key,
        }
    }

    /// Adds an entry that came to the history at `ms`.
    async fn add_at(&self, ms: u64, fields: &[(&str, String)]) {
        let mut command = redis::cmd("XADD");
        command.arg(&self.key).arg(format!("{ms}-0"));
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        let _: String = self.world.redis.query(&command).await;
    }

    /// How many scripts the server has run.
    async fn scripts_run(&self) -> u64 {
        let info: String = self.world.redis.run("INFO commandstats").await;
        let calls = info.lines().filter_map(|line| {
            let rest = line.strip_prefix("cmdstat_eval")?;
            let number = rest.split_once("calls=")?.1.split(',').next()?;
            number.parse::<u64>().ok()
        });
        calls.sum()
    }
}

/// The delivery of an event that arrived then.
fn delivery(ms: u64, id: &str, kind: &str, version: u8) -> String {
    json!({
        "v": version, "i": id, "t": kind, "n": "default", "o": "events", "e": format!("{ms}-0"), "a": 1, "l": [],
    })
    .to_string()
}

#[tokio::test]
async fn a_history_is_seen_the_same_whole_and_by_the_script() {
    let shelves = Shelves::new().await;
    for n in 0..260_u64 {
        let ms = NOON + n * 1_000;
        let id = if n % 50 == 7 {
            format!("e\"{n}\\")
        } else {
            format!("e{n}")
        };
        let kind = if n % 3 == 0 { "a.b" } else { "c.d" };
        // What a newer version wrote cannot be shown, and is there all the same.
        let version = if n % 90 == 5 { 9 } else { 3 };
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
            4 => vec![("d", format!(r#"{{"e":"{ms}-0"}}"#))],
            _ => vec![("d", delivery(ms, &id, kind, version))],
        };
        // The first ones have expired.
        shelves.add_at(ms - 10_000, &fields).await;
    }
    let (world, webhook) = (&shelves.world, &shelves.webhook);
    let config = Config::new(&world.redis).with("[history]\npayload = \"all\"");
    let (by_script, whole) = (config.webhooks().await, &world.webhooks);
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
                let before = shelves.scripts_run().await;
                let as_whole = rows(whole.store(), webhook, filter, from, most).await;
                assert_eq!(shelves.scripts_run().await, before);
                let scripted = rows(by_script.store(), webhook, filter, from, most).await;
                assert!(shelves.scripts_run().await > before);
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

#[tokio::test]
async fn payloads_that_other_settings_left_are_met_once_and_stay_in_redis_from_then_on() {
    let shelves = Shelves::new().await;
    for n in 0..60_u64 {
        let mut fields = vec![("d", delivery(NOON + n, &format!("e{n}"), "a.b", 3))];
        if n < 30 {
            fields.push(("p", "{}".to_owned()));
        }
        shelves.add_at(NOON + n, &fields).await;
    }
    let store = shelves.world.webhooks.store();
    let shard = store.shard_of(&shelves.webhook.spec.id);
    let look = async |most_rows| {
        let before = shelves.scripts_run().await;
        let look = Look {
            from: From::Before(None),
            floor_ms: 0,
            now_ms: NOON,
            most_entries: MOST_LOOKED_AT,
            most_rows,
        };
        let all = RowFilter::default();
        let seen = store.rows(shard, &shelves.webhook.uid, Shelf::History, &all, &look);
        let rows = seen.await.expect("an answer").rows.len();
        (rows, shelves.scripts_run().await > before)
    };
    // The newest have none.
    assert_eq!(look(20).await, (20, false));
    assert_eq!(look(60).await, (60, false));
    assert_eq!(look(20).await, (20, true));
}

#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_given_to_it_again_whichever_of_them() {
    let shelves = Shelves::new().await;
    for n in 0..5_u64 {
        let fields = [("d", delivery(NOON + n, &format!("e{n}"), "a.b", 3))];
        shelves.add_at(NOON + n, &fields).await;
    }
    let store = shelves.world.webhooks.store();
    let (shard, uid) = (
        store.shard_of(&shelves.webhook.spec.id),
        &shelves.webhook.uid,
    );
    let places: Vec<Place> = (0..5)
        .map(|n| Place {
            shelf: Shelf::History,
            id: EntryId {
                ms: NOON + n,
                seq: 0,
            },
        })
        .collect();
    let counting = Counting {
        now_ms: NOON,
        dead_floor_ms: 1,
        history_floor_ms: 1,
    };
    for known in 0..2 {
        let _: String = shelves.world.redis.run("SCRIPT FLUSH").await;
        if known == 1 {
            // The first one of the two alone.
            store
                .delivery_counts(shard, uid, &counting)
                .await
                .expect("counts");
        }
        let (records, counts) = store
            .counted_records(shard, uid, &places, 1_000, &counting)
            .await
            .expect("an answer");
        let found = records.iter().filter(|found| matches!(found, Ok(Some(_))));
        assert_eq!((found.count(), counts.history), (5, 5), "{known}");
    }
}
