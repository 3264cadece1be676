//! `[redis]`: where Pombo keeps its state; and what every Redis server is described by.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Report;
use super::redis_topology::{self, SentinelSettings, Topology};
use super::schema::{Key, Kind, join, millis, minutes, visible};
use super::{Secret, redis_url, units};

/// How to reach one Redis server: `[redis]` and each of `[[sources]]` with a Redis of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RedisServer {
    /// `redis://`, `rediss://`, `unix://` or `redis+unix://`. May hold a password.
    pub url: Secret,
    /// The ACL user; never without a password, never beside a user in `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password; never beside one in `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Number of the database, 0 to 65535; never beside one in `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<i64>,
    /// PEM file with the authorities to trust instead of the system's; only for `rediss://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate; only for `rediss://`, and together with its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_file: Option<PathBuf>,
    /// PEM file with the key of the client's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_file: Option<PathBuf>,
}

/// `[redis]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RedisSettings {
    /// The server; its keys stand directly in `[redis]`.
    #[serde(flatten)]
    pub server: RedisServer,
    /// What every key of Pombo begins with: visible ASCII without `{` and `}`.
    pub prefix: String,
    /// How long connecting may take, 100 ms to 1 min.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// How long an answer may take beyond what a read blocks on purpose, 100 ms to 1 min.
    #[serde(with = "units::duration")]
    pub response_timeout: Duration,
    /// Share of Redis' `maxmemory`, 0.1 to 1.0, from which on sources are not read.
    pub memory_watermark: f64,
    /// How the servers of this Redis belong together. Says nothing of sources with a Redis of their own, each of which
    /// is a single node.
    pub topology: Topology,
    /// For [`Topology::Cluster`]: nodes to ask for all others, each `host:port`, beside that of `url`.
    pub nodes: Vec<String>,
    /// Replicas that must have what was stored before its event is acknowledged, 0 (not asked for) to 16.
    pub wait_replicas: u32,
    /// How long they are waited for, 1 ms to 10 s; then the delivery goes on without.
    #[serde(with = "units::duration")]
    pub wait_timeout: Duration,
    /// `[redis.sentinel]`.
    pub sentinel: SentinelSettings,
}

pub(super) const SERVER_KEYS: &[Key] = &[
    Key::new("url", Kind::Url),
    Key::text("username", "1 to 256 characters", |text| length(text, 256)),
    Key::new("password", Kind::Secret),
    Key::integer("database", 0, 65_535),
    Key::new("ca_file", Kind::Path),
    Key::new("client_certificate_file", Kind::Path),
    Key::new("client_key_file", Kind::Path),
];

pub(super) const KEYS: &[Key] = &[
    Key::text(
        "prefix",
        "1 to 64 visible ASCII characters without { and }",
        |text| no_braces(text, 64),
    ),
    Key::duration("connect_timeout", millis(100), minutes(1)),
    Key::duration("response_timeout", millis(100), minutes(1)),
    Key::new(
        "memory_watermark",
        Kind::Float {
            allowed: "a number from 0.1 to 1.0",
            check: |share| (0.1..=1.0).contains(&share),
        },
    ),
    Key::new("topology", Kind::Choice(redis_topology::CHOICES)),
    Key::new("nodes", redis_topology::ADDRESSES),
    Key::integer("wait_replicas", 0, 16),
    Key::duration("wait_timeout", millis(1), millis(10_000)),
    Key::new("sentinel", Kind::Section(&[redis_topology::SENTINEL_KEYS])),
];

/// Visible ASCII that cannot be taken for a hash tag, as it becomes part of Redis keys.
pub(super) fn no_braces(text: &str, max: usize) -> Result<(), String> {
    visible(text, max)?;
    if text.contains(['{', '}']) {
        return Err("contains { or }, which have a meaning in Redis keys".into());
    }
    Ok(())
}

pub(super) fn length(text: &str, max: usize) -> Result<(), String> {
    if text.is_empty() {
        Err("is empty".into())
    } else if text.len() > max {
        Err(format!("is {} bytes long", text.len()))
    } else if text.chars().any(char::is_control) {
        Err("has a control character".into())
    } else {
        Ok(())
    }
}

impl RedisServer {
    /// A server that needs no more than its URL.
    pub fn new(url: impl Into<Secret>) -> RedisServer {
        RedisServer {
            url: url.into(),
            username: None,
            password: None,
            database: None,
            ca_file: None,
            client_certificate_file: None,
            client_key_file: None,
        }
    }

    /// The URL as it may be shown: with `***` in place of a password.
    pub fn shown_url(&self) -> String {
        redis_url::redacted(self.url.expose())
    }

    /// Whether the connection is by TLS.
    pub fn tls(&self) -> bool {
        redis_url::parts(self.url.expose()).is_some_and(|parts| parts.tls)
    }

    pub(super) fn check(&self, path: &str, report: &mut Report) {
        let key = |name: &str| join(path, name);
        let url = key("url");
        let Some(parts) = redis_url::parts(self.url.expose()) else {
            return;
        };
        let twice = |report: &mut Report, in_url: bool, name: &str, what: &str| {
            if in_url {
                report.refuse(
                    &[&key(name), &url],
                    format!("{url} has a {what} in it too, and only one of them can be meant"),
                    format!("the {what} in one of the two places"),
                );
            }
        };
        if self.username.is_some() {
            twice(report, parts.user, "username", "user");
        }
        if self.password.is_some() {
            twice(report, parts.password, "password", "password");
        }
        if self.database.is_some() {
            twice(report, parts.database, "database", "database");
        }
        if self.username.is_some() && self.password.is_none() {
            report.refuse(
                &[&key("username"), &key("password"), &key("password_file")],
                "needs a password: without one Redis would be used as its default user",
                format!("{} or {} beside it", key("password"), key("password_file")),
            );
        }
        self.check_tls(path, parts.tls, report);
    }

    fn check_tls(&self, path: &str, tls: bool, report: &mut Report) {
        let url = join(path, "url");
        for (name, file) in [
            ("ca_file", &self.ca_file),
            ("client_certificate_file", &self.client_certificate_file),
            ("client_key_file", &self.client_key_file),
        ] {
            let key = join(path, name);
            match file {
                Some(_) if !tls => report.refuse(
                    &[&key, &url],
                    "is for TLS, but the connection would not be encrypted: the URL does not begin with rediss://",
                    format!("a rediss:// URL in {url}, or no {name}"),
                ),
                Some(file) => report.need_file(&key, file),
                None => {}
            }
        }
        let certificate = join(path, "client_certificate_file");
        let private = join(path, "client_key_file");
        match (&self.client_certificate_file, &self.client_key_file) {
            (Some(_), None) => report.refuse(
                &[&certificate, &private],
                "is of no use without its key",
                format!("{private} beside it"),
            ),
            (None, Some(_)) => report.refuse(
                &[&private, &certificate],
                "is of no use without its certificate",
                format!("{certificate} beside it"),
            ),
            _ => {}
        }
    }
}
