//! What every request passes before it comes to a handler, and every answer on its way out.
//!
//! From the outside in: [`record`] (an id, the metrics, a line in the log), CORS, [`limit`] (how many requests at a time,
//! how large, for how long, and what becomes of a panic). All answers are JSON or problem details but for those that
//! hyper itself gives to what is no HTTP: 400 and 431 without a body.

mod arriving;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use http_body_util::Limited;
use hyper::body::Body as _;
use tokio::sync::Semaphore;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use tracing::Instrument as _;

use self::arriving::Arriving;
use super::ApiError;
use super::auth::Auth;
use super::deliveries::{ORDER_HEADER, TOTAL_HEADER};
use super::problem::{PROBLEM_JSON, Problem};
use super::tls::Tls;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::settings::Settings;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id of a request is replaced by one of our own.
const LONGEST_REQUEST_ID: usize = 128;
/// For how long a browser need not ask again what another origin may do.
const PREFLIGHT_VALID: Duration = Duration::from_secs(60 * 60);
/// What is counted for a request whose client hung up before it was answered.
const HUNG_UP: u16 = 499;

/// What stands between the listener and the handlers, for the whole life of the process.
pub struct Guards {
    /// The certificate, if the API is served over TLS.
    pub(super) tls: Option<Arc<Tls>>,
    /// What tells who calls.
    pub(super) auth: Auth,
    passage: Arc<Passage>,
}

/// What the guards work with.
struct Passage {
    settings: Arc<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
}

impl Guards {
    /// Reads what the settings name.
    ///
    /// # Errors
    ///
    /// A certificate or a key cannot be used.
    pub fn new(
        settings: &Arc<Settings>,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Result<Guards, ApiError> {
        let passage = Passage {
            settings: settings.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            places: Arc::new(Semaphore::new(settings.api.max_concurrent_requests)),
        };
        Ok(Guards {
            tls: Tls::new(&settings.api)?,
            auth: Auth::new(&settings.api, clock)?,
            passage: Arc::new(passage),
        })
    }

    /// Lays the guards around all routes.
    pub(super) fn around(&self, routes: Router) -> Router {
        let guarded = routes
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(self.passage.clone(), limit));
        let shared = match cors(&self.passage.settings) {
            Some(cors) => guarded.layer(cors),
            None => guarded,
        };
        shared.layer(from_fn_with_state(self.passage.clone(), record))
    }
}

/// What is found out about a request on its way: an extension of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<OnceLock<&'static str>>);

impl Notes {
    /// Notes what kind of caller it is.
    pub(super) fn caller(&self, kind: &'static str) {
        let _ = self.0.set(kind);
    }
}

fn cors(settings: &Settings) -> Option<CorsLayer> {
    let origins = &settings.api.cors_origins;
    let allowed: AllowOrigin = match origins.iter().any(|origin| origin == "*") {
        _ if origins.is_empty() => return None,
        true => Any.into(),
        // The settings refuse what is no origin, and an origin is visible text.
        false => AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok())),
    };
    let mut headers = vec![
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        HeaderName::from_static("idempotency-key"),
        REQUEST_ID,
    ];
    headers.extend(settings.api.key_header.parse().ok());
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers(headers)
            .expose_headers([
                header::ETAG,
                header::LOCATION,
                header::RETRY_AFTER,
                REQUEST_ID,
                TOTAL_HEADER,
                HeaderName::from_static("idempotency-replayed"),
                ORDER_HEADER,
            ])
            .max_age(PREFLIGHT_VALID),
    )
}

/// Gives the request an id, and counts and logs it once it is answered.
async fn record(State(passage): State<Arc<Passage>>, mut request: Request, next: Next) -> Response {
    let id = request_id(&passage.clock, request.headers());
    let notes = Notes::default();
    request.extensions_mut().insert(notes.clone());
    let span = tracing::error_span!("request", id = id.to_str().unwrap_or_default());
    let mut record = Record {
        metrics: passage.metrics.clone(),
        clock: passage.clock.clone(),
        method: method_label(request.method()),
        route: request.extensions().get().cloned(),
        notes,
        begun: passage.clock.monotonic(),
        status: HUNG_UP,
        span: span.clone(),
    };
    let mut response = next.run(request).instrument(span).await;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    record.status = response.status().as_u16();
    response
}

/// The id that the client gave, or one of our own.
fn request_id(clock: &Clock, headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        (1..=LONGEST_REQUEST_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let own = hex::encode(clock.random_bytes::<12>());
        // Hexadecimal digits can stand in any header.
        HeaderValue::try_from(own).unwrap_or(HeaderValue::from_static("none"))
    })
}

/// The methods that are told apart in metrics: a client can make up others without end.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "PUT"];
    let known = KNOWN.iter().find(|known| **known == method.as_str());
    known.copied().unwrap_or("other")
}

/// Counts and logs a request when it is dropped, so that those are told too whose client hung up.
struct Record {
    metrics: Arc<Metrics>,
    clock: Clock,
    method: &'static str,
    route: Option<MatchedPath>,
    notes: Notes,
    begun: Duration,
    status: u16,
    span: tracing::Span,
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.clock.monotonic().saturating_sub(self.begun);
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        self.metrics
            .api_request(route, self.method, self.status, took);
        let _entered = self.span.enter();
        // Neither the path nor the query: both can hold what a client should not have put there.
        tracing::debug!(
            method = self.method,
            route,
            status = self.status,
            ms = took.as_secs_f64() * 1_000.0,
            caller = self.notes.0.get().copied().unwrap_or("none"),
            "answered"
        );
    }
}

/// Lets so many requests in at a time, each with a body of so many bytes, for so long. A handler that panics is a 500, and
/// one whose client hangs up goes on to its end: nothing is left half done that could be done.
async fn limit(State(passage): State<Arc<Passage>>, request: Request, next: Next) -> Response {
    let Ok(place) = passage.places.clone().try_acquire_owned() else {
        return Problem::unavailable("Too many requests are at work. Try again in a moment.")
            .into_response();
    };
    let most = largest_body(&passage.settings, &request);
    let too_large = content_length(request.headers()).is_some_and(|length| length > most as u64);
    let patience = passage.settings.api.request_timeout;
    // HTTP/2 can refuse one body and go on with its connection, and whoever waits for a 100 sends nothing.
    let lingers = request.version() < Version::HTTP_2
        && !request.body().is_end_stream()
        && !request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let (arriving, arrival) = Arriving::new(body);
    let request = Request::from_parts(parts, Body::new(Limited::new(arriving, most)));
    let work = async move {
        let answered = match too_large {
            true => {
                drop(request);
                Ok(Problem::too_large(most).into_response())
            }
            false => tokio::time::timeout(patience, next.run(request)).await,
        };
        let response = match answered {
            Ok(response) => as_problem(response, most),
            Err(_) if !arrival.is_over() => timed_out().into_response(),
            Err(_) => {
                tracing::warn!("a request to the API took too long and was given up");
                Problem::unavailable("It took too long. Try again in a moment.").into_response()
            }
        };
        // What is left of a refused body costs its connection, and keeps nobody else out.
        drop(place);
        if lingers {
            arrival.drain().await;
        }
        response
    };
    match tokio::spawn(work.in_current_span()).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "a request to the API failed; this is a bug of Pombo");
            Problem::internal().into_response()
        }
    }
}

/// 408: for a body that does not arrive. What takes long here is 503: the one is the client's affair, the other ours.
fn timed_out() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "timeout",
        "The request took too long",
        "The body did not arrive in time.",
    )
}

fn largest_body(settings: &Settings, request: &Request) -> usize {
    let path = request.uri().path();
    let below = path.strip_prefix(settings.api.base_path.as_str());
    match request.method() == Method::POST && below == Some("/events") {
        true => settings.largest_event_body(),
        false => settings.api.max_body,
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// An error that is none of ours (the framework's own, in plain text) as problem details.
fn as_problem(response: Response, most: usize) -> Response {
    let status = response.status();
    let media_type = response.headers().get(header::CONTENT_TYPE);
    let told = media_type.is_some_and(|found| found.as_bytes() == PROBLEM_JSON.as_bytes());
    if told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem = match status {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(most),
        StatusCode::BAD_REQUEST => Problem::malformed("The request cannot be read."),
        StatusCode::NOT_FOUND => Problem::not_found("path"),
        StatusCode::METHOD_NOT_ALLOWED => Problem::wrong_method(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::unsupported_media_type(),
        status if status.is_client_error() => Problem::new(
            status,
            "refused",
            "The request is refused",
            status.canonical_reason().unwrap_or("It is refused."),
        ),
        _ => Problem::internal(),
    };
    let mut told = problem.into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        told.headers_mut().insert(header::ALLOW, allow.clone());
    }
    told
}

#[cfg(test)]
mod tests;
