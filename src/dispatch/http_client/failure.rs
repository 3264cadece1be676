//! Failures in plain words. They reach the subscriber's owner, logs and dead letters: they name host and port, and never a
//! path, a query or credentials.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::time::Instant;

use crate::delivery::Phases;
use crate::outcome::{AttemptResult, FailureKind};
use crate::target::Refusal;

use super::connector::Target;
use super::transport::Usage;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the URL names no host")]
    NoHost,
    #[error("cannot look up {}: {reason}", target.host())]
    Dns { target: Target, reason: String },
    #[error("no connection to {target}: {refusal}")]
    Forbidden { target: Target, refusal: Refusal },
    #[error("cannot connect to {target} at {address}: {}", io_words(error))]
    Tcp {
        target: Target,
        address: SocketAddr,
        error: io::Error,
    },
    #[error("no connection to {target} within {}", humantime::format_duration(*after))]
    TcpTimeout { target: Target, after: Duration },
    #[error("no TLS session with {target} within {}", humantime::format_duration(*after))]
    TlsTimeout { target: Target, after: Duration },
    #[error("no TLS session with {target}: {reason}")]
    Tls { target: Target, reason: String },
}

/// That there is no connection, why, and how far it got.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct NoConnection {
    pub(super) why: ConnectError,
    pub(super) phases: Phases,
}

impl ConnectError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::NoHost => FailureKind::Other,
            Self::Dns { .. } => FailureKind::Dns,
            Self::Forbidden { .. } => FailureKind::Forbidden,
            Self::Tcp { .. } => FailureKind::Connect,
            Self::TcpTimeout { .. } | Self::TlsTimeout { .. } => FailureKind::Timeout,
            Self::Tls { .. } => FailureKind::Tls,
        }
    }
}

/// What made the TLS handshake with `target` fail.
pub(super) fn tls_failure(target: &Target, error: &(dyn StdError + 'static)) -> ConnectError {
    let reason = if let Some(error) = find::<rustls::Error>(error) {
        tls_words(error, target)
    } else if let Some(error) = find::<io::Error>(error) {
        io_words(innermost(error))
    } else {
        "its host name cannot be used with TLS".to_owned()
    };
    ConnectError::Tls {
        target: target.clone(),
        reason,
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error(transparent)]
    NoConnection(#[from] NoConnection),
    #[error("no answer over a connection that was there")]
    Lost {
        #[source]
        error: hyper::Error,
        usage: Arc<Usage>,
    },
}

impl PostError {
    /// Whether it is the sudden end of a connection that was there before the request that began at `started`, with no
    /// answer to it. Such a request may be sent again at once: most likely the peer had closed the idle connection already.
    pub(super) fn is_lost_on_reused_connection(&self, started: Instant) -> bool {
        match self {
            PostError::NoConnection(_) => false,
            PostError::Lost { error, usage } => {
                usage.is_reused_by(started) && is_lost_connection(error)
            }
        }
    }

    /// How the making of its connection went, for a request that began at `started`.
    pub(super) fn phases(&self, started: Instant) -> Phases {
        match self {
            PostError::NoConnection(failed) => failed.phases,
            PostError::Lost { usage, .. } => usage.making_for(started),
        }
    }

    /// As an attempt's result.
    pub(super) fn explain(&self, uri: &Uri) -> AttemptResult {
        let (kind, reason) = match self {
            PostError::NoConnection(NoConnection { why, .. }) => {
                return AttemptResult::Failure {
                    kind: why.kind(),
                    detail: why.to_string(),
                };
            }
            PostError::Lost { error, .. } => exchange_words(error),
        };
        let detail = match Target::of(uri) {
            Ok(target) => format!("no answer from {target}: {reason}"),
            Err(error) => error.to_string(),
        };
        AttemptResult::Failure { kind, detail }
    }
}

fn is_lost_connection(error: &hyper::Error) -> bool {
    if let Some(http2) = find::<h2::Error>(error) {
        let refused = http2.is_reset() && http2.reason() == Some(h2::Reason::REFUSED_STREAM);
        return http2.is_remote() && (http2.is_go_away() || refused);
    }
    error.is_canceled()
        || error.is_closed()
        || error.is_incomplete_message()
        || (!error.is_parse() && find::<io::Error>(error).is_some())
}

/// A request whose deadline passed before the head of an answer had come.
pub(super) fn timed_out(uri: &Uri, timeout: Duration) -> AttemptResult {
    let within = humantime::format_duration(timeout);
    let detail = match Target::of(uri) {
        Ok(target) => format!("no answer from {target} within {within}"),
        Err(_) => format!("no answer within {within}"),
    };
    AttemptResult::Failure {
        kind: FailureKind::Timeout,
        detail,
    }
}

fn exchange_words(error: &hyper::Error) -> (FailureKind, String) {
    use FailureKind::{Connect, Other, Tls};

    if error.is_parse_too_large() {
        return (Other, "the head of its answer is too large".to_owned());
    }
    if error.is_parse_version_h2() {
        return (Other, "it speaks HTTP/2 without being asked to".to_owned());
    }
    if error.is_parse() {
        return (Other, "what it sent is not HTTP".to_owned());
    }
    // A client certificate that is asked for, for one, is missed only after the handshake.
    if let Some(tls) = find::<rustls::Error>(error) {
        return (Tls, format!("TLS failed: {}", short(&tls.to_string())));
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        let reason = "it closed the connection without an answer";
        return (Connect, reason.to_owned());
    }
    if let Some(http2) = find::<h2::Error>(error) {
        return http2_words(http2);
    }
    if let Some(io) = find::<io::Error>(error) {
        return (Connect, io_words(innermost(io)));
    }
    (Other, short(&error.to_string()))
}

fn http2_words(error: &h2::Error) -> (FailureKind, String) {
    let why = match error.reason() {
        Some(reason) => format!(" ({})", reason.description()),
        None => String::new(),
    };
    if error.is_go_away() && error.is_remote() {
        let reason = format!("it closed the HTTP/2 connection without an answer{why}");
        return (FailureKind::Connect, reason);
    }
    if error.is_reset() && error.is_remote() {
        let reason = format!("it reset the HTTP/2 stream without an answer{why}");
        return (FailureKind::Other, reason);
    }
    (
        FailureKind::Other,
        format!("what it sent is not HTTP/2{why}"),
    )
}

fn tls_words(error: &rustls::Error, target: &Target) -> String {
    use rustls::CertificateError as Bad;
    use rustls::Error::{AlertReceived, InvalidCertificate, NoApplicationProtocol};

    match error {
        InvalidCertificate(Bad::UnknownIssuer) => {
            "its certificate was issued by nobody that is trusted here".to_owned()
        }
        InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "its certificate is not valid yet".to_owned()
        }
        InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("its certificate is not for {}", target.host())
        }
        InvalidCertificate(Bad::Revoked) => "its certificate has been revoked".to_owned(),
        AlertReceived(alert) => format!("it refused ({alert:?})"),
        NoApplicationProtocol => "it speaks neither HTTP/1.1 nor HTTP/2".to_owned(),
        rustls::Error::InvalidMessage(_) => "what it sent is not TLS".to_owned(),
        other => short(&other.to_string()),
    }
}

fn io_words(error: &io::Error) -> String {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            "it reset the connection"
        }
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotConnected => {
            "it closed the connection"
        }
        io::ErrorKind::TimedOut => "the network lost the connection",
        io::ErrorKind::HostUnreachable => "the host cannot be reached",
        io::ErrorKind::NetworkUnreachable => "the network cannot be reached",
        io::ErrorKind::AddrNotAvailable => "this host has no free port left for it",
        _ => return short(&error.to_string()),
    };
    words.to_owned()
}

/// Cuts what others wrote to a length that logs can bear.
fn short(text: &str) -> String {
    const LONGEST: usize = 160;
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect()
}

/// The innermost of nested I/O errors: the one that says what happened.
fn innermost(error: &io::Error) -> &io::Error {
    let mut error = error;
    while let Some(inner) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<io::Error>())
    {
        error = inner;
    }
    error
}

/// The first `T` in the chain of causes. An `io::Error` hides what it wraps from `source`, so it is asked separately.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}
