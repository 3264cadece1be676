//! What a link is connected to at one time.

use std::sync::Arc;

use super::client::Address;
use super::cluster::Slots;
use super::node::Node;
use super::slots::{SLOTS, slot_of};

/// What a link is connected to: one server, or all masters of a cluster.
pub(super) struct Current {
    /// Tells this from all others of the link.
    pub serial: u64,
    /// The generation of the data behind it.
    pub generation: u64,
    /// At least one.
    pub nodes: Vec<Arc<Node>>,
    /// Which of them has which slot; `None` where there is but one.
    pub slots: Option<Slots>,
}

impl Current {
    /// The place of the node that has `slot`; of any of them for what belongs to none.
    pub fn place(&self, slot: Option<u16>) -> usize {
        match (&self.slots, slot) {
            (Some(slots), Some(slot)) => slots.node(slot),
            _ => 0,
        }
    }

    /// The place of the node at `address`, if it is one of these.
    pub fn find(&self, address: &Address) -> Option<usize> {
        self.nodes
            .iter()
            .position(|node| node.address.as_ref() == Some(address))
    }

    /// The node that has `key`.
    pub fn node_of(&self, key: &str) -> Option<&Arc<Node>> {
        self.nodes.get(self.place(Some(slot_of(key.as_bytes()))))
    }

    /// Whether all that `before` held is still held: no server of it was replaced.
    ///
    /// A slot may have moved, as long as the master that gave it away is still there and was not replaced: then it gave
    /// all of it. Where that master is gone nobody can tell a slot that it gave away from one whose replica took over,
    /// which may lack the last of what was written.
    pub fn continues(&self, before: &Current) -> bool {
        let alive: Vec<bool> = before
            .nodes
            .iter()
            .map(|old| {
                self.nodes
                    .iter()
                    .any(|new| new.identity.continues(&old.identity))
            })
            .collect();
        match &before.slots {
            None => alive.iter().all(|alive| *alive),
            Some(slots) => (0..SLOTS).all(|slot| alive.get(slots.node(slot)) == Some(&true)),
        }
    }

    /// Whether these are the very same connections.
    pub fn is_same(&self, nodes: &[Arc<Node>]) -> bool {
        self.nodes.len() == nodes.len()
            && self
                .nodes
                .iter()
                .zip(nodes)
                .all(|(mine, other)| Arc::ptr_eq(mine, other))
    }
}
