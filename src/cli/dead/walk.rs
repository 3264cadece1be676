//! A walk over dead letters: batch by batch, and not beyond those that were there when it came by.

use std::collections::{BTreeSet, VecDeque};

use super::filter::Filter;
use crate::cli::progress::BatchSize;
use crate::event::EntryId;
use crate::store::dead::DeadLetter;
use crate::store::{Store, StoreError};

/// How it is with the webhook of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was deleted, or is another one under the same id.
    Deleted,
    /// It gets nothing at present: inactive, or disabled by Pombo.
    Idle,
    /// It gets its deliveries.
    Delivers,
}

/// Some dead letters of one webhook, oldest first.
pub struct Batch {
    /// The webhook's shard.
    pub shard: u16,
    /// The webhook's uid.
    pub uid: String,
    /// How it is with the webhook.
    pub standing: Standing,
    /// Those that match; may be none.
    pub letters: Vec<DeadLetter>,
    /// Those that cannot be read.
    pub unreadable: Vec<StoreError>,
}

/// The walk: by shard, by webhook, oldest first.
pub struct Walk<'a> {
    store: &'a Store,
    filter: &'a Filter,
    webhooks: Option<BTreeSet<&'a str>>,
    shards: VecDeque<u16>,
    uids: Vec<(u16, String)>,
    present: Option<Present>,
    /// A webhook whose dead letters cannot be read at all.
    spoilt: Option<(u16, String, StoreError)>,
}

/// The webhook that the walk is at.
struct Present {
    shard: u16,
    uid: String,
    after: EntryId,
    newest: EntryId,
    size: BatchSize,
    /// Known once a letter was read, for it names the webhook.
    standing: Option<Standing>,
}

impl Batch {
    /// Whether the webhook still exists, as the one that it was.
    pub fn exists(&self) -> bool {
        self.standing != Standing::Deleted
    }
}

impl<'a> Walk<'a> {
    /// A walk over what matches `filter`.
    pub fn new(store: &'a Store, filter: &'a Filter) -> Walk<'a> {
        let webhooks = filter.webhooks();
        let shards = match &webhooks {
            None => (0..store.shards()).collect(),
            Some(ids) => {
                let shards: BTreeSet<u16> = ids.iter().map(|id| store.shard_of(id)).collect();
                shards.into_iter().collect()
            }
        };
        Walk {
            store,
            filter,
            webhooks,
            shards,
            uids: Vec::new(),
            present: None,
            spoilt: None,
        }
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn next(&mut self) -> Result<Option<Batch>, StoreError> {
        loop {
            if self.present.is_none() && !self.move_on().await? {
                return Ok(None);
            }
            if let Some((shard, uid, error)) = self.spoilt.take() {
                return Ok(Some(Batch {
                    shard,
                    uid,
                    standing: Standing::Deleted,
                    letters: Vec::new(),
                    unreadable: vec![error],
                }));
            }
            let Some(mut present) = self.present.take() else {
                continue;
            };
            let (read, last) = self
                .store
                .dead_letters(
                    present.shard,
                    &present.uid,
                    present.after,
                    present.size.count(),
                )
                .await?;
            let Some(last) = last else { continue };
            let entries = read.len();
            let (mut letters, mut unreadable, mut bytes) = (Vec::new(), Vec::new(), 0);
            for letter in read {
                match letter {
                    Ok(letter) => {
                        bytes += letter.event.payload.len() + letter.ending.answer.len() + 512;
                        letters.push(letter);
                    }
                    Err(error) => unreadable.push(error),
                }
            }
            letters.retain(|letter| letter.id <= present.newest);
            if let (None, Some(first)) = (present.standing, letters.first()) {
                let id = first.ending.webhook_id.as_str();
                if self.webhooks.as_ref().is_some_and(|ids| !ids.contains(id)) {
                    continue;
                }
                let webhook = self.store.webhook(id).await?;
                let webhook = webhook.filter(|found| found.uid == present.uid);
                present.standing = Some(match webhook {
                    None => Standing::Deleted,
                    Some(webhook) if webhook.delivers() => Standing::Delivers,
                    Some(_) => Standing::Idle,
                });
            }
            letters.retain(|letter| self.filter.matches(letter));
            let batch = Batch {
                shard: present.shard,
                uid: present.uid.clone(),
                standing: present.standing.unwrap_or(Standing::Deleted),
                letters,
                unreadable,
            };
            if last < present.newest {
                present.size.learn(entries, bytes);
                present.after = last;
                self.present = Some(present);
            }
            return Ok(Some(batch));
        }
    }

    /// Goes to the next webhook with dead letters; false if there is none.
    async fn move_on(&mut self) -> Result<bool, StoreError> {
        loop {
            if let Some((shard, uid)) = self.uids.pop() {
                let newest = match self.store.newest_dead(shard, &uid).await {
                    Ok(Some(newest)) => newest,
                    Ok(None) => continue,
                    // One key that is not Pombo's must not hide what all others hold.
                    Err(error @ StoreError::Corrupt { .. }) => {
                        self.spoilt = Some((shard, uid, error));
                        return Ok(true);
                    }
                    Err(error) => return Err(error),
                };
                self.present = Some(Present {
                    shard,
                    uid,
                    after: EntryId::MIN,
                    newest,
                    size: BatchSize::new(),
                    standing: None,
                });
                return Ok(true);
            }
            let Some(shard) = self.shards.pop_front() else {
                return Ok(false);
            };
            let mut uids = self.store.buried(shard).await?;
            // The same order each time, as they are taken from the end.
            uids.sort_unstable_by(|a, b| b.cmp(a));
            self.uids = uids.into_iter().map(|uid| (shard, uid)).collect();
        }
    }
}
