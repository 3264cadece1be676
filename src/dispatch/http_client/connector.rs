//! Makes connections: name, address check, TCP, TLS, all within the connect timeout; and then HTTP.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::Uri;
use hyper::client::conn;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use crate::target::{Refusal, TargetRules};

use super::endpoint::{Endpoint, is_secure};
use super::failure::{ConnectError, NoConnection, PostError, tls_failure};
use super::general::Http2;
use super::plain::Plain;
use super::pool::{Lent, Stream};
use super::resolver::is_literal;
use super::transport::{Making, OpenConnections, Transport};
use super::{H2_CONNECTION_WINDOW, MAX_HEAD, Resolver};

/// Bounds what a peer may send on one HTTP/2 stream before it is read, in bytes.
const H2_STREAM_WINDOW: u32 = 64 * 1024;
/// HTTP/2 streams that were reset lately and are remembered, so that frames still under way for them are no offence.
const H2_RESET_STREAMS: usize = 256;
/// How long an address is tried alone before the next one is tried beside it (RFC 8305 recommends 250 ms).
const HEAD_START: Duration = Duration::from_millis(250);

type Connecting<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Makes connections over TCP, with TLS where the scheme asks for it.
#[derive(Clone)]
pub(super) struct Connector(Arc<Parts>);

struct Parts {
    tcp: Arc<TcpParts>,
    tls: Arc<ClientConfig>,
    connect_timeout: Duration,
}

impl Connector {
    /// `connect_timeout` is for look-up, TCP and TLS together; `keep` bounds the open connections that are kept for reuse.
    pub(super) fn new(
        rules: Arc<TargetRules>,
        resolver: Resolver,
        tls: Arc<ClientConfig>,
        connect_timeout: Duration,
        keep: usize,
        most_unasked: usize,
    ) -> Self {
        let tcp = Arc::new(TcpParts {
            rules,
            resolver,
            connect_timeout,
            open: OpenConnections::new(keep, most_unasked),
        });
        Self(Arc::new(Parts {
            tcp,
            tls,
            connect_timeout,
        }))
    }
}

impl Connector {
    /// Whether as many connections are open as may be kept.
    pub(super) fn is_full(&self) -> bool {
        self.0.tcp.open.is_full()
    }

    /// Makes a connection for one request or more, over HTTP/2 where the peer chose that.
    ///
    /// # Errors
    ///
    /// [`PostError::NoConnection`]; [`PostError::Lost`] where HTTP/2 could not even begin.
    pub(super) async fn connect(&self, to: &Endpoint) -> Result<Lent, PostError> {
        let making = Arc::new(Making::default());
        let connected = self.0.connect(to.uri().clone(), &making).await;
        let stream = connected.map_err(|why| NoConnection {
            why,
            phases: making.phases(),
        })?;
        let (usage, is_http2) = match &stream {
            MaybeHttpsStream::Http(tcp) => (tcp.usage(), false),
            MaybeHttpsStream::Https(tls) => {
                let (tcp, session) = tls.inner().get_ref();
                (tcp.inner().usage(), session.alpn_protocol() == Some(b"h2"))
            }
        };
        let usage = Arc::clone(usage);
        if is_http2 {
            let begun = http2().handshake(stream).await;
            let (sender, connection) = begun.map_err(|error| PostError::Lost {
                error,
                usage: Arc::clone(&usage),
            })?;
            // What ends it is told to whoever has a request under way.
            tokio::spawn(async move { drop(connection.await) });
            return Ok(Lent::Http2(Http2::new(sender, usage)));
        }
        Ok(Lent::Plain(Plain::new(stream, usage)))
    }
}

fn http2() -> conn::http2::Builder<TokioExecutor> {
    let mut builder = conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD as u32)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_concurrent_reset_streams(H2_RESET_STREAMS);
    builder
}

impl Parts {
    async fn connect(&self, uri: Uri, making: &Arc<Making>) -> Result<Stream, ConnectError> {
        let target = Target::of(&uri)?;
        let tcp = TcpConnector {
            parts: Arc::clone(&self.tcp),
            making: Arc::clone(making),
        };
        let mut https = HttpsConnector::from((tcp, Arc::clone(&self.tls)));
        let connected = timeout(self.connect_timeout, https.call(uri)).await;
        match connected {
            Ok(Ok(stream)) => {
                if let MaybeHttpsStream::Https(tls) = &stream {
                    tls.inner().get_ref().0.inner().note_tls();
                }
                Ok(stream)
            }
            Ok(Err(error)) => Err(match error.downcast::<ConnectError>() {
                Ok(error) => *error,
                Err(error) => tls_failure(&target, error.as_ref()),
            }),
            // The TCP part has a timeout of its own that began no earlier and is looked at first.
            Err(_) => Err(ConnectError::TlsTimeout {
                target,
                after: self.connect_timeout,
            }),
        }
    }
}

/// Whom to connect to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// # Errors
    ///
    /// [`ConnectError::NoHost`] for a URL that names none.
    pub(super) fn of(uri: &Uri) -> Result<Self, ConnectError> {
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or(ConnectError::NoHost)?.to_owned();
        let port = uri.port_u16();
        let port = port.unwrap_or(if is_secure(uri) { 443 } else { 80 });
        Ok(Self { host, port })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Makes one connection.
struct TcpConnector {
    parts: Arc<TcpParts>,
    making: Arc<Making>,
}

struct TcpParts {
    rules: Arc<TargetRules>,
    resolver: Resolver,
    connect_timeout: Duration,
    open: Arc<OpenConnections>,
}

impl Service<Uri> for TcpConnector {
    type Response = Transport;
    type Error = ConnectError;
    type Future = Connecting<Transport, ConnectError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (parts, making) = (Arc::clone(&self.parts), Arc::clone(&self.making));
        Box::pin(async move { parts.connect(Target::of(&uri)?, making).await })
    }
}

impl TcpParts {
    async fn connect(
        &self,
        target: Target,
        making: Arc<Making>,
    ) -> Result<Transport, ConnectError> {
        let started = Instant::now();
        let deadline = started + self.connect_timeout;
        let found = timeout_at(deadline, self.resolver.addresses(&target.host)).await;
        if !is_literal(&target.host) {
            making.note_dns(started.elapsed());
        }
        let addresses = match found {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(reason)) => return Err(ConnectError::Dns { target, reason }),
            Err(_) => {
                let after = humantime::format_duration(self.connect_timeout);
                let reason = format!("the name servers did not answer within {after}");
                return Err(ConnectError::Dns { target, reason });
            }
        };
        let addresses = addresses
            .into_iter()
            .map(|ip| SocketAddr::new(ip, target.port));
        let resolved = Instant::now();
        let connected = timeout_at(deadline, self.connect_first(&target, addresses)).await;
        making.note_connect(resolved.elapsed());
        match connected {
            Ok(connected) => {
                let stream = connected?;
                // A request is written at once and whole: nothing is gained by holding its last packet back.
                let _ = stream.set_nodelay(true);
                Ok(Transport::new(stream, making, Arc::clone(&self.open)))
            }
            Err(_) => Err(ConnectError::TcpTimeout {
                target,
                after: self.connect_timeout,
            }),
        }
    }

    /// The first of `addresses` that accepts, each with a head start over the next. Those that the rules refuse are passed
    /// over; where nothing else is left, the refusal is the answer.
    async fn connect_first(
        &self,
        target: &Target,
        mut addresses: impl Iterator<Item = SocketAddr>,
    ) -> Result<TcpStream, ConnectError> {
        let mut connecting = FuturesUnordered::new();
        let mut failed = None;
        let mut refused: Option<Refusal> = None;
        loop {
            let mut more = false;
            if let Some(address) = addresses.next() {
                more = true;
                match self.rules.check_address(address.ip()) {
                    Ok(()) => connecting.push(async move {
                        let connected = TcpStream::connect(address).await;
                        connected.map_err(|error| (address, error))
                    }),
                    Err(refusal) => {
                        refused.get_or_insert(refusal);
                        continue;
                    }
                }
            }
            let first = if more {
                timeout(HEAD_START, connecting.next()).await
            } else {
                Ok(connecting.next().await)
            };
            match first {
                Ok(Some(Ok(stream))) => return Ok(stream),
                Ok(Some(Err(failure))) => failed = Some(failure),
                Ok(None) => break,
                Err(_) => {}
            }
        }
        Err(match (failed, refused) {
            (Some((address, error)), _) => ConnectError::Tcp {
                target: target.clone(),
                address,
                error,
            },
            (None, Some(refusal)) => ConnectError::Forbidden {
                target: target.clone(),
                refusal,
            },
            (None, None) => ConnectError::Dns {
                target: target.clone(),
                reason: "the name has no addresses".to_owned(),
            },
        })
    }
}
