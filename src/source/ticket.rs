//! Which events of a source are not yet settled, and what becomes of each.
//!
//! An event stays pending on its stream until every delivery that it causes is settled or durable elsewhere. Only an
//! explicit [`Share::settled`] counts down: a share that is merely dropped (a panic, a cancelled task, an error) breaks
//! its ticket, and a broken ticket is never acknowledged but read and fanned out again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::event::EntryId;

/// Where an entry of the source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Deliveries of it are open.
    Open,
    /// All its deliveries are settled; its acknowledgement is on the way.
    Settled,
    /// One of its deliveries was dropped: it must be read again.
    Broken,
}

/// The unsettled entries of one source stream.
#[derive(Debug)]
pub struct Table {
    entries: Mutex<Entries>,
    /// Something is settled, and nothing was before.
    some_settled: Notify,
}

#[derive(Debug, Default)]
struct Entries {
    states: BTreeMap<EntryId, State>,
    /// Those that are to be acknowledged. Here and in no channel: whoever settles holds the lock anyway.
    settled: VecDeque<EntryId>,
    last_read: EntryId,
}

impl Table {
    /// An empty table of a stream of which everything up to `mark` is settled.
    pub fn new(mark: EntryId) -> Arc<Table> {
        Arc::new(Table {
            entries: Mutex::new(Entries {
                last_read: mark,
                ..Entries::default()
            }),
            some_settled: Notify::new(),
        })
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // No code that holds the lock panics halfway through a change.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters `id` and returns the first share of its ticket; `None` if it is already being worked on.
    pub fn open(self: &Arc<Table>, id: EntryId) -> Option<Share> {
        let mut entries = self.entries();
        entries.last_read = entries.last_read.max(id);
        match entries.states.get(&id) {
            Some(State::Open | State::Settled) => None,
            Some(State::Broken) | None => {
                entries.states.insert(id, State::Open);
                drop(entries);
                let ticket = Ticket {
                    id,
                    open: AtomicU32::new(1),
                    broken: AtomicBool::new(false),
                    table: self.clone(),
                };
                Some(Share {
                    ticket: Arc::new(ticket),
                    settled: false,
                })
            }
        }
    }

    /// All entries up to `id` were handed out by somebody: they are in this table, or settled. So the mark, which only
    /// their readers moved, and with a delay, can pass those that are settled.
    pub fn given_until(&self, id: EntryId) {
        let mut entries = self.entries();
        entries.last_read = entries.last_read.max(id);
    }

    /// The stream begins anew with lower ids: the mark no longer stands where the old one ended.
    pub fn begin_anew(&self) {
        self.entries().last_read = EntryId::MIN;
    }

    /// Whether `id` is being worked on.
    pub fn holds(&self, id: EntryId) -> bool {
        matches!(
            self.entries().states.get(&id),
            Some(State::Open | State::Settled)
        )
    }

    /// Whether `id` was entered and is not acknowledged yet, whatever became of it.
    pub fn knows(&self, id: EntryId) -> bool {
        self.entries().states.contains_key(&id)
    }

    /// Moves settled entries to `batch`, as long as that has fewer than `most`.
    pub fn take_settled(&self, batch: &mut Vec<EntryId>, most: usize) {
        let mut entries = self.entries();
        let number = entries.settled.len().min(most.saturating_sub(batch.len()));
        batch.extend(entries.settled.drain(..number));
    }

    /// Resolves when there is something to take. For one task alone.
    pub async fn until_settled(&self) {
        while self.entries().settled.is_empty() {
            self.some_settled.notified().await;
        }
    }

    /// Removes entries whose acknowledgement Redis has confirmed.
    pub fn acknowledged(&self, ids: &[EntryId]) {
        let mut entries = self.entries();
        for id in ids {
            entries.states.remove(id);
        }
    }

    /// The mark: the highest id such that everything up to it is settled and acknowledged.
    pub fn mark(&self) -> EntryId {
        let entries = self.entries();
        match entries.states.first_key_value() {
            Some((lowest, _)) => lowest.previous(),
            None => entries.last_read,
        }
    }

    /// How many entries are unsettled.
    pub fn unsettled(&self) -> usize {
        self.entries().states.len()
    }

    /// Whether nothing is being worked on: what is broken stays pending for whoever reads next.
    pub fn is_done(&self) -> bool {
        let entries = self.entries();
        entries.states.values().all(|state| *state == State::Broken)
    }

    /// The broken entries, to be read again.
    pub fn broken(&self) -> Vec<EntryId> {
        let entries = self.entries();
        entries
            .states
            .iter()
            .filter(|(_, state)| **state == State::Broken)
            .map(|(id, _)| *id)
            .collect()
    }

    fn close(&self, id: EntryId, whole: bool) {
        let state = if whole { State::Settled } else { State::Broken };
        let mut entries = self.entries();
        entries.states.insert(id, state);
        if whole {
            let is_first = entries.settled.is_empty();
            entries.settled.push_back(id);
            drop(entries);
            if is_first {
                self.some_settled.notify_one();
            }
        }
    }
}

#[derive(Debug)]
struct Ticket {
    id: EntryId,
    open: AtomicU32,
    broken: AtomicBool,
    table: Arc<Table>,
}

/// One delivery's part in an event's acknowledgement.
#[derive(Debug)]
pub struct Share {
    ticket: Arc<Ticket>,
    settled: bool,
}

impl Share {
    /// A further share of the same event.
    pub fn another(&self) -> Share {
        self.ticket.open.fetch_add(1, Ordering::AcqRel);
        Share {
            ticket: self.ticket.clone(),
            settled: false,
        }
    }

    /// The delivery is settled, or durable in a place of its own.
    pub fn settled(mut self) {
        self.settled = true;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.settled {
            self.ticket.broken.store(true, Ordering::Release);
        }
        if self.ticket.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            let whole = !self.ticket.broken.load(Ordering::Acquire);
            self.ticket.table.close(self.ticket.id, whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn settled(table: &Table) -> Vec<EntryId> {
        let mut batch = Vec::new();
        table.take_settled(&mut batch, 10);
        batch
    }

    #[test]
    fn an_entry_is_settled_when_its_last_share_is() {
        let table = Table::new(EntryId::MIN);
        let first = table.open(id(1)).unwrap();
        let second = first.another();
        first.settled();
        assert_eq!(settled(&table), []);
        second.settled();
        assert_eq!(settled(&table), [id(1)]);
    }

    #[test]
    fn a_dropped_share_breaks_the_ticket_whatever_the_others_do() {
        let table = Table::new(EntryId::MIN);
        let first = table.open(id(1)).unwrap();
        drop(first.another());
        first.settled();
        assert_eq!(settled(&table), []);
        assert_eq!(table.broken(), [id(1)]);
        assert!(!table.holds(id(1)));
        table.open(id(1)).unwrap().settled();
        assert_eq!(settled(&table), [id(1)]);
    }

    #[test]
    fn an_entry_that_is_being_worked_on_is_not_opened_twice() {
        let table = Table::new(EntryId::MIN);
        let share = table.open(id(1)).unwrap();
        assert!(table.open(id(1)).is_none());
        share.settled();
        assert!(
            table.open(id(1)).is_none(),
            "its acknowledgement is on the way"
        );
        table.acknowledged(&[id(1)]);
        assert!(table.open(id(1)).is_some());
    }

    #[test]
    fn the_mark_stays_below_everything_that_is_not_acknowledged() {
        let table = Table::new(EntryId::MIN);
        let one = table.open(id(1)).unwrap();
        let two = table.open(id(2)).unwrap();
        two.settled();
        table.acknowledged(&[id(2)]);
        assert_eq!(table.mark(), id(1).previous());
        drop(one);
        assert_eq!(
            table.mark(),
            id(1).previous(),
            "a broken entry holds the mark"
        );
        table.open(id(1)).unwrap().settled();
        table.acknowledged(&[id(1)]);
        assert_eq!(table.mark(), id(2));
        table.given_until(id(5));
        table.given_until(id(4));
        assert_eq!(table.mark(), id(5));
    }

    #[tokio::test]
    async fn settled_entries_are_taken_in_order_some_at_a_time_by_whoever_waits_for_them() {
        let table = Table::new(EntryId::MIN);
        let shares: Vec<Share> = (1..=4).map(|n| table.open(id(n)).unwrap()).collect();
        let waiting = tokio::spawn({
            let table = table.clone();
            async move { table.until_settled().await }
        });
        tokio::task::yield_now().await;
        shares.into_iter().for_each(Share::settled);
        waiting.await.unwrap();
        let mut batch = vec![id(0)];
        table.take_settled(&mut batch, 3);
        assert_eq!(batch, [id(0), id(1), id(2)]);
        // What is left is there at once.
        table.until_settled().await;
        assert_eq!(settled(&table), [id(3), id(4)]);
    }
}
