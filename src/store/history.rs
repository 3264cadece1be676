//! Deliveries that succeeded, kept for people to look at: newest last, capped by number and age.
//!
//! Best effort, unlike everything else here: an entry that cannot be written is lost, and no delivery waits for it.

use std::sync::Arc;

use redis::{Arg, Cmd};

use super::Store;
use super::codec;
use super::error::StoreError;
use crate::delivery::AttemptLog;
use crate::event::Event;
use crate::settings::{HistoryPayload, HistorySettings};

/// Of the command that writes an entry: what there is room for from the start.
const MOST_ARGUMENTS: usize = 14;
const USUAL_BYTES: usize = 512;

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

/// With how many entries of a history one trims: the number kept, which Redis takes to the next whole node of the stream
/// anyway, is passed by a fiftieth at most.
pub fn trims_every(caps: &HistorySettings) -> u64 {
    (caps.max_count / 50).clamp(1, 16)
}

/// The id before which entries are older than what is kept.
fn oldest_kept(now_ms: u64, caps: &HistorySettings) -> u64 {
    now_ms.saturating_sub(u64::try_from(caps.max_age.as_millis()).unwrap_or(u64::MAX))
}

impl Store {
    /// Makes the entry of a delivery that succeeded after `attempts` attempts, to be written by [`Store::settle`]. The
    /// payload is part of it only where those of all deliveries are kept. If it `trims`, what is one too many falls out
    /// with it: looking for that costs Redis a good part of what the entry does; see [`trims_every`].
    #[allow(
        clippy::too_many_arguments,
        reason = "the place, the delivery, its attempts and the bounds are all separate facts"
    )]
    pub fn finished(
        &self,
        shard: u16,
        uid: &str,
        event: &Event,
        attempts: u32,
        log: &AttemptLog,
        caps: &HistorySettings,
        trims: bool,
    ) -> Finished {
        let with_payload = caps.payload == HistoryPayload::All;
        let payload = if with_payload { event.payload.len() } else { 0 };
        let mut command = Cmd::with_capacity(MOST_ARGUMENTS, payload + USUAL_BYTES);
        command.arg("XADD").arg(self.keys().history(shard, uid));
        if trims {
            command.arg("MAXLEN").arg("~").arg(caps.max_count);
        }
        command.arg("*");
        codec::write_history(&mut command, event, attempts, log, with_payload);
        let size = command.args_iter().map(|part| match part {
            Arg::Simple(bytes) => bytes.len() + 8,
            _ => 0,
        });
        Finished {
            size: size.sum(),
            command,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_history_passes_its_number_by_a_fiftieth_before_it_is_trimmed() {
        let mut caps = Settings::defaults_for_tests().history;
        for (max_count, every) in [(0, 1), (3, 1), (100, 2), (1_000, 16), (1_000_000_000, 16)] {
            caps.max_count = max_count;
            assert_eq!(trims_every(&caps), every, "{max_count}");
        }
    }
}
