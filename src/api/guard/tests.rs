//! The guards around routes of the test's own.

use axum::body::to_bytes;
use axum::routing::{get, post};
use bytes::Bytes;
use tower_service::Service as _;

use super::*;

/// Routes behind the guards: `/slow` never ends, `/panic` panics, `/echo` answers with what it got.
fn guarded(change: impl FnOnce(&mut Settings)) -> (Router, Arc<Metrics>) {
    let mut settings = Settings::defaults_for_tests();
    change(&mut settings);
    let metrics = Metrics::new();
    let guards = Guards::new(&Arc::new(settings), &Clock::system(), &metrics).unwrap();
    let routes = Router::new()
        .route("/slow/{id}", get(std::future::pending::<()>))
        .route("/panic", get(async || -> () { panic!("on purpose") }))
        .route("/echo", post(async |body: Bytes| body));
    (guards.around(routes), metrics)
}

async fn call(router: &Router, method: &str, path: &str, body: Body) -> Response {
    let request = Request::builder().method(method).uri(path);
    let called = router.clone().call(request.body(body).unwrap());
    called.await.unwrap()
}

async fn problem(response: Response) -> serde_json::Value {
    assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    assert!(response.headers().contains_key(REQUEST_ID));
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_panic_is_a_problem_and_not_a_broken_connection() {
    let (router, metrics) = guarded(|_| {});
    let answer = call(&router, "GET", "/panic", Body::empty()).await;
    assert_eq!(answer.status(), 500);
    let told = problem(answer).await;
    assert_eq!(told["type"], "urn:pombo:problem:internal");
    assert!(!told.to_string().contains("on purpose"));
    let counted = r#"pombo_api_requests_total{method="GET",route="/panic",status="500"} 1"#;
    assert!(metrics.render().contains(counted));
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_503_and_a_body_that_does_not_come_408() {
    let (router, _) = guarded(|settings| {
        settings.api.request_timeout = Duration::from_millis(20);
    });
    let slow = call(&router, "GET", "/slow/7", Body::empty()).await;
    assert_eq!(slow.status(), 503);
    assert!(slow.headers().contains_key(header::RETRY_AFTER));
    let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>());
    let unfinished = call(&router, "POST", "/echo", never).await;
    assert_eq!(unfinished.status(), 408);
    assert_eq!(
        problem(unfinished).await["type"],
        "urn:pombo:problem:timeout"
    );
}

#[tokio::test]
async fn too_large_a_body_is_413_with_and_without_a_content_length() {
    let (router, _) = guarded(|settings| settings.api.max_body = 16 << 10);
    let whole = |length: usize| Body::from(vec![b'x'; length]);
    let fits = call(&router, "POST", "/echo", whole(16 << 10)).await;
    assert_eq!(fits.status(), 200);
    let told = call(&router, "POST", "/echo", whole((16 << 10) + 1)).await;
    assert_eq!(told.status(), 413);
    let detail = problem(told).await["detail"].to_string();
    assert!(detail.contains("16384"), "{detail}");
    let chunks = (0..64).map(|_| Ok::<_, axum::Error>(Bytes::from(vec![b'x'; 1 << 10])));
    let chunked = Body::from_stream(futures_util::stream::iter(chunks));
    let told = call(&router, "POST", "/echo", chunked).await;
    assert_eq!(told.status(), 413);
    problem(told).await;
}

#[tokio::test]
async fn no_more_requests_are_at_work_than_allowed() {
    let (router, metrics) = guarded(|settings| settings.api.max_concurrent_requests = 1);
    let first = tokio::spawn({
        let router = router.clone();
        async move { call(&router, "GET", "/slow/1", Body::empty()).await }
    });
    // On this one thread it runs until it waits, and then has its place.
    tokio::task::yield_now().await;
    let busy = call(&router, "POST", "/echo", Body::empty()).await;
    assert_eq!(busy.status(), 503);
    assert!(busy.headers().contains_key(header::RETRY_AFTER));
    problem(busy).await;
    // A client that hangs up is counted; its request goes on and keeps its place.
    first.abort();
    assert!(first.await.is_err());
    let counted = r#"pombo_api_requests_total{method="GET",route="/slow/{id}",status="499"} 1"#;
    assert!(metrics.render().contains(counted), "{}", metrics.render());
    let busy = call(&router, "POST", "/echo", Body::empty()).await;
    assert_eq!(busy.status(), 503);
}

#[tokio::test]
async fn a_browser_of_an_allowed_origin_may_ask_and_read_and_no_other() {
    let (router, _) = guarded(|settings| {
        settings.api.cors_origins = vec!["https://console.example.com".to_owned()];
    });
    let ask = async |origin: &'static str, method: &str| {
        let request = Request::builder()
            .method(method)
            .uri("/echo")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization");
        let called = router.clone().call(request.body(Body::empty()).unwrap());
        called.await.unwrap()
    };
    let preflight = ask("https://console.example.com", "OPTIONS").await;
    assert_eq!(preflight.status(), 200);
    let told = |name: &str| preflight.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        told("access-control-allow-origin"),
        "https://console.example.com"
    );
    assert!(told("access-control-allow-methods").contains("PATCH"));
    assert!(told("access-control-allow-headers").contains("x-api-key"));
    assert!(preflight.headers().contains_key(REQUEST_ID));
    let answer = ask("https://console.example.com", "POST").await;
    let exposed = answer.headers()["access-control-expose-headers"]
        .to_str()
        .unwrap();
    for name in ["etag", "x-request-id", "location", "retry-after"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    let other = ask("https://evil.example", "OPTIONS").await;
    assert!(!other.headers().contains_key("access-control-allow-origin"));
}

fn id_for(given: Option<&str>) -> String {
    let (clock, _) = Clock::simulated(0, 1);
    let mut headers = HeaderMap::new();
    if let Some(given) = given {
        headers.insert(
            REQUEST_ID,
            HeaderValue::from_bytes(given.as_bytes()).unwrap(),
        );
    }
    let id = request_id(&clock, &headers);
    id.to_str().unwrap().to_owned()
}

#[test]
fn a_request_id_is_taken_over_if_it_is_short_and_visible() {
    assert_eq!(
        id_for(Some("order-17/é".trim_end_matches('é'))),
        "order-17/"
    );
    assert_eq!(id_for(Some(&"x".repeat(128))).len(), 128);
    for refused in [
        None,
        Some(""),
        Some("two words"),
        Some("é"),
        Some(&*"x".repeat(129)),
    ] {
        let id = id_for(refused);
        assert_eq!(id.len(), 24, "{refused:?}");
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}

#[test]
fn methods_that_clients_make_up_are_one_in_metrics() {
    assert_eq!(method_label(&Method::PATCH), "PATCH");
    for made_up in ["BREW", "get", "TRACE"] {
        assert_eq!(method_label(&made_up.parse().unwrap()), "other");
    }
}

#[test]
fn events_may_be_larger_than_anything_else() {
    let mut settings = Settings::defaults_for_tests();
    settings.delivery.max_payload = 8 << 20;
    let most = |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path);
        largest_body(&settings, &request.body(Body::empty()).unwrap())
    };
    assert_eq!(most(Method::POST, "/v1/events"), (8 << 20) + (64 << 10));
    assert_eq!(most(Method::POST, "/v1/events?a=b"), (8 << 20) + (64 << 10));
    for (method, path) in [
        (Method::GET, "/v1/events"),
        (Method::POST, "/v1/events/x"),
        (Method::POST, "/events"),
        (Method::POST, "/v1/webhooks"),
    ] {
        assert_eq!(most(method, path), 1 << 20, "{path}");
    }
}

#[tokio::test]
async fn errors_of_the_framework_become_problems() {
    for status in [400, 404, 405, 413, 415, 418, 500] {
        let mut plain = Response::new(Body::from("Failed to buffer the request body"));
        *plain.status_mut() = StatusCode::from_u16(status).unwrap();
        plain
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET"));
        let told = as_problem(plain, 7);
        assert_eq!(told.status().as_u16(), status);
        assert_eq!(told.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(told.headers()[header::ALLOW], "GET");
    }
    let fine = as_problem(Response::new(Body::from("fine")), 7);
    assert!(!fine.headers().contains_key(header::CONTENT_TYPE));
}
