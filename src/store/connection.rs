//! The connection to one Redis, and what its loss means.
//!
//! A Redis is one server, a master that sentinels watch over, or a cluster, whose masters then are all connected to.
//! Commands of the delivery path share one multiplexed connection to each server; slow reads take one of a small pool,
//! so that no listing holds up a settlement; blocking reads get a connection each, because whatever shares a connection
//! with a blocked read waits for it. A connection that fails is dropped at once and made again with backoff by
//! [`Link::keep`]. When a server found then is not the same one (another run id or replication id), the *generation*
//! rises: what was stored or acknowledged under the old one may be gone, so that all state in memory is void. A slot of a
//! cluster that moves from one master to another takes its data with it, and raises nothing.
//!
//! On a cluster the loss of one master is the loss of the connection, until its replica has taken over: most of what
//! Pombo does needs several slots, and a cluster itself by default serves nothing meanwhile.

mod client;
mod cluster;
mod connected;
mod info;
mod keeper;
mod node;
mod read;
mod route;
mod sentinel;
mod slots;
mod view;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::Value;
use tokio::sync::{Notify, watch};

use self::client::{Address, Door};
pub use self::connected::Connected;
use self::connected::{Own, Way};
pub(super) use self::info::version;
pub use self::info::{Identity, ServerFacts};
pub use self::read::Master;
use self::sentinel::Sentinels;
use self::view::Current;
use super::error::{Refusal, StoreError};
use super::value;
use crate::clock::Clock;
use crate::logging::StateLog;
use crate::metrics::Metrics;
use crate::settings::{RedisServer, RedisSettings, Topology, parse_address};

/// What a blocking read may take beyond its BLOCK before its connection is given up.
const BLOCK_MARGIN: Duration = Duration::from_secs(3);

/// The state of a link, for readiness and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected yet, and nothing has gone wrong so far.
    Starting,
    /// Connected, of this generation.
    Up(u64),
    /// Not connected, and why in plain words.
    Down(String),
}

/// How the servers are found.
enum Plan {
    /// The settings say where it is.
    Single,
    /// The sentinels know.
    Sentinel(Box<Sentinels>),
    /// Each node of a cluster knows all others; these are asked first.
    Cluster(Vec<Address>),
}

struct Inner {
    plan: Plan,
    door: Door,
    wait_replicas: u32,
    wait_timeout: Duration,
    /// Whether replicas keep up, where they are waited for.
    replication: StateLog,
    current: ArcSwapOption<Current>,
    /// The last connection, kept after its loss: what comes after it is held against it.
    last: Mutex<Option<Arc<Current>>>,
    serials: AtomicU64,
    /// The serial of the newest connection.
    looked: watch::Sender<u64>,
    /// Nodes of a cluster that were named to this link and are to be asked first.
    hints: Mutex<Vec<Address>>,
    /// Raised each time a server found is not the one before. 0 until the first connection.
    generation: AtomicU64,
    /// The connection was given up.
    broken: Notify,
    /// Something told that the servers are to be looked for again, although all connections stand.
    stale: Notify,
    state: watch::Sender<LinkState>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// The connection to one Redis; cheap to clone.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

impl Link {
    /// A link to `server`, a single one, with the timeouts of `redis`. Nothing is connected before [`Link::keep`] runs.
    ///
    /// # Errors
    ///
    /// A certificate file cannot be read, or the client library refuses the address.
    pub fn new(
        server: &RedisServer,
        redis: &RedisSettings,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Result<Link, StoreError> {
        let door = Door::new(server, redis)?;
        Ok(Self::with(
            Plan::Single,
            door,
            (0, redis.wait_timeout),
            clock,
            metrics,
        ))
    }

    /// A link to Pombo's own Redis, of whatever topology. Nothing is connected before [`Link::keep`] runs.
    ///
    /// # Errors
    ///
    /// As [`Link::new`].
    pub fn own(
        redis: &RedisSettings,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Result<Link, StoreError> {
        let door = Door::new(&redis.server, redis)?;
        let plan = match redis.topology {
            Topology::Single => Plan::Single,
            Topology::Sentinel => {
                let sentinels = Sentinels::new(&redis.sentinel, &door);
                Plan::Sentinel(Box::new(sentinels))
            }
            Topology::Cluster => {
                let named = redis.nodes.iter().filter_map(|text| parse_address(text));
                let named = named.map(|(host, port)| Address { host, port });
                Plan::Cluster(named.chain(door.address()).collect())
            }
        };
        let wait = (redis.wait_replicas, redis.wait_timeout);
        Ok(Self::with(plan, door, wait, clock, metrics))
    }

    fn with(
        plan: Plan,
        door: Door,
        (wait_replicas, wait_timeout): (u32, Duration),
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Link {
        Link {
            inner: Arc::new(Inner {
                plan,
                door,
                wait_replicas,
                wait_timeout,
                replication: StateLog::new("keeping stored deliveries on replicas"),
                current: ArcSwapOption::empty(),
                last: Mutex::new(None),
                serials: AtomicU64::new(0),
                looked: watch::channel(0).0,
                hints: Mutex::new(Vec::new()),
                generation: AtomicU64::new(0),
                broken: Notify::new(),
                stale: Notify::new(),
                state: watch::channel(LinkState::Starting).0,
                clock: clock.clone(),
                metrics: metrics.clone(),
            }),
        }
    }

    /// The present generation; 0 before the first connection.
    pub fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::Acquire)
    }

    /// Follows the state of the link.
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.inner.state.subscribe()
    }

    /// Whether both are one and the same link.
    pub fn is(&self, other: &Link) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Which server keeps `key`, and in which of its terms as a master; `None` while there is no connection.
    pub(super) fn server_of(&self, key: &str) -> Option<String> {
        let current = self.inner.current.load_full()?;
        let node = current.node_of(key)?;
        Some(node.identity.term())
    }

    fn current(&self, operation: &'static str) -> Result<Arc<Current>, StoreError> {
        self.inner
            .current
            .load_full()
            .ok_or_else(|| StoreError::Unavailable {
                operation,
                detail: "not connected".to_owned(),
            })
    }

    /// The current connection.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] while there is none.
    pub fn connection(&self) -> Result<Connected, StoreError> {
        let current = self.current("connect")?;
        Ok(Connected {
            generation: current.generation,
            serial: current.serial,
            way: Way::Shared(current),
            link: self.clone(),
        })
    }

    /// The current connection, if it still is of `generation`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] if the server is another one by now; [`StoreError::Unavailable`] while there is none.
    pub fn connection_of(&self, generation: u64) -> Result<Connected, StoreError> {
        let connected = self.connection();
        if self.generation() != generation {
            return Err(StoreError::Replaced);
        }
        connected.and_then(|connected| {
            if connected.generation == generation {
                Ok(connected)
            } else {
                Err(StoreError::Replaced)
            }
        })
    }

    /// A connection for storing under `key` what an acknowledgement will rely on: with [`Connected::replicated`] after it,
    /// replicas are waited for if the settings say so. Where they do not, as [`Link::connection_of`].
    ///
    /// # Errors
    ///
    /// As [`Link::connection_of`].
    pub async fn durable(&self, key: &str, generation: u64) -> Result<Connected, StoreError> {
        const OPERATION: &str = "connect for a store";
        let connected = self.connection_of(generation)?;
        if self.inner.wait_replicas == 0 {
            return Ok(connected);
        }
        let node = match &connected.way {
            Way::Shared(current) => current.node_of(key).cloned(),
            Way::Own(_, node) => Some(node.clone()),
        };
        let node = node.ok_or(StoreError::Refused {
            operation: OPERATION,
            refusal: Refusal::ClusterDown,
        })?;
        let own = node.own(OPERATION).await?;
        Ok(Connected {
            way: Way::Own(Own::Pooled(own), node),
            ..connected
        })
    }

    /// A connection for blocking reads of `key` of up to `block`, proven to lead to the server of `generation`. Where the
    /// key has moved by the time of a read, that fails for now, and the connection is to be made anew.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] if it leads elsewhere: the link is then made to look again by itself.
    pub async fn blocking(
        &self,
        key: &str,
        block: Duration,
        generation: u64,
    ) -> Result<Connected, StoreError> {
        const OPERATION: &str = "connect for a blocking read";
        let current = self.current(OPERATION)?;
        if current.generation != generation {
            return Err(StoreError::Replaced);
        }
        let node = current.node_of(key).ok_or(StoreError::Refused {
            operation: OPERATION,
            refusal: Refusal::ClusterDown,
        })?;
        let place = node.address.as_ref();
        let door = &self.inner.door;
        let opened = async {
            let mut connection = door.connect(place, block + BLOCK_MARGIN).await?;
            let facts = node::ask(&mut connection, place).await?;
            Ok((connection, facts))
        };
        let (connection, facts) = opened.await.inspect_err(|_: &StoreError| {
            if matches!(self.inner.plan, Plan::Cluster(_)) {
                // It may be gone from the cluster, while nothing else was asked of it.
                self.inner.stale.notify_one();
            }
        })?;
        if !facts.identity.continues(&node.identity) || facts.refusal.is_some() {
            self.mark_broken(current.serial);
            return Err(StoreError::Replaced);
        }
        Ok(Connected {
            way: Way::Own(Own::Made(connection), node.clone()),
            generation,
            serial: current.serial,
            link: self.clone(),
        })
    }
}

/// The first error among the replies.
pub(super) fn first_error(operation: &'static str, replies: &[Value]) -> Result<(), StoreError> {
    match replies.iter().find_map(value::server_error) {
        Some((code, detail)) => Err(StoreError::from_code(operation, &code, &detail)),
        None => Ok(()),
    }
}
