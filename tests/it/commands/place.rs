//! A Redis of its own for one test, and the real binary run against it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use pombo::clock::Clock;
use pombo::delivery::{DeadReason, Tries, delivery_id};
use pombo::event::{EntryId, Event};
use pombo::metrics::Metrics;
use pombo::settings::{Settings, SettingsError};
use pombo::store::Store;
use pombo::store::connection::LinkState;
use pombo::store::dead::Ending;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A directory with a running Redis and the settings that lead to it.
pub struct Place {
    directory: TempDir,
    server: Child,
}

/// What came of a command.
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub errors: String,
}

impl Outcome {
    /// Its standard output, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.errors);
        self.out
    }

    /// Its standard output as JSON, if it succeeded.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

impl Place {
    /// `more` is appended to the settings.
    pub fn new(more: &str) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("redis.sock");
        let mut server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server is installed");
        let log = BufReader::new(server.stdout.take().unwrap());
        let mut ready = false;
        for line in log.lines().map_while(Result::ok) {
            if line.contains("Ready to accept connections") || line.contains("ready to accept") {
                ready = true;
                break;
            }
        }
        assert!(ready, "redis-server did not start");
        let place = Place { directory, server };
        let settings = format!("[redis]\nurl = \"{}\"\n{more}", place.url());
        place.write("pombo.toml", &settings);
        place
    }

    pub fn url(&self) -> String {
        format!("unix://{}", self.path("redis.sock").display())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    pub fn settings(&self) -> Settings {
        let loaded: Result<Settings, SettingsError> =
            Settings::load(None, Some(&self.path("pombo.toml")), std::iter::empty());
        loaded.unwrap()
    }

    /// Starts a command.
    pub fn start(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_pombo"))
            .args(arguments)
            .arg("--config")
            .arg(self.path("pombo.toml"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with(arguments, b"")
    }

    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut child = self.start(arguments);
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing may be gone already.
        let _ = stdin.write_all(input);
        drop(stdin);
        finish(child)
    }

    /// The raw server, for what no operation of the store tells.
    pub fn redis(&self, command: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut words = redis::cmd(command[0]);
        words.arg(&command[1..]);
        words.query(&mut connection).unwrap()
    }

    /// A store as the daemon has it, connected until the guard is dropped.
    pub async fn store(&self) -> (Store, DropGuard) {
        let clock = Clock::system();
        let store = Store::new(&self.settings(), &clock, &Metrics::new()).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(store.link().clone().keep(stop.clone()));
        let mut states = store.link().watch();
        states
            .wait_for(|state| matches!(state, LinkState::Up(_)))
            .await
            .unwrap();
        (store, stop.drop_guard())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub fn finish(child: Child) -> Outcome {
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Gives up the delivery of the entry `<number>-0` to the webhook `id`, at `at_ms`.
pub async fn bury(
    store: &Store,
    settings: &Settings,
    id: &str,
    number: u64,
    reason: DeadReason,
    at_ms: u64,
) -> String {
    let webhook = store.webhook(id).await.unwrap().unwrap();
    let entry_id = EntryId { ms: number, seq: 0 };
    let event = Event {
        id: format!("evt_{number}"),
        event_type: "crm.lead.created".into(),
        tenant: webhook.spec.tenant.clone(),
        time_ms: 1_773_403_200_000,
        arrived_ms: number,
        stream: "events".into(),
        entry_id,
        content_type: "application/json".into(),
        payload: Bytes::from("{\"n\": 1.50, \"text\": \"\u{202e}\"}"),
        payload_is_json: true,
        enclosed: None,
    };
    let ending = Ending {
        webhook_id: id.to_owned(),
        delivery_id: delivery_id(id, "events", entry_id),
        reason,
        tries: Tries {
            attempts: 15,
            since_replay: 15,
            first_attempt_ms: 1_773_403_200_000,
            last_status: Some(503),
            last_error: "answered 503\u{1b}[2J".into(),
            last_attempt_ms: 1_773_403_201_000,
            log: Default::default(),
        },
        answer: Bytes::from("go away"),
        at_ms,
    };
    let generation = store.link().generation();
    let shard = store.shard_of(id);
    store
        .bury(
            shard,
            &webhook.uid,
            None,
            &event,
            &ending,
            &settings.dead_letters,
            generation,
        )
        .await
        .unwrap();
    ending.delivery_id
}
