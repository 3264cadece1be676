//! What INFO tells of a server: every managed service allows INFO, and few allow CONFIG.

use crate::store::error::Refusal;

/// Which server this is: equal identities share a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    run_id: String,
    replication_id: String,
}

/// What INFO tells of a server that boot checks and readiness use.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Which server this is.
    pub identity: Identity,
    /// `redis_version`, such as `7.0.15`.
    pub version: String,
    /// `maxmemory_policy`, such as `noeviction`.
    pub eviction_policy: String,
    /// Whether the append-only file is on.
    pub append_only: bool,
    /// Whether the server has ever saved a snapshot or has changes to save. Managed services hide the settings; this
    /// is what INFO shows of them.
    pub snapshots: bool,
    /// `used_memory`, bytes.
    pub used_memory: u64,
    /// `maxmemory`, bytes; 0 is no limit.
    pub max_memory: u64,
    /// Why the server is of no use now, although it answers.
    pub(super) refusal: Option<Refusal>,
}

pub(super) fn read_info(info: &str) -> ServerFacts {
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
            .trim()
    };
    let refusal = if field("loading") == "1" {
        Some(Refusal::Loading)
    } else if field("role") == "slave" {
        Some(Refusal::ReadOnly)
    } else {
        None
    };
    ServerFacts {
        identity: Identity {
            run_id: field("run_id").to_owned(),
            replication_id: field("master_replid").to_owned(),
        },
        version: field("redis_version").to_owned(),
        eviction_policy: field("maxmemory_policy").to_owned(),
        append_only: field("aof_enabled") == "1",
        snapshots: field("rdb_saves")
            .parse::<u64>()
            .is_ok_and(|saves| saves > 0),
        used_memory: field("used_memory").parse().unwrap_or(0),
        max_memory: field("maxmemory").parse().unwrap_or(0),
        refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_by_whole_field_names() {
        let facts = read_info(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nused_memory_human:1M\r\nused_memory:1048576\r\n\
             maxmemory:0\r\nmaxmemory_policy:noeviction\r\nloading:0\r\nrole:master\r\nmaster_replid:def\r\n\
             aof_enabled:1\r\n",
        );
        assert_eq!(facts.version, "7.0.15");
        assert_eq!(facts.used_memory, 1_048_576);
        assert!(facts.append_only && !facts.snapshots && facts.refusal.is_none());
    }

    #[test]
    fn a_replica_and_a_loading_server_are_not_ready() {
        assert_eq!(read_info("role:slave\r\n").refusal, Some(Refusal::ReadOnly));
        assert_eq!(read_info("loading:1\r\n").refusal, Some(Refusal::Loading));
    }
}
