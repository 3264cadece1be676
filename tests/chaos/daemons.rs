//! The daemons of a run, each a process of its own.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::task::JoinHandle;

use crate::fleet::DAEMON_HEADER;
use crate::ledger::Ledger;
use crate::support::pombo::{Config, Log, Process};
use crate::support::proxy::Proxy;
use crate::topology::Topology;

/// What all of them share. The lease is the shortest that there is, so that a run sees many of them run out.
pub const SETTINGS: &str = r#"
    [redis]
    response_timeout = "1s"
    connect_timeout = "1s"
    [[sources]]
    stream = "events:a"
    name = "a"
    [[sources]]
    stream = "events:b"
    name = "b"
    [ownership]
    lease = "3s"
    shards = 16
    [delivery]
    timeout = "2s"
    connect_timeout = "1s"
    [retry]
    first = "150ms"
    factor = 1.7
    longest = "1s"
    jitter = 0.2
    max_attempts = 10000
    max_age = "1h"
    [shutdown]
    grace = "3s"
"#;

/// Where Debian and others keep the library of faketime.
const FAKETIME: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The library that makes a process believe in another wall clock.
pub fn faketime() -> Option<&'static str> {
    let there = |path: &&&str| std::path::Path::new(path).exists();
    FAKETIME.iter().find(there).copied()
}

pub struct Daemon {
    pub index: usize,
    pub config: Config,
    proxy: Option<Proxy>,
    process: Option<Process>,
    /// One that was told to stop, and whose exit code is still to come.
    leaving: Option<JoinHandle<Option<i32>>>,
    pub starts: u32,
    /// The logs of all its processes.
    pub logs: Vec<Log>,
    pub peak_rss_kib: u64,
    /// The file that tells the process by how much its clock is wrong.
    clock: Option<PathBuf>,
    ledger: Arc<Ledger>,
}

impl Daemon {
    pub async fn new(
        topology: &Topology,
        index: usize,
        clocks: bool,
        ledger: Arc<Ledger>,
    ) -> Daemon {
        let (config, proxy) = topology.daemon().await;
        let own = format!(
            "[instance]\nname = \"d{index}\"\n[signature]\nheader = \"{DAEMON_HEADER}{index}\""
        );
        let config = config.with(SETTINGS).with(&own);
        let clock = clocks.then(|| config.directory().join("clock"));
        Daemon {
            index,
            config,
            proxy,
            process: None,
            leaving: None,
            starts: 0,
            logs: Vec::new(),
            peak_rss_kib: 0,
            clock,
            ledger,
        }
    }

    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub async fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.left().await;
        let file = self.clock.as_ref().map(|file| file.display().to_string());
        let process = match (&file, faketime()) {
            (Some(file), Some(library)) => {
                self.set_clock(0);
                let environment = [
                    ("LD_PRELOAD", library),
                    ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
                    ("FAKETIME_CACHE_DURATION", "1"),
                    // Wall clocks jump; monotonic ones do not.
                    ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ];
                self.config.spawn_within(&environment).await
            }
            _ => self.config.spawn_unready().await,
        };
        self.starts += 1;
        self.ledger.daemon_begins(self.index as u8);
        self.logs.push(process.log().clone());
        self.process = Some(process);
    }

    /// kill -9, whatever state it is in. False if there is none.
    pub async fn kill(&mut self) -> bool {
        self.sample();
        match self.process.take() {
            Some(process) => {
                process.kill().await;
                true
            }
            None => false,
        }
    }

    pub fn terminate(&mut self) {
        self.sample();
        if let Some(process) = self.process.take() {
            self.leaving = Some(tokio::spawn(process.stop()));
        }
    }

    /// Waits for one that was told to stop.
    pub async fn left(&mut self) {
        let Some(leaving) = self.leaving.take() else {
            return;
        };
        let index = self.index;
        match leaving.await {
            Ok(Some(0)) => {}
            other => self
                .ledger
                .wrong(|| format!("d{index} was told to stop, and ended with {other:?}")),
        }
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// Lets its wall clock be wrong by so much.
    pub fn set_clock(&self, seconds: i64) {
        if let Some(file) = &self.clock {
            // Written aside and renamed: what reads it all the time never finds half of it.
            let aside = file.with_extension("new");
            std::fs::write(&aside, format!("{seconds:+}s\n")).expect("a written file");
            std::fs::rename(&aside, file).expect("a file that can be renamed");
        }
    }

    /// Looks at its memory.
    pub fn sample(&mut self) {
        let Some(process) = &self.process else { return };
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()));
        let peak = status.ok().and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        self.peak_rss_kib = self.peak_rss_kib.max(peak.unwrap_or(0));
    }
}
