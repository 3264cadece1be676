//! The metrics listener: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever runs the
//! daemon.
//!
//! It has a port of its own because it is for the operator's network, not for tenants. It holds no
//! secrets, but it is not meant for the Internet either; still, it stays small under abuse: a
//! connection carries one request, must be done within [`CONNECTION_DEADLINE`], and there are at
//! most [`MAX_CONNECTIONS`] of them.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Router, body::Body};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::logging::StateLog;
use crate::metrics::{self, Metrics};
use crate::readiness::{Condition, Readiness};

#[cfg(test)]
mod tests;

/// More than any set of scrapers and probes needs at once; further connections wait in the
/// listener's backlog.
pub const MAX_CONNECTIONS: usize = 64;
/// How long a connection may take from being accepted to the end of its answer, so that one that
/// stands still gives up its place. Prometheus' own default for a scrape is 10 s.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request's head; the smallest that hyper takes.
const MAX_HEAD: usize = 8 * 1024;
/// How long answers that have begun may still take when the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Pause after an accept that failed: the usual cause, no file descriptors left, does not go away
/// by trying again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the listener allows; tests allow less.
#[derive(Clone, Copy)]
struct Limits {
    connections: usize,
    connection: Duration,
    /// How long a request's head may take to arrive.
    head: Duration,
}

const LIMITS: Limits = Limits {
    connections: MAX_CONNECTIONS,
    connection: CONNECTION_DEADLINE,
    head: Duration::from_secs(5),
};

#[derive(Clone)]
struct Observed {
    metrics: Arc<Metrics>,
    readiness: Readiness,
}

/// Answers on `listener` until `shutdown`, then lets answers that have begun end, for a second at
/// most.
///
/// Stop it last: a daemon that is stopping is alive, and what it counts while it does is of
/// interest.
///
/// # Errors
/// None once it runs; only when the runtime cannot take the listener.
pub async fn serve(
    listener: std::net::TcpListener,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let observed = Observed { metrics, readiness };
    serve_within(LIMITS, listener, observed, shutdown).await
}

async fn serve_within(
    limits: Limits,
    listener: std::net::TcpListener,
    observed: Observed,
    shutdown: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let pages = pages(observed);
    let places = Arc::new(Semaphore::new(limits.connections));
    let accepting = StateLog::new("metrics listener");
    let mut connections = JoinSet::new();
    loop {
        // A place first, then a connection: whoever finds no place waits in the backlog and costs
        // nothing.
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (place, Ok((stream, _))) => {
                accepting.well();
                let pages = pages.clone();
                connections.spawn(async move {
                    let _place = place;
                    // A peer that hangs up or dawdles is its own affair: there is nothing to log.
                    let _ = tokio::time::timeout(limits.connection, answer(stream, pages, limits))
                        .await;
                });
            }
            (_, Err(error)) => {
                accepting.trouble("accept", error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = tokio::time::timeout(LAST_ANSWERS, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    Ok(())
}

/// One request, one answer, and the connection closes: a kept connection would hold its place while
/// it is idle.
async fn answer(stream: TcpStream, pages: Router, limits: Limits) -> hyper::Result<()> {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut pages = pages.clone();
        async move {
            Ok::<_, Infallible>(
                pages
                    .call(request.map(Body::new))
                    .await
                    .unwrap_or_else(|never| match never {}),
            )
        }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn pages(observed: Observed) -> Router {
    let page = |page: MethodRouter<Observed>| page.fallback(wrong_method);
    Router::new()
        .route("/metrics", page(get(metrics_page)))
        .route("/healthz", page(get(healthz)))
        .route("/readyz", page(get(readyz)))
        .fallback(no_such_page)
        .with_state(observed)
}

async fn metrics_page(State(observed): State<Observed>) -> Response {
    // Rendering reads /proc, so it is kept off the threads that deliver.
    match tokio::task::spawn_blocking(move || observed.metrics.render()).await {
        Ok(page) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be rendered\n",
        )
            .into_response(),
    }
}

/// Says that the process runs and answers, and no more: a daemon that waits for Redis must not be
/// killed for it.
async fn healthz() -> Response {
    uncached(StatusCode::OK, "text/plain; charset=utf-8", "ok\n")
}

#[derive(serde::Serialize)]
struct ReadyzPage {
    ready: bool,
    conditions: Vec<Condition>,
}

async fn readyz(State(observed): State<Observed>) -> Response {
    let conditions = observed.readiness.conditions();
    let ready = conditions.iter().all(|condition| condition.met);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    match serde_json::to_string(&ReadyzPage { ready, conditions }) {
        Ok(page) => uncached(status, "application/json", page + "\n"),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn uncached(status: StatusCode, content_type: &'static str, page: impl IntoResponse) -> Response {
    (
        status,
        [
            (header::CONTENT_TYPE, content_type),
            (header::CACHE_CONTROL, "no-store"),
        ],
        page,
    )
        .into_response()
}

async fn wrong_method() -> Response {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        "only GET and HEAD are answered here\n",
    )
        .into_response()
}

async fn no_such_page() -> Response {
    (
        StatusCode::NOT_FOUND,
        "no such page; there are /metrics, /healthz and /readyz\n",
    )
        .into_response()
}
