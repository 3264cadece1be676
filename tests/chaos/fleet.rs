//! The receivers: one for each subscriber, well- or ill-behaved as its place in the plan says.

mod judge;

pub use judge::DAEMON_HEADER;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::dice::hash;
use crate::ledger::Ledger;
use crate::plan::{Behaviour, SUBSCRIBERS};

type Body = BoxBody<Bytes, std::io::Error>;

static TOKENS: AtomicU64 = AtomicU64::new(0);
static FLEETS: AtomicU64 = AtomicU64::new(0);

/// All receivers of a run. They end when this is dropped.
pub struct Fleet {
    places: Vec<Place>,
    ledger: Arc<Ledger>,
    ended: CancellationToken,
}

struct Place {
    address: SocketAddr,
    /// Ends the listener and its connections; a cancelled one refuses.
    open: CancellationToken,
}

impl Fleet {
    pub async fn start(ledger: Arc<Ledger>) -> std::io::Result<Fleet> {
        let mut fleet = Fleet {
            places: Vec::new(),
            ledger,
            ended: CancellationToken::new(),
        };
        // An address of its own for each run: while a receiver refuses connections its port is nobody else's, since
        // whoever asks for any port gets one of 127.0.0.1.
        let run = FLEETS.fetch_add(1, Ordering::Relaxed);
        let own = Ipv4Addr::new(127, 77, std::process::id() as u8, run as u8);
        for index in 0..SUBSCRIBERS.len() {
            let listener = bind(SocketAddr::from((own, 0)))?;
            let address = listener.local_addr()?;
            let open = fleet.ended.child_token();
            fleet.serve(index, listener, &open);
            fleet.places.push(Place { address, open });
        }
        Ok(fleet)
    }

    pub fn url(&self, subscriber: usize) -> String {
        format!("http://{}/hook", self.places[subscriber].address)
    }

    /// From now on nobody listens, and what was connected is no more.
    pub fn refuse(&mut self, subscriber: usize) {
        self.places[subscriber].open.cancel();
    }

    pub fn accept(&mut self, subscriber: usize) -> std::io::Result<()> {
        if !self.places[subscriber].open.is_cancelled() {
            return Ok(());
        }
        let listener = bind(self.places[subscriber].address)?;
        let open = self.ended.child_token();
        self.serve(subscriber, listener, &open);
        self.places[subscriber].open = open;
        Ok(())
    }

    fn serve(&self, subscriber: usize, listener: TcpListener, open: &CancellationToken) {
        let (ledger, open) = (self.ledger.clone(), open.clone());
        tokio::spawn(open.clone().run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let ledger = ledger.clone();
                let service =
                    service_fn(move |request| answer(ledger.clone(), subscriber, request));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(open.clone().run_until_cancelled_owned(async move {
                    // A daemon that is killed or gives up leaves its connection as it is.
                    let _ = connection.await;
                }));
            }
        }));
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// That an attempt is on the wire, until it is answered or its connection is gone.
struct Flying<'a> {
    ledger: &'a Ledger,
    subscriber: usize,
    token: u64,
}

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.ledger.departed(self.subscriber, self.token);
    }
}

async fn answer(
    ledger: Arc<Ledger>,
    subscriber: usize,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Ok(status(400));
    };
    let judged = judge::judge(ledger.plan(), subscriber, &head, &body.to_bytes());
    let attempt = match judged {
        Ok(attempt) => attempt,
        Err(wrong) => {
            ledger.wrong(|| format!("{}: {wrong}", SUBSCRIBERS[subscriber].id));
            return Ok(status(200));
        }
    };
    let token = TOKENS.fetch_add(1, Ordering::Relaxed);
    ledger.arrived(subscriber, token, attempt.number, attempt.daemon);
    let flying = Flying {
        ledger: &ledger,
        subscriber,
        token,
    };
    let word = hash(
        ledger.plan().seed,
        &[
            3,
            subscriber as u64,
            attempt.number.into(),
            attempt.tries.into(),
        ],
    );
    let answer = behave(SUBSCRIBERS[subscriber].behaviour, attempt.tries, word).await;
    if answer.status().is_success() {
        ledger.succeeded(subscriber, token, attempt.number, attempt.daemon);
    }
    drop(flying);
    Ok(answer)
}

/// What is in the way of an event this often has been in its way for long enough: a run has an end.
const PATIENT: u32 = 5;

async fn behave(behaviour: Behaviour, tries: u32, word: u64) -> Response<Body> {
    match behaviour {
        Behaviour::Flaky | Behaviour::Hostile if tries > PATIENT => status(200),
        Behaviour::Healthy | Behaviour::Dead => status(200),
        Behaviour::Steady => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            status(200)
        }
        Behaviour::Slow => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            status(200)
        }
        Behaviour::Flaky => match word % 20 {
            0 | 1 => status(500),
            2 => retry_after(503),
            3 | 4 => status(503),
            5 => status(429),
            // One in five hundred: each makes the whole webhook wait for a second.
            _ if word.is_multiple_of(499) => retry_after(429),
            _ => status(204),
        },
        Behaviour::Refusing => status(500),
        Behaviour::Hostile => match word % 10 {
            0 => std::future::pending().await,
            1 => with_body(503, drip()),
            2 => with_body(500, broken()),
            3 => with_body(500, huge()),
            4 => with_body(200, huge()),
            5 => {
                let mut answer = status(302);
                let elsewhere = http::HeaderValue::from_static("/elsewhere");
                answer.headers_mut().insert("location", elsewhere);
                answer
            }
            _ => status(200),
        },
    }
}

fn status(code: u16) -> Response<Body> {
    with_body(
        code,
        Full::default().map_err(|never| match never {}).boxed(),
    )
}

fn retry_after(code: u16) -> Response<Body> {
    let mut answer = status(code);
    let second = http::HeaderValue::from_static("1");
    answer.headers_mut().insert("retry-after", second);
    answer
}

fn with_body(code: u16, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = http::StatusCode::from_u16(code).expect("a status");
    answer
}

fn frames(
    frames: impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
) -> Body {
    BodyExt::boxed(StreamBody::new(frames.map(|bytes| bytes.map(Frame::data))))
}

/// One byte now and then, without end.
fn drip() -> Body {
    frames(futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((Ok(Bytes::from_static(b".")), ()))
    }))
}

/// A few bytes, then the connection is gone.
fn broken() -> Body {
    let some = Ok(Bytes::from_static(b"a few bytes, and then"));
    let gone = Err(std::io::ErrorKind::ConnectionAborted.into());
    frames(futures_util::stream::iter([some, gone]))
}

/// Eight megabytes.
fn huge() -> Body {
    let chunk = || Ok(Bytes::from_static(&[b'.'; 64 * 1024]));
    frames(futures_util::stream::iter((0..128).map(move |_| chunk())))
}
