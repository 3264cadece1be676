//! Reads that nobody's delivery waits for, and what the servers say of themselves.

use std::sync::Arc;

use futures_util::future::join_all;
use redis::{Pipeline, Value};

use super::info::ServerFacts;
use super::node::{Channel, Node};
use super::{Link, first_error, route};
use crate::store::error::StoreError;

/// One of the servers behind a link: the only one, or one master of a cluster.
pub struct Master {
    link: Link,
    node: Arc<Node>,
}

impl Link {
    /// What INFO says now; of a cluster, of all masters together.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn facts(&self) -> Result<ServerFacts, StoreError> {
        const OPERATION: &str = "ask for INFO";
        let current = self.current(OPERATION)?;
        let looks = join_all(current.nodes.iter().map(|node| node.look())).await;
        let mut all: Option<ServerFacts> = None;
        for (node, facts) in current.nodes.iter().zip(looks) {
            let facts = facts.inspect_err(|error| {
                self.inner.metrics.redis_error(OPERATION);
                if matches!(error, StoreError::Unavailable { .. }) {
                    self.mark_broken(current.serial);
                }
            })?;
            if !facts.identity.continues(&node.identity) || facts.refusal.is_some() {
                // A replica by now, or a master again after having been one, over a connection that never broke.
                self.mark_broken(current.serial);
            }
            all = Some(match all {
                Some(before) => before.and(facts),
                None => facts,
            });
        }
        all.ok_or_else(|| StoreError::Unavailable {
            operation: OPERATION,
            detail: "not connected".to_owned(),
        })
    }

    /// All servers that hold keys.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] while there is no connection.
    pub fn masters(&self) -> Result<Vec<Master>, StoreError> {
        let current = self.current("connect")?;
        let master = |node: &Arc<Node>| Master {
            link: self.clone(),
            node: node.clone(),
        };
        Ok(current.nodes.iter().map(master).collect())
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
        self.checked(operation, replies)
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
        let mut current = self.current(operation)?;
        route::pipeline(self, &mut current, Channel::Slow, operation, commands)
            .await
            .inspect_err(|_| self.inner.metrics.redis_error(operation))
    }

    /// The replies, unless one of them is an error, which is counted.
    ///
    /// # Errors
    ///
    /// The first of them, as it is sorted by [`StoreError`].
    pub fn checked(
        &self,
        operation: &'static str,
        replies: Vec<Value>,
    ) -> Result<Vec<Value>, StoreError> {
        first_error(operation, &replies)
            .inspect_err(|_| self.inner.metrics.redis_error(operation))?;
        Ok(replies)
    }
}

impl Master {
    /// As [`Link::slowly`], on this server: for what is about no key.
    ///
    /// # Errors
    ///
    /// As the server's answer is sorted by [`StoreError`].
    pub async fn slowly(
        &self,
        operation: &'static str,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let replies = self.node.pipeline(Channel::Slow, operation, commands).await;
        let replies = replies.inspect_err(|_| self.link.inner.metrics.redis_error(operation))?;
        self.link.checked(operation, replies)
    }
}
