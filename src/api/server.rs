//! The API's listener: its connections, and what is answered where no handler is.
//!
//! HTTP/1.1, and over TLS HTTP/2 for whoever asks for it (ALPN).

mod impatient;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use self::impatient::Impatient;
use super::Api;
use super::problem::Problem;
use super::tls::Tls;
use crate::logging::StateLog;

/// How long a request's head may take to arrive, and how long a connection may wait for its next request.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Bytes of a request's head: twice what the longest token has.
const MAX_HEAD: usize = 32 * 1024;
/// How long the beginning of TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an answer may stand still because the client does not read it.
const STALLED: Duration = Duration::from_secs(30);
/// HTTP/2: requests of one connection at the same time; how often a silent client is asked whether it is still there, and
/// how long it may take to say so; after how long without a request its connection is closed.
const MOST_STREAMS: u32 = 100;
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
/// How long requests that have begun may still take when the daemon has stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Pause after an accept that failed: the usual cause, no file descriptors left, does not go away by trying again at
/// once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The other end of a request's connection: an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Answers on `listener` until `shutdown`, then lets requests that have begun end, for two seconds at most.
///
/// # Errors
///
/// None once it runs; only when the runtime cannot take the listener.
pub async fn serve(
    listener: std::net::TcpListener,
    api: Arc<Api>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(api.settings.api.max_connections));
    let tls = api.guards.tls.clone();
    let router = api.guards.around(router(api.clone()));
    let accepting = StateLog::new("the API's listener");
    let mut connections = JoinSet::new();
    if let Some(tls) = &tls {
        connections.spawn(tls.clone().follow(shutdown.clone()));
    }
    loop {
        // A place first, then a connection: whoever finds no place waits in the backlog and costs nothing.
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (place, Ok((stream, peer))) => {
                accepting.well();
                let (router, tls, shutdown) = (router.clone(), tls.clone(), shutdown.clone());
                connections.spawn(async move {
                    let _place = place;
                    greet(stream, Peer(peer), tls, router, shutdown).await;
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

/// Serves one connection to its end, over TLS or not. A peer that hangs up or dawdles is its own affair: there is nothing
/// to log.
async fn greet(
    stream: TcpStream,
    peer: Peer,
    tls: Option<Arc<Tls>>,
    router: Router,
    shutdown: CancellationToken,
) {
    // Answers are small and written whole: waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let stream = Impatient::new(stream, STALLED);
    let Some(tls) = tls else {
        return answer_http1(stream, peer, router, shutdown).await;
    };
    let handshake = tls.acceptor().accept(stream);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, handshake).await else {
        return;
    };
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => answer_http2(stream, peer, router, shutdown).await,
        _ => answer_http1(stream, peer, router, shutdown).await,
    }
}

/// Serves a connection to its end; at `shutdown` to the end of its request.
async fn answer_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    shutdown: CancellationToken,
) {
    let service = service_fn(move |request| answer(router.clone(), peer, request));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let _ = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

/// Serves a connection to its end, until nothing was asked for a while; at `shutdown` to the end of its requests.
async fn answer_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    shutdown: CancellationToken,
) {
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let service = {
        let (begun, ended) = (begun.clone(), ended.clone());
        service_fn(move |request| {
            begun.fetch_add(1, Ordering::Relaxed);
            let ended = Ended(ended.clone());
            let answered = answer(router.clone(), peer, request);
            async move {
                let _ended = ended;
                answered.await
            }
        })
    };
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MAX_HEAD as u32)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let idle = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(IDLE).await;
            let now = begun.load(Ordering::Relaxed);
            if now == before && ended.load(Ordering::Relaxed) == now {
                return;
            }
            before = now;
        }
    };
    let _ = tokio::select! {
        ended = connection.as_mut() => ended,
        () = idle => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

/// Counts the end of a request, however it ends.
struct Ended(Arc<AtomicUsize>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

async fn answer(
    mut router: Router,
    peer: Peer,
    mut request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(peer);
    router.call(request.map(Body::new)).await
}

/// Every route, below the base path of the settings.
fn router(api: Arc<Api>) -> Router {
    let base = api.settings.api.base_path.clone();
    let docs = super::docs::router(&api.settings)
        .method_not_allowed_fallback(async || Problem::wrong_method());
    let (routes, _) = super::routes().split_for_parts();
    below(&base, routes.with_state(api)).merge(docs)
}

fn below(base: &str, routes: Router) -> Router {
    // Told for the routes that are there already, so before anything is laid around them.
    let routes = routes.method_not_allowed_fallback(async || Problem::wrong_method());
    let all = match base {
        "" => routes,
        base => Router::new().nest(base, routes),
    };
    all.fallback(async || Problem::not_found("path"))
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, Request, StatusCode, header};
    use axum::routing::{get, post};

    use super::*;

    async fn asked(base: &str, method: Method, path: &str) -> Response {
        let routes = Router::new()
            .route("/things", get(async || "all").merge(post(async || "one")))
            .route("/things/{id}", get(async || "this"));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty());
        let answered = below(base, routes).call(request.unwrap()).await;
        answered.unwrap()
    }

    #[tokio::test]
    async fn routes_stand_below_the_base_path_and_nowhere_else() {
        for (base, path, status) in [
            ("", "/things", StatusCode::OK),
            ("", "/v1/things", StatusCode::NOT_FOUND),
            ("/v1", "/v1/things/7", StatusCode::OK),
            ("/v1", "/things", StatusCode::NOT_FOUND),
            ("/v1", "/v1", StatusCode::NOT_FOUND),
            ("/v1", "/v1/nothing", StatusCode::NOT_FOUND),
        ] {
            let answer = asked(base, Method::GET, path).await;
            assert_eq!(answer.status(), status, "{base:?} {path}");
            if status == StatusCode::NOT_FOUND {
                let media_type = answer.headers().get(header::CONTENT_TYPE);
                assert_eq!(media_type.unwrap(), "application/problem+json");
            }
        }
    }

    #[tokio::test]
    async fn a_wrong_method_is_told_which_ones_there_are() {
        for base in ["", "/v1"] {
            let answer = asked(base, Method::DELETE, &format!("{base}/things")).await;
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
            let allowed = answer.headers().get(header::ALLOW);
            assert_eq!(allowed.unwrap(), "GET,HEAD,POST");
            let media_type = answer.headers().get(header::CONTENT_TYPE);
            assert_eq!(media_type.unwrap(), "application/problem+json");
        }
    }
}
