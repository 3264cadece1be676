//! What INFO tells of a server: every managed service allows INFO, and few allow CONFIG.

use crate::store::error::Refusal;

/// Which server this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    run_id: String,
    replication_id: String,
    /// Whose history it carries on since it was promoted; empty or zeros for a server that was not.
    inherited_id: String,
}

impl Identity {
    /// Another one with each start of a server, and with each promotion.
    pub(super) fn term(&self) -> String {
        format!("{}:{}", self.run_id, self.replication_id)
    }

    /// Whether this is the server that was `before`, with all that it held then.
    ///
    /// A server draws a new replication id when it is promoted (it names the one before then: what it held in the time
    /// between was another's), and also when its first replica comes or its last one has been gone for long, which
    /// changes nothing of what it holds.
    pub(super) fn continues(&self, before: &Identity) -> bool {
        let promoted = self.inherited_id.bytes().any(|byte| byte != b'0');
        self.run_id == before.run_id && (self.replication_id == before.replication_id || !promoted)
    }
}

/// What INFO tells of a server that boot checks and readiness use. Of a cluster: of all masters together, and of each
/// fact the worst.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// Which server this is.
    pub identity: Identity,
    /// `redis_version`, such as `7.0.15`. Valkey says `7.2.4` here, whatever its own version is.
    pub version: String,
    /// `valkey_version`, such as `8.1.1`; empty for Redis.
    pub valkey_version: String,
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

/// The first versions that have XACKDEL: of Redis and of Valkey.
const XACKDEL_SINCE: (u32, u32) = (8, 2);
const XACKDEL_SINCE_VALKEY: (u32, u32) = (9, 2);

impl ServerFacts {
    /// Whether the server has XACKDEL. By its version and not by COMMAND INFO, which costs a command and a permission.
    pub(super) fn has_xackdel(&self) -> bool {
        match self.valkey_version.as_str() {
            "" => version(&self.version) >= XACKDEL_SINCE,
            valkey => version(valkey) >= XACKDEL_SINCE_VALKEY,
        }
    }

    /// The facts of two masters of a cluster as those of one: of each fact the worse one. Memory is that of the master
    /// that is fuller; without a limit on either, of both together.
    pub(super) fn and(self, other: ServerFacts) -> ServerFacts {
        let (older, newer) = match version(&self.version) <= version(&other.version) {
            true => (self, other),
            false => (other, self),
        };
        let share = |facts: &ServerFacts| match facts.max_memory {
            0 => 0.0,
            most => facts.used_memory as f64 / most as f64,
        };
        let (used_memory, max_memory) = match older.max_memory == 0 && newer.max_memory == 0 {
            true => (older.used_memory + newer.used_memory, 0),
            false if share(&older) >= share(&newer) => (older.used_memory, older.max_memory),
            false => (newer.used_memory, newer.max_memory),
        };
        let eviction_policy = match older.eviction_policy.as_str() {
            "noeviction" | "" => newer.eviction_policy,
            _ => older.eviction_policy,
        };
        ServerFacts {
            eviction_policy,
            append_only: older.append_only && newer.append_only,
            snapshots: older.snapshots && newer.snapshots,
            used_memory,
            max_memory,
            refusal: older.refusal.or(newer.refusal),
            ..ServerFacts {
                identity: older.identity,
                version: older.version,
                valkey_version: older.valkey_version,
                eviction_policy: String::new(),
                append_only: false,
                snapshots: false,
                used_memory: 0,
                max_memory: 0,
                refusal: None,
            }
        }
    }
}

/// Major and minor number of a version; zeros for what is none.
pub(in crate::store) fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
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
            inherited_id: field("master_replid2").to_owned(),
        },
        version: field("redis_version").to_owned(),
        valkey_version: field("valkey_version").to_owned(),
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

    #[test]
    fn a_server_is_another_after_a_restart_and_after_a_promotion_alone() {
        let identity = |run: &str, own: &str, inherited: &str| {
            let info =
                format!("run_id:{run}\r\nmaster_replid:{own}\r\nmaster_replid2:{inherited}\r\n");
            read_info(&info).identity
        };
        let before = identity("a", "x", "0000");
        assert!(before.continues(&before));
        assert!(
            identity("a", "y", "0000").continues(&before),
            "its first replica came"
        );
        assert!(!identity("b", "x", "0000").continues(&before));
        assert!(!identity("a", "y", "z").continues(&before));
        let promoted = identity("a", "y", "z");
        assert!(promoted.continues(&promoted));
    }

    #[test]
    fn of_two_masters_the_worse_one_counts() {
        let facts = |text: &str| read_info(text);
        let both = facts("redis_version:8.2.1\r\nused_memory:90\r\nmaxmemory:100\r\nmaxmemory_policy:noeviction\r\naof_enabled:1")
            .and(facts("redis_version:8.0.0\r\nused_memory:100\r\nmaxmemory:1000\r\nmaxmemory_policy:allkeys-lru"));
        assert_eq!((both.used_memory, both.max_memory), (90, 100));
        assert_eq!(
            (both.version.as_str(), both.eviction_policy.as_str()),
            ("8.0.0", "allkeys-lru")
        );
        assert!(!both.append_only && !both.has_xackdel());
        assert!(facts("redis_version:8.2.0").has_xackdel());
        assert!(!facts("redis_version:8.2.0\r\nvalkey_version:9.1.2").has_xackdel());
        assert!(facts("redis_version:7.2.4\r\nvalkey_version:9.2.0").has_xackdel());
    }
}
