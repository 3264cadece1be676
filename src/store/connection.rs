//! The connection to one Redis server, and what its loss means.
//!
//! Commands of the delivery path share one multiplexed connection; slow reads take one of a small pool, so that no
//! listing holds up a settlement; blocking reads get a connection each, because whatever shares a connection with a
//! blocked read waits for it. A connection that fails is dropped at once and made again with backoff by
//! [`Link::keep`]. When the server found then is not the same one (another run id or replication id), the *generation*
//! rises: what was stored or acknowledged under the old one may be gone, so that all state in memory is void.

mod client;
mod info;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use deadpool_redis::{Manager, Pool};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::client::client;
use self::info::read_info;
pub use self::info::{Identity, ServerFacts};
use super::error::StoreError;
use super::value;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::settings::{RedisServer, RedisSettings};

/// Connections for slow reads: a few are enough for listings, sampling and reloads side by side.
const POOL_SIZE: usize = 4;
/// What a slow read may take.
const SLOW_READ: Duration = Duration::from_secs(30);
/// The first and the longest pause between attempts to connect.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_LONGEST: Duration = Duration::from_secs(2);
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

struct Current {
    /// Tells this connection from all others of the link.
    serial: u64,
    connection: MultiplexedConnection,
    generation: u64,
    identity: Identity,
}

struct Inner {
    client: Client,
    /// Made anew with each generation: a connection of before may lead to a server that is a replica now.
    pool: ArcSwap<Pool>,
    connect_timeout: Duration,
    response_timeout: Duration,
    current: ArcSwapOption<Current>,
    serials: AtomicU64,
    /// Raised each time the server found is not the one before. 0 until the first connection.
    generation: AtomicU64,
    last_identity: std::sync::Mutex<Option<Identity>>,
    broken: Notify,
    state: watch::Sender<LinkState>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// The connection to one Redis server; cheap to clone.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

/// A multiplexed connection and the generation that it belongs to.
pub struct Connected {
    connection: MultiplexedConnection,
    /// The generation of the server behind it.
    pub generation: u64,
    /// The serial of the link's connection, its own or the one at whose side it was made: when it fails, that one is
    /// most likely gone too.
    serial: u64,
    link: Link,
}

impl Link {
    /// A link to `server`, with the timeouts of `redis`. Nothing is connected before [`Link::keep`] runs.
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
        let client = client(server)?;
        let pool = make_pool(&client, redis.connect_timeout, redis.response_timeout)?;
        let (state, _) = watch::channel(LinkState::Starting);
        Ok(Link {
            inner: Arc::new(Inner {
                client,
                pool: ArcSwap::from_pointee(pool),
                connect_timeout: redis.connect_timeout,
                response_timeout: redis.response_timeout,
                current: ArcSwapOption::empty(),
                serials: AtomicU64::new(0),
                generation: AtomicU64::new(0),
                last_identity: std::sync::Mutex::new(None),
                broken: Notify::new(),
                state,
                clock: clock.clone(),
                metrics: metrics.clone(),
            }),
        })
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

    /// Keeps the link connected until `stop`: the one task that connects.
    pub async fn keep(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.keep_connected() => {}
        }
    }

    async fn keep_connected(&self) {
        let mut pause = RECONNECT_FIRST;
        loop {
            if self.inner.current.load().is_some() {
                self.inner.broken.notified().await;
                pause = RECONNECT_FIRST;
                continue;
            }
            match self.connect_once().await {
                Ok(()) => pause = RECONNECT_FIRST,
                Err(error) => {
                    self.publish(LinkState::Down(error.to_string()));
                    let spread = 0.5 + self.inner.clock.random_unit() / 2.0;
                    tokio::time::sleep(pause.mul_f64(spread)).await;
                    pause = (pause * 2).min(RECONNECT_LONGEST);
                }
            }
        }
    }

    /// Connects, asks the server who it is, and makes the connection the current one.
    async fn connect_once(&self) -> Result<(), StoreError> {
        let (connection, facts) = self.open(self.inner.response_timeout).await?;
        if let Some(refusal) = facts.refusal {
            return Err(StoreError::Refused {
                operation: "connect",
                refusal,
            });
        }
        let pool = make_pool(
            &self.inner.client,
            self.inner.connect_timeout,
            self.inner.response_timeout,
        )?;
        let generation = {
            // Nothing panics while the lock is held, so it is never poisoned.
            let mut last = self
                .inner
                .last_identity
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            if last.as_ref() != Some(&facts.identity) {
                if last.is_some() {
                    self.inner.metrics.redis_generations_total.inc();
                }
                *last = Some(facts.identity.clone());
                self.inner.pool.store(Arc::new(pool));
                self.inner.generation.fetch_add(1, Ordering::AcqRel) + 1
            } else {
                self.generation()
            }
        };
        self.inner.current.store(Some(Arc::new(Current {
            serial: self.inner.serials.fetch_add(1, Ordering::AcqRel),
            connection,
            generation,
            identity: facts.identity,
        })));
        self.publish(LinkState::Up(generation));
        Ok(())
    }

    async fn open(
        &self,
        response_timeout: Duration,
    ) -> Result<(MultiplexedConnection, ServerFacts), StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.inner.connect_timeout))
            .set_response_timeout(Some(response_timeout));
        let mut connection = self
            .inner
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| StoreError::from_redis("connect", &error))?;
        let info: String = redis::cmd("INFO")
            .query_async(&mut connection)
            .await
            .map_err(|error| StoreError::from_redis("ask for INFO", &error))?;
        Ok((connection, read_info(&info)))
    }

    fn publish(&self, state: LinkState) {
        self.inner.state.send_if_modified(|old| {
            let changed = *old != state;
            *old = state;
            changed
        });
    }

    /// The current connection.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] while there is none.
    pub fn connection(&self) -> Result<Connected, StoreError> {
        match &*self.inner.current.load() {
            Some(current) => Ok(Connected {
                connection: current.connection.clone(),
                generation: current.generation,
                serial: current.serial,
                link: self.clone(),
            }),
            None => Err(StoreError::Unavailable {
                operation: "connect",
                detail: "not connected".to_owned(),
            }),
        }
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

    /// A connection for blocking reads of up to `block`, proven to lead to the server of `generation`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replaced`] if it leads elsewhere: the link is then made to look again by itself.
    pub async fn blocking(
        &self,
        block: Duration,
        generation: u64,
    ) -> Result<Connected, StoreError> {
        let (expected, serial) = match &*self.inner.current.load() {
            Some(current) if current.generation == generation => {
                (current.identity.clone(), current.serial)
            }
            Some(_) => return Err(StoreError::Replaced),
            None => {
                return Err(StoreError::Unavailable {
                    operation: "connect for a blocking read",
                    detail: "not connected".to_owned(),
                });
            }
        };
        let (connection, facts) = self.open(block + BLOCK_MARGIN).await?;
        if facts.identity != expected {
            self.mark_broken(serial);
            return Err(StoreError::Replaced);
        }
        Ok(Connected {
            connection,
            generation,
            serial,
            link: self.clone(),
        })
    }

    /// What INFO says now.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn facts(&self) -> Result<ServerFacts, StoreError> {
        let mut connected = self.connection()?;
        let reply = connected
            .command("ask for INFO", redis::cmd("INFO"))
            .await?;
        Ok(read_info(&value::text(reply).unwrap_or_default()))
    }

    /// Runs commands on one of the pool's connections: for slow reads that nobody's delivery waits for.
    ///
    /// # Errors
    ///
    /// As the server's answer is sorted by [`StoreError`].
    pub async fn slowly(
        &self,
        operation: &'static str,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let replies = self.slowly_each(operation, commands).await?;
        first_error(operation, &replies)
            .inspect_err(|_| self.inner.metrics.redis_error(operation))?;
        Ok(replies)
    }

    /// As [`Link::slowly`], with the errors of single commands among the replies, as [`Value::ServerError`].
    ///
    /// # Errors
    ///
    /// Only when the replies as a whole did not come.
    pub async fn slowly_each(
        &self,
        operation: &'static str,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let pool = self.inner.pool.load_full();
        let mut connection = pool.get().await.map_err(|error| {
            self.inner.metrics.redis_error(operation);
            StoreError::Unavailable {
                operation,
                detail: error.to_string(),
            }
        })?;
        let replies = redis::aio::ConnectionLike::req_packed_commands(
            &mut connection,
            commands,
            0,
            commands.len(),
        )
        .await
        .map_err(|error| {
            self.inner.metrics.redis_error(operation);
            StoreError::from_redis(operation, &error)
        })?;
        Ok(replies)
    }

    /// Gives up the connection `serial`, if it is still the current one.
    fn mark_broken(&self, serial: u64) {
        let current = self.inner.current.load();
        if let Some(found) = &*current
            && found.serial == serial
        {
            // Another task may have replaced it meanwhile; then the exchange does nothing.
            self.inner.current.compare_and_swap(&current, None);
            self.inner.broken.notify_one();
        }
    }
}

impl Connected {
    /// Runs one command.
    ///
    /// # Errors
    ///
    /// As the server's answer is sorted by [`StoreError`].
    pub async fn command(
        &mut self,
        operation: &'static str,
        command: Cmd,
    ) -> Result<Value, StoreError> {
        let reply = command.query_async(&mut self.connection).await;
        self.checked(operation, reply)
    }

    /// Runs one command whose refusal may be an answer as good as any: an error comes as [`Value::ServerError`].
    ///
    /// # Errors
    ///
    /// Only when no reply came.
    pub async fn ask(
        &mut self,
        operation: &'static str,
        command: Cmd,
    ) -> Result<Value, StoreError> {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        let replies = self.pipeline(operation, &commands).await?;
        Ok(replies.into_iter().next().unwrap_or(Value::Nil))
    }

    /// Runs a plain pipeline and returns every reply, an error among them as [`Value::ServerError`].
    ///
    /// # Errors
    ///
    /// Only when the replies as a whole did not come.
    pub async fn pipeline(
        &mut self,
        operation: &'static str,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let reply = redis::aio::ConnectionLike::req_packed_commands(
            &mut self.connection,
            commands,
            0,
            commands.len(),
        )
        .await;
        self.checked(operation, reply)
    }

    /// Runs a plain pipeline in which no command may fail.
    ///
    /// # Errors
    ///
    /// The first error of any command; the others may have been carried out.
    pub async fn all(
        &mut self,
        operation: &'static str,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let replies = self.pipeline(operation, commands).await?;
        let checked = first_error(operation, &replies);
        if checked.is_err() {
            self.count_error(operation);
        }
        checked.map(|()| replies)
    }

    /// Runs the commands as one transaction: all of them or none.
    ///
    /// # Errors
    ///
    /// As the server's answer is sorted by [`StoreError`]; a refusal means that none was carried out.
    pub async fn transaction(
        &mut self,
        operation: &'static str,
        commands: &mut Pipeline,
    ) -> Result<Value, StoreError> {
        let reply = commands.atomic().query_async(&mut self.connection).await;
        self.checked(operation, reply)
    }

    /// Counts an error that came as a reply among others.
    pub(super) fn count_error(&self, operation: &'static str) {
        self.link.inner.metrics.redis_error(operation);
    }

    fn checked<T>(
        &self,
        operation: &'static str,
        reply: Result<T, redis::RedisError>,
    ) -> Result<T, StoreError> {
        reply.map_err(|error| {
            let error = StoreError::from_redis(operation, &error);
            self.link.inner.metrics.redis_error(operation);
            if matches!(error, StoreError::Unavailable { .. }) {
                self.link.mark_broken(self.serial);
            }
            error
        })
    }
}

/// A pool for slow reads, with more patience than the delivery path has.
fn make_pool(
    client: &Client,
    connect_timeout: Duration,
    response_timeout: Duration,
) -> Result<Pool, StoreError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(connect_timeout))
        .set_response_timeout(Some(response_timeout.max(SLOW_READ)));
    let denied = |error: &dyn std::fmt::Display| StoreError::Denied {
        operation: "set up the connection pool",
        detail: error.to_string(),
    };
    let manager = Manager::new_with_config(client.get_connection_info().clone(), config)
        .map_err(|error| denied(&error))?;
    Pool::builder(manager)
        .max_size(POOL_SIZE)
        .runtime(deadpool_redis::Runtime::Tokio1)
        .wait_timeout(Some(connect_timeout + response_timeout))
        .create_timeout(Some(connect_timeout))
        .recycle_timeout(Some(response_timeout))
        .build()
        .map_err(|error| denied(&error))
}

/// The first error among the replies.
pub(super) fn first_error(operation: &'static str, replies: &[Value]) -> Result<(), StoreError> {
    match replies.iter().find_map(value::server_error) {
        Some((code, detail)) => Err(StoreError::from_code(operation, &code, &detail)),
        None => Ok(()),
    }
}
