//! What must be agreed upon before anything is stored: the schema's version and the number of shards.

use super::connection::{ServerFacts, first_error, version};
use super::error::StoreError;
use super::{Store, value};

/// The version of the whole layout of keys. A daemon refuses any other.
pub const SCHEMA_VERSION: &str = "1";

/// The first version of Redis that Pombo works with.
const OLDEST_REDIS: (u32, u32) = (7, 0);

/// Why a Redis cannot be used; nothing that waiting would mend.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Unfit {
    /// Too old a server.
    #[error("this Redis has version {found}; Pombo needs 7.0 or later")]
    Version {
        /// The server's version.
        found: String,
    },
    /// The data was written by another version of Pombo.
    #[error(
        "the data under the prefix {prefix:?} has schema version {found}, and this Pombo works with {SCHEMA_VERSION}: use the matching version, or another redis.prefix"
    )]
    Schema {
        /// The setting `redis.prefix`.
        prefix: String,
        /// The version found.
        found: String,
    },
    /// The number of shards is fixed when the first daemon starts.
    #[error(
        "the data under the prefix {prefix:?} is divided into {found} shards, and ownership.shards is {wanted}: set it to {found}, or use another redis.prefix"
    )]
    Shards {
        /// The setting `redis.prefix`.
        prefix: String,
        /// The number found.
        found: String,
        /// The setting.
        wanted: u16,
    },
}

impl Store {
    /// Checks that this Redis fits, writing down schema version and shards where nothing is yet.
    ///
    /// The outer error is one that passes (or permissions); the inner one is final. Warnings in plain words come back.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn check_boot(&self) -> Result<Result<Vec<String>, Unfit>, StoreError> {
        let facts = self.link().facts().await?;
        if let Err(unfit) = self.check_layout(&facts, Claim::SchemaAndShards).await? {
            return Ok(Err(unfit));
        }
        let mut warnings = Vec::new();
        if !facts.eviction_policy.is_empty() && facts.eviction_policy != "noeviction" {
            warnings.push(format!(
                "Redis evicts data when memory is full (maxmemory-policy is {}): it would drop deliveries without a \
                 trace; set it to noeviction",
                facts.eviction_policy
            ));
        }
        if !facts.append_only {
            let rest = if facts.snapshots {
                "what came after its last snapshot"
            } else {
                "everything"
            };
            warnings.push(format!(
                "the append-only file of Redis is off: a restart of Redis loses {rest}; set appendonly yes"
            ));
        }
        Ok(Ok(warnings))
    }

    /// Checks for a command that this Redis fits. `writes` says whether the command is going to change something: then
    /// the schema version is written down where nothing is yet. The number of shards is left to the first daemon.
    ///
    /// The outer error is one that passes (or permissions); the inner one is final.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn check_fit(&self, writes: bool) -> Result<Result<(), Unfit>, StoreError> {
        let facts = self.link().facts().await?;
        let claim = if writes {
            Claim::Schema
        } else {
            Claim::Nothing
        };
        self.check_layout(&facts, claim).await
    }

    async fn check_layout(
        &self,
        facts: &ServerFacts,
        claim: Claim,
    ) -> Result<Result<(), Unfit>, StoreError> {
        if !version_fits(&facts.version) {
            return Ok(Err(Unfit::Version {
                found: facts.version.clone(),
            }));
        }
        let key = self.keys().meta();
        let mut commands = redis::pipe();
        if claim != Claim::Nothing {
            let version = SCHEMA_VERSION;
            commands.cmd("HSETNX").arg(&key).arg("schema").arg(version);
        }
        if claim == Claim::SchemaAndShards {
            let shards = self.shards();
            commands.cmd("HSETNX").arg(&key).arg("shards").arg(shards);
        }
        commands.cmd("HMGET").arg(&key).arg("schema").arg("shards");
        const OPERATION: &str = "read the schema version";
        let mut connected = self.link().connection()?;
        let mut replies = connected.pipeline(OPERATION, &commands).await?;
        let read = replies.pop().unwrap_or(redis::Value::Nil);
        first_error(OPERATION, std::slice::from_ref(&read))?;
        let mut found = value::items(read).into_iter();
        let mut next = || found.next().and_then(value::text);
        let (schema, shards) = (next(), next());
        let is_written = match claim {
            Claim::Nothing => true,
            Claim::Schema => schema.is_some(),
            Claim::SchemaAndShards => schema.is_some() && shards.is_some(),
        };
        if !is_written {
            // A full Redis refuses what stands there already, too: only what does not is missed.
            first_error(OPERATION, &replies)?;
        }
        let prefix = self.keys().meta().trim_end_matches(":meta").to_owned();
        Ok(match (schema, shards) {
            (Some(found), _) if found != SCHEMA_VERSION => Err(Unfit::Schema { prefix, found }),
            (_, Some(found)) if found != self.shards().to_string() => Err(Unfit::Shards {
                prefix,
                found,
                wanted: self.shards(),
            }),
            _ => Ok(()),
        })
    }
}

/// What is written down where a Redis holds nothing of Pombo's yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// Nothing.
    Nothing,
    /// Which layout of keys this is.
    Schema,
    /// That, and the number of shards, which is fixed from then on.
    SchemaAndShards,
}

fn version_fits(found: &str) -> bool {
    version(found) >= OLDEST_REDIS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(version_fits("7.0.15") && version_fits("8.2.1") && version_fits("10.0.0"));
        assert!(!version_fits("6.2.14") && !version_fits("") && !version_fits("unknown"));
    }
}
