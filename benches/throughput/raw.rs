//! The bare client: hyper-util's, as most programs in Rust would use it, with requests of the same size and with the same
//! headers, signed in the same two ways; and nothing else. Pombo itself reads usual answers by hand, so that a ratio compares
//! two clients as well.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pombo::event::{EntryId, Event};
use pombo::settings::Secret;
use pombo::signature::{Scheme, SigningKeys};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::task::JoinSet;

use crate::options::RawWork;
use crate::receiver::now_us;
use crate::resp::Events;
use crate::usage;
use crate::world::SECRET;

/// Requests before those that are measured, for each of those under way at once.
const WARM_UP: u64 = 10;

type HyperClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

fn tls_config(ca: Option<&Path>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(ca) = ca {
        let ca = CertificateDer::from_pem_file(ca).expect("a certificate");
        roots.add(ca).expect("a root certificate");
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

struct Raw {
    client: HyperClient,
    keys: SigningKeys,
    url: String,
    /// What Pombo would send: the event in its envelope.
    event: Event,
    body: Bytes,
    /// The number of the next request.
    next: AtomicU64,
    failed: AtomicU64,
}

pub async fn run(work: RawWork) -> ExitCode {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let connector = HttpsConnector::from((tcp, Arc::new(tls_config(work.ca.as_deref()))));
    let event = event(work.payload);
    let raw = Arc::new(Raw {
        client: Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(work.concurrency)
            .build(connector),
        keys: SigningKeys::new(&[Secret::new(SECRET)]),
        url: work.url.clone(),
        body: event.envelope("tenantId"),
        event,
        next: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    // Connections are made and TLS is agreed upon before, as they are for Pombo.
    let warm_up = WARM_UP * work.concurrency as u64;
    flood(&raw, warm_up, work.concurrency).await;
    // The receiver is asked to begin to count.
    println!("ready");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    let pid = std::process::id();
    let (started, cpu) = (now_us(), usage::cpu(pid));
    match work.rate {
        0 => flood(&raw, warm_up + work.requests, work.concurrency).await,
        rate => paced(&raw, work.requests, rate).await,
    }
    let (took, cpu) = (now_us() - started, usage::cpu(pid) - cpu);
    let failed = raw.failed.load(Ordering::Relaxed);
    println!("{took} {} {failed}", cpu.as_micros());
    ExitCode::SUCCESS
}

fn event(bytes: usize) -> Event {
    Event {
        id: "e000000000".into(),
        event_type: "bench.g0".into(),
        tenant: "default".into(),
        time_ms: now_us() / 1_000,
        arrived_ms: now_us() / 1_000,
        stream: "events".into(),
        entry_id: EntryId { ms: 1, seq: 1 },
        content_type: "application/json".into(),
        payload_is_json: true,
        payload: Bytes::from(Events::new(bytes).payload(now_us())),
        enclosed: None,
    }
}

/// Requests up to the number `end`, `concurrency` at a time.
async fn flood(raw: &Arc<Raw>, end: u64, concurrency: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..concurrency {
        let raw = raw.clone();
        tasks.spawn(async move {
            loop {
                let number = raw.next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return;
                }
                raw.post(number, raw.body.clone()).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    // Each task took one number too many.
    raw.next.store(end, Ordering::Relaxed);
}

/// As many `requests` at an even pace, each with the time at which it was made.
async fn paced(raw: &Arc<Raw>, requests: u64, rate: u64) {
    let (started, begin) = (now_us(), raw.next.load(Ordering::Relaxed));
    let events = Events::new(raw.event.payload.len());
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let mut tasks = JoinSet::new();
    let mut done = 0;
    while done < requests {
        ticks.tick().await;
        let due = ((now_us() - started) * rate / 1_000_000).min(requests);
        for number in done..due {
            let payload = Bytes::from(events.payload(now_us()));
            let event = Event {
                payload,
                ..raw.event.clone()
            };
            let (raw, body) = (raw.clone(), event.envelope("tenantId"));
            tasks.spawn(async move { raw.post(begin + number, body).await });
        }
        done = due;
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

impl Raw {
    async fn post(&self, number: u64, body: Bytes) {
        let unix_s = now_us() / 1_000_000;
        let id = format!("e{number:09}");
        let standard = self.keys.sign_standard(&id, unix_s, &body);
        let request = Request::post(&self.url)
            .header("user-agent", "pombo/0.0.0")
            .header("content-type", "application/json")
            .header("x-event-id", &id)
            .header("x-event-type", "bench.g0")
            .header("x-delivery-id", format!("w0:events:1700000000000-{number}"))
            .header("x-delivery-attempt", "1")
            .header(
                "x-signature",
                self.keys.sign(Scheme::Timestamped, unix_s, &body),
            )
            .header("webhook-id", &id)
            .header("webhook-timestamp", unix_s)
            .header("webhook-signature", standard.unwrap_or_default())
            .body(Full::new(body))
            .expect("a request");
        let answered = match self.client.request(request).await {
            Ok(response) => {
                response.status().is_success() && response.into_body().collect().await.is_ok()
            }
            Err(_) => false,
        };
        if !answered {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
