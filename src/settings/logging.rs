//! `[logging]`: what is logged, and how it looks.

use serde::{Deserialize, Serialize};

use super::schema::{Key, Kind};

/// `[logging]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggingSettings {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, with exceptions for modules: `info,pombo::dispatch=debug`.
    pub level: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

pub(super) const KEYS: &[Key] = &[
    Key::new("format", Kind::Choice(&["text", "json"])),
    Key::text(
        "level",
        "error, warn, info, debug, trace or off, with exceptions for modules such as \"info,pombo::dispatch=debug\"",
        check_level,
    ),
];

/// Stricter than the filter of `tracing-subscriber`, which takes a misspelt level for a module's name and logs nothing.
fn check_level(text: &str) -> Result<(), String> {
    let is_level =
        |text: &str| matches!(text, "error" | "warn" | "info" | "debug" | "trace" | "off");
    let is_module = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
    };
    for part in text.split(',') {
        let fine = match part.split_once('=') {
            Some((module, level)) => is_module(module) && is_level(level),
            None => is_level(part),
        };
        if !fine {
            return Err("has a part that is neither a level nor module=level".into());
        }
    }
    Ok(())
}
