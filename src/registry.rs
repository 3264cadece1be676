//! All webhooks in memory, indexed by tenant and event type.
//!
//! The fan-out asks it for every event, so that a match costs no round trip; the follower keeps it current. A webhook
//! of exact event types stands under each of them; one with a wildcard is asked for every event of its tenant.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::store::shard_of;
use crate::webhook::Webhook;

/// A webhook as the registry knows it.
#[derive(Debug)]
pub struct Registered {
    /// The webhook.
    pub webhook: Webhook,
    /// Its uid, shared by all that name its queue.
    pub uid: Arc<str>,
    /// Its shard.
    pub shard: u16,
}

#[derive(Debug, Default)]
struct Tenant {
    exact: HashMap<String, Vec<Arc<Registered>>>,
    wildcards: Vec<Arc<Registered>>,
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<String, Arc<Registered>>,
    by_uid: HashMap<Arc<str>, Arc<Registered>>,
    tenants: HashMap<String, Tenant>,
    /// Webhooks that only a newer version of Pombo can read, by their ids.
    newer: HashSet<String>,
}

/// The registry.
#[derive(Debug)]
pub struct Registry {
    index: RwLock<Index>,
    shards: u16,
}

/// What a change of one webhook replaced.
#[derive(Debug)]
pub struct Replaced {
    /// What stood there before.
    pub before: Option<Arc<Registered>>,
    /// What stands there now.
    pub after: Option<Arc<Registered>>,
}

/// Webhooks by whether they deliver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// They do.
    pub active: usize,
    /// Their owners do not want them to.
    pub inactive: usize,
    /// Pombo has disabled them.
    pub disabled: usize,
}

impl Counts {
    /// All of them.
    pub fn all(&self) -> usize {
        self.active + self.inactive + self.disabled
    }
}

impl Registry {
    /// An empty registry for a Redis of `shards` shards.
    pub fn new(shards: u16) -> Registry {
        Registry {
            index: RwLock::default(),
            shards,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        // Changes of the index do not panic halfway.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn registered(&self, webhook: Webhook) -> Arc<Registered> {
        Arc::new(Registered {
            uid: Arc::from(webhook.uid.as_str()),
            shard: shard_of(&webhook.spec.id, self.shards),
            webhook,
        })
    }

    /// Replaces everything but the webhooks of the ids `kept`, which exist and could not be read. Returns what each id
    /// that changed stood for and stands for.
    pub fn load(&self, webhooks: Vec<Webhook>, kept: &[String]) -> Vec<Replaced> {
        let mut fresh = Index::default();
        for webhook in webhooks {
            fresh.insert(self.registered(webhook));
        }
        let mut index = self.write();
        for id in kept {
            if let Some(known) = index.by_id.get(id) {
                fresh.insert(known.clone());
            }
        }
        let mut replaced = Vec::new();
        for (id, before) in &index.by_id {
            let after = fresh.by_id.get(id).cloned();
            let same = after.as_ref().is_some_and(|after| {
                after.webhook.version == before.webhook.version && after.uid == before.uid
            });
            if !same {
                replaced.push(Replaced {
                    before: Some(before.clone()),
                    after,
                });
            }
        }
        for (id, after) in &fresh.by_id {
            if !index.by_id.contains_key(id) {
                replaced.push(Replaced {
                    before: None,
                    after: Some(after.clone()),
                });
            }
        }
        *index = fresh;
        replaced
    }

    /// Notes that only a newer version can read the webhook `id`: it may want any event. What is loaded or applied
    /// under the id later takes that back.
    pub fn note_newer(&self, id: &str) {
        self.write().newer.insert(id.to_owned());
    }

    /// How many webhooks only a newer version can read.
    pub fn newer(&self) -> usize {
        self.read().newer.len()
    }

    /// Puts `webhook` in the place of what stood under `id`; `None` removes it. An older version than the one in place
    /// changes nothing.
    pub fn apply(&self, id: &str, webhook: Option<Webhook>) -> Replaced {
        let after = webhook.map(|webhook| self.registered(webhook));
        let mut index = self.write();
        index.newer.remove(id);
        if let (Some(before), Some(after)) = (index.by_id.get(id), &after)
            && before.uid == after.uid
            && before.webhook.version >= after.webhook.version
        {
            return Replaced {
                before: Some(before.clone()),
                after: Some(before.clone()),
            };
        }
        let before = index.remove(id);
        if let Some(after) = &after {
            index.insert(after.clone());
        }
        Replaced { before, after }
    }

    /// Appends the webhooks of `tenant` that want events of `event_type` and can have them.
    pub fn matching(&self, tenant: &str, event_type: &str, found: &mut Vec<Arc<Registered>>) {
        let index = self.read();
        let Some(tenant) = index.tenants.get(tenant) else {
            return;
        };
        let exact = tenant.exact.get(event_type).into_iter().flatten();
        let wildcards = tenant.wildcards.iter().filter(|entry| {
            entry
                .webhook
                .spec
                .events
                .iter()
                .any(|e| e.matches(event_type))
        });
        found.extend(
            exact
                .chain(wildcards)
                .filter(|entry| entry.webhook.delivers())
                .cloned(),
        );
    }

    /// The webhook with this id.
    pub fn by_id(&self, id: &str) -> Option<Arc<Registered>> {
        self.read().by_id.get(id).cloned()
    }

    /// The webhook with this uid.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Registered>> {
        self.read().by_uid.get(uid).cloned()
    }

    /// How many webhooks there are, by whether they deliver.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.read().by_id.values() {
            if entry.webhook.disabled.is_some() {
                counts.disabled += 1;
            } else if entry.webhook.spec.active {
                counts.active += 1;
            } else {
                counts.inactive += 1;
            }
        }
        counts
    }

    /// The shard and uid of every webhook.
    pub fn places(&self) -> Vec<(u16, Arc<str>)> {
        self.read()
            .by_id
            .values()
            .map(|entry| (entry.shard, entry.uid.clone()))
            .collect()
    }
}

impl Index {
    fn insert(&mut self, entry: Arc<Registered>) {
        let spec = &entry.webhook.spec;
        let tenant = self.tenants.entry(spec.tenant.clone()).or_default();
        if spec.events.iter().all(|filter| filter.is_exact()) {
            let mut names: Vec<&str> = spec.events.iter().map(|filter| filter.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                tenant
                    .exact
                    .entry(name.to_owned())
                    .or_default()
                    .push(entry.clone());
            }
        } else {
            tenant.wildcards.push(entry.clone());
        }
        self.by_id.insert(spec.id.clone(), entry.clone());
        self.by_uid.insert(entry.uid.clone(), entry);
    }

    fn remove(&mut self, id: &str) -> Option<Arc<Registered>> {
        let entry = self.by_id.remove(id)?;
        self.by_uid.remove(&entry.uid);
        let spec = &entry.webhook.spec;
        if let Some(tenant) = self.tenants.get_mut(&spec.tenant) {
            for filter in &spec.events {
                if let Some(list) = tenant.exact.get_mut(filter.as_str()) {
                    list.retain(|other| other.uid != entry.uid);
                    if list.is_empty() {
                        tenant.exact.remove(filter.as_str());
                    }
                }
            }
            tenant.wildcards.retain(|other| other.uid != entry.uid);
            if tenant.exact.is_empty() && tenant.wildcards.is_empty() {
                self.tenants.remove(&spec.tenant);
            }
        }
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
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
        let mut ids: Vec<String> = found
            .iter()
            .map(|entry| entry.webhook.spec.id.clone())
            .collect();
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
                    .webhook
                    .spec
                    .id
                    .as_str()
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
}
