//! The Redis of a run, whatever its shape.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError};

use crate::options;
use crate::support::pombo::Config;
use crate::support::proxy::Proxy;
use crate::support::redis::{Options, Redis};

/// How long a command of the suite's own may take: longer than any CLIENT PAUSE.
const PATIENCE: Duration = Duration::from_secs(5);

pub enum Topology {
    /// One server that writes to disk before it answers.
    Single(Redis),
}

/// How to reach it, for those that only ask.
#[derive(Clone, Debug)]
pub enum Address {
    Single(String),
}

impl Topology {
    pub async fn start(shape: options::Topology) -> Result<Topology, String> {
        match shape {
            options::Topology::Single => Ok(Topology::Single(
                Redis::start_with(Options {
                    append_only: true,
                    ..Options::default()
                })
                .await,
            )),
            shape => Err(format!("the topology {} is not there yet", shape.name())),
        }
    }

    pub fn address(&self) -> Address {
        match self {
            Topology::Single(redis) => Address::Single(redis.url()),
        }
    }

    /// The settings of one daemon on it, behind a proxy of its own where there is one server to stand before.
    pub async fn daemon(&self) -> (Config, Option<Proxy>) {
        match self {
            Topology::Single(redis) => {
                let proxy = Proxy::start(redis).await;
                (Config::with_redis_url(&proxy.url()), Some(proxy))
            }
        }
    }

    /// The settings of the suite's own access.
    pub fn direct(&self) -> Config {
        match self {
            Topology::Single(redis) => Config::new(redis),
        }
    }

    pub fn kill(&mut self) {
        match self {
            Topology::Single(redis) => redis.kill(),
        }
    }

    pub async fn restart(&mut self) {
        match self {
            Topology::Single(redis) => redis.restart().await,
        }
    }

    /// Whether every write that was acknowledged is there after whatever happened.
    pub fn keeps_everything(&self) -> bool {
        match self {
            Topology::Single(_) => true,
        }
    }
}

impl Address {
    pub async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        match self {
            Address::Single(url) => {
                Client::open(url.as_str())?
                    .get_multiplexed_async_connection_with_config(&patient)
                    .await
            }
        }
    }

    /// Runs a command given by its words.
    pub async fn run<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, RedisError> {
        let mut command = Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut self.connect().await?).await
    }
}
