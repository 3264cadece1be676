//! The tables of the registry. They hold nothing but the webhooks themselves: what each stands under is read from it.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::{Counts, Registered, State};
use crate::webhook::filter;

#[derive(Debug, Default)]
pub(super) struct Index {
    by_id: HashTable<Arc<Registered>>,
    by_uid: HashTable<Arc<Registered>>,
    /// Webhooks without wildcards, under the tenant and each of their event types.
    exact: HashTable<Wanting>,
    /// Those with one, under the tenant.
    wildcards: HashTable<Vec<Arc<Registered>>>,
    counts: Counts,
    /// Webhooks that only a newer version of Pombo can read, by their ids.
    pub newer: HashSet<String>,
    /// Ids, tenants and event types are others' choice, so the hashes are nobody's to foresee.
    hasher: RandomState,
}

/// The webhooks that want one event type of one tenant, at least one. Type and tenant are those of the first, whose
/// filter at the place is the type. Most types are wanted by one webhook.
#[derive(Debug)]
enum Wanting {
    One(u32, Arc<Registered>),
    Many(Box<Many>),
}

#[derive(Debug)]
struct Many {
    place: u32,
    webhooks: Vec<Arc<Registered>>,
}

impl Wanting {
    fn webhooks(&self) -> &[Arc<Registered>] {
        match self {
            Wanting::One(_, webhook) => std::slice::from_ref(webhook),
            Wanting::Many(many) => &many.webhooks,
        }
    }

    /// The tenant and the event type.
    fn what(&self) -> (&str, &str) {
        let place = match self {
            Wanting::One(place, _) => *place,
            Wanting::Many(many) => many.place,
        };
        self.webhooks().first().map_or(("", ""), |first| {
            (first.tenant(), first.packed.filter_at(place))
        })
    }

    fn add(&mut self, webhook: Arc<Registered>) {
        match self {
            Wanting::One(place, first) => {
                let (place, webhooks) = (*place, vec![first.clone(), webhook]);
                *self = Wanting::Many(Box::new(Many { place, webhooks }));
            }
            Wanting::Many(many) => many.webhooks.push(webhook),
        }
    }

    /// Whether none is left.
    fn remove(&mut self, webhook: &Arc<Registered>, event_type: &str) -> bool {
        match self {
            Wanting::One(_, only) => Arc::ptr_eq(only, webhook),
            Wanting::Many(many) => {
                many.webhooks.retain(|other| !Arc::ptr_eq(other, webhook));
                let Some(first) = many.webhooks.first() else {
                    return true;
                };
                let mut filters = first.packed.filters();
                if let Some((place, _)) = filters.find(|(_, filter)| *filter == event_type) {
                    many.place = place;
                }
                false
            }
        }
    }
}

/// The event types of a webhook without wildcards, each once, with their places.
fn types(webhook: &Registered) -> Vec<(u32, &str)> {
    let mut types: Vec<(u32, &str)> = webhook.packed.filters().collect();
    types.sort_unstable_by_key(|(_, name)| *name);
    types.dedup_by_key(|(_, name)| *name);
    types
}

fn tenant_of(webhooks: &[Arc<Registered>]) -> &str {
    webhooks.first().map_or("", |first| first.tenant())
}

impl Index {
    pub fn by_id(&self, id: &str) -> Option<&Arc<Registered>> {
        self.by_id
            .find(self.hasher.hash_one(id), |entry| entry.id() == id)
    }

    pub fn by_uid(&self, uid: &str) -> Option<&Arc<Registered>> {
        self.by_uid
            .find(self.hasher.hash_one(uid), |entry| *entry.uid == *uid)
    }

    pub fn all(&self) -> impl ExactSizeIterator<Item = &Arc<Registered>> {
        self.by_id.iter()
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// See [`super::Registry::matching`].
    pub fn matching(&self, tenant: &str, event_type: &str, found: &mut Vec<Arc<Registered>>) {
        let wanted = (tenant, event_type);
        let hash = self.hasher.hash_one(wanted);
        if let Some(exact) = self.exact.find(hash, |entry| entry.what() == wanted) {
            let exact = exact.webhooks().iter().filter(|entry| entry.delivers());
            found.extend(exact.cloned());
        }
        let hash = self.hasher.hash_one(tenant);
        let of_tenant = |list: &Vec<Arc<Registered>>| tenant_of(list) == tenant;
        if let Some(wildcards) = self.wildcards.find(hash, of_tenant) {
            let wanting = wildcards.iter().filter(|entry| {
                let mut filters = entry.packed.filters();
                entry.delivers() && filters.any(|(_, one)| filter::matches(one, event_type))
            });
            found.extend(wanting.cloned());
        }
    }

    /// Puts a webhook in the place of what stood under its id.
    pub fn insert(&mut self, webhook: Arc<Registered>) {
        self.remove(webhook.id());
        let hasher = &self.hasher;
        let tenant = webhook.tenant();
        if webhook.exact {
            for (place, name) in types(&webhook) {
                let wanted = (tenant, name);
                let entry = self.exact.entry(
                    hasher.hash_one(wanted),
                    |entry| entry.what() == wanted,
                    |entry| hasher.hash_one(entry.what()),
                );
                match entry {
                    Entry::Occupied(mut found) => found.get_mut().add(webhook.clone()),
                    Entry::Vacant(free) => {
                        free.insert(Wanting::One(place, webhook.clone()));
                    }
                }
            }
        } else {
            let entry = self.wildcards.entry(
                hasher.hash_one(tenant),
                |list| tenant_of(list) == tenant,
                |list| hasher.hash_one(tenant_of(list)),
            );
            match entry {
                Entry::Occupied(mut found) => found.get_mut().push(webhook.clone()),
                Entry::Vacant(free) => {
                    free.insert(vec![webhook.clone()]);
                }
            }
        }
        *self.counts.of(webhook.state) += 1;
        self.by_uid
            .insert_unique(hasher.hash_one(&*webhook.uid), webhook.clone(), |entry| {
                hasher.hash_one(&*entry.uid)
            });
        self.by_id
            .insert_unique(hasher.hash_one(webhook.id()), webhook, |entry| {
                hasher.hash_one(entry.id())
            });
    }

    pub fn remove(&mut self, id: &str) -> Option<Arc<Registered>> {
        let hasher = &self.hasher;
        let found = self
            .by_id
            .find_entry(hasher.hash_one(id), |entry| entry.id() == id);
        let webhook = found.ok()?.remove().0;
        let same = |entry: &Arc<Registered>| Arc::ptr_eq(entry, &webhook);
        if let Ok(found) = self.by_uid.find_entry(hasher.hash_one(&*webhook.uid), same) {
            found.remove();
        }
        *self.counts.of(webhook.state) -= 1;
        let tenant = webhook.tenant();
        if webhook.exact {
            for (_, name) in types(&webhook) {
                let wanted = (tenant, name);
                let found = self
                    .exact
                    .find_entry(hasher.hash_one(wanted), |entry| entry.what() == wanted);
                if let Ok(mut found) = found
                    && found.get_mut().remove(&webhook, name)
                {
                    found.remove();
                }
            }
        } else {
            let found = self
                .wildcards
                .find_entry(hasher.hash_one(tenant), |list| tenant_of(list) == tenant);
            if let Ok(mut found) = found {
                found
                    .get_mut()
                    .retain(|other| !Arc::ptr_eq(other, &webhook));
                if found.get().is_empty() {
                    found.remove();
                }
            }
        }
        Some(webhook)
    }
}

impl Counts {
    fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Active => &mut self.active,
            State::Inactive => &mut self.inactive,
            State::Disabled => &mut self.disabled,
        }
    }
}
