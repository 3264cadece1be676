//! All that Pombo keeps, and the only module that speaks Redis.
//!
//! [`Store`] is the daemon's own Redis; its operations are spread over this folder by what they are about. Keys are
//! made in [`keys`], scripts (each with its contract in its header) live in `scripts/*.lua`.

pub mod changes;
pub mod codec;
pub mod connection;
pub mod dead;
pub mod deliveries;
pub mod error;
pub mod history;
pub mod idempotency;
pub mod jobs;
pub mod keys;
pub mod lane;
pub mod meta;
pub mod notices;
pub mod ownership;
pub mod queue;
pub mod rejected;
pub mod retry;
pub(crate) mod scripts;
pub mod source;
pub mod stats;
pub mod tokens;
pub(crate) mod value;
pub mod webhooks;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use connection::{Connected, Link};
pub use error::{Refusal, StoreError};
pub use keys::{Keys, shard_of};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::settings::{HistoryPayload, Settings};

/// The daemon's own Redis.
#[derive(Clone)]
pub struct Store {
    link: Link,
    keys: Keys,
    shards: u16,
    /// Most deliveries that a webhook's queue may hold.
    most_queued: u64,
    /// Bytes of the largest payload that is accepted.
    longest_payload: usize,
    /// Whether payloads are no part of histories, as far as is known.
    has_small_histories: Arc<AtomicBool>,
}

impl Store {
    /// A store on the Redis of `settings.redis`. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// The settings name a certificate that cannot be read, or a URL that the client library refuses.
    pub fn new(
        settings: &Settings,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Result<Store, StoreError> {
        Ok(Store {
            link: Link::own(&settings.redis, clock, metrics)?,
            keys: Keys::new(&settings.redis.prefix),
            shards: settings.ownership.shards,
            most_queued: settings.queue.max_deliveries,
            longest_payload: settings.delivery.max_payload,
            has_small_histories: Arc::new(AtomicBool::new(
                settings.history.payload != HistoryPayload::All,
            )),
        })
    }

    /// The connection behind the store.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The keys of this store.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The number of shards of this Redis.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// How many entries with payloads a script may read at a step: they are a few MiB at most, whatever they hold.
    pub(crate) fn most_at_a_step(&self) -> u64 {
        const MOST_BYTES: usize = 4 << 20;
        (MOST_BYTES / self.longest_payload.max(1)).clamp(1, 256) as u64
    }

    /// The shard of a webhook.
    pub fn shard_of(&self, webhook_id: &str) -> u16 {
        shard_of(webhook_id, self.shards)
    }
}
