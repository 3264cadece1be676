use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::readiness::{REDIS, SOURCES};

struct Served {
    address: SocketAddr,
    readiness: Readiness,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

fn served() -> Served {
    served_within(LIMITS)
}

fn served_within(limits: Limits) -> Served {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Readiness::new(&[REDIS, SOURCES]);
    let shutdown = CancellationToken::new();
    let observed = Observed {
        metrics: Metrics::new(),
        readiness: readiness.clone(),
    };
    let task = tokio::spawn(serve_within(limits, listener, observed, shutdown.clone()));
    Served {
        address,
        readiness,
        shutdown,
        task,
    }
}

/// The whole answer, until the listener hangs up.
async fn said(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get_page(address: SocketAddr, path: &str) -> String {
    said(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: pombo\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn metrics_are_served_in_prometheus_text_format() {
    let served = served();
    let answer = get_page(served.address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\npombo_redis_up 0\n"), "{answer}");
}

#[tokio::test]
async fn the_process_is_healthy_even_while_it_is_not_ready() {
    let served = served();
    assert!(
        get_page(served.address, "/healthz")
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    assert!(
        get_page(served.address, "/readyz")
            .await
            .starts_with("HTTP/1.1 503 ")
    );
}

#[tokio::test]
async fn readyz_gives_every_condition_and_its_reason() {
    let served = served();
    served.readiness.set(REDIS, Ok(()));
    served.readiness.set(
        SOURCES,
        Err("Redis is full; \"events\" is not read".to_owned()),
    );
    let answer = get_page(served.address, "/readyz").await;
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let page: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        page,
        serde_json::json!({"ready": false, "conditions": [
            {"name": "redis", "met": true},
            {"name": "sources", "met": false, "reason": "Redis is full; \"events\" is not read"},
        ]})
    );
    served.readiness.set(SOURCES, Ok(()));
    assert!(
        get_page(served.address, "/readyz")
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
}

#[tokio::test]
async fn other_pages_and_methods_are_refused() {
    let served = served();
    assert!(
        get_page(served.address, "/")
            .await
            .starts_with("HTTP/1.1 404 ")
    );
    let answer = said(
        served.address,
        "POST /readyz HTTP/1.1\r\nhost: pombo\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: GET,HEAD\r\n"), "{answer}");
    let answer = said(
        served.address,
        "HEAD /metrics HTTP/1.1\r\nhost: pombo\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let served = served();
    let answer = said(
        served.address,
        &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2 * MAX_HEAD)),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn silent_connections_give_up_their_places_in_time() {
    for limits in [
        Limits {
            connections: 4,
            connection: Duration::from_millis(50),
            ..LIMITS
        },
        Limits {
            connections: 4,
            head: Duration::from_millis(50),
            ..LIMITS
        },
    ] {
        let served = served_within(limits);
        let mut silent = Vec::new();
        for _ in 0..limits.connections {
            silent.push(TcpStream::connect(served.address).await.unwrap());
        }
        let answer = get_page(served.address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        for mut stream in silent {
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_idle_connection_does_not_keep_its_place_after_its_answer() {
    let served = served_within(Limits {
        connections: 1,
        ..LIMITS
    });
    let mut first = TcpStream::connect(served.address).await.unwrap();
    first
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: pombo\r\n\r\n")
        .await
        .unwrap();
    assert!(
        get_page(served.address, "/healthz")
            .await
            .contains("connection: close\r\n")
    );
}

#[tokio::test]
async fn it_stops_when_told_and_closes_its_port() {
    let served = served();
    get_page(served.address, "/healthz").await;
    served.shutdown.cancel();
    served.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}
