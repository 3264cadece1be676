use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const BODY: &[u8] = b"a body\r\n\r\nof more than a line";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn http_request(body: Bytes) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    request
}

type Sender = http1::SendRequest<Full<Bytes>>;

/// hyper over this, and the task that drives it.
async fn begin<S>(replay: Replay<S>) -> (Sender, tokio::task::JoinHandle<hyper::Result<()>>)
where
    S: Read + Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(replay).await.unwrap();
    (sender, tokio::spawn(connection))
}

async fn post(sender: &mut Sender, body: Bytes) -> hyper::Result<(u16, Bytes)> {
    let answer = sender.send_request(http_request(body)).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    sender.ready().await?;
    Ok((status, body))
}

async fn read(peer: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    peer.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn what_was_left_of_a_request_is_sent_once_wherever_it_was_cut_and_the_next_one_as_it_is() {
    let head = b"POST / HTTP/1.1\r\na-header: of-the-first-one\r\n\r\n";
    let first = [head.as_slice(), BODY].concat();
    for sent in 0..=first.len() {
        // A network that takes little at a time.
        let (ours, mut peer) = tokio::io::duplex(7);
        let request = [Bytes::from_static(head), Bytes::from_static(BODY)];
        let replay = Replay::new(TokioIo::new(ours), request, sent, Arrived::Some(Vec::new()));
        let (mut sender, _driving) = begin(replay).await;
        let answering = async {
            assert_eq!(
                read(&mut peer, first.len() - sent).await,
                first[sent..],
                "{sent}"
            );
            peer.write_all(ANSWER).await.unwrap();
            let mut second = Vec::new();
            while !second.ends_with(b"\r\n\r\nnext") {
                second.push(peer.read_u8().await.unwrap());
            }
            peer.write_all(ANSWER).await.unwrap();
            String::from_utf8(second).unwrap()
        };
        let posting = async {
            let expected = (200, Bytes::from_static(b"ok"));
            assert_eq!(
                post(&mut sender, Bytes::from_static(BODY)).await.unwrap(),
                expected
            );
            let next = Bytes::from_static(b"next");
            assert_eq!(post(&mut sender, next).await.unwrap(), expected);
        };
        let (second, ()) = tokio::join!(answering, posting);
        assert!(
            second.starts_with("POST / HTTP/1.1\r\n"),
            "{sent}: {second:?}"
        );
    }
}

#[tokio::test]
async fn what_has_arrived_is_read_before_the_rest_and_nothing_is_kept_of_the_request() {
    for here in 0..=ANSWER.len() {
        let (ours, mut peer) = tokio::io::duplex(1024);
        let (arrived, rest) = ANSWER.split_at(here);
        let body = Bytes::from(BODY.to_vec());
        let arrived = Arrived::Some(arrived.to_vec());
        let request = [Bytes::new(), body.clone()];
        let replay = Replay::new(TokioIo::new(ours), request, body.len(), arrived);
        let (mut sender, _driving) = begin(replay).await;
        peer.write_all(rest).await.unwrap();
        let (status, _) = post(&mut sender, body.clone()).await.unwrap();
        assert_eq!((status, body.is_unique()), (200, true), "{here}");
    }
}

/// How a request fails whose first time came to this.
async fn failure(replay: Replay<TokioIo<DuplexStream>>) -> hyper::Error {
    let (mut sender, _driving) = begin(replay).await;
    post(&mut sender, Bytes::from_static(BODY))
        .await
        .unwrap_err()
}

fn kind_of(error: &hyper::Error) -> Option<io::ErrorKind> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[tokio::test]
async fn ends_and_errors_are_those_of_the_first_time() {
    let (ours, _peer) = tokio::io::duplex(1024);
    let request = || [Bytes::new(), Bytes::from_static(BODY)];
    let ended = Replay::new(TokioIo::new(ours), request(), BODY.len(), Arrived::End);
    assert!(failure(ended).await.is_incomplete_message());

    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    let (ours, _peer) = tokio::io::duplex(1024);
    let failed = Arrived::Failure(reset());
    let failed = Replay::new(TokioIo::new(ours), request(), BODY.len(), failed);
    let error = failure(failed).await;
    assert_eq!(
        kind_of(&error),
        Some(io::ErrorKind::ConnectionReset),
        "{error:?}"
    );

    // Though the other side has closed it as well.
    let (ours, peer) = tokio::io::duplex(1024);
    drop(peer);
    let error = failure(Replay::refused(TokioIo::new(ours), reset())).await;
    assert_eq!(
        kind_of(&error),
        Some(io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
}

/// A stream that takes everything, fails when it is flushed, and never has anything to read.
struct Unflushable;

impl Read for Unflushable {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl Write for Unflushable {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_answer_that_has_arrived_counts_though_the_connection_has_failed() {
    let arrived = Arrived::Some(ANSWER.to_vec());
    let request = [Bytes::new(), Bytes::from_static(BODY)];
    let replay = Replay::new(Unflushable, request, BODY.len(), arrived);
    let (mut sender, _driving) = begin(replay).await;
    let answer = sender
        .send_request(http_request(Bytes::from_static(BODY)))
        .await;
    assert_eq!(answer.unwrap().status(), 200);
}

#[test]
fn a_request_that_is_written_again_is_known_to_its_last_byte_however_it_is_cut() {
    let head = b"POST / HTTP/1.1\r\na: \r\r\n\r\n";
    let body = b"a\r\n\r\nb";
    let whole = [head.as_slice(), body, b"POST"].concat();
    let expected = head.len() + body.len();
    for size in 1..=whole.len() {
        let mut repeated = Repeated {
            is_begun: true,
            end_seen: 0,
            body: body.len(),
        };
        let mut taken = 0;
        for piece in whole.chunks(size) {
            assert_eq!(repeated.is_over(), taken == expected);
            taken += repeated.take(piece);
        }
        assert!(repeated.is_over());
        assert_eq!(taken, expected, "{size} bytes at a time");
    }
}
