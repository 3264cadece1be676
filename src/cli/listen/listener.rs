//! A local receiver: checks what it gets, hands it to a callback, and answers as that says.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cli::signature_check::{Checker, Checks};
use crate::clock::Clock;

/// The largest body that is taken in, in bytes: above the largest payload that Pombo can be set to send.
const MAX_BODY: usize = 65 * 1024 * 1024;

/// How long requests may take to end once the listener stops.
const GRACE: Duration = Duration::from_secs(2);

/// One request that came, and what its signatures are worth.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// When its last byte had come, as Unix milliseconds.
    pub at_ms: u64,
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Every header.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Whether it is signed as it should be.
    pub checks: Checks,
}

impl Delivery {
    /// The event's type.
    pub fn event_type(&self) -> Option<&str> {
        self.header("x-event-type")
    }

    /// The event's id.
    pub fn event_id(&self) -> Option<&str> {
        self.header("x-event-id")
            .or_else(|| self.header("webhook-id"))
    }

    /// The delivery's id, the same for each attempt.
    pub fn delivery_id(&self) -> Option<&str> {
        self.header("x-delivery-id")
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> Option<u32> {
        self.header("x-delivery-attempt")?.parse().ok()
    }

    /// What the body is said to be.
    pub fn content_type(&self) -> Option<&str> {
        self.header(CONTENT_TYPE.as_str())
    }

    /// A header that is plain ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What a delivery is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status, from 200.
    pub status: StatusCode,
    /// How long to wait before answering.
    pub delay: Duration,
}

impl Reply {
    /// 200, at once.
    pub const OK: Reply = Reply {
        status: StatusCode::OK,
        delay: Duration::ZERO,
    };
}

/// A receiver that has its port.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    checker: Checker,
    clock: Clock,
}

impl Listener {
    /// Takes the port; nothing is served yet.
    ///
    /// # Errors
    ///
    /// The address is taken, is none of this host's, or needs rights that this process lacks.
    pub async fn bind(address: SocketAddr, checker: Checker, clock: Clock) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self {
            socket,
            address,
            checker,
            clock,
        })
    }

    /// Where it listens, with the port that it really got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Hands each request to `on_delivery` once it is whole and checked, and answers as that says. Ends with `shutdown`, a
    /// moment after which the last answers are cut.
    pub async fn serve(
        self,
        on_delivery: impl Fn(&Delivery) -> Reply + Send + Sync + 'static,
        shutdown: CancellationToken,
    ) {
        let desk = Arc::new(Desk {
            checker: self.checker,
            clock: self.clock,
            on_delivery,
        });
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => serve_connection(stream, Arc::clone(&desk), &graceful),
                Err(error) => {
                    // Out of file descriptors, most likely: it passes when connections end.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // What is still open then ends with the process, or with the runtime.
        let _ = timeout(GRACE, graceful.shutdown()).await;
    }
}

fn serve_connection<F>(stream: TcpStream, desk: Arc<Desk<F>>, graceful: &GracefulShutdown)
where
    F: Fn(&Delivery) -> Reply + Send + Sync + 'static,
{
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection.into_owned());
    tokio::spawn(async move {
        // A connection that breaks off is its sender's affair.
        let _ = connection.await;
    });
}

struct Desk<F> {
    checker: Checker,
    clock: Clock,
    on_delivery: F,
}

impl<F: Fn(&Delivery) -> Reply> Desk<F> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return respond(StatusCode::PAYLOAD_TOO_LARGE),
        };
        let at_ms = self.clock.unix_ms();
        let checks = self.checker.check(&head.headers, &body, at_ms / 1000);
        let path = head.uri.path_and_query().map(|path| path.to_string());
        let reply = (self.on_delivery)(&Delivery {
            at_ms,
            method: head.method,
            path: path.unwrap_or_else(|| "/".to_owned()),
            headers: head.headers,
            body,
            checks,
        });
        if !reply.delay.is_zero() {
            sleep(reply.delay).await;
        }
        respond(reply.status)
    }
}

fn respond(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
