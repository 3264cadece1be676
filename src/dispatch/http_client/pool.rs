//! Connections that are kept: idle HTTP/1.1 ones, each for one request at a time, and HTTP/2 ones, which requests share.
//!
//! An HTTP/1.1 connection has no task of its own. Whoever sends a request over it also drives it, which saves two changes
//! of task for each delivery (`scripts/bench one` tells), and while it is idle nobody does: what its peer did meanwhile is
//! seen when it is next taken, and by the [`Pool::tidy`] task.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper_rustls::MaybeHttpsStream;
use tokio::task::{unconstrained, yield_now};
use tokio::time::Instant;

use super::general::{Http1, Http2};
use super::plain::Plain;
use super::transport::{Transport, Usage};

/// What connections are made over.
pub(super) type Stream = MaybeHttpsStream<Transport>;

/// How often idle connections are looked at.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// A connection as requests get it, and give it back.
pub(super) enum Lent {
    /// Over which nothing but the usual came.
    Plain(Box<Plain>),
    /// Over which HTTP/1.1 is spoken by hyper.
    Http1(Box<Http1>),
    Http2(Http2),
}

impl Lent {
    pub fn usage(&self) -> &Arc<Usage> {
        match self {
            Lent::Plain(connection) => connection.usage(),
            Lent::Http1(connection) => connection.usage(),
            Lent::Http2(connection) => &connection.usage,
        }
    }

    fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Lent::Plain(connection) => connection.is_usable(cx),
            Lent::Http1(connection) => connection.is_usable(cx),
            Lent::Http2(connection) => !connection.is_closed(),
        }
    }
}

/// A connection that is kept for the next request.
struct Idle {
    connection: Lent,
    since: Instant,
}

/// The connections to one origin.
#[derive(Default)]
struct Kept {
    /// The one used last comes last, and is used next: the others can age.
    idle: Vec<Idle>,
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
            let mut connection = self.take_any(origin)?;
            let look = poll_fn(|cx| Poll::Ready(connection.is_usable(cx)));
            // Without the runtime's share of work: a look that is put off sees nothing.
            if unconstrained(look).await {
                return Some(connection);
            }
        }
    }

    fn take_any(&self, origin: &Arc<str>) -> Option<Lent> {
        let mut all = self.kept();
        let kept = all.get_mut(origin)?;
        if let Some(shared) = &mut kept.shared {
            if !shared.is_closed() && shared.used.elapsed() < self.idle_timeout {
                shared.used = Instant::now();
                return Some(Lent::Http2(shared.clone()));
            }
            kept.shared = None;
        }
        let idle = kept.idle.pop()?;
        if idle.since.elapsed() >= self.idle_timeout {
            // It was the youngest of them.
            let old = std::mem::take(&mut kept.idle);
            drop(all);
            drop(old);
            return None;
        }
        Some(idle.connection)
    }

    /// Takes an HTTP/1.1 connection back whose answer was read to its end, unless it is not to be used again.
    pub async fn give_back_general(
        self: &Arc<Pool>,
        origin: &Arc<str>,
        mut connection: Box<Http1>,
    ) {
        // As a rule it was ready again when it brought the last of the answer.
        if connection.is_ready() || poll_fn(|cx| Poll::Ready(connection.is_usable(cx))).await {
            self.give_back(origin, Lent::Http1(connection));
        }
    }

    /// Takes a connection back that can be used again, unless it is not to be.
    pub fn give_back(self: &Arc<Pool>, origin: &Arc<str>, connection: Lent) {
        if connection.usage().is_single_use() {
            return;
        }
        let since = Instant::now();
        let mut all = self.kept();
        let idle = Idle { connection, since };
        match all.get_mut(origin) {
            Some(kept) => kept.idle.push(idle),
            None => all.entry(origin.clone()).or_default().idle.push(idle),
        }
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
            && !shared.is_closed()
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
    fn take_oldest(&self) -> Option<Idle> {
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
    fn take_useless(&self, origin: &Arc<str>) -> Vec<Idle> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = self.kept();
        let Some(kept) = all.get_mut(origin) else {
            return Vec::new();
        };
        kept.shared
            .take_if(|shared| shared.is_closed() || shared.used.elapsed() >= self.idle_timeout);
        let useless = kept.idle.extract_if(.., |idle| {
            idle.since.elapsed() >= self.idle_timeout || !idle.connection.is_usable(&mut cx)
        });
        let useless = useless.collect();
        if kept.idle.is_empty() && kept.shared.is_none() {
            all.remove(origin);
        }
        useless
    }
}
