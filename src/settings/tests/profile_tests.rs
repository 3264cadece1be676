//! The profiles hold what the platforms' contracts say.

use super::super::*;
use crate::signature::Scheme;
use crate::webhook::BodyMode;

fn profile(name: &str, file: &str, env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pombo.toml");
    std::fs::write(&path, file).unwrap();
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(Some(name), Some(&path), env)
}

fn types(settings: &Settings) -> Vec<&str> {
    let events = settings.catalogue.events.iter();
    events.map(|event| event.event_type.as_str()).collect()
}

#[test]
fn jurichat_has_its_routes_at_the_root_and_its_own_names() {
    let settings = profile("jurichat", "", &[]).unwrap();
    let api = &settings.api;
    assert_eq!(
        (api.base_path.as_str(), api.tenant_field.as_str()),
        ("", "officeId")
    );
    assert_eq!(api.key_header, "x-jurichat-api-key");
    assert_eq!(api.jwt.tenant_claim, "officeId");
    let signature = &settings.signature;
    assert_eq!(
        (signature.header.as_str(), signature.scheme),
        ("x-jurichat-signature", Scheme::Sha256)
    );
    assert_eq!(settings.delivery.tenant_field, "officeId");
    assert_eq!(settings.delivery.body_mode, BodyMode::Envelope);
    assert_eq!(
        types(&settings),
        [
            "crm.lead.created",
            "crm.lead.updated",
            "crm.lead.deleted",
            "crm.lead.moved",
            "chat.conversation.created",
            "chat.conversation.updated",
            "chat.conversation.assigned",
            "contact.created",
            "contact.updated",
            "contact.deleted",
            "webhook.test",
        ]
    );
}

#[test]
fn wts_chat_has_the_labels_of_its_settings_page() {
    let settings = profile("wts-chat", "", &[]).unwrap();
    assert_eq!(settings.api.base_path, "/v1");
    let events = settings.catalogue.events.iter();
    let labels: Vec<(&str, &str)> = events
        .map(|event| (event.event_type.as_str(), event.description.as_str()))
        .collect();
    assert_eq!(
        labels,
        [
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
        ]
    );
}

#[test]
fn every_event_type_of_a_profile_is_described_and_can_be_tried_out() {
    for (name, _) in PROFILES {
        let settings = profile(name, "", &[]).unwrap();
        for event in &settings.catalogue.events {
            assert!(!event.description.is_empty(), "{name} {event:?}");
            let has_sample = event.sample.is_some() || event.event_type == "webhook.test";
            assert!(has_sample, "{name} {event:?}");
        }
    }
}

#[test]
fn a_file_lies_over_the_profile_and_the_environment_over_both() {
    let file = "[api]\nbase_path = \"/file\"\ntenant_field = \"fileId\"\n";
    let env = [("POMBO_API__TENANT_FIELD", "envId")];
    let settings = profile("jurichat", file, &env).unwrap();
    assert_eq!(settings.api.base_path, "/file");
    assert_eq!(settings.api.tenant_field, "envId");
    assert_eq!(settings.api.key_header, "x-jurichat-api-key");
}

#[test]
fn a_profile_that_does_not_exist_is_told_with_those_that_do() {
    let error = profile("jurichad", "", &[]).unwrap_err().to_string();
    for text in ["jurichad", "jurichat", "wts-chat"] {
        assert!(error.contains(text), "{error}");
    }
}
