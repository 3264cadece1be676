//! Adds events to the stream, from a thread and over a connection of its own and with as little CPU as it can: the machine
//! is shared with what is measured.
//!
//! It looks for Redis' replies once a tick and sleeps otherwise. One that waits for them is woken for every dozen, which
//! costs Redis nearly as much as adding them does.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::receiver::now_us;
use crate::resp::{Events, take_ids};

/// Events, and bytes, added in one tick at most.
const EVENTS_AT_ONCE: u64 = 200;
const BYTES_AT_ONCE: u64 = 512 * 1024;
/// Ticks' worth of events that may wait for their replies.
const UNANSWERED: u64 = 4;
/// Seldom enough to cost little, and often enough that those of one time are too few to wait for each other.
const TICK: Duration = Duration::from_millis(1);

/// Hands work to the thread.
pub struct Adder {
    works: mpsc::Sender<Work>,
    next: u64,
}

/// Events to be added.
struct Work {
    /// Taken in turn.
    types: Vec<String>,
    numbers: std::ops::Range<u64>,
    /// At an even pace of so many a second; else as fast as it can be done.
    rate: Option<u64>,
    /// Told how late the latest was.
    done: oneshot::Sender<Duration>,
}

impl Adder {
    /// Adds to the Redis at `port`, events with payloads of `bytes` bytes.
    pub fn connect(port: u16, bytes: usize) -> Adder {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection to Redis");
        stream.set_nodelay(true).expect("a socket option");
        stream.set_nonblocking(true).expect("a socket option");
        let at_once = (BYTES_AT_ONCE / bytes.max(1) as u64).clamp(1, EVENTS_AT_ONCE);
        let mut line = Line {
            stream,
            events: Events::new(bytes),
            at_once,
            commands: Vec::new(),
            replies: Vec::new(),
            unanswered: 0,
        };
        let (works, todo) = mpsc::channel::<Work>();
        std::thread::spawn(move || {
            for work in todo {
                let late = line.add(&work);
                let _ = work.done.send(late);
            }
        });
        Adder { works, next: 0 }
    }

    /// The number of the next event.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Adds `count` events, of `types` in turn.
    pub async fn add(&mut self, types: &[String], count: u64) {
        self.have_added(types, count, None).await;
    }

    /// Adds `count` events at an even pace of `rate` a second; how late it was at most.
    pub async fn add_paced(&mut self, types: &[String], count: u64, rate: u64) -> Duration {
        self.have_added(types, count, Some(rate)).await
    }

    async fn have_added(&mut self, types: &[String], count: u64, rate: Option<u64>) -> Duration {
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        let (done, told) = oneshot::channel();
        let work = Work {
            types: types.to_vec(),
            numbers,
            rate,
            done,
        };
        self.works.send(work).expect("the thread that adds events");
        told.await.expect("the thread that adds events")
    }
}

/// The connection, and what is on its way over it.
struct Line {
    stream: TcpStream,
    events: Events,
    at_once: u64,
    commands: Vec<u8>,
    replies: Vec<u8>,
    unanswered: u64,
}

impl Line {
    fn add(&mut self, work: &Work) -> Duration {
        let (started, mut next) = (Instant::now(), work.numbers.start);
        let count = work.numbers.end - next;
        let mut latest = Duration::ZERO;
        let mut tick = started;
        while next < work.numbers.end || self.unanswered > 0 {
            let elapsed = started.elapsed();
            let done = next - work.numbers.start;
            let due = match work.rate {
                Some(rate) => ((elapsed.as_secs_f64() * rate as f64) as u64).min(count) - done,
                None => count - done,
            };
            let due = due.min(self.at_once);
            if due > 0 && self.commands.is_empty() && self.unanswered < UNANSWERED * self.at_once {
                if let Some(rate) = work.rate {
                    let first_due = Duration::from_secs_f64(done as f64 / rate as f64);
                    latest = latest.max(elapsed.saturating_sub(first_due));
                }
                for number in next..next + due {
                    let kind = &work.types[number as usize % work.types.len()];
                    self.events
                        .write(&mut self.commands, number, kind, now_us());
                }
                next += due;
                self.unanswered += due;
            }
            self.send();
            self.read_ids();
            tick = (tick + TICK).max(Instant::now());
            std::thread::sleep(tick.saturating_duration_since(Instant::now()));
        }
        latest
    }

    /// Sends what the connection takes.
    fn send(&mut self) {
        let mut sent = 0;
        while sent < self.commands.len() {
            match self.stream.write(&self.commands[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("a write to Redis: {error}"),
            }
        }
        self.commands.drain(..sent);
    }

    /// Reads the replies that are there.
    fn read_ids(&mut self) {
        let mut part = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => panic!("Redis has gone away"),
                Ok(bytes) => self.replies.extend_from_slice(&part[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("a reply of Redis: {error}"),
            }
        }
        let ids = take_ids(&mut self.replies);
        self.unanswered -= ids.unwrap_or_else(|error| panic!("Redis refused an event: {error}"));
    }
}
