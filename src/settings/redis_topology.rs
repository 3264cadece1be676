//! How the servers of Pombo's own Redis belong together: `redis.topology`, `redis.nodes` and `[redis.sentinel]`.

use serde::{Deserialize, Serialize};

use super::error::Report;
use super::redis::length;
use super::schema::{Key, Kind, visible};
use super::{RedisSettings, Secret, redis_url};

/// How the servers of a Redis belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// One server, or one address.
    #[default]
    Single,
    /// A master and replicas, watched over by sentinels.
    Sentinel,
    /// A Redis Cluster.
    Cluster,
}

/// The choices of `redis.topology`.
pub(super) const CHOICES: &[&str] = &["single", "sentinel", "cluster"];

/// `[redis.sentinel]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SentinelSettings {
    /// What the sentinels call the master; given for [`Topology::Sentinel`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// The sentinels, each `host:port`; at least one for [`Topology::Sentinel`].
    pub addresses: Vec<String>,
    /// Their ACL user; never without a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Their password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// A list of addresses.
pub(super) const ADDRESSES: Kind = Kind::Texts {
    allowed: "a list of addresses, each host:port, such as [\"10.0.0.5:26379\"] (in the environment: as JSON)",
    check: |text| match parse_address(text) {
        Some(_) => Ok(()),
        None => Err("is no address of the form host:port".into()),
    },
};

pub(super) const SENTINEL_KEYS: &[Key] = &[
    Key::text("master", "1 to 256 visible ASCII characters", |text| {
        visible(text, 256)
    }),
    Key::new("addresses", ADDRESSES),
    Key::text("username", "1 to 256 characters", |text| length(text, 256)),
    Key::new("password", Kind::Secret),
];

/// Host and port of an address such as `redis-1:6379` or `[fd00::1]:6379`.
pub(crate) fn parse_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        // Without brackets nobody can tell an IPv6 address from its port.
        None if host.contains(':') => return None,
        None => host,
    };
    let fine = visible(bare, 255).is_ok() && !bare.contains(['/', '@', '[', ']']);
    fine.then(|| (bare.to_owned(), port))
}

impl RedisSettings {
    /// Checks that what is given fits the topology.
    pub(super) fn check_topology(&self, report: &mut Report) {
        let sentinel = self.topology == Topology::Sentinel;
        if sentinel {
            self.check_sentinel(report);
        } else {
            for name in [
                "master",
                "addresses",
                "username",
                "password",
                "password_file",
            ] {
                let key = format!("redis.sentinel.{name}");
                if report.given(&key)
                    && !(name == "addresses" && self.sentinel.addresses.is_empty())
                {
                    report.refuse(
                        &[&key, "redis.topology"],
                        "is about sentinels, which nobody would ask: redis.topology is not \"sentinel\"",
                        "redis.topology = \"sentinel\" beside it",
                    );
                }
            }
        }
        if self.topology != Topology::Cluster && !self.nodes.is_empty() {
            report.refuse(
                &["redis.nodes", "redis.topology"],
                "names nodes of a cluster, which nobody would ask: redis.topology is not \"cluster\"",
                "redis.topology = \"cluster\" beside it",
            );
        }
        if self.topology != Topology::Single {
            self.check_many_servers(report);
        }
        if self.wait_replicas > 0 && self.wait_timeout >= self.response_timeout {
            report.refuse(
                &["redis.wait_timeout", "redis.response_timeout"],
                "is not below redis.response_timeout: the connection would count as lost while replicas are waited for",
                "less than redis.response_timeout",
            );
        }
    }

    fn check_sentinel(&self, report: &mut Report) {
        if self.sentinel.master.is_none() {
            report.refuse(
                &["redis.sentinel.master", "redis.topology"],
                "is missing: sentinels may watch over several masters, and are asked for one by its name",
                "the name that the sentinels' own settings have for it (sentinel monitor NAME ...)",
            );
        }
        if self.sentinel.addresses.is_empty() {
            report.refuse(
                &["redis.sentinel.addresses", "redis.topology"],
                "is empty: there is nobody to ask where the master is",
                "host:port of each sentinel, such as [\"10.0.0.5:26379\"]",
            );
        }
        if self.sentinel.username.is_some() && self.sentinel.password.is_none() {
            report.refuse(
                &["redis.sentinel.username", "redis.sentinel.password"],
                "needs a password: without one the sentinels would be asked as their default user",
                "redis.sentinel.password or redis.sentinel.password_file beside it",
            );
        }
    }

    /// What neither sentinels nor a cluster can do.
    fn check_many_servers(&self, report: &mut Report) {
        let Some(parts) = redis_url::parts(self.server.url.expose()) else {
            return;
        };
        if parts.unix {
            report.refuse(
                &["redis.url", "redis.topology"],
                "is a unix socket, but the servers of this topology are found by host and port, on any machine",
                "redis://host:port or rediss://host:port, or redis.topology = \"single\"",
            );
        }
        let other = parts.other_database || self.server.database.is_some_and(|number| number != 0);
        if self.topology == Topology::Cluster && other {
            let key = match parts.other_database {
                true => "redis.url",
                false => "redis.database",
            };
            report.refuse(
                &[key, "redis.topology"],
                "names a database other than 0, and a Redis Cluster has no other",
                "no database; another redis.prefix keeps data apart",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let parsed = |text| parse_address(text).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(parsed("redis-1:6379").as_deref(), Some("redis-1 6379"));
        assert_eq!(parsed("[fd00::1]:6379").as_deref(), Some("fd00::1 6379"));
        for wrong in [
            "",
            ":1",
            "redis",
            "redis:",
            "redis:0",
            "redis:70000",
            "fd00::1:6379",
            "[fd00::1:6379",
            "a b:1",
            "redis://h:1",
            "u@h:1",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
