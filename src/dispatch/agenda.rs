//! When parked webhooks have work next.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The webhooks of all owned shards that have work later, by when.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: Mutex<Entries>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    by_uid: HashMap<Arc<str>, (u64, u16)>,
    by_due: BTreeSet<(u64, Arc<str>)>,
}

impl Agenda {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters `uid` for `due_ms`, in the place of what stood there.
    pub fn put(&self, shard: u16, uid: Arc<str>, due_ms: u64) {
        let mut entries = self.entries();
        let first = entries.by_due.first().map(|(due, _)| *due);
        if let Some((old, _)) = entries.by_uid.insert(uid.clone(), (due_ms, shard)) {
            entries.by_due.remove(&(old, uid.clone()));
        }
        entries.by_due.insert((due_ms, uid));
        if first.is_none_or(|first| due_ms < first) {
            self.sooner.notify_one();
        }
    }

    pub fn remove(&self, uid: &str) {
        let mut entries = self.entries();
        if let Some((uid, (due, _))) = entries.by_uid.remove_entry(uid) {
            entries.by_due.remove(&(due, uid));
        }
    }

    /// Removes all of `shard`.
    pub fn remove_shard(&self, shard: u16) {
        let mut entries = self.entries();
        let Entries { by_uid, by_due } = &mut *entries;
        by_uid.retain(|uid, (due, of)| {
            let stays = *of != shard;
            if !stays {
                by_due.remove(&(*due, uid.clone()));
            }
            stays
        });
    }

    pub fn holds(&self, uid: &str) -> bool {
        self.entries().by_uid.contains_key(uid)
    }

    /// Everybody on it.
    pub fn all(&self) -> Vec<(u16, Arc<str>)> {
        self.entries()
            .by_uid
            .iter()
            .map(|(uid, (_, shard))| (*shard, uid.clone()))
            .collect()
    }

    /// Takes out all that is due by `now_ms`.
    pub fn take_due(&self, now_ms: u64) -> Vec<(u16, Arc<str>)> {
        let mut entries = self.entries();
        let mut due = Vec::new();
        while let Some((first, uid)) = entries.by_due.first().cloned() {
            if first > now_ms {
                break;
            }
            entries.by_due.pop_first();
            if let Some((_, shard)) = entries.by_uid.remove(&uid) {
                due.push((shard, uid));
            }
        }
        due
    }

    /// When the first is due.
    pub fn next(&self) -> Option<u64> {
        self.entries().by_due.first().map(|(due, _)| *due)
    }

    /// Resolves when something became due sooner than all before it.
    pub async fn changed(&self) {
        self.sooner.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_out_in_order_and_once() {
        let agenda = Agenda::default();
        agenda.put(1, "b".into(), 20);
        agenda.put(1, "a".into(), 10);
        agenda.put(2, "c".into(), 30);
        agenda.put(1, "b".into(), 5);
        assert_eq!(agenda.next(), Some(5));
        let due = agenda.take_due(10);
        assert_eq!(due, [(1, Arc::from("b")), (1, Arc::from("a"))]);
        assert!(agenda.take_due(10).is_empty() && agenda.holds("c") && !agenda.holds("a"));
        agenda.put(3, "d".into(), 40);
        agenda.remove("c");
        agenda.remove_shard(1);
        assert_eq!(agenda.next(), Some(40));
        agenda.remove_shard(3);
        assert!(agenda.next().is_none() && agenda.all().is_empty());
    }
}
