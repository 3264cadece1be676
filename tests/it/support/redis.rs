//! A real `redis-server` for one test, with its data in a directory of its own.

mod guards;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, Value};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

pub use guards::Login;

use super::tls::TlsFiles;
use super::wait::until;

/// How long a test's own command may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// The consumer group of the daemon.
pub const GROUP: &str = "pombo";

/// How a server is to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether every write is on disk before it is answered; else nothing is ever written.
    pub append_only: bool,
    /// Bytes; no limit when not given.
    pub max_memory: Option<u64>,
    /// Whether it listens on a port of 127.0.0.1, besides its socket.
    pub tcp: bool,
    /// Another program than `redis-server`.
    pub program: Option<PathBuf>,
    /// Who may use it; else everybody.
    pub login: Option<Login>,
    /// Whether its port is one for TLS, and replicas and other nodes are spoken to by TLS too. Clients need a certificate
    /// unless `arguments` say `--tls-auth-clients no`.
    pub tls: Option<TlsFiles>,
    /// More arguments, such as `--maxmemory-policy allkeys-lru`.
    pub arguments: Vec<String>,
}

/// A running server. It is killed when it is dropped.
pub struct Redis {
    directory: TempDir,
    options: Options,
    port: u16,
    child: Option<Child>,
}

impl Redis {
    /// One without persistence.
    pub async fn start() -> Redis {
        Self::start_with(Options::default()).await
    }

    /// One that keeps what it has acknowledged, whatever happens to it.
    pub async fn durable() -> Redis {
        Self::start_with(Options {
            append_only: true,
            ..Options::default()
        })
        .await
    }

    pub async fn start_with(options: Options) -> Redis {
        let mut redis = Redis {
            directory: TempDir::with_prefix("pombo-redis-").expect("a directory"),
            port: if options.tcp { free_port() } else { 0 },
            options,
            child: None,
        };
        redis.restart().await;
        redis
    }

    /// Starts the server again, on the same data, where it was.
    pub async fn restart(&mut self) {
        self.launch(&[]);
        until(
            "an answer of redis-server",
            async || match self.try_query::<String>(&redis::cmd("PING")).await {
                Ok(pong) => pong,
                Err(error) => format!("{error}; its log: {}", self.log()),
            },
            |answer| answer == "PONG",
        )
        .await;
    }

    /// The same with more arguments, and does not wait until its data is loaded, only until it answers.
    pub async fn restart_loading(&mut self, arguments: &[&str]) {
        self.launch(arguments);
        until(
            "an answer of redis-server that loads",
            async || {
                self.try_query::<String>(redis::cmd("INFO").arg("persistence"))
                    .await
                    .ok()
            },
            Option::is_some,
        )
        .await;
    }

    fn launch(&mut self, arguments: &[&str]) {
        self.kill();
        let usual = PathBuf::from("redis-server");
        let mut command = Command::new(self.options.program.as_ref().unwrap_or(&usual));
        command
            .arg("--dir")
            .arg(self.directory.path())
            .arg("--unixsocket")
            .arg(self.socket())
            .args(self.options.guards(self.port))
            .args(["--bind", "127.0.0.1", "--save", "", "--logfile", "log"]);
        if self.options.append_only {
            command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        }
        if let Some(bytes) = self.options.max_memory {
            command.args(["--maxmemory", &bytes.to_string()]);
        }
        command.args(&self.options.arguments).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        self.child = Some(child.expect("redis-server is installed and starts"));
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
        }
        // A socket that nobody listens on is in the way of the next server.
        let _ = std::fs::remove_file(self.socket());
    }

    /// Stops it in its tracks (SIGSTOP): connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Redis::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a running server");
        kill_process(Pid::from_child(child), signal).expect("a child can be signalled");
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The URL of its socket, with its login.
    pub fn url(&self) -> String {
        let login = match self.options.login {
            None => String::new(),
            Some(Login { username, password }) => {
                let user = username.map_or(String::new(), |name| format!("user={name}&"));
                format!("?{user}pass={password}")
            }
        };
        format!("unix://{}{login}", self.socket().display())
    }

    /// The URL of its port, with its login; [`Options::tcp`] must be set.
    pub fn tcp_url(&self) -> String {
        assert_ne!(self.port, 0, "this server has no port");
        let login = self.options.login.map_or(String::new(), |login| {
            format!("{}:{}@", login.username.unwrap_or_default(), login.password)
        });
        let scheme = self.options.scheme();
        format!("{scheme}://{login}127.0.0.1:{}", self.port)
    }

    /// Its port; [`Options::tcp`] must be set.
    pub fn port(&self) -> u16 {
        assert_ne!(self.port, 0, "this server has no port");
        self.port
    }

    /// Whether it runs, as far as the test did not kill it.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// A connection of the test's own.
    pub async fn connection(&self) -> Result<MultiplexedConnection, redis::RedisError> {
        // The library gives up after half a second by default, and a busy machine can take longer than that.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        Client::open(self.url())?
            .get_multiplexed_async_connection_with_config(&patient)
            .await
    }

    /// Runs a command that may fail.
    pub async fn try_query<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<T, redis::RedisError> {
        command.query_async(&mut self.connection().await?).await
    }

    /// Runs a command that must not fail.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> T {
        self.try_query(command)
            .await
            .unwrap_or_else(|error| panic!("{error}; the log of redis-server: {}", self.log()))
    }

    /// Runs a command given by its words: `redis.run("XLEN events")`.
    pub async fn run<T: FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split_whitespace();
        let mut command = redis::cmd(words.next().expect("a command"));
        words.for_each(|word| {
            command.arg(word);
        });
        self.query(&command).await
    }

    /// Runs many commands at once, none of which may fail.
    pub async fn pipeline(&self, commands: &Pipeline) -> Vec<Value> {
        let mut connection = self.connection().await.expect("a connection");
        let replies = commands.query_async(&mut connection).await;
        replies.expect("commands that do not fail")
    }

    /// Adds an entry; returns its id.
    pub async fn add(&self, stream: &str, fields: &[(&str, &str)]) -> String {
        let mut command = redis::cmd("XADD");
        command.arg(stream).arg("*");
        for (name, value) in fields {
            command.arg(name).arg(value);
        }
        self.query(&command).await
    }

    /// Adds an event in the default layout, with `id` and the given payload, for the tenant `default`.
    pub async fn event(&self, id: &str, event_type: &str, payload: &str) -> String {
        let fields = [("id", id), ("type", event_type), ("payload", payload)];
        self.add("events", &fields).await
    }

    /// Adds `count` events `<prefix>0`, `<prefix>1`, … of a type at once; their payload is `{"n":<number>}`.
    pub async fn events(&self, prefix: &str, event_type: &str, count: usize) {
        self.events_from(prefix, 0, event_type, count).await;
    }

    /// The same, with numbers from `first` on.
    pub async fn events_from(&self, prefix: &str, first: usize, event_type: &str, count: usize) {
        let mut commands = redis::pipe();
        for n in first..first + count {
            let add = commands.cmd("XADD").arg("events").arg("*");
            add.arg("id").arg(format!("{prefix}{n}"));
            add.arg("type").arg(event_type);
            add.arg("payload").arg(format!(r#"{{"n":{n}}}"#));
        }
        self.pipeline(&commands).await;
    }

    /// How many entries of a stream the daemon has read and not acknowledged; none without its group.
    pub async fn pending(&self, stream: &str) -> u64 {
        self.group(stream).await.map_or(0, |group| group.pending)
    }

    /// The daemon's consumer group on a stream.
    pub async fn group(&self, stream: &str) -> Option<Group> {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg(stream);
        let groups: Vec<std::collections::HashMap<String, Value>> =
            self.try_query(&command).await.unwrap_or_default();
        let read = |group: &std::collections::HashMap<String, Value>, name: &str| {
            let value = group.get(name).cloned().unwrap_or(Value::Nil);
            redis::from_redis_value::<Option<String>>(value)
                .expect("text")
                .unwrap_or_default()
        };
        let found = groups.iter().find(|group| read(group, "name") == GROUP)?;
        Some(Group {
            pending: read(found, "pending").parse().expect("a number"),
            last_delivered: read(found, "last-delivered-id"),
            lag: read(found, "lag").parse().ok(),
        })
    }

    /// Waits until every entry of a stream has been read and acknowledged.
    pub async fn settled(&self, stream: &str) {
        until(
            &format!("{stream} read and acknowledged"),
            async || self.group(stream).await,
            |group| {
                group
                    .as_ref()
                    .is_some_and(|group| group.pending == 0 && group.lag == Some(0))
            },
        )
        .await;
    }

    /// All keys that match a pattern, sorted.
    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.query(redis::cmd("KEYS").arg(pattern)).await;
        keys.sort();
        keys
    }

    /// The entries of a stream, oldest first, each with its fields.
    pub async fn entries(&self, stream: &str) -> Vec<Entry> {
        let mut command = redis::cmd("XRANGE");
        command.arg(stream).arg("-").arg("+");
        let entries: Vec<(String, Vec<(String, String)>)> = self.query(&command).await;
        entries
            .into_iter()
            .map(|(id, fields)| Entry { id, fields })
            .collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The state of the daemon's consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub pending: u64,
    pub last_delivered: String,
    /// Entries not read yet, where Redis can tell.
    pub lag: Option<u64>,
}

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: String,
    pub fields: Vec<(String, String)>,
}

impl Entry {
    /// A field's value; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        let found = self.fields.iter().find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value)
    }

    /// The id of the event of a stored delivery.
    pub fn event_id(&self) -> String {
        let delivery: serde_json::Value =
            serde_json::from_str(self.field("d")).expect("a delivery");
        delivery["i"].as_str().expect("an id").to_owned()
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}
