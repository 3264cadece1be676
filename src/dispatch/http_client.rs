//! The HTTP client that deliveries leave by: one pooled connection per subscriber that is free, HTTP/2 where the
//! subscriber offers it, and no trust in whatever comes back.
//!
//! What it promises to its caller: [`HttpClient::post`] returns within the timeout of the request; an answer's outcome is
//! decided by its status line and headers alone; no more of an answer is held than the settings say; no address is
//! connected to that the [`TargetRules`] refuse, whatever a name resolves to at that moment.

mod bounded;
mod connector;
mod endpoint;
mod failure;
mod general;
mod plain;
mod pool;
mod replay;
mod resolver;
pub(crate) mod tls;
mod transport;

use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::delivery::Phases;
use crate::outcome::AttemptResult;
use crate::settings::DeliverySettings;
use crate::target::TargetRules;

use connector::Connector;
pub use endpoint::Endpoint;
use failure::PostError;
use general::General;
use plain::{Exchanged, Plain, Whole};
use pool::{Lent, Pool};
pub use resolver::Resolver;
use transport::Usage;
pub(super) use transport::micros;

/// How much of an answer's body is kept for the people who look into a failure, in bytes.
const KEPT_BODY: usize = 1024;

/// The most that the head of an answer may take, in bytes: generous for any server, harmless for us.
const MAX_HEAD: usize = 64 * 1024;

/// The longest `Retry-After` worth reading: an HTTP date has 29 characters.
const MAX_RETRY_AFTER: usize = 64;

/// Bounds what a peer may send on one HTTP/2 connection before it is read, in bytes.
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// One POST, ready to go: what is signed and sent is exactly this.
#[derive(Clone, Debug)]
pub struct Post {
    /// Where it goes.
    pub to: Arc<Endpoint>,
    /// Every header but `host` and `content-length`, which the client adds.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// From the call to the last byte that is read, connecting and a second sending included.
    pub timeout: Duration,
}

impl Post {
    /// Every header as the receiver gets it, those that the client adds included, in the order of their names; with what is
    /// secret in them. Bytes that are not text are replaced.
    pub fn headers_as_sent(&self) -> Vec<(String, String)> {
        let own = self.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        let mut headers: Vec<(String, String)> = own.collect();
        headers.push(("content-length".to_owned(), self.body.len().to_string()));
        if let Some(host) = self.to.host() {
            let host = String::from_utf8_lossy(host.as_bytes()).into_owned();
            headers.push((HOST.as_str().to_owned(), host));
        }
        headers.sort();
        headers
    }

    fn into_request(self, is_http2: bool) -> Request<Full<Bytes>> {
        let is_empty = self.body.is_empty();
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = self.headers;
        if is_http2 {
            // Its host is a part of the URL there.
            *request.uri_mut() = self.to.uri().clone();
        } else {
            *request.uri_mut() = self.to.origin_form().clone();
            if let Some(host) = self.to.host() {
                request.headers_mut().insert(HOST, host.clone());
            }
        }
        if is_empty {
            // hyper says nothing of a body that is none, and some receivers insist on it.
            let none = HeaderValue::from_static("0");
            request.headers_mut().insert(CONTENT_LENGTH, none);
        }
        request
    }
}

/// What came of a [`Post`].
#[derive(Debug)]
pub struct Posted {
    /// The answer, or why there is none.
    pub result: AttemptResult,
    /// From the call to the end of what was read of the answer.
    pub duration: Duration,
    /// The parts of that time, as far as they are known.
    pub phases: Phases,
    /// Whether the request had to be sent a second time because its idle connection turned out to be dead.
    pub resent: bool,
}

/// Why there can be no client. All of these are mistakes in the settings.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// The file of extra root certificates cannot be read or is not PEM.
    #[error("cannot read the certificates in {}: {reason}", path.display())]
    ReadCa {
        /// The file, as it was given.
        path: PathBuf,
        /// What is wrong with it, in plain words.
        reason: String,
    },
    /// The file of extra root certificates holds none.
    #[error("there is no certificate in {}", path.display())]
    EmptyCa {
        /// The file, as it was given.
        path: PathBuf,
    },
    /// The TLS library refuses its own defaults.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The DNS client cannot be set up.
    #[error("cannot set up the name resolver: {0}")]
    Resolver(String),
}

/// How other clients of the daemon speak TLS: they trust the system's roots and those of `extra_ca` (PEM).
///
/// # Errors
///
/// The extra certificates are no use.
pub(crate) fn tls_config(extra_ca: Option<&Path>) -> Result<rustls::ClientConfig, HttpClientError> {
    let mut config = (*tls::config(extra_ca)?).clone();
    config.alpn_protocols.clear();
    Ok(config)
}

/// The delivery client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct HttpClient {
    connector: Connector,
    pool: Arc<Pool>,
    response_body_limit: usize,
}

impl HttpClient {
    /// A client that looks names up as the system does. Reads certificates from disk: once, at the start.
    ///
    /// # Errors
    ///
    /// [`HttpClientError`] if the extra certificates are no use or TLS cannot be set up.
    pub fn new(
        rules: Arc<TargetRules>,
        delivery: &DeliverySettings,
        extra_ca: Option<&Path>,
    ) -> Result<Self, HttpClientError> {
        Self::with_resolver(rules, delivery, extra_ca, Resolver::system()?)
    }

    /// A client with a way of its own to look names up.
    ///
    /// # Errors
    ///
    /// As [`HttpClient::new`].
    pub fn with_resolver(
        rules: Arc<TargetRules>,
        delivery: &DeliverySettings,
        extra_ca: Option<&Path>,
        resolver: Resolver,
    ) -> Result<Self, HttpClientError> {
        let connector = Connector::new(
            rules,
            resolver,
            tls::config(extra_ca)?,
            delivery.connect_timeout,
            delivery.max_in_flight_total,
            H2_CONNECTION_WINDOW as usize + delivery.response_body_limit + 4 * MAX_HEAD,
        );
        Ok(Self {
            connector,
            pool: Pool::new(delivery.idle_connection_timeout),
            response_body_limit: delivery.response_body_limit,
        })
    }

    /// A client with the same bounds, and connections of its own.
    pub fn apart(&self) -> HttpClient {
        HttpClient {
            pool: self.pool.apart(),
            ..self.clone()
        }
    }

    /// Sends one request and says what came of it: an attempt's exchange, whole.
    ///
    /// The head of the answer decides. Of its body at most the settings' limit is read, until the deadline; a body that is
    /// longer or late costs its connection (over HTTP/2: its stream) and changes nothing. A request that is lost on a
    /// reused connection before any answer is sent once more, at once, over a new connection: such a connection was most
    /// likely closed by its idle peer before the request got there. Redirects are answers like any other.
    pub async fn post(&self, post: Post) -> Posted {
        self.post_or_again(post.clone(), || post.clone()).await
    }

    /// [`HttpClient::post`] of `post`, which `again` makes anew: it is asked for the rare request that is sent a second
    /// time, so that no other has to be copied.
    pub async fn post_or_again(&self, post: Post, again: impl Fn() -> Post) -> Posted {
        let started = Instant::now();
        let (to, timeout) = (post.to.clone(), post.timeout);
        let mut deadline = pin!(sleep_until(started + timeout));
        let (mut over, mut resent) = (None, false);
        let mut head = tokio::select! {
            biased;
            head = self.send(post, true, &mut over) => Some(head),
            () = deadline.as_mut() => None,
        };
        if let Some(Err(error)) = &head
            && error.is_lost_on_reused_connection(started)
        {
            resent = true;
            over = None;
            // Not over another idle connection: those to the same host are likely to be dead too.
            head = tokio::select! {
                biased;
                head = self.send(again(), false, &mut over) => Some(head),
                () = deadline.as_mut() => None,
            };
        }
        let (result, phases) = match head {
            Some(Ok(answered)) => {
                let usage = answered.usage();
                usage.note_answer();
                let phases = Phases {
                    first_byte_us: Some(micros(started.elapsed())),
                    ..usage.making_for(started)
                };
                let result = match answered {
                    Answered::Whole(connection, answer) => {
                        self.pool.give_back(to.origin(), Lent::Plain(connection));
                        answer.into_result()
                    }
                    Answered::Begun(begun) => {
                        let (connection, response) = *begun;
                        Box::pin(self.read_answer(&to, connection, response, deadline)).await
                    }
                };
                (result, phases)
            }
            Some(Err(error)) => (error.explain(to.uri()), error.phases(started)),
            None => {
                let phases = over.map_or_else(Phases::default, |usage| {
                    // An HTTP/2 connection may be dead without anybody having noticed; an HTTP/1.1 one is closed with
                    // its request anyway.
                    self.pool.leave(to.origin(), &usage);
                    usage.making_for(started)
                });
                (failure::timed_out(to.uri(), timeout), phases)
            }
        };
        Posted {
            result,
            duration: started.elapsed(),
            phases,
            resent,
        }
    }

    /// Sends `post` and waits for the head of its answer, over a connection that is kept if it `may_reuse` one. `over`
    /// tells the connection's use as soon as there is one, for those who wait no longer.
    async fn send(
        &self,
        post: Post,
        may_reuse: bool,
        over: &mut Option<Arc<Usage>>,
    ) -> Result<Answered, PostError> {
        let kept = match may_reuse {
            true => self.pool.take(post.to.origin()).await,
            false => None,
        };
        let lent = match kept {
            Some(lent) => lent,
            None => Box::pin(self.connect(&post.to, may_reuse)).await?,
        };
        *over = Some(Arc::clone(lent.usage()));
        let connection = match lent {
            Lent::Plain(mut connection) => {
                match connection.exchange(&post, self.response_body_limit).await {
                    Exchanged::Whole(answer) => return Ok(Answered::Whole(connection, answer)),
                    Exchanged::Unusual(begun) => {
                        let usage = Arc::clone(connection.usage());
                        let gone_on = Box::pin(connection.go_on(begun, &post)).await;
                        General::Http1(gone_on.map_err(|error| PostError::Lost { error, usage })?)
                    }
                }
            }
            Lent::Http1(connection) => General::Http1(connection),
            Lent::Http2(connection) => General::Http2(connection),
        };
        let begun = Box::pin(connection.post(post)).await?;
        Ok(Answered::Begun(Box::new(begun)))
    }

    async fn connect(&self, to: &Endpoint, may_share: bool) -> Result<Lent, PostError> {
        if self.connector.is_full() {
            // One that others need not keep makes room, or the new one would be closed after its request.
            self.pool.evict();
        }
        match self.connector.connect(to).await? {
            Lent::Http2(new) if may_share => Ok(Lent::Http2(self.pool.share(to.origin(), new))),
            lent => Ok(lent),
        }
    }

    async fn read_answer(
        &self,
        to: &Endpoint,
        mut connection: General,
        response: Response<Incoming>,
        deadline: Pin<&mut Sleep>,
    ) -> AttemptResult {
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(readable_retry_after);
        let limit = self.response_body_limit;
        let (body_start, is_whole) = connection.read_start(body, limit, deadline).await;
        if let General::Http1(connection) = connection
            && is_whole
        {
            self.pool.give_back_general(to.origin(), connection).await;
        }
        AttemptResult::Answer {
            status: head.status.as_u16(),
            retry_after,
            body_start,
        }
    }
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// An answer, as far as it is known by now.
enum Answered {
    /// All of it. The connection can be used again.
    Whole(Box<Plain>, Whole),
    /// Its head.
    Begun(Box<(General, Response<Incoming>)>),
}

impl Answered {
    fn usage(&self) -> &Arc<Usage> {
        match self {
            Answered::Whole(connection, _) => connection.usage(),
            Answered::Begun(begun) => begun.0.usage(),
        }
    }
}

/// A `Retry-After` as text, if it is worth reading.
fn readable_retry_after(value: &HeaderValue) -> Option<String> {
    let value = value.to_str().ok();
    let value = value.filter(|value| value.len() <= MAX_RETRY_AFTER)?;
    Some(value.to_owned())
}
