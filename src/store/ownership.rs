//! Who lives, and who owns what: beats, claims and wake-ups.

use std::collections::HashMap;

use redis::Value;

use super::error::StoreError;
use super::{Store, scripts, value};

/// Wake-ups kept for a daemon that is slow to read them; older ones are found by its sweep.
const MOST_WAKES: usize = 10_000;
/// A wake-up stream that nobody reads any more expires.
const WAKE_EXPIRY_S: usize = 3_600;

/// The answer to a beat.
#[derive(Debug)]
pub enum Beat {
    /// Somebody deposed this daemon.
    Deposed,
    /// All live daemons: nonce -> beat.
    Listed(HashMap<String, String>),
}

impl Store {
    /// Beats as `nonce`; `join` lists it anew.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn beat(&self, nonce: &str, beat: &str, join: bool) -> Result<Beat, StoreError> {
        let mut connected = self.link().connection()?;
        let reply = scripts::BEAT
            .call()
            .key(self.keys().instances())
            .arg(nonce)
            .arg(beat)
            .arg(if join { "1" } else { "" })
            .run(&mut connected)
            .await?;
        Ok(match reply {
            list @ (Value::Array(_) | Value::Map(_)) => Beat::Listed(value::text_map(list)),
            _ => Beat::Deposed,
        })
    }

    /// Removes daemons from the list: those that no longer beat, or this one when it leaves.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn depose(&self, nonces: &[String]) -> Result<(), StoreError> {
        if nonces.is_empty() {
            return Ok(());
        }
        let mut commands = redis::pipe();
        commands
            .cmd("HDEL")
            .arg(self.keys().instances())
            .arg(nonces);
        for nonce in nonces {
            commands.cmd("UNLINK").arg(self.keys().wake(nonce));
        }
        self.link()
            .connection()?
            .all("depose a daemon", &commands)
            .await
            .map(drop)
    }

    /// The owners of all shards, by shard; `None` for a shard that never had one.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn owners(&self) -> Result<Vec<Option<String>>, StoreError> {
        let mut commands = redis::pipe();
        for shard in 0..self.shards() {
            commands.cmd("GET").arg(self.keys().owner(shard));
        }
        let replies = self
            .link()
            .connection()?
            .all("read the owners", &commands)
            .await?;
        Ok(replies.into_iter().map(value::text).collect())
    }

    /// Sets a shard's owner from `expected` to `owner`; false if somebody else was faster.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn claim(&self, shard: u16, expected: &str, owner: &str) -> Result<bool, StoreError> {
        let mut connected = self.link().connection()?;
        let call = scripts::CLAIM
            .call()
            .key(self.keys().owner(shard))
            .arg(expected)
            .arg(owner);
        Ok(value::integer(&call.run(&mut connected).await?) == Some(1))
    }

    /// The owner of a source stream.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn source_owner(&self, source: &str) -> Result<Option<String>, StoreError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys().source(source)).arg("owner");
        Ok(value::text(
            self.link()
                .connection()?
                .command("read a source's owner", command)
                .await?,
        ))
    }

    /// Sets a source's owner from `expected` to `owner`; false if somebody else was faster.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn claim_source(
        &self,
        source: &str,
        expected: &str,
        owner: &str,
    ) -> Result<bool, StoreError> {
        let mut connected = self.link().connection()?;
        let call = scripts::CLAIM_SOURCE
            .call()
            .key(self.keys().source(source))
            .arg(expected)
            .arg(owner);
        Ok(value::integer(&call.run(&mut connected).await?) == Some(1))
    }

    /// Wakes the owner of `shard` for the webhooks `uids`; nothing is done if it has no owner, because whoever claims
    /// it reads all that is due.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn wake_owner(&self, shard: u16, uids: &[String]) -> Result<(), StoreError> {
        let mut connected = self.link().connection()?;
        let mut command = redis::cmd("GET");
        command.arg(self.keys().owner(shard));
        let owner = value::text(connected.command("read a shard's owner", command).await?)
            .unwrap_or_default();
        let Some((nonce, _)) = owner.split_once(':') else {
            return Ok(());
        };
        let key = self.keys().wake(nonce);
        let mut commands = redis::pipe();
        for uid in uids {
            commands
                .cmd("XADD")
                .arg(&key)
                .arg("MAXLEN")
                .arg("~")
                .arg(MOST_WAKES)
                .arg("*");
            commands.arg("shard").arg(shard).arg("uid").arg(uid);
        }
        commands.cmd("EXPIRE").arg(&key).arg(WAKE_EXPIRY_S);
        connected.all("wake a daemon", &commands).await.map(drop)
    }
}
