//! A walk over rejected entries: batch by batch, and not beyond those that were there when it began.

use std::collections::VecDeque;

use super::FilterArgs;
use super::show::size;
use crate::cli::progress::BatchSize;
use crate::event::EntryId;
use crate::store::rejected::Rejected;
use crate::store::{Store, StoreError};

/// The walk: the oldest first, or in the order of the ids that were given.
pub struct Walk<'a> {
    store: &'a Store,
    filter: &'a FilterArgs,
    /// Ids to look up one by one; `None` is for all entries.
    ids: Option<VecDeque<EntryId>>,
    after: EntryId,
    /// Unknown until the walk begins.
    newest: Option<EntryId>,
    size: BatchSize,
}

impl<'a> Walk<'a> {
    /// A walk over the entries `ids`, or over all without any, as far as they match `filter`.
    pub fn new(store: &'a Store, filter: &'a FilterArgs, ids: &[EntryId]) -> Walk<'a> {
        Walk {
            store,
            filter,
            ids: (!ids.is_empty()).then(|| ids.iter().copied().collect()),
            after: EntryId::MIN,
            newest: None,
            size: BatchSize::new(),
        }
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn next(&mut self) -> Result<Option<Vec<Rejected>>, StoreError> {
        let mut batch = match &mut self.ids {
            Some(ids) => {
                let Some(id) = ids.pop_front() else {
                    return Ok(None);
                };
                let mut found = self.store.rejected(id.previous(), 1).await?;
                found.retain(|entry| entry.id == id);
                found
            }
            None => {
                if self.newest.is_none() {
                    self.newest = self.store.newest_rejected().await?;
                }
                let Some(newest) = self.newest.filter(|newest| self.after < *newest) else {
                    return Ok(None);
                };
                let mut found = self.store.rejected(self.after, self.size.count()).await?;
                let bytes = found.iter().map(|entry| size(&entry.fields) + 512).sum();
                self.size.learn(found.len(), bytes);
                self.after = found.last().map_or(newest, |last| last.id);
                found.retain(|entry| entry.id <= newest);
                found
            }
        };
        batch.retain(|entry| self.filter.matches(entry));
        Ok(Some(batch))
    }
}
