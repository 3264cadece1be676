//! The platform: adds numbered events through every fault, and remembers what Redis said to each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::plan::{Plan, STREAMS};
use crate::topology::Address;

const TICK: Duration = Duration::from_millis(20);

/// What Redis said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Said {
    #[default]
    Never,
    Accepted,
    /// An error reply: it is not there.
    Refused,
    /// No reply: it may be there or not.
    Unknown,
}

/// What became of each number, and when it was sent (ms from the start of the run).
#[derive(Debug, Default)]
pub struct Produced(Mutex<Vec<(Said, u32)>>);

impl Produced {
    fn set(&self, number: u32, said: Said, at_ms: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = number as usize;
        if all.len() <= at {
            all.resize(at + 1, (Said::Never, 0));
        }
        all[at] = (said, u32::try_from(at_ms).unwrap_or(u32::MAX));
    }

    pub fn all(&self) -> Vec<(Said, u32)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}

/// Adds to one stream until it is stopped. A number that was refused is not used again: order by number is then order
/// in the stream, and nobody may ever receive it.
pub async fn produce(
    stream: usize,
    rate: u64,
    address: Address,
    ledger: Arc<Ledger>,
    produced: Arc<Produced>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let share = rate as f64 / STREAMS.len() as f64 * TICK.as_secs_f64();
    let mut owed = 0.0;
    let mut number = stream as u32;
    let mut connection: Option<MultiplexedConnection> = None;
    while !stop.is_cancelled() {
        ticks.tick().await;
        if connection.is_none() {
            connection = address.connect(STREAMS[stream]).await.ok();
        }
        let Some(open) = &connection else { continue };
        owed += share;
        let mut numbers = Vec::new();
        while owed >= 1.0 {
            owed -= 1.0;
            numbers.push(number);
            number += STREAMS.len() as u32;
        }
        let at_ms = ledger.now_ms();
        let adding = numbers.iter().map(|number| {
            let mut add = redis::cmd("XADD");
            add.arg(STREAMS[stream]).arg("*");
            add.arg("id").arg(Plan::id(*number));
            add.arg("type").arg(ledger.plan().event_type(*number));
            add.arg("payload").arg(ledger.plan().payload(*number));
            let mut open = open.clone();
            async move { add.query_async::<String>(&mut open).await }
        });
        let replies = join_all(adding).await;
        for (number, reply) in numbers.iter().zip(replies) {
            let said = match &reply {
                Ok(_) => Said::Accepted,
                Err(error) if is_refusal(error) => Said::Refused,
                Err(_) => Said::Unknown,
            };
            produced.set(*number, said, at_ms);
            // Whoever refuses may be a master no more.
            if said != Said::Accepted {
                connection = None;
            }
        }
    }
}

/// Whether the server itself said no.
fn is_refusal(error: &RedisError) -> bool {
    error.code().is_some() && !error.is_io_error() && !error.is_timeout()
}
