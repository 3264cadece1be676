//! Runs the bare client, against a receiver of its own.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::ChildStdout;

use crate::counts::Counts;
use crate::options::RawWork;
use crate::probe::Probe;
use crate::processes::{AUTHORITY, Owned, Receiver, make_certificates, this_program};
use crate::usage::Since;

/// What the bare client came to.
#[derive(Clone, Debug)]
pub struct Bare {
    pub per_second: f64,
    /// CPU for each request (µs).
    pub client_us: f64,
    pub receiver_us: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Bare {
    /// The mean of two.
    pub fn mean(&self, other: &Bare) -> Bare {
        let mean = |figure: fn(&Bare) -> f64| (figure(self) + figure(other)) / 2.0;
        Bare {
            per_second: mean(|bare| bare.per_second),
            client_us: mean(|bare| bare.client_us),
            receiver_us: mean(|bare| bare.receiver_us),
            p50_ms: mean(|bare| bare.p50_ms),
            p99_ms: mean(|bare| bare.p99_ms),
        }
    }
}

/// Has the bare client do `work`.
pub async fn measure(work: &RawWork) -> Bare {
    let folder = TempDir::with_prefix("pombo-bench-").expect("a directory");
    let tls = work.tls.then(|| folder.path());
    if let Some(folder) = tls {
        make_certificates(folder);
    }
    let receiver = Receiver::start(tls);
    let scheme = if work.tls { "https" } else { "http" };
    let url = format!("{scheme}://127.0.0.1:{}/hook", receiver.port);
    let mut arguments = vec![
        "--role".to_owned(),
        "raw".to_owned(),
        "--url".to_owned(),
        url,
    ];
    for (name, value) in [
        ("--requests", work.requests),
        ("--concurrency", work.concurrency as u64),
        ("--payload", work.payload as u64),
        ("--rate", work.rate),
    ] {
        arguments.extend([name.to_owned(), value.to_string()]);
    }
    if tls.is_some() {
        let ca = folder.path().join(AUTHORITY);
        arguments.extend(["--ca".to_owned(), ca.display().to_string()]);
    }
    let program = this_program();
    let mut client = Owned::start(&program, arguments, Stdio::piped(), Stdio::inherit());
    let stdout = client.0.stdout.take().expect("its output");
    let stdout = ChildStdout::from_std(stdout).expect("its output");
    let mut lines = BufReader::new(stdout).lines();
    let mut line = async || lines.next_line().await.ok().flatten().unwrap_or_default();
    assert_eq!(line().await, "ready", "the bare client failed");
    let probe = Probe::new();
    let _ = probe.get(receiver.counts_port, "/__reset").await;
    let used = Since::now(vec![receiver.process.pid()]);
    // It waits for the end of its input.
    drop(client.0.stdin.take());
    let text = line().await;
    let receiver_us = used.us_each(work.requests);
    let page = probe.get(receiver.counts_port, "/__counts").await;
    let counts: Counts = serde_json::from_str(&page.unwrap_or_default()).unwrap_or_default();
    let numbers: Vec<f64> = text
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(0.0))
        .collect();
    let [took_us, cpu_us, failed] = numbers[..] else {
        panic!("the bare client failed: {text}");
    };
    assert!(
        failed == 0.0 && took_us > 0.0 && counts.unique() == work.requests,
        "the bare client failed: {text}, and {counts:?} came"
    );
    Bare {
        per_second: work.requests as f64 / (took_us / 1e6),
        client_us: cpu_us / work.requests as f64,
        receiver_us,
        p50_ms: counts.quantile_ms(0.5).unwrap_or(0.0),
        p99_ms: counts.quantile_ms(0.99).unwrap_or(0.0),
    }
}
