//! A master, its replica, and three sentinels that watch over them.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::redis::{Login, Options, Redis, free_port};
use super::wait::until;

/// What the sentinels call the master.
pub const MASTER: &str = "events-main";
/// How many of them there are.
const SENTINELS: usize = 3;
/// How often they are asked for a failover that they have not made.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Who may ask sentinels that are guarded, and may nothing else: what the README says that Pombo needs.
pub const ASKER: Login = Login {
    username: Some("asker"),
    password: "senha-das-sentinelas",
};
/// What they say to each other.
const AMONG_THEM: &str = "entre-nos";

struct Sentinel {
    port: u16,
    /// Of its socket, with a login.
    url: String,
    child: Child,
}

/// Servers and sentinels. All are killed when this is dropped.
pub struct Sentinels {
    directory: TempDir,
    sentinels: Vec<Sentinel>,
    options: Options,
    /// The first was the master at the beginning.
    pub servers: Vec<Redis>,
}

impl Sentinels {
    /// One replica, no persistence.
    pub async fn start() -> Sentinels {
        Self::start_with(Options::default()).await
    }

    /// Both servers with these options. With a login the sentinels have one as well, which is [`ASKER`], and with TLS they
    /// are spoken to by TLS.
    pub async fn start_with(options: Options) -> Sentinels {
        let mut options = Options {
            tcp: true,
            ..options
        };
        options
            .arguments
            .extend(["--repl-diskless-sync-delay", "0"].map(str::to_owned));
        let master = Redis::start_with(options.clone()).await;
        let replica = Redis::start_with(options.clone()).await;
        let port = master.port();
        replica
            .run::<()>(&format!("REPLICAOF 127.0.0.1 {port}"))
            .await;
        let mut started = Sentinels {
            directory: TempDir::with_prefix("pombo-sentinel-").expect("a directory"),
            sentinels: Vec::new(),
            options,
            servers: vec![master, replica],
        };
        started.in_step().await;
        for _ in 0..SENTINELS {
            started.start_sentinel(port);
        }
        until(
            "sentinels that know each other and the replica",
            async || {
                let mut known = Vec::new();
                for Sentinel { url, .. } in &started.sentinels {
                    let facts: Vec<String> = ask(url, &["SENTINEL", "MASTER", MASTER]).await;
                    let fact = |name: &str| {
                        let at = facts.iter().position(|fact| fact == name);
                        at.and_then(|at| facts.get(at + 1)).cloned()
                    };
                    known.push((fact("num-other-sentinels"), fact("num-slaves")));
                }
                known
            },
            |known| {
                let all = (Some("2".to_owned()), Some("1".to_owned()));
                known.iter().all(|one| *one == all)
            },
        )
        .await;
        started
    }

    fn start_sentinel(&mut self, master: u16) {
        let port = free_port();
        let directory = self.directory.path().join(port.to_string());
        std::fs::create_dir(&directory).expect("a directory");
        let file = directory.join("sentinel.conf");
        let socket = directory.join("socket");
        let mut text = format!(
            "bind 127.0.0.1\nunixsocket {}\ndir {}\nlogfile log\n\
             sentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 6000\n",
            socket.display(),
            directory.display()
        );
        match &self.options.tls {
            None => text += &format!("port {port}\n"),
            Some(files) => {
                text += &format!("port 0\ntls-port {port}\ntls-replication yes\n");
                for (name, file) in files.directives() {
                    text += &format!("{name} {file}\n");
                }
            }
        }
        let mut url = format!("unix://{}", socket.display());
        if let Some(Login { username, password }) = self.options.login {
            if let Some(name) = username {
                text += &format!("sentinel auth-user {MASTER} {name}\n");
            }
            let (asker, secret) = (ASKER.username.expect("a name"), ASKER.password);
            text += &format!(
                "sentinel auth-pass {MASTER} {password}\n\
                 requirepass {AMONG_THEM}\nsentinel sentinel-pass {AMONG_THEM}\n\
                 user {asker} on >{secret} -@all +sentinel|master\n"
            );
            url += &format!("?pass={AMONG_THEM}");
        }
        std::fs::write(&file, text).expect("a written file");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.expect("redis-server is installed and starts");
        self.sentinels.push(Sentinel { port, url, child });
    }

    /// The settings that lead there.
    pub fn settings(&self) -> String {
        let addresses: Vec<String> = self
            .sentinels
            .iter()
            .map(|one| format!("127.0.0.1:{}", one.port))
            .collect();
        let (mut servers, mut sentinels) = (String::new(), String::new());
        if let Some(files) = &self.options.tls {
            servers += &format!("ca_file = {:?}\n", files.authority);
        }
        if let Some(login) = self.options.login {
            servers += &keys(login);
            sentinels += &keys(ASKER);
        }
        let scheme = self.options.scheme();
        format!(
            "[redis]\nurl = \"{scheme}://nobody.invalid\"\ntopology = \"sentinel\"\n{servers}\
             [redis.sentinel]\nmaster = \"{MASTER}\"\naddresses = {addresses:?}\n{sentinels}"
        )
    }

    /// Waits until all servers that run have one master among them, and the others have all that it has. Returns its
    /// place.
    pub async fn in_step(&self) -> usize {
        let seen = until(
            "a master that its replicas have caught up with",
            async || {
                let mut seen = Vec::new();
                for server in &self.servers {
                    let info = match server.is_running() {
                        true => info(server).await,
                        false => String::new(),
                    };
                    let fact = |name: &str| {
                        let lines = info.lines();
                        let mut found = lines.filter_map(|line| line.split_once(':'));
                        let found = found.find(|(found, _)| *found == name);
                        found.map_or(String::new(), |(_, value)| value.trim().to_owned())
                    };
                    let offset = match fact("role").as_str() {
                        "master" => fact("master_repl_offset"),
                        _ => fact("slave_repl_offset"),
                    };
                    seen.push((fact("role"), fact("master_link_status"), offset));
                }
                seen
            },
            |seen| {
                let running = seen.iter().filter(|(role, ..)| !role.is_empty());
                let masters = seen.iter().filter(|(role, ..)| role == "master").count();
                let offsets: std::collections::BTreeSet<_> =
                    running.clone().map(|(.., offset)| offset).collect();
                masters == 1
                    && offsets.len() == 1
                    && running
                        .clone()
                        .all(|(role, link, _)| role == "master" || link == "up")
            },
        )
        .await;
        let found = seen.iter().position(|(role, ..)| role == "master");
        found.expect("there is one")
    }

    /// The place of the server that the sentinels have for the master.
    pub async fn master(&self) -> usize {
        for Sentinel { url, .. } in &self.sentinels {
            let said = ask(url, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await;
            let found = self.servers.iter().position(|server| {
                said.get(1).and_then(|port| port.parse().ok()) == Some(server.port())
            });
            if let Some(found) = found {
                return found;
            }
        }
        panic!("no sentinel knows the master");
    }

    /// kill -9 of the master; waits until the sentinels have made another one. Returns its place.
    pub async fn kill_master(&mut self) -> usize {
        let old = self.master().await;
        self.servers[old].kill();
        self.another_than(old).await
    }

    /// Has the sentinels make another server the master, while all are well. They may refuse, or break off what they began,
    /// shortly after another failover: then they are asked again.
    pub async fn fail_over(&self) -> usize {
        let old = self.master().await;
        let url = &self.sentinels[0].url;
        let asking = async {
            let mut again = tokio::time::interval(ASK_AGAIN);
            loop {
                again.tick().await;
                if self.master().await == old {
                    let _ = try_ask(url, &["SENTINEL", "FAILOVER", MASTER]).await;
                }
            }
        };
        tokio::select! {
            () = asking => unreachable!("it asks until it is done"),
            master = self.another_than(old) => master,
        }
    }

    async fn another_than(&self, old: usize) -> usize {
        until(
            "another master",
            async || {
                let found = self.master().await;
                let role = match found == old {
                    true => String::new(),
                    false => info(&self.servers[found]).await,
                };
                (found, role.contains("role:master"))
            },
            |(found, is_master)| *found != old && *is_master,
        )
        .await
        .0
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for Sentinel { child, .. } in &mut self.sentinels {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a server says of its replication; nothing while a sentinel cuts its clients off, which it does to one that it
/// gives another role.
async fn info(server: &Redis) -> String {
    let mut command = redis::cmd("INFO");
    command.arg("replication");
    server.try_query(&command).await.unwrap_or_default()
}

/// A login as settings have it.
fn keys(Login { username, password }: Login) -> String {
    let user = username.map_or(String::new(), |name| format!("username = {name:?}\n"));
    format!("{user}password = {password:?}\n")
}

async fn try_ask(url: &str, words: &[&str]) -> Result<redis::Value, redis::RedisError> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command.query_async(&mut connection).await
}

/// The texts that a sentinel answers; none while it does not.
async fn ask(url: &str, words: &[&str]) -> Vec<String> {
    let reply = try_ask(url, words).await.unwrap_or(redis::Value::Nil);
    redis::from_redis_value(reply).unwrap_or_default()
}
