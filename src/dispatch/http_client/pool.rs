//! Connections that are kept: idle HTTP/1.1 ones, each for one request at a time, and HTTP/2 ones, which requests share.
//!
//! An HTTP/1.1 connection has no task of its own. Whoever sends a request over it also drives it, which saves two changes
//! of task for each delivery (`scripts/bench one` tells), and while it is idle nobody does: what its peer did meanwhile is
//! seen when it is next taken, and by the [`Pool::tidy`] task.

#![allow(
    clippy::vec_box,
    reason = "a connection is a kilobyte that is handed on for each request"
)]

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_rustls::MaybeHttpsStream;
use tokio::task::{unconstrained, yield_now};
use tokio::time::Instant;

use super::transport::{Transport, Usage};

/// What connections are made over.
pub(super) type Stream = MaybeHttpsStream<Transport>;

/// How often idle connections are looked at.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// A connection for one request at a time, driven by whoever has it.
pub(super) struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended. It is dropped then, because that is how a request that was never looked at is told.
    connection: Option<http1::Connection<Stream, Full<Bytes>>>,
    usage: Arc<Usage>,
    idle_since: Instant,
}

impl Http1 {
    pub fn new(
        sender: http1::SendRequest<Full<Bytes>>,
        connection: http1::Connection<Stream, Full<Bytes>>,
        usage: Arc<Usage>,
    ) -> Box<Http1> {
        Box::new(Http1 {
            sender,
            connection: Some(connection),
            usage,
            idle_since: Instant::now(),
        })
    }

    /// Awaits what this connection brings.
    pub async fn drive<F: Future>(&mut self, mut awaited: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| {
            self.poll_connection(cx);
            awaited.as_mut().poll(cx)
        })
        .await
    }

    /// How the connection ends is told to whoever awaits something of it.
    fn poll_connection(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    fn is_ready(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Whether it can take a request, after a look at what its peer did meanwhile.
    fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_connection(cx);
        self.is_ready()
    }
}

/// A connection that requests share, driven by a task of its own for as long as anybody has it.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    usage: Arc<Usage>,
    used: Instant,
}

impl Http2 {
    pub fn new(sender: http2::SendRequest<Full<Bytes>>, usage: Arc<Usage>) -> Http2 {
        Http2 {
            sender,
            usage,
            used: Instant::now(),
        }
    }
}

/// A connection in the hands of one request.
pub(super) enum Lent {
    Http1(Box<Http1>),
    Http2(Http2),
}

impl Lent {
    pub fn usage(&self) -> &Arc<Usage> {
        match self {
            Lent::Http1(connection) => &connection.usage,
            Lent::Http2(connection) => &connection.usage,
        }
    }

    pub fn is_http2(&self) -> bool {
        matches!(self, Lent::Http2(_))
    }

    /// Sends a request; the head of its answer is to be awaited by [`Lent::drive`].
    // An `async fn` would keep the request beside what it makes of it, and many attempts are under way at a time.
    pub fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        match self {
            Lent::Http1(connection) => Either::Left(connection.sender.send_request(request)),
            Lent::Http2(connection) => Either::Right(connection.sender.send_request(request)),
        }
    }

    /// Awaits what this connection brings.
    pub async fn drive<F: Future>(&mut self, awaited: Pin<&mut F>) -> F::Output {
        match self {
            Lent::Http1(connection) => connection.drive(awaited).await,
            Lent::Http2(_) => awaited.await,
        }
    }
}

/// The connections to one origin.
#[derive(Default)]
struct Kept {
    /// The one used last comes last, and is used next: the others can age.
    idle: Vec<Box<Http1>>,
    shared: Option<Http2>,
}

/// Keeps connections to all origins.
pub(super) struct Pool {
    kept: Mutex<HashMap<Arc<str>, Kept>>,
    idle_timeout: Duration,
    is_tidied: AtomicBool,
    /// The pools whose connections are counted with those of this one, itself among them.
    siblings: Arc<Mutex<Vec<Weak<Pool>>>>,
}

impl Pool {
    /// A pool that keeps connections for at most `idle_timeout` without use. Their number is bounded where they are made.
    pub fn new(idle_timeout: Duration) -> Arc<Pool> {
        Pool::beside(idle_timeout, Arc::default())
    }

    fn beside(idle_timeout: Duration, siblings: Arc<Mutex<Vec<Weak<Pool>>>>) -> Arc<Pool> {
        let pool = Arc::new(Pool {
            kept: Mutex::default(),
            idle_timeout,
            is_tidied: AtomicBool::new(false),
            siblings,
        });
        pool.siblings().push(Arc::downgrade(&pool));
        pool
    }

    fn siblings(&self) -> MutexGuard<'_, Vec<Weak<Pool>>> {
        self.siblings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty pool with the same bounds.
    pub fn apart(&self) -> Arc<Pool> {
        Pool::beside(self.idle_timeout, self.siblings.clone())
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Arc<str>, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to `origin` that its peer has not closed, as far as is known.
    pub async fn take(&self, origin: &Arc<str>) -> Option<Lent> {
        loop {
            match self.take_any(origin)? {
                Lent::Http1(mut connection) => {
                    let look = poll_fn(|cx| Poll::Ready(connection.is_usable(cx)));
                    // Without the runtime's share of work: a look that is put off sees nothing.
                    if unconstrained(look).await {
                        return Some(Lent::Http1(connection));
                    }
                }
                shared => return Some(shared),
            }
        }
    }

    fn take_any(&self, origin: &Arc<str>) -> Option<Lent> {
        let mut all = self.kept();
        let kept = all.get_mut(origin)?;
        if let Some(shared) = &mut kept.shared {
            if !shared.sender.is_closed() && shared.used.elapsed() < self.idle_timeout {
                shared.used = Instant::now();
                return Some(Lent::Http2(shared.clone()));
            }
            kept.shared = None;
        }
        let connection = kept.idle.pop()?;
        if connection.idle_since.elapsed() >= self.idle_timeout {
            // It was the youngest of them.
            let old = std::mem::take(&mut kept.idle);
            drop(all);
            drop(old);
            return None;
        }
        Some(Lent::Http1(connection))
    }

    /// Takes an HTTP/1.1 connection back whose answer was read to its end, unless it is not to be used again.
    pub async fn give_back(self: &Arc<Pool>, origin: &Arc<str>, mut connection: Box<Http1>) {
        // As a rule it was ready again when it brought the last of the answer.
        let usable =
            connection.is_ready() || poll_fn(|cx| Poll::Ready(connection.is_usable(cx))).await;
        if !usable || connection.usage.is_single_use() {
            return;
        }
        connection.idle_since = Instant::now();
        let mut all = self.kept();
        let kept = all.entry(origin.clone()).or_default();
        kept.idle.push(connection);
        drop(all);
        self.have_tidied();
    }

    /// Shares a new HTTP/2 connection, unless another request has just done so: then that one is to be used.
    pub fn share(self: &Arc<Pool>, origin: &Arc<str>, connection: Http2) -> Http2 {
        if connection.usage.is_single_use() {
            return connection;
        }
        let mut all = self.kept();
        let kept = all.entry(origin.clone()).or_default();
        if let Some(shared) = &kept.shared
            && !shared.sender.is_closed()
        {
            return shared.clone();
        }
        kept.shared = Some(connection.clone());
        drop(all);
        self.have_tidied();
        connection
    }

    /// Keeps later requests off the shared connection with this use; requests that are under way on it go on.
    pub fn leave(&self, origin: &Arc<str>, usage: &Arc<Usage>) {
        if let Some(kept) = self.kept().get_mut(origin) {
            kept.shared
                .take_if(|shared| Arc::ptr_eq(&shared.usage, usage));
        }
    }

    /// Closes an idle connection, of this pool or else of one beside it.
    pub fn evict(&self) {
        if self.take_oldest().is_some() {
            return;
        }
        let siblings: Vec<Arc<Pool>> = self.siblings().iter().filter_map(Weak::upgrade).collect();
        let _closed = siblings.iter().find_map(|pool| pool.take_oldest());
    }

    /// The oldest idle connection to the origin that has the most.
    fn take_oldest(&self) -> Option<Box<Http1>> {
        let mut all = self.kept();
        let most = all.values_mut().max_by_key(|kept| kept.idle.len())?;
        (!most.idle.is_empty()).then(|| most.idle.remove(0))
    }

    /// Starts the task that tidies up, with the first connection that is kept.
    fn have_tidied(self: &Arc<Pool>) {
        if !self.is_tidied.load(Ordering::Relaxed) && !self.is_tidied.swap(true, Ordering::Relaxed)
        {
            tokio::spawn(Pool::tidy(Arc::downgrade(self), self.idle_timeout));
        }
    }

    /// Closes what was idle for too long, and what its peer has closed, for as long as there is a pool.
    async fn tidy(pool: Weak<Pool>, idle_timeout: Duration) {
        let pause = TIDY_EVERY.min(idle_timeout).max(Duration::from_millis(100));
        loop {
            tokio::time::sleep(pause).await;
            let Some(pool) = pool.upgrade() else { return };
            let origins: Vec<Arc<str>> = pool.kept().keys().cloned().collect();
            for origin in origins {
                let look = poll_fn(|_| Poll::Ready(pool.take_useless(&origin)));
                drop(unconstrained(look).await);
                yield_now().await;
            }
        }
    }

    /// Takes out connections to `origin` that are of no use any more, to be closed.
    fn take_useless(&self, origin: &Arc<str>) -> Vec<Box<Http1>> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = self.kept();
        let Some(kept) = all.get_mut(origin) else {
            return Vec::new();
        };
        kept.shared.take_if(|shared| {
            shared.sender.is_closed() || shared.used.elapsed() >= self.idle_timeout
        });
        let useless = kept.idle.extract_if(.., |connection| {
            connection.idle_since.elapsed() >= self.idle_timeout || !connection.is_usable(&mut cx)
        });
        let useless = useless.collect();
        if kept.idle.is_empty() && kept.shared.is_none() {
            all.remove(origin);
        }
        useless
    }
}
