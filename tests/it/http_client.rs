//! The delivery client against receivers of every kind.

mod connections;
mod http2;
mod plain;
mod targets;
mod tls;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version};
use pombo::dispatch::http_client::{Endpoint, HttpClient, HttpClientError, Post, Posted, Resolver};
use pombo::outcome::{AttemptResult, FailureKind};
use pombo::settings::{DeliverySettings, Settings};
use pombo::target::TargetRules;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::support::dns::{DnsAnswer, DnsServer};
use crate::support::receiver::{Answer, Gate, Receiver, Step};
use crate::support::tls::TestCa;

/// Long enough for any answer that comes at all.
const LONG: Duration = Duration::from_secs(30);

/// For answers that never come.
const SHORT: Duration = Duration::from_millis(800);

const BODY_LIMIT: usize = 16 * 1024;

fn settings() -> DeliverySettings {
    let mut delivery = Settings::defaults_for_tests().delivery;
    delivery.response_body_limit = BODY_LIMIT;
    delivery.idle_connection_timeout = LONG;
    delivery
}

fn rules(allow: &[&str]) -> Arc<TargetRules> {
    let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
    Arc::new(TargetRules::new(allow, false))
}

fn loopback_allowed() -> Arc<TargetRules> {
    rules(&["127.0.0.0/8", "::1/128"])
}

fn client() -> HttpClient {
    HttpClient::new(loopback_allowed(), &settings(), None).unwrap()
}

fn client_trusting(ca: &TestCa) -> HttpClient {
    HttpClient::new(loopback_allowed(), &settings(), Some(ca.file())).unwrap()
}

fn client_asking(server: &DnsServer, rules: Arc<TargetRules>) -> HttpClient {
    let resolver = Resolver::with_name_server(server.address()).unwrap();
    HttpClient::with_resolver(rules, &settings(), None, resolver).unwrap()
}

fn post(url: &str) -> Post {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("x-event-id", HeaderValue::from_static("evt_1"));
    Post {
        to: Arc::new(Endpoint::new(url.parse().unwrap())),
        headers,
        body: Bytes::from_static(br#"{"a":1}"#),
        timeout: LONG,
    }
}

fn post_within(url: &str, timeout: Duration) -> Post {
    Post {
        timeout,
        ..post(url)
    }
}

#[track_caller]
fn status(posted: &Posted) -> u16 {
    match &posted.result {
        AttemptResult::Answer { status, .. } => *status,
        failure => panic!("an answer was expected, not {failure:?}"),
    }
}

#[track_caller]
fn body_start(posted: &Posted) -> &[u8] {
    match &posted.result {
        AttemptResult::Answer { body_start, .. } => body_start,
        failure => panic!("an answer was expected, not {failure:?}"),
    }
}

#[track_caller]
fn failure(posted: &Posted) -> (FailureKind, &str) {
    match &posted.result {
        AttemptResult::Failure { kind, detail } => (*kind, detail),
        answer => panic!("a failure was expected, not {answer:?}"),
    }
}

#[tokio::test]
async fn a_request_arrives_whole_and_as_it_was_given() {
    let receiver = Receiver::start().await;
    let posted = client().post(post(&receiver.url("/hook?a=b"))).await;
    assert_eq!(status(&posted), 200);
    assert!(!posted.resent);
    let received = receiver.wait_for(1).await;
    assert_eq!(received[0].method, "POST");
    assert_eq!(received[0].path, "/hook?a=b");
    assert_eq!(received[0].body, br#"{"a":1}"#.as_slice());
    assert_eq!(received[0].header("content-type"), "application/json");
    assert_eq!(received[0].header("x-event-id"), "evt_1");
    assert_eq!(received[0].header("host"), receiver.address().to_string());
    assert_eq!(received[0].header("content-length"), "7");
    assert_eq!(received[0].headers.len(), 4, "{:?}", received[0].headers);
}

#[tokio::test]
async fn every_status_is_an_answer_and_a_redirect_is_not_followed() {
    let receiver = Receiver::start().await;
    let client = client();
    let location = receiver.url("/elsewhere");
    for code in [200, 204, 302, 308, 400, 410, 429, 500, 503] {
        receiver.push(Answer::new(code).header("location", &location));
        let posted = client.post(post(&receiver.url("/"))).await;
        assert_eq!(status(&posted), code);
    }
    let received = receiver.received();
    assert_eq!(received.len(), 9);
    assert!(received.iter().all(|request| request.path == "/"));
}

#[tokio::test]
async fn retry_after_and_the_start_of_the_body_are_handed_on() {
    let receiver = Receiver::start().await;
    let body = vec![b'x'; 5000];
    receiver.push(Answer::new(503).header("retry-after", "120").body(body));
    let posted = client().post(post(&receiver.url("/"))).await;
    let AttemptResult::Answer {
        status,
        retry_after,
        body_start,
    } = posted.result
    else {
        panic!("no answer: {:?}", posted.result);
    };
    assert_eq!(status, 503);
    assert_eq!(retry_after.as_deref(), Some("120"));
    assert_eq!(body_start, vec![b'x'; 1024]);
}

#[tokio::test]
async fn a_compressed_body_is_not_unpacked() {
    let receiver = Receiver::start().await;
    let packed = b"\x1f\x8b\x08\x00packed";
    receiver.push(
        Answer::new(400)
            .header("content-encoding", "gzip")
            .body(packed.as_slice()),
    );
    let posted = client().post(post(&receiver.url("/"))).await;
    assert_eq!(body_start(&posted), packed);
}

#[tokio::test]
async fn an_endless_body_is_cut_and_its_status_counts() {
    let receiver = Receiver::start().await;
    receiver.push(Answer::new(201).endless());
    let posted = client().post(post(&receiver.url("/"))).await;
    assert_eq!(status(&posted), 201);
    assert_eq!(body_start(&posted).len(), 1024);
    assert!(posted.duration < LONG);
    receiver.wait_for_closed(1).await;
}

#[tokio::test]
async fn a_body_that_drips_past_the_deadline_keeps_the_outcome_of_its_head() {
    let receiver = Receiver::start().await;
    receiver.push(Answer::new(202).drip(Duration::from_millis(20)));
    let posted = client().post(post_within(&receiver.url("/"), SHORT)).await;
    assert_eq!(status(&posted), 202);
    assert!(posted.duration >= SHORT);
    assert!(body_start(&posted).len() < 100);
    receiver.wait_for_closed(1).await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_given_up_on_at_the_deadline() {
    let receiver = Receiver::start().await;
    receiver.push(Step::Hang);
    let posted = client()
        .post(post_within(&receiver.url("/secret?token=1"), SHORT))
        .await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Timeout);
    let expected = format!("no answer from {} within 800ms", receiver.address());
    assert_eq!(detail, expected);
    assert!(!posted.resent);
    receiver.wait_for_closed(1).await;
}

#[tokio::test]
async fn a_hanging_receiver_does_not_hold_up_other_requests() {
    let receiver = Receiver::start().await;
    let gate = Gate::new();
    receiver.push(Answer::new(200).after(&gate));
    let client = client();
    let slow = tokio::spawn({
        let (client, url) = (client.clone(), receiver.url("/slow"));
        async move { client.post(post(&url)).await }
    });
    receiver.wait_for(1).await;
    assert_eq!(status(&client.post(post(&receiver.url("/"))).await), 200);
    gate.open();
    assert_eq!(status(&slow.await.unwrap()), 200);
}

#[tokio::test]
async fn garbage_is_a_failure_of_its_own_and_not_sent_again() {
    let receiver = Receiver::start().await;
    let client = client();
    client.post(post(&receiver.url("/"))).await;
    receiver.push(Step::Raw(Bytes::from_static(
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    )));
    let posted = client.post(post(&receiver.url("/"))).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Other);
    assert!(detail.ends_with("what it sent is not HTTP"), "{detail}");
    assert!(!posted.resent);
}

#[tokio::test]
async fn interim_answers_without_end_are_cut_off() {
    let receiver = Receiver::start().await;
    let flood = b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n".repeat(200_000);
    receiver.push(Step::Raw(Bytes::from(flood)));
    let posted = client().post(post(&receiver.url("/"))).await;
    let (_, detail) = failure(&posted);
    assert!(detail.contains("the peer sent more than"), "{detail}");
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let receiver = Receiver::start().await;
    receiver.push(Answer::new(200).header("x-long", &"x".repeat(1024 * 1024)));
    let posted = client().post(post(&receiver.url("/"))).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Other);
    assert!(
        detail.ends_with("the head of its answer is too large"),
        "{detail}"
    );
}

#[tokio::test]
async fn an_answer_with_thousands_of_headers_is_refused() {
    let receiver = Receiver::start().await;
    let mut answer = Answer::new(200);
    for _ in 0..2000 {
        answer = answer.header("x-a", "b");
    }
    receiver.push(answer);
    let posted = client().post(post(&receiver.url("/"))).await;
    assert_eq!(failure(&posted).0, FailureKind::Other);
}

#[tokio::test]
async fn the_deadline_holds_while_the_peer_takes_no_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut big = post_within(&format!("http://{address}/"), SHORT);
    big.body = Bytes::from(vec![b'.'; 32 * 1024 * 1024]);
    let before = Instant::now();
    let posted = client().post(big).await;
    assert_eq!(failure(&posted).0, FailureKind::Timeout);
    assert!(before.elapsed() < LONG);
}

#[tokio::test]
async fn a_url_that_cannot_be_called_is_a_failure_and_no_panic() {
    let posted = client().post(post("/no-host")).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(
        (kind, detail),
        (FailureKind::Other, "the URL names no host")
    );
    let posted = client().post(post("ftp://127.0.0.1/")).await;
    assert!(matches!(posted.result, AttemptResult::Failure { .. }));
}
