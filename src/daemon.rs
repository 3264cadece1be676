//! The daemon: what is started in which order, what ends when, and why.
//!
//! For the whole life of the process: the links to Redis, the metrics listener, readiness. For each [`Era`]: the
//! membership's beats, the registry and its follower, the dispatch with its lanes, the fan-out, the sources. An era is
//! begun from what Redis holds and from nothing else, so that a daemon that was deposed, or whose Redis was replaced,
//! goes on exactly as one that was just started.
//!
//! Order of starting: claims, registry, dispatch, fan-out, sources: nothing is read before there is somewhere to put
//! it. Order of stopping: sources (nothing new comes in), lanes (what flies lands, what waits is stored, within the
//! grace), acknowledgements, ownership. What the grace cuts off is still pending on its source or in its queue.

mod follower;
mod lock;
mod sampler;
mod sources;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::follower::{Follower, Freshness};
use self::lock::Lock;
use self::sampler::Sampler;
use self::sources::{ConfiguredSource, Sources, SourcesState};
use crate::clock::Clock;
use crate::dispatch::http_client::HttpClient;
use crate::dispatch::{self, Dispatch};
use crate::exit::Exit;
use crate::fanout::Fanout;
use crate::logging::StateLog;
use crate::membership::{Ending, Era, Membership};
use crate::metrics::Metrics;
use crate::observe;
use crate::readiness::{self, Readiness};
use crate::registry::Registry;
use crate::settings::Settings;
use crate::source::Gate;
use crate::store::connection::LinkState;
use crate::store::{Link, Store, StoreError};
use crate::target::TargetRules;

/// The pause before an era that could not begin is tried again, at first and at most.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_LONGEST: Duration = Duration::from_secs(2);
/// What is left of the grace for acknowledging and releasing once the lanes are cut off.
const CLOSING: Duration = Duration::from_secs(2);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another daemon of this name runs, or the lock file cannot be had.
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// The metrics listener cannot be bound.
    #[error("cannot listen on {address} (metrics.listen): {error}")]
    Listen {
        /// The setting.
        address: SocketAddr,
        /// The system's own words.
        error: std::io::Error,
    },
    /// Redis is not fit.
    #[error(transparent)]
    Unfit(#[from] crate::store::meta::Unfit),
    /// The connection settings cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Client(#[from] dispatch::http_client::HttpClientError),
}

impl DaemonError {
    /// The process's exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            DaemonError::Lock(lock::LockError::Held { .. }) => Exit::Busy,
            DaemonError::Lock(_) | DaemonError::Listen { .. } => Exit::Failure,
            DaemonError::Unfit(_) | DaemonError::Store(_) | DaemonError::Client(_) => Exit::Config,
        }
    }
}

/// A daemon that has its settings, its lock and its listener, and is ready to run.
pub struct Daemon {
    settings: Arc<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    store: Store,
    sources: Vec<ConfiguredSource>,
    http: Arc<HttpClient>,
    listener: TcpListener,
    _lock: Lock,
}

impl Daemon {
    /// Takes the lock, binds the listener, and makes what can fail before anything is done.
    ///
    /// # Errors
    ///
    /// See [`DaemonError`].
    pub fn new(settings: Settings, clock: Clock) -> Result<Daemon, DaemonError> {
        let lock = Lock::take(&settings.instance.lock_file, &settings.instance.name)?;
        let address = settings.metrics.listen;
        let listener =
            TcpListener::bind(address).map_err(|error| DaemonError::Listen { address, error })?;
        let metrics = Metrics::new();
        let store = Store::new(&settings, &clock, &metrics)?;
        let mut sources = Vec::new();
        for source in &settings.sources {
            let link = match &source.server {
                Some(server) => Link::new(server, &settings.redis, &clock, &metrics)?,
                None => store.link().clone(),
            };
            sources.push(ConfiguredSource {
                settings: Arc::new(source.clone()),
                link,
            });
        }
        let rules = Arc::new(TargetRules::new(
            settings.targets.allow.clone(),
            settings.targets.https_only,
        ));
        let http = HttpClient::new(
            rules,
            &settings.delivery,
            settings.targets.ca_file.as_deref(),
        )?;
        let readiness = Readiness::new(&[
            readiness::REDIS,
            readiness::OWNERSHIP,
            readiness::REGISTRY,
            readiness::SOURCES,
        ]);
        Ok(Daemon {
            settings: Arc::new(settings),
            clock,
            metrics,
            readiness,
            store,
            sources,
            http: Arc::new(http),
            listener,
            _lock: lock,
        })
    }

    /// Where the metrics are to be had: the port is known even if the setting asked for any.
    ///
    /// # Errors
    ///
    /// The system does not tell.
    pub fn metrics_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The conditions under which the daemon is ready.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Runs until `stop`, then within the grace finishes what is in flight.
    ///
    /// # Errors
    ///
    /// Redis is found unfit.
    pub async fn run(self, stop: CancellationToken) -> Result<(), DaemonError> {
        let Daemon {
            settings,
            clock,
            metrics,
            readiness,
            store,
            sources,
            http,
            listener,
            _lock,
        } = self;
        let ended = CancellationToken::new();
        let mut background = JoinSet::new();
        background.spawn(store.link().clone().keep(ended.clone()));
        for source in sources
            .iter()
            .filter(|source| !source.link.is(store.link()))
        {
            background.spawn(source.link.clone().keep(ended.clone()));
        }
        background.spawn(watch_link(
            store.link().clone(),
            readiness.clone(),
            metrics.clone(),
            ended.clone(),
        ));
        {
            let (metrics, readiness, ended) = (metrics.clone(), readiness.clone(), ended.clone());
            background.spawn(async move {
                if let Err(error) = observe::serve(listener, metrics, readiness, ended).await {
                    tracing::error!(%error, "the metrics listener failed");
                }
            });
        }
        let life = Life {
            settings,
            clock,
            metrics,
            readiness,
            store,
            sources,
            http,
            stop,
        };
        let result = life.run().await;
        ended.cancel();
        while background.join_next().await.is_some() {}
        result
    }
}

/// Keeps readiness, metric and log in step with the link to the daemon's own Redis.
async fn watch_link(
    link: Link,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    ended: CancellationToken,
) {
    let state = StateLog::new("the connection to Redis");
    let mut watch = link.watch();
    loop {
        match &*watch.borrow_and_update() {
            LinkState::Up(_) => {
                metrics.redis_up.set(1);
                readiness.set(readiness::REDIS, Ok(()));
                state.well();
            }
            LinkState::Starting => {}
            LinkState::Down(reason) => {
                metrics.redis_up.set(0);
                readiness.set(readiness::REDIS, Err(reason.clone()));
                state.trouble("down", reason);
            }
        }
        tokio::select! {
            () = ended.cancelled() => return,
            changed = watch.changed() => if changed.is_err() { return },
        }
    }
}

/// One era after another.
struct Life {
    settings: Arc<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    store: Store,
    sources: Vec<ConfiguredSource>,
    http: Arc<HttpClient>,
    stop: CancellationToken,
}

impl Life {
    async fn run(&self) -> Result<(), DaemonError> {
        let name = self.settings.instance.name.clone();
        let lease = self.settings.ownership.lease;
        let mut membership = Membership::new(self.store.clone(), self.clock.clone(), name, lease);
        let beginning = StateLog::new("beginning");
        let mut pause = AGAIN_FIRST;
        let mut warned = false;
        while !self.stop.is_cancelled() {
            let begun = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                begun = self.begin(&mut membership, &mut warned) => begun,
            };
            match begun {
                Ok(Ok(era)) => {
                    beginning.well();
                    pause = AGAIN_FIRST;
                    match self.live(&mut membership, era).await {
                        Ending::Stopped => return Ok(()),
                        Ending::Deposed => {
                            tracing::error!("another daemon deposed this one; it joins anew")
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
                    tokio::select! {
                        () = self.stop.cancelled() => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(AGAIN_LONGEST);
                }
            }
        }
        Ok(())
    }

    /// Checks that Redis fits, and joins.
    async fn begin(
        &self,
        membership: &mut Membership,
        warned: &mut bool,
    ) -> Result<Result<Arc<Era>, crate::store::meta::Unfit>, StoreError> {
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
    async fn live(&self, membership: &mut Membership, era: Arc<Era>) -> Ending {
        let registry = Arc::new(Registry::new(self.store.shards()));
        let position = match follower::load(&self.store, &registry, None).await {
            Ok(position) => position,
            Err(error) => return self.could_not_begin(&era, &error).await,
        };
        let dispatch = Dispatch::new(dispatch::Parts {
            store: self.store.clone(),
            settings: self.settings.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            era: era.clone(),
            registry: registry.clone(),
            http: self.http.clone(),
        });
        if let Err(error) = dispatch.adopt(&era.owned_shards()).await {
            return self.could_not_begin(&era, &error).await;
        }
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
        let (live, alive) = watch::channel(era.joined.clone());
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
                freshness,
                gate,
            }
            .run(),
        );
        tasks.spawn(watch_sources(
            sources_watch,
            self.sources.len(),
            self.readiness.clone(),
            era.clone(),
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
                live: alive,
                stop: stop_reading.clone(),
                state: sources_state,
            }
            .run(),
        );

        let mut stopped = false;
        tokio::select! {
            () = self.keep_beating(membership, &era, &dispatch, &live) => {}
            () = self.stop.cancelled() => stopped = true,
            Some(ended) = tasks.join_next() => {
                // They end with the era; before that, only by a panic. Beginning anew from Redis is always right.
                if let Err(error) = ended {
                    tracing::error!(%error, "a task of the daemon failed; it begins anew");
                }
                era.end(Ending::Replaced);
            }
        }
        let mut ending = Ending::Stopped;
        if stopped {
            tracing::info!("stopping: no more events are read, what is in flight is finished");
            self.readiness
                .set(readiness::SOURCES, Err("the daemon is stopping".to_owned()));
            stop_reading.cancel();
            let deadline = tokio::time::Instant::now() + self.settings.shutdown.grace;
            let finished = tokio::select! {
                finished = tokio::time::timeout_at(deadline, async {
                    dispatch.drain().await;
                    let _ = (&mut reading).await;
                }) => finished.is_ok(),
                () = self.keep_beating(membership, &era, &dispatch, &live) => false,
            };
            if !finished {
                tracing::warn!(
                    "the grace is over; what is still in flight will be delivered again"
                );
            }
            let left = tokio::time::timeout(CLOSING, membership.leave(&era)).await;
            if !matches!(left, Ok(Ok(()))) {
                tracing::warn!(
                    "ownership could not be released; others take over when the lease runs out"
                );
            }
            era.end(Ending::Stopped);
        } else {
            ending = match era.ended().await {
                Ending::Stopped => Ending::Replaced,
                ending => ending,
            };
            self.readiness
                .set(readiness::OWNERSHIP, Err("joining anew".to_owned()));
        }
        reading.abort();
        tasks.shutdown().await;
        self.metrics.shards_owned.set(0);
        ending
    }

    async fn could_not_begin(&self, era: &Era, error: &StoreError) -> Ending {
        tracing::warn!(%error, "the daemon could not begin; it tries again");
        era.end(Ending::Replaced);
        tokio::time::sleep(AGAIN_LONGEST / 4).await;
        Ending::Replaced
    }

    /// Beats until the era is over.
    async fn keep_beating(
        &self,
        membership: &mut Membership,
        era: &Arc<Era>,
        dispatch: &Arc<Dispatch>,
        live: &watch::Sender<Vec<String>>,
    ) {
        let state = StateLog::new("the beat");
        let mut generation = self.store.link().watch();
        loop {
            tokio::select! {
                _ = era.ended() => return,
                () = tokio::time::sleep(membership.beat_every()) => {}
                // A new connection may lead to another server: found out at once, not with the next beat.
                Ok(()) = generation.changed() => {}
            }
            if self.store.link().generation() != era.generation {
                era.end(Ending::Replaced);
                return;
            }
            let before = era.owned_shards();
            match membership.beat(era).await {
                Ok(listed) => {
                    state.well();
                    live.send_replace(listed);
                    let claimed: Vec<u16> = era
                        .owned_shards()
                        .into_iter()
                        .filter(|shard| !before.contains(shard))
                        .collect();
                    if !claimed.is_empty() {
                        self.metrics
                            .shards_owned
                            .set(i64::try_from(before.len() + claimed.len()).unwrap_or(i64::MAX));
                        tracing::info!(shards = claimed.len(), "shards were taken over");
                        if let Err(error) = dispatch.adopt(&claimed).await {
                            // Its sweep finds what is due; what is due later is found when it is.
                            tracing::warn!(%error, "the work of shards that were taken over could not be read whole");
                        }
                    }
                }
                Err(error) => {
                    if era.ends_with(&error) {
                        return;
                    }
                    self.metrics.beats_missed_total.inc();
                    state.trouble("missed", &error);
                    // Sooner than the next beat: validity is running out.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Keeps readiness in step with the sources.
async fn watch_sources(
    mut state: watch::Receiver<SourcesState>,
    configured: usize,
    readiness: Readiness,
    era: Arc<Era>,
) {
    loop {
        let now = state.borrow_and_update().clone();
        let condition = if now.looked_at < configured {
            Err("not all sources have been looked at yet".to_owned())
        } else if now.reading < now.owned {
            Err(format!(
                "{} of {} source streams are not being read",
                now.owned - now.reading,
                now.owned
            ))
        } else {
            Ok(())
        };
        readiness.set(readiness::SOURCES, condition);
        tokio::select! {
            _ = era.ended() => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}
