//! A lane: the task that delivers to one webhook, from the moment there is work until there is none.
//!
//! It holds deliveries that were offered to it (taken: their home is still the source entry) and reads the others from
//! its queue. What is taken may not linger: unstarted for [`TAKEN_UNSTARTED`] and [`SECOND_LOOK`], or in flight for
//! [`TAKEN_IN_FLIGHT`], it is stored in the queue, so that a slow receiver never pins the platform's stream. While the queue
//! has not been read to its end the lane is *behind* and takes no offers. With nothing to do for a moment it parks: when it
//! has work next is written to Redis, and the task ends.

mod change;
mod flight;
mod held;
mod pace;
mod read;
mod rest;
mod start;
mod write;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::flight::{Flight, Landed, Launched};
use self::held::{Held, Home, Taken, Unstored, settle_source};
use self::pace::Pace;
use self::read::Read;
use self::rest::Shown;
use self::write::Write;
use super::Dispatch;
use super::attempt::Prepared;
use super::handle::{LaneHandle, Offer};
use super::http_client::HttpClient;
use super::limiter::Limiter;
use super::turns::Turns;
use crate::event::EntryId;
use crate::registry::Registered;
use crate::store::lane::LaneKeys;

/// How long a taken delivery may wait for its start before it is stored: until it lingers, and a while from the first look
/// that sees it linger. Where the machine itself stood still, answers wait to be seen, and the lane soon keeps up again.
const TAKEN_UNSTARTED: Duration = Duration::from_millis(200);
const SECOND_LOOK: Duration = Duration::from_millis(50);
/// How long a taken delivery may be in flight before it is stored.
const TAKEN_IN_FLIGHT: Duration = Duration::from_secs(1);
/// How long a lane with nothing to do stays, so that a steady trickle does not make and unmake it.
const LINGER: Duration = Duration::from_secs(1);
/// A lane whose next work is further away than this parks.
const NAP: Duration = Duration::from_secs(5);
/// How often a lane that was denied a part of the shared in-flight cap looks again.
const RECHECK: Duration = Duration::from_millis(50);
/// The pause before a store that failed is tried again.
const STORE_AGAIN: Duration = Duration::from_millis(200);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the lane goes by until it looks again. It asks many times what time it is.
#[derive(Clone, Copy)]
struct Now {
    at: Instant,
    /// Unix ms.
    ms: u64,
    /// Whether the daemon may act.
    is_valid: bool,
}

impl Now {
    fn look(dispatch: &Dispatch) -> Now {
        Now {
            at: Instant::now(),
            ms: dispatch.clock.unix_ms(),
            is_valid: dispatch.era.is_valid(),
        }
    }
}

/// What a lane that waited was woken by.
enum Woken {
    Landed(Landed),
    Written(Write),
    Read(Read),
    /// A part of the shared cap came free.
    Permitted(OwnedSemaphorePermit),
    /// Somebody called, or it is time to look.
    Signalled,
}

/// The task's state.
pub(super) struct Lane {
    dispatch: Arc<Dispatch>,
    http: Arc<HttpClient>,
    turns: Option<Arc<Turns>>,
    handle: Arc<LaneHandle>,
    /// Empty, and kept for its room: exchanged for what was offered.
    offered: Vec<Offer>,
    registered: Arc<Registered>,
    prepared: Arc<Prepared>,
    webhook_id: Arc<str>,
    limiter: Option<Arc<Limiter>>,
    keys: LaneKeys,
    cut: CancellationToken,
    fifo: bool,
    paused: bool,
    deleted: bool,
    draining: bool,
    now: Now,

    /// Offered and not started, the oldest first.
    taken: VecDeque<Taken>,
    /// Since when there was something at each look that lingers, if there is.
    lingers_since: Option<Instant>,
    unstored: Vec<Unstored>,
    /// Read from the queue and not started, in order; with the time at which each may start (0 = at once).
    ready: VecDeque<(Held, u64)>,
    flights: HashMap<u64, Flight>,
    flying: FuturesUnordered<Boxed<Landed>>,
    /// Flights by their start.
    launched: VecDeque<Launched>,
    next_flight: u64,
    /// Deliveries that went into the history.
    recorded: u64,
    writing: FuturesUnordered<Boxed<Write>>,
    reading: Option<Boxed<Read>>,
    /// Entries in `ready`, in flight, being written or being removed: what a read brings of them is passed over.
    in_memory: HashSet<EntryId>,
    /// Entries that are in nobody's hands any more; a read that began before may still bring them as they were.
    leaving: Vec<EntryId>,

    cursor: EntryId,
    /// Whether the queue may hold entries after the cursor.
    more: bool,
    /// Whether something was read from or written to the queue, so that parking must write.
    touched: bool,
    /// Due time of the first known retry that is not in memory.
    next_retry_ms: Option<u64>,
    /// How often schedules had to be looked at again: what was written or asked for before the last time may be stale.
    looks: u64,
    pace: Pace,
    read_retries_next: bool,
    /// After a failed read, not again before.
    read_after: Instant,
    hold_ms: u64,
    token_at: Option<(Instant, Instant)>,
    denied: bool,
    spare: Option<OwnedSemaphorePermit>,
    waiting_for_permit: Option<Boxed<OwnedSemaphorePermit>>,
    idle_since: Option<Instant>,
    shown: Shown,
}

/// What the lane is made with.
pub(super) struct Beginning {
    /// The client of its thread.
    pub http: Arc<HttpClient>,
    /// What the lanes of its thread may have in flight.
    pub turns: Option<Arc<Turns>>,
    pub handle: Arc<LaneHandle>,
    pub registered: Arc<Registered>,
    pub prepared: Arc<Prepared>,
    pub limiter: Option<Arc<Limiter>>,
    pub keys: LaneKeys,
    /// Ends the lane at once.
    pub cut: CancellationToken,
    /// Whether the queue may hold work.
    pub behind: bool,
}

impl Lane {
    pub(super) fn new(dispatch: Arc<Dispatch>, beginning: Beginning) -> Lane {
        let now = Now::look(&dispatch);
        Lane {
            http: beginning.http,
            turns: beginning.turns,
            handle: beginning.handle,
            offered: Vec::new(),
            prepared: beginning.prepared,
            webhook_id: Arc::from(beginning.registered.id()),
            limiter: beginning.limiter,
            keys: beginning.keys,
            cut: beginning.cut,
            fifo: beginning.registered.is_fifo(),
            paused: !beginning.registered.delivers(),
            deleted: false,
            draining: dispatch.is_draining(beginning.registered.shard),
            now,
            taken: VecDeque::new(),
            lingers_since: None,
            unstored: Vec::new(),
            ready: VecDeque::new(),
            flights: HashMap::new(),
            flying: FuturesUnordered::new(),
            launched: VecDeque::new(),
            next_flight: 0,
            recorded: 0,
            writing: FuturesUnordered::new(),
            reading: None,
            in_memory: HashSet::new(),
            leaving: Vec::new(),
            cursor: EntryId::MIN,
            more: beginning.behind,
            touched: beginning.behind,
            next_retry_ms: beginning.behind.then_some(0),
            looks: 0,
            pace: Pace::new(),
            read_retries_next: true,
            read_after: now.at,
            hold_ms: 0,
            token_at: None,
            denied: false,
            spare: None,
            waiting_for_permit: None,
            idle_since: None,
            shown: Shown(None),
            registered: beginning.registered,
            dispatch,
        }
    }

    /// Runs until the lane has parked, or its era is over or its shard handed over.
    pub(super) async fn run(mut self) {
        let cut = self.cut.clone();
        tokio::select! {
            biased;
            () = cut.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        if self.touched {
            self.recall().await;
        }
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        self.now = Now::look(&self.dispatch);
        loop {
            self.look_around();
            self.store_what_lingers();
            self.start_attempts();
            self.start_reading();
            self.adjust_open();
            let deadline = match self.next_deadline() {
                Some(deadline) => deadline,
                None => {
                    if self.try_to_end().await {
                        return;
                    }
                    self.now = Now::look(&self.dispatch);
                    continue;
                }
            };
            // A timer that is early costs one look; one that is set anew for each delivery costs more.
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            let woken = tokio::select! {
                Some(landed) = self.flying.next(), if !self.flying.is_empty() => Woken::Landed(landed),
                Some(write) = self.writing.next(), if !self.writing.is_empty() => Woken::Written(write),
                read = poll_optional(&mut self.reading), if self.reading.is_some() => Woken::Read(read),
                permit = poll_optional(&mut self.waiting_for_permit), if self.waiting_for_permit.is_some() => {
                    Woken::Permitted(permit)
                }
                () = self.handle.signalled() => Woken::Signalled,
                () = &mut timer => Woken::Signalled,
            };
            self.now = Now::look(&self.dispatch);
            self.take_up(woken);
        }
    }

    fn take_up(&mut self, woken: Woken) {
        match woken {
            Woken::Landed(landed) => {
                self.landed(landed);
                while let Some(Some(landed)) = self.flying.next().now_or_never() {
                    self.landed(landed);
                }
            }
            Woken::Written(write) => self.written(write),
            Woken::Read(read) => {
                self.reading = None;
                self.read(read);
            }
            Woken::Permitted(permit) => {
                self.waiting_for_permit = None;
                self.spare = Some(permit);
            }
            Woken::Signalled => {}
        }
    }

    /// Reads how the last lane left its queue.
    async fn recall(&mut self) {
        loop {
            match self.dispatch.store.parked(&self.keys).await {
                Ok(parked) => {
                    self.hold_ms = parked.hold_ms;
                    if !self.fifo {
                        self.cursor = parked.cursor;
                    }
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "reading a lane is tried again");
                    tokio::time::sleep(STORE_AGAIN).await;
                }
            }
        }
    }

    fn take(&mut self, offer: Offer) {
        let held = Held {
            event: offer.event,
            tries: None,
            attempts_before: 0,
            home: Home::Source {
                share: offer.share,
                permit: offer.permit,
            },
            signed: None,
        };
        if self.deleted {
            settle_source(held.home);
            return;
        }
        self.taken.push_back(Taken {
            held,
            since: self.now.at,
        });
    }

    /// Takes the oldest of what is taken off: started, stored or dropped, it waits no more.
    fn take_off(&mut self) -> Option<Held> {
        let mut held = self.taken.pop_front()?.held;
        if let Home::Source { permit, .. } = &mut held.home {
            permit.start();
        }
        Some(held)
    }

    fn take_all_off(&mut self) -> Vec<Held> {
        std::iter::from_fn(|| self.take_off()).collect()
    }

    /// Whether attempts may be started at all.
    fn may_send(&self) -> bool {
        !self.paused && !self.deleted && !self.draining && self.now.is_valid
    }

    fn holds(&self) -> bool {
        self.hold_ms > self.now.ms
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(turns) = &self.turns {
            turns.give_back(self.handle.take_granted());
        }
        self.shown.set(&self.dispatch.metrics, None);
        self.dispatch.lane_dropped(&self.keys, &self.handle);
    }
}

async fn poll_optional<T>(future: &mut Option<Boxed<T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
