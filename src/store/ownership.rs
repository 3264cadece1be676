//! Who lives, and who owns what: beats, claims and wake-ups.

use std::collections::HashSet;
use std::sync::Arc;

use redis::Value;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::StoreError;
use super::{Store, scripts, value};

/// Wake-ups kept for a daemon that is slow to read them; older ones are found by its sweep.
const MOST_WAKES: usize = 10_000;
/// A wake-up stream that nobody reads any more expires.
const WAKE_EXPIRY_S: usize = 3_600;

/// The version of [`Beat`]'s form.
const BEAT_VERSION: u64 = 1;
/// Most wake-ups in one entry of a wake-up stream.
const WAKES_AT_ONCE: usize = 500;

/// What a daemon says of itself with each beat, stored as JSON. A later version may add to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    #[serde(rename = "v")]
    version: u64,
    /// Another one with each beat.
    pub counter: u64,
    /// The daemon's name (the setting `instance.name`).
    pub name: String,
    /// Whether it is about to stop, so that nothing belongs to it any more.
    #[serde(default)]
    pub leaving: bool,
    /// Deliveries that wait in the queues of its shards.
    #[serde(default)]
    pub waiting: u64,
}

impl Beat {
    /// The beat number `counter` of the daemon `name`, which stays and has nothing to do.
    pub fn new(counter: u64, name: &str) -> Beat {
        Beat {
            version: BEAT_VERSION,
            counter,
            name: name.to_owned(),
            leaving: false,
            waiting: 0,
        }
    }

    /// A beat that cannot be read is that of a daemon which lives as long as it changes, and is given nothing.
    fn read(nonce: &str, text: &str) -> Beat {
        serde_json::from_str(text).unwrap_or_else(|_| {
            let digest = Sha256::digest(text);
            let counter = digest
                .iter()
                .take(8)
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            Beat {
                leaving: true,
                ..Beat::new(counter, nonce)
            }
        })
    }
}

/// Webhooks with work: the shard and the uid of each.
pub type Work = Vec<(u16, Arc<str>)>;

/// The answer to a beat.
#[derive(Debug)]
pub enum Listed {
    /// Somebody deposed this daemon.
    Deposed,
    /// All live daemons: nonce and beat.
    Beats(Vec<(String, Beat)>),
}

impl Store {
    /// Beats as `nonce`; `join` lists it anew.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn beat(&self, nonce: &str, beat: &Beat, join: bool) -> Result<Listed, StoreError> {
        let mut connected = self.link().connection()?;
        let reply = scripts::BEAT
            .call()
            .key(self.keys().instances())
            .arg(nonce)
            .arg(serde_json::to_vec(beat).unwrap_or_default())
            .arg(if join { "1" } else { "" })
            .run(&mut connected)
            .await?;
        Ok(match reply {
            list @ (Value::Array(_) | Value::Map(_)) => {
                let listed = value::text_map(list).into_iter();
                let read = listed.map(|(nonce, text)| {
                    let beat = Beat::read(&nonce, &text);
                    (nonce, beat)
                });
                Listed::Beats(read.collect())
            }
            _ => Listed::Deposed,
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

    /// The owners of `shards`, in their order: `<nonce>:<epoch>`, `:<epoch>` for one that was released, `None` for one
    /// that never had an owner.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn owners(&self, shards: &[u16]) -> Result<Vec<Option<String>>, StoreError> {
        let mut commands = redis::pipe();
        for shard in shards {
            commands.cmd("GET").arg(self.keys().owner(*shard));
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

    /// Of these nonces, those of daemons that live, or whom nobody has deposed yet. An owner that is not in an older list
    /// may have joined since: whoever owns anything was listed before, so that asking after its name was read tells.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn still_listed(
        &self,
        mut nonces: Vec<String>,
    ) -> Result<HashSet<String>, StoreError> {
        if nonces.is_empty() {
            return Ok(HashSet::new());
        }
        let mut commands = redis::pipe();
        for nonce in &nonces {
            commands
                .cmd("HEXISTS")
                .arg(self.keys().instances())
                .arg(nonce);
        }
        let replies = self
            .link()
            .connection()?
            .all("ask who lives", &commands)
            .await?;
        let mut listed = replies.iter().map(|reply| value::integer(reply) == Some(1));
        nonces.retain(|_| listed.next().unwrap_or(false));
        Ok(nonces.into_iter().collect())
    }

    /// The owners of source streams, in their order; empty or `None` for one that has none.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn source_owners(
        &self,
        sources: &[String],
    ) -> Result<Vec<Option<String>>, StoreError> {
        let mut commands = redis::pipe();
        for source in sources {
            commands
                .cmd("HGET")
                .arg(self.keys().source(source))
                .arg("owner");
        }
        let replies = self
            .link()
            .connection()?
            .all("read the owners of sources", &commands)
            .await?;
        Ok(replies.into_iter().map(value::text).collect())
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
        let mut command = redis::cmd("GET");
        command.arg(self.keys().owner(shard));
        let mut connected = self.link().connection()?;
        let owner = value::text(connected.command("read a shard's owner", command).await?);
        let Some(nonce) = owner.as_deref().and_then(nonce_of) else {
            return Ok(());
        };
        let work: Work = uids
            .iter()
            .map(|uid| (shard, Arc::from(uid.as_str())))
            .collect();
        self.send_work("uid", &[(nonce.to_owned(), work)]).await
    }

    /// Tells daemons of more in the queues of their shards' webhooks; what is scheduled there is as it was.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn wake(&self, wakes: &[(String, Work)]) -> Result<(), StoreError> {
        self.send_work("more", wakes).await
    }

    async fn send_work(
        &self,
        what: &'static str,
        wakes: &[(String, Work)],
    ) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        for (nonce, work) in wakes {
            for chunk in work.chunks(WAKES_AT_ONCE) {
                let command = self.add_wake(&mut commands, nonce);
                for (shard, uid) in chunk {
                    command.arg("shard").arg(*shard).arg(what).arg(&**uid);
                }
            }
            self.expire_wakes(&mut commands, nonce);
        }
        self.send_wakes("wake a daemon", &commands).await
    }

    /// Tells daemons to look at who lives and who owns what.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering; then they look with their next beat.
    pub async fn call(&self, nonces: &[String]) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        for nonce in nonces {
            self.add_wake(&mut commands, nonce).arg("members").arg("");
            self.expire_wakes(&mut commands, nonce);
        }
        self.send_wakes("call a daemon", &commands).await
    }

    /// Asks the daemon `nonce` to release a source stream.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn ask_for_source(&self, nonce: &str, source: &str) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        self.add_wake(&mut commands, nonce)
            .arg("source")
            .arg(source);
        self.expire_wakes(&mut commands, nonce);
        self.send_wakes("ask for a source", &commands).await
    }

    fn add_wake<'a>(
        &self,
        commands: &'a mut redis::Pipeline,
        nonce: &str,
    ) -> &'a mut redis::Pipeline {
        commands
            .cmd("XADD")
            .arg(self.keys().wake(nonce))
            .arg("MAXLEN")
            .arg("~")
            .arg(MOST_WAKES)
            .arg("*")
    }

    fn expire_wakes(&self, commands: &mut redis::Pipeline, nonce: &str) {
        commands
            .cmd("EXPIRE")
            .arg(self.keys().wake(nonce))
            .arg(WAKE_EXPIRY_S);
    }

    async fn send_wakes(
        &self,
        operation: &'static str,
        commands: &redis::Pipeline,
    ) -> Result<(), StoreError> {
        if commands.is_empty() {
            return Ok(());
        }
        let mut connected = self.link().connection()?;
        connected.all(operation, commands).await.map(drop)
    }
}

/// The nonce of a shard's owner, if it has one.
pub(super) fn nonce_of(owner: &str) -> Option<&str> {
    let (nonce, _) = owner.split_once(':')?;
    (!nonce.is_empty()).then_some(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_of_another_version_is_read_and_nonsense_is_given_nothing() {
        let text = serde_json::to_string(&Beat::new(7, "a:b")).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"counter":7,"name":"a:b","leaving":false,"waiting":0}"#
        );
        assert_eq!(Beat::read("n", &text), Beat::new(7, "a:b"));
        let newer = r#"{"v":2,"counter":8,"name":"a:b","zone":"x"}"#;
        assert_eq!(Beat::read("n", newer).name, "a:b");
        let nonsense = Beat::read("n", "1:name");
        assert!(nonsense.leaving && nonsense != Beat::read("n", "2:name"));
    }
}
