//! Webhooks and test deliveries as they are printed.

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::client::ApiClient;
use crate::cli::delivery::show::{milliseconds, phases};
use crate::cli::pretty::{body_lines, compact_json, escape_line};
use crate::cli::table::{Table, field};

/// How much of a body is shown to people, in bytes.
const SHOWN_BODY: usize = 16 * 1024;

/// Prints a list of webhooks; whether there are any.
pub fn list(client: &ApiClient, webhooks: &Value, out: &mut dyn Write) -> io::Result<bool> {
    let mut table = Table::new(&[
        ("ID", 36),
        ("TENANT", 20),
        ("NAME", 24),
        ("STATE", 8),
        ("DELIVERED", 12),
        ("FAILED", 12),
        ("WAITING", 12),
        ("EVENTS", 32),
        ("URL", 60),
    ]);
    for webhook in webhooks.as_array().into_iter().flatten() {
        let text = |name: &str| webhook[name].as_str().unwrap_or_default().to_owned();
        let stats = &webhook["stats"];
        let count = |name: &str| stats[name].as_u64().unwrap_or_default();
        let (delivered, failed) = (count("successCount"), count("failedCount"));
        let waiting = count("totalDeliveries").saturating_sub(delivered + failed);
        table.row([
            text("id"),
            client.tenant_of(webhook).to_owned(),
            text("name"),
            state(webhook).to_owned(),
            delivered.to_string(),
            failed.to_string(),
            waiting.to_string(),
            texts(&webhook["events"]),
            text("url"),
        ]);
    }
    table.print(out)?;
    Ok(!table.is_empty())
}

fn state(webhook: &Value) -> &'static str {
    match (
        webhook["isActive"].as_bool(),
        webhook["disabled"].is_object(),
    ) {
        (_, true) => "disabled",
        (Some(false), false) => "inactive",
        _ => "active",
    }
}

fn texts(list: &Value) -> String {
    let list = list.as_array().into_iter().flatten();
    let texts: Vec<&str> = list.filter_map(Value::as_str).collect();
    texts.join(", ")
}

/// Prints all that is known of a webhook.
pub fn whole(
    client: &ApiClient,
    webhook: &Value,
    version: Option<&str>,
    secrets: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let text = |name: &str| webhook[name].as_str().unwrap_or_default();
    field(out, "webhook", text("id"))?;
    field(out, "tenant", client.tenant_of(webhook))?;
    field(out, "name", text("name"))?;
    if !text("description").is_empty() {
        field(out, "description", text("description"))?;
    }
    field(out, "url", text("url"))?;
    field(out, "events", &texts(&webhook["events"]))?;
    let disabled = &webhook["disabled"];
    match disabled["reason"].as_str() {
        Some(reason) => {
            let at = disabled["at"].as_str().unwrap_or_default();
            let state = format!("disabled by Pombo at {at}: {reason}");
            field(out, "state", &state)?;
        }
        None => field(out, "state", state(webhook))?,
    }
    if let Some(secret) = webhook["secret"].as_str() {
        let shown = if secrets {
            secret
        } else {
            "(--secrets shows it)"
        };
        field(out, "secret", shown)?;
    }
    let headers = webhook["headers"].as_object().into_iter().flatten();
    for (at, (name, value)) in headers.enumerate() {
        let value = match (secrets, value.as_str()) {
            (true, Some(value)) => value,
            _ => "***",
        };
        let head = if at == 0 { "headers" } else { "" };
        field(out, head, &format!("{name}: {value}"))?;
    }
    // Whatever else the API tells, in its own words.
    let known = [
        "id",
        "name",
        "description",
        "url",
        "events",
        "isActive",
        "disabled",
        "secret",
        "headers",
        "createdAt",
        "updatedAt",
        "stats",
    ];
    for (name, value) in webhook.as_object().into_iter().flatten() {
        if known.contains(&name.as_str()) || client.is_tenant_field(name) || value.is_null() {
            continue;
        }
        let value = match value.as_str() {
            Some(text) => text.to_owned(),
            None => compact_json(&value.to_string()),
        };
        field(out, name, &value)?;
    }
    field(out, "created", text("createdAt"))?;
    field(out, "changed", text("updatedAt"))?;
    if let Some(version) = version {
        field(out, "version", version.trim_matches('"'))?;
    }
    Ok(())
}

/// Prints how a test delivery went.
pub fn test(test: &Value, out: &mut dyn Write) -> io::Result<()> {
    let text = |name: &str| test[name].as_str().unwrap_or_default();
    let request = &test["request"];
    let answer = match test["statusCode"].as_u64() {
        Some(status) => format!("{}, answered {status}", text("status")),
        None => text("status").to_owned(),
    };
    field(out, "test", &answer)?;
    if !text("errorMessage").is_empty() {
        field(out, "error", text("errorMessage"))?;
    }
    let time = milliseconds(&test["durationMs"]);
    field(out, "took", &format!("{time}{}", phases(&test["phases"])))?;
    field(out, "sent to", request["url"].as_str().unwrap_or_default())?;
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        writeln!(out, "  {}", escape_line(&format!("{name}: {value}")))?;
    }
    for (head, body) in [
        ("body", &request["body"]),
        ("answer", &test["response"]["body"]),
    ] {
        let body = match body {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if body.is_empty() {
            continue;
        }
        field(out, head, "")?;
        for line in body_lines(body.as_bytes(), SHOWN_BODY) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
