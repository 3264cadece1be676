//! This daemon among the others: its beats, whether it may act, and what it owns.
//!
//! A daemon joins under a new nonce and beats every two seconds. It acts (reads a source, starts a POST, creates or
//! schedules anything) only while it is *valid*: less than half the lease time has passed, by its own monotonic clock,
//! since its last good beat was sent. Others depose a daemon whose beat stood still for long enough by their own clock,
//! and claim what it owned by comparing the owner that they saw. Which shard and which source belongs to whom, each
//! computes for itself from the list that its beat returns; whoever owns what belongs to another by now finishes what
//! it has begun there, releases it, and calls the other. The time from joining to losing it all, by being deposed or by
//! Redis being replaced, is an [`Era`]; whatever is in memory belongs to one era and ends with it.

mod beats;
mod members;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::beats::{Membership, living};
pub use self::members::{Member, Members};
use crate::clock::Clock;
use crate::store::StoreError;

/// Why an era ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Another daemon deposed this one.
    Deposed,
    /// Redis was restarted or failed over.
    Replaced,
    /// It could not begin; the reason was told.
    NotBegun,
    /// A task failed; the reason was told.
    Failed,
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
    /// Cancelled when everything that goes on in the shard must end at once: at the end of the era, or of the time that
    /// a hand-over may take.
    pub cut: CancellationToken,
}

/// One membership, from joining to its end.
pub struct Era {
    /// This daemon's name in Redis for the era.
    pub nonce: String,
    /// The generation of the store's Redis that all of the era's state comes from.
    pub generation: u64,
    clock: Clock,
    half_lease: Duration,
    /// Monotonic ms when the last good beat was sent.
    beaten_at_ms: AtomicU64,
    token: CancellationToken,
    ending: std::sync::OnceLock<Ending>,
    owned: Vec<ArcSwapOption<Owned>>,
    called: Notify,
    leaving: AtomicBool,
    /// Deliveries in the queues of the shards that it owns, for the others.
    waiting: AtomicU64,
}

impl Era {
    fn new(nonce: String, generation: u64, clock: Clock, lease: Duration, shards: u16) -> Era {
        Era {
            nonce,
            generation,
            clock,
            half_lease: lease / 2,
            beaten_at_ms: AtomicU64::new(0),
            token: CancellationToken::new(),
            ending: std::sync::OnceLock::new(),
            owned: (0..shards).map(|_| ArcSwapOption::empty()).collect(),
            called: Notify::new(),
            leaving: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
        }
    }

    /// Whether this daemon may act.
    pub fn is_valid(&self) -> bool {
        let beaten = Duration::from_millis(self.beaten_at_ms.load(Ordering::Acquire));
        // Asked very often, and a token has a lock.
        self.ending.get().is_none() && self.clock.monotonic() < beaten + self.half_lease
    }

    /// For how long after a good beat this daemon may act.
    pub fn half_lease(&self) -> Duration {
        self.half_lease
    }

    fn beaten(&self, sent: Duration) {
        let sent_ms = u64::try_from(sent.as_millis()).unwrap_or(u64::MAX);
        self.beaten_at_ms.store(sent_ms, Ordering::Release);
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

    fn own(&self, shard: u16, owned: Owned) {
        if let Some(slot) = self.owned.get(usize::from(shard)) {
            slot.store(Some(Arc::new(owned)));
        }
    }

    /// From now on nothing is begun in the shard. What it was owned under, to be released.
    pub fn disown(&self, shard: u16) -> Option<Arc<Owned>> {
        self.owned.get(usize::from(shard))?.swap(None)
    }

    /// Another daemon joined, left or released something: who owns what is to be looked at soon.
    pub fn call(&self) {
        self.called.notify_one();
    }

    /// Resolves once for any number of calls.
    pub async fn called(&self) {
        self.called.notified().await;
    }

    /// This daemon stops: everything that it owns belongs to others from its next beat on.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.call();
    }

    /// Whether it stops.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Deliveries that wait in the queues of its shards, when they were last counted.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Acquire)
    }

    /// Sets what [`Era::waiting`] says, and the next beat.
    pub fn set_waiting(&self, deliveries: u64) {
        self.waiting.store(deliveries, Ordering::Release);
    }
}
