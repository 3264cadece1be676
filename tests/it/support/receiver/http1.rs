//! HTTP/1.1 by hand, since no library would misbehave as tests need it.

use tokio::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{Answer, AnswerBody, Link, Received, Step};

/// A stream whose TCP connection can be reset.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Serves one connection until either side ends it.
pub(super) async fn serve(mut stream: impl Socket, link: Link) {
    let mut buffer = BytesMut::new();
    let mut idle_closed = link.shared.idle_closed.subscribe();
    idle_closed.mark_unchanged();
    for before_on_connection in 0.. {
        let request = tokio::select! {
            request = read_request(&mut stream, &mut buffer) => request,
            _ = idle_closed.changed() => return,
        };
        let Some((method, path, headers, body)) = request else {
            return;
        };
        let step = link.shared.take(Received {
            method,
            path,
            version: Version::HTTP_11,
            headers,
            body,
            peer: link.peer,
            connection: link.connection,
            before_on_connection,
            at: Instant::now(),
        });
        match step {
            Step::Answer(answer) => {
                let close = answer.close;
                if write_answer(&mut stream, answer).await.is_err() || close {
                    return;
                }
            }
            Step::Hang => {
                // Whatever comes, until the other side gives up.
                while matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {}
                return;
            }
            Step::Reset => {
                let _ = stream.tcp().set_zero_linger();
                return;
            }
            Step::Close => return,
            Step::Pieces(pieces, pause) => {
                let mut ticks = tokio::time::interval(pause);
                for piece in pieces {
                    ticks.tick().await;
                    if stream.write_all(&piece).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
            }
            Step::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
        }
    }
}

type Request = (Method, String, HeaderMap, Bytes);

/// The next request; nothing at the end of the connection or of its sanity.
async fn read_request(stream: &mut impl Socket, buffer: &mut BytesMut) -> Option<Request> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = buffer.split_to(end + 4);
    let head = std::str::from_utf8(&head).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let method = Method::from_bytes(first.next()?.as_bytes()).ok()?;
    let path = first.next()?.to_owned();
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).ok()?,
            HeaderValue::from_str(value.trim()).ok()?,
        );
    }
    let length = match headers.get("content-length") {
        Some(length) => length.to_str().ok()?.parse().ok()?,
        None => 0,
    };
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer.split_to(length).freeze();
    Some((method, path, headers, body))
}

async fn write_answer(stream: &mut impl Socket, answer: Answer) -> std::io::Result<()> {
    if let Some(gate) = &answer.after {
        gate.pass().await;
    }
    let reason = StatusCode::from_u16(answer.status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unheard Of");
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match &answer.body {
        AnswerBody::Whole(body) => {
            head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
            let whole = [head.as_bytes(), body].concat();
            stream.write_all(&whole).await?;
        }
        AnswerBody::Drip { every } => {
            head.push_str("transfer-encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut ticks = tokio::time::interval(*every);
            loop {
                ticks.tick().await;
                stream.write_all(b"1\r\n.\r\n").await?;
                stream.flush().await?;
            }
        }
        AnswerBody::Endless => {
            head.push_str("transfer-encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let chunk = [b"1000\r\n".as_slice(), &[b'.'; 0x1000], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await?;
            }
        }
    }
    stream.flush().await
}
