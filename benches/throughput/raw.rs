//! The bare client: the HTTP stack that Pombo delivers with, requests of the same shape, signed in the same way; and
//! nothing else.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pombo::settings::Secret;
use pombo::signature::{Scheme, SigningKeys};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::options::RawWork;
use crate::receiver::now_us;
use crate::world::{SECRET, payload};

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

pub async fn run(work: RawWork) -> ExitCode {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let connector = HttpsConnector::from((tcp, Arc::new(tls_config(work.ca.as_deref()))));
    let client: Client<HttpsConnector<HttpConnector>, Full<Bytes>> =
        Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(work.concurrency)
            .build(connector);
    let keys = Arc::new(SigningKeys::new(&[Secret::new(SECRET)]));
    let (next, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let body = Bytes::from(payload(0, work.payload));
    let started = now_us();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..work.concurrency {
        let (client, keys, next, failed) =
            (client.clone(), keys.clone(), next.clone(), failed.clone());
        let (work, body) = (work.clone(), body.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= work.requests {
                    return;
                }
                let unix_s = now_us() / 1_000_000;
                let request = Request::post(&work.url)
                    .header("content-type", "application/json")
                    .header("user-agent", "raw")
                    .header("webhook-id", format!("e{number}"))
                    .header("webhook-timestamp", unix_s.to_string())
                    .header("x-event-id", format!("e{number}"))
                    .header("x-event-type", "bench.event")
                    .header("x-delivery-id", format!("w-{number}"))
                    .header("x-delivery-attempt", "1")
                    .header("x-signature", keys.sign(Scheme::Timestamped, unix_s, &body))
                    .body(Full::new(body.clone()))
                    .expect("a request");
                let answered = match client.request(request).await {
                    Ok(response) => response.into_body().collect().await.is_ok(),
                    Err(_) => false,
                };
                if !answered {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    println!("{} {}", now_us() - started, failed.load(Ordering::Relaxed));
    ExitCode::SUCCESS
}
