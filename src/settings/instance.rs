//! `[instance]`: what this daemon is called, and what it runs on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::redis::no_braces;
use super::schema::{Key, Kind};

/// `[instance]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSettings {
    /// Unique among the daemons of a Redis and the same across restarts: visible ASCII without `{` and `}`. If it was not
    /// given, `<host>@<metrics.listen>`.
    #[serde(default)]
    pub name: String,
    /// Held while the daemon runs. If it was not given, in the state directory, else the runtime directory, else the
    /// directory for temporary files.
    #[serde(default)]
    pub lock_file: PathBuf,
    /// Threads, 0 to 256; 0 is one per core. Half of them, if there is more than one, are for deliveries alone.
    pub worker_threads: usize,
}

pub(super) const KEYS: &[Key] = &[
    Key::text(
        "name",
        "1 to 100 visible ASCII characters without { and }",
        |text| no_braces(text, 100),
    ),
    Key::new("lock_file", Kind::Path),
    Key::integer("worker_threads", 0, 256),
];

impl InstanceSettings {
    /// Finds what was not given.
    pub(super) fn complete(&mut self, listen: SocketAddr, environment: &BTreeMap<String, String>) {
        if self.name.is_empty() {
            self.name = format!("{}@{listen}", host(environment));
        }
        if self.lock_file.as_os_str().is_empty() {
            let file = format!("pombo-{}.lock", sanitised(&self.name));
            self.lock_file = lock_directory(environment).join(file);
        }
    }
}

/// The host's name as the kernel has it, else as the environment has it; cut and cleaned to fit into an instance's name.
fn host(environment: &BTreeMap<String, String>) -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| environment.get("HOSTNAME").cloned())
        .map(|name| sanitised(name.trim()))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

fn lock_directory(environment: &BTreeMap<String, String>) -> PathBuf {
    let named = |name: &str| {
        environment
            .get(name)
            // systemd separates several directories by colons.
            .and_then(|list| list.split(':').next())
            .filter(|first| first.starts_with('/'))
            .map(|first| Path::new(first).to_owned())
    };
    named("STATE_DIRECTORY")
        .or_else(|| named("XDG_RUNTIME_DIR"))
        .or_else(|| named("TMPDIR"))
        .unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// A text as a part of a file's name, at most 63 characters of it.
fn sanitised(text: &str) -> String {
    text.chars()
        .take(63)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '-',
        })
        .collect()
}
