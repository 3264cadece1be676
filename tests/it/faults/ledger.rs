//! Who has got what, and how often.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use redis::Value;

use crate::support::pombo::{Config, Webhooks};
use crate::support::receiver::{Received, Receiver, Step};
use crate::support::redis::{GROUP, Redis};
use crate::support::wait::until;

/// One delivery: the webhook's id and the event's.
pub type Delivery = (String, String);

/// By webhook and event.
type Counts = BTreeMap<String, BTreeMap<String, u32>>;

/// What receivers have answered with 2xx, or would have, had they not been cut off.
#[derive(Clone, Default)]
pub struct Ledger {
    counts: Arc<Mutex<Counts>>,
}

impl Ledger {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A receiver that keeps this ledger, and answers as `script` says; the path is the webhook's id.
    pub async fn receiver(
        &self,
        script: impl Fn(&Received) -> Step + Send + Sync + 'static,
    ) -> Receiver {
        let ledger = self.clone();
        Receiver::scripted(move |request| {
            let step = script(request);
            if is_success(&step) {
                let webhook = request.path.trim_start_matches('/').to_owned();
                let event = request.header("x-event-id").to_owned();
                let mut counts = ledger.counts();
                *counts.entry(webhook).or_default().entry(event).or_default() += 1;
            }
            step
        })
        .await
    }

    /// How many different deliveries a webhook has got.
    pub fn got(&self, webhook: &str) -> usize {
        self.counts().get(webhook).map_or(0, BTreeMap::len)
    }

    /// How often a delivery was made.
    pub fn count(&self, webhook: &str, event: &str) -> u32 {
        let counts = self.counts();
        let count = counts.get(webhook).and_then(|events| events.get(event));
        count.copied().unwrap_or(0)
    }

    /// Waits until each of `webhooks` has got the events `<prefix>0` to `<prefix><count - 1>`.
    pub async fn complete(&self, webhooks: &[&str], prefix: &str, count: usize) {
        // Counting costs nothing beside looking each of them up, which comes last.
        until(
            &format!("{count} deliveries to each of {webhooks:?}"),
            async || webhooks.iter().map(|id| self.got(id)).collect::<Vec<_>>(),
            |got| got.iter().all(|got| *got >= count),
        )
        .await;
        until(
            "every delivery at least once",
            async || {
                let mut missing = Missing::default();
                for webhook in webhooks {
                    for event in (0..count).map(|n| format!("{prefix}{n}")) {
                        if self.count(webhook, &event) == 0 {
                            missing.0.push(((*webhook).to_owned(), event));
                        }
                    }
                }
                missing
            },
            |missing| missing.0.is_empty(),
        )
        .await;
    }

    /// Deliveries made more than once, and how often too often.
    pub fn duplicates(&self) -> BTreeMap<Delivery, u32> {
        let mut found = BTreeMap::new();
        for (webhook, events) in self.counts().iter() {
            for (event, count) in events.iter().filter(|(_, count)| **count > 1) {
                found.insert((webhook.clone(), event.clone()), count - 1);
            }
        }
        found
    }
}

fn is_success(step: &Step) -> bool {
    matches!(step, Step::Answer(answer) if (200..300).contains(&answer.status()))
}

#[derive(Default)]
struct Missing(Vec<Delivery>);

impl fmt::Debug for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first: Vec<_> = self.0.iter().take(10).collect();
        write!(f, "{} deliveries are missing: {first:?}…", self.0.len())
    }
}

/// The deliveries that are unfinished as Redis has it, each with the number of its homes: a pending event is one for
/// each webhook, an entry of a queue another.
pub async fn unfinished(redis: &Redis, webhooks: &[&str]) -> BTreeMap<Delivery, u32> {
    let mut found: BTreeMap<Delivery, u32> = BTreeMap::new();
    let mut command = redis::cmd("XPENDING");
    command
        .arg("events")
        .arg(GROUP)
        .arg("-")
        .arg("+")
        .arg(100_000);
    let pending: Vec<Vec<Value>> = redis.query(&command).await;
    let ids: Vec<String> = pending
        .into_iter()
        .filter_map(|item| redis::from_redis_value(item.into_iter().next()?).ok())
        .collect();
    let events: BTreeMap<String, String> = redis
        .entries("events")
        .await
        .into_iter()
        .map(|entry| (entry.id.clone(), entry.field("id").to_owned()))
        .collect();
    for event in ids.iter().filter_map(|id| events.get(id)) {
        for webhook in webhooks {
            let key = ((*webhook).to_owned(), event.clone());
            *found.entry(key).or_default() += 1;
        }
    }
    for queue in redis.keys("pombo:{s*}:queue:*").await {
        let uid = queue.rsplit(':').next().unwrap_or_default();
        let webhook = uid.rsplit_once('-').map_or(uid, |(id, _)| id);
        for entry in redis.entries(&queue).await {
            let key = (webhook.to_owned(), entry.event_id());
            *found.entry(key).or_default() += 1;
        }
    }
    found
}

/// Waits until nothing is left to do: everything read and acknowledged, every queue and schedule empty.
pub async fn at_rest(redis: &Redis) {
    redis.settled("events").await;
    until(
        "empty queues",
        async || {
            let mut left = redis.keys("pombo:{s*}:queue:*").await;
            left.extend(redis.keys("pombo:{s*}:retry:*").await);
            left.extend(redis.keys("pombo:{s*}:tries:*").await);
            let mut kept = Vec::new();
            for key in left {
                let length: u64 = match key.contains(":queue:") {
                    true => redis.query(redis::cmd("XLEN").arg(&key)).await,
                    false => 1,
                };
                if length > 0 {
                    kept.push((key, length));
                }
            }
            kept
        },
        Vec::is_empty,
    )
    .await;
}

/// A seeded sequence of numbers, the same in every run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `bound` (splitmix64).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// The n-th number below `bound` that belongs to a text: the same in every run and for every attempt.
pub fn share(text: &str, bound: u64) -> u64 {
    let sum = text.bytes().fold(7u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    Dice::new(sum).below(bound)
}

/// Makes a webhook for each of `ids` on `receiver`.
pub async fn subscribe(webhooks: &Webhooks, receiver: &Receiver, ids: &[&str]) {
    for id in ids {
        webhooks.all(id, &receiver.url(&format!("/{id}"))).await;
    }
}

/// The settings of these tests: few shards, so that beginning takes few commands.
pub fn config(url: &str) -> Config {
    Config::with_redis_url(url).with("[ownership]\nshards = 4")
}
