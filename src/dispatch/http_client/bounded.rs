//! A TCP stream that gives up a peer which sends without end and without being asked.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A stream of which at most so many bytes are read since something was last written to it.
///
/// Over HTTP/1 that is one exchange: heads, of which there may be any number of interim ones (1xx), and the part of the
/// body that is read. Over HTTP/2 a peer's windows are opened by writing.
#[derive(Debug)]
pub(super) struct Bounded {
    stream: TcpStream,
    most: usize,
    unasked: usize,
}

impl Bounded {
    pub(super) fn new(stream: TcpStream, most: usize) -> Bounded {
        Bounded {
            stream,
            most,
            unasked: 0,
        }
    }

    /// Only what the peer takes counts: one that takes nothing must not send without end meanwhile.
    fn note_written(&mut self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.unasked = 0;
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unasked > self.most {
            let words = format!(
                "the peer sent more than {} bytes for one request",
                self.most
            );
            return Poll::Ready(Err(io::Error::other(words)));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.unasked += buf.filled().len() - before;
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_written(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_written(&written);
        written
    }
}
