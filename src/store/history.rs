//! Deliveries that succeeded, kept for people to look at: newest last, capped by number and age.
//!
//! Best effort, unlike everything else here: an entry that cannot be written is lost, and no delivery waits for it.

use std::sync::Arc;

use redis::Cmd;

use super::Store;
use super::codec;
use super::error::StoreError;
use crate::delivery::AttemptLog;
use crate::event::Event;
use crate::settings::{HistoryPayload, HistorySettings};

/// An entry of a history, ready to be written; see [`Store::finished`].
pub struct Finished {
    command: Cmd,
    size: usize,
}

impl Finished {
    /// Its size in bytes, about.
    pub fn size(&self) -> usize {
        self.size
    }

    pub(super) fn into_command(self) -> Cmd {
        self.command
    }
}

/// The id before which entries are older than what is kept.
fn oldest_kept(now_ms: u64, caps: &HistorySettings) -> u64 {
    now_ms.saturating_sub(u64::try_from(caps.max_age.as_millis()).unwrap_or(u64::MAX))
}

impl Store {
    /// Makes the entry of a delivery that succeeded after `attempts` attempts, to be written by [`Store::settle`]. The
    /// payload is part of it only where those of all deliveries are kept.
    pub fn finished(
        &self,
        shard: u16,
        uid: &str,
        event: &Event,
        attempts: u32,
        log: &AttemptLog,
        caps: &HistorySettings,
    ) -> Finished {
        let mut command = redis::cmd("XADD");
        command
            .arg(self.keys().history(shard, uid))
            .arg("MAXLEN")
            .arg("~")
            .arg(caps.max_count)
            .arg("*");
        let mut size = 0;
        let with_payload = caps.payload == HistoryPayload::All;
        codec::write_history(event, attempts, log, with_payload, |name, value| {
            size += name.len() + value.len() + 8;
            command.arg(name).arg(value);
        });
        Finished { command, size }
    }

    /// Removes from the histories of `webhooks` what is too old, about: Redis drops whole nodes of a stream, so that the
    /// last few of a webhook that gets nothing more stay.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn trim_history(
        &self,
        webhooks: &[(u16, Arc<str>)],
        now_ms: u64,
        caps: &HistorySettings,
    ) -> Result<(), StoreError> {
        let mut commands = redis::Pipeline::with_capacity(webhooks.len());
        for (shard, uid) in webhooks {
            commands.cmd("XTRIM").arg(self.keys().history(*shard, uid));
            if caps.max_count == 0 {
                // Nothing is added any more that would push out what an earlier setting kept.
                commands.arg("MAXLEN").arg(0);
            } else {
                commands
                    .arg("MINID")
                    .arg("~")
                    .arg(oldest_kept(now_ms, caps));
            }
        }
        self.link()
            .slowly("trim histories", &commands)
            .await
            .map(drop)
    }
}
