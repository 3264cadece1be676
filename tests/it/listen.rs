//! The local receiver of `pombo listen`, and the client's deliveries to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use pombo::cli::listen::{Delivery, Listener, Reply};
use pombo::cli::signature_check::{Check, Checker};
use pombo::clock::Clock;
use pombo::dispatch::http_client::{Endpoint, HttpClient, Post};
use pombo::outcome::AttemptResult;
use pombo::settings::{Secret, Settings};
use pombo::signature::{Scheme, SigningKeys};
use pombo::target::TargetRules;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const BODY: &[u8] = br#"{"id":"evt_1","type":"crm.lead.created","data":{"n":1.50}}"#;
const NOW: u64 = 1_773_403_200;

fn client() -> HttpClient {
    let rules = TargetRules::new(vec!["127.0.0.0/8".parse().unwrap()], false);
    let delivery = Settings::defaults_for_tests().delivery;
    HttpClient::new(Arc::new(rules), &delivery, None).unwrap()
}

fn signed_at(unix_s: u64, to: &Listener) -> Post {
    let keys = SigningKeys::new(&[Secret::new(SECRET)]);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-event-type", "crm.lead.created".to_owned()),
        ("x-event-id", "evt_1".to_owned()),
        ("x-delivery-id", "wh.abc".to_owned()),
        ("x-delivery-attempt", "3".to_owned()),
        ("x-signature", keys.sign(Scheme::Timestamped, unix_s, BODY)),
        ("webhook-id", "evt_1".to_owned()),
        ("webhook-timestamp", unix_s.to_string()),
        (
            "webhook-signature",
            keys.sign_standard("evt_1", unix_s, BODY).unwrap(),
        ),
    ] {
        headers.insert(name, HeaderValue::from_str(&value).unwrap());
    }
    let url = format!("http://{}/hook", to.local_addr());
    Post {
        to: Arc::new(Endpoint::new(url.parse().unwrap())),
        headers,
        body: Bytes::from_static(BODY),
        timeout: std::time::Duration::from_secs(30),
    }
}

async fn listener() -> Listener {
    let (clock, _) = Clock::simulated(NOW * 1000, 0);
    let header = "x-signature".parse().unwrap();
    let secrets = vec![Secret::new("an older one"), Secret::new(SECRET)];
    let checker = Checker::new(secrets, header, Scheme::Timestamped, 300);
    let address = "127.0.0.1:0".parse().unwrap();
    Listener::bind(address, checker, clock).await.unwrap()
}

#[tokio::test]
async fn a_delivery_is_checked_and_handed_over_and_answered_as_the_callback_says() {
    let listener = listener().await;
    let (genuine, stale) = (signed_at(NOW, &listener), signed_at(NOW - 301, &listener));
    let mut forged = signed_at(NOW, &listener);
    forged.body = Bytes::from_static(b"{}");

    let (seen, mut deliveries) = mpsc::unbounded_channel::<Delivery>();
    let count = AtomicU32::new(0);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(listener.serve(
        move |delivery| {
            seen.send(delivery.clone()).unwrap();
            let status = [200, 503, 410][count.fetch_add(1, Ordering::SeqCst) as usize];
            Reply {
                status: StatusCode::from_u16(status).unwrap(),
                ..Reply::OK
            }
        },
        stop.clone(),
    ));

    let client = client();
    for (post, expected) in [(genuine, 200), (stale, 503), (forged, 410)] {
        let posted = client.post(post).await;
        let AttemptResult::Answer { status, .. } = posted.result else {
            panic!("no answer: {:?}", posted.result);
        };
        assert_eq!(status, expected);
    }

    let delivery = deliveries.recv().await.unwrap();
    assert_eq!(delivery.checks.signature, Check::Verified);
    assert_eq!(delivery.checks.standard, Check::Verified);
    assert_eq!(delivery.body, BODY);
    assert_eq!(delivery.path, "/hook");
    assert_eq!(delivery.event_type(), Some("crm.lead.created"));
    assert_eq!(delivery.event_id(), Some("evt_1"));
    assert_eq!(delivery.delivery_id(), Some("wh.abc"));
    assert_eq!(delivery.attempt(), Some(3));
    assert_eq!(delivery.at_ms, NOW * 1000);
    for _ in 0..2 {
        let checks = deliveries.recv().await.unwrap().checks;
        assert!(matches!(checks.signature, Check::Failed(_)));
        assert!(matches!(checks.standard, Check::Failed(_)));
        assert!(!checks.hold());
    }

    stop.cancel();
    serving.await.unwrap();
    assert!(deliveries.recv().await.is_none());
}
