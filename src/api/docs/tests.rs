use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::settings::PROFILES;

fn settings(profile: Option<&str>, file: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pombo.toml");
    std::fs::write(&path, file).unwrap();
    Settings::load(profile, Some(&path), std::iter::empty()).unwrap()
}

/// Whatever is said of one operation.
struct Operation {
    name: String,
    value: Value,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, value) in item.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            operations.push(Operation {
                name: format!("{} {path}", method.to_uppercase()),
                value: value.clone(),
            });
        }
    }
    operations
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

/// What a `$ref` stands for, or the schema itself.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("a local reference");
            document
                .pointer(pointer)
                .unwrap_or_else(|| panic!("nothing is at {reference}"))
        }
        None => schema,
    }
}

/// Collects the properties without a description, below a schema.
fn undescribed(document: &Value, at: &str, schema: &Value, missing: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            let at = format!("{at}/{name}");
            if !is_text(&property["description"])
                && !is_text(&resolve(document, property)["description"])
            {
                missing.push(format!("{at} has no description"));
            }
            undescribed(document, &at, property, missing);
        }
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        for (index, part) in schema[list].as_array().into_iter().flatten().enumerate() {
            undescribed(document, &format!("{at}/{list}/{index}"), part, missing);
        }
    }
    if schema["items"].is_object() {
        undescribed(document, &format!("{at}/items"), &schema["items"], missing);
    }
}

/// Where somebody who reads the schema is not told what such a value can look like.
fn without_example(document: &Value, at: &str, schema: &Value, depth: usize) -> Vec<String> {
    let own = ["example", "examples", "const", "enum", "default"];
    let told = |schema: &Value| own.iter().any(|name| schema.get(name).is_some());
    if told(schema) {
        return Vec::new();
    }
    let schema = resolve(document, schema);
    let plain = |kind: &Value| kind == "boolean" || kind == "null";
    let of_type = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().all(plain),
        kind => plain(kind),
    };
    if told(schema) || of_type {
        return Vec::new();
    }
    let parts: Vec<(String, &Value)> = match schema["properties"].as_object() {
        Some(properties) => properties
            .iter()
            .map(|(name, part)| (format!("{at}/{name}"), part))
            .collect(),
        None => ["oneOf", "anyOf", "allOf"]
            .iter()
            .flat_map(|list| schema[*list].as_array().into_iter().flatten())
            .chain(schema.get("items"))
            .map(|part| (at.to_owned(), part))
            .collect(),
    };
    if parts.is_empty() || depth == 0 {
        return vec![at.to_owned()];
    }
    parts
        .into_iter()
        .flat_map(|(at, part)| without_example(document, &at, part, depth - 1))
        .collect()
}

fn gaps(document: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    let mut ids = BTreeSet::new();
    for Operation { name, value } in operations(document) {
        let mut lack = |what: String| missing.push(format!("{name}: {what}"));
        for text in ["summary", "description", "operationId"] {
            if !is_text(&value[text]) {
                lack(format!("no {text}"));
            }
        }
        if !ids.insert(value["operationId"].to_string()) {
            lack("its operationId is another's, too".into());
        }
        let of = value["tags"].as_array().cloned().unwrap_or_default();
        if of.len() != 1 || !of.iter().all(|tag| tags.contains(tag.as_str().unwrap())) {
            lack(format!("its tags are {of:?}, and there are {tags:?}"));
        }
        for parameter in value["parameters"].as_array().into_iter().flatten() {
            let parameter = resolve(document, parameter);
            if !is_text(&parameter["description"]) {
                lack(format!(
                    "parameter {} has no description",
                    parameter["name"]
                ));
            }
            if name.contains("{tenant") {
                lack("tenants are never part of a path".into());
            }
        }
        for (media_type, content) in value["requestBody"]["content"]
            .as_object()
            .into_iter()
            .flatten()
        {
            let schema = resolve(document, &content["schema"]);
            if content.get("example").is_none() {
                for part in without_example(document, media_type, schema, 8) {
                    lack(format!("no example of its body's {part}"));
                }
            }
            if schema["additionalProperties"] != false {
                lack("unknown fields of its body are not said to be refused".into());
            }
        }
        let responses = value["responses"].as_object().unwrap();
        if !responses.keys().any(|status| status.starts_with('2')) {
            lack("no answer of success".into());
        }
        let mut expected = vec!["401", "429", "500", "503"];
        if name.contains('{') {
            expected.push("404");
        }
        if value.get("requestBody").is_some() {
            expected.extend(["400", "413", "415", "422"]);
        }
        for status in expected {
            if !responses.contains_key(status) {
                lack(format!("the status {status} is not listed"));
            }
        }
        for (status, response) in responses {
            if !is_text(&response["description"]) {
                lack(format!("{status} has no description"));
            }
            let content = response["content"].as_object();
            let types: Vec<&str> = content
                .into_iter()
                .flat_map(|content| content.keys().map(String::as_str))
                .collect();
            match status.starts_with(['4', '5']) {
                true if types != ["application/problem+json"] => {
                    lack(format!("{status} is {types:?} and no problem"));
                }
                false if status != "204" && types != ["application/json"] => {
                    lack(format!("{status} is {types:?}"));
                }
                _ => {}
            }
            for content in content.into_iter().flat_map(|content| content.values()) {
                let told = content.get("example").is_some() || content.get("examples").is_some();
                if !told {
                    for part in without_example(document, status, &content["schema"], 8) {
                        lack(format!("no example of {part}"));
                    }
                }
            }
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        undescribed(document, name, schema, &mut missing);
    }
    missing
}

#[test]
fn everything_in_the_document_is_described_with_examples_and_errors() {
    for profile in [None, Some("jurichat"), Some("wts-chat")] {
        let gaps = gaps(&document(&settings(profile, "")).unwrap());
        assert!(gaps.is_empty(), "{profile:?}:\n{}", gaps.join("\n"));
    }
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    let document = document(&settings(None, "")).unwrap();
    let mut references = Vec::new();
    fn collect(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    references.push(reference.to_owned());
                }
                members
                    .values()
                    .for_each(|member| collect(member, references));
            }
            _ => {}
        }
    }
    collect(&document, &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn a_body_that_may_be_left_out_may_not_be_null() {
    let document = document(&settings(None, "")).unwrap();
    for path in ["secret/rotate", "test"] {
        let body =
            &document["paths"][format!("/webhooks/{{webhookId}}/{path}")]["post"]["requestBody"];
        assert_ne!(body["required"], true, "{body}");
        let schema = &body["content"]["application/json"]["schema"];
        assert!(schema["$ref"].is_string(), "{body}");
    }
}

#[test]
fn the_committed_document_is_the_present_one() {
    let present = document_text(&settings(None, "")).unwrap();
    let committed = include_str!("../../../config/openapi.json");
    assert!(
        present == committed,
        "config/openapi.json is not what the routes say of themselves. Renew it, look at the difference, and commit it:\n  \
         cargo run -- --config /dev/null openapi > config/openapi.json"
    );
}

#[test]
fn the_document_speaks_the_words_of_the_settings() {
    for (profile, _) in PROFILES {
        let settings = settings(Some(profile), "");
        let document = document(&settings).unwrap();
        let text = document.to_string();
        assert!(!text.contains("tenantId"), "{profile}");
        assert!(text.contains(&settings.api.tenant_field), "{profile}");
        let base = document["servers"][0]["url"].as_str().unwrap();
        assert_eq!(base.trim_end_matches('/'), settings.api.base_path);
        let key = &document["components"]["securitySchemes"]["key"]["name"];
        assert_eq!(key, &settings.api.key_header);
        let description = document["info"]["description"].as_str().unwrap();
        assert!(description.contains(&settings.signature.header));
        assert!(!description.contains('{'), "{description}");
        if settings.catalogue.find(adapt::EXAMPLE_TYPE).is_none() {
            assert!(!text.contains("crm.lead"), "{profile}");
        }
    }
}

#[test]
fn no_secret_of_the_settings_is_in_the_document() {
    let settings = settings(
        None,
        "[api]\noperator_token = \"operator-hunter2-hunter2\"\n[redis]\nurl = \"redis://u:hunter2@h:1\"\n\
         [api.jwt]\nsecret = \"hunter2hunter2hunter2hunter2hunter2\"\n",
    );
    assert!(!document(&settings).unwrap().to_string().contains("hunter2"));
}
