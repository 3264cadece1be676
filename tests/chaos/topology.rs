//! The Redis of a run, whatever its shape.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, Value};
use tokio::time::Instant;

use crate::dice::Dice;
use crate::options;
use crate::plan::STREAMS;
use crate::support::cluster::Cluster;
use crate::support::pombo::Config;
use crate::support::proxy::Proxy;
use crate::support::redis::{Options, Redis};
use crate::support::sentinel::{MASTER, Sentinels};

/// How long a command of the suite's own may take: longer than any CLIENT PAUSE.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is asked again while slots move and masters change.
const UNSETTLED: Duration = Duration::from_secs(15);
/// Slots of a cluster.
const SLOTS: u64 = 16_384;

pub enum Topology {
    /// One server that writes to disk before it answers.
    Single(Redis),
    /// A master, a replica and three sentinels.
    Sentinel(Sentinels),
    /// Three masters, each with a replica.
    Cluster(Cluster),
}

/// How to reach it, for those that only ask.
#[derive(Clone, Debug)]
pub enum Address {
    /// The server.
    Single(String),
    /// The sentinels, who know the master.
    Sentinel(Vec<String>),
    /// The nodes, each of which knows who has what.
    Cluster(Vec<String>),
}

impl Topology {
    pub async fn start(shape: options::Topology) -> Topology {
        let durable = Options {
            append_only: true,
            ..Options::default()
        };
        match shape {
            options::Topology::Single => Topology::Single(Redis::start_with(durable).await),
            options::Topology::Sentinel => Topology::Sentinel(Sentinels::start_with(durable).await),
            options::Topology::Cluster => Topology::Cluster(Cluster::start_with(durable).await),
        }
    }

    pub fn address(&self) -> Address {
        match self {
            Topology::Single(redis) => Address::Single(redis.url()),
            Topology::Sentinel(sentinels) => {
                let settings: toml::Table = sentinels.settings().parse().expect("settings");
                let found = settings["redis"]["sentinel"]["addresses"].as_array();
                let addresses = found.into_iter().flatten().filter_map(toml::Value::as_str);
                Address::Sentinel(addresses.map(|one| format!("redis://{one}")).collect())
            }
            Topology::Cluster(cluster) => {
                Address::Cluster(cluster.nodes.iter().map(Redis::tcp_url).collect())
            }
        }
    }

    /// The settings of one daemon on it, behind a proxy of its own where there is one server to stand before.
    pub async fn daemon(&self) -> (Config, Option<Proxy>) {
        match self {
            Topology::Single(redis) => {
                let proxy = Proxy::start(redis).await;
                (Config::with_redis_url(&proxy.url()), Some(proxy))
            }
            _ => (self.direct(), None),
        }
    }

    /// The settings of the suite's own access.
    pub fn direct(&self) -> Config {
        let several =
            |settings: String| Config::with_redis_url("redis://127.0.0.1").with(&settings);
        match self {
            Topology::Single(redis) => Config::new(redis),
            Topology::Sentinel(sentinels) => several(sentinels.settings()),
            Topology::Cluster(cluster) => several(cluster.settings()),
        }
    }

    /// kill -9 of a single server.
    pub fn kill(&mut self) {
        if let Topology::Single(redis) = self {
            redis.kill();
        }
    }

    pub async fn restart(&mut self) {
        if let Topology::Single(redis) = self {
            redis.restart().await;
        }
    }

    /// A master goes, by kill -9 or by order, and a replica takes its place; who was killed comes back as a replica.
    /// Returns how many were killed.
    pub async fn fail_over(&mut self, seed: u64) -> u64 {
        let mut dice = Dice::new(seed);
        let killed = dice.below(2) == 0;
        match self {
            Topology::Single(_) => return 0,
            Topology::Sentinel(sentinels) if killed => {
                let old = sentinels.master().await;
                sentinels.kill_master().await;
                sentinels.servers[old].restart().await;
                sentinels.in_step().await;
            }
            Topology::Sentinel(sentinels) => {
                sentinels.fail_over().await;
            }
            Topology::Cluster(cluster) => {
                let master = cluster.master_of(dice.below(SLOTS) as u16).await;
                // The two of a pair take turns.
                let pairs = cluster.nodes.len() / 2;
                let replica = (master + pairs) % cluster.nodes.len();
                if killed {
                    cluster.kill(master).await;
                    cluster.nodes[master].restart().await;
                    cluster.well().await;
                } else {
                    cluster.fail_over_to(replica).await;
                }
            }
        }
        u64::from(killed)
    }

    /// Moves a slot that is in use to another master of a cluster.
    pub async fn reshard(&mut self, seed: u64) {
        let mut dice = Dice::new(seed);
        if let Topology::Cluster(cluster) = self {
            let shard = dice.below(16);
            let key = match dice.below(4) {
                0 => STREAMS[0].to_owned(),
                1 => "pombo:{cfg}:instances".to_owned(),
                _ => format!("pombo:{{s{shard:02}}}:owner"),
            };
            let to = cluster.master_of(dice.below(SLOTS) as u16).await;
            let slot = cluster.slot(&key).await;
            cluster.reshard(slot, to).await;
        }
    }

    /// Whether every write that was acknowledged is there after whatever happened.
    pub fn keeps_everything(&self) -> bool {
        matches!(self, Topology::Single(_))
    }
}

async fn open(url: &str) -> Result<MultiplexedConnection, RedisError> {
    let patient = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    Client::open(url)?
        .get_multiplexed_async_connection_with_config(&patient)
        .await
}

fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command
}

impl Address {
    /// A connection to whoever has the key now.
    pub async fn connect(&self, key: &str) -> Result<MultiplexedConnection, RedisError> {
        match self {
            Address::Single(url) => open(url).await,
            Address::Sentinel(sentinels) => {
                let ask = command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
                let (host, port): (String, u16) = first(sentinels, &ask).await?;
                open(&format!("redis://{host}:{port}")).await
            }
            Address::Cluster(nodes) => {
                let ask = command(&["TYPE", key]);
                let mut found = Err(RedisError::from(std::io::Error::other("no node")));
                for node in nodes {
                    let Ok(mut connection) = open(node).await else {
                        continue;
                    };
                    match ask.query_async::<String>(&mut connection).await {
                        Ok(_) => return Ok(connection),
                        Err(error) => {
                            if let Some((node, _)) = error.redirect_node() {
                                return open(&format!("redis://{node}")).await;
                            }
                            found = Err(error);
                        }
                    }
                }
                found
            }
        }
    }

    /// Runs a command given by its words, where its key is. While a slot moves or a master changes, it is tried again.
    pub async fn run<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, RedisError> {
        let key = words.iter().skip(1).find(|word| word.contains(':'));
        let command = command(words);
        let begun = Instant::now();
        loop {
            let reply = match self.connect(key.unwrap_or(&"")).await {
                Ok(mut connection) => command.query_async::<Value>(&mut connection).await,
                Err(error) => Err(error),
            };
            match reply {
                Ok(value) => return Ok(redis::from_redis_value(value)?),
                Err(error) if matches!(self, Address::Single(_)) || begun.elapsed() > UNSETTLED => {
                    return Err(error);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Runs a command on every server that answers. Returns the first reply.
    pub async fn run_everywhere<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, RedisError> {
        let Address::Cluster(nodes) = self else {
            return self.run(words).await;
        };
        let command = command(words);
        let mut first = Err(RedisError::from(std::io::Error::other("no node")));
        for node in nodes {
            let Ok(mut connection) = open(node).await else {
                continue;
            };
            let reply = command.query_async::<T>(&mut connection).await;
            if first.is_err() {
                first = reply;
            }
        }
        first
    }
}

/// What the first of these servers that knows it answers.
async fn first<T: FromRedisValue>(urls: &[String], command: &Cmd) -> Result<T, RedisError> {
    let mut found = Err(RedisError::from(std::io::Error::other("no sentinel")));
    for url in urls {
        found = match open(url).await {
            Ok(mut connection) => command.query_async(&mut connection).await,
            Err(error) => Err(error),
        };
        if found.is_ok() {
            break;
        }
    }
    found
}
