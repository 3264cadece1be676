//! Adds events to the stream, over a connection of its own and with as little CPU as it can: the machine is shared with
//! what is measured.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::receiver::now_us;
use crate::resp::{Events, take_ids};

/// Events, and bytes, added with one write at most.
const EVENTS_AT_ONCE: u64 = 200;
const BYTES_AT_ONCE: u64 = 512 * 1024;
/// How often events that come at an even pace are added: seldom enough to cost little, and often enough that those of one
/// time are too few to wait for each other.
const TICK: Duration = Duration::from_millis(1);

pub struct Adder {
    stream: TcpStream,
    events: Events,
    at_once: u64,
    commands: Vec<u8>,
    replies: Vec<u8>,
    next: u64,
}

impl Adder {
    /// Adds to the Redis at `port`, events with payloads of `bytes` bytes.
    pub async fn connect(port: u16, bytes: usize) -> Adder {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.expect("a connection to Redis");
        stream.set_nodelay(true).expect("a socket option");
        Adder {
            stream,
            events: Events::new(bytes),
            at_once: (BYTES_AT_ONCE / bytes.max(1) as u64).clamp(1, EVENTS_AT_ONCE),
            commands: Vec::new(),
            replies: Vec::new(),
            next: 0,
        }
    }

    /// The number of the next event.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Adds `count` events, of `types` in turn.
    pub async fn add(&mut self, types: &[String], count: u64) {
        let end = self.next + count;
        while self.next < end {
            let until = (self.next + self.at_once).min(end);
            self.commands.clear();
            for number in self.next..until {
                let kind = &types[number as usize % types.len()];
                self.events
                    .write(&mut self.commands, number, kind, now_us());
            }
            self.stream
                .write_all(&self.commands)
                .await
                .expect("a write to Redis");
            self.read_ids(until - self.next).await;
            self.next = until;
        }
    }

    async fn read_ids(&mut self, mut wanted: u64) {
        while wanted > 0 {
            let read = self.stream.read_buf(&mut self.replies).await;
            assert!(read.expect("a reply of Redis") > 0, "Redis has gone away");
            let ids = take_ids(&mut self.replies);
            wanted -= ids.unwrap_or_else(|error| panic!("Redis refused an event: {error}"));
        }
    }

    /// Adds `count` events at an even pace of `rate` a second; how late it was at most.
    pub async fn add_paced(&mut self, types: &[String], count: u64, rate: u64) -> Duration {
        let (started, begin) = (Instant::now(), self.next);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut latest = Duration::ZERO;
        while self.next < begin + count {
            ticks.tick().await;
            let done = self.next - begin;
            let elapsed = started.elapsed();
            let due = ((elapsed.as_secs_f64() * rate as f64) as u64).min(count);
            if due > done {
                let first_due = Duration::from_secs_f64(done as f64 / rate as f64);
                latest = latest.max(elapsed.saturating_sub(first_due));
                self.add(types, due - done).await;
            }
        }
        latest
    }
}
