//! A connection whose request was begun by other hands, shown to hyper as if nothing had happened on it yet.
//!
//! hyper writes that request once more. What it writes is thrown away, while what was left to be sent of the first one is sent;
//! and what has arrived is read by it before anything else. From the next request on the stream is what it is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::pool::Stream;

#[cfg(test)]
mod tests;

/// What the peer had sent.
#[derive(Debug)]
pub(super) enum Arrived {
    /// So much, perhaps nothing.
    Some(Vec<u8>),
    /// It has closed the connection.
    End,
    /// The connection has failed.
    Failure(io::Error),
}

/// See the module's own words.
pub(super) struct Replay<S = Stream> {
    stream: S,
    unsent: Unsent,
    /// The request that is thrown away, until all of it was.
    repeated: Option<Repeated>,
    arrived: Arrived,
    /// Writing has failed.
    refused: Option<io::Error>,
    /// Who reads before writing: there is nothing before.
    reader: Option<Waker>,
}

/// What is left to be sent of the first request, head and body.
#[derive(Debug, Default)]
struct Unsent([Bytes; 2]);

impl Unsent {
    fn is_empty(&self) -> bool {
        self.0.iter().all(|part| part.is_empty())
    }

    fn advance(&mut self, written: usize) {
        let [head, body] = &mut self.0;
        let of_head = written.min(head.len());
        head.advance(of_head);
        body.advance(written - of_head);
    }
}

/// A request that is written again, as far as it is still to come.
#[derive(Debug)]
struct Repeated {
    is_begun: bool,
    /// How much of what ends the head was just seen.
    end_seen: usize,
    body: usize,
}

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

impl Repeated {
    /// How many of `bytes` belong to it.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while self.end_seen < END_OF_HEAD.len() && taken < bytes.len() {
            let byte = bytes[taken];
            self.end_seen = match byte {
                byte if byte == END_OF_HEAD[self.end_seen] => self.end_seen + 1,
                b'\r' => 1,
                _ => 0,
            };
            taken += 1;
        }
        let of_body = self.body.min(bytes.len() - taken);
        self.body -= of_body;
        taken + of_body
    }

    fn is_over(&self) -> bool {
        self.end_seen == END_OF_HEAD.len() && self.body == 0
    }
}

impl<S: Read + Write + Unpin> Replay<S> {
    /// Of a request (head and body) of which so many bytes are `written`, and whose answer began with `arrived`.
    pub fn new(stream: S, request: [Bytes; 2], written: usize, arrived: Arrived) -> Replay<S> {
        let repeated = Repeated {
            is_begun: false,
            end_seen: 0,
            body: request[1].len(),
        };
        let mut unsent = Unsent(request);
        unsent.advance(written);
        Replay {
            stream,
            unsent,
            repeated: Some(repeated),
            arrived,
            refused: None,
            reader: None,
        }
    }

    /// Of a request that could not be written because of `error`.
    pub fn refused(stream: S, error: io::Error) -> Replay<S> {
        Replay {
            stream,
            unsent: Unsent::default(),
            repeated: None,
            arrived: Arrived::Some(Vec::new()),
            refused: Some(error),
            reader: None,
        }
    }

    fn has_arrived(&self) -> bool {
        !matches!(&self.arrived, Arrived::Some(bytes) if bytes.is_empty())
    }

    fn poll_send_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let Unsent([head, body]) = &self.unsent;
            let parts = [IoSlice::new(head), IoSlice::new(body)];
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &parts))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Read + Write + Unpin> Read for Replay<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let is_begun = self.repeated.as_ref().is_none_or(|again| again.is_begun);
        if !is_begun || self.refused.is_some() {
            // An answer before its request would be taken for a mistake of the peer.
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if !self.has_arrived() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        match std::mem::replace(&mut self.arrived, Arrived::Some(Vec::new())) {
            Arrived::Some(mut arrived) => {
                let number = arrived.len().min(buf.remaining());
                buf.put_slice(&arrived[..number]);
                arrived.drain(..number);
                self.arrived = Arrived::Some(arrived);
                Poll::Ready(Ok(()))
            }
            Arrived::End => {
                self.arrived = Arrived::End;
                Poll::Ready(Ok(()))
            }
            Arrived::Failure(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<S: Read + Write + Unpin> Write for Replay<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_rest(cx))?;
        if self.has_arrived() {
            // That is to be read first: flushing may fail where an answer has come, and hyper flushes again.
            return Poll::Ready(Ok(()));
        }
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
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.refused.take() {
            return Poll::Ready(Err(error));
        }
        if let Some(repeated) = &mut self.repeated {
            repeated.is_begun = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        ready!(self.poll_send_rest(cx))?;
        let Some(repeated) = &mut self.repeated else {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        };
        let mut taken = 0;
        for buf in bufs {
            let of_it = repeated.take(buf);
            taken += of_it;
            if of_it < buf.len() {
                break;
            }
        }
        if repeated.is_over() {
            self.repeated = None;
            // Empty by now; but each part keeps what it was a part of in memory.
            self.unsent = Unsent::default();
        }
        Poll::Ready(Ok(taken))
    }
}
