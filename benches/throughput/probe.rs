//! Asks processes how they are, over HTTP connections that are kept.

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

#[derive(Clone)]
pub struct Probe {
    client: Client<HttpConnector, Empty<bytes::Bytes>>,
}

impl Probe {
    pub fn new() -> Probe {
        Probe {
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// The body of a 2xx answer; `None` for anything else.
    pub async fn get(&self, port: u16, path: &str) -> Option<String> {
        self.get_as(port, path, "").await
    }

    /// The same with a bearer token.
    pub async fn get_as(&self, port: u16, path: &str, token: &str) -> Option<String> {
        let mut request = Request::get(format!("http://127.0.0.1:{port}{path}"));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).ok()?;
        let response = self.client.request(request).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some(String::from_utf8_lossy(&body).into_owned())
    }
}

/// The sum of a metric's values on a page of metrics.
pub fn metric(page: &str, name: &str) -> f64 {
    let values = page.lines().filter_map(|line| line.strip_prefix(name));
    values
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
