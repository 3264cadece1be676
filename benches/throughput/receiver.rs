//! The receiver: reads every body, answers 204, and counts: how many, how many twice, and how long after they were added.

use std::cell::RefCell;
use std::collections::HashSet;
use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::world::{CERTIFICATE, KEY};

/// Under which payloads say when they were added (Unix µs, 16 digits).
pub const STAMP: &str = "{\"at\":";
/// Upper bounds of the latencies that are counted, each a twentieth above the one before.
const BUCKETS: usize = 400;

/// What the receiver has counted since it was reset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    pub received: u64,
    pub duplicates: u64,
    /// Of those received, the ones that had waited at the gate; their latencies are not counted.
    pub gated: u64,
    /// For each bound of [`bound_us`], how many arrived within it and not within the one before.
    pub latencies: Vec<u64>,
    /// The longest (µs).
    pub longest_us: u64,
    /// When the first and the last came (Unix µs).
    pub first_us: u64,
    pub last_us: u64,
}

/// The bound of a bucket (µs).
pub fn bound_us(bucket: usize) -> f64 {
    10.0 * 1.05_f64.powi(i32::try_from(bucket).unwrap_or(i32::MAX))
}

impl Counts {
    fn new() -> Counts {
        Counts {
            latencies: vec![0; BUCKETS],
            ..Counts::default()
        }
    }

    /// The latency that `share` of all stay within (ms).
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let all: u64 = self.latencies.iter().sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.latencies.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return bound_us(bucket) / 1_000.0;
            }
        }
        self.longest_us as f64 / 1_000.0
    }
}

struct Shared {
    counts: Counts,
    /// Whether `/gate` answers; until then, those who ask there wait.
    open: watch::Sender<bool>,
    seen: HashSet<u64>,
    hasher: RandomState,
}

pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

fn acceptor(directory: &Path) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(directory.join(CERTIFICATE));
    let key = PrivateKeyDer::from_pem_file(directory.join(KEY));
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.expect("a certificate")],
            key.expect("a key"),
        );
    TlsAcceptor::from(Arc::new(config.expect("a certificate with its key")))
}

/// Serves over TLS with the certificate in `tls`, if there is one.
pub async fn run(tls: Option<&Path>) -> ExitCode {
    let acceptor = tls.map(acceptor);
    // The lead asks for the counts without TLS.
    let listen = async || TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (listener, counts_listener) = (listen().await, listen().await);
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    println!("{} {}", port(&listener), port(&counts_listener));
    let shared = Rc::new(RefCell::new(Shared {
        counts: Counts::new(),
        open: watch::Sender::new(false),
        seen: HashSet::new(),
        hasher: RandomState::new(),
    }));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            loop {
                let (accepted, acceptor) = tokio::select! {
                    accepted = listener.accept() => (accepted, acceptor.clone()),
                    accepted = counts_listener.accept() => (accepted, None),
                };
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let _ = stream.set_nodelay(true);
                let shared = shared.clone();
                tokio::task::spawn_local(async move {
                    let service = service_fn(|request| answer(shared.clone(), request));
                    let http = http1::Builder::new();
                    let _ = match acceptor {
                        None => http.serve_connection(TokioIo::new(stream), service).await,
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else {
                                return;
                            };
                            http.serve_connection(TokioIo::new(stream), service).await
                        }
                    };
                });
            }
        })
        .await
}

async fn answer(
    shared: Rc<RefCell<Shared>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    match parts.uri.path() {
        "/__counts" => {
            let json = serde_json::to_vec(&shared.borrow().counts).unwrap_or_default();
            return Ok(Response::new(Full::new(Bytes::from(json))));
        }
        "/__reset" => {
            let mut shared = shared.borrow_mut();
            shared.counts = Counts::new();
            shared.seen = HashSet::new();
        }
        "/__open" => {
            shared.borrow().open.send_replace(true);
        }
        // A subscriber that never answers.
        "/dead" => std::future::pending().await,
        path => {
            if path == "/gate" {
                let mut open = shared.borrow().open.subscribe();
                let _ = open.wait_for(|open| *open).await;
            }
            let body = body.collect().await.map(|body| body.to_bytes());
            let id = parts.headers.get("x-delivery-id");
            let mut shared = shared.borrow_mut();
            let hash = shared.hasher.hash_one(id.map(|id| id.as_bytes()));
            if !shared.seen.insert(hash) {
                shared.counts.duplicates += 1;
            }
            let gated = parts.uri.path() == "/gate";
            shared.counts.note(&body.unwrap_or_default(), gated);
        }
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

impl Counts {
    fn note(&mut self, body: &[u8], gated: bool) {
        let now = now_us();
        if self.received == 0 {
            self.first_us = now;
        }
        self.received += 1;
        self.last_us = now;
        if gated {
            self.gated += 1;
            return;
        }
        // The whole event, or an envelope around it.
        let found = body
            .windows(STAMP.len())
            .position(|at| at == STAMP.as_bytes());
        let digits = found.and_then(|at| body.get(at + STAMP.len()..at + STAMP.len() + 16));
        let added = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
        if let Some(added) = added {
            let took = now.saturating_sub(added);
            self.longest_us = self.longest_us.max(took);
            let bucket = ((took as f64 / 10.0).max(1.0).ln() / 1.05_f64.ln()).ceil() as usize;
            self.latencies[bucket.min(BUCKETS - 1)] += 1;
        }
    }
}
