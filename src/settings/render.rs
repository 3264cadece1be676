//! Writes settings as a TOML file that would be read as the same settings.

use toml::{Table, Value};

use super::Settings;
use super::redis_url::redacted;
use super::schema::{self, Keys, Kind, ROOT};
use super::source::layout::FORMAT_KEYS;

/// What becomes of secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    Hidden,
    /// For tests, which read back what was written.
    #[cfg_attr(not(test), allow(dead_code))]
    Exposed,
}

/// The settings as TOML, in the order of the defaults file. Only keys of the schema are written, and those that it calls
/// secret are hidden.
pub(super) fn to_toml(settings: &Settings, secrets: Secrets) -> String {
    let Ok(mut root) = Table::try_from(settings) else {
        // All keys are texts, and no number is beyond what TOML has: the schema bounds them.
        return String::new();
    };
    if let Some(Value::Array(tables)) = root.get_mut("sources") {
        for (table, source) in tables.iter_mut().zip(&settings.sources) {
            if let Value::Table(table) = table {
                for key in FORMAT_KEYS.iter().filter(|key| !source.uses(key)) {
                    table.remove(*key);
                }
            }
        }
    }
    let mut text = String::new();
    for key in schema::iter(ROOT) {
        match (key.kind, root.remove(key.name)) {
            (Kind::Section(keys), Some(Value::Table(section))) => {
                text.push_str(&format!("\n[{}]\n", key.name));
                section_lines(&mut text, keys, section, secrets);
            }
            (Kind::Sections(keys), Some(Value::Array(tables))) => {
                for table in tables {
                    if let Value::Table(section) = table {
                        text.push_str(&format!("\n[[{}]]\n", key.name));
                        section_lines(&mut text, keys, section, secrets);
                    }
                }
            }
            _ => {}
        }
    }
    text.trim_start().to_owned()
}

fn section_lines(text: &mut String, keys: Keys, mut section: Table, secrets: Secrets) {
    for key in schema::iter(keys) {
        if let Some(value) = section.remove(key.name) {
            let shown = if secrets == Secrets::Hidden {
                hide(key.kind, value)
            } else {
                value
            };
            text.push_str(&format!("{} = {shown}\n", key.name));
        }
    }
}

fn hide(kind: Kind, value: Value) -> Value {
    match (kind, value) {
        (Kind::Secret, _) => Value::from("<hidden>"),
        (Kind::Url, Value::String(url)) => Value::from(redacted(&url)),
        (Kind::Section(keys), Value::Table(section)) => Value::Table(
            section
                .into_iter()
                .map(|(name, value)| match schema::find(keys, &name) {
                    Some(kind) => (name, hide(kind, value)),
                    None => (name, value),
                })
                .collect(),
        ),
        (_, value) => value,
    }
}
