//! A connection as the store uses it.

use std::sync::Arc;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, Value};

use super::cluster::{Redirect, redirect};
use super::node::{Channel, Node};
use super::view::Current;
use super::{Link, first_error, route};
use crate::store::error::StoreError;
use crate::store::value;

/// Where the commands of a connection go.
pub(super) enum Way {
    /// Over the connections that all share, to whichever server has their keys.
    Shared(Arc<Current>),
    /// Over a connection of its own to one server.
    Own(Own, Arc<Node>),
}

/// A connection that nobody else uses meanwhile.
pub(super) enum Own {
    /// Made for this.
    Made(MultiplexedConnection),
    /// Taken from a pool.
    Pooled(deadpool_redis::Connection),
}

/// A connection and the generation that it belongs to.
pub struct Connected {
    pub(super) way: Way,
    /// The generation of the servers behind it.
    pub generation: u64,
    /// The serial of the link's connection, its own or the one at whose side it was made: when it fails, that one is
    /// most likely gone too.
    pub(super) serial: u64,
    pub(super) link: Link,
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
        let reply = self.ask(operation, command).await?;
        match value::server_error(&reply) {
            None => Ok(reply),
            Some((code, detail)) => {
                self.count_error(operation);
                Err(StoreError::from_code(operation, &code, &detail))
            }
        }
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

    /// Runs a plain pipeline and returns every reply, an error among them as [`Value::ServerError`]. On a cluster the
    /// commands go to the nodes of their keys, in order as far as they are of one slot.
    ///
    /// # Errors
    ///
    /// Only when the replies as a whole did not come; some of the commands may have been carried out.
    pub async fn pipeline(
        &mut self,
        operation: &'static str,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let replies = match &mut self.way {
            Way::Shared(current) => {
                route::pipeline(&self.link, current, Channel::Shared, operation, commands).await
            }
            Way::Own(own, node) => {
                let sent = match own {
                    Own::Made(connection) => {
                        tokio::select! {
                            sent = connection.req_packed_commands(commands, 0, commands.len()) => sent,
                            // A connection that died in silence would be waited for as long as it blocks, and longer.
                            () = self.link.left(node) => {
                                return Err(StoreError::Unavailable {
                                    operation,
                                    detail: "the connection beside it was lost".to_owned(),
                                });
                            }
                        }
                    }
                    Own::Pooled(connection) => {
                        connection
                            .req_packed_commands(commands, 0, commands.len())
                            .await
                    }
                };
                sent.map_err(|error| StoreError::from_redis(operation, &error))
            }
        };
        match replies {
            Ok(replies) => {
                self.heed(&replies);
                Ok(replies)
            }
            Err(error) => Err(self.failed(operation, error)),
        }
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

    /// Runs the commands as one transaction: all of them or none. On a cluster all of one slot.
    ///
    /// # Errors
    ///
    /// As the server's answer is sorted by [`StoreError`]; a refusal means that none was carried out.
    pub async fn transaction(
        &mut self,
        operation: &'static str,
        commands: &mut Pipeline,
    ) -> Result<Value, StoreError> {
        let reply = match &mut self.way {
            Way::Shared(current) => {
                route::transaction(&self.link, current, operation, commands).await
            }
            Way::Own(own, node) => {
                let commands = commands.atomic();
                let sent = match own {
                    Own::Made(connection) => commands.query_async(connection).await,
                    Own::Pooled(connection) => commands.query_async(connection).await,
                };
                let moved = sent
                    .as_ref()
                    .err()
                    .and_then(|error| route::redirection(error, node));
                if let Some(moved) = moved {
                    self.link.moved(self.serial, &moved);
                }
                sent.map_err(|error| StoreError::from_redis(operation, &error))
            }
        };
        reply.map_err(|error| self.failed(operation, error))
    }

    /// Waits until as many replicas as `redis.wait_replicas` says have what was written over this connection, but no
    /// longer than `redis.wait_timeout`: then it is counted and logged, and what was written stands all the same. Only on
    /// a connection of [`Link::durable`] is anything waited for.
    pub async fn replicated(&mut self) {
        let (wanted, patience) = (self.link.inner.wait_replicas, self.link.inner.wait_timeout);
        if wanted == 0 || !matches!(self.way, Way::Own(..)) {
            return;
        }
        let mut command = redis::cmd("WAIT");
        let millis = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        command.arg(wanted).arg(millis);
        let (reason, detail) = match self.command("wait for replicas", command).await {
            Ok(reply) => match value::integer(&reply).unwrap_or(0) {
                have if have >= i64::from(wanted) => {
                    self.link.inner.replication.well();
                    return;
                }
                have => (
                    "too_few",
                    format!("{have} of {wanted} replicas have it in time"),
                ),
            },
            Err(error) => ("unknown", error.to_string()),
        };
        self.link.inner.metrics.replicas_missed_total.inc();
        self.link.inner.replication.trouble(reason, detail);
    }

    /// Whether the server that has `key` knows XACKDEL.
    pub(in crate::store) fn has_xackdel(&self, key: &str) -> bool {
        match &self.way {
            Way::Shared(current) => current.node_of(key).is_some_and(|node| node.has_xackdel),
            Way::Own(_, node) => node.has_xackdel,
        }
    }

    /// Counts an error that came as a reply among others.
    pub(in crate::store) fn count_error(&self, operation: &'static str) {
        self.link.inner.metrics.redis_error(operation);
    }

    /// What replies tell of the servers, apart from what was asked.
    fn heed(&self, replies: &[Value]) {
        for reply in replies {
            let Value::ServerError(error) = reply else {
                continue;
            };
            match error.code() {
                // Whatever takes no writes is not the master any more, and may be one again without what was written
                // here: who it is then is asked anew.
                "READONLY" => self.link.mark_broken(self.serial),
                // So does a server that becomes a replica end a blocked read; the other reason for this is that the
                // stream is gone.
                "UNBLOCKED"
                    if error
                        .details()
                        .is_some_and(|why| why.contains("state changed")) =>
                {
                    self.link.mark_broken(self.serial);
                }
                "CLUSTERDOWN" => self.link.inner.stale.notify_one(),
                code @ ("MOVED" | "ASK") => {
                    let detail = error.details().unwrap_or_default();
                    let from = match &self.way {
                        Way::Own(_, node) => node.address.as_ref(),
                        Way::Shared(_) => None,
                    };
                    if let Some(redirect) = redirect(code, detail, from) {
                        self.link.moved(self.serial, &redirect);
                    }
                }
                _ => {}
            }
        }
    }

    fn failed(&self, operation: &'static str, error: StoreError) -> StoreError {
        self.count_error(operation);
        match &error {
            StoreError::Unavailable { .. } => self.link.mark_broken(self.serial),
            StoreError::Refused {
                refusal: crate::store::Refusal::ReadOnly,
                ..
            } => self.link.mark_broken(self.serial),
            _ => {}
        }
        error
    }
}

impl Link {
    /// Notes that a slot moved, told on a connection of its own, where nothing is followed: whoever has it opens it anew.
    fn moved(&self, serial: u64, redirect: &Redirect) {
        let current = self.inner.current.load();
        let Some(current) = current.as_ref().filter(|now| now.serial == serial) else {
            return;
        };
        if let Redirect::Moved(slot, address) = redirect
            && let (Some(place), Some(slots)) = (current.find(address), &current.slots)
        {
            slots.moved(*slot, place);
        } else {
            self.inner.stale.notify_one();
        }
    }
}
