//! What must change so that Redis holds what a file declares; pure but for new uids and secrets.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::clock::Clock;
use crate::signature::generate_secret;
use crate::target::shown_url;
use crate::webhook::{Webhook, WebhookSpec};

/// Who made a webhook, for those that `pombo apply` made.
pub const MANAGED_BY: &str = "apply";

/// One difference, or that there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It does not exist yet.
    Create(Made),
    /// It is to become this one; its version is the one found.
    Update {
        /// The webhook as it shall be.
        webhook: Webhook,
        /// What is different.
        changes: Vec<Change>,
    },
    /// Its tenant changes, so that it is another webhook under the same id: nothing of one tenant reaches another.
    Recreate {
        /// What is deleted.
        old: Webhook,
        /// What is made in its place.
        new: Box<Made>,
    },
    /// It is to be deleted.
    Delete(Webhook),
    /// It is as it should be.
    Unchanged(Webhook),
    /// It was not made by `pombo apply`, and is left alone.
    Foreign(Webhook),
}

/// A webhook that is new.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The webhook.
    pub webhook: Webhook,
    /// Whether its secret was generated.
    pub generated: bool,
}

/// A field that is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Such as `retry.first`.
    pub field: String,
    /// What happens to it, without any secret.
    pub shown: String,
}

/// How to make steps.
#[derive(Debug, Clone, Copy)]
pub struct Planner<'a> {
    /// Where times, uids and secrets come from.
    pub clock: &'a Clock,
    /// Whether webhooks that others made are taken over.
    pub adopt: bool,
}

impl Step {
    /// The webhook's id.
    pub fn id(&self) -> &str {
        let webhook = match self {
            Step::Create(made) => &made.webhook,
            Step::Recreate { old, .. } => old,
            Step::Update { webhook, .. }
            | Step::Delete(webhook)
            | Step::Unchanged(webhook)
            | Step::Foreign(webhook) => webhook,
        };
        &webhook.spec.id
    }

    /// Whether it changes anything.
    pub fn is_change(&self) -> bool {
        !matches!(self, Step::Unchanged(_) | Step::Foreign(_))
    }
}

impl Planner<'_> {
    /// What makes `declared` true where `found` stands.
    pub fn step(&self, declared: &WebhookSpec, found: Option<Webhook>) -> Step {
        let Some(found) = found else {
            return Step::Create(self.made(declared));
        };
        let ours = found.managed_by.as_deref() == Some(MANAGED_BY);
        if !ours && !self.adopt {
            return Step::Foreign(found);
        }
        if found.spec.tenant != declared.tenant {
            return Step::Recreate {
                old: found,
                new: Box::new(self.made(declared)),
            };
        }
        let mut changes = changes(&found.spec, declared);
        let secrets = match &declared.secret {
            Some(secret) if found.secrets.first() != Some(secret) => {
                changes.push(Change {
                    field: "secret".to_owned(),
                    shown: "(changed)".to_owned(),
                });
                vec![secret.clone()]
            }
            _ => found.secrets.clone(),
        };
        if !ours {
            changes.push(Change {
                field: "managed_by".to_owned(),
                shown: format!(
                    "{} -> {MANAGED_BY:?}",
                    found
                        .managed_by
                        .as_ref()
                        .map_or_else(|| NOT_SET.to_owned(), |owner| format!("{owner:?}"))
                ),
            });
        }
        if changes.is_empty() {
            return Step::Unchanged(found);
        }
        Step::Update {
            webhook: Webhook {
                spec: without_secret(declared),
                secrets,
                managed_by: Some(MANAGED_BY.to_owned()),
                updated_ms: self.clock.unix_ms(),
                ..found
            },
            changes,
        }
    }

    /// What `--prune` does to a webhook that the file does not declare.
    pub fn pruned(&self, found: Webhook) -> Option<Step> {
        (found.managed_by.as_deref() == Some(MANAGED_BY)).then_some(Step::Delete(found))
    }

    fn made(&self, declared: &WebhookSpec) -> Made {
        let now_ms = self.clock.unix_ms();
        let generated = declared.secret.is_none();
        let secret = match &declared.secret {
            Some(secret) => secret.clone(),
            None => generate_secret(self.clock.random_bytes()),
        };
        Made {
            webhook: Webhook {
                spec: without_secret(declared),
                uid: hex::encode(self.clock.random_bytes::<10>()),
                version: 0,
                secrets: vec![secret],
                rotation_ends_ms: None,
                disabled: None,
                managed_by: Some(MANAGED_BY.to_owned()),
                created_ms: now_ms,
                updated_ms: now_ms,
            },
            generated,
        }
    }
}

/// Secrets are kept beside what is declared, where rotation keeps two of them.
fn without_secret(declared: &WebhookSpec) -> WebhookSpec {
    WebhookSpec {
        secret: None,
        ..declared.clone()
    }
}

const NOT_SET: &str = "(not set)";

/// The fields of a webhook as they may be shown, in the order of their names.
pub fn fields(spec: &WebhookSpec) -> Vec<(String, String)> {
    flat(spec)
        .into_iter()
        .map(|(field, value)| {
            let shown = shown(&field, &value);
            (field, shown)
        })
        .collect()
}

fn changes(old: &WebhookSpec, new: &WebhookSpec) -> Vec<Change> {
    let (old, new) = (flat(old), flat(new));
    let fields: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    fields
        .into_iter()
        .filter_map(|field| {
            let (before, after) = (old.get(field), new.get(field));
            if before == after {
                return None;
            }
            let side = |value: Option<&Value>| match value {
                Some(value) => shown(field, value),
                None => NOT_SET.to_owned(),
            };
            let (before, after) = (side(before), side(after));
            let shown = if before == after {
                format!("{after} (changed where it is not shown)")
            } else {
                format!("{before} -> {after}")
            };
            Some(Change {
                field: field.clone(),
                shown,
            })
        })
        .collect()
}

/// What may be shown of a value: headers often hold tokens, and paths of webhook URLs are secrets as often.
fn shown(field: &str, value: &Value) -> String {
    match value {
        Value::String(_) if field.starts_with("headers.") => "(hidden)".to_owned(),
        Value::String(url) if field == "url" => shown_url(url),
        value => value.to_string(),
    }
}

/// Every field but the secret, those of tables under their full names.
fn flat(spec: &WebhookSpec) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    // Text, numbers and lists always serialise.
    if let Ok(Value::Object(object)) = serde_json::to_value(without_secret(spec)) {
        for (name, value) in object {
            match value {
                Value::Object(table) if table.is_empty() => {}
                Value::Object(table) => fields.extend(
                    table
                        .into_iter()
                        .map(|(inner, value)| (format!("{name}.{inner}"), value)),
                ),
                value => {
                    fields.insert(name, value);
                }
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests;
