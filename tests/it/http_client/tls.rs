//! TLS: whom the client trusts, and what it says when it does not.

use super::*;

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_a_tls_failure() {
    let ca = TestCa::new();
    let receiver = Receiver::start_tls(&ca).await;
    let posted = client().post(post(&receiver.url("/"))).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Tls);
    let reason = "its certificate was issued by nobody that is trusted here";
    assert!(detail.ends_with(reason), "{detail}");
    assert_eq!(receiver.received().len(), 0);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_tls_failure() {
    let ca = TestCa::new();
    let receiver = Receiver::start_tls_as(&ca, &["other.example"], &["http/1.1"]).await;
    let url = receiver.url_by_name("localhost", "/");
    let posted = client_trusting(&ca).post(post(&url)).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Tls);
    assert!(
        detail.ends_with("its certificate is not for localhost"),
        "{detail}"
    );
}

#[tokio::test]
async fn plain_http_where_tls_is_expected_is_a_tls_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answering = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        stream
    };
    let client = client();
    let url = format!("https://{address}/");
    let (posted, _) = tokio::join!(client.post(post(&url)), answering);
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Tls);
    assert!(detail.ends_with("what it sent is not TLS"), "{detail}");
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_costs_the_connect_timeout_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hasty = DeliverySettings {
        connect_timeout: SHORT,
        ..settings()
    };
    let client = HttpClient::new(loopback_allowed(), &hasty, None).unwrap();
    let posted = client.post(post(&format!("https://{address}/"))).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Timeout);
    assert_eq!(
        detail,
        format!("no TLS session with {address} within 800ms")
    );
}

#[tokio::test]
async fn https_with_a_private_authority_works_by_name_and_by_address() {
    let ca = TestCa::new();
    let receiver = Receiver::start_tls(&ca).await;
    let client = client_trusting(&ca);
    for url in [receiver.url("/"), receiver.url_by_name("localhost", "/")] {
        assert_eq!(status(&client.post(post(&url)).await), 200);
        assert_eq!(status(&client.post(post(&url)).await), 200);
    }
    let received = receiver.received();
    assert!(received.iter().all(|r| r.version == Version::HTTP_11));
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_request_lost_on_a_reused_tls_connection_is_sent_again() {
    let ca = TestCa::new();
    let receiver = Receiver::start_tls(&ca).await;
    let client = client_trusting(&ca);
    for step in [Step::Reset, Step::Close] {
        client.post(post(&receiver.url("/"))).await;
        receiver.push(step);
        let posted = client.post(post(&receiver.url("/"))).await;
        assert_eq!(status(&posted), 200);
        assert!(posted.resent);
    }
}

#[test]
fn a_file_of_authorities_that_is_no_use_is_refused_with_its_name() {
    let client = |path: &Path| HttpClient::new(loopback_allowed(), &settings(), Some(path));
    let missing = client(Path::new("/nowhere/ca.pem")).unwrap_err();
    assert!(matches!(missing, HttpClientError::ReadCa { .. }));
    assert!(missing.to_string().contains("/nowhere/ca.pem"), "{missing}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let empty = client(empty.path()).unwrap_err();
    assert!(matches!(empty, HttpClientError::EmptyCa { .. }), "{empty}");
}
