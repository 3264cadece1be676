//! The receiver: reads every body, answers 204, and counts: how many, how many twice, and how long after they were added.

use std::cell::RefCell;
use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::counts::Counts;
use crate::processes::{CERTIFICATE, KEY};

struct Shared {
    counts: Counts,
    /// Whether `/gate` answers; until then, those who ask there wait.
    open: watch::Sender<bool>,
    /// Hashes of what came.
    seen: HashTable<u64>,
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
        seen: HashTable::new(),
        hasher: RandomState::new(),
    }));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            loop {
                let (accepted, acceptor) = tokio::select! {
                    accepted = listener.accept() => {
                        shared.borrow_mut().counts.connections += 1;
                        (accepted, acceptor.clone())
                    }
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
            shared.seen = HashTable::new();
        }
        "/__open" => {
            shared.borrow().open.send_replace(true);
        }
        // A subscriber that never answers.
        "/dead" => std::future::pending().await,
        path => {
            let gated = path == "/gate";
            // Once it is open, this is to cost no more than elsewhere.
            if gated && !*shared.borrow().open.borrow() {
                let mut open = shared.borrow().open.subscribe();
                let _ = open.wait_for(|open| *open).await;
            }
            // What was not read to its end was not received.
            let Ok(body) = body.collect().await else {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::BAD_REQUEST;
                return Ok(response);
            };
            let id = parts.headers.get("x-delivery-id");
            let mut shared = shared.borrow_mut();
            let hash = shared.hasher.hash_one(id.map(|id| id.as_bytes()));
            match shared
                .seen
                .entry(hash, |other| *other == hash, |other| *other)
            {
                Entry::Occupied(_) => shared.counts.duplicates += 1,
                Entry::Vacant(free) => drop(free.insert(hash)),
            }
            shared.counts.note(now_us(), &body.to_bytes(), gated);
        }
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
