//! The body of a request, with what becomes of the part that nobody read.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Bytes of an unread body that are taken in and dropped, and for how long.
const DRAINED: usize = 16 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(2);

/// A body on its way to a handler.
pub(super) struct Arriving {
    body: Option<Body>,
    arrival: Arrival,
}

/// What is known of a body from the outside.
#[derive(Clone, Default)]
pub(super) struct Arrival(Arc<Shared>);

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// What a handler left unread.
    left: Mutex<Option<Body>>,
}

impl Arriving {
    pub(super) fn new(body: Body) -> (Arriving, Arrival) {
        let arrival = Arrival::default();
        arrival
            .0
            .over
            .store(body.is_end_stream(), Ordering::Release);
        let arriving = Arriving {
            body: Some(body),
            arrival: arrival.clone(),
        };
        (arriving, arrival)
    }
}

impl Arrival {
    /// Whether the body was read to its end, or broke off.
    pub(super) fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// Reads and drops what a handler left of the body, within bounds. Over HTTP/1.1 a connection is closed that has
    /// unread bytes, and a client that is still sending would see a broken connection instead of the answer.
    pub(super) async fn drain(&self) {
        if self.is_over() {
            return;
        }
        let left = self.0.left.lock();
        let Some(mut body) = left.unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let mut room = DRAINED;
        let _ = tokio::time::timeout(DRAINED_FOR, async {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match room.checked_sub(length) {
                    Some(rest) => room = rest,
                    None => return,
                }
            }
        })
        .await;
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) || self.is_end_stream() {
            self.arrival.0.over.store(true, Ordering::Release);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let known = self.body.as_ref().map(HttpBody::size_hint);
        known.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let left = self.arrival.0.left.lock();
        *left.unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}
