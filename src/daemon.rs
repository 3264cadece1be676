//! The daemon: what is started in which order, what ends when, and why.
//!
//! For the whole life of the process: the links to Redis, the metrics listener, the API, readiness. For each era: the
//! keeper with the membership's beats, the registry and its follower, the dispatch with its lanes, the fan-out, the sources. An era is
//! begun from what Redis holds and from nothing else, so that a daemon that was deposed, or whose Redis was replaced,
//! goes on exactly as one that was just started.
//!
//! Order of starting: claims, registry, dispatch, fan-out, sources: nothing is read before there is somewhere to put
//! it. Order of stopping: sources (nothing new comes in), lanes (what flies lands, what waits is stored, within the
//! grace), acknowledgements, ownership. What the grace cuts off is still pending on its source or in its queue. The API
//! and the metrics answer until the very end: what the API does is done in Redis, whoever owns the shard.

mod follower;
mod health;
mod keeper;
mod life;
mod lock;
mod sampler;
mod sources;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::life::Life;
use self::lock::Lock;
use self::sources::ConfiguredSource;
use crate::api::{self, Api, ApiError, Guards, Ingest};
use crate::clock::Clock;
use crate::dispatch::http_client::HttpClient;
use crate::dispatch::threads::{LaneThreads, ThreadCounts};
use crate::dispatch::{self, Dispatch};
use crate::exit::Exit;
use crate::logging::StateLog;
use crate::metrics::Metrics;
use crate::observe;
use crate::readiness::{self, Readiness};
use crate::settings::Settings;
use crate::store::connection::LinkState;
use crate::store::{Link, Store, StoreError};
use crate::target::TargetRules;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another daemon of this name runs, or the lock file cannot be had.
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// A listener cannot be bound.
    #[error("cannot listen on {address} ({setting}): {error}")]
    Listen {
        /// The setting's name: `metrics.listen` or `api.listen`.
        setting: &'static str,
        /// Its value.
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
    /// The threads of deliveries cannot be started.
    #[error("cannot start the threads of deliveries: {0}")]
    Threads(#[source] std::io::Error),
    /// The API cannot be served as the settings say.
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl DaemonError {
    /// The process's exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            DaemonError::Lock(lock::LockError::Held { .. }) => Exit::Busy,
            DaemonError::Lock(_) | DaemonError::Listen { .. } | DaemonError::Threads(_) => {
                Exit::Failure
            }
            DaemonError::Unfit(_)
            | DaemonError::Store(_)
            | DaemonError::Client(_)
            | DaemonError::Api(_) => Exit::Config,
        }
    }
}

/// A daemon that has its settings, its lock and its listeners, and is ready to run.
pub struct Daemon {
    settings: Arc<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    store: Store,
    sources: Vec<ConfiguredSource>,
    threads: Arc<LaneThreads>,
    listener: TcpListener,
    api: Option<(TcpListener, Arc<Api>)>,
    dispatch: Arc<ArcSwapOption<Dispatch>>,
    _lock: Lock,
}

impl Daemon {
    /// Takes the lock, binds the listeners, and makes what can fail before anything is done.
    ///
    /// # Errors
    ///
    /// See [`DaemonError`].
    pub fn new(settings: Settings, clock: Clock) -> Result<Daemon, DaemonError> {
        let lock = Lock::take(&settings.instance.lock_file, &settings.instance.name)?;
        let listener = bind("metrics.listen", settings.metrics.listen)?;
        let api_listener = match settings.api.enabled {
            true => Some(bind("api.listen", settings.api.listen)?),
            false => None,
        };
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
                discovered: Arc::default(),
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
        let settings = Arc::new(settings);
        let http = Arc::new(http);
        let counts = ThreadCounts::of(settings.instance.worker_threads);
        let threads = LaneThreads::start(counts.lanes, &http).map_err(DaemonError::Threads)?;
        let dispatch = Arc::new(ArcSwapOption::empty());
        let guards = match &api_listener {
            Some(_) => Some(Guards::new(&settings, &clock, &metrics)?),
            None => None,
        };
        let api = api_listener.zip(guards).map(|(listener, guards)| {
            let ingests = sources.iter().map(|source| Ingest {
                settings: source.settings.clone(),
                link: source.link.clone(),
            });
            let api = Api {
                store: store.clone(),
                settings: settings.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
                http: http.clone(),
                sources: ingests.collect(),
                dispatch: dispatch.clone(),
                guards,
                tests: Default::default(),
                lookups: api::deliveries::Lookups::default(),
                searches: api::turns::Turns::default(),
                listings: api::turns::Turns::default(),
                jobs: api::jobs::Jobs::default(),
            };
            (listener, Arc::new(api))
        });
        Ok(Daemon {
            settings,
            clock,
            metrics,
            readiness,
            store,
            sources,
            threads: Arc::new(threads),
            listener,
            api,
            dispatch,
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

    /// Where the API is served, if it is.
    ///
    /// # Errors
    ///
    /// The system does not tell.
    pub fn api_address(&self) -> std::io::Result<Option<SocketAddr>> {
        let listener = self.api.as_ref().map(|(listener, _)| listener);
        listener.map(TcpListener::local_addr).transpose()
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
            threads,
            listener,
            api,
            dispatch,
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
        if let Some((listener, api)) = api {
            {
                let (api, stop, ended) = (api.clone(), stop.clone(), ended.clone());
                background.spawn(async move {
                    // Early: what a job says last needs the link, which ends with everything else.
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = ended.cancelled() => {}
                    }
                    api.jobs.stop().await;
                });
            }
            let ended = ended.clone();
            background.spawn(async move {
                if let Err(error) = api::serve(listener, api, ended).await {
                    tracing::error!(%error, "the API's listener failed");
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
            threads,
            dispatch,
            stop,
        };
        let result = life.run().await;
        ended.cancel();
        while background.join_next().await.is_some() {}
        result
    }
}

fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(address).map_err(|error| DaemonError::Listen {
        setting,
        address,
        error,
    })
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
