//! The daemon as a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::Observed;
use crate::support::api::ApiClient;
use crate::support::wait::{PATIENCE, until};

/// `pombo serve`. It is killed when it is dropped.
pub struct Process {
    child: Child,
    observed: Option<Observed>,
    api: Option<SocketAddr>,
    log: Log,
}

/// The lines that a process logs, as they come.
#[derive(Clone)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    news: watch::Receiver<bool>,
}

impl Process {
    pub(super) async fn spawn(config: &Path, environment: &[(&str, &str)]) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pombo"))
            .arg("serve")
            .arg("--config")
            .arg(config)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let errors = child.stderr.take().expect("a pipe");
        let mut log = Log::of(errors);
        let told = |line: &Value| {
            let address = |name: &str| line.get(name)?.as_str()?.parse::<SocketAddr>().ok();
            Some((address("metrics")?, address("api")))
        };
        let listening = log.find("where it listens", told).await;
        Process {
            child,
            observed: listening.map(|(metrics, _)| Observed::at(metrics)),
            api: listening.and_then(|(_, api)| api),
            log,
        }
    }

    /// Where the API is served.
    pub fn api_address(&self) -> SocketAddr {
        self.api.expect("an API that is served")
    }

    /// A client of the API, without a token.
    pub fn api(&self) -> ApiClient {
        ApiClient::at(self.api_address())
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("a process that was not waited for")
    }

    /// kill -9, and waits for its end.
    pub async fn kill(mut self) -> Log {
        self.child.kill().await.expect("a child can be killed");
        self.log
    }

    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops it in its tracks, until SIGCONT.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), signal).expect("a child can be signalled");
    }

    /// SIGTERM, and its exit code.
    pub async fn stop(mut self) -> Option<i32> {
        self.terminate();
        self.wait().await.code()
    }

    /// Waits until it ends.
    pub async fn wait(&mut self) -> ExitStatus {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("a child can be waited for"),
            Err(_) => panic!("it did not end; its log:\n{}", self.log.lines().join("\n")),
        }
    }

    /// Waits until `/readyz` says yes.
    pub async fn wait_ready(&self) {
        until(
            "readiness",
            async || match self.try_get("/readyz").await {
                Ok(page) if page.status == 200 => Ok(()),
                other => Err((other, self.log.lines())),
            },
            Result::is_ok,
        )
        .await
        .expect("ready");
    }
}

impl std::ops::Deref for Process {
    type Target = Observed;

    fn deref(&self) -> &Observed {
        match &self.observed {
            Some(observed) => observed,
            None => panic!(
                "it did not come to listening:\n{}",
                self.log.lines().join("\n")
            ),
        }
    }
}

impl Log {
    fn of(errors: impl tokio::io::AsyncRead + Unpin + Send + 'static) -> Log {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (ended, news) = watch::channel(false);
        tokio::spawn({
            let lines = lines.clone();
            async move {
                let mut read = BufReader::new(errors).lines();
                while let Ok(Some(line)) = read.next_line().await {
                    lines
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(line);
                    ended.send_replace(false);
                }
                ended.send_replace(true);
            }
        });
        Log { lines, news }
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }

    /// Waits for a line that contains `text`.
    pub async fn wait_for(&self, text: &str) -> String {
        let found = self
            .clone()
            .find(text, |line| {
                let line = line.to_string();
                line.contains(text).then_some(line)
            })
            .await;
        let lines = self.lines();
        found.unwrap_or_else(|| panic!("it ended without {text:?}:\n{}", lines.join("\n")))
    }

    /// Waits for the first line that `pick` takes; nothing if the log ends without one.
    async fn find<T>(&mut self, what: &str, pick: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let looking = async {
            let mut seen = 0;
            loop {
                let ended = *self.news.borrow_and_update();
                let lines = self.lines();
                for line in &lines[seen..] {
                    let line = serde_json::from_str(line).unwrap_or(Value::String(line.clone()));
                    if let Some(found) = pick(&line) {
                        return Some(found);
                    }
                }
                seen = lines.len();
                if ended || self.news.changed().await.is_err() && *self.news.borrow() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(found) => found,
            Err(_) => panic!(
                "waited {PATIENCE:?} in vain for: {what}\nthe log:\n{}",
                self.lines().join("\n")
            ),
        }
    }
}
