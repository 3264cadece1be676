//! One era after another: joining, everything that lives as long as an era, and its end.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::DaemonError;
use super::follower::{self, Follower, Freshness};
use super::health;
use super::keeper::Keeper;
use super::sampler::Sampler;
use super::sources::{ConfiguredSource, Sources, SourcesState};
use crate::clock::Clock;
use crate::dispatch::threads::LaneThreads;
use crate::dispatch::{self, Dispatch};
use crate::fanout::Fanout;
use crate::logging::StateLog;
use crate::membership::{Ending, Era, Members, Membership};
use crate::metrics::Metrics;
use crate::readiness::{self, Readiness};
use crate::registry::Registry;
use crate::settings::Settings;
use crate::source::Gate;
use crate::store::{Store, StoreError};

/// The pause before an era that could not begin is tried again, at first and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_LONGEST: Duration = Duration::from_secs(1);
/// The longest pause after an era that failed, or could not begin: what it claims and gives back disturbs the others.
const SETBACK_LONGEST: Duration = Duration::from_secs(30);
/// Requests of other daemons for sources that may wait; who is not heard asks again.
const MOST_ASKED: usize = 1_000;
/// What acknowledging and releasing may take beyond the grace, once the lanes are cut off.
const CLOSING: Duration = Duration::from_secs(2);

/// One era after another.
pub(super) struct Life {
    pub settings: Arc<Settings>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub store: Store,
    pub sources: Vec<ConfiguredSource>,
    pub threads: Arc<LaneThreads>,
    /// Holds the dispatch of the present era, while there is one.
    pub dispatch: Arc<ArcSwapOption<Dispatch>>,
    pub stop: CancellationToken,
}

impl Life {
    pub(super) async fn run(&self) -> Result<(), DaemonError> {
        let name = self.settings.instance.name.clone();
        let lease = self.settings.ownership.lease;
        let mut membership = Membership::new(self.store.clone(), self.clock.clone(), name, lease);
        let beginning = StateLog::new("beginning");
        let mut pause = AGAIN_FIRST;
        let mut warned = false;
        // Whether the last era was over soon, because another daemon deposed this one.
        let mut short = false;
        // How long to wait after an era that failed, or could not begin.
        let mut setback = AGAIN_LONGEST;
        while !self.stop.is_cancelled() {
            let begun = tokio::select! {
                () = self.stop.cancelled() => None,
                begun = self.begin(&mut membership, &mut warned) => Some(begun),
            };
            let Some(begun) = begun else {
                self.take_back(&mut membership).await;
                return Ok(());
            };
            match begun {
                Ok(Ok((era, members))) => {
                    beginning.well();
                    pause = AGAIN_FIRST;
                    let began = tokio::time::Instant::now();
                    let ending = self.live(&mut membership, era, members).await;
                    if began.elapsed() >= lease {
                        setback = AGAIN_LONGEST;
                    }
                    match ending {
                        Ending::Stopped => return Ok(()),
                        Ending::NotBegun => self.pause(AGAIN_LONGEST).await,
                        Ending::Failed => self.set_back(&mut membership, &mut setback).await,
                        Ending::Deposed => {
                            let before = std::mem::replace(&mut short, began.elapsed() < lease * 2);
                            if before && short {
                                tracing::error!(
                                    instance = %self.settings.instance.name,
                                    "another daemon deposed this one again: is there another one with its \
                                     instance.name on another host? It joins anew after a pause"
                                );
                                // Two that depose each other would do nothing else.
                                self.pause(lease).await;
                            } else {
                                tracing::error!("another daemon deposed this one; it joins anew");
                            }
                        }
                        Ending::Replaced => {
                            tracing::warn!(
                                "Redis was restarted or failed over; what was in memory is void"
                            );
                        }
                    }
                }
                Ok(Err(unfit)) => return Err(unfit.into()),
                Err(error) => {
                    beginning.trouble("failed", &error);
                    self.readiness
                        .set(readiness::OWNERSHIP, Err(error.to_string()));
                    if passes(&error) {
                        self.pause(pause).await;
                        pause = (pause * 2).min(AGAIN_LONGEST);
                    } else {
                        self.set_back(&mut membership, &mut setback).await;
                    }
                }
            }
        }
        self.take_back(&mut membership).await;
        Ok(())
    }

    /// Waits, but not when the daemon is to stop.
    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Gives up what was joined, and waits: the longer the more often it happens, where others are disturbed by what is
    /// claimed and given back. Another server or connection is reason to try at once.
    async fn set_back(&self, membership: &mut Membership, setback: &mut Duration) {
        let mut generation = self.store.link().watch();
        generation.mark_unchanged();
        let disturbed = self.take_back(membership).await;
        let pause = if disturbed { *setback } else { AGAIN_LONGEST };
        if disturbed {
            *setback = (*setback * 2).min(SETBACK_LONGEST);
        }
        tokio::select! {
            () = self.pause(pause) => {}
            Ok(()) = generation.changed() => {}
        }
    }

    /// What was joined and not begun is given up, so that the others need not wait for a lease to run out.
    /// Returns whether there were others.
    async fn take_back(&self, membership: &mut Membership) -> bool {
        match tokio::time::timeout(CLOSING, membership.take_back()).await {
            Ok(Ok(others)) => others,
            _ => {
                tracing::warn!(
                    "this daemon could not take its leave; others take over when the lease runs out"
                );
                true
            }
        }
    }

    /// Does `work`, and beats meanwhile: what takes long to read must not make this daemon look dead. `None` if the era
    /// or the daemon's life is over before.
    async fn beating<T>(
        &self,
        membership: &mut Membership,
        era: &Era,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = self.stop.cancelled() => {
                    era.end(Ending::Stopped);
                    return None;
                }
                _ = era.ended() => return None,
                () = tokio::time::sleep(membership.beat_every()) => {
                    if let Err(error) = membership.beat(era).await {
                        era.ends_with(&error);
                        self.metrics.beats_missed_total.inc();
                    }
                }
            }
        }
    }

    /// Checks that Redis fits, and joins.
    async fn begin(
        &self,
        membership: &mut Membership,
        warned: &mut bool,
    ) -> Result<Result<(Arc<Era>, Members), crate::store::meta::Unfit>, StoreError> {
        // Until the first connection there is nothing to try; the link tells of what keeps it.
        while self.store.link().connection().is_err() {
            // By looking: a connection that was lost and made again at once changes no state that could be waited for.
            tokio::time::sleep(AGAIN_FIRST).await;
        }
        match self.store.check_boot().await? {
            Err(unfit) => return Ok(Err(unfit)),
            Ok(warnings) if !*warned => {
                *warned = true;
                warnings
                    .iter()
                    .for_each(|warning| tracing::warn!("{warning}"));
            }
            Ok(_) => {}
        }
        membership.join().await.map(Ok)
    }

    /// Everything that lives as long as an era.
    async fn live(&self, membership: &mut Membership, era: Arc<Era>, members: Members) -> Ending {
        let registry = Arc::new(Registry::new(self.store.shards()));
        let load = follower::load(&self.store, &registry, None);
        let position = match self.beating(membership, &era, load).await {
            Some(Ok(position)) => position,
            Some(Err(error)) => return self.could_not_begin(&era, &error),
            None => return self.broken_off(membership, &era).await,
        };
        let dispatch = Dispatch::new(dispatch::Parts {
            store: self.store.clone(),
            settings: self.settings.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            era: era.clone(),
            registry: registry.clone(),
            threads: self.threads.clone(),
        });
        let owned = era.owned_shards();
        match self.beating(membership, &era, dispatch.adopt(&owned)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => return self.could_not_begin(&era, &error),
            None => return self.broken_off(membership, &era).await,
        }
        self.dispatch.store(Some(dispatch.clone()));
        let owned = era.owned_shards().len();
        self.metrics
            .shards_owned
            .set(i64::try_from(owned).unwrap_or(i64::MAX));
        self.readiness.set(readiness::OWNERSHIP, Ok(()));
        self.readiness.set(readiness::REGISTRY, Ok(()));
        tracing::info!(
            shards = owned,
            webhooks = registry.counts().all(),
            "this daemon has joined"
        );

        let freshness = Arc::new(Freshness::default());
        let (gate, gated) = watch::channel(Gate::Open);
        let (live, alive) = watch::channel(members);
        let (asked, asking) = mpsc::channel(MOST_ASKED);
        let (sources_state, sources_watch) = watch::channel(SourcesState::default());
        let stop_reading = CancellationToken::new();
        let fanout = Fanout::new(
            self.store.clone(),
            self.settings.clone(),
            self.clock.clone(),
            self.metrics.clone(),
            era.clone(),
            registry.clone(),
            dispatch.clone(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(dispatch.clone().alarm());
        tasks.spawn(dispatch.clone().sweep());
        tasks.spawn(
            Follower {
                store: self.store.clone(),
                registry: registry.clone(),
                dispatch: dispatch.clone(),
                era: era.clone(),
                clock: self.clock.clone(),
                freshness: freshness.clone(),
                asked,
            }
            .run(position),
        );
        tasks.spawn(
            Sampler {
                store: self.store.clone(),
                settings: self.settings.clone(),
                metrics: self.metrics.clone(),
                clock: self.clock.clone(),
                era: era.clone(),
                dispatch: dispatch.clone(),
                registry: registry.clone(),
                freshness: freshness.clone(),
                gate,
                live: alive.clone(),
            }
            .run(),
        );
        tasks.spawn(health::watch_sources(
            sources_watch,
            self.sources.len(),
            self.readiness.clone(),
            era.clone(),
        ));
        tasks.spawn(health::watch_era(
            self.readiness.clone(),
            era.clone(),
            freshness,
            self.clock.clone(),
        ));
        let mut reading = tokio::spawn(
            Sources {
                store: self.store.clone(),
                settings: self.settings.clone(),
                configured: self.sources.clone(),
                metrics: self.metrics.clone(),
                clock: self.clock.clone(),
                era: era.clone(),
                fanout,
                dispatch: dispatch.clone(),
                gate: gated,
                live: alive.clone(),
                asked: asking,
                stop: stop_reading.clone(),
                state: sources_state,
            }
            .run(),
        );

        // Others may have joined since it did.
        era.call();
        let mut keeper = Keeper::new(
            membership,
            self.store.clone(),
            self.metrics.clone(),
            era.clone(),
            dispatch.clone(),
            live,
            &self.settings,
        );
        let read_out = keeper.read_out();
        let mut stopped = false;
        tokio::select! {
            () = keeper.run() => {}
            () = self.stop.cancelled() => stopped = true,
            Some(ended) = tasks.join_next() => {
                // They end with the era; before that, only by a panic. Beginning anew from Redis is always right.
                if let Err(error) = ended {
                    tracing::error!(%error, "a task of the daemon failed; it begins anew");
                }
                era.end(Ending::Failed);
            }
        }
        let mut ending = Ending::Stopped;
        if stopped {
            tracing::info!("stopping: no more events are read, what is in flight is finished");
            self.readiness
                .set(readiness::SOURCES, Err("the daemon is stopping".to_owned()));
            stop_reading.cancel();
            era.leave();
            let deadline = tokio::time::Instant::now() + self.settings.shutdown.grace;
            let finished = tokio::time::timeout_at(deadline, async {
                // What a source has handed out and a lane no longer takes goes to its queue.
                tokio::join!(keeper.run(), async {
                    drop((&mut reading).await);
                    read_out.cancel();
                    era.call();
                })
            })
            .await
            .is_ok();
            if !finished {
                tracing::warn!(
                    "the grace is over; what is still in flight will be delivered again"
                );
            }
            dispatch.write_records().await;
            // Before the others may claim what could not be released in time.
            era.end(Ending::Stopped);
            let members = alive.borrow().clone();
            let left = tokio::time::timeout(CLOSING, membership.leave(&era, &members)).await;
            if !matches!(left, Ok(Ok(()))) {
                tracing::warn!(
                    "this daemon could not take its leave; others take over when the lease runs out"
                );
            }
        } else {
            ending = match era.ended().await {
                Ending::Stopped => Ending::Replaced,
                ending => ending,
            };
        }
        self.dispatch.store(None);
        reading.abort();
        tasks.shutdown().await;
        if ending != Ending::Stopped {
            self.readiness
                .set(readiness::OWNERSHIP, Err("joining anew".to_owned()));
        }
        self.metrics.shards_owned.set(0);
        ending
    }

    /// How an era ends that could not begin: what this daemon cannot serve, for a reason that does not pass by itself, it
    /// must not keep from others.
    fn could_not_begin(&self, era: &Era, error: &StoreError) -> Ending {
        tracing::warn!(%error, "the daemon could not begin; it tries again");
        self.readiness
            .set(readiness::REGISTRY, Err(error.to_string()));
        let ending = match passes(error) {
            true => Ending::NotBegun,
            false => Ending::Failed,
        };
        era.end(ending.clone());
        ending
    }

    /// The era ended, or the daemon is to stop, before anything was begun.
    async fn broken_off(&self, membership: &mut Membership, era: &Era) -> Ending {
        self.take_back(membership).await;
        era.ended().await
    }
}

/// Whether what went wrong passes by itself: trouble of Redis, or another server in its place.
fn passes(error: &StoreError) -> bool {
    error.is_passing() || matches!(error, StoreError::Replaced | StoreError::Fenced { .. })
}
