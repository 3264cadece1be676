use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

use crate::dispatch::http_client::Endpoint;
use crate::dispatch::http_client::transport::{Making, OpenConnections, Transport};

const LIMIT: usize = 1_500;

/// A connection, and its other end.
async fn connected() -> (Box<Plain>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (theirs, _) = listener.accept().await.unwrap();
    let among = OpenConnections::new(10, 1024 * 1024);
    let transport = Transport::new(ours.unwrap(), Arc::new(Making::default()), among);
    let usage = transport.usage().clone();
    (Plain::new(Stream::Http(transport), usage), theirs)
}

fn post(url: &str, body: &'static [u8]) -> Post {
    let mut headers = http::HeaderMap::new();
    for (name, value) in [("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-empty", "")] {
        headers.append(name, value.parse().unwrap());
    }
    headers.insert("x-odd", http::HeaderValue::from_bytes(b"caf\xe9").unwrap());
    Post {
        to: Arc::new(Endpoint::new(url.parse().unwrap())),
        headers,
        body: bytes::Bytes::from_static(body),
        timeout: std::time::Duration::from_secs(30),
    }
}

#[tokio::test]
async fn usual_exchanges_need_nobody_else_and_what_nobody_asked_for_ends_the_connection() {
    let (mut connection, mut peer) = connected().await;
    for number in 0..3 {
        let post = post("http://a.example/?b", b"body");
        let answering = async {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\nbody") {
                bytes.push(peer.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            peer.write_all(answer).await.unwrap();
            bytes
        };
        let (exchanged, bytes) = tokio::join!(connection.exchange(&post, LIMIT), answering);
        assert!(matches!(exchanged, Exchanged::Whole(_)), "{number}");
        assert_eq!(bytes, [head_of(&post), b"body".to_vec()].concat());
        let usable = poll_fn(|cx| Poll::Ready(connection.is_usable(cx)));
        assert!(usable.await, "{number}");
    }
    peer.write_all(b"H").await.unwrap();
    poll_fn(|cx| match connection.is_usable(cx) {
        true => Poll::Pending,
        false => Poll::Ready(()),
    })
    .await;
}

#[tokio::test]
async fn a_head_is_what_hyper_would_write() {
    for (url, body) in [
        ("http://a.example", b"body".as_slice()),
        ("http://a.example?b=c", b"body"),
        ("http://a.example:8080/a/b?c=d&e", b""),
        ("http://[::1]/%20", b"body"),
    ] {
        let post = post(url, body);
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let begun = hyper::client::conn::http1::handshake(TokioIo::new(ours));
        let (mut sender, connection) = begun.await.unwrap();
        tokio::spawn(connection);
        let _answer = tokio::spawn(sender.send_request(post.clone().into_request(false)));
        let expected = [&head_of(&post), body].concat();
        let mut written = vec![0; expected.len()];
        theirs.read_exact(&mut written).await.unwrap();
        assert_eq!(
            written.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }
}

fn status_of(bytes: &[u8]) -> Option<u16> {
    whole(bytes, LIMIT).map(|answer| answer.status)
}

#[test]
fn an_answer_is_usual_if_it_is_whole_and_leaves_its_connection_to_the_next() {
    let usual = b"HTTP/1.1 429 Slow down\r\nRetry-After: 5\r\nContent-Length: 4\r\n\r\nlate";
    let expected = Whole {
        status: 429,
        retry_after: Some("5".to_owned()),
        body_start: b"late".to_vec(),
    };
    assert_eq!(whole(usual, LIMIT), Some(expected));
    // Not while a part is missing, and not with something behind it.
    for end in 0..usual.len() {
        assert_eq!(status_of(&usual[..end]), None, "{end}");
    }
    assert_eq!(status_of(&[usual.as_slice(), b"\n"].concat()), None);
    for (headers, is_usual) in [
        ("content-length: 0", true),
        ("content-length: 0\r\nconnection: keep-alive", true),
        ("content-length: 0\r\nconnection: close", false),
        ("content-length: 0\r\nconnection: keep-alive, close", false),
        ("content-length: 0\r\ncontent-length: 0", false),
        ("content-length: 00", true),
        ("content-length: +0", false),
        ("content-length: ", false),
        ("content-length: 0\r\ntransfer-encoding: chunked", false),
        ("content-length: 0\r\nupgrade: h2c", false),
        ("date: today", false),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n");
        assert_eq!(
            status_of(answer.as_bytes()).is_some(),
            is_usual,
            "{headers}"
        );
    }
    for (line, is_usual) in [
        ("HTTP/1.1 204 No Content", true),
        ("HTTP/1.1 304 Not Modified", true),
        ("HTTP/1.1 100 Continue", false),
        ("HTTP/1.1 101 Switching Protocols", false),
        ("HTTP/1.0 204 No Content", false),
    ] {
        let answer = format!("{line}\r\n\r\n");
        assert_eq!(status_of(answer.as_bytes()).is_some(), is_usual, "{line}");
    }
}

#[test]
fn a_body_longer_than_the_limit_is_not_read_here_and_of_others_the_start_is_kept() {
    let answer = |length: usize| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        [head.into_bytes(), vec![b'.'; length]].concat()
    };
    let kept = |length| whole(&answer(length), LIMIT).map(|answer| answer.body_start.len());
    assert_eq!(kept(KEPT_BODY - 1), Some(KEPT_BODY - 1));
    assert_eq!(kept(LIMIT), Some(KEPT_BODY));
    assert_eq!(kept(LIMIT + 1), None);
}

/// What hyper makes of these bytes, if it makes an answer of them whose connection is good for another.
async fn by_hyper(bytes: &[u8]) -> Option<Whole> {
    let (ours, mut theirs) = tokio::io::duplex(1024 * 1024);
    theirs.write_all(bytes).await.ok()?;
    let begin = hyper::client::conn::http1::handshake(Replay::new(
        TokioIo::new(ours),
        Default::default(),
        0,
        Arrived::Some(Vec::new()),
    ));
    let (mut sender, connection) = begin.await.ok()?;
    let driving = tokio::spawn(connection);
    let mut request = http::Request::new(Full::new(bytes::Bytes::new()));
    *request.method_mut() = http::Method::POST;
    let (head, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes().to_vec();
    let ready = sender.ready().await;
    driving.abort();
    ready.ok()?;
    let answer = Whole {
        status: head.status.as_u16(),
        retry_after: head
            .headers
            .get("retry-after")
            .and_then(super::super::readable_retry_after),
        body_start: body[..body.len().min(KEPT_BODY)].to_vec(),
    };
    Some(answer)
}

fn answers() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "HTTP/1.1 200 OK",
        "HTTP/1.1 204 No Content",
        "HTTP/1.1 304",
        "HTTP/1.1 500 \u{e9}",
        "HTTP/1.1 999 Odd",
        "HTTP/1.1 099 Low",
        "HTTP/1.1 101 Switch",
        "HTTP/1.0 200 OK",
        "HTTP/2.0 200 OK",
    ]);
    let header = prop::sample::select(vec![
        "content-length: 0",
        "Content-Length:3",
        "content-length: 03",
        "content-length: 3 ",
        "content-length: -3",
        "content-length: 3, 3",
        "content-length: 18446744073709551619",
        "transfer-encoding: chunked",
        "transfer-encoding: identity",
        "connection: keep-alive",
        "Connection: Keep-Alive, x",
        "connection: close",
        "connection: ",
        "upgrade: x",
        "retry-after: 5",
        "retry-after: \u{e9}",
        "retry-after: Wed, 21 Oct 2026 07:28:00 GMT and then some more words than fit",
        "x: y",
        " folded",
        "bad header: x",
        "x-empty:",
        "trailer: x",
    ]);
    let body = prop::sample::select(vec![
        ("", "content-length: 0"),
        ("abc", "Content-Length:3"),
        ("abcd", "content-length: 04 "),
        ("3\r\nabc\r\n0\r\n\r\n", "transfer-encoding: chunked"),
    ]);
    let tells = prop::bool::weighted(0.8);
    let change = prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
    (
        line,
        prop::collection::vec(header, 0..3),
        body,
        tells,
        change,
    )
        .prop_map(|(line, mut headers, (body, length), tells, change)| {
            if tells {
                headers.push(length);
            }
            let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
            let mut bytes = format!("{line}\r\n{headers}\r\n{body}").into_bytes();
            if let Some((place, byte)) = change {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes
        })
}

#[test]
fn what_is_taken_for_a_usual_answer_hyper_takes_for_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let usual = std::cell::Cell::new(0);
    let config = ProptestConfig::with_cases(3_000);
    let compared = TestRunner::new(config).run(&answers(), |bytes| {
        if let Some(answer) = whole(&bytes, LIMIT) {
            usual.set(usual.get() + 1);
            let same = runtime.block_on(by_hyper(&bytes));
            prop_assert_eq!(same, Some(answer));
        }
        Ok(())
    });
    compared.unwrap();
    assert!(usual.get() > 100, "{} of them were usual", usual.get());
}
