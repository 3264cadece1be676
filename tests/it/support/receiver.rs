//! A scripted subscriber: records what it gets, and answers, hangs, resets or talks nonsense as the test wants.

mod http1;
mod http2;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::tls::TestCa;

/// How long a test waits for what must happen. Only a broken test ever waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub peer: SocketAddr,
    /// Which of the receiver's connections it came by, counting from 0.
    pub connection: usize,
    /// How many requests came by the same connection before.
    pub before_on_connection: usize,
    pub at: Instant,
}

impl Received {
    /// The header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

/// Holds answers back until the test opens it.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub fn close(&self) {
        self.0.send_replace(false);
    }

    async fn pass(&self) {
        // The sender lives in `self`: the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// What becomes of one request.
#[derive(Clone, Debug)]
pub enum Step {
    Answer(Answer),
    /// No answer, ever.
    Hang,
    /// TCP reset (HTTP/2: RST_STREAM) instead of an answer.
    Reset,
    /// The connection is closed instead of an answer.
    Close,
    /// These bytes instead of HTTP, then the connection is closed. HTTP/1 only.
    Raw(Bytes),
    /// These bytes, one after the other with a pause between, and then whatever is next on the connection. HTTP/1 only.
    Pieces(Vec<Bytes>, Duration),
}

impl Step {
    pub fn status(status: u16) -> Step {
        Answer::new(status).into()
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: AnswerBody,
    after: Option<Gate>,
    close: bool,
}

#[derive(Clone, Debug)]
pub enum AnswerBody {
    Whole(Bytes),
    /// One byte at a time, `every` so often, without end.
    Drip {
        every: Duration,
    },
    /// As fast as the peer takes it, without end.
    Endless,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: AnswerBody::Whole(Bytes::new()),
            after: None,
            close: false,
        }
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = AnswerBody::Whole(body.into());
        self
    }

    pub fn endless(mut self) -> Self {
        self.body = AnswerBody::Endless;
        self
    }

    pub fn drip(mut self, every: Duration) -> Self {
        self.body = AnswerBody::Drip { every };
        self
    }

    /// Not before the test opens `gate`.
    pub fn after(mut self, gate: &Gate) -> Self {
        self.after = Some(gate.clone());
        self
    }

    /// Closes the connection right after the answer, without having said so. HTTP/1 only.
    pub fn then_close(mut self) -> Self {
        self.close = true;
        self
    }
}

impl From<Answer> for Step {
    fn from(answer: Answer) -> Self {
        Step::Answer(answer)
    }
}

type Script = Box<dyn Fn(&Received) -> Step + Send + Sync>;

/// A subscriber on a port of its own. It and all its connections end when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    script: Script,
    queued: Mutex<VecDeque<Step>>,
    received: Mutex<Vec<Received>>,
    /// Rises with each request and each closed connection.
    news: watch::Sender<u64>,
    opened: AtomicUsize,
    closed: AtomicUsize,
    idle_closed: watch::Sender<u64>,
    ended: CancellationToken,
}

impl Shared {
    /// Records `request` and looks up what is to become of it.
    fn take(&self, request: Received) -> Step {
        let queued = lock(&self.queued).pop_front();
        let step = queued.unwrap_or_else(|| (self.script)(&request));
        lock(&self.received).push(request);
        self.news.send_modify(|count| *count += 1);
        step
    }

    fn note_closed(&self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
        self.news.send_modify(|count| *count += 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    /// Answers 200 to everything that is not told otherwise by [`Receiver::push`]. Plain HTTP/1.1.
    pub async fn start() -> Receiver {
        Self::scripted(|_| Step::status(200)).await
    }

    /// Answers as `script` says. Plain HTTP/1.1.
    pub async fn scripted(script: impl Fn(&Received) -> Step + Send + Sync + 'static) -> Receiver {
        Self::listen(script, None).await
    }

    /// HTTP/1.1 over TLS, for `localhost` and 127.0.0.1.
    pub async fn start_tls(ca: &TestCa) -> Receiver {
        Self::start_tls_as(ca, &["localhost", "127.0.0.1"], &["http/1.1"]).await
    }

    /// HTTP/2 over TLS, for `localhost` and 127.0.0.1.
    pub async fn start_http2(ca: &TestCa) -> Receiver {
        Self::start_tls_as(ca, &["localhost", "127.0.0.1"], &["h2", "http/1.1"]).await
    }

    /// TLS with a certificate for `names`, offering the protocols `alpn`.
    pub async fn start_tls_as(ca: &TestCa, names: &[&str], alpn: &[&str]) -> Receiver {
        let acceptor = TlsAcceptor::from(ca.server_config(names, alpn));
        Self::listen(|_| Step::status(200), Some(acceptor)).await
    }

    async fn listen(
        script: impl Fn(&Received) -> Step + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            queued: Mutex::default(),
            received: Mutex::default(),
            news: watch::Sender::new(0),
            opened: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            idle_closed: watch::Sender::new(0),
            ended: CancellationToken::new(),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Receiver {
            address,
            scheme,
            shared,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of `path` on this receiver, by its address.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The URL of `path` on this receiver, by a name.
    pub fn url_by_name(&self, name: &str, path: &str) -> String {
        format!("{}://{name}:{}{path}", self.scheme, self.address.port())
    }

    /// What is to become of the next request that nothing has been pushed for yet.
    pub fn push(&self, step: impl Into<Step>) -> &Self {
        lock(&self.shared.queued).push_back(step.into());
        self
    }

    /// All requests so far, in the order in which they were read.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// How many connections were ever accepted.
    pub fn connections(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// Closes every HTTP/1 connection that waits for a request, as servers do after a while.
    pub fn close_idle(&self) {
        self.shared.idle_closed.send_modify(|count| *count += 1);
    }

    /// Waits until `count` requests have come, and returns all of them.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_until(|received| received.len() >= count).await
    }

    /// Waits until what has come is enough for `enough`, and returns all of it.
    pub async fn wait_until(&self, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        self.wait(|shared| {
            let received = lock(&shared.received);
            enough(&received).then(|| received.clone())
        })
        .await
    }

    /// Waits until `count` connections have been closed by the other side, or by the receiver's script.
    pub async fn wait_for_closed(&self, count: usize) {
        self.wait(|shared| (shared.closed.load(Ordering::SeqCst) >= count).then_some(()))
            .await;
    }

    async fn wait<T>(&self, check: impl Fn(&Shared) -> Option<T>) -> T {
        let mut news = self.shared.news.subscribe();
        let waiting = async {
            loop {
                news.borrow_and_update();
                if let Some(found) = check(&self.shared) {
                    return found;
                }
                // The sender lives in `self`: the wait cannot fail.
                let _ = news.changed().await;
            }
        };
        let Ok(found) = tokio::time::timeout(PATIENCE, waiting).await else {
            panic!(
                "waited {PATIENCE:?} in vain: {} requests by {} connections, {} of them closed",
                lock(&self.shared.received).len(),
                self.connections(),
                self.shared.closed.load(Ordering::SeqCst),
            );
        };
        found
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.ended.cancel();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let ended = shared.ended.clone();
    let accepting = async {
        while let Ok((stream, peer)) = listener.accept().await {
            let link = Link {
                peer,
                connection: shared.opened.fetch_add(1, Ordering::SeqCst),
                shared: Arc::clone(&shared),
            };
            let serving = serve(stream, tls.clone(), link);
            let (ended, shared) = (shared.ended.clone(), Arc::clone(&shared));
            tokio::spawn(async move {
                ended.run_until_cancelled_owned(serving).await;
                shared.note_closed();
            });
        }
    };
    ended.run_until_cancelled(accepting).await;
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, link: Link) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return http1::serve(stream, link).await;
    };
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2::serve(stream, link).await;
    } else {
        http1::serve(stream, link).await;
    }
}

/// One connection of a receiver.
struct Link {
    peer: SocketAddr,
    connection: usize,
    shared: Arc<Shared>,
}
