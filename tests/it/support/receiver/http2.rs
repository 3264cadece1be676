//! HTTP/2, by hyper: its misbehaviour is on the level of streams.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::{Answer, AnswerBody, Link, Received, Step};

type Body = BoxBody<Bytes, Infallible>;

/// Serves one connection until either side ends it.
pub(super) async fn serve(stream: TlsStream<TcpStream>, link: Link) {
    let link = Arc::new(link);
    let closed = CancellationToken::new();
    let count = Arc::new(AtomicUsize::new(0));
    let service = service_fn(|request: Request<Incoming>| {
        let (link, closed) = (Arc::clone(&link), closed.clone());
        let before = count.fetch_add(1, Ordering::SeqCst);
        async move { answer(request, &link, before, &closed).await }
    });
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service);
    closed.run_until_cancelled(serving).await;
}

async fn answer(
    request: Request<Incoming>,
    link: &Link,
    before_on_connection: usize,
    closed: &CancellationToken,
) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?;
    let path = head.uri.path_and_query().map(ToString::to_string);
    let step = link.shared.take(Received {
        method: head.method,
        path: path.unwrap_or_default(),
        version: head.version,
        headers: head.headers,
        body: body.to_bytes(),
        peer: link.peer,
        connection: link.connection,
        before_on_connection,
        at: Instant::now(),
    });
    match step {
        Step::Answer(answer) => Ok(respond(answer).await),
        Step::Hang => std::future::pending().await,
        Step::Reset => Err(std::io::Error::other("reset, as the script says")),
        Step::Close => {
            closed.cancel();
            std::future::pending().await
        }
        Step::Raw(_) | Step::Pieces(..) => unimplemented!("raw bytes over HTTP/2"),
    }
}

async fn respond(answer: Answer) -> Response<Body> {
    if let Some(gate) = &answer.after {
        gate.pass().await;
    }
    let body = match answer.body {
        AnswerBody::Whole(body) => Full::new(body).boxed(),
        AnswerBody::Drip { every } => endless(1, Some(every)),
        AnswerBody::Endless => endless(0x1000, None),
    };
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(body).expect("valid headers in the script")
}

fn endless(piece: usize, every: Option<Duration>) -> Body {
    let piece = Bytes::from(vec![b'.'; piece]);
    let ticks = every.map(tokio::time::interval);
    let pieces = stream::unfold(ticks, move |mut ticks| {
        let piece = piece.clone();
        async move {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            Some((Ok::<_, Infallible>(Frame::data(piece)), ticks))
        }
    });
    BodyExt::boxed(StreamBody::new(pieces))
}
