//! The newest deliveries of several shelves: which shelf is looked at next, and when enough was seen.
//!
//! Deliveries are told newest first by when their event arrived. A shelf is ordered by when deliveries came there, which
//! is never before that. So every shelf is walked from its newest entry, and left alone once all that is still unseen
//! there came before the oldest of the deliveries that are kept: nothing unseen can be newer (Fagin's threshold
//! algorithm). A source on another Redis whose clock is ahead, or entries that a platform gave ids of the future, can
//! change the order at the edge of a page, and nothing else.
//!
//! Pure: what was seen is handed in.

use std::collections::BTreeMap;

use crate::event::EntryId;
use crate::store::deliveries::{Row, Seen, Shelf};

#[cfg(test)]
mod tests;

/// When the event arrived, and which one it is: the newest is the greatest. A delivery that stands on two shelves, for a
/// moment or because it was repeated after a crash, is one and the same.
type Key = (EntryId, String);

fn key(row: &Row) -> Key {
    (row.entry_id, row.stream.clone())
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// How many of the newest are kept.
    pub wanted: usize,
    /// Whether all that match are counted, and not just the newest found.
    pub count_all: bool,
    /// Nothing that arrived before this moment (Unix ms) is wanted.
    pub since_ms: u64,
    /// What all looks together may cost.
    pub budget: usize,
    /// What they may cost once every shelf was looked at and as many were found as are wanted: what is still unseen can
    /// change the order then, and nothing else.
    pub enough: usize,
}

#[derive(Clone, Copy, Debug)]
struct Walk {
    shelf: Shelf,
    /// All that is unseen came before this entry; `None` before the first look.
    bound: Option<EntryId>,
    ended: bool,
    looks: u32,
}

impl Walk {
    /// A look further on this shelf.
    fn look(&self, rows: usize) -> Next {
        Next {
            shelf: self.shelf,
            before: self.bound,
            rows,
        }
    }
}

/// A look at a shelf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Next {
    /// Which one.
    pub shelf: Shelf,
    /// Before which entry; `None` from the newest on.
    pub before: Option<EntryId>,
    /// How many rows are worth having: as many as are wanted, and each time twice as many, so that few looks see much; of a
    /// page that is filled, all that may still be looked at.
    pub rows: usize,
}

/// The walk over the shelves.
#[derive(Debug)]
pub struct Paging {
    goal: Goal,
    walks: Vec<Walk>,
    kept: BTreeMap<Key, Row>,
    cost: usize,
    matched: u64,
}

impl Paging {
    /// A walk over these shelves, which are looked at in this order where nothing else decides.
    pub fn new(shelves: &[Shelf], goal: Goal) -> Paging {
        Paging {
            goal,
            walks: shelves
                .iter()
                .map(|shelf| Walk {
                    shelf: *shelf,
                    bound: None,
                    ended: false,
                    looks: 0,
                })
                .collect(),
            kept: BTreeMap::new(),
            cost: 0,
            matched: 0,
        }
    }

    fn matters(&self, walk: &Walk) -> bool {
        if walk.ended {
            return false;
        }
        let Some(bound) = walk.bound else {
            return true;
        };
        if bound.ms < self.goal.since_ms {
            return false;
        }
        if self.goal.count_all || self.kept.len() < self.goal.wanted {
            return true;
        }
        let worst = self.kept.first_key_value();
        // What came in the same millisecond can still be newer.
        worst.is_some_and(|((entry, _), _)| bound.ms >= entry.ms)
    }

    fn next_walk(&self) -> Option<&Walk> {
        let newest = |walk: &&Walk| walk.bound.unwrap_or(EntryId::MAX);
        let mattering = self.walks.iter().filter(|walk| self.matters(walk));
        // The first of equals.
        mattering.rev().max_by_key(newest)
    }

    /// Whether every shelf was looked at, and nothing is missing of what is wanted.
    fn is_filled(&self) -> bool {
        let all_seen = self.walks.iter().all(|walk| walk.ended || walk.looks > 0);
        all_seen && !self.goal.count_all && self.kept.len() >= self.goal.wanted
    }

    /// The next looks, which may be made together: first one at each shelf; once the page is filled, one at each that could
    /// still change it; else one at a time. None when enough was seen, or the budget is spent.
    pub fn next(&self) -> Vec<Next> {
        let is_filled = self.is_filled();
        let bound = match is_filled {
            true => self.goal.enough.min(self.goal.budget),
            false => self.goal.budget,
        };
        let left = bound.saturating_sub(self.cost);
        if left == 0 {
            return Vec::new();
        }
        if is_filled {
            // What is left is shared out to the shelves that could still change something.
            let mattering: Vec<&Walk> = self
                .walks
                .iter()
                .filter(|walk| self.matters(walk))
                .collect();
            let rows = left.div_ceil(mattering.len().max(1));
            return mattering.into_iter().map(|walk| walk.look(rows)).collect();
        }
        let rows = |walk: &Walk| match self.goal.count_all {
            true => left,
            false => self
                .goal
                .wanted
                .saturating_mul(2_usize.saturating_pow(walk.looks))
                .clamp(1, left),
        };
        let look = |walk: &Walk| walk.look(rows(walk));
        match self.walks.iter().any(|walk| walk.looks == 0) {
            true => self.walks.iter().map(look).collect(),
            false => self.next_walk().map(look).into_iter().collect(),
        }
    }

    /// What a look at a shelf has found.
    pub fn saw(&mut self, shelf: Shelf, seen: Seen) {
        self.cost += seen.cost.max(1);
        self.matched += seen.rows.len() as u64;
        for row in seen.rows {
            let key = key(&row);
            match self.kept.get(&key) {
                // Where it came last, it is now.
                Some(found) if found.place.id >= row.place.id => {}
                _ => {
                    self.kept.insert(key, row);
                }
            }
            if self.kept.len() > self.goal.wanted {
                self.kept.pop_first();
            }
        }
        if let Some(walk) = self.walks.iter_mut().find(|walk| walk.shelf == shelf) {
            walk.bound = seen.last.or(walk.bound);
            walk.ended = seen.ended;
            walk.looks += 1;
        }
    }

    /// What all looks have cost so far.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Rows seen that match, those that were not kept included.
    pub fn matched(&self) -> u64 {
        self.matched
    }

    /// Whether all was seen that matters.
    pub fn is_complete(&self) -> bool {
        self.next_walk().is_none()
    }

    /// How many there are, if all are kept: where fewer are found than are wanted.
    pub fn all(&self) -> Option<usize> {
        let is_all = self.is_complete() && self.kept.len() < self.goal.wanted;
        is_all.then_some(self.kept.len())
    }

    /// The rows of a page, newest first.
    pub fn page(self, skip: usize, take: usize) -> Vec<Row> {
        self.kept
            .into_values()
            .rev()
            .skip(skip)
            .take(take)
            .collect()
    }
}
