//! A TCP connection as the pool sees it: what is known of its use, and its share in the number of open connections.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::bounded::Bounded;

/// What is known of a connection's use. The pool hands it out with every answer and with every failure.
#[derive(Debug)]
pub(super) struct Usage {
    established: Instant,
    answered: AtomicBool,
}

impl Usage {
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
}

/// Counts the open connections of one client. A pool bounds its idle connections per host; this bounds what all hosts
/// together can make it keep, and so the file descriptors.
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
}

/// A connected TCP stream with its [`Usage`].
#[derive(Debug)]
pub(super) struct Transport {
    io: TokioIo<Bounded>,
    usage: Arc<Usage>,
    single_use: bool,
    among: Arc<OpenConnections>,
}

impl Transport {
    pub(super) fn new(stream: TcpStream, among: Arc<OpenConnections>) -> Self {
        let others = among.open.fetch_add(1, Ordering::Relaxed);
        Self {
            io: TokioIo::new(Bounded::new(stream, among.most_unasked)),
            usage: Arc::new(Usage {
                established: Instant::now(),
                answered: AtomicBool::new(false),
            }),
            single_use: others >= among.keep,
            among,
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.among.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection for Transport {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(Arc::clone(&self.usage));
        if self.single_use {
            connected.poison();
        }
        connected
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
