//! This daemon among the others: its beats, whether it may act, and what it owns.
//!
//! A daemon joins under a new nonce and beats every two seconds. It acts (reads a source, starts a POST, creates or
//! schedules anything) only while it is *valid*: less than half the lease time has passed, by its own monotonic clock,
//! since its last good beat was sent. Others depose a daemon whose beat stood still for 0.8 of the lease time by their
//! clock, and claim its shards by comparing the owner that they saw. The time from joining to losing it all, by being
//! deposed or by Redis being replaced, is an [`Era`]; whatever is in memory belongs to one era and ends with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::ownership::Beat;
use crate::store::{Store, StoreError};

/// How often a daemon beats, unless its lease time is so short that it must beat more often.
const BEAT_EVERY: Duration = Duration::from_secs(2);

/// Why an era ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Another daemon deposed this one.
    Deposed,
    /// Redis was restarted or failed over.
    Replaced,
    /// It could not begin; the reason was told.
    NotBegun,
    /// The daemon stops.
    Stopped,
}

/// A shard that this daemon owns.
#[derive(Debug)]
pub struct Owned {
    /// The owner value: `<nonce>:<epoch>`.
    pub value: Arc<str>,
    /// When it was claimed, by the monotonic clock.
    pub claimed_at: Duration,
    /// When it was claimed (Unix ms).
    pub claimed_ms: u64,
    /// Whether somebody owned it before, so that its rate limiters start dry.
    pub had_owner: bool,
}

/// One membership, from joining to its end.
pub struct Era {
    /// This daemon's name in Redis for the era.
    pub nonce: String,
    /// The generation of the store's Redis that all of the era's state comes from.
    pub generation: u64,
    /// The nonces of all daemons that were live when this one joined, its own among them.
    pub joined: Vec<String>,
    clock: Clock,
    half_lease: Duration,
    /// Monotonic ms when the last good beat was sent.
    beaten_at_ms: AtomicU64,
    token: CancellationToken,
    ending: std::sync::OnceLock<Ending>,
    owned: Vec<ArcSwapOption<Owned>>,
}

impl Era {
    fn new(nonce: String, generation: u64, clock: Clock, lease: Duration, shards: u16) -> Era {
        Era {
            joined: vec![nonce.clone()],
            nonce,
            generation,
            clock,
            half_lease: lease / 2,
            beaten_at_ms: AtomicU64::new(0),
            token: CancellationToken::new(),
            ending: std::sync::OnceLock::new(),
            owned: (0..shards).map(|_| ArcSwapOption::empty()).collect(),
        }
    }

    /// Whether this daemon may act.
    pub fn is_valid(&self) -> bool {
        let beaten = Duration::from_millis(self.beaten_at_ms.load(Ordering::Acquire));
        !self.token.is_cancelled() && self.clock.monotonic() < beaten + self.half_lease
    }

    /// Ends the era; the first reason stays.
    pub fn end(&self, ending: Ending) {
        let _ = self.ending.set(ending);
        self.token.cancel();
    }

    /// Ends the era if `error` says that it is over. True if it is.
    pub fn ends_with(&self, error: &StoreError) -> bool {
        match error {
            StoreError::Fenced { .. } => self.end(Ending::Deposed),
            StoreError::Replaced => self.end(Ending::Replaced),
            _ => {}
        }
        self.token.is_cancelled()
    }

    /// Resolves when the era is over.
    pub async fn ended(&self) -> Ending {
        self.token.cancelled().await;
        self.ending.get().cloned().unwrap_or(Ending::Stopped)
    }

    /// Cancelled when the era is over.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// The shard, if this daemon owns it.
    pub fn owned(&self, shard: u16) -> Option<Arc<Owned>> {
        self.owned
            .get(usize::from(shard))
            .and_then(|slot| slot.load_full())
    }

    /// All shards that this daemon owns.
    pub fn owned_shards(&self) -> Vec<u16> {
        (0u16..)
            .zip(&self.owned)
            .filter(|(_, slot)| slot.load().is_some())
            .map(|(shard, _)| shard)
            .collect()
    }
}

/// Joins, beats and claims for one daemon.
pub struct Membership {
    store: Store,
    clock: Clock,
    name: String,
    lease: Duration,
    /// What each other daemon's beat was when it last changed, and when that was by this daemon's clock.
    seen: HashMap<String, (String, Duration)>,
    counter: u64,
}

impl Membership {
    /// The membership of the daemon `name`, with a lease time of `lease`.
    pub fn new(store: Store, clock: Clock, name: String, lease: Duration) -> Membership {
        Membership {
            store,
            clock,
            name,
            lease,
            seen: HashMap::new(),
            counter: 0,
        }
    }

    /// How often to beat: five times within a lease, so that a lost beat or two cost nothing.
    pub fn beat_every(&self) -> Duration {
        BEAT_EVERY.min(self.lease / 5)
    }

    /// Joins under a new nonce, deposes this instance's own predecessors (whoever holds the instance's lock file is
    /// the only one of its name that lives), and claims every shard without a live owner.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn join(&mut self) -> Result<Arc<Era>, StoreError> {
        let nonce = hex::encode(self.clock.random_bytes::<8>());
        let generation = self.store.link().generation();
        let mut era = Era::new(
            nonce,
            generation,
            self.clock.clone(),
            self.lease,
            self.store.shards(),
        );
        self.seen.clear();
        let listed = self.send_beat(&era, true).await?.unwrap_or_default();
        let predecessors: Vec<String> = listed
            .iter()
            .filter(|(nonce, beat)| **nonce != era.nonce && beat_name(beat) == self.name)
            .map(|(nonce, _)| nonce.clone())
            .collect();
        self.store.depose(&predecessors).await?;
        era.joined = listed
            .into_keys()
            .filter(|nonce| !predecessors.contains(nonce))
            .collect();
        let live: Vec<&String> = era.joined.iter().collect();
        self.claim_orphans(&era, &live).await?;
        Ok(Arc::new(era))
    }

    /// One beat: proves that this daemon lives, deposes those that do not, and claims what they owned. Returns the
    /// nonces of all live daemons.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering; the era ends by itself if it is over.
    pub async fn beat(&mut self, era: &Era) -> Result<Vec<String>, StoreError> {
        let Some(mut listed) = self.send_beat(era, false).await? else {
            era.end(Ending::Deposed);
            return Ok(Vec::new());
        };
        let now = self.clock.monotonic();
        let mut silent = Vec::new();
        for (nonce, beat) in listed.iter().filter(|(nonce, _)| **nonce != era.nonce) {
            let seen = self
                .seen
                .entry(nonce.clone())
                .or_insert_with(|| (beat.clone(), now));
            if seen.0 != *beat {
                *seen = (beat.clone(), now);
            } else if now.saturating_sub(seen.1) >= self.lease.mul_f64(0.8) {
                silent.push(nonce.clone());
            }
        }
        self.seen.retain(|nonce, _| listed.contains_key(nonce));
        if !silent.is_empty() {
            tracing::warn!(instances = ?silent, "other daemons stopped beating: taking over what they owned");
            self.store.depose(&silent).await?;
            listed.retain(|nonce, _| !silent.contains(nonce));
        }
        let live: Vec<&String> = listed.keys().collect();
        if era.owned_shards().len() < usize::from(self.store.shards()) {
            self.claim_orphans(era, &live).await?;
        }
        Ok(listed.into_keys().collect())
    }

    async fn send_beat(
        &mut self,
        era: &Era,
        join: bool,
    ) -> Result<Option<HashMap<String, String>>, StoreError> {
        self.counter += 1;
        let sent = self.clock.monotonic();
        let beat = format!("{}:{}", self.counter, self.name);
        match self.store.beat(&era.nonce, &beat, join).await? {
            Beat::Deposed => Ok(None),
            Beat::Listed(listed) => {
                // A reply of another server proves nothing about what this era holds.
                if self.store.link().generation() != era.generation {
                    era.end(Ending::Replaced);
                    return Err(StoreError::Replaced);
                }
                era.beaten_at_ms.store(
                    u64::try_from(sent.as_millis()).unwrap_or(u64::MAX),
                    Ordering::Release,
                );
                Ok(Some(listed))
            }
        }
    }

    async fn claim_orphans(&self, era: &Era, live: &[&String]) -> Result<(), StoreError> {
        let owners = self.store.owners().await?;
        for (shard, owner) in (0u16..).zip(owners) {
            let expected = owner.clone().unwrap_or_default();
            let (nonce, epoch) = expected.split_once(':').unwrap_or_default();
            let orphan = !live.iter().any(|live| *live == nonce) || nonce.is_empty();
            if !orphan {
                continue;
            }
            let epoch = epoch.parse::<u64>().unwrap_or(0) + 1;
            let value = format!("{}:{epoch}", era.nonce);
            if self.store.claim(shard, &expected, &value).await?
                && let Some(slot) = era.owned.get(usize::from(shard))
            {
                slot.store(Some(Arc::new(Owned {
                    value: Arc::from(value),
                    claimed_at: self.clock.monotonic(),
                    claimed_ms: self.clock.unix_ms(),
                    had_owner: owner.is_some(),
                })));
            }
        }
        Ok(())
    }

    /// Claims a source stream for `era` if nobody alive owns it. True if it is this daemon's now.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn claim_source(
        store: &Store,
        era: &Era,
        source: &str,
        live: &[String],
    ) -> Result<bool, StoreError> {
        let owner = store.source_owner(source).await?.unwrap_or_default();
        if owner == era.nonce {
            return Ok(true);
        }
        if live.contains(&owner) {
            return Ok(false);
        }
        store.claim_source(source, &owner, &era.nonce).await
    }

    /// Leaves: releases all shards, so that whoever comes next need not wait for a lease to run out.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering; then the others find out by themselves.
    pub async fn leave(&self, era: &Era) -> Result<(), StoreError> {
        for shard in era.owned_shards() {
            if let Some(owned) = era.owned(shard) {
                self.store.claim(shard, &owned.value, "").await?;
            }
        }
        self.store.depose(std::slice::from_ref(&era.nonce)).await
    }
}

fn beat_name(beat: &str) -> &str {
    beat.split_once(':').map_or("", |(_, name)| name)
}
