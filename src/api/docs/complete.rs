//! What no single route says of itself: who may call and how, and what every answer has.

use serde_json::{Map, Value, json};
use utoipa::PartialSchema as _;

use crate::api::TENANT_FIELD;
use crate::api::problem::{Invalid, Problem};
use crate::settings::Settings;
use crate::signature::Scheme;

const DESCRIPTION: &str = include_str!("description.md");

/// The sections of the page, in their order.
const TAGS: [(&str, &str); 4] = [
    (
        "Webhooks",
        "Subscriptions: where a tenant wants which events, with which limits.",
    ),
    (
        "Deliveries",
        "What became of each event for each webhook, and how to have it sent again.",
    ),
    (
        "Events",
        "Adding events, and following one to its deliveries.",
    ),
    ("Tokens", "Who may call this API."),
];

/// Adds to a document of bare paths all that makes it whole.
pub(super) fn complete(document: &mut Value, settings: &Settings) {
    let api = &settings.api;
    document["info"] = json!({
        "title": "Pombo API",
        "version": env!("CARGO_PKG_VERSION"),
        "description": description(settings),
        "license": {"name": "MIT", "identifier": "MIT"},
    });
    let base = match api.base_path.as_str() {
        "" => "/",
        path => path,
    };
    document["servers"] = json!([{"url": base, "description": "This daemon."}]);
    document["tags"] = TAGS
        .iter()
        .map(|(name, description)| json!({"name": name, "description": description}))
        .collect();
    // Either of the two.
    document["security"] = json!([{"bearer": []}, {"key": []}]);
    let components = member(document, "components");
    components["securitySchemes"] = json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of Pombo's own (`pmb_...`), or a JSON Web Token of the platform where that is set up.",
        },
        "key": {
            "type": "apiKey",
            "in": "header",
            "name": api.key_header,
            "description": "The same tokens, in a header of their own.",
        },
    });
    let schemas = member(components, "schemas");
    for (name, schema) in [
        ("Problem", Problem::schema()),
        ("Invalid", Invalid::schema()),
    ] {
        // A schema that cannot be written would be missed by the test of the document.
        schemas[name] = serde_json::to_value(schema).unwrap_or_default();
    }
    // The derive has no word for an example of what can be any JSON.
    for schema in schemas
        .as_object_mut()
        .into_iter()
        .flat_map(Map::values_mut)
    {
        if let Some(Value::Object(payload)) = schema.pointer_mut("/properties/payload") {
            payload
                .entry("example")
                .or_insert_with(|| json!({"id": 7, "name": "Ada"}));
        }
    }
    for operation in operations(document) {
        complete_operation(operation);
    }
    lift_descriptions(document);
}

/// What is said of a value that can be null stands at the value, not within one of its alternatives.
fn lift_descriptions(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(lift_descriptions),
        Value::Object(members) => {
            let said = members
                .get_mut("oneOf")
                .and_then(Value::as_array_mut)
                .filter(|parts| parts.len() == 2 && parts[1]["type"] == "null")
                .and_then(|parts| parts[0].as_object_mut()?.remove("description"));
            if let Some(said) = said {
                members.entry("description").or_insert(said);
            }
            members.values_mut().for_each(lift_descriptions);
        }
        _ => {}
    }
}

/// Every operation of the document.
pub(super) fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    let items = paths.into_iter().flat_map(Map::values_mut);
    items
        .filter_map(Value::as_object_mut)
        .flat_map(|item| item.iter_mut())
        .filter(|(method, _)| {
            matches!(method.as_str(), "get" | "post" | "put" | "patch" | "delete")
        })
        .map(|(_, operation)| operation)
}

fn complete_operation(operation: &mut Value) {
    for parameter in list(operation, "parameters") {
        if parameter["name"] == TENANT_FIELD
            && let Some(parameter) = parameter.as_object_mut()
        {
            // The page fills examples in, and most tenants are another one: their calls would be refused.
            parameter.remove("example");
            if let Some(Value::Object(schema)) = parameter.get_mut("schema") {
                schema.remove("example");
                schema.remove("examples");
            }
        }
    }
    let bodies = operation.pointer_mut("/requestBody/content");
    for content in bodies.and_then(Value::as_object_mut).into_iter().flatten() {
        // A body that may be left out is not one that may be `null`.
        let Some(schema) = content.1.get_mut("schema") else {
            continue;
        };
        let parts = schema.get_mut("oneOf").and_then(Value::as_array_mut);
        if let Some(parts) = parts.filter(|parts| parts.len() == 2 && parts[1]["type"] == "null") {
            *schema = parts.swap_remove(0);
        }
    }
    let responses = member(operation, "responses");
    for (status, response) in responses.as_object_mut().into_iter().flatten() {
        let headers = member(response, "headers");
        headers["x-request-id"] = json!({
            "description": "The request's id, as the log has it: the one that the request brought, or a new one.",
            "schema": {"type": "string"},
        });
        if matches!(status.as_str(), "429" | "503") {
            headers["retry-after"] = json!({
                "description": "Seconds after which the same request may succeed.",
                "schema": {"type": "integer", "minimum": 1},
            });
        }
        if status == "401" {
            headers["www-authenticate"] = json!({
                "description": "How to authenticate: `Bearer`.",
                "schema": {"type": "string"},
            });
        }
    }
}

/// The elements of a member that is a list; none if it is not there.
fn list<'a>(of: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    let member = of.get_mut(name).and_then(Value::as_array_mut);
    member.into_iter().flatten()
}

/// A member that is an object, made if it is not there.
fn member<'a>(of: &'a mut Value, name: &str) -> &'a mut Value {
    let member = &mut of[name];
    if !member.is_object() {
        *member = json!({});
    }
    member
}

fn description(settings: &Settings) -> String {
    let (api, signature) = (&settings.api, &settings.signature);
    let base = match api.base_path.as_str() {
        "" => "the root".to_owned(),
        path => format!("`{path}`"),
    };
    let known = match settings.catalogue.events.len() {
        0 => "This daemon has no catalogue: every well-formed name is an event type.".to_owned(),
        1 => "The catalogue has one event type.".to_owned(),
        n => format!("The catalogue has {n} event types."),
    };
    let scheme = match signature.scheme {
        Scheme::Timestamped => {
            "`t=<unix seconds>,v1=<hex>`, the HMAC-SHA256 of `<t>.<body>` keyed with the webhook's secret"
        }
        Scheme::Sha256 => {
            "`sha256=<hex>`, the HMAC-SHA256 of the body keyed with the webhook's secret"
        }
        Scheme::Hex => "`<hex>`, the HMAC-SHA256 of the body keyed with the webhook's secret",
    };
    let standard = match signature.standard_webhooks {
        true => {
            " `webhook-id`, `webhook-timestamp` and `webhook-signature` follow [Standard Webhooks](https://www.standardwebhooks.com)."
        }
        false => "",
    };
    [
        ("{base}", base.as_str()),
        ("{key_header}", &api.key_header),
        ("{signature_header}", &signature.header),
        ("{scheme}", scheme),
        ("{standard}", standard),
        ("{catalogue}", &known),
    ]
    .into_iter()
    .fold(DESCRIPTION.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    })
}
