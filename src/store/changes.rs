//! Following changes of webhooks, and wake-ups of this daemon, by one blocking read.

use std::time::Duration;

use super::connection::Connected;
use super::error::StoreError;
use super::value::RawEntry;
use super::{Store, value};
use crate::event::EntryId;

/// Most entries of one read.
const BATCH: usize = 1_000;

/// Something that another process wants this daemon to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The webhook with this id was stored, changed or deleted.
    Webhook {
        /// The change's number, one above the one before.
        number: u64,
        /// The webhook's id.
        id: String,
    },
    /// There is work in the queue of this webhook.
    Wake {
        /// Its shard.
        shard: u16,
        /// Its uid.
        uid: String,
        /// Whether something scheduled there may be due sooner than it was.
        rescheduled: bool,
    },
    /// Other daemons joined, left or released something.
    Members,
    /// Another daemon wants to read this source stream.
    Source(String),
}

/// Where a follower stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Position {
    /// The last change read.
    pub changes: EntryId,
    /// The last wake-up read.
    pub wakes: EntryId,
    /// The number of the last change.
    pub number: u64,
}

impl Store {
    /// Where following starts: what was changed before is in a snapshot that is read afterwards.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn change_position(&self) -> Result<Position, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("GET").arg(self.keys().change_number());
        commands
            .cmd("XREVRANGE")
            .arg(self.keys().changes())
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1);
        let mut replies = self
            .link()
            .connection()?
            .all("find the last change", &commands)
            .await?
            .into_iter();
        let number = replies
            .next()
            .and_then(|reply| value::integer(&reply))
            .unwrap_or(0);
        let last = value::entries(replies.next().unwrap_or(redis::Value::Nil))?;
        Ok(Position {
            changes: last.first().map(|entry| entry.id).unwrap_or(EntryId::MIN),
            wakes: EntryId::MIN,
            number: number.max(0).unsigned_abs(),
        })
    }

    /// Waits up to `block` for changes and for wake-ups of the daemon `nonce` after `position`, and moves it.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn follow(
        &self,
        connected: &mut Connected,
        nonce: &str,
        position: &mut Position,
        block: Duration,
    ) -> Result<Vec<Change>, StoreError> {
        let (changes, wake) = (self.keys().changes(), self.keys().wake(nonce));
        let mut command = redis::cmd("XREAD");
        command
            .arg("COUNT")
            .arg(BATCH)
            .arg("BLOCK")
            .arg(block.as_millis() as u64)
            .arg("STREAMS");
        command
            .arg(&changes)
            .arg(&wake)
            .arg(position.changes.to_string())
            .arg(position.wakes.to_string());
        let reply = connected.command("follow changes", command).await?;
        let mut found = Vec::new();
        for (key, entries) in value::streams(reply)? {
            for entry in entries {
                if key == changes {
                    position.changes = entry.id;
                    let number = entry
                        .text("n")
                        .and_then(|text| text.parse().ok())
                        .unwrap_or(0);
                    found.extend(
                        entry
                            .text("webhook")
                            .map(|id| Change::Webhook { number, id }),
                    );
                } else {
                    position.wakes = entry.id;
                    found.extend(read_wakes(entry));
                }
            }
        }
        Ok(found)
    }
}

/// What an entry of a wake-up stream tells; fields that this version does not know say nothing to it.
fn read_wakes(entry: RawEntry) -> Vec<Change> {
    let (mut found, mut of_shard) = (Vec::new(), None);
    for (name, value) in entry.fields.into_iter().flatten() {
        let Ok(text) = std::str::from_utf8(&value) else {
            continue;
        };
        match &name[..] {
            b"shard" => of_shard = text.parse().ok(),
            b"uid" | b"more" => {
                let (uid, rescheduled) = (text.to_owned(), &name[..] == b"uid");
                let wake = |shard| Change::Wake {
                    shard,
                    uid,
                    rescheduled,
                };
                found.extend(of_shard.take().map(wake));
            }
            b"members" => found.push(Change::Members),
            b"source" => found.push(Change::Source(text.to_owned())),
            _ => {}
        }
    }
    found
}
