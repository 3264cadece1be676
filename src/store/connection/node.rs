//! One server and what Pombo holds open to it.

use std::time::Duration;

use deadpool_redis::{Manager, Pool};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Pipeline, Value};

use super::client::{Address, Door, at};
use super::info::{Identity, ServerFacts, read_info};
use crate::store::error::StoreError;

/// Connections for slow reads: a few are enough for listings, sampling and reloads side by side.
const READS: usize = 4;
/// Connections for stores that wait for replicas: while one waits, whatever shares its connection does too.
const WRITES: usize = 8;
/// What a slow read may take.
const SLOW_READ: Duration = Duration::from_secs(30);

/// Which of a server's connections a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    /// The one that deliveries share.
    Shared,
    /// One of the pool for slow reads, which nobody's delivery waits for.
    Slow,
}

/// A server that answers and takes writes, or did so when it was connected to.
pub(super) struct Node {
    /// Where it is; `None` where the settings say it, and nobody else.
    pub address: Option<Address>,
    /// Which server it is.
    pub identity: Identity,
    /// Whether it has XACKDEL.
    pub has_xackdel: bool,
    connection: MultiplexedConnection,
    reads: Pool,
    writes: Pool,
}

impl Node {
    /// Connects to the server at `address`, or to that of the settings, and asks who it is.
    ///
    /// # Errors
    ///
    /// It cannot be reached, or is of no use now: a replica, or one that is still loading.
    pub async fn open(door: &Door, address: Option<Address>) -> Result<Node, StoreError> {
        let place = address.as_ref();
        let mut connection = door.connect(place, door.response_timeout).await?;
        let facts = ask(&mut connection, place).await?;
        if let Some(refusal) = facts.refusal {
            return Err(StoreError::Refused {
                operation: "connect",
                refusal,
            });
        }
        let patience = door.response_timeout;
        Ok(Node {
            has_xackdel: facts.has_xackdel(),
            identity: facts.identity,
            reads: pool(door, place, READS, patience.max(SLOW_READ))?,
            writes: pool(door, place, WRITES, patience)?,
            connection,
            address,
        })
    }

    /// What INFO says now.
    pub async fn look(&self) -> Result<ServerFacts, StoreError> {
        ask(&mut self.connection.clone(), self.address.as_ref()).await
    }

    /// The connection that deliveries share.
    pub fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    /// A connection that is nobody else's for now.
    pub async fn own(
        &self,
        operation: &'static str,
    ) -> Result<deadpool_redis::Connection, StoreError> {
        self.writes
            .get()
            .await
            .map_err(|error| self.unavailable(operation, &error))
    }

    /// Runs a plain pipeline; errors of single commands are among the replies.
    pub async fn pipeline(
        &self,
        channel: Channel,
        operation: &'static str,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let sent = match channel {
            Channel::Shared => {
                let mut connection = self.connection.clone();
                connection
                    .req_packed_commands(commands, 0, commands.len())
                    .await
            }
            Channel::Slow => {
                let mut connection = self
                    .reads
                    .get()
                    .await
                    .map_err(|error| self.unavailable(operation, &error))?;
                connection
                    .req_packed_commands(commands, 0, commands.len())
                    .await
            }
        };
        sent.map_err(|error| {
            at(
                self.address.as_ref(),
                StoreError::from_redis(operation, &error),
            )
        })
    }

    fn unavailable(
        &self,
        operation: &'static str,
        error: &deadpool_redis::PoolError,
    ) -> StoreError {
        at(
            self.address.as_ref(),
            StoreError::Unavailable {
                operation,
                detail: error.to_string(),
            },
        )
    }
}

/// Asks a server for INFO over `connection`.
pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    address: Option<&Address>,
) -> Result<ServerFacts, StoreError> {
    let info: String = redis::cmd("INFO")
        .query_async(connection)
        .await
        .map_err(|error| at(address, StoreError::from_redis("ask for INFO", &error)))?;
    Ok(read_info(&info))
}

/// A pool that connects when it is used.
fn pool(
    door: &Door,
    address: Option<&Address>,
    size: usize,
    response_timeout: Duration,
) -> Result<Pool, StoreError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(door.connect_timeout))
        .set_response_timeout(Some(response_timeout));
    let denied = |error: &dyn std::fmt::Display| StoreError::Denied {
        operation: "set up the connection pool",
        detail: error.to_string(),
    };
    let info = door.client(address)?.get_connection_info().clone();
    let manager = Manager::new_with_config(info, config).map_err(|error| denied(&error))?;
    Pool::builder(manager)
        .max_size(size)
        .runtime(deadpool_redis::Runtime::Tokio1)
        .wait_timeout(Some(door.connect_timeout + door.response_timeout))
        .create_timeout(Some(door.connect_timeout))
        .recycle_timeout(Some(door.response_timeout))
        .build()
        .map_err(|error| denied(&error))
}
