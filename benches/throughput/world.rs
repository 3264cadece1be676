//! What a run needs: a Redis, a receiver and daemons, all processes of their own, and a way to add events.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt as _;
use pombo::clock::Clock;
use pombo::metrics::Metrics;
use pombo::settings::{Secret, Settings};
use pombo::store::Store;
use pombo::webhook::{Webhook, WebhookSpec};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::adder::Adder;
use crate::counts::Counts;
use crate::probe::{Probe, metric};
use crate::processes::{AUTHORITY, Owned, Receiver, free_port, make_certificates};
use crate::scenarios::Scenario;

/// What everything is signed with.
pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The operator's token of the management API.
pub const OPERATOR: &str = "a-token-for-the-benchmark-alone";
/// Webhooks stored at the same time.
const PUTS: usize = 64;
/// How long anything may take before the run is given up.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// How often the receiver is asked for its counts, at least and at most: rarely, since answering is work, and often when
/// the end is near.
const ASK_EVERY: Duration = Duration::from_millis(100);
const ASK_NEAR_THE_END: Duration = Duration::from_millis(2);

pub struct World {
    directory: TempDir,
    pub redis: Owned,
    pub receiver: Receiver,
    pub daemons: Vec<Owned>,
    pub probe: Probe,
    pub adder: Adder,
    redis_port: u16,
    metrics_ports: Vec<u16>,
    pub api_port: u16,
    connection: MultiplexedConnection,
}

impl World {
    pub async fn start(scenario: &Scenario) -> World {
        let directory = TempDir::with_prefix("pombo-bench-").expect("a directory");
        let redis_port = free_port();
        let (redis, connection) = start_redis(redis_port, scenario, &directory).await;
        let tls = scenario.tls.then(|| directory.path());
        if let Some(folder) = tls {
            make_certificates(folder);
        }
        let mut world = World {
            receiver: Receiver::start(tls),
            adder: Adder::connect(redis_port, scenario.payload),
            directory,
            redis,
            daemons: Vec::new(),
            probe: Probe::new(),
            redis_port,
            metrics_ports: Vec::new(),
            api_port: free_port(),
            connection,
        };
        world.make_webhooks(scenario).await;
        for number in 0..scenario.daemons {
            world.start_daemon(number).await;
        }
        world.all_shards_owned(scenario.daemons).await;
        world
    }

    fn config(&self, number: usize, metrics_port: u16) -> PathBuf {
        let path = self.directory.path().join(format!("pombo{number}.toml"));
        let authority = self.directory.path().join(AUTHORITY);
        let ca = match authority.exists() {
            true => format!("ca_file = {authority:?}\n"),
            false => String::new(),
        };
        let api_port = if number == 0 { self.api_port } else { 0 };
        let text = format!(
            "[instance]\nname = \"bench{number}\"\nlock_file = {:?}\n[redis]\nurl = \"redis://127.0.0.1:{}\"\n\
             [[sources]]\nstream = \"events\"\n[targets]\nallow = [\"127.0.0.0/8\"]\n\
             {ca}[metrics]\nlisten = \"127.0.0.1:{metrics_port}\"\n\
             [api]\nlisten = \"127.0.0.1:{api_port}\"\noperator_token = {OPERATOR:?}\n",
            self.directory.path().join(format!("lock{number}")),
            self.redis_port,
        );
        std::fs::write(&path, text).expect("a settings file");
        path
    }

    /// Starts a daemon and waits until it is ready.
    pub async fn start_daemon(&mut self, number: usize) {
        let port = free_port();
        let log_path = self.directory.path().join(format!("log{number}"));
        let log = std::fs::File::create(&log_path).expect("a log file");
        let config = self.config(number, port);
        let arguments = ["--config".as_ref(), config.as_os_str(), "serve".as_ref()];
        let program = env!("CARGO_BIN_EXE_pombo");
        let daemon = Owned::start(program.as_ref(), arguments, Stdio::null(), log.into());
        self.daemons.push(daemon);
        self.metrics_ports.push(port);
        let ready = async {
            while self.probe.get(port, "/readyz").await.is_none() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(PATIENCE, ready).await.is_err() {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            panic!("the daemon does not get ready:\n{log}");
        }
    }

    /// Kills all daemons as kill -9 does.
    pub fn kill_daemons(&mut self) {
        self.daemons.clear();
        self.metrics_ports.clear();
    }

    async fn all_shards_owned(&self, daemons: usize) {
        loop {
            let mut all = true;
            for port in &self.metrics_ports {
                let page = self.probe.get(*port, "/metrics").await.unwrap_or_default();
                let owned = metric(&page, "pombo_shards_owned ");
                all &= owned > 0.0 && owned < 64.0 || daemons == 1;
            }
            if all {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn make_webhooks(&self, scenario: &Scenario) {
        let settings = Settings::load(None, Some(&self.config(99, 1)), std::iter::empty())
            .expect("settings that are valid");
        let store = Store::new(&settings, &Clock::system(), &Metrics::new()).expect("a store");
        let stop = CancellationToken::new();
        tokio::spawn(store.link().clone().keep(stop.clone()));
        while store.link().connection().is_err() {
            sleep(Duration::from_millis(10)).await;
        }
        let _ = store.check_boot().await.expect("a Redis that fits");
        let puts = (0..scenario.webhooks).map(async |number| {
            let webhook = self.webhook(scenario, number);
            store.put_webhook(&webhook).await.expect("a stored webhook");
        });
        futures_util::stream::iter(puts)
            .buffer_unordered(PUTS)
            .collect::<()>()
            .await;
        stop.cancel();
    }

    fn webhook(&self, scenario: &Scenario, number: u64) -> Webhook {
        let scheme = if scenario.tls { "https" } else { "http" };
        let (port, path) = (self.receiver.port, scenario.path(number));
        let spec: WebhookSpec = serde_json::from_value(serde_json::json!({
            "id": format!("w{number}"),
            "name": format!("w{number}"),
            "url": format!("{scheme}://127.0.0.1:{port}/{path}"),
            "events": [scenario.filter(number)],
        }))
        .expect("a webhook");
        Webhook {
            spec,
            uid: format!("u{number}"),
            version: 0,
            secrets: vec![Secret::new(SECRET)],
            rotation_ends_ms: None,
            disabled: None,
            managed_by: None,
            created_ms: 1,
            updated_ms: 1,
        }
    }

    /// Waits until `deliveries` are received and their events acknowledged, and, if `queues`, all queues are empty; `None`
    /// if that takes too long, else when it was seen (within some 2 ms).
    pub async fn settled(
        &mut self,
        deliveries: u64,
        queues: bool,
        mut progress: impl FnMut(u64),
    ) -> Option<Instant> {
        let started = Instant::now();
        loop {
            let counts = self.counts().await;
            let done = counts.unique();
            progress(done);
            if done >= deliveries {
                break;
            }
            if started.elapsed() >= PATIENCE {
                return None;
            }
            // A quarter of the time that the rest should take.
            let left = (deliveries - done) as f64 / done.max(1) as f64;
            let left = started.elapsed().mul_f64((left / 4.0).min(10.0));
            sleep(left.clamp(ASK_NEAR_THE_END, ASK_EVERY)).await;
        }
        let queues = match queues {
            true => self.keys("queue").await,
            false => Vec::new(),
        };
        while !self.is_acknowledged().await || self.sum_of("XLEN", &queues).await > 0 {
            if started.elapsed() >= PATIENCE {
                return None;
            }
            sleep(ASK_NEAR_THE_END).await;
        }
        Some(Instant::now())
    }

    /// Runs a command on the benchmark's Redis.
    pub async fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        let reply = command.query_async(&mut self.connection).await;
        reply.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The keys of one kind that webhooks have each.
    pub async fn keys(&mut self, kind: &str) -> Vec<String> {
        self.ask(&["KEYS", &format!("pombo:*{kind}:u*")]).await
    }

    /// The sum of what a command, a word or two, answers to each of some keys.
    pub async fn sum_of(&mut self, command: &str, keys: &[String]) -> u64 {
        if keys.is_empty() {
            return 0;
        }
        let mut pipe = redis::pipe();
        keys.iter().for_each(|key| {
            let mut words = command.split(' ');
            pipe.cmd(words.next().unwrap_or_default());
            words.for_each(|word| {
                pipe.arg(word);
            });
            pipe.arg(key);
        });
        let numbers: Vec<u64> = pipe
            .query_async(&mut self.connection)
            .await
            .expect("numbers");
        numbers.iter().sum()
    }

    /// Bytes that Redis uses for what it keeps.
    pub async fn redis_bytes(&mut self) -> u64 {
        let info: String = self.ask(&["INFO", "memory"]).await;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        line.and_then(|number| number.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Bytes that Redis uses once the platform has trimmed its stream: what Pombo itself keeps there.
    pub async fn redis_bytes_without_events(&mut self) -> u64 {
        self.ask::<u64>(&["XTRIM", "events", "MAXLEN", "0"]).await;
        self.redis_bytes().await
    }

    /// Waits until all events are acknowledged: delivered, or queued.
    pub async fn acknowledged(&mut self) {
        let started = Instant::now();
        while !self.is_acknowledged().await {
            assert!(started.elapsed() < PATIENCE, "events stay pending");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn is_acknowledged(&mut self) -> bool {
        let groups: Vec<std::collections::HashMap<String, redis::Value>> =
            self.ask(&["XINFO", "GROUPS", "events"]).await;
        let number = |group: &std::collections::HashMap<String, redis::Value>, name: &str| {
            group
                .get(name)
                .and_then(|value| redis::from_redis_value_ref::<u64>(value).ok())
        };
        !groups.is_empty()
            && groups.iter().all(|group| {
                number(group, "pending") == Some(0) && number(group, "lag").unwrap_or(0) == 0
            })
    }

    pub async fn counts(&self) -> Counts {
        let page = self.probe.get(self.receiver.counts_port, "/__counts").await;
        serde_json::from_str(&page.unwrap_or_default()).unwrap_or_default()
    }

    pub async fn reset(&self) {
        let _ = self.probe.get(self.receiver.counts_port, "/__reset").await;
    }

    /// Has the gate answer.
    pub async fn open_gate(&self) {
        let _ = self.probe.get(self.receiver.counts_port, "/__open").await;
    }

    /// The sum of a metric over all daemons.
    pub async fn sum(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for port in &self.metrics_ports {
            let page = self.probe.get(*port, "/metrics").await.unwrap_or_default();
            sum += metric(&page, name);
        }
        sum
    }
}

async fn start_redis(
    port: u16,
    scenario: &Scenario,
    directory: &TempDir,
) -> (Owned, MultiplexedConnection) {
    let (port_text, folder) = (port.to_string(), directory.path().display().to_string());
    let mut arguments = vec!["--port", &port_text, "--bind", "127.0.0.1", "--save", ""];
    arguments.extend(["--dir", &folder]);
    if scenario.append_only {
        arguments.extend(["--appendonly", "yes", "--appendfsync", "everysec"]);
    }
    let program = "redis-server";
    let redis = Owned::start(program.as_ref(), arguments, Stdio::null(), Stdio::inherit());
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).expect("a URL");
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let connected = async {
        loop {
            let connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await;
            match connection {
                Ok(connection) => break connection,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let connection = timeout(Duration::from_secs(10), connected).await;
    (redis, connection.expect("redis-server does not start"))
}
