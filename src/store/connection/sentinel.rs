//! Where the master is, as the sentinels have it.
//!
//! They are asked each time a connection is made, and one of them in turn every two seconds whether the master is still
//! that one: a master that was cut off from the others takes writes for a while that its successor never sees.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::aio::MultiplexedConnection;

use super::client::{Address, Door, at};
use crate::settings::{SentinelSettings, parse_address};
use crate::store::error::StoreError;
use crate::store::value;

/// What a sentinel may take to answer: it only looks up what it knows.
const ANSWER: Duration = Duration::from_secs(1);
/// How long further answers are waited for once there is one.
const OTHERS: Duration = Duration::from_millis(200);

/// What one sentinel says of the master.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    address: Address,
    /// Rises with each failover: of two answers the higher one is newer.
    epoch: u64,
}

/// The sentinels of one master.
pub(super) struct Sentinels {
    door: Door,
    master: String,
    addresses: Vec<Address>,
    turn: AtomicUsize,
    open: tokio::sync::Mutex<HashMap<usize, MultiplexedConnection>>,
}

impl Sentinels {
    /// Those of `settings`, with the TLS of `door`.
    pub fn new(settings: &SentinelSettings, door: &Door) -> Sentinels {
        let mut door = door.of_sentinels(settings);
        door.connect_timeout = door.connect_timeout.min(ANSWER);
        door.response_timeout = door.response_timeout.min(ANSWER);
        Sentinels {
            door,
            master: settings.master.clone().unwrap_or_default(),
            addresses: settings
                .addresses
                .iter()
                .filter_map(|text| parse_address(text))
                .map(|(host, port)| Address { host, port })
                .collect(),
            turn: AtomicUsize::new(0),
            open: tokio::sync::Mutex::default(),
        }
    }

    /// Asks all of them where the master is, and believes the newest answer.
    ///
    /// # Errors
    ///
    /// None answers, or none knows the master.
    pub async fn master(&self) -> Result<Address, StoreError> {
        let mut asked: FuturesUnordered<_> = (0..self.addresses.len())
            .map(|index| self.ask(index))
            .collect();
        let mut best: Option<Said> = None;
        let mut trouble = None;
        let mut last_call = None;
        loop {
            let next = match last_call {
                None => asked.next().await,
                Some(end) => match tokio::time::timeout_at(end, asked.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            match next {
                None => break,
                Some(Ok(said)) => {
                    last_call.get_or_insert_with(|| tokio::time::Instant::now() + OTHERS);
                    if best.as_ref().is_none_or(|best| said.epoch > best.epoch) {
                        best = Some(said);
                    }
                }
                // One that answers and knows no such master tells more than one that does not answer.
                Some(Err(error @ StoreError::Denied { .. })) => trouble = Some(error),
                Some(Err(error)) => trouble = trouble.or(Some(error)),
            }
        }
        match (best, trouble) {
            (Some(said), _) => Ok(said.address),
            (None, Some(error)) => Err(error),
            (None, None) => Err(StoreError::Denied {
                operation: "find the master",
                detail: "there is no sentinel to ask".to_owned(),
            }),
        }
    }

    /// Whether the master is still at `address`, as far as anybody can tell.
    pub async fn still(&self, address: &Address) -> bool {
        let index = self.turn.fetch_add(1, Ordering::Relaxed) % self.addresses.len().max(1);
        match self.ask(index).await {
            Ok(said) if said.address == *address => true,
            // It may be the one that is behind.
            Ok(_) => self.master().await.is_ok_and(|found| found == *address),
            // Who is silent, or knows nothing of this master, has nothing against it.
            Err(_) => true,
        }
    }

    async fn ask(&self, index: usize) -> Result<Said, StoreError> {
        const OPERATION: &str = "ask a sentinel";
        let address = self.addresses.get(index);
        let kept = self.open.lock().await.remove(&index);
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                self.door
                    .connect(address, self.door.response_timeout)
                    .await?
            }
        };
        let mut command = redis::cmd("SENTINEL");
        command.arg("MASTER").arg(&self.master);
        let reply: redis::Value = command
            .query_async(&mut connection)
            .await
            .map_err(|error| at(address, StoreError::from_redis(OPERATION, &error)))?;
        let facts = value::text_map(reply);
        let number = |name: &str| facts.get(name).and_then(|text| text.parse::<u64>().ok());
        let port = number("port").and_then(|port| u16::try_from(port).ok());
        let (Some(host), Some(port)) = (facts.get("ip"), port) else {
            return Err(value::corrupt("the answer of a sentinel", "no ip and port"));
        };
        let said = Said {
            address: Address {
                host: host.clone(),
                port,
            },
            epoch: number("config-epoch").unwrap_or(0),
        };
        self.open.lock().await.insert(index, connection);
        Ok(said)
    }
}
