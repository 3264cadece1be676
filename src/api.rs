//! The management API: tenants manage their own webhooks, the operator all of them, over HTTP.
//!
//! It reads and writes what is kept in Redis and needs nothing of the delivery path but the HTTP client, so that any
//! daemon can answer for all webhooks. One file for each kind of thing: its handlers, its bodies and answers. Every
//! handler is given a [`caller::Caller`], which says whose things exist for it.

mod auth;
pub mod caller;
pub mod deliveries;
pub mod docs;
pub mod etag;
pub mod fields;
mod guard;
pub mod ingest;
pub mod jobs;
pub mod path;
pub mod problem;
pub mod responses;
pub mod retries;
mod server;
mod tls;
pub mod tokens;
pub mod turns;
pub mod webhooks;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use self::deliveries::Lookups;
pub use self::guard::Guards;
use self::jobs::Jobs;
use self::problem::Problem;
pub use self::server::{Peer, serve};
use self::turns::Turns;
use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::dispatch::http_client::HttpClient;
use crate::metrics::Metrics;
use crate::settings::{Settings, SourceSettings};
use crate::store::{Link, Store};

/// What the tenant is called where nobody set another name: the name in the types of this module.
pub(crate) const TENANT_FIELD: &str = "tenantId";

/// A source that events can be added to.
#[derive(Clone)]
pub struct Ingest {
    /// Its settings.
    pub settings: Arc<SourceSettings>,
    /// The Redis that holds its stream.
    pub link: Link,
}

/// What all handlers work with.
pub struct Api {
    /// The daemon's Redis.
    pub store: Store,
    /// All settings.
    pub settings: Arc<Settings>,
    /// Time and randomness.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The client of test deliveries.
    pub http: Arc<HttpClient>,
    /// The sources, in the order of the settings.
    pub sources: Vec<Ingest>,
    /// The dispatch of the present era, while there is one.
    pub dispatch: Arc<ArcSwapOption<Dispatch>>,
    /// The limits on test deliveries.
    pub tests: webhooks::test_delivery::TestLimits,
    /// Where deliveries were found lately.
    pub lookups: Lookups,
    /// Whose turn it is to search for deliveries.
    pub searches: Turns,
    /// Whose turn it is to list webhooks.
    pub listings: Turns,
    /// The jobs of this daemon.
    pub jobs: Jobs,
    /// What every request passes first.
    pub guards: Guards,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The certificate or its key cannot be used.
    #[error("the API cannot be served over TLS: {reason}")]
    Tls {
        /// Which setting, which file, and what is wrong.
        reason: String,
    },
    /// What JSON Web Tokens are verified with cannot be used.
    #[error("JSON Web Tokens cannot be verified: {reason}")]
    Jwt {
        /// Which setting, which file, and what is wrong.
        reason: String,
    },
}

impl Api {
    /// An answer in JSON, with the tenant under the name that the settings give it: at the top, in each element of a
    /// list, and in each element of `data`.
    pub fn answer(&self, status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
        let mut value = serde_json::to_value(body).map_err(unwritten)?;
        let name = self.settings.api.tenant_field.as_str();
        if name != TENANT_FIELD {
            rename_tenant(&mut value, name);
        }
        Ok(json(status, value.to_string()))
    }

    /// An answer in JSON that names no tenant, and whose raw parts (payloads) stay as they are, byte for byte.
    pub fn answer_raw(
        &self,
        status: StatusCode,
        body: &impl Serialize,
    ) -> Result<Response, Problem> {
        let text = serde_json::to_string(body).map_err(unwritten)?;
        Ok(json(status, text))
    }
}

fn unwritten(error: serde_json::Error) -> Problem {
    tracing::error!(%error, "an answer of the API could not be written");
    Problem::internal()
}

fn json(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    // Secrets and deliveries are nobody else's, and are not kept on the way.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn rename_tenant(value: &mut Value, name: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename_tenant(item, name)),
        Value::Object(members) => {
            if let Some(tenant) = members.remove(TENANT_FIELD) {
                members.insert(name.to_owned(), tenant);
            }
            if let Some(data @ Value::Array(_)) = members.get_mut("data") {
                rename_tenant(data, name);
            }
        }
        _ => {}
    }
}

/// All routes below the base path, each with its documentation.
pub fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .merge(webhooks::routes())
        .merge(ingest::routes())
        .merge(tokens::routes())
        .merge(deliveries::routes())
        .merge(retries::routes())
        .merge(jobs::routes())
}
