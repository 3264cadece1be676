//! A TCP connection, with what is known of its use, and its share in the number of open connections.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::bounded::Bounded;
use crate::delivery::Phases;

/// How long the parts of making a connection took, as far as it got: in microseconds, 0 where there was no such part.
#[derive(Debug, Default)]
pub(super) struct Making {
    dns: AtomicU64,
    connect: AtomicU64,
    tls: AtomicU64,
}

impl Making {
    /// The name was looked up.
    pub(super) fn note_dns(&self, took: Duration) {
        self.dns.store(micros(took).max(1), Ordering::Relaxed);
    }

    /// TCP's handshake is over, well or not.
    pub(super) fn note_connect(&self, took: Duration) {
        self.connect.store(micros(took).max(1), Ordering::Relaxed);
    }

    fn note_tls(&self, took: Duration) {
        self.tls.store(micros(took).max(1), Ordering::Relaxed);
    }

    /// What is known so far.
    pub(super) fn phases(&self) -> Phases {
        let known = |part: &AtomicU64| Some(part.load(Ordering::Relaxed)).filter(|us| *us > 0);
        Phases {
            dns_us: known(&self.dns),
            connect_us: known(&self.connect),
            tls_us: known(&self.tls),
            first_byte_us: None,
        }
    }
}

/// A span of time in whole microseconds.
pub(in crate::dispatch) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What is known of a connection's use.
#[derive(Debug)]
pub(super) struct Usage {
    single_use: bool,
    established: Instant,
    answered: AtomicBool,
    making: Arc<Making>,
    told: AtomicBool,
}

impl Usage {
    /// Whether it serves one request and is closed.
    pub(super) fn is_single_use(&self) -> bool {
        self.single_use
    }

    /// Notes that an answer came over this connection: from now on it is a reused one.
    pub(super) fn note_answer(&self) {
        // The flag is read far more often than it changes; a store each time would move its cache line about.
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a request that began at `started` found this connection already made, so that its peer may have closed it
    /// before the request arrived.
    pub(super) fn is_reused_by(&self, started: Instant) -> bool {
        self.established < started || self.answered.load(Ordering::Relaxed)
    }

    /// How the making of this connection went, for the first request that asks. One that began at `started`, after the
    /// connection was there, waited for none of it.
    pub(super) fn making_for(&self, started: Instant) -> Phases {
        if self.established < started || self.told.swap(true, Ordering::Relaxed) {
            return Phases::default();
        }
        self.making.phases()
    }
}

/// Counts the open connections of one client and those apart from it, and bounds how many of them are kept, and so the
/// file descriptors.
#[derive(Debug)]
pub(super) struct OpenConnections {
    open: AtomicUsize,
    keep: usize,
    most_unasked: usize,
}

impl OpenConnections {
    /// Past `keep` open connections, new ones serve one request and are closed. Each is given up when its peer sends more
    /// than `most_unasked` bytes for one request.
    pub(super) fn new(keep: usize, most_unasked: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            keep,
            most_unasked,
        })
    }

    /// Whether a further connection would serve one request alone.
    pub(super) fn is_full(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.keep
    }
}

/// A connected TCP stream with its [`Usage`].
#[derive(Debug)]
pub(super) struct Transport {
    io: TokioIo<Bounded>,
    usage: Arc<Usage>,
    among: Arc<OpenConnections>,
}

impl Transport {
    pub(super) fn new(stream: TcpStream, making: Arc<Making>, among: Arc<OpenConnections>) -> Self {
        let others = among.open.fetch_add(1, Ordering::Relaxed);
        Self {
            io: TokioIo::new(Bounded::new(stream, among.most_unasked)),
            usage: Arc::new(Usage {
                single_use: others >= among.keep,
                established: Instant::now(),
                answered: AtomicBool::new(false),
                making,
                told: AtomicBool::new(false),
            }),
            among,
        }
    }

    pub(super) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// TLS' handshake over this connection, which begins as soon as it is there, is done.
    pub(super) fn note_tls(&self) {
        self.usage.making.note_tls(self.usage.established.elapsed());
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.among.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The TLS connector asks for it.
impl Connection for Transport {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
