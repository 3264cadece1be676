//! What a run needs: a Redis, a receiver and daemons, all processes of their own, and a way to add events.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use pombo::clock::Clock;
use pombo::metrics::Metrics;
use pombo::settings::{Secret, Settings};
use pombo::store::Store;
use pombo::webhook::{Webhook, WebhookSpec};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::options::RawWork;
use crate::receiver::{Counts, STAMP, now_us};
use crate::scenarios::Scenario;

/// What everything is signed with.
pub const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The operator's token of the management API.
pub const OPERATOR: &str = "a-token-for-the-benchmark-alone";
/// The files of the receiver's certificate, its key, and the authority that it is of.
pub const CERTIFICATE: &str = "receiver.pem";
pub const KEY: &str = "receiver.key";
pub const AUTHORITY: &str = "ca.pem";
/// Webhooks stored at the same time.
const PUTS: usize = 64;
/// Events added with one pipeline.
const PIPELINE: u64 = 200;
/// How long anything may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// A JSON payload of about `bytes` bytes that says when it was added.
pub fn payload(at_us: u64, bytes: usize) -> Vec<u8> {
    let mut text = format!("{STAMP}{at_us:016},\"fill\":\"");
    text.extend(std::iter::repeat_n(
        'x',
        bytes.saturating_sub(text.len() + 2),
    ));
    text.push_str("\"}");
    text.into_bytes()
}

/// A process that ends with its owner.
pub struct Owned(pub Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct World {
    directory: TempDir,
    pub redis: Owned,
    pub receiver: Owned,
    pub daemons: Vec<Owned>,
    redis_port: u16,
    receiver_port: u16,
    counts_port: u16,
    metrics_ports: Vec<u16>,
    pub api_port: u16,
    connection: MultiplexedConnection,
}

impl World {
    pub async fn start(scenario: &Scenario) -> World {
        let directory = TempDir::with_prefix("pombo-bench-").expect("a directory");
        let redis_port = free_port();
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &redis_port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]);
        command.arg("--dir").arg(directory.path());
        if scenario.append_only {
            command.args(["--appendonly", "yes"]);
        }
        let redis = command
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is not installed");
        let redis = Owned(redis);
        let client = redis::Client::open(format!("redis://127.0.0.1:{redis_port}")).expect("a URL");
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let connection = loop {
            match client
                .get_multiplexed_async_connection_with_config(&config)
                .await
            {
                Ok(connection) => break connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let tls = scenario.tls.then(|| directory.path());
        if let Some(folder) = tls {
            make_certificates(folder);
        }
        let (receiver, receiver_port, counts_port) = start_receiver(tls);
        let mut world = World {
            directory,
            redis,
            receiver,
            daemons: Vec::new(),
            redis_port,
            receiver_port,
            counts_port,
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
        let log = std::fs::File::create(self.directory.path().join(format!("log{number}")));
        let child = Command::new(env!("CARGO_BIN_EXE_pombo"))
            .arg("--config")
            .arg(self.config(number, port))
            .arg("serve")
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .spawn()
            .expect("the daemon");
        self.daemons.push(Owned(child));
        self.metrics_ports.push(port);
        let ready = async {
            while get(port, "/readyz").await.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("a daemon that is ready");
    }

    async fn all_shards_owned(&self, daemons: usize) {
        loop {
            let mut all = true;
            for port in &self.metrics_ports {
                let page = get(*port, "/metrics").await.unwrap_or_default();
                let owned = metric(&page, "pombo_shards_owned ");
                all &= owned > 0.0 && owned < 64.0 || daemons == 1;
            }
            if all {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn make_webhooks(&self, scenario: &Scenario) {
        let settings = Settings::load(None, Some(&self.config(99, 1)), std::iter::empty())
            .expect("settings that are valid");
        let store = Store::new(&settings, &Clock::system(), &Metrics::new()).expect("a store");
        let stop = CancellationToken::new();
        tokio::spawn(store.link().clone().keep(stop.clone()));
        while store.link().connection().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
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
        let (port, path) = (self.receiver_port, scenario.path(number));
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

    /// Adds the events from `from` up to `to`.
    pub async fn add(&mut self, scenario: &Scenario, from: u64, to: u64) {
        let type_of = |number| scenario.event_type(number);
        self.add_of(type_of, scenario.payload, from, to).await;
    }

    /// Adds events of the types that `type_of` says.
    pub async fn add_of(
        &mut self,
        type_of: impl Fn(u64) -> String,
        bytes: usize,
        from: u64,
        to: u64,
    ) {
        let mut next = from;
        while next < to {
            let end = (next + PIPELINE).min(to);
            let mut commands = redis::pipe();
            for number in next..end {
                commands
                    .cmd("XADD")
                    .arg("events")
                    .arg("*")
                    .arg("id")
                    .arg(format!("e{number}"))
                    .arg("type")
                    .arg(type_of(number))
                    .arg("payload")
                    .arg(payload(now_us(), bytes))
                    .ignore();
            }
            let added: redis::RedisResult<()> = commands.query_async(&mut self.connection).await;
            added.expect("events that are added");
            next = end;
        }
    }

    /// Waits until everything is delivered and settled; `false` if that takes too long.
    pub async fn settled(&mut self, deliveries: u64, mut progress: impl FnMut(u64)) -> bool {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let counts = self.counts().await;
            progress(counts.received);
            if counts.received - counts.duplicates >= deliveries && self.is_acknowledged().await {
                return true;
            }
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a command on the benchmark's Redis.
    pub async fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(word);
        });
        command
            .query_async(&mut self.connection)
            .await
            .expect("a reply")
    }

    /// Waits until all events are acknowledged: delivered, or queued.
    pub async fn acknowledged(&mut self) {
        while !self.is_acknowledged().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Has the gate answer.
    pub async fn open_gate(&self) {
        let _ = get(self.counts_port, "/__open").await;
    }

    async fn is_acknowledged(&mut self) -> bool {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg("events");
        let groups: redis::RedisResult<Vec<std::collections::HashMap<String, redis::Value>>> =
            command.query_async(&mut self.connection).await;
        let number = |group: &std::collections::HashMap<String, redis::Value>, name: &str| {
            group
                .get(name)
                .and_then(|value| redis::from_redis_value_ref::<u64>(value).ok())
        };
        groups.unwrap_or_default().iter().all(|group| {
            number(group, "pending") == Some(0) && number(group, "lag").unwrap_or(0) == 0
        })
    }

    pub async fn counts(&self) -> Counts {
        let page = get(self.counts_port, "/__counts").await.unwrap_or_default();
        serde_json::from_str(&page).unwrap_or_default()
    }

    pub async fn reset(&self) {
        let _ = get(self.counts_port, "/__reset").await;
    }

    /// The sum of a metric over all daemons.
    pub async fn sum(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for port in &self.metrics_ports {
            let page = get(*port, "/metrics").await.unwrap_or_default();
            sum += metric(&page, name);
        }
        sum
    }
}

/// Requests a second of the bare client.
pub fn raw_rate(work: &RawWork) -> f64 {
    let folder = TempDir::with_prefix("pombo-bench-").expect("a directory");
    let tls = work.tls.then(|| folder.path());
    if let Some(folder) = tls {
        make_certificates(folder);
    }
    let (_receiver, port, _) = start_receiver(tls);
    let scheme = if work.tls { "https" } else { "http" };
    let ca = folder.path().join(AUTHORITY);
    let trust = tls.map(|_| [OsStr::new("--ca"), ca.as_os_str()]);
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--role",
            "raw",
            "--url",
            &format!("{scheme}://127.0.0.1:{port}/hook"),
        ])
        .args(trust.into_iter().flatten())
        .args(["--requests", &work.requests.to_string()])
        .args(["--concurrency", &work.concurrency.to_string()])
        .args(["--payload", &work.payload.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("the bare client");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text
        .split_whitespace()
        .map(|word| word.parse::<f64>().unwrap_or(0.0));
    let (micros, failed) = (words.next().unwrap_or(0.0), words.next().unwrap_or(0.0));
    assert!(
        failed == 0.0 && micros > 0.0,
        "the bare client failed: {text}"
    );
    work.requests as f64 / (micros / 1e6)
}

/// An authority, and a certificate of it for the receiver.
fn make_certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("a key");
    let issuer = CertifiedIssuer::self_signed(params, key).expect("a root certificate");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = certificate.signed_by(&key, &issuer).expect("a certificate");
    for (name, text) in [
        (AUTHORITY, issuer.pem()),
        (CERTIFICATE, certificate.pem()),
        (KEY, key.serialize_pem()),
    ] {
        std::fs::write(folder.join(name), text).expect("a written file");
    }
}

/// The receiver, its port, and the port at which it tells what it counted.
fn start_receiver(tls: Option<&Path>) -> (Owned, u16, u16) {
    let tls = tls.map(|folder| [OsStr::new("--tls"), folder.as_os_str()]);
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--role", "receiver"])
        .args(tls.into_iter().flatten())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the receiver");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("its output");
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("its port");
    let mut ports = line
        .split_whitespace()
        .map(|port| port.parse().expect("a port"));
    let mut next = || ports.next().expect("two ports");
    let (port, counts_port) = (next(), next());
    (Owned(child), port, counts_port)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

async fn get(port: u16, path: &str) -> Option<String> {
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let uri = format!("http://127.0.0.1:{port}{path}").parse().ok()?;
    let response = client.get(uri).await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let body = response.into_body().collect().await.ok()?.to_bytes();
    Some(String::from_utf8_lossy(&body).into_owned())
}

fn metric(page: &str, name: &str) -> f64 {
    let values = page.lines().filter_map(|line| line.strip_prefix(name));
    values
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
