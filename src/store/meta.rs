//! What must be agreed upon before anything is stored: the schema's version and the number of shards.

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
        if !version_fits(&facts.version) {
            return Ok(Err(Unfit::Version {
                found: facts.version,
            }));
        }
        let key = self.keys().meta();
        let mut connected = self.link().connection()?;
        let mut commands = redis::pipe();
        commands
            .cmd("HSETNX")
            .arg(&key)
            .arg("schema")
            .arg(SCHEMA_VERSION);
        commands
            .cmd("HSETNX")
            .arg(&key)
            .arg("shards")
            .arg(self.shards());
        commands.cmd("HMGET").arg(&key).arg("schema").arg("shards");
        let mut replies = connected.all("read the schema version", &commands).await?;
        let mut found = value::items(replies.pop().unwrap_or(redis::Value::Nil)).into_iter();
        let mut next = || found.next().and_then(value::text).unwrap_or_default();
        let (schema, shards) = (next(), next());
        let prefix = self.keys().meta().trim_end_matches(":meta").to_owned();
        if schema != SCHEMA_VERSION {
            return Ok(Err(Unfit::Schema {
                prefix,
                found: schema,
            }));
        }
        if shards != self.shards().to_string() {
            return Ok(Err(Unfit::Shards {
                prefix,
                found: shards,
                wanted: self.shards(),
            }));
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
}

fn version_fits(version: &str) -> bool {
    let mut parts = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    found >= OLDEST_REDIS
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
