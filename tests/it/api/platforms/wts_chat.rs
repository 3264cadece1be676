//! The chat platform: its eleven events, and the calls that its settings page makes.

use serde_json::json;

use super::Platform;
use crate::support::receiver::Receiver;

const EVENTS: [(&str, &str); 11] = [
    ("session.created", "Atendimento criado"),
    ("session.updated", "Atendimento alterado"),
    ("session.completed", "Atendimento concluído"),
    ("message.received", "Mensagem recebida"),
    ("message.sent", "Mensagem enviada"),
    ("contact.created", "Contato criado"),
    ("contact.updated", "Contato alterado"),
    ("payment.created", "Pagamento criado"),
    ("payment.updated", "Pagamento alterado"),
    ("panel.card.created", "Item de painel criado"),
    ("panel.card.updated", "Item de painel alterado"),
];

async fn wts_chat() -> Platform {
    Platform::start("wts-chat", "/v1", "companyId").await
}

#[tokio::test]
async fn every_event_of_the_settings_page_reaches_who_asked_for_it() {
    let types = EVENTS.map(|(name, _)| name);
    wts_chat().await.every_event_arrives(&types).await;
}

#[tokio::test]
async fn the_catalogue_has_the_labels_of_the_settings_page() {
    let catalogue = wts_chat().await.catalogue().await;
    let expected = EVENTS.map(|(name, label)| (name.to_owned(), label.to_owned()));
    assert_eq!(catalogue, expected);
}

#[tokio::test]
async fn a_customer_generates_its_token_and_replaces_it() {
    let platform = wts_chat().await;
    let body = json!({ "companyId": "company-9", "name": "Token da API" });
    let made = platform
        .operator
        .post("/v1/tokens", &body)
        .await
        .expect(201);
    assert_eq!(made["companyId"], "company-9");
    let first = made["token"].as_str().expect("a token").to_owned();
    assert!(first.starts_with("pmb_"), "{first}");
    let customer = platform.pombo.api().with_token(&first);
    let replaced = customer
        .post("/v1/tokens/regenerate", &json!({}))
        .await
        .expect(201);
    let second = replaced["token"].as_str().expect("a token");
    assert_eq!(customer.get("/v1/webhooks").await.status, 401);
    let customer = platform.pombo.api().with_token(second);
    assert_eq!(customer.get("/v1/webhooks").await.expect(200), json!([]));
    let listed = customer.get("/v1/tokens").await.expect(200);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
    assert_ne!(listed[0]["token"], second, "it is masked afterwards");
}

#[tokio::test]
async fn a_customer_saves_a_url_and_changes_it_later() {
    let (platform, receiver) = (wts_chat().await, Receiver::start().await);
    let body = |url: &str| json!({ "name": "ERP", "url": url, "events": ["payment.created"] });
    let empty = platform.customer.post("/v1/webhooks", &body("")).await;
    assert_eq!(
        (empty.status, empty.refused()),
        (422, vec!["/url".to_owned()])
    );
    let wrong = platform
        .customer
        .post("/v1/webhooks", &body("meusite.com/webhook"))
        .await;
    assert_eq!(
        (wrong.status, wrong.refused()),
        (422, vec!["/url".to_owned()])
    );
    let saved = platform
        .customer
        .post(
            "/v1/webhooks",
            &body("http://exemplo.com:8080/webhook/receber"),
        )
        .await
        .expect(201);
    let path = format!("/v1/webhooks/{}", saved["id"].as_str().unwrap());
    let changed = json!({ "url": receiver.url("/hook") });
    platform.customer.patch(&path, &changed).await.expect(200);
    // The change is in force when its version is; until then the old URL, which cannot be called, is tried again.
    platform.in_force(1).await;
    platform
        .emit("pay-1", "payment.created", &json!({ "amount": "150.00" }))
        .await;
    let received = receiver.wait_for(1).await;
    assert!(received[0].header("x-signature").starts_with("t="));
}
