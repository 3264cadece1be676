//! What the management API costs, against a real Redis and over HTTP: listing 1,000 webhooks, and how long a change takes
//! until it is in force in the delivery path.
//!
//! `cargo bench --bench api`

#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pombo::clock::Clock;
use pombo::daemon::Daemon;
use pombo::settings::Settings;
use redis::AsyncCommands as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const OPERATOR: &str = "a-token-for-the-benchmark-alone";
const WEBHOOKS: usize = 1_000;

/// A Redis, a daemon on it, and a receiver that tells which events it was given.
struct Bench {
    directory: tempfile::TempDir,
    redis: Child,
    stop: CancellationToken,
    base: String,
    client: reqwest::Client,
    receiver: SocketAddr,
    arrived: mpsc::UnboundedReceiver<String>,
}

impl Bench {
    async fn start() -> Bench {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("redis.sock");
        let redis = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (receiver, arrived) = receiver().await;
        let config = directory.path().join("pombo.toml");
        let text = format!(
            "[instance]\nname = \"bench\"\nlock_file = {:?}\n[redis]\nurl = \"unix://{}\"\n[[sources]]\nstream = \"events\"\n\
             [targets]\nallow = [\"127.0.0.0/8\"]\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
             [api]\nlisten = \"127.0.0.1:0\"\noperator_token = {OPERATOR:?}\n",
            directory.path().join("lock"),
            socket.display(),
        );
        std::fs::write(&config, text).expect("a settings file");
        let settings = Settings::load(None, Some(&config), std::iter::empty())
            .expect("settings that are valid");
        let daemon = Daemon::new(settings, Clock::system()).expect("a daemon");
        let address = daemon.api_address().expect("a port").expect("an API");
        let (stop, readiness) = (CancellationToken::new(), daemon.readiness());
        tokio::spawn(daemon.run(stop.clone()));
        readiness.ready().await;
        let _ = rustls::crypto::ring::default_provider().install_default();
        Bench {
            directory,
            redis,
            stop,
            base: format!("http://{address}/v1"),
            client: reqwest::Client::new(),
            receiver,
            arrived,
        }
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(OPERATOR);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let text = answer.text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn create(&self, event_type: &str, tenant: &str) -> String {
        let body = json!({
            "name": "bench", "url": format!("http://{}/", self.receiver), "events": [event_type], "tenantId": tenant,
        });
        let made = self
            .call(reqwest::Method::POST, "/webhooks", Some(body))
            .await;
        made["id"].as_str().expect("an id").to_owned()
    }

    /// Emits events of `event_type` until one arrives; returns how long after now that one was emitted.
    async fn until_in_force(&mut self, event_type: &str) -> Duration {
        let started = Instant::now();
        let client = redis::Client::open(format!(
            "unix://{}",
            self.directory.path().join("redis.sock").display()
        ));
        let mut connection = client
            .expect("an address")
            .get_multiplexed_async_connection()
            .await
            .expect("a connection");
        let mut emitted: Vec<Duration> = Vec::new();
        loop {
            let id = emitted.len().to_string();
            emitted.push(started.elapsed());
            let fields = [
                ("id", id.as_str()),
                ("type", event_type),
                ("tenant", "bench"),
                ("payload", "{}"),
            ];
            let _: String = connection
                .xadd("events", "*", &fields)
                .await
                .expect("an entry");
            if let Ok(Some(first)) =
                tokio::time::timeout(Duration::from_millis(2), self.arrived.recv()).await
            {
                let at = first
                    .parse::<usize>()
                    .ok()
                    .and_then(|n| emitted.get(n).copied());
                // What is on its way must not be taken for an arrival of the next round.
                tokio::time::sleep(Duration::from_millis(50)).await;
                while self.arrived.try_recv().is_ok() {}
                return at.unwrap_or_default();
            }
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.redis.kill();
        let _ = self.redis.wait();
    }
}

async fn receiver() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (arrivals, arrived) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let arrivals = arrivals.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let id = request.headers().get("x-event-id");
                    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
                    let _ = arrivals.send(id.to_owned());
                    async {
                        let mut answer = Response::new(String::new());
                        *answer.status_mut() = StatusCode::NO_CONTENT;
                        Ok::<_, std::convert::Infallible>(answer)
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (address, arrived)
}

fn api(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut bench = runtime.block_on(Bench::start());
    runtime.block_on(async {
        for _ in 0..WEBHOOKS {
            bench.create("listed.only", "listed").await;
        }
    });
    let mut group = criterion.benchmark_group("api");
    group.sample_size(20);
    let shared = Arc::new(&bench);
    group.bench_function("list 1,000 webhooks", |bencher| {
        bencher.iter(|| {
            let listed = runtime.block_on(shared.call(
                reqwest::Method::GET,
                "/webhooks?tenantId=listed",
                None,
            ));
            assert_eq!(listed.as_array().map(Vec::len), Some(WEBHOOKS));
        });
    });
    let mut round = 0;
    group.sample_size(10);
    group.bench_function("a new webhook is in force", |bencher| {
        bencher.iter_custom(|times| {
            let mut total = Duration::ZERO;
            for _ in 0..times {
                round += 1;
                let event_type = format!("bench.n{round}");
                total += runtime.block_on(async {
                    let id = bench.create(&event_type, "bench").await;
                    let taken = bench.until_in_force(&event_type).await;
                    bench
                        .call(reqwest::Method::DELETE, &format!("/webhooks/{id}"), None)
                        .await;
                    taken
                });
            }
            // Criterion divides by it, and cannot do so by nothing.
            total.max(Duration::from_nanos(1))
        });
    });
    group.finish();
}

criterion_group!(benches, api);
criterion_main!(benches);
