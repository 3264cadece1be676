//! The scripts, each by its contract, on a real server.

mod full;
mod lane;
mod members;
mod model;

use std::sync::Arc;

use bytes::Bytes;
use pombo::delivery::{AttemptLog, AttemptRecord, DeadReason, Tries};
use pombo::event::{EntryId, Event};
use pombo::settings::DeadLetterSettings;
use pombo::store::dead::Ending;
use pombo::store::lane::{LaneKeys, Storing};
use pombo::store::queue::Enqueue;
use pombo::store::{Store, StoreError};

use super::ledger::config;
use crate::support::pombo::Webhooks;
use crate::support::redis::Redis;

const SHARD: u16 = 1;
const UID: &str = "w-uid";
const ME: &str = "me:1";
/// A time that nothing is due by yet.
const LATER: u64 = 4_000_000_000_000;

/// A store on an empty Redis, and the lane of a webhook whose shard `ME` owns.
struct Bench {
    redis: Redis,
    client: Webhooks,
    lane: LaneKeys,
}

impl Bench {
    async fn new() -> Bench {
        let redis = Redis::start().await;
        let client = config(&redis.url()).webhooks().await;
        let owned = client.store().claim(SHARD, "", ME).await;
        assert!(owned.expect("an answer"));
        Bench {
            redis,
            client,
            lane: lane(ME),
        }
    }

    fn store(&self) -> &Store {
        self.client.store()
    }

    fn generation(&self) -> u64 {
        self.store().link().generation()
    }

    /// Adds events to the queue as the fan-out does; returns their entries.
    async fn enqueue(&self, names: &[&str], now_ms: u64) -> Vec<EntryId> {
        let before = self.queue().await.len();
        let batch: Vec<Enqueue> = names
            .iter()
            .map(|name| Enqueue {
                uid: UID.into(),
                event: event(name),
            })
            .collect();
        let done = self
            .store()
            .enqueue(SHARD, &batch, now_ms, self.generation());
        done.await.expect("room");
        let after = self.queue().await;
        after[before..].iter().map(|(id, _)| *id).collect()
    }

    /// The queue: entry and event.
    async fn queue(&self) -> Vec<(EntryId, String)> {
        let entries = self.redis.entries("pombo:{s01}:queue:w-uid").await;
        let read = entries.iter().map(|entry| {
            let id = entry.id.parse().expect("an id");
            (id, entry.event_id())
        });
        read.collect()
    }

    async fn dead(&self) -> Vec<pombo::store::dead::DeadLetter> {
        let found = self
            .store()
            .dead_letters(SHARD, UID, EntryId::MIN, 1_000)
            .await;
        let (letters, _) = found.expect("an answer");
        letters
            .into_iter()
            .map(|letter| letter.expect("a dead letter"))
            .collect()
    }

    /// When an entry is due.
    async fn scheduled(&self, id: EntryId) -> Option<u64> {
        let mut command = redis::cmd("ZSCORE");
        command.arg("pombo:{s01}:retry:w-uid").arg(id.to_string());
        self.redis.query(&command).await
    }

    /// When the webhook is due.
    async fn due(&self) -> Option<u64> {
        self.redis.run("ZSCORE pombo:{s01}:due w-uid").await
    }

    async fn exists(&self, key: &str) -> bool {
        self.redis.run(&format!("EXISTS pombo:{{s01}}:{key}")).await
    }

    /// From now on everything that needs memory is refused.
    async fn fill(&self) {
        let _: () = self.redis.run("CONFIG SET maxmemory 1").await;
    }

    async fn store_events(
        &self,
        lane: &LaneKeys,
        batch: &[Storing],
    ) -> Result<Vec<EntryId>, StoreError> {
        self.store()
            .store(lane, batch, 1_000, self.generation())
            .await
    }
}

fn lane(owner: &str) -> LaneKeys {
    LaneKeys {
        shard: SHARD,
        uid: UID.into(),
        owner: owner.into(),
    }
}

fn event(name: &str) -> Arc<Event> {
    Arc::new(Event {
        id: name.to_owned(),
        event_type: "a.b".to_owned(),
        tenant: "default".to_owned(),
        time_ms: 1,
        arrived_ms: 5,
        stream: "events".into(),
        entry_id: EntryId { ms: 5, seq: 1 },
        content_type: "application/json".to_owned(),
        payload: Bytes::from_static(b"{ \"n\" : 1 }"),
        payload_is_json: true,
        enclosed: None,
    })
}

fn storing(name: &str, due_ms: Option<u64>, attempts: u32) -> Storing {
    Storing {
        event: event(name),
        due_ms,
        tries: (attempts > 0).then(|| tries(attempts)),
    }
}

fn tries(attempts: u32) -> Tries {
    Tries {
        attempts,
        since_replay: attempts,
        first_attempt_ms: 7,
        last_status: Some(500),
        last_error: "it answered 500".to_owned(),
        last_attempt_ms: 9,
        log: {
            let mut log = AttemptLog::default();
            log.push(AttemptRecord {
                number: attempts,
                started_ms: 9,
                status: Some(500),
                error: "it answered 500".to_owned(),
                ..AttemptRecord::default()
            });
            log
        },
    }
}

fn ending(at_ms: u64) -> Ending {
    Ending {
        webhook_id: "w".to_owned(),
        delivery_id: "w.d".to_owned(),
        reason: DeadReason::Exhausted,
        tries: tries(3),
        answer: Bytes::from_static(b"no"),
        at_ms,
    }
}

fn caps(max_count: u64) -> DeadLetterSettings {
    DeadLetterSettings {
        max_age: std::time::Duration::from_secs(3_600),
        max_count,
    }
}
