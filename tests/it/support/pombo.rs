//! The daemon under test, within the test's process or as one of its own, and the webhooks that it is to serve.

mod observed;
mod process;
mod webhooks;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pombo::clock::Clock;
use pombo::daemon::{Daemon, DaemonError};
use pombo::readiness::Readiness;
use pombo::settings::Settings;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use toml::Table;

pub use observed::{Metrics, Observed};
pub use process::{Log, Process};
pub use webhooks::{SECRET, Webhooks, webhook};

use super::api::ApiClient;
use super::redis::Redis;

/// The settings of a daemon under test, kept as a file, which both ways to run it read.
pub struct Config {
    directory: TempDir,
    table: Table,
    profile: Option<&'static str>,
}

impl Config {
    /// One source, the stream `events`; receivers on this machine; retries after 100 ms, always.
    pub fn new(redis: &Redis) -> Config {
        Self::with_redis_url(&redis.url())
    }

    /// The same, with Redis elsewhere: behind a proxy, or nowhere.
    pub fn with_redis_url(url: &str) -> Config {
        let directory = TempDir::with_prefix("pombo-config-").expect("a directory");
        let lock = directory.path().join("lock");
        let table = toml::toml! {
            [instance]
            name = "test"
            worker_threads = 2
            [[sources]]
            stream = "events"
            [targets]
            allow = ["127.0.0.0/8", "::1/128"]
            [retry]
            first = "100ms"
            factor = 1.0
            longest = "100ms"
            jitter = 0.0
            [api]
            listen = "127.0.0.1:0"
            [metrics]
            listen = "127.0.0.1:0"
            [logging]
            format = "json"
        };
        let config = Config {
            directory,
            table,
            profile: None,
        };
        config
            .with(&format!("[redis]\nurl = {url:?}"))
            .with(&format!("[instance]\nlock_file = {lock:?}"))
    }

    /// Lays `toml` over what is there: tables key by key, everything else as a whole.
    pub fn with(mut self, toml: &str) -> Config {
        merge(&mut self.table, toml.parse().expect("settings in TOML"));
        self
    }

    /// With the settings of a platform under these.
    pub fn with_profile(mut self, profile: &'static str) -> Config {
        self.profile = Some(profile);
        self
    }

    /// Writes the file.
    pub fn file(&self) -> PathBuf {
        let path = self.directory.path().join("pombo.toml");
        std::fs::write(&path, self.table.to_string()).expect("a written file");
        path
    }

    /// A directory for the test's files, gone with the settings.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn settings(&self) -> Settings {
        Settings::load(self.profile, Some(&self.file()), std::iter::empty())
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs the daemon within this process, and waits until it is ready.
    pub async fn start(&self) -> Pombo {
        let pombo = self.start_unready();
        pombo.readiness.ready().await;
        pombo
    }

    /// Runs the daemon within this process.
    pub fn start_unready(&self) -> Pombo {
        let daemon = self.daemon().expect("a daemon that can start");
        let address = daemon.metrics_address().expect("a port");
        let api = daemon.api_address().expect("a port");
        let readiness = daemon.readiness();
        let stop = CancellationToken::new();
        Pombo {
            observed: Observed::at(address),
            api,
            readiness,
            running: tokio::spawn(daemon.run(stop.clone())),
            stop,
        }
    }

    fn daemon(&self) -> Result<Daemon, DaemonError> {
        // One daemon's log helps to understand a failure; who is first wins where tests share a process.
        let _ = tracing_subscriber::fmt()
            .with_env_filter("info")
            .with_test_writer()
            .try_init();
        Daemon::new(self.settings(), Clock::system())
    }

    /// Runs the daemon as a process of its own, and waits until it is ready.
    pub async fn spawn(&self) -> Process {
        let process = self.spawn_unready().await;
        process.wait_ready().await;
        process
    }

    /// Runs the daemon as a process of its own, and waits until it has said where it listens, or has ended.
    pub async fn spawn_unready(&self) -> Process {
        self.spawn_within(&[]).await
    }

    /// The same, with these variables in its environment.
    pub async fn spawn_within(&self, environment: &[(&str, &str)]) -> Process {
        Process::spawn(&self.file(), environment).await
    }

    /// Access to the webhooks in Redis.
    pub async fn webhooks(&self) -> Webhooks {
        Webhooks::connect(&self.settings()).await
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// A daemon within the test's process. It is cut off when it is dropped.
pub struct Pombo {
    observed: Observed,
    api: Option<SocketAddr>,
    readiness: Readiness,
    stop: CancellationToken,
    running: JoinHandle<Result<(), DaemonError>>,
}

impl Pombo {
    pub fn address(&self) -> SocketAddr {
        self.observed.address()
    }

    /// Where the API is served.
    pub fn api_address(&self) -> SocketAddr {
        self.api.expect("an API that is served")
    }

    /// A client of the API, without a token.
    pub fn api(&self) -> ApiClient {
        ApiClient::at(self.api_address())
    }

    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Tells it to stop, and does not wait.
    pub fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops it, and returns once it has stopped.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = (&mut self.running).await;
        ended
            .expect("a daemon that does not panic")
            .expect("a daemon that stops without an error");
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> Result<(), DaemonError> {
        (&mut self.running)
            .await
            .expect("a daemon that does not panic")
    }
}

impl std::ops::Deref for Pombo {
    type Target = Observed;

    fn deref(&self) -> &Observed {
        &self.observed
    }
}

impl Drop for Pombo {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// What most tests need: a Redis, the settings of a daemon on it, and its webhooks.
pub struct World {
    pub redis: Redis,
    pub config: Config,
    pub webhooks: Webhooks,
}

impl World {
    pub async fn new() -> World {
        Self::with("").await
    }

    /// With `toml` laid over the settings of [`Config::new`].
    pub async fn with(toml: &str) -> World {
        let redis = Redis::start().await;
        let config = Config::new(&redis).with(toml);
        let webhooks = config.webhooks().await;
        World {
            redis,
            config,
            webhooks,
        }
    }

    /// Changes the settings, for the next daemon.
    pub fn change(mut self, toml: &str) -> World {
        self.config = self.config.with(toml);
        self
    }
}
