use super::*;
use crate::webhook::{EventFilter, WebhookSpec};

fn webhook(id: &str, uid: &str, version: u64, events: &[&str]) -> Webhook {
    let spec: WebhookSpec = serde_json::from_value(serde_json::json!({
        "id": id, "tenant": "t", "name": id, "url": "https://example.com/", "events": ["placeholder"],
    }))
    .unwrap();
    let events = events
        .iter()
        .map(|text| EventFilter::parse(text).unwrap())
        .collect();
    Webhook {
        spec: WebhookSpec { events, ..spec },
        uid: uid.to_owned(),
        version,
        secrets: Vec::new(),
        rotation_ends_ms: None,
        disabled: None,
        managed_by: None,
        created_ms: 0,
        updated_ms: 0,
    }
}

fn found(registry: &Registry, event_type: &str) -> Vec<String> {
    let mut found = Vec::new();
    registry.matching("t", event_type, &mut found);
    let mut ids: Vec<String> = found.iter().map(|entry| entry.id().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn a_webhook_that_matches_in_two_ways_is_found_once() {
    let registry = Registry::new(64);
    registry.load(
        vec![
            webhook("a", "u1", 1, &["x.y", "x.*", "*"]),
            webhook("b", "u2", 1, &["x.y", "x.y"]),
        ],
        &[],
    );
    assert_eq!(found(&registry, "x.y"), ["a", "b"]);
    assert_eq!(found(&registry, "z"), ["a"]);
}

#[test]
fn a_deleted_webhook_is_found_no_more_and_its_successor_is() {
    let registry = Registry::new(64);
    registry.load(vec![webhook("a", "u1", 3, &["x"])], &[]);
    assert!(registry.apply("a", None).after.is_none());
    assert!(found(&registry, "x").is_empty() && registry.by_uid("u1").is_none());
    registry.apply("a", Some(webhook("a", "u2", 1, &["x"])));
    assert_eq!(found(&registry, "x"), ["a"]);
}

#[test]
fn an_older_version_that_arrives_late_changes_nothing() {
    let registry = Registry::new(64);
    registry.apply("a", Some(webhook("a", "u1", 5, &["x"])));
    registry.apply("a", Some(webhook("a", "u1", 4, &["y"])));
    assert_eq!(found(&registry, "x"), ["a"]);
}

#[test]
fn a_reload_tells_what_changed_and_nothing_else() {
    let registry = Registry::new(64);
    registry.load(
        vec![
            webhook("a", "u1", 1, &["x"]),
            webhook("b", "u2", 1, &["x"]),
            webhook("c", "u3", 1, &["x"]),
        ],
        &[],
    );
    let replaced = registry.load(
        vec![
            webhook("a", "u1", 1, &["x"]),
            webhook("b", "u2", 2, &["x"]),
            webhook("d", "u4", 1, &["x"]),
        ],
        &[],
    );
    let mut ids: Vec<&str> = replaced
        .iter()
        .map(|change| {
            change
                .before
                .as_ref()
                .or(change.after.as_ref())
                .unwrap()
                .id()
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, ["b", "c", "d"]);
}

#[test]
fn a_webhook_of_a_newer_version_is_remembered_until_it_can_be_read_or_is_gone() {
    let registry = Registry::new(64);
    registry.note_newer("a");
    registry.note_newer("b");
    registry.apply("a", Some(webhook("a", "u1", 1, &["x"])));
    assert_eq!(registry.newer(), 1);
    registry.apply("b", None);
    assert_eq!(registry.newer(), 0);
    registry.note_newer("c");
    registry.load(Vec::new(), &[]);
    assert_eq!(registry.newer(), 0);
}

#[test]
fn a_webhook_that_cannot_be_read_any_more_stays_as_it_was_known() {
    let registry = Registry::new(64);
    registry.load(vec![webhook("a", "u1", 1, &["x"])], &[]);
    let replaced = registry.load(Vec::new(), &["a".to_owned(), "never-known".to_owned()]);
    assert!(replaced.is_empty());
    assert_eq!(found(&registry, "x"), ["a"]);
}
