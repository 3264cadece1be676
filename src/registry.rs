//! All webhooks in memory, indexed by tenant and event type.
//!
//! The fan-out asks it for every event, so that a match costs no round trip; the follower keeps it current. A webhook
//! of exact event types stands under each of them; one with a wildcard is asked for every event of its tenant.

mod index;
mod packed;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::index::Index;
use self::packed::Packed;
pub use self::packed::Unreadable;
use crate::store::shard_of;
use crate::webhook::{Ordering, Webhook};

#[cfg(test)]
mod tests;

/// A webhook as the registry knows it: what events are matched by at hand, the rest packed.
#[derive(PartialEq)]
pub struct Registered {
    /// Its uid, shared by all that name its queue.
    pub uid: Arc<str>,
    /// Its version: see [`Webhook::version`].
    pub version: u64,
    packed: Packed,
    /// Its shard.
    pub shard: u16,
    state: State,
    fifo: bool,
    /// Whether it has no wildcard.
    exact: bool,
}

/// Whether a webhook delivers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    Inactive,
    Disabled,
}

impl Registered {
    fn new(webhook: &Webhook, shards: u16) -> Registered {
        Registered {
            uid: Arc::from(webhook.uid.as_str()),
            version: webhook.version,
            packed: Packed::new(webhook),
            shard: shard_of(&webhook.spec.id, shards),
            state: match (&webhook.disabled, webhook.spec.active) {
                (Some(_), _) => State::Disabled,
                (None, true) => State::Active,
                (None, false) => State::Inactive,
            },
            fifo: webhook.spec.ordering == Ordering::Fifo,
            exact: webhook.spec.events.iter().all(|filter| filter.is_exact()),
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.packed.id()
    }

    /// Whose events it gets.
    pub fn tenant(&self) -> &str {
        self.packed.tenant()
    }

    /// Whether deliveries are sent: see [`Webhook::delivers`].
    pub fn delivers(&self) -> bool {
        self.state == State::Active
    }

    /// Whether its deliveries keep their order.
    pub fn is_fifo(&self) -> bool {
        self.fifo
    }

    /// All of it, made anew at each call: a few microseconds.
    ///
    /// # Errors
    ///
    /// None is known; whoever meets one does without this webhook.
    pub fn webhook(&self) -> Result<Webhook, Unreadable> {
        self.packed.unpack(&self.uid, self.version)
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered")
            .field("id", &self.id())
            .field("tenant", &self.tenant())
            .field("uid", &self.uid)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
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

    /// Begins to replace everything: [`Fresh::add`] each webhook, then [`replace`](Registry::replace). What has not
    /// changed is not in memory twice meanwhile.
    pub fn fresh(&self) -> Fresh<'_> {
        Fresh {
            registry: self,
            index: Index::default(),
        }
    }

    /// Replaces everything by `fresh`, which is of this registry, but the webhooks of the ids `kept`, which exist and
    /// could not be read. Returns what each id that changed stood for and stands for.
    pub fn replace(&self, fresh: Fresh<'_>, kept: &[String]) -> Vec<Replaced> {
        let mut fresh = fresh.index;
        let mut index = self.write();
        for id in kept {
            if let Some(known) = index.by_id(id) {
                fresh.insert(known.clone());
            }
        }
        let mut replaced = Vec::new();
        for before in index.all() {
            let after = fresh.by_id(before.id()).cloned();
            if after
                .as_ref()
                .is_none_or(|after| !Arc::ptr_eq(after, before))
            {
                replaced.push(Replaced {
                    before: Some(before.clone()),
                    after,
                });
            }
        }
        for after in fresh.all() {
            if index.by_id(after.id()).is_none() {
                replaced.push(Replaced {
                    before: None,
                    after: Some(after.clone()),
                });
            }
        }
        *index = fresh;
        replaced
    }

    /// [`replace`](Registry::replace) for webhooks that are all at hand.
    pub fn load(
        &self,
        webhooks: impl IntoIterator<Item = Webhook>,
        kept: &[String],
    ) -> Vec<Replaced> {
        let mut fresh = self.fresh();
        webhooks.into_iter().for_each(|webhook| fresh.add(&webhook));
        self.replace(fresh, kept)
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
        let after = webhook.map(|webhook| Arc::new(Registered::new(&webhook, self.shards)));
        let mut index = self.write();
        index.newer.remove(id);
        if let (Some(before), Some(after)) = (index.by_id(id), &after)
            && before.uid == after.uid
            && before.version >= after.version
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
        self.read().matching(tenant, event_type, found);
    }

    /// The webhook with this id.
    pub fn by_id(&self, id: &str) -> Option<Arc<Registered>> {
        self.read().by_id(id).cloned()
    }

    /// The webhook with this uid.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Registered>> {
        self.read().by_uid(uid).cloned()
    }

    /// How many webhooks there are, by whether they deliver.
    pub fn counts(&self) -> Counts {
        self.read().counts()
    }

    /// Every webhook.
    pub fn all(&self) -> Vec<Arc<Registered>> {
        self.read().all().cloned().collect()
    }
}

/// Webhooks that are to replace those of a registry.
#[derive(Debug)]
pub struct Fresh<'a> {
    registry: &'a Registry,
    index: Index,
}

impl Fresh<'_> {
    /// Adds one, in the place of what was added under its id before.
    pub fn add(&mut self, webhook: &Webhook) {
        let made = Registered::new(webhook, self.registry.shards);
        let known = self
            .registry
            .by_id(made.id())
            .filter(|known| **known == made);
        self.index.insert(known.unwrap_or_else(|| Arc::new(made)));
    }
}
