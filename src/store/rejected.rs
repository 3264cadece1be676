//! Entries of sources that could not be read as events, kept whole with the reason.

use bytes::Bytes;
use redis::Value;

use super::connection::Link;
use super::error::StoreError;
use super::{Store, value};
use crate::event::EntryId;

/// Names of an entry's own fields carry this prefix, so that they never meet Pombo's.
const FIELD_PREFIX: &[u8] = b"f:";

/// An entry on its way to the rejected stream.
#[derive(Debug, Clone)]
pub struct Rejecting {
    /// The configured source.
    pub source: String,
    /// The stream.
    pub stream: String,
    /// The entry.
    pub entry_id: EntryId,
    /// Why, for programs.
    pub reason: &'static str,
    /// Why, in plain words.
    pub detail: String,
    /// All its fields.
    pub fields: Vec<(Bytes, Bytes)>,
}

/// A rejected entry as it is kept.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// Its entry in the rejected stream.
    pub id: EntryId,
    /// The configured source.
    pub source: String,
    /// The stream that it came from.
    pub stream: String,
    /// Its entry there.
    pub entry_id: String,
    /// Why, for programs.
    pub reason: String,
    /// Why, in plain words.
    pub detail: String,
    /// All its fields.
    pub fields: Vec<(Bytes, Bytes)>,
}

impl Store {
    /// Keeps rejected entries, at most `most` in all. Returns how many older ones fell out for them.
    ///
    /// # Errors
    ///
    /// Unless this succeeds the entries must not be acknowledged.
    pub async fn reject(
        &self,
        batch: &[Rejecting],
        most: u64,
        generation: u64,
    ) -> Result<u64, StoreError> {
        let key = self.keys().rejected();
        let mut commands = redis::pipe();
        for rejecting in batch {
            commands
                .cmd("XADD")
                .arg(&key)
                .arg("*")
                .arg("v")
                .arg("1")
                .arg("source")
                .arg(&rejecting.source)
                .arg("stream")
                .arg(&rejecting.stream);
            commands.arg("entry").arg(rejecting.entry_id.to_string());
            commands
                .arg("reason")
                .arg(rejecting.reason)
                .arg("detail")
                .arg(&rejecting.detail);
            for (name, value) in &rejecting.fields {
                commands.arg([FIELD_PREFIX, name].concat()).arg(&value[..]);
            }
        }
        commands.cmd("XTRIM").arg(&key).arg("MAXLEN").arg(most);
        let mut connected = self.link().durable(&key, generation).await?;
        let reply = connected
            .transaction("keep rejected entries", &mut commands)
            .await?;
        connected.replicated().await;
        Ok(value::items(reply)
            .last()
            .and_then(value::integer)
            .unwrap_or(0)
            .max(0)
            .unsigned_abs())
    }

    /// Up to `count` rejected entries after `after`, oldest first.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn rejected(
        &self,
        after: EntryId,
        count: usize,
    ) -> Result<Vec<Rejected>, StoreError> {
        let mut commands = redis::pipe();
        commands
            .cmd("XRANGE")
            .arg(self.keys().rejected())
            .arg(format!("({after}"))
            .arg("+")
            .arg("COUNT")
            .arg(count);
        let reply = self
            .link()
            .slowly("list rejected entries", &commands)
            .await?
            .pop()
            .unwrap_or(Value::Nil);
        Ok(value::entries(reply)?
            .into_iter()
            .map(|entry| {
                let text = |name: &str| entry.text(name).unwrap_or_default();
                Rejected {
                    id: entry.id,
                    source: text("source"),
                    stream: text("stream"),
                    entry_id: text("entry"),
                    reason: text("reason"),
                    detail: text("detail"),
                    fields: entry
                        .fields
                        .iter()
                        .flatten()
                        .filter(|(name, _)| name.starts_with(FIELD_PREFIX))
                        .map(|(name, value)| (name.slice(FIELD_PREFIX.len()..), value.clone()))
                        .collect(),
                }
            })
            .collect())
    }

    /// The newest rejected entry: where a walk over them ends, so that it does not follow what is added while it goes on.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn newest_rejected(&self) -> Result<Option<EntryId>, StoreError> {
        value::newest(
            self.link(),
            "find the newest rejected entry",
            &self.keys().rejected(),
        )
        .await
    }

    /// Adds a rejected entry to its source again, with all its fields, and then removes it here. A crash between the
    /// two leaves it in both: never in neither.
    ///
    /// # Errors
    ///
    /// Whatever keeps one of the servers from answering.
    pub async fn requeue(&self, rejected: &Rejected, source: &Link) -> Result<(), StoreError> {
        let mut command = redis::cmd("XADD");
        command.arg(&rejected.stream).arg("*");
        for (name, value) in &rejected.fields {
            command.arg(&name[..]).arg(&value[..]);
        }
        source
            .connection()?
            .command("requeue a rejected entry", command)
            .await?;
        self.drop_rejected(&[rejected.id]).await.map(drop)
    }

    /// Removes rejected entries for good. Returns how many were there.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn drop_rejected(&self, ids: &[EntryId]) -> Result<u64, StoreError> {
        let mut command = redis::cmd("XDEL");
        command.arg(self.keys().rejected());
        for id in ids {
            command.arg(id.to_string());
        }
        let reply = self
            .link()
            .connection()?
            .command("remove rejected entries", command)
            .await?;
        Ok(value::integer(&reply).unwrap_or(0).max(0).unsigned_abs())
    }
}
