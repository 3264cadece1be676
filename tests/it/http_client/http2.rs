//! HTTP/2: one connection, many streams, each on its own.

use super::*;

#[tokio::test]
async fn http2_is_spoken_where_it_is_offered_and_shares_one_connection() {
    let ca = TestCa::new();
    let receiver = Receiver::start_http2(&ca).await;
    let client = client_trusting(&ca);
    let url = receiver.url_by_name("localhost", "/hook");
    assert_eq!(status(&client.post(post(&url)).await), 200);
    let gate = Gate::new();
    for _ in 0..20 {
        receiver.push(Answer::new(204).after(&gate));
    }
    let posts = futures_util::future::join_all((0..20).map(|_| client.post(post(&url))));
    let (posted, _) = tokio::join!(posts, async {
        receiver.wait_for(21).await;
        gate.open();
    });
    assert!(posted.iter().all(|posted| status(posted) == 204));
    let received = receiver.received();
    assert!(received.iter().all(|r| r.version == Version::HTTP_2));
    assert!(received.iter().all(|r| r.body == br#"{"a":1}"#.as_slice()));
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn an_endless_body_over_http2_costs_its_stream_only() {
    let ca = TestCa::new();
    let receiver = Receiver::start_http2(&ca).await;
    let client = client_trusting(&ca);
    let url = receiver.url("/");
    for _ in 0..50 {
        receiver.push(Answer::new(200).endless());
        let posted = client.post(post(&url)).await;
        assert_eq!(status(&posted), 200);
        assert_eq!(body_start(&posted).len(), 1024);
    }
    assert_eq!(status(&client.post(post(&url)).await), 200);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_stream_that_is_reset_over_http2_is_a_failure_and_not_sent_again() {
    let ca = TestCa::new();
    let receiver = Receiver::start_http2(&ca).await;
    let client = client_trusting(&ca);
    let url = receiver.url("/");
    client.post(post(&url)).await;
    receiver.push(Step::Reset);
    let posted = client.post(post(&url)).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Other, "{detail}");
    assert!(detail.contains("reset the HTTP/2 stream"), "{detail}");
    assert!(!posted.resent);
    assert_eq!(status(&client.post(post(&url)).await), 200);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_request_lost_with_its_reused_http2_connection_is_sent_again() {
    let ca = TestCa::new();
    let receiver = Receiver::start_http2(&ca).await;
    let client = client_trusting(&ca);
    let url = receiver.url("/");
    client.post(post(&url)).await;
    receiver.push(Step::Close);
    let posted = client.post(post(&url)).await;
    assert_eq!(status(&posted), 200);
    assert!(posted.resent);
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_request_lost_with_a_fresh_http2_connection_is_a_failure() {
    let ca = TestCa::new();
    let receiver = Receiver::start_http2(&ca).await;
    receiver.push(Step::Close);
    let posted = client_trusting(&ca).post(post(&receiver.url("/"))).await;
    assert_eq!(failure(&posted).0, FailureKind::Connect);
    assert!(!posted.resent);
}

#[tokio::test]
async fn a_stalled_http2_connection_is_left_by_later_requests_and_kept_for_earlier_ones() {
    let ca = TestCa::new();
    let receiver = Receiver::start_http2(&ca).await;
    let client = client_trusting(&ca);
    let url = receiver.url("/");
    let gate = Gate::new();
    receiver.push(Answer::new(202).after(&gate));
    let earlier = tokio::spawn({
        let (client, url) = (client.clone(), url.clone());
        async move { client.post(post(&url)).await }
    });
    receiver.wait_for(1).await;
    receiver.push(Step::Hang);
    let posted = client.post(post_within(&url, SHORT)).await;
    assert_eq!(failure(&posted).0, FailureKind::Timeout);
    assert_eq!(status(&client.post(post(&url)).await), 200);
    assert_eq!(receiver.connections(), 2);
    gate.open();
    assert_eq!(status(&earlier.await.unwrap()), 202);
}

#[tokio::test]
async fn a_drip_over_http2_keeps_its_outcome_and_its_connection() {
    let ca = TestCa::new();
    let receiver = Receiver::start_http2(&ca).await;
    let client = client_trusting(&ca);
    let url = receiver.url("/");
    receiver.push(Answer::new(202).drip(Duration::from_millis(20)));
    let posted = client.post(post_within(&url, SHORT)).await;
    assert_eq!(status(&posted), 202);
    assert_eq!(status(&client.post(post(&url)).await), 200);
    assert_eq!(receiver.connections(), 1);
}
