//! What every request meets, whatever it asks for.

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::api::{ApiClient, http_client};
use crate::support::pombo::{Pombo, World};
use crate::support::tls::TestCa;
use crate::support::wait::until;

#[tokio::test]
async fn a_path_that_does_not_exist_is_told_as_a_problem() {
    let world = World::new().await;
    let pombo = world.config.start().await;
    let token = world.webhooks.operator_token().await;
    let answer = pombo.api().with_token(&token).get("/v1/nothing").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json["status"], 404);
}

#[tokio::test]
async fn the_api_is_not_served_where_it_is_switched_off() {
    let world = World::with("[api]\nenabled = false").await;
    let pombo = world.config.spawn().await;
    let line = pombo.log().wait_for("pombo starts").await;
    assert!(!line.contains("\"api\""), "{line}");
    assert_eq!(pombo.stop().await, Some(0));
}

#[tokio::test]
async fn the_first_line_of_the_log_tells_where_the_api_is() {
    let world = World::new().await;
    let pombo = world.config.spawn().await;
    assert_eq!(pombo.api().get("/").await.status, 404);
    assert_eq!(pombo.stop().await, Some(0));
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_so_has_every_line_of_the_log() {
    let world = World::with("[logging]\nlevel = \"debug\"").await;
    let pombo = world.config.spawn().await;
    let token = world.webhooks.operator_token().await;
    let client = pombo.api().with_token(&token);
    let own = client.get("/v1/tokens").await;
    assert_eq!(own.header("x-request-id").len(), 24);
    assert_eq!(own.header("x-content-type-options"), "nosniff");
    let given = client
        .with_header("x-request-id", "order-17")
        .get("/v1/tokens?secret=hunter2")
        .await;
    assert_eq!(given.status, 422);
    assert_eq!(given.header("x-request-id"), "order-17");
    let line = pombo.log().wait_for("order-17").await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
    assert_eq!(line["message"], "answered");
    assert_eq!(line["route"], "/v1/tokens");
    assert_eq!(line["status"], 422);
    assert_eq!(line["caller"], "operator");
    let refused = pombo
        .api()
        .with_token("pmb_nobody's")
        .get("/v1/tokens")
        .await;
    assert_eq!(refused.status, 401);
    let id = refused.header("x-request-id").to_owned();
    let line = pombo.log().wait_for(&id).await;
    assert!(line.contains("\"caller\":\"none\""), "{line}");
    let log = pombo.log().lines().join("\n");
    for hidden in [token.as_str(), "hunter2", "nobody's"] {
        assert!(!log.contains(hidden), "{hidden} is in\n{log}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_the_template_of_their_path() {
    let world = World::new().await;
    let pombo = world.config.start().await;
    let token = world.webhooks.operator_token().await;
    let client = pombo.api().with_token(&token);
    for path in ["/v1/tokens/tok_1", "/v1/tokens/tok_2"] {
        client.delete(path).await.expect(404);
    }
    client.get("/nothing/at/all").await.expect(404);
    let brew = Method::from_bytes(b"BREW").expect("a method");
    let wrong = client.send(brew, "/v1/tokens", |request| request).await;
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (405, "POST,GET,HEAD")
    );
    for (route, method, status, count) in [
        ("/v1/tokens/{tokenId}", "DELETE", "404", 2.0),
        ("unmatched", "GET", "404", 1.0),
        ("/v1/tokens", "other", "405", 1.0),
    ] {
        let labels = [("route", route), ("method", method), ("status", status)];
        let counted = pombo.metric("pombo_api_requests_total", &labels).await;
        assert_eq!(counted, count, "{labels:?}");
        let labels = [("route", route), ("method", method)];
        let timed = "pombo_api_request_duration_seconds_count";
        assert_eq!(pombo.metric(timed, &labels).await, count, "{labels:?}");
    }
}

/// Sends bytes as they are, and returns what comes until the connection ends.
async fn raw(pombo: &Pombo, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(pombo.api_address())
        .await
        .expect("a connection");
    // The other side may have had enough before all is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_answer_arrives() {
    let world = World::with("[api]\nmax_body = \"16KiB\"").await;
    let pombo = world.config.start().await;
    let token = world.webhooks.operator_token().await;
    let client = pombo.api().with_token(&token);
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(1 << 20));
    let sized = client
        .send(Method::POST, "/v1/tokens", |request| {
            request
                .header("content-type", "application/json")
                .body(large.clone())
        })
        .await;
    assert_eq!(sized.header("content-type"), "application/problem+json");
    assert!(sized.text.contains("16384"), "{}", sized.text);
    sized.expect(413);
    let head = format!(
        "POST /v1/tokens HTTP/1.1\r\nhost: pombo\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    let answer = raw(
        &pombo,
        format!("{head}GET / HTTP/1.1\r\nhost: pombo\r\nconnection: close\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // Without a token nothing of the body is looked at, and the answer comes all the same.
    let stranger = pombo
        .api()
        .post("/v1/tokens", &serde_json::json!({"name": large}))
        .await;
    assert!([401, 413].contains(&stranger.status), "{}", stranger.status);
}

#[tokio::test]
async fn a_head_without_end_is_431_and_what_is_no_http_400() {
    let world = World::new().await;
    let pombo = world.config.start().await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: pombo\r\nx: {}\r\n\r\n",
        "x".repeat(64 << 10)
    );
    let answer = raw(&pombo, long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = format!(
        "GET / HTTP/1.1\r\nhost: pombo\r\n{}\r\n",
        "x: y\r\n".repeat(500)
    );
    let answer = raw(&pombo, many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = raw(&pombo, b"hello there\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_and_are_served_then() {
    let world = World::with("[api]\nmax_connections = 1").await;
    let pombo = world.config.start().await;
    let ask = b"GET / HTTP/1.1\r\nhost: pombo\r\n\r\n";
    let mut first = TcpStream::connect(pombo.api_address()).await.expect("one");
    first.write_all(ask).await.expect("sent");
    let mut begun = [0; 12];
    first.read_exact(&mut begun).await.expect("an answer");
    let mut second = TcpStream::connect(pombo.api_address()).await.expect("two");
    second.write_all(ask).await.expect("sent");
    let mut answer = [0; 12];
    let waited = tokio::time::timeout(
        std::time::Duration::from_millis(200),
        second.read_exact(&mut answer),
    );
    assert!(waited.await.is_err(), "the second does not wait");
    drop(first);
    second.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 404");
}

#[tokio::test]
async fn without_redis_it_is_503_and_with_it_all_is_well_again() {
    let mut world = World::new().await;
    let pombo = world.config.start().await;
    let token = world.webhooks.operator_token().await;
    let client = pombo.api().with_token(&token);
    client.get("/v1/tokens").await.expect(200);
    world.redis.kill();
    let away = until(
        "a refusal",
        async || client.get("/v1/tokens").await,
        |answer| answer.status != 200,
    )
    .await;
    assert!(!away.header("retry-after").is_empty());
    assert_eq!(away.expect(503)["type"], "urn:pombo:problem:unavailable");
    world.redis.restart().await;
    world.webhooks.connected().await;
    // This Redis keeps nothing: the token is gone with it, and a new one is as good.
    let answer = until(
        "an answer",
        async || client.get("/v1/tokens").await,
        |answer| answer.status != 503,
    )
    .await;
    answer.expect(401);
}

#[tokio::test]
async fn over_tls_with_http2_and_a_certificate_that_is_replaced_while_it_runs() {
    let (old, new) = (TestCa::new(), TestCa::new());
    let world = World::new().await;
    let directory = world.config.directory().to_owned();
    let (certificate, key) = (directory.join("api.pem"), directory.join("api.key"));
    let install = |authority: &TestCa| {
        let (chain, private) = authority.issue(&["127.0.0.1"]);
        std::fs::write(&certificate, chain).expect("a written certificate");
        std::fs::write(&key, private).expect("a written key");
    };
    install(&old);
    let world = world.change(&format!(
        "[api]\ntls_certificate_file = {certificate:?}\ntls_key_file = {key:?}"
    ));
    let pombo = world.config.start().await;
    let token = world.webhooks.operator_token().await;
    let url = format!("https://{}", pombo.api_address());
    let trusting = |authority: &TestCa| {
        let client = http_client(Some(authority.file()));
        ApiClient::new(client, url.clone()).with_token(&token)
    };
    let before = trusting(&old);
    before.get("/v1/tokens").await.expect(200);
    assert_eq!(http2_status(&pombo, &old, &token).await, 200);

    // What cannot be used changes nothing.
    std::fs::write(&key, "no key").expect("a written file");
    trusting(&old).get("/v1/tokens").await.expect(200);
    install(&new);
    let after = trusting(&new);
    until(
        "the new certificate",
        async || {
            let answer = after.try_send(Method::GET, "/v1/tokens", |request| request);
            answer.await.map(|answer| answer.status).ok()
        },
        |status| *status == Some(200),
    )
    .await;
    // The connection that was there goes on.
    before.get("/v1/tokens").await.expect(200);
    let refused = trusting(&old)
        .try_send(Method::GET, "/v1/tokens", |request| request)
        .await;
    assert!(refused.is_err(), "{refused:?}");
}

/// The status of a listing over HTTP/2.
async fn http2_status(pombo: &Pombo, authority: &TestCa, token: &str) -> u16 {
    let tls = tokio_rustls::TlsConnector::from(authority.client_config(&["h2"]));
    let stream = TcpStream::connect(pombo.api_address())
        .await
        .expect("a connection");
    let name = "127.0.0.1".try_into().expect("a name");
    let stream = tls.connect(name, stream).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::get("https://127.0.0.1/v1/tokens")
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .expect("a request");
    let (answer, _) = client.send_request(request, true).expect("a sent request");
    answer.await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told_before_anything_starts() {
    let world = World::new().await;
    let path = world.config.directory().join("no.pem");
    std::fs::write(&path, "nothing").expect("a written file");
    let world = world.change(&format!(
        "[api]\ntls_certificate_file = {path:?}\ntls_key_file = {path:?}"
    ));
    let mut pombo = world.config.spawn_unready().await;
    assert_eq!(pombo.wait().await.code(), Some(78));
    let log = pombo.log().lines().join("\n");
    assert!(log.contains("api.tls_certificate_file"), "{log}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_with_its_setting() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let world = world.change(&format!("[api]\nlisten = \"{address}\""));
    let mut pombo = world.config.spawn_unready().await;
    assert_eq!(pombo.wait().await.code(), Some(1));
    let log = pombo.log().lines().join("\n");
    assert!(log.contains("api.listen"), "{log}");
}
