//! Where everything is in a cluster: the masters and their slots, as CLUSTER SHARDS tells them, and redirections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use redis::{Pipeline, Value};
use tokio::time::timeout;

use super::client::{Address, Door};
use super::node::{Channel, Node};
use super::slots::SLOTS;
use crate::store::error::{Refusal, StoreError};
use crate::store::value::{self, corrupt};

/// Nodes that are asked at the same time: one that does not answer holds up no other.
const ASKED_AT_ONCE: usize = 4;
/// What an answer over a connection that stands may take. A node that needs longer is connected to anew; one that hangs
/// must not hold up finding its successor for as long as a delivery's answer may take.
const ANSWER: Duration = Duration::from_secs(1);
const OPERATION: &str = "find the nodes of the cluster";

/// A master as a node tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Master {
    address: Address,
    ranges: Vec<(u16, u16)>,
    online: bool,
}

/// Which node has which slot: places in a list of nodes.
pub(super) struct Slots(Box<[AtomicU16]>);

impl Slots {
    /// The node of a slot.
    pub fn node(&self, slot: u16) -> usize {
        let found = self.0.get(usize::from(slot));
        found.map_or(0, |node| usize::from(node.load(Ordering::Acquire)))
    }

    /// A slot has moved to another of the nodes.
    pub fn moved(&self, slot: u16, node: usize) {
        if let (Some(place), Ok(node)) = (self.0.get(usize::from(slot)), u16::try_from(node)) {
            place.store(node, Ordering::Release);
        }
    }

    /// Takes over the whole of another map of the same nodes.
    pub fn take_over(&self, other: &Slots) {
        for (place, other) in self.0.iter().zip(&other.0) {
            place.store(other.load(Ordering::Acquire), Ordering::Release);
        }
    }
}

/// Where a node sends a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// There for good.
    Moved(u16, Address),
    /// There this once, while the slot is on its way.
    Ask(Address),
}

/// The redirection in a server's error, which came from the node at `from`.
pub(super) fn redirect(code: &str, detail: &str, from: Option<&Address>) -> Option<Redirect> {
    if !matches!(code, "MOVED" | "ASK") {
        return None;
    }
    let (slot, place) = detail.split_once(' ')?;
    let (host, port) = place.trim().rsplit_once(':')?;
    let address = Address {
        host: match host.trim_start_matches('[').trim_end_matches(']') {
            // A node that knows no name of the other one means the one by which it was reached.
            "" | "?" => from?.host.clone(),
            host => host.to_owned(),
        },
        port: port.parse().ok()?,
    };
    let slot = slot.parse().ok().filter(|slot| *slot < SLOTS)?;
    match code {
        "MOVED" => Some(Redirect::Moved(slot, address)),
        _ => Some(Redirect::Ask(address)),
    }
}

/// Finds all masters, connects to them, and returns them with their slots. What is open already and leads to the same
/// server as before is used again.
///
/// # Errors
///
/// No node of `asked` answers; the cluster is down by its own account; a master with slots cannot be used.
pub(super) async fn find(
    door: &Door,
    asked: &[Address],
    open: &[Arc<Node>],
) -> Result<(Vec<Arc<Node>>, Slots), StoreError> {
    let mut masters = layout(door, asked, open).await?;
    masters.retain(|master| master.online || !master.ranges.is_empty());
    let opened = join_all(masters.iter().map(|master| node(door, master, open))).await;
    let mut nodes = Vec::with_capacity(masters.len());
    let mut slots: Vec<Option<u16>> = vec![None; usize::from(SLOTS)];
    for (master, opened) in masters.iter().zip(opened) {
        let node = match opened {
            Ok(node) => node,
            // Nothing is kept there. It is connected to when it gets a slot.
            Err(_) if master.ranges.is_empty() => continue,
            Err(error) => return Err(error),
        };
        // As many as there can be masters fit, which are never more than slots.
        let place = u16::try_from(nodes.len()).unwrap_or(u16::MAX);
        nodes.push(node);
        for (first, last) in &master.ranges {
            let range = usize::from(*first)..=usize::from(*last);
            slots[range].fill(Some(place));
        }
    }
    let slots: Option<Vec<AtomicU16>> = slots
        .into_iter()
        .map(|slot| slot.map(AtomicU16::new))
        .collect();
    match slots {
        Some(slots) => Ok((nodes, Slots(slots.into()))),
        None => Err(down()),
    }
}

fn down() -> StoreError {
    StoreError::Refused {
        operation: OPERATION,
        refusal: Refusal::ClusterDown,
    }
}

async fn node(door: &Door, master: &Master, open: &[Arc<Node>]) -> Result<Arc<Node>, StoreError> {
    let known = open
        .iter()
        .find(|node| node.address.as_ref() == Some(&master.address));
    if let Some(node) = known
        && let Ok(Ok(facts)) = timeout(ANSWER, node.look()).await
        && facts.refusal.is_none()
        && facts.identity.continues(&node.identity)
    {
        return Ok(node.clone());
    }
    Node::open(door, Some(master.address.clone()))
        .await
        .map(Arc::new)
}

/// The first whole answer that a node of `asked` gives.
async fn layout(
    door: &Door,
    asked: &[Address],
    open: &[Arc<Node>],
) -> Result<Vec<Master>, StoreError> {
    let asks: Vec<_> = asked
        .iter()
        .map(|address| ask(door, address, open))
        .collect();
    let mut answers = stream::iter(asks).buffer_unordered(ASKED_AT_ONCE);
    let mut trouble = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(masters) => return Ok(masters),
            // What a node says of the cluster tells more than that another one does not answer.
            Err(error @ StoreError::Unavailable { .. }) => trouble = trouble.or(Some(error)),
            Err(error) => trouble = Some(error),
        }
    }
    Err(trouble.unwrap_or_else(down))
}

async fn ask(
    door: &Door,
    address: &Address,
    open: &[Arc<Node>],
) -> Result<Vec<Master>, StoreError> {
    let mut commands = Pipeline::with_capacity(2);
    commands.cmd("CLUSTER").arg("INFO");
    commands.cmd("CLUSTER").arg("SHARDS");
    let known = open
        .iter()
        .find(|node| node.address.as_ref() == Some(address));
    let kept = match known {
        Some(node) => {
            let asked = node.pipeline(Channel::Shared, OPERATION, &commands);
            timeout(ANSWER, asked).await.ok().and_then(Result::ok)
        }
        None => None,
    };
    let replies = match kept {
        Some(replies) => replies,
        None => {
            let mut connection = door.connect(Some(address), door.response_timeout).await?;
            redis::aio::ConnectionLike::req_packed_commands(&mut connection, &commands, 0, 2)
                .await
                .map_err(|error| {
                    let error = StoreError::from_redis(OPERATION, &error);
                    super::client::at(Some(address), error)
                })?
        }
    };
    super::first_error(OPERATION, &replies)
        .map_err(|error| super::client::at(Some(address), error))?;
    let mut replies = replies.into_iter();
    let info = replies.next().and_then(value::text).unwrap_or_default();
    if !info.lines().any(|line| line.trim() == "cluster_state:ok") {
        return Err(down());
    }
    read_shards(replies.next().unwrap_or(Value::Nil), address, door.is_tls())
}

fn read_shards(reply: Value, asked: &Address, tls: bool) -> Result<Vec<Master>, StoreError> {
    let wrong = |reason: &str| corrupt("the reply of CLUSTER SHARDS", reason);
    let number = |value: &Value| value::integer(value).and_then(|n| u16::try_from(n).ok());
    let mut masters = Vec::new();
    for shard in value::items(reply) {
        let (mut ranges, mut nodes) = (Vec::new(), Vec::new());
        for (name, part) in value::pairs(shard) {
            match value::text(name).as_deref() {
                Some("slots") => ranges = value::items(part),
                Some("nodes") => nodes = value::items(part),
                _ => {}
            }
        }
        let ranges = ranges
            .chunks(2)
            .map(|range| match range {
                [first, last] => number(first).zip(number(last)),
                _ => None,
            })
            .map(|range| range.filter(|(first, last)| first <= last && *last < SLOTS))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| wrong("a range of slots is none"))?;
        for node in nodes {
            let mut facts = std::collections::HashMap::new();
            for (name, part) in value::pairs(node) {
                facts.insert(value::text(name).unwrap_or_default(), part);
            }
            let port = |name: &str| facts.get(name).and_then(number);
            let text = |name: &str| facts.get(name).cloned().and_then(value::text);
            if text("role").as_deref() != Some("master") {
                continue;
            }
            let named = |name: &str| text(name).filter(|host| !matches!(host.as_str(), "" | "?"));
            let secure = port("tls-port").filter(|_| tls);
            masters.push(Master {
                address: Address {
                    host: named("endpoint")
                        .or_else(|| named("ip"))
                        .unwrap_or_else(|| asked.host.clone()),
                    port: secure
                        .or_else(|| port("port"))
                        .ok_or_else(|| wrong("a node has no port"))?,
                },
                ranges: ranges.clone(),
                online: text("health").as_deref() == Some("online"),
            });
        }
    }
    Ok(masters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn node(role: &str, endpoint: Value, port: i64, health: &str) -> Value {
        Value::Array(vec![
            text("id"),
            text("abc"),
            text("port"),
            Value::Int(port),
            text("tls-port"),
            Value::Int(port + 1),
            text("ip"),
            text("10.0.0.1"),
            text("endpoint"),
            endpoint,
            text("role"),
            text(role),
            text("health"),
            text(health),
        ])
    }

    #[test]
    fn masters_are_read_with_their_slots_and_by_the_name_that_they_want() {
        let shards = Value::Array(vec![
            Value::Array(vec![
                text("slots"),
                Value::Array(vec![
                    Value::Int(0),
                    Value::Int(5),
                    Value::Int(9),
                    Value::Int(9),
                ]),
                text("nodes"),
                Value::Array(vec![
                    node("replica", text("r"), 1, "online"),
                    node("master", text("redis-1"), 2, "online"),
                ]),
            ]),
            Value::Array(vec![
                text("slots"),
                Value::Array(vec![]),
                text("nodes"),
                Value::Array(vec![node("master", text("?"), 3, "fail")]),
            ]),
        ]);
        let asked = Address {
            host: "asked".into(),
            port: 1,
        };
        let masters = read_shards(shards.clone(), &asked, false).unwrap();
        assert_eq!(masters.len(), 2);
        assert_eq!(masters[0].address.to_string(), "redis-1:2");
        assert_eq!(masters[0].ranges, [(0, 5), (9, 9)]);
        assert_eq!(masters[1].address.to_string(), "10.0.0.1:3");
        assert!(masters[0].online && !masters[1].online);
        let secure = read_shards(shards, &asked, true).unwrap();
        assert_eq!(secure[0].address.port, 3);
    }

    #[test]
    fn redirections_are_read_with_the_host_that_is_meant() {
        let from = Address {
            host: "from".into(),
            port: 7000,
        };
        let to = |code: &str, detail: &str| redirect(code, detail, Some(&from));
        let at = |host: &str, port| Address {
            host: host.into(),
            port,
        };
        assert_eq!(
            to("MOVED", "3999 127.0.0.1:6381"),
            Some(Redirect::Moved(3999, at("127.0.0.1", 6381)))
        );
        assert_eq!(
            to("ASK", "3999 fd00::1:6381"),
            Some(Redirect::Ask(at("fd00::1", 6381)))
        );
        assert_eq!(
            to("MOVED", "1 :6381"),
            Some(Redirect::Moved(1, at("from", 6381)))
        );
        assert_eq!(to("MOVED", "99999 a:1"), None);
        assert_eq!(to("TRYAGAIN", "1 a:1"), None);
    }
}
