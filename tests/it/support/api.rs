//! A client of the management API, and tokens for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pombo::clock::Clock;
use pombo::settings::Secret;
use pombo::store::tokens::{StoredToken, digest_of};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use super::pombo::Webhooks;
use super::wait::PATIENCE;

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null if it is none.
    pub json: Value,
}

impl Answer {
    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().expect("visible text"))
    }

    /// The JSON of an answer that must have this status.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json
    }

    /// The pointers and parameters of all that is refused.
    pub fn refused(&self) -> Vec<String> {
        let errors = self.json["errors"].as_array().cloned().unwrap_or_default();
        let place = |error: Value| {
            let place = error.get("pointer").or_else(|| error.get("parameter"));
            place.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        errors.into_iter().map(place).collect()
    }
}

/// A client that speaks to one daemon. Paths are whole: `/v1/webhooks`.
#[derive(Clone)]
pub struct ApiClient {
    client: Client,
    base: String,
    headers: HeaderMap,
}

/// A client over TLS or not, that trusts `roots` (PEM) and nobody else.
pub fn http_client(roots: Option<&std::path::Path>) -> Client {
    let mut trusted = RootCertStore::empty();
    if let Some(path) = roots {
        for certificate in CertificateDer::pem_file_iter(path).expect("certificates") {
            let added = trusted.add(certificate.expect("a certificate"));
            added.expect("a root certificate");
        }
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("the default protocol versions")
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client")
}

impl ApiClient {
    /// A client of the API at `address`, without a token.
    pub fn at(address: SocketAddr) -> ApiClient {
        ApiClient::new(http_client(None), format!("http://{address}"))
    }

    /// A client of the API at a URL, without a token.
    pub fn new(client: Client, base: String) -> ApiClient {
        ApiClient {
            client,
            base,
            headers: HeaderMap::new(),
        }
    }

    /// The same, with `Authorization: Bearer <token>`.
    pub fn with_token(&self, token: &str) -> ApiClient {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// The same, with a header on every request.
    pub fn with_header(&self, name: &str, value: &str) -> ApiClient {
        let mut changed = self.clone();
        let name: HeaderName = name.parse().expect("a name of a header");
        let value: HeaderValue = value.parse().expect("a value of a header");
        changed.headers.insert(name, value);
        changed
    }

    /// The beginning of every URL, such as `http://127.0.0.1:8080`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request with whatever body and headers.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Answer {
        let sent = self.try_send(method, path, change).await;
        sent.expect("an answer of the API")
    }

    /// Sends a request that may find nobody.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> reqwest::Result<Answer> {
        let request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .headers(self.headers.clone());
        let response = change(request).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer {
            status,
            headers,
            text,
            json,
        })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, |request| request).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, |request| request.json(body))
            .await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, |request| request.json(body))
            .await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, |request| request).await
    }
}

static TOKENS: AtomicU64 = AtomicU64::new(0);

impl Webhooks {
    /// Makes a token of the operator, straight in the store.
    pub async fn operator_token(&self) -> String {
        self.token_for(None).await
    }

    /// Makes a token of a tenant, straight in the store.
    pub async fn tenant_token(&self, tenant: &str) -> String {
        self.token_for(Some(tenant)).await
    }

    async fn token_for(&self, tenant: Option<&str>) -> String {
        let clock = Clock::system();
        let number = TOKENS.fetch_add(1, Ordering::SeqCst);
        let token = format!("pmb_{}", hex::encode(clock.random_bytes::<32>()));
        let stored = StoredToken {
            v: 1,
            id: format!("test-{number}"),
            tenant: tenant.map(str::to_owned),
            name: "test".to_owned(),
            hint: token[token.len() - 4..].to_owned(),
            created_ms: clock.unix_ms(),
            expires_ms: None,
        };
        let digest = digest_of(&Secret::new(token.as_str()));
        let put = self.store().put_token(&digest, &stored).await;
        put.expect("a token that is stored");
        token
    }
}
