//! Requests and answers that are not exchanged in one go each.

use tokio::io::AsyncReadExt as _;

use super::*;
use crate::support::receiver::Received;

/// Long enough for what was sent before to be looked at alone.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether a connection serves further requests after an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Reused,
    Closed,
}

/// The headers of a request, in their order; but for the one that a peer of HTTP/1.0 is asked with to stay.
fn headers_of(request: &Received) -> Vec<(String, String)> {
    let headers = request.headers.iter();
    let headers = headers.filter(|(name, _)| *name != "connection");
    let headers = headers.map(|(name, value)| (name.to_string(), format!("{value:?}")));
    headers.collect()
}

/// Has `client` post twice, the first time answered by these `pieces`, and returns what came of that. The second request
/// must be as the first one was, over the same connection or over another.
async fn post_twice(
    client: &HttpClient,
    receiver: &Receiver,
    pieces: &[&[u8]],
    then: Then,
) -> Posted {
    let words = String::from_utf8_lossy(&pieces.concat()).into_owned();
    let (connections, requests) = (receiver.connections(), receiver.received().len());
    let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece));
    receiver.push(Step::Pieces(pieces.collect(), PAUSE));
    let url = receiver.url("/a?b=c");
    let first = client.post(post(&url)).await;
    assert!(!first.resent, "{words}");
    let second = client.post(post(&url)).await;
    assert_eq!(status(&second), 200, "{words}");
    let expected = match then {
        Then::Reused => connections.max(1),
        Then::Closed => connections.max(1) + 1,
    };
    assert_eq!(receiver.connections(), expected, "{words}");
    let received = receiver.received();
    let [before, after] = &received[requests..] else {
        panic!("{} requests: {words}", received.len() - requests);
    };
    assert_eq!(headers_of(before), headers_of(after), "{words}");
    assert_eq!(
        (&before.path, &before.body),
        (&after.path, &after.body),
        "{words}"
    );
    first
}

const USUAL: &[u8] =
    b"HTTP/1.1 503 Busy\r\ndate: today\r\nretry-after: 7\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn an_answer_in_pieces_is_the_same_answer_wherever_it_is_cut() {
    let ca = TestCa::new();
    for receiver in [Receiver::start().await, Receiver::start_tls(&ca).await] {
        for cut in [
            USUAL.len(),
            1,
            12,
            19,
            40,
            USUAL.len() - 7,
            USUAL.len() - 5,
            USUAL.len() - 1,
        ] {
            // Each time over a connection that nothing unusual has happened to.
            let client = client_trusting(&ca);
            post_first(&client, &receiver).await;
            let (start, rest) = USUAL.split_at(cut);
            let posted = post_twice(&client, &receiver, &[start, rest], Then::Reused).await;
            let AttemptResult::Answer {
                status,
                retry_after,
                body_start,
            } = posted.result
            else {
                panic!("cut at {cut}: {:?}", posted.result);
            };
            assert_eq!(
                (status, retry_after.as_deref()),
                (503, Some("7")),
                "cut at {cut}"
            );
            assert_eq!(body_start, b"hello", "cut at {cut}");
        }
    }
}

/// The first request over a connection of `client`.
async fn post_first(client: &HttpClient, receiver: &Receiver) {
    assert_eq!(status(&client.post(post(&receiver.url("/"))).await), 200);
}

#[tokio::test]
async fn answers_of_every_form_that_http_allows_are_understood() {
    let chunked =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let answers: [(&[u8], u16, &[u8], Then); 12] = [
        (chunked, 200, b"abcde", Then::Reused),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", Then::Reused),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, b"", Then::Reused),
        (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", 200, b"", Then::Reused),
        (b"HTTP/1.1 200 OK\r\nContent-Length:2 \r\nConnection: Keep-Alive\r\n\r\nok", 200, b"ok", Then::Reused),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", 200, b"ok", Then::Closed),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", Then::Reused),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", Then::Closed),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok", 200, b"ok", Then::Reused),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 1\r\n\r\n!", 201, b"!", Then::Reused),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, b"", Then::Reused),
        // What comes after an answer was asked for by nobody.
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", 200, b"ok", Then::Closed),
    ];
    for (answer, code, body, then) in answers {
        let receiver = Receiver::start().await;
        let client = client();
        post_first(&client, &receiver).await;
        let posted = post_twice(&client, &receiver, &[answer], then).await;
        let words = String::from_utf8_lossy(answer);
        assert_eq!(
            (status(&posted), body_start(&posted)),
            (code, body),
            "{words}"
        );
        // Half of it at a time.
        let (start, rest) = answer.split_at(answer.len() / 2);
        let posted = post_twice(&client, &receiver, &[start, rest], then).await;
        assert_eq!(
            (status(&posted), body_start(&posted)),
            (code, body),
            "{words}"
        );
    }
}

#[tokio::test]
async fn answers_of_no_form_that_http_allows_are_failures() {
    let answers: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        b"HTTP/1.1 2x0 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/3.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ];
    for answer in answers {
        let receiver = Receiver::start().await;
        let client = client();
        post_first(&client, &receiver).await;
        let posted = post_twice(&client, &receiver, &[answer], Then::Closed).await;
        let words = String::from_utf8_lossy(answer);
        let (kind, detail) = failure(&posted);
        assert_eq!(kind, FailureKind::Other, "{words}: {detail}");
        assert!(
            detail.ends_with("what it sent is not HTTP"),
            "{words}: {detail}"
        );
    }
}

#[tokio::test]
async fn a_body_that_the_network_does_not_take_at_once_arrives_whole() {
    let ca = TestCa::new();
    for receiver in [Receiver::start().await, Receiver::start_tls(&ca).await] {
        let client = client_trusting(&ca);
        for length in [0, 1, 100_000, 20_000_000, 7] {
            let mut post = post(&receiver.url("/"));
            let bytes = (0..length).map(|n: usize| (n % 251) as u8);
            post.body = bytes.collect::<Vec<u8>>().into();
            let posted = client.post(post.clone()).await;
            assert_eq!(status(&posted), 200, "{length}");
            let received = receiver.received().pop().expect("a request");
            assert!(
                received.body == post.body,
                "{length} bytes are not the same"
            );
            assert_eq!(received.header("content-length"), length.to_string());
        }
        assert_eq!(receiver.connections(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_all_of_the_request_was_taken_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut big = post(&format!("http://{address}/"));
    big.body = Bytes::from(vec![b'.'; 32 * 1024 * 1024]);
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut some = [0; 100];
        stream.read_exact(&mut some).await.unwrap();
        let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nno!";
        stream.write_all(answer).await.unwrap();
        stream
    };
    let client = client();
    let (posted, _stream) = tokio::join!(client.post(big), answering);
    assert_eq!(
        (status(&posted), body_start(&posted)),
        (413, b"no!".as_slice())
    );
}

#[tokio::test]
async fn an_answer_without_an_end_but_that_of_its_connection_is_read_to_it() {
    let receiver = Receiver::start().await;
    let client = client();
    post_first(&client, &receiver).await;
    receiver.push(Step::Raw(Bytes::from_static(
        b"HTTP/1.1 200 OK\r\n\r\nall of it",
    )));
    let posted = client.post(post(&receiver.url("/"))).await;
    assert_eq!(
        (status(&posted), body_start(&posted)),
        (200, b"all of it".as_slice())
    );
    post_first(&client, &receiver).await;
    assert_eq!(receiver.connections(), 2);
}
