//! What can go wrong between Pombo and Redis, by what the caller can do about it.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why Redis, although it answers, does not do what was asked for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `maxmemory` is reached.
    OutOfMemory,
    /// The server is a replica.
    ReadOnly,
    /// Saving to disk fails, and the server is set to refuse writes then.
    CannotPersist,
    /// Too few replicas follow, and the server is set to refuse writes then.
    NoReplicas,
    /// The server is reading its data set.
    Loading,
    /// The server is busy with somebody's long script.
    Busy,
    /// A slot of the cluster is on its way from one node to another.
    Resharding,
    /// The cluster serves nothing, or not what was asked for.
    ClusterDown,
}

impl Refusal {
    /// The state in plain words.
    pub fn describe(self) -> &'static str {
        match self {
            Refusal::OutOfMemory => "Redis is out of memory (maxmemory is reached)",
            Refusal::ReadOnly => "Redis is read-only (a replica, perhaps after a failover)",
            Refusal::CannotPersist => "Redis cannot save to disk and refuses writes (MISCONF)",
            Refusal::NoReplicas => {
                "Redis has fewer replicas in step than it is set to want, and refuses writes (NOREPLICAS)"
            }
            Refusal::Loading => "Redis is loading its data set",
            Refusal::Busy => "Redis is busy with a long-running script",
            Refusal::Resharding => "The Redis Cluster is moving a slot",
            Refusal::ClusterDown => {
                "The Redis Cluster is down (a master is missing, or slots have none)"
            }
        }
    }

    /// A short name for metrics and readiness.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::OutOfMemory => "out_of_memory",
            Refusal::ReadOnly => "read_only",
            Refusal::CannotPersist => "cannot_persist",
            Refusal::NoReplicas => "no_replicas",
            Refusal::Loading => "loading",
            Refusal::Busy => "busy",
            Refusal::Resharding => "resharding",
            Refusal::ClusterDown => "cluster_down",
        }
    }
}

/// An operation on Redis that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No answer: whether the operation was carried out is unknown.
    #[error("Redis did not answer ({operation}): {detail}")]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// The transport's own words.
        detail: String,
    },
    /// Redis answered that it will not, for now; nothing was changed.
    #[error("{}, so that it refused to {operation}", .refusal.describe())]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        refusal: Refusal,
    },
    /// The consumer group or its stream is gone.
    #[error("the consumer group is gone")]
    NoGroup,
    /// This daemon no longer owns what it wanted to change; nothing was changed.
    #[error("another daemon owns shard {shard} now")]
    Fenced {
        /// The shard that was asked for.
        shard: u16,
    },
    /// The webhook's queue is at its bound (`queue.max_deliveries`); nothing was changed.
    #[error("the queue is full")]
    QueueFull,
    /// The server behind the connection is not the one that the caller's state came from.
    #[error("Redis was restarted or failed over; what was in memory is void")]
    Replaced,
    /// What is stored is not what Pombo stores.
    #[error("cannot read {what} from Redis: {reason}")]
    Corrupt {
        /// The thing, by key or id.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer version of Pombo stored it, in a form that this one does not read.
    #[error(
        "{what} was stored by a newer version of Pombo (its form is {found}, and this daemon reads {known}): upgrade this daemon"
    )]
    Newer {
        /// The thing, by key or id.
        what: String,
        /// The version of its form.
        found: u8,
        /// The newest version that this daemon reads.
        known: u8,
    },
    /// Redis refused the operation for good: permissions, a wrong type, a wrong command.
    #[error("Redis refused to {operation}: {detail}")]
    Denied {
        /// What was being done.
        operation: &'static str,
        /// The server's own words.
        detail: String,
    },
}

impl StoreError {
    /// Sorts a redis error by what can be done about it.
    pub(crate) fn from_redis(operation: &'static str, error: &RedisError) -> StoreError {
        let refused = |refusal| StoreError::Refused { operation, refusal };
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::ReadOnly) => refused(Refusal::ReadOnly),
            ErrorKind::Server(ServerErrorKind::BusyLoading) => refused(Refusal::Loading),
            ErrorKind::Server(ServerErrorKind::ExecAbort) => {
                match error.clone().into_server_errors() {
                    // The queueing errors say why; without them memory is the one reason known.
                    Some(errors) => errors
                        .iter()
                        .map(|(_, inner)| {
                            StoreError::from_code(
                                operation,
                                inner.code(),
                                inner.details().unwrap_or_default(),
                            )
                        })
                        .next()
                        .unwrap_or(refused(Refusal::OutOfMemory)),
                    None => refused(Refusal::OutOfMemory),
                }
            }
            ErrorKind::Server(_) | ErrorKind::Extension => StoreError::from_code(
                operation,
                error.code().unwrap_or_default(),
                error.detail().unwrap_or_default(),
            ),
            ErrorKind::AuthenticationFailed
            | ErrorKind::InvalidClientConfig
            | ErrorKind::RESP3NotSupported => StoreError::Denied {
                operation,
                detail: error.to_string(),
            },
            _ => StoreError::Unavailable {
                operation,
                detail: error.to_string(),
            },
        }
    }

    /// Sorts a server's error by its code, the first word of its reply.
    pub(crate) fn from_code(operation: &'static str, code: &str, detail: &str) -> StoreError {
        let refused = |refusal| StoreError::Refused { operation, refusal };
        match code {
            "OOM" => refused(Refusal::OutOfMemory),
            "READONLY" => refused(Refusal::ReadOnly),
            "MISCONF" => refused(Refusal::CannotPersist),
            "NOREPLICAS" => refused(Refusal::NoReplicas),
            "LOADING" | "MASTERDOWN" => refused(Refusal::Loading),
            "BUSY" => refused(Refusal::Busy),
            "MOVED" | "ASK" | "TRYAGAIN" => refused(Refusal::Resharding),
            "CLUSTERDOWN" => refused(Refusal::ClusterDown),
            "NOGROUP" => StoreError::NoGroup,
            // A script's own error text keeps the code of the command that failed inside it.
            _ if detail.contains("OOM command not allowed") || detail.contains("-OOM ") => {
                refused(Refusal::OutOfMemory)
            }
            _ if code == "UNBLOCKED" => StoreError::Unavailable {
                operation,
                detail: format!("{code} {detail}"),
            },
            _ => StoreError::Denied {
                operation,
                detail: format!("{code} {detail}").trim().to_owned(),
            },
        }
    }

    /// The same error, which names `key` if that holds another type than Pombo stores there.
    pub(crate) fn of_key(self, key: &str) -> StoreError {
        match self {
            StoreError::Denied { detail, .. } if detail.starts_with("WRONGTYPE") => {
                StoreError::Corrupt {
                    what: format!("the key {key}"),
                    reason: "it holds another type than Pombo stores there".to_owned(),
                }
            }
            error => error,
        }
    }

    /// Whether the same call can succeed later without anything else being done.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            StoreError::Unavailable { .. } | StoreError::Refused { .. }
        )
    }
}
