//! The keeper: beats, and keeps each shard with the daemon that it belongs to.
//!
//! What belongs to another daemon by now is handed over: its lanes end, it is released, and the other is called. What
//! belongs to this one is claimed as soon as nobody who lives owns it, and its work is read.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatch;
use crate::logging::StateLog;
use crate::membership::{Ending, Era, Members, Membership, Owned};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::{Store, StoreError};

/// The pause after a beat or a release that failed.
const AGAIN: Duration = Duration::from_millis(200);

/// See the module's own words.
pub(super) struct Keeper<'a> {
    membership: &'a mut Membership,
    store: Store,
    metrics: Arc<Metrics>,
    era: Arc<Era>,
    dispatch: Arc<Dispatch>,
    /// All live daemons, as the last beat showed them.
    live: watch::Sender<Members>,
    /// How long a shard that moves waits for what is in flight.
    handover: Duration,
    /// The same for a daemon that stops and has no successor.
    grace: Duration,
    releases: JoinSet<Released>,
    releasing: HashSet<u16>,
    /// Readings of what was claimed.
    adoptions: JoinSet<()>,
    /// Cancelled once no source is read any more.
    read_out: CancellationToken,
}

struct Released {
    shard: u16,
    /// Whether it was released in Redis; otherwise the era is over.
    done: bool,
}

impl<'a> Keeper<'a> {
    /// A keeper of what the era owns already, whose work has been read.
    pub fn new(
        membership: &'a mut Membership,
        store: Store,
        metrics: Arc<Metrics>,
        era: Arc<Era>,
        dispatch: Arc<Dispatch>,
        live: watch::Sender<Members>,
        settings: &Settings,
    ) -> Keeper<'a> {
        Keeper {
            membership,
            store,
            metrics,
            era,
            dispatch,
            live,
            handover: settings.ownership.handover,
            grace: settings.shutdown.grace,
            releases: JoinSet::new(),
            releasing: HashSet::new(),
            adoptions: JoinSet::new(),
            read_out: CancellationToken::new(),
        }
    }

    /// To be cancelled once no source is read any more; the era is to be called then.
    pub fn read_out(&self) -> CancellationToken {
        self.read_out.clone()
    }

    /// Beats and moves shards until the era is over, or, once this daemon is leaving, until nothing is left to release:
    /// while a reader still settles what it handed out, others must not take this daemon for dead.
    pub async fn run(&mut self) {
        let state = StateLog::new("the beat");
        let mut generation = self.store.link().watch();
        let mut next = Instant::now() + self.membership.beat_every();
        loop {
            self.metrics
                .shards_owned
                .set(i64::try_from(self.era.owned_shards().len()).unwrap_or(i64::MAX));
            tokio::select! {
                _ = self.era.ended() => return,
                Some(first) = self.releases.join_next() => {
                    match first {
                        Ok(first) => self.released(first).await,
                        Err(error) => self.failed(&error),
                    }
                    continue;
                }
                Some(adopted) = self.adoptions.join_next() => {
                    if let Err(error) = adopted {
                        self.failed(&error);
                    }
                    continue;
                }
                () = tokio::time::sleep_until(next) => {}
                () = self.era.called() => {}
                // A new connection may lead to another server: found out at once, not with the next beat.
                Ok(()) = generation.changed() => {}
            }
            if self.store.link().generation() != self.era.generation {
                self.era.end(Ending::Replaced);
                return;
            }
            match self.beat().await {
                Ok(()) => {
                    next = Instant::now() + self.membership.beat_every();
                    state.well();
                }
                Err(error) => {
                    if self.era.ends_with(&error) {
                        return;
                    }
                    self.metrics.beats_missed_total.inc();
                    state.trouble("missed", &error);
                    // Sooner than the next beat: validity is running out.
                    next = Instant::now() + AGAIN;
                }
            }
            if self.era.is_leaving() && self.is_done() {
                return;
            }
        }
    }

    fn is_done(&self) -> bool {
        self.read_out.is_cancelled()
            && self.releases.is_empty()
            && self.era.owned_shards().is_empty()
    }

    async fn beat(&mut self) -> Result<(), StoreError> {
        let members = self.membership.beat(&self.era).await?;
        self.metrics
            .instances
            .set(i64::try_from(members.count()).unwrap_or(i64::MAX));
        self.live.send_replace(members.clone());
        for shard in self.era.owned_shards() {
            if members.of_shard(shard) != Some(&self.era.nonce) && self.releasing.insert(shard) {
                self.hand_over(shard, &members);
            }
        }
        if !self.era.is_leaving() {
            let before = self.era.owned_shards();
            let claim = self
                .membership
                .claim(&self.era, &members, &self.releasing)
                .await;
            // Some may have been claimed even if the replies for others did not come.
            let mut claimed = self.era.owned_shards();
            claimed.retain(|shard| !before.contains(shard));
            if !claimed.is_empty() {
                self.metrics
                    .shards_claimed_total
                    .inc_by(claimed.len() as u64);
                tracing::info!(shards = claimed.len(), "shards were taken over");
                let (dispatch, era) = (self.dispatch.clone(), self.era.clone());
                // Beside the beats: what takes long to read must not make this daemon look dead.
                self.adoptions.spawn(adopt(dispatch, era, claimed));
            }
            claim?;
        }
        Ok(())
    }

    fn hand_over(&mut self, shard: u16, members: &Members) {
        let alone = self.era.is_leaving() && !members.has_successor(&self.era.nonce);
        let deadline = Instant::now() + if alone { self.grace } else { self.handover };
        let (store, era, dispatch) = (self.store.clone(), self.era.clone(), self.dispatch.clone());
        self.releases.spawn(async move {
            let done = match dispatch.hand_over(shard, deadline).await {
                Some(owned) => release(&store, &era, shard, &owned).await,
                None => true,
            };
            Released { shard, done }
        });
    }

    /// A task panicked, and what it held is in nobody's hands: beginning anew from Redis is always right.
    fn failed(&self, error: &JoinError) {
        tracing::error!(%error, "a task of the daemon failed; it begins anew");
        self.era.end(Ending::Failed);
    }

    /// One release is over, and perhaps more are: those who wait for them are called.
    async fn released(&mut self, first: Released) {
        let mut all = vec![first];
        while let Some(more) = self.releases.try_join_next() {
            match more {
                Ok(more) => all.push(more),
                Err(error) => self.failed(&error),
            }
        }
        let mut called: Vec<String> = Vec::new();
        for released in all {
            self.releasing.remove(&released.shard);
            if !released.done {
                continue;
            }
            self.metrics.shards_released_total.inc();
            match self.live.borrow().of_shard(released.shard) {
                // It belongs to this daemon again.
                Some(nonce) if nonce == self.era.nonce => self.era.call(),
                Some(nonce) if !called.iter().any(|known| known == nonce) => {
                    called.push(nonce.to_owned());
                }
                _ => {}
            }
        }
        if let Err(error) = self.store.call(&called).await {
            tracing::debug!(%error, "successors could not be called; they look with their next beat");
        }
        if self.era.is_leaving() && self.is_done() {
            self.era.call();
        }
    }
}

/// Reads the work of shards that were claimed, as often as it takes: what is not read would wait for the sweep.
async fn adopt(dispatch: Arc<Dispatch>, era: Arc<Era>, mut shards: Vec<u16>) {
    let state = StateLog::new("reading the work of shards that were taken over");
    loop {
        shards.retain(|shard| era.owned(*shard).is_some());
        match dispatch.adopt(&shards).await {
            Ok(()) => {
                state.well();
                return;
            }
            Err(error) if era.ends_with(&error) => return,
            Err(error) => {
                state.trouble("failed", &error);
            }
        }
        tokio::select! {
            _ = era.ended() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Releases a shard in which nothing goes on any more. False if the era ended before.
async fn release(store: &Store, era: &Era, shard: u16, owned: &Owned) -> bool {
    let epoch = owned.value.split_once(':').map_or("", |(_, epoch)| epoch);
    loop {
        // Whoever else set it meanwhile owns it rightly.
        match store.claim(shard, &owned.value, &format!(":{epoch}")).await {
            Ok(_) => return true,
            Err(error) if era.ends_with(&error) => return false,
            Err(error) => tracing::debug!(%error, "releasing a shard is tried again"),
        }
        tokio::select! {
            _ = era.ended() => return false,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
