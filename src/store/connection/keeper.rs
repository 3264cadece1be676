//! Keeping a link connected: finding its servers, and looking whether they are still the ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::client::Address;
use super::cluster::{self, Slots};
use super::node::Node;
use super::view::Current;
use super::{Link, LinkState, Plan};
use crate::store::error::StoreError;

/// The first and the longest pause between attempts to connect.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_LONGEST: Duration = Duration::from_secs(1);
/// How often a sentinel is asked whether the master is still that one.
const ASK_SENTINEL_EVERY: Duration = Duration::from_secs(2);
/// How often the slots of a cluster are looked up although nothing told that they moved. What is moved is told by the
/// next command for it; this is for what no command is for.
const LOOK_AT_CLUSTER_EVERY: Duration = Duration::from_secs(30);
/// The pause after a look at a cluster, so that a slot that goes back and forth keeps nobody busy.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// How long a command waits for a look that it has asked for.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

impl Link {
    /// Resolves when all connections to the server behind `node` were made anew, or there are none to it any more.
    pub(super) async fn left(&self, node: &Arc<Node>) {
        let mut looked = self.inner.looked.subscribe();
        loop {
            looked.borrow_and_update();
            let gone =
                self.inner.current.load().as_ref().is_some_and(|current| {
                    !current.nodes.iter().any(|known| Arc::ptr_eq(known, node))
                });
            if gone {
                return;
            }
            // The sender lives in `self`: the wait cannot fail.
            let _ = looked.changed().await;
        }
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
            if let Some(current) = self.inner.current.load_full() {
                pause = RECONNECT_FIRST;
                self.watch_over(&current).await;
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

    /// Waits until the connection is given up, or for the time to look whether it still leads to the right servers.
    async fn watch_over(&self, current: &Arc<Current>) {
        let every = match &self.inner.plan {
            Plan::Single => None,
            Plan::Sentinel(_) => Some(ASK_SENTINEL_EVERY),
            Plan::Cluster(_) => Some(LOOK_AT_CLUSTER_EVERY),
        };
        let tick = async {
            match every {
                Some(every) => tokio::time::sleep(every).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.inner.broken.notified() => return,
            () = self.inner.stale.notified() => {}
            () = tick => {}
        }
        match &self.inner.plan {
            Plan::Single => {}
            Plan::Sentinel(sentinels) => {
                let address = current.nodes.first().and_then(|node| node.address.as_ref());
                if let Some(address) = address
                    && !sentinels.still(address).await
                {
                    tracing::warn!(%address, "the sentinels have another master: it is connected to");
                    self.mark_broken(current.serial);
                }
            }
            Plan::Cluster(_) => {
                if let Err(error) = self.connect_once().await {
                    tracing::debug!(%error, "looking at the cluster is tried again");
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        }
    }

    /// Finds the servers, connects to those that are not connected yet, and makes them the current ones.
    async fn connect_once(&self) -> Result<(), StoreError> {
        let (nodes, slots) = self.find().await?;
        let serial = self.inner.serials.fetch_add(1, Ordering::AcqRel) + 1;
        // Nothing panics while the lock is held, so it is never poisoned.
        let mut last = self
            .inner
            .last
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let (Some(current), Some(found)) = (self.inner.current.load_full(), &slots)
            && current.is_same(&nodes)
            && let Some(slots) = &current.slots
        {
            slots.take_over(found);
            return Ok(());
        }
        let mut current = Current {
            serial,
            generation: self.generation(),
            nodes,
            slots,
        };
        let continues = last.as_ref().is_some_and(|last| current.continues(last));
        if !continues {
            if last.is_some() {
                self.inner.metrics.redis_generations_total.inc();
            }
            current.generation = self.inner.generation.fetch_add(1, Ordering::AcqRel) + 1;
        }
        let generation = current.generation;
        let current = Arc::new(current);
        *last = Some(current.clone());
        self.inner.current.store(Some(current));
        drop(last);
        self.inner.looked.send_replace(serial);
        self.publish(LinkState::Up(generation));
        Ok(())
    }

    async fn find(&self) -> Result<(Vec<Arc<Node>>, Option<Slots>), StoreError> {
        let one = |node| (vec![Arc::new(node)], None);
        match &self.inner.plan {
            Plan::Single => Node::open(&self.inner.door, None).await.map(one),
            Plan::Sentinel(sentinels) => {
                let address = sentinels.master().await?;
                Node::open(&self.inner.door, Some(address)).await.map(one)
            }
            Plan::Cluster(seeds) => {
                let known = self.known_nodes();
                let mut asked = self.take_hints();
                asked.extend(known.iter().filter_map(|node| node.address.clone()));
                asked.extend(seeds.iter().cloned());
                let mut seen = BTreeSet::new();
                asked.retain(|address| seen.insert(address.clone()));
                let (nodes, slots) = cluster::find(&self.inner.door, &asked, &known).await?;
                Ok((nodes, Some(slots)))
            }
        }
    }

    /// The nodes of the last connection, whether it still stands or not.
    fn known_nodes(&self) -> Vec<Arc<Node>> {
        let last = self.inner.last.lock();
        let last = last.unwrap_or_else(|poisoned| poisoned.into_inner());
        last.as_ref()
            .map(|last| last.nodes.clone())
            .unwrap_or_default()
    }

    fn take_hints(&self) -> Vec<Address> {
        let hints = self.inner.hints.lock();
        std::mem::take(&mut *hints.unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Makes the link look where everything is, and waits a moment for a connection other than `serial` to come of it.
    /// The node at `hint`, which knows best, is asked first.
    pub(super) async fn look_again(&self, serial: u64, hint: &Address) -> Option<Arc<Current>> {
        {
            let hints = self.inner.hints.lock();
            let mut hints = hints.unwrap_or_else(|poisoned| poisoned.into_inner());
            if !hints.contains(hint) {
                hints.push(hint.clone());
            }
        }
        let mut looked = self.inner.looked.subscribe();
        self.inner.stale.notify_one();
        let newer = looked.wait_for(|looked| *looked > serial);
        tokio::time::timeout(LOOK_PATIENCE, newer)
            .await
            .ok()?
            .ok()?;
        self.inner.current.load_full()
    }

    /// Gives up the connection `serial`, if it is still the current one.
    pub(super) fn mark_broken(&self, serial: u64) {
        let current = self.inner.current.load();
        if let Some(found) = &*current
            && found.serial == serial
        {
            // Another task may have replaced it meanwhile; then the exchange does nothing.
            self.inner.current.compare_and_swap(&current, None);
            self.inner.broken.notify_one();
        }
    }

    fn publish(&self, state: LinkState) {
        self.inner.state.send_if_modified(|old| {
            let changed = *old != state;
            *old = state;
            changed
        });
    }
}
