//! Webhooks for tests, and what is kept for them in Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pombo::clock::Clock;
use pombo::delivery::AttemptLog;
use pombo::event::{EntryId, Event};
use pombo::metrics::Metrics;
use pombo::settings::{Secret, Settings};
use pombo::store::Store;
use pombo::store::connection::LinkState;
use pombo::store::dead::DeadLetter;
use pombo::store::deliveries::{
    From, Look, MOST_LOOKED_AT, Place, Record, RecordState, RowFilter, Shelf,
};
use pombo::store::retry::Hastened;
use pombo::store::stats::Stats;
use pombo::store::webhooks::Put;
use pombo::webhook::{Webhook, WebhookSpec};
use tokio_util::sync::CancellationToken;

use crate::support::wait::until;

/// What every webhook of [`webhook`] signs with.
pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

static INCARNATIONS: AtomicU64 = AtomicU64::new(0);

/// A webhook of the tenant `default` for these event types, with nothing special about it.
pub fn webhook(id: &str, url: &str, events: &[&str]) -> Webhook {
    let spec: WebhookSpec = serde_json::from_value(serde_json::json!({
        "id": id,
        "name": id,
        "url": url,
        "events": events,
    }))
    .expect("a webhook's specification");
    let number = INCARNATIONS.fetch_add(1, Ordering::SeqCst);
    Webhook {
        spec,
        uid: format!("{id}-{number}"),
        version: 0,
        secrets: vec![Secret::new(SECRET)],
        rotation_ends_ms: None,
        disabled: None,
        managed_by: None,
        created_ms: number + 1,
        updated_ms: number + 1,
    }
}

/// A delivery that succeeded, as its webhook's history has it.
#[derive(Debug)]
pub struct Kept {
    /// Its entry; its time is that of the success.
    pub id: EntryId,
    pub event: Arc<Event>,
    pub has_payload: bool,
    pub attempts: u32,
    pub log: AttemptLog,
}

impl Kept {
    fn new(record: Record) -> Kept {
        match record.state {
            RecordState::Finished {
                event,
                has_payload,
                attempts,
                log,
            } => Kept {
                id: record.place.id,
                event,
                has_payload,
                attempts,
                log,
            },
            other => panic!("in a history: {other:?}"),
        }
    }
}

/// The store, as a client of the daemon's Redis.
pub struct Webhooks {
    store: Store,
    stop: CancellationToken,
}

impl Webhooks {
    pub(super) async fn connect(settings: &Settings) -> Webhooks {
        let store = Store::new(settings, &Clock::system(), &Metrics::new()).expect("a store");
        let stop = CancellationToken::new();
        tokio::spawn(store.link().clone().keep(stop.clone()));
        let webhooks = Webhooks { store, stop };
        webhooks.connected().await;
        webhooks
    }

    /// Waits until the store is connected.
    pub async fn connected(&self) {
        let mut state = self.store.link().watch();
        let up = state.wait_for(|state| matches!(state, LinkState::Up(_)));
        up.await.expect("a link that is kept");
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stores a new webhook, or a change of one; `webhook` gets its new version.
    pub async fn put(&self, webhook: &mut Webhook) {
        match self.store.put_webhook(webhook).await {
            Ok(Put::Version(version)) => webhook.version = version,
            other => panic!("{} was not stored: {other:?}", webhook.spec.id),
        }
    }

    /// Makes a webhook as [`webhook`] does, changed by `change`, and stores it.
    pub async fn make(
        &self,
        id: &str,
        url: &str,
        events: &[&str],
        change: impl FnOnce(&mut WebhookSpec),
    ) -> Webhook {
        let mut made = webhook(id, url, events);
        change(&mut made.spec);
        self.put(&mut made).await;
        made
    }

    /// A plain webhook for every event of the tenant `default`.
    pub async fn all(&self, id: &str, url: &str) -> Webhook {
        self.make(id, url, &["*"], |_| {}).await
    }

    pub async fn delete(&self, webhook: &Webhook) {
        let deleted = self.store.delete_webhook(webhook).await;
        assert!(matches!(deleted, Ok(Put::Version(_))), "{deleted:?}");
    }

    /// As it is stored now.
    pub async fn get(&self, id: &str) -> Option<Webhook> {
        self.store.webhook(id).await.expect("an answer")
    }

    fn shard(&self, webhook: &Webhook) -> u16 {
        self.store.shard_of(&webhook.spec.id)
    }

    /// How many deliveries wait in a webhook's queue, those that wait for a retry included.
    pub async fn queued(&self, webhook: &Webhook) -> u64 {
        self.sizes(webhook).await.waiting
    }

    /// What a webhook's queue holds.
    pub async fn sizes(&self, webhook: &Webhook) -> pombo::store::dead::Sizes {
        let one = [(self.shard(webhook), Arc::from(webhook.uid.as_str()))];
        self.store.sizes(&one).await.expect("an answer")
    }

    /// The dead letters of a webhook, oldest first.
    pub async fn dead(&self, webhook: &Webhook) -> Vec<DeadLetter> {
        let found = self
            .store
            .dead_letters(self.shard(webhook), &webhook.uid, EntryId::MIN, 100_000)
            .await;
        let (letters, _) = found.expect("an answer");
        letters
            .into_iter()
            .map(|letter| letter.expect("a dead letter that can be read"))
            .collect()
    }

    /// Waits until a webhook has so many dead letters.
    pub async fn wait_for_dead(&self, webhook: &Webhook, count: usize) -> Vec<DeadLetter> {
        until(
            &format!("{count} dead letters of {}", webhook.spec.id),
            async || self.dead(webhook).await,
            |dead| dead.len() >= count,
        )
        .await
    }

    /// The deliveries to a webhook that succeeded, as far as they are kept, newest first.
    pub async fn history(&self, webhook: &Webhook) -> Vec<Kept> {
        let now_ms = Clock::system().unix_ms();
        let max_age = Settings::defaults_for_tests().history.max_age;
        let shard = self.shard(webhook);
        let (mut kept, mut before) = (Vec::new(), None);
        loop {
            let look = Look {
                from: From::Before(before),
                floor_ms: now_ms - u64::try_from(max_age.as_millis()).expect("a time"),
                now_ms,
                most_entries: MOST_LOOKED_AT,
                most_rows: MOST_LOOKED_AT,
            };
            let all = RowFilter::default();
            let seen = self
                .store
                .rows(shard, &webhook.uid, Shelf::History, &all, &look)
                .await
                .expect("an answer");
            let places: Vec<Place> = seen.rows.iter().map(|row| row.place).collect();
            let records = self
                .store
                .records(shard, &webhook.uid, &places, usize::MAX)
                .await
                .expect("an answer");
            for record in records {
                let record = record.expect("a delivery that can be read");
                kept.extend(record.map(Kept::new));
            }
            if seen.ended {
                return kept;
            }
            before = seen.last;
        }
    }

    /// Waits until so many deliveries to a webhook are kept as succeeded.
    pub async fn wait_for_history(&self, webhook: &Webhook, count: usize) -> Vec<Kept> {
        until(
            &format!("{count} deliveries in the history of {}", webhook.spec.id),
            async || self.history(webhook).await,
            |kept| kept.len() >= count,
        )
        .await
    }

    /// The counts of a webhook.
    pub async fn counts(&self, webhook: &Webhook) -> Stats {
        let one = [(self.shard(webhook), webhook.uid.as_str())];
        self.store.stats(&one).await.expect("an answer")[0]
    }

    /// Waits until a webhook's counts are these.
    pub async fn wait_for_counts(&self, webhook: &Webhook, success: u64, failed: u64) -> Stats {
        until(
            &format!("the counts of {}", webhook.spec.id),
            async || self.counts(webhook).await,
            |counts| (counts.success, counts.failed) == (success, failed),
        )
        .await
    }

    /// Makes the delivery of this queue entry due now, as the API would.
    pub async fn hasten(&self, webhook: &Webhook, id: EntryId) -> Hastened {
        let (shard, now_ms) = (self.shard(webhook), Clock::system().unix_ms());
        let hastened = self.store.hasten(shard, &webhook.uid, id, now_ms).await;
        let woken = self
            .store
            .wake_owner(shard, std::slice::from_ref(&webhook.uid))
            .await;
        woken.expect("an owner that is woken");
        hastened.expect("an answer")
    }

    /// Puts a dead letter back, as a command line would.
    pub async fn replay(&self, webhook: &Webhook, letter: &DeadLetter) {
        let now_ms = Clock::system().unix_ms();
        let shard = self.shard(webhook);
        let replayed = self.store.replay(shard, &webhook.uid, letter.id, now_ms);
        assert!(replayed.await.expect("an answer"), "it was no more");
        let uids = [webhook.uid.clone()];
        let woken = self.store.wake_owner(shard, &uids).await;
        woken.expect("an owner that is woken");
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
