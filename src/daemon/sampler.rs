//! The sampler: measures what is stored, for the metrics and for the bounds that halt the reading of sources.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::follower::Freshness;
use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::membership::{Era, Members};
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::source::Gate;
use crate::store::dead::{Dropped, Sizes};
use crate::store::{Store, StoreError};

/// How often queues and memory are measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// The same while nothing waits and Redis has room: what changes that is told by nobody, but comes from elsewhere.
const MEASURE_QUIET: Duration = Duration::from_secs(15);
/// The part of the memory watermark below which Redis has room.
const ROOM: f64 = 0.8;
/// How often dead letters are counted that nobody added to.
const COUNT_DEAD_EVERY: Duration = Duration::from_secs(15);
/// How often what costs nothing is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often histories are trimmed by age: so many times within that age, in these bounds. The shortest is also the
/// shortest age that can be set.
const TRIMS: u32 = 24;
const TRIM_OFTENEST: Duration = Duration::from_secs(60);
const TRIM_RAREST: Duration = Duration::from_secs(60 * 60);
/// Webhooks measured at a time, over a connection that no delivery waits for.
const CHUNK: usize = 500;

/// What the sampler works with.
pub struct Sampler {
    /// The daemon's Redis.
    pub store: Store,
    /// All settings.
    pub settings: Arc<Settings>,
    /// Where the figures go.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Clock,
    /// The era.
    pub era: Arc<Era>,
    /// The lanes.
    pub dispatch: Arc<Dispatch>,
    /// The webhooks.
    pub registry: Arc<Registry>,
    /// Whether the registry is current.
    pub freshness: Arc<Freshness>,
    /// What halts the reading of sources.
    pub gate: watch::Sender<Gate>,
    /// All live daemons: each tells with its beat how much waits in its queues.
    pub live: watch::Receiver<Members>,
}

impl Sampler {
    /// Samples until the era is over.
    pub async fn run(self) {
        let (mut measured, mut trimmed, mut counted) = (None, None, None);
        let (mut bound, mut quiet, mut burials) = (Gate::Open, false, 0);
        let trim_every = (self.settings.history.max_age / TRIMS).clamp(TRIM_OFTENEST, TRIM_RAREST);
        loop {
            let now = self.clock.monotonic();
            let passed = |then: Option<Duration>, time| {
                then.is_none_or(|then| now.saturating_sub(then) >= time)
            };
            let buried = self.dispatch.burials();
            if passed(measured, MEASURE_EVERY) {
                let quiet_now = quiet && buried == burials && !self.dispatch.has_work();
                if !quiet_now || passed(measured, MEASURE_QUIET) {
                    measured = Some(now);
                    match self.measure().await {
                        Ok(found) => (bound, quiet) = found,
                        Err(error) => tracing::debug!(%error, "measuring queues is tried again"),
                    }
                    if buried != burials || passed(counted, COUNT_DEAD_EVERY) {
                        match self.count_dead_letters().await {
                            Ok(()) => (counted, burials) = (Some(now), buried),
                            Err(error) => {
                                tracing::debug!(%error, "counting dead letters is tried again");
                            }
                        }
                    }
                }
                let counts = self.registry.counts();
                let gauges = &self.metrics.webhooks;
                for (gauge, count) in [
                    (&gauges.active, counts.active),
                    (&gauges.inactive, counts.inactive),
                    (&gauges.disabled, counts.disabled),
                ] {
                    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
                }
            }
            if passed(trimmed, trim_every) {
                trimmed = Some(now);
                if let Err(error) = self.trim_histories().await {
                    tracing::debug!(%error, "trimming histories is tried again");
                }
            }
            self.metrics
                .taken_deliveries
                .set(i64::try_from(self.dispatch.budget().count()).unwrap_or(i64::MAX));
            let gate = if !self.freshness.is_fresh(&self.clock) {
                Gate::Halted(
                    "registry_stale",
                    "the changes of webhooks cannot be followed".to_owned(),
                )
            } else {
                bound.clone()
            };
            self.gate.send_if_modified(|old| {
                let changed = *old != gate;
                *old = gate;
                changed
            });
            tokio::select! {
                _ = self.era.ended() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// By age: by number each is trimmed with what is added to it.
    async fn trim_histories(&self) -> Result<(), StoreError> {
        let mut owned = self.registry.all();
        owned.retain(|webhook| self.era.owned(webhook.shard).is_some());
        let now_ms = self.clock.unix_ms();
        for chunk in owned.chunks(CHUNK) {
            let places = chunk
                .iter()
                .map(|webhook| (webhook.shard, webhook.uid.clone()));
            let places: Vec<_> = places.collect();
            self.store
                .trim_history(&places, now_ms, &self.settings.history)
                .await?;
        }
        Ok(())
    }

    /// Whether reading is to halt, and whether nothing waits and there is room.
    async fn measure(&self) -> Result<(Gate, bool), StoreError> {
        let facts = self.store.link().facts().await?;
        let mut sizes = Sizes::default();
        for chunk in self.dispatch.with_work().chunks(CHUNK) {
            let found = self.store.sizes(chunk).await?;
            sizes.waiting += found.waiting;
            sizes.scheduled += found.scheduled;
            sizes.oldest_ms = [sizes.oldest_ms, found.oldest_ms]
                .into_iter()
                .flatten()
                .min();
        }
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.queue_deliveries.set(number(sizes.waiting));
        self.metrics.retry_deliveries.set(number(sizes.scheduled));
        let now_ms = self.clock.unix_ms();
        let age = sizes
            .oldest_ms
            .map_or(0, |oldest| now_ms.saturating_sub(oldest));
        self.metrics
            .oldest_pending_seconds
            .set(age as f64 / 1_000.0);

        self.era.set_waiting(sizes.waiting);
        let watermark = facts.max_memory as f64 * self.settings.redis.memory_watermark;
        if facts.max_memory > 0 && facts.used_memory as f64 >= watermark {
            return Ok(halted(
                "memory_watermark",
                format!(
                    "Redis uses {} of {} bytes (redis.memory_watermark is {})",
                    facts.used_memory, facts.max_memory, self.settings.redis.memory_watermark
                ),
            ));
        }
        let elsewhere = self.live.borrow().waiting_elsewhere(&self.era.nonce);
        let waiting = sizes.waiting.saturating_add(elsewhere);
        if waiting >= self.settings.queue.max_total_deliveries {
            return Ok(halted(
                "queues_full",
                format!(
                    "{waiting} deliveries wait in the queues of all daemons (queue.max_total_deliveries is {})",
                    self.settings.queue.max_total_deliveries
                ),
            ));
        }
        let room = facts.max_memory == 0 || (facts.used_memory as f64) < watermark * ROOM;
        Ok((Gate::Open, room && waiting == 0))
    }

    async fn count_dead_letters(&self) -> Result<(), StoreError> {
        let (mut dead, now_ms) = (0, self.clock.unix_ms());
        for chunk in self.dispatch.with_dead_letters().chunks(CHUNK) {
            let counts = self
                .store
                .dead_counts(chunk, now_ms, &self.settings.dead_letters)
                .await?;
            for ((_, uid), (kept, aged)) in chunk.iter().zip(counts) {
                dead += kept;
                if aged > 0
                    && let Some(registered) = self.registry.by_uid(uid)
                {
                    let dropped = Dropped {
                        by_count: 0,
                        by_age: aged,
                    };
                    self.dispatch.dead_letters_dropped(&registered, dropped);
                }
            }
        }
        self.metrics
            .dead_letters_stored
            .set(i64::try_from(dead).unwrap_or(i64::MAX));
        Ok(())
    }
}

fn halted(reason: &'static str, words: String) -> (Gate, bool) {
    (Gate::Halted(reason, words), false)
}
