//! The document in the words of the settings: whatever they call the tenant, and event types that there are.

use serde_json::{Map, Value};

use crate::api::TENANT_FIELD;
use crate::settings::Settings;

/// The event type that examples are about where there is no catalogue that says otherwise.
pub(super) const EXAMPLE_TYPE: &str = "crm.lead.created";
/// The pattern that stands in examples.
const EXAMPLE_PATTERN: &str = "crm.lead.*";

/// Puts the names of the settings into the document.
pub(super) fn adapt(document: &mut Value, settings: &Settings) {
    let tenant = settings.api.tenant_field.as_str();
    if tenant != TENANT_FIELD {
        rename(document, tenant);
    }
    let catalogue = &settings.catalogue;
    if let Some(first) = catalogue.events.first()
        && catalogue.find(EXAMPLE_TYPE).is_none()
    {
        let event_type = first.event_type.as_str();
        let pattern = match event_type.rsplit_once('.') {
            Some((family, _)) => format!("{family}.*"),
            None => "*".to_owned(),
        };
        exemplify(document, event_type, &pattern);
    }
}

/// Replaces the tenant's field wherever it is named: as a property, a parameter, and within texts.
fn rename(value: &mut Value, to: &str) {
    match value {
        Value::String(text) => *text = replace_word(text, TENANT_FIELD, to),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, to)),
        Value::Object(members) => {
            *members = std::mem::take(members)
                .into_iter()
                .map(|(name, mut member)| {
                    rename(&mut member, to);
                    let name = match name == TENANT_FIELD {
                        true => to.to_owned(),
                        false => name,
                    };
                    (name, member)
                })
                .collect::<Map<_, _>>();
        }
        _ => {}
    }
}

/// Replaces `word` where it is not a part of a longer one.
fn replace_word(text: &str, word: &str, by: &str) -> String {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, from) = rest.split_at(at);
        let after = &from[word.len()..];
        let alone = !before.ends_with(part_of_word) && !after.starts_with(part_of_word);
        replaced.push_str(before);
        replaced.push_str(if alone { by } else { word });
        rest = after;
    }
    replaced + rest
}

/// Replaces the event type of the examples, so that a call tried as it stands there is not refused.
fn exemplify(value: &mut Value, event_type: &str, pattern: &str) {
    match value {
        Value::String(text) => {
            let (kind, filter) = (EXAMPLE_TYPE, EXAMPLE_PATTERN);
            if text.contains(kind) || text.contains(filter) {
                *text = text.replace(kind, event_type).replace(filter, pattern);
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| exemplify(item, event_type, pattern)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| exemplify(member, event_type, pattern)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_tenant_is_renamed_in_names_and_in_texts_but_not_within_words() {
        let mut document = json!({
            "properties": {"tenantId": {"description": "`tenantId`, not notTenantId or tenantIds."}},
            "required": ["id", "tenantId"],
            "example": [{"tenantId": "acme"}],
            "name": "tenantId",
        });
        rename(&mut document, "officeId");
        assert_eq!(
            document,
            json!({
                "properties": {"officeId": {"description": "`officeId`, not notTenantId or tenantIds."}},
                "required": ["id", "officeId"],
                "example": [{"officeId": "acme"}],
                "name": "officeId",
            })
        );
    }

    #[test]
    fn examples_are_about_types_of_the_catalogue() {
        let mut document = json!({"example": ["crm.lead.created", "crm.lead.*", "other"]});
        exemplify(&mut document, "session.created", "session.*");
        assert_eq!(
            document["example"],
            json!(["session.created", "session.*", "other"])
        );
    }
}
