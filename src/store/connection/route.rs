//! The way of commands to the nodes of a cluster.
//!
//! A pipeline is parted by node, and its replies come in the order of its commands. A command that is refused because its
//! slot has moved, or is on its way, was not executed: it alone is sent again, behind those of its slot that came before
//! it, so that the order within a slot stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, RedisError, Value};

use super::Link;
use super::client::at;
use super::cluster::{Redirect, redirect};
use super::node::{Channel, Node};
use super::slots::slot_of_command;
use super::view::Current;
use crate::store::error::{Refusal, StoreError};
use crate::store::value;

/// How often a command is redirected before its refusal is believed.
const MOST_REDIRECTS: usize = 5;

/// A command on its way to a node.
struct Sending<'a> {
    /// Its place in the pipeline.
    index: usize,
    command: &'a Cmd,
    /// Whether the node must be told that it is to take it although the slot is not its own yet.
    asking: bool,
}

/// Runs a plain pipeline wherever its commands belong. Errors of single commands are among the replies.
pub(super) async fn pipeline(
    link: &Link,
    current: &mut Arc<Current>,
    channel: Channel,
    operation: &'static str,
    commands: &Pipeline,
) -> Result<Vec<Value>, StoreError> {
    let places: Vec<usize> = match &current.slots {
        None => Vec::new(),
        Some(_) => commands
            .cmd_iter()
            .map(|command| current.place(slot_of_command(command)))
            .collect(),
    };
    let first = places.first().copied().unwrap_or(0);
    let mut replies: Vec<Value> = Vec::new();
    let mut sending: Vec<(usize, Sending<'_>)> = Vec::new();
    if places.iter().all(|place| *place == first) {
        // The usual case: all of it goes to one node as it is.
        let node = node(current, first)?;
        replies = node.pipeline(channel, operation, commands).await?;
        if current.slots.is_none() {
            return Ok(replies);
        }
        let refused = refused(&replies, node);
        follow(link, current, commands, refused, &mut sending).await?;
    } else {
        replies.resize_with(commands.len(), || Value::Nil);
        for (index, (command, place)) in commands.cmd_iter().zip(places).enumerate() {
            let asking = false;
            sending.push((
                place,
                Sending {
                    index,
                    command,
                    asking,
                },
            ));
        }
    }
    for _ in 0..MOST_REDIRECTS {
        if sending.is_empty() {
            break;
        }
        let refused = send(current, channel, operation, &sending, &mut replies).await?;
        follow(link, current, commands, refused, &mut sending).await?;
    }
    Ok(replies)
}

fn node(current: &Current, place: usize) -> Result<&Arc<Node>, StoreError> {
    // A map of slots only knows nodes beside it; this is for the type alone.
    current.nodes.get(place).ok_or(StoreError::Refused {
        operation: "find a node of the cluster",
        refusal: Refusal::ClusterDown,
    })
}

/// Those of the replies that send their command elsewhere.
fn refused(replies: &[Value], node: &Node) -> Vec<(usize, Redirect)> {
    let redirected = replies.iter().enumerate().filter_map(|(index, reply)| {
        let (code, detail) = value::server_error(reply)?;
        Some((index, redirect(&code, &detail, node.address.as_ref())?))
    });
    redirected.collect()
}

/// Sends each command to its node, all nodes at once, and puts the replies into their places. Returns what was sent
/// elsewhere.
async fn send(
    current: &Current,
    channel: Channel,
    operation: &'static str,
    sending: &[(usize, Sending<'_>)],
    replies: &mut [Value],
) -> Result<Vec<(usize, Redirect)>, StoreError> {
    let mut parts: BTreeMap<usize, (Pipeline, Vec<&Sending<'_>>)> = BTreeMap::new();
    for (place, one) in sending {
        let (pipeline, ones) = parts.entry(*place).or_default();
        if one.asking {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(one.command.clone());
        ones.push(one);
    }
    let answers = join_all(parts.iter().map(|(place, (pipeline, _))| async {
        node(current, *place)?
            .pipeline(channel, operation, pipeline)
            .await
    }))
    .await;
    let mut redirected = Vec::new();
    let mut failed = None;
    for ((place, (_, ones)), answer) in parts.iter().zip(answers) {
        let mut answer = match answer {
            Ok(answer) => answer.into_iter(),
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        let from = node(current, *place)?.address.as_ref();
        for one in ones {
            if one.asking {
                answer.next();
            }
            let reply = answer.next().unwrap_or(Value::Nil);
            if let Some((code, detail)) = value::server_error(&reply)
                && let Some(redirect) = redirect(&code, &detail, from)
            {
                redirected.push((one.index, redirect));
            }
            if let Some(slot) = replies.get_mut(one.index) {
                *slot = reply;
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(redirected),
    }
}

/// Finds where redirected commands go, in order. Those whose node cannot be found keep their refusal as their reply.
async fn follow<'a>(
    link: &Link,
    current: &mut Arc<Current>,
    commands: &'a Pipeline,
    mut refused: Vec<(usize, Redirect)>,
    sending: &mut Vec<(usize, Sending<'a>)>,
) -> Result<(), StoreError> {
    sending.clear();
    if refused.is_empty() {
        return Ok(());
    }
    refused.sort_by_key(|(index, _)| *index);
    let all: Vec<&Cmd> = commands.cmd_iter().collect();
    for (index, redirect) in refused {
        let Some(place) = place(link, current, &redirect).await? else {
            continue;
        };
        if let Some(command) = all.get(index) {
            let asking = matches!(redirect, Redirect::Ask(_));
            sending.push((
                place,
                Sending {
                    index,
                    command,
                    asking,
                },
            ));
        }
    }
    Ok(())
}

/// The place of the node that a redirection names. A node that the link does not know makes it look again.
async fn place(
    link: &Link,
    current: &mut Arc<Current>,
    redirect: &Redirect,
) -> Result<Option<usize>, StoreError> {
    let (Redirect::Moved(_, address) | Redirect::Ask(address)) = redirect;
    let mut found = current.find(address);
    if found.is_none()
        && let Some(newer) = link.look_again(current.serial, address).await
    {
        if newer.generation != current.generation {
            return Err(StoreError::Replaced);
        }
        *current = newer;
        found = current.find(address);
    }
    if let (Redirect::Moved(slot, _), Some(place), Some(slots)) = (redirect, found, &current.slots)
    {
        slots.moved(*slot, place);
    }
    Ok(found)
}

/// Runs the commands as one transaction, on the node that has their slot.
pub(super) async fn transaction(
    link: &Link,
    current: &mut Arc<Current>,
    operation: &'static str,
    commands: &mut Pipeline,
) -> Result<Value, StoreError> {
    commands.atomic();
    let mut slots = commands.cmd_iter().filter_map(slot_of_command);
    let slot = slots.next();
    if current.slots.is_some() && slots.any(|other| Some(other) != slot) {
        return Err(StoreError::Denied {
            operation,
            detail: "its keys are of several slots, and a transaction has one".to_owned(),
        });
    }
    let mut redirects = 0;
    loop {
        let node = node(current, current.place(slot))?.clone();
        let sent = commands.query_async(&mut node.connection()).await;
        let error: RedisError = match sent {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        redirects += 1;
        // While its slot is on its way a transaction can be carried out nowhere: only for good is it followed.
        match redirection(&error, &node) {
            Some(moved @ Redirect::Moved(..)) if redirects <= MOST_REDIRECTS => {
                if place(link, current, &moved).await?.is_none() {
                    return Err(StoreError::from_redis(operation, &error));
                }
            }
            _ => {
                let error = StoreError::from_redis(operation, &error);
                return Err(at(node.address.as_ref(), error));
            }
        }
    }
}

/// The redirection in the error of a transaction.
pub(super) fn redirection(error: &RedisError, node: &Node) -> Option<Redirect> {
    let from = node.address.as_ref();
    let detail = error.detail().unwrap_or_default();
    redirect(error.code().unwrap_or_default(), detail, from).or_else(|| {
        let inner = error.clone().into_server_errors()?;
        inner.iter().find_map(|(_, error)| {
            redirect(error.code(), error.details().unwrap_or_default(), from)
        })
    })
}
