//! Pombo: a webhook delivery daemon. Events come from Redis streams, signed POSTs go to subscribers.
//!
//! # The map
//!
//! The modules stand in the order that an event takes. Imports point upward only: facts <- store <- flow <- faces;
//! [`daemon`] alone sees everything.
//!
//! **Facts**: pure; no Redis, no network, no clock reads.
//! [`settings`] what can be set · [`exit`] exit codes · [`event`] an event out of a stream entry's fields ·
//! [`webhook`] a webhook, its limits, whether it wants an event · [`target`] which addresses may be called ·
//! [`delivery`] a delivery's id and life · [`signature`] signing and verifying · [`outcome`] what an answer means ·
//! [`retry`] when next, or never · [`metrics`], [`logging`], [`readiness`] how trouble is told · [`clock`] the only place
//! that reads time and randomness.
//!
//! **Store**: [`store`] is all that Pombo keeps, and the only module that speaks Redis.
//!
//! **Flow**: [`membership`] this daemon among the others · [`source`] reads a stream and acknowledges what is settled ·
//! [`registry`] all webhooks in memory · [`fanout`] hands an event's deliveries out · [`dispatch`] lanes that attempt
//! them.
//!
//! **Faces**: [`api`] webhooks, deliveries, events and tokens over HTTP · [`observe`] metrics, health and readiness over HTTP · [`cli`] the commands.
//!
//! **Composition**: [`daemon`] what is started and stopped in which order.
//!
//! # The promises
//!
//! 1. At least once: an event is acknowledged only after every delivery of it is delivered or durable elsewhere.
//! 2. One subscriber never hurts another.
//! 3. Limits hold across replicas, because a webhook has one owner at a time.
//! 4. Nothing is unbounded; what passes a bound is dead-lettered with its reason, or counted, logged and announced.
//! 5. Bytes are kept: a payload is signed and sent as the platform wrote it.
//! 6. No secret appears in a log line, an error, a metric, a `Debug` output or a URL.
//! 7. Trouble is told: each state that somebody must act on has a metric, a log line and a reason in plain words.

pub mod settings;

pub mod clock;
pub mod delivery;
pub mod event;
pub mod exit;
pub mod logging;
pub mod metrics;
pub mod outcome;
pub mod readiness;
pub mod retry;
pub mod signature;
pub mod target;
pub mod webhook;

pub mod store;

pub mod dispatch;
pub mod fanout;
pub mod membership;
pub mod registry;
pub mod source;

pub mod api;
pub mod cli;
pub mod observe;

pub mod daemon;
