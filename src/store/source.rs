//! One source stream: reading it through the consumer group, acknowledging, and finding what fell between.

mod progress;
mod streams;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Cmd, Value};

use super::connection::{Connected, Link};
use super::error::StoreError;
use super::keys::Keys;
use super::value::{self, RawEntry};
use crate::event::EntryId;
use crate::settings::Start;

pub use progress::{Counter, Progress};
pub use streams::{add_entry, discover};

/// The consumer in Pombo's group. One, because one daemon reads a stream at a time: its successor then finds everything
/// pending under its own name.
const CONSUMER: &str = "pombo";

/// A source stream on its Redis.
#[derive(Clone)]
pub struct SourceStream {
    link: Link,
    keys: Keys,
    stream: String,
    /// Whether what is acknowledged is removed with it, where the server can; unset for good when it refuses.
    removes: Arc<AtomicBool>,
}

/// A pending entry of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Its id.
    pub id: EntryId,
}

/// Whether the consumer group was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// It was.
    Found,
    /// It was made, where it was lost or where the settings say.
    Made,
    /// It was made at the beginning of a stream that stands in the place of a deleted one.
    MadeAnew,
}

impl SourceStream {
    /// The stream `stream` on the server behind `link`.
    pub fn new(link: Link, keys: Keys, stream: &str) -> SourceStream {
        SourceStream {
            link,
            keys,
            stream: stream.to_owned(),
            removes: Arc::default(),
        }
    }

    /// The same, which with each acknowledgement removes the entries that no other group needs, where the server has
    /// XACKDEL. Elsewhere [`SourceStream::trim`] does it later, as it does what other groups acknowledge later.
    pub fn removing(self, removes: bool) -> SourceStream {
        self.removes.store(removes, Ordering::Relaxed);
        self
    }

    /// Its key.
    pub fn name(&self) -> &str {
        &self.stream
    }

    /// The connection that it is read over.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The mark: all entries up to it are settled.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn mark(&self, generation: u64) -> Result<Option<EntryId>, StoreError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys.source(&self.stream)).arg("mark");
        let reply = self
            .link
            .connection_of(generation)?
            .command("read a source's mark", command)
            .await?;
        Ok(value::text(reply).and_then(|text| text.parse().ok()))
    }

    /// Makes the group if it does not exist: from the mark if there is one, so that a lost group skips nothing and
    /// replays nothing that is settled, else from `start`. A mark above all ids that the stream ever gave out belongs to
    /// a stream that was deleted: the one in its place is read from its beginning.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering; permissions.
    pub async fn ensure_group(&self, start: Start, generation: u64) -> Result<Group, StoreError> {
        let mark = self.mark(generation).await?;
        let last = self.last_given(generation).await?;
        let (from, made) = match (mark, start) {
            (Some(mark), _) if mark > last => (EntryId::MIN, Group::MadeAnew),
            (Some(mark), _) => (mark, Group::Made),
            (None, Start::Beginning) => (EntryId::MIN, Group::Made),
            (None, Start::New) => (last, Group::Made),
        };
        let mut command = redis::cmd("XGROUP");
        command
            .arg("CREATE")
            .arg(&self.stream)
            .arg(self.keys.group())
            .arg(from.to_string())
            .arg("MKSTREAM");
        let operation = "create the consumer group";
        let mut connected = self.link.connection_of(generation)?;
        let reply = connected.ask(operation, command).await?;
        match value::server_error(&reply) {
            None => {
                if mark != Some(from) {
                    // If it is lost before anything was read, it is made again where it began.
                    self.acknowledge(&[], Some(from), generation).await?;
                }
                Ok(made)
            }
            Some((code, _)) if code == "BUSYGROUP" => Ok(Group::Found),
            Some((code, detail)) => {
                connected.count_error(operation);
                Err(StoreError::from_code(operation, &code, &detail))
            }
        }
    }

    /// The last id that the stream gave out, even if its entry is gone; the lowest for a stream that does not exist.
    async fn last_given(&self, generation: u64) -> Result<EntryId, StoreError> {
        let mut command = redis::cmd("XINFO");
        command.arg("STREAM").arg(&self.stream);
        let operation = "find the end of a source";
        let mut connected = self.link.connection_of(generation)?;
        let reply = connected.ask(operation, command).await?;
        match value::server_error(&reply) {
            None => Ok(value::text_map(reply)
                .get("last-generated-id")
                .and_then(|id| id.parse().ok())
                .unwrap_or(EntryId::MIN)),
            Some((_, detail)) if detail.contains("no such key") => Ok(EntryId::MIN),
            Some((code, detail)) => {
                connected.count_error(operation);
                Err(StoreError::from_code(operation, &code, &detail))
            }
        }
    }

    /// Reads entries that are pending since an earlier read, after `after`. Those without fields were trimmed.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoGroup`] when group or stream are gone.
    pub async fn read_pending(
        &self,
        connected: &mut Connected,
        after: EntryId,
        count: usize,
    ) -> Result<Vec<RawEntryOf>, StoreError> {
        let mut command = redis::cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(self.keys.group())
            .arg(CONSUMER)
            .arg("COUNT")
            .arg(count);
        command
            .arg("STREAMS")
            .arg(&self.stream)
            .arg(after.to_string());
        self.first_stream(connected.command("read pending entries", command).await?)
    }

    /// Waits up to `block` for entries that nobody has read.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoGroup`] when group or stream are gone.
    pub async fn read_new(
        &self,
        connected: &mut Connected,
        count: usize,
        block: Duration,
    ) -> Result<Vec<RawEntryOf>, StoreError> {
        let mut command = redis::cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(self.keys.group())
            .arg(CONSUMER)
            .arg("COUNT")
            .arg(count);
        command
            .arg("BLOCK")
            .arg(block.as_millis() as u64)
            .arg("STREAMS")
            .arg(&self.stream)
            .arg(">");
        self.first_stream(connected.command("read a source", command).await?)
    }

    fn first_stream(&self, reply: Value) -> Result<Vec<RawEntryOf>, StoreError> {
        let entries = value::streams(reply)?
            .into_iter()
            .next()
            .map(|(_, entries)| entries)
            .unwrap_or_default();
        Ok(entries.into_iter().map(RawEntryOf).collect())
    }

    /// Acknowledges entries and moves the mark, if there is one. False when the mark was refused, as a full Redis does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] when the server is not of `generation`: nothing was sent.
    pub async fn acknowledge(
        &self,
        ids: &[EntryId],
        mark: Option<EntryId>,
        generation: u64,
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "acknowledge events";
        let mut connected = self.link.connection_of(generation)?;
        let removes = self.removes.load(Ordering::Relaxed) && connected.has_xackdel(&self.stream);
        let mut commands = redis::pipe();
        if !ids.is_empty() {
            let mut command = Cmd::with_capacity(ids.len() + 6, 128 + ids.len() * 20);
            command.arg(if removes { "XACKDEL" } else { "XACK" });
            command.arg(&self.stream).arg(self.keys.group());
            if removes {
                command.arg("ACKED").arg("IDS").arg(ids.len());
            }
            for id in ids {
                command.arg(&*id.text());
            }
            commands.add_command(command);
        }
        if let Some(mark) = mark {
            commands
                .cmd("HSET")
                .arg(self.keys.source(&self.stream))
                .arg("mark")
                .arg(mark.to_string());
        }
        if commands.is_empty() {
            return Ok(true);
        }
        let replies = connected.pipeline(OPERATION, &commands).await?;
        let mut errors = replies.iter().map(value::server_error);
        if !ids.is_empty()
            && let Some((code, detail)) = errors.next().flatten()
        {
            connected.count_error(OPERATION);
            let error = StoreError::from_code(OPERATION, &code, &detail);
            if removes && matches!(error, StoreError::Denied { .. }) {
                // A list of permissions that was written for XACK, or a service without this command: the caller tries
                // again, and that is then an XACK.
                tracing::warn!(stream = %self.stream, %error, "XACKDEL is not used");
                self.removes.store(false, Ordering::Relaxed);
            }
            return Err(error);
        }
        Ok(mark.is_none() || errors.next().flatten().is_none())
    }

    /// Entries that are pending for at least `idle`, from `start` on.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoGroup`] when group or stream are gone.
    pub async fn pending(
        &self,
        idle: Duration,
        start: EntryId,
        count: usize,
        generation: u64,
    ) -> Result<Vec<Pending>, StoreError> {
        let mut command = redis::cmd("XPENDING");
        command
            .arg(&self.stream)
            .arg(self.keys.group())
            .arg("IDLE")
            .arg(idle.as_millis() as u64);
        command.arg(start.to_string()).arg("+").arg(count);
        let reply = self
            .link
            .connection_of(generation)?
            .command("look for pending entries", command)
            .await?;
        value::items(reply)
            .into_iter()
            .map(|item| {
                let id =
                    value::entry_id(value::items(item).into_iter().next().unwrap_or(Value::Nil))?;
                Ok(Pending { id })
            })
            .collect()
    }

    /// Reads entries by id; those without fields are no longer in the stream.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn read_by_id(
        &self,
        ids: &[EntryId],
        generation: u64,
    ) -> Result<Vec<RawEntryOf>, StoreError> {
        let mut commands = redis::pipe();
        for id in ids {
            let id = id.to_string();
            commands.cmd("XRANGE").arg(&self.stream).arg(&id).arg(&id);
        }
        let replies = self
            .link
            .connection_of(generation)?
            .all("read pending entries by id", &commands)
            .await?;
        ids.iter()
            .zip(replies)
            .map(|(id, reply)| {
                let found = value::entries(reply)?.into_iter().next();
                Ok(RawEntryOf(found.unwrap_or(RawEntry {
                    id: *id,
                    fields: None,
                })))
            })
            .collect()
    }
}

/// An entry as it was read from a source, before it is known to be an event.
pub struct RawEntryOf(RawEntry);

impl RawEntryOf {
    /// Its id.
    pub fn id(&self) -> EntryId {
        self.0.id
    }

    /// Its fields; `None` if it was trimmed while it was pending.
    pub fn into_fields(self) -> Option<Vec<(bytes::Bytes, bytes::Bytes)>> {
        self.0.fields
    }
}
