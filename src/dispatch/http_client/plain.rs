//! A connection over which HTTP/1.1 is spoken in the plainest way: a request is written in one go, and its answer is there
//! as a whole with one look.
//!
//! Nearly all deliveries go like that, and each costs the daemon 2.5 µs less than with a general client (of 15 to 20, on
//! the machine of README's figures). Whatever goes in any other way (an answer in parts, in chunks, with interim ones, of
//! another version; a request that the network does not take at once; an end, an error) is none of this module's business:
//! hyper goes on with it as if it had seen all from the beginning (see [`super::replay`]), and speaks over that connection
//! as long as it lives.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::{Read as _, ReadBuf, Write as _};

use super::general::Http1;
use super::pool::Stream;
use super::replay::{Arrived, Replay};
use super::transport::Usage;
use super::{KEPT_BODY, Post};
use crate::outcome::AttemptResult;

#[cfg(test)]
mod tests;

/// The longest answer that is looked at here, in bytes, and its most headers. Usual ones have a few hundred bytes.
const MOST_BYTES: usize = 2 * 1024;
const MOST_HEADERS: usize = 32;

/// A connection that hyper has no part in yet; for one request at a time, driven by whoever has it.
pub(super) struct Plain {
    stream: Stream,
    usage: Arc<Usage>,
}

/// An answer of which all has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    status: u16,
    retry_after: Option<String>,
    body_start: Vec<u8>,
}

impl Whole {
    pub fn into_result(self) -> AttemptResult {
        AttemptResult::Answer {
            status: self.status,
            retry_after: self.retry_after,
            body_start: self.body_start,
        }
    }
}

/// What came of a request.
pub(super) enum Exchanged {
    /// An answer. The connection can be used again.
    Whole(Whole),
    /// Something unusual: the request may be sent in part, or its answer have come in part.
    Unusual(Begun),
}

/// How far a request came.
pub(super) struct Begun {
    head: Vec<u8>,
    written: io::Result<usize>,
    arrived: Arrived,
}

impl Plain {
    pub fn new(stream: Stream, usage: Arc<Usage>) -> Box<Plain> {
        Box::new(Plain { stream, usage })
    }

    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Whether its peer has neither closed it nor sent anything unasked, as far as is known.
    pub fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        let mut space = [MaybeUninit::uninit(); 1];
        let mut read = ReadBuf::uninit(&mut space);
        let stream = Pin::new(&mut self.stream);
        stream.poll_read(cx, read.unfilled()).is_pending()
    }

    /// Sends `post` and waits for its answer. One with a body of more than `limit` bytes is no usual one. What a peer says
    /// before it was asked over a new connection counts as its answer: it alone is concerned.
    pub async fn exchange(&mut self, post: &Post, limit: usize) -> Exchanged {
        let head = head_of(post);
        let all = head.len() + post.body.len();
        let write = poll_fn(|cx| {
            let parts = [IoSlice::new(&head), IoSlice::new(&post.body)];
            // One that the network takes nothing of now is unusual, too.
            Poll::Ready(Pin::new(&mut self.stream).poll_write_vectored(cx, &parts))
        });
        let written = match write.await {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(0),
        };
        if !matches!(written, Ok(written) if written == all) {
            return Exchanged::Unusual(Begun {
                head,
                written,
                arrived: Arrived::Some(Vec::new()),
            });
        }
        let mut is_flushed = false;
        let arrived = poll_fn(|cx| {
            let mut failed = None;
            if !is_flushed {
                match Pin::new(&mut self.stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => is_flushed = true,
                    Poll::Ready(Err(error)) => failed = Some(error),
                    Poll::Pending => {}
                }
            }
            // A peer that refuses a request may have answered before it closed: that counts, not the failure.
            match (self.poll_answer(cx, is_flushed.then_some(limit)), failed) {
                (Poll::Pending, Some(error)) => Poll::Ready(Err(Arrived::Failure(error))),
                (answer, _) => answer,
            }
        });
        match arrived.await {
            Ok(whole) => Exchanged::Whole(whole),
            Err(arrived) => Exchanged::Unusual(Begun {
                head,
                written,
                arrived,
            }),
        }
    }

    /// Reads once. Without a `limit` to an answer's body none is a usual one.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        limit: Option<usize>,
    ) -> Poll<Result<Whole, Arrived>> {
        let mut space = [MaybeUninit::uninit(); MOST_BYTES];
        let mut read = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.stream).poll_read(cx, read.unfilled()) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(Arrived::Failure(error))),
            Poll::Ready(Ok(())) => Poll::Ready(match read.filled() {
                [] => Err(Arrived::End),
                bytes => {
                    let answer = limit.and_then(|limit| whole(bytes, limit));
                    answer.ok_or_else(|| Arrived::Some(bytes.to_vec()))
                }
            }),
        }
    }

    /// The same connection with hyper, which is to be given `post` once more and goes on with it from where it is.
    ///
    /// # Errors
    ///
    /// Whatever keeps hyper from beginning.
    pub async fn go_on(self, begun: Begun, post: &Post) -> hyper::Result<Box<Http1>> {
        let replay = match begun.written {
            Ok(written) => {
                let request = [begun.head.into(), post.body.clone()];
                Replay::new(self.stream, request, written, begun.arrived)
            }
            Err(error) => Replay::refused(self.stream, error),
        };
        Http1::begin(replay, self.usage).await
    }
}

/// The head of the request, as hyper would write it.
fn head_of(post: &Post) -> Vec<u8> {
    let path = post.to.path();
    let headers = || {
        let own = post.headers.iter();
        let own = own.map(|(name, value)| (name.as_str(), value.as_bytes()));
        own.chain(post.to.host().map(|host| ("host", host.as_bytes())))
    };
    let bytes = headers().map(|(name, value)| name.len() + value.len() + 4);
    let mut head = Vec::with_capacity(bytes.sum::<usize>() + path.len() + 64);
    for part in ["POST ", path, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers() {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    }
    // Writing to memory does not fail.
    let _ = io::Write::write_fmt(
        &mut head,
        format_args!("content-length: {}\r\n\r\n", post.body.len()),
    );
    head
}

/// The answer that `bytes` are, if they are a usual one and nothing else: final, of HTTP/1.1, with a body whose length is known
/// from the head and is no more than `limit`, and with nothing against another request over the same connection.
fn whole(bytes: &[u8], limit: usize) -> Option<Whole> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = answer.parse(bytes) else {
        return None;
    };
    let status = answer.code.filter(|status| *status >= 200)?;
    if answer.version != Some(1) {
        return None;
    }
    let (mut length, mut retry_after) = (None, None);
    for header in answer.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            if length.replace(length_in(header.value)?).is_some() {
                return None;
            }
        } else if is("connection") {
            if !header.value.eq_ignore_ascii_case(b"keep-alive") {
                return None;
            }
        } else if is("transfer-encoding") || is("upgrade") {
            return None;
        } else if is("retry-after") {
            retry_after = retry_after.or(Some(header.value));
        }
    }
    let body = &bytes[head..];
    let length = match (status, length) {
        (204 | 304, None | Some(0)) => 0,
        (204 | 304, Some(_)) | (_, None) => return None,
        (_, Some(length)) => length,
    };
    if body.len() != length || length > limit {
        return None;
    }
    Some(Whole {
        status,
        retry_after: retry_after.and_then(readable),
        body_start: body[..length.min(KEPT_BODY)].to_vec(),
    })
}

/// The number that is all of `value`.
fn length_in(value: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(value).ok()?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The value of a `Retry-After` as text, if it is worth reading.
fn readable(value: &[u8]) -> Option<String> {
    let value = http::HeaderValue::from_bytes(value).ok()?;
    super::readable_retry_after(&value)
}
