//! Connections that hyper speaks over: all HTTP/2 ones, and those over which something unusual came
//! (see [`super::plain`]).

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use futures_util::future::Either;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use tokio::time::{Instant, Sleep};

use super::failure::PostError;
use super::replay::Replay;
use super::transport::Usage;
use super::{KEPT_BODY, MAX_HEAD, Post};

/// Parts of an answer's body that are read in one go: others of the same thread must not wait for one that comes byte by
/// byte.
const FRAMES_AT_A_TIME: usize = 16;

/// A connection for one request at a time that hyper speaks over, driven by whoever has it.
pub(super) struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended. It is dropped then, because that is how a request that was never looked at is told.
    connection: Option<http1::Connection<Replay, Full<Bytes>>>,
    usage: Arc<Usage>,
}

impl Http1 {
    /// Has hyper speak over a connection on which a request was begun: it is to be given that one next.
    ///
    /// # Errors
    ///
    /// None is known of.
    pub async fn begin(replay: Replay, usage: Arc<Usage>) -> hyper::Result<Box<Http1>> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        let (sender, connection) = builder.handshake(replay).await?;
        Ok(Box::new(Http1 {
            sender,
            connection: Some(connection),
            usage,
        }))
    }

    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// Awaits what this connection brings.
    async fn drive<F: Future>(&mut self, mut awaited: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| {
            self.poll_connection(cx);
            awaited.as_mut().poll(cx)
        })
        .await
    }

    /// How the connection ends is told to whoever awaits something of it.
    fn poll_connection(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            self.connection = None;
        }
    }

    /// Whether it can take a request, as far as is known.
    pub fn is_ready(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Whether it can take a request, after a look at what its peer did meanwhile.
    pub fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_connection(cx);
        self.is_ready()
    }
}

/// A connection that requests share, driven by a task of its own for as long as anybody has it.
#[derive(Clone)]
pub(super) struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    pub usage: Arc<Usage>,
    /// When it was last given to a request.
    pub used: Instant,
}

impl Http2 {
    pub fn new(sender: http2::SendRequest<Full<Bytes>>, usage: Arc<Usage>) -> Http2 {
        Http2 {
            sender,
            usage,
            used: Instant::now(),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// A connection in the hands of one request, that hyper speaks over.
pub(super) enum General {
    Http1(Box<Http1>),
    Http2(Http2),
}

impl General {
    pub fn usage(&self) -> &Arc<Usage> {
        match self {
            General::Http1(connection) => &connection.usage,
            General::Http2(connection) => &connection.usage,
        }
    }

    /// Sends `post`, and waits for the head of its answer.
    ///
    /// # Errors
    ///
    /// [`PostError::Lost`].
    pub async fn post(mut self, post: Post) -> Result<(General, Response<Incoming>), PostError> {
        let request = post.into_request(matches!(self, General::Http2(_)));
        let answer = pin!(self.send(request));
        match self.drive(answer).await {
            Ok(response) => Ok((self, response)),
            Err(error) => Err(PostError::Lost {
                error,
                usage: Arc::clone(self.usage()),
            }),
        }
    }

    fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        match self {
            General::Http1(connection) => Either::Left(connection.sender.send_request(request)),
            General::Http2(connection) => Either::Right(connection.sender.send_request(request)),
        }
    }

    /// Awaits what this connection brings.
    async fn drive<F: Future>(&mut self, awaited: Pin<&mut F>) -> F::Output {
        match self {
            General::Http1(connection) => connection.drive(awaited).await,
            General::Http2(_) => awaited.await,
        }
    }

    /// Reads up to `limit` bytes of `body` so that its connection can be used again, and keeps the first of them; and whether
    /// it was read to its end. Where it was not, dropping the connection closes it; over HTTP/2, dropping `body` resets the
    /// stream.
    pub async fn read_start(
        &mut self,
        mut body: Incoming,
        limit: usize,
        mut deadline: Pin<&mut Sleep>,
    ) -> (Vec<u8>, bool) {
        let mut kept = Vec::new();
        let (mut left, mut frames) = (limit, 0_usize);
        while !body.is_end_stream() {
            frames += 1;
            if frames.is_multiple_of(FRAMES_AT_A_TIME) {
                tokio::task::yield_now().await;
            }
            let mut next = body.frame();
            let frame = tokio::select! {
                // The deadline first: a peer whose frames are always ready must not keep it from being looked at.
                biased;
                () = deadline.as_mut() => return (kept, false),
                frame = self.drive(Pin::new(&mut next)) => frame,
            };
            let data = match frame {
                None => break,
                Some(Err(_)) => return (kept, false),
                Some(Ok(frame)) => frame.into_data(),
            };
            let Ok(data) = data else { continue };
            let wanted = data.len().min(left).min(KEPT_BODY - kept.len());
            kept.extend_from_slice(&data[..wanted]);
            match left.checked_sub(data.len()) {
                Some(rest) => left = rest,
                None => return (kept, false),
            }
        }
        (kept, true)
    }
}
