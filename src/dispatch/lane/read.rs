//! Reading the lane's queue: windows of what came in, by turns with retries that are due.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Boxed, Held, Home, Lane};
use crate::clock::Clock;
use crate::delivery::Tries;
use crate::dispatch::attempt::{Prepared, Signatures};
use crate::event::EntryId;
use crate::store::StoreError;
use crate::store::codec::QueuedDelivery;
use crate::store::lane::{DueRetries, Window};

/// Most retries read at a time; fewer where deliveries are large.
const RETRIES: usize = 64;
/// So many are signed before others on the thread, who may be in a hurry, have their turn.
const SIGNED_TOGETHER: usize = 32;
/// The pause after a failed read.
const READ_AGAIN: Duration = Duration::from_millis(200);
/// An entry that cannot be read is looked at again after this: a daemon of the version that wrote it may come.
const UNREADABLE_AGAIN_MS: u64 = 3_600_000;

/// Stands for the time of a fifo lane's delivery that is scheduled, until its schedule has been read.
pub(super) const SCHEDULED: u64 = u64::MAX;

/// A read that is over.
pub(super) enum Read {
    Window(Result<Window, StoreError>, Option<Signed>),
    Retries(Result<DueRetries, StoreError>),
    /// When a fifo lane's head is due, as of the look of this number.
    Head(EntryId, u64, Result<Option<(u64, Tries)>, StoreError>),
}

/// What was signed ahead, on the thread that reads: a lane's own has most to do.
pub(super) struct Signed {
    by: Arc<Prepared>,
    /// For each of the window's deliveries.
    each: Vec<Option<Box<Signatures>>>,
}

impl Signed {
    async fn new(by: Arc<Prepared>, window: &Window, clock: &Clock) -> Signed {
        let at_ms = clock.unix_ms();
        let mut each = Vec::with_capacity(window.deliveries.len());
        for (delivery, _) in &window.deliveries {
            each.push(by.sign_ahead(&delivery.event, at_ms));
            if each.len().is_multiple_of(SIGNED_TOGETHER) {
                tokio::task::yield_now().await;
            }
        }
        Signed { by, each }
    }
}

fn make_ahead<'a>(prepared: &Prepared, made: impl Iterator<Item = &'a mut QueuedDelivery>) {
    for delivery in made {
        // Nobody else has it yet.
        if let Some(event) = Arc::get_mut(&mut delivery.event) {
            prepared.make_ahead(event);
        }
    }
}

impl Lane {
    /// Starts the next read, if one is wanted.
    pub(super) fn start_reading(&mut self) {
        if self.reading.is_some() || !self.may_send() || self.now.at < self.read_after {
            return;
        }
        let now_ms = self.now.ms;
        if self.holds() {
            return;
        }
        if self.ask_for_head() {
            return;
        }
        let low = if self.fifo { 1 } else { self.pace.low_water() };
        if self.ready.len() >= low {
            return;
        }
        let retries = !self.fifo && self.next_retry_ms.is_some_and(|due| due <= now_ms);
        if !retries && !self.more {
            return;
        }
        let (store, keys) = (self.dispatch.store.clone(), self.keys.clone());
        let prepared = self.prepared.clone();
        if retries && (self.read_retries_next || !self.more) {
            self.read_retries_next = false;
            // What is scheduled while the read is under way counts beside what it finds.
            self.next_retry_ms = None;
            let (count, known) = (RETRIES.min(self.pace.most()), self.in_memory.clone());
            self.reading = Some(self.apart(async move {
                let mut due = store.due_retries(&keys, now_ms, count, &known).await;
                if let Ok(due) = &mut due {
                    make_ahead(&prepared, due.deliveries.iter_mut().map(|(made, _)| made));
                }
                Read::Retries(due)
            }));
        } else {
            self.read_retries_next = true;
            // A wake-up while the read is under way raises it again.
            self.more = false;
            let ended = self.next_flight - self.flights.len() as u64;
            let dry = self.ready.is_empty() && self.flights.len() < self.prepared.max_in_flight;
            self.pace.look(self.now.at, ended, dry);
            let (count, quick) = (self.pace.entries(), self.pace.is_quick());
            let (after, fifo) = (self.cursor, self.fifo);
            let clock = self.dispatch.clock.clone();
            self.reading = Some(self.apart(async move {
                let mut window = store.window(&keys, after, count, fifo).await;
                let mut signed = None;
                if let Ok(window) = &mut window {
                    make_ahead(
                        &prepared,
                        window.deliveries.iter_mut().map(|(made, _)| made),
                    );
                    if quick {
                        signed = Some(Signed::new(prepared, window, &clock).await);
                    }
                }
                Read::Window(window, signed)
            }));
        }
    }

    /// Reads on another thread than that of the lanes, which have most to do: taking replies apart is work, too.
    fn apart(&self, read: impl Future<Output = Read> + Send + 'static) -> Boxed<Read> {
        let reading = AbortOnDropHandle::new(self.dispatch.common.spawn(read));
        Box::pin(async move {
            match reading.await.map_err(JoinError::try_into_panic) {
                Ok(read) => read,
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // The daemon is about to end.
                Err(Err(_)) => std::future::pending().await,
            }
        })
    }

    pub(super) fn read(&mut self, read: Read) {
        self.touched = true;
        match read {
            Read::Window(Ok(window), signed) => self.window(window, signed),
            Read::Retries(Ok(due)) => self.retries(due),
            Read::Head(id, looks, Ok(schedule)) => self.head(id, looks, schedule),
            Read::Head(id, _, Err(error)) => {
                // Without its schedule the head must not start: read it again with the rest.
                self.failed(&error);
                self.forget_ready();
                self.cursor = self.cursor.min(id.previous());
                self.more = true;
            }
            Read::Window(Err(error), _) => {
                self.more = true;
                self.failed(&error);
            }
            Read::Retries(Err(error)) => {
                self.next_retry_ms = Some(0);
                self.failed(&error);
            }
        }
    }

    fn failed(&mut self, error: &StoreError) {
        if !self.dispatch.era.ends_with(error) {
            tracing::debug!(webhook_id = %self.webhook_id, %error, "reading a queue is tried again");
            self.read_after = Instant::now() + READ_AGAIN;
        }
    }

    fn window(&mut self, window: Window, signed: Option<Signed>) {
        if let Some(last) = window.last {
            self.cursor = self.cursor.max(last);
        }
        self.more |= !window.at_end;
        let bytes = window.deliveries.iter().map(|(delivery, _)| delivery.size);
        self.pace.note_read(window.deliveries.len(), bytes.sum());
        let known = self.in_memory.len();
        // Not by what was prepared of the webhook before it changed.
        let signed = signed.filter(|signed| Arc::ptr_eq(&signed.by, &self.prepared));
        let mut signed = signed.map(|signed| signed.each).into_iter().flatten();
        for (delivery, due) in window.deliveries {
            let signed = signed.next().flatten();
            if !self.in_memory.insert(delivery.id) {
                continue;
            }
            let held = Held {
                event: delivery.event,
                tries: None,
                attempts_before: delivery.attempts_before,
                home: Home::Queue(delivery.id),
                signed,
            };
            // Only a fifo lane is given what is scheduled: it waits for its head, wherever that is.
            self.ready
                .push_back((held, if due.is_some() { SCHEDULED } else { 0 }));
        }
        if self.in_memory.len() == known && !window.at_end {
            self.pace.note_nothing();
        }
        self.postpone(window.unreadable);
    }

    /// Others may have made something due that the known schedules do not show: they are read again. What is on its way
    /// to Redis or back from there meanwhile is looked at once it has arrived.
    pub(super) fn look_at_schedules(&mut self) {
        self.looks += 1;
        if !self.fifo {
            self.retry_known(0);
        } else if let Some((_, not_before)) = self.ready.front_mut()
            && *not_before > self.dispatch.clock.unix_ms()
        {
            *not_before = SCHEDULED;
        }
    }

    /// A fifo lane's head that is scheduled needs its schedule and tries before it can go on. True if they are read.
    fn ask_for_head(&mut self) -> bool {
        let Some((held, SCHEDULED)) = self.ready.front() else {
            return false;
        };
        let Home::Queue(id) = held.home else {
            return false;
        };
        let (store, keys, looks) = (self.dispatch.store.clone(), self.keys.clone(), self.looks);
        self.reading = Some(Box::pin(async move {
            Read::Head(id, looks, store.schedule_of(&keys, id).await)
        }));
        true
    }

    fn head(&mut self, id: EntryId, looks: u64, schedule: Option<(u64, Tries)>) {
        // One that was asked for before the last look is asked for again, unless it is due: others only move it forward.
        let now_ms = self.dispatch.clock.unix_ms();
        let due = schedule
            .as_ref()
            .is_none_or(|(due_ms, _)| *due_ms <= now_ms);
        if let Some((held, not_before)) = self.ready.front_mut()
            && (due || looks == self.looks)
            && matches!(held.home, Home::Queue(head) if head == id)
        {
            match schedule {
                Some((due_ms, tries)) => {
                    *not_before = due_ms;
                    held.tries = Some(tries);
                }
                None => *not_before = 0,
            }
        }
    }

    fn retries(&mut self, due: DueRetries) {
        if let Some(next_ms) = due.next_ms {
            self.retry_known(next_ms);
        }
        let mut found = false;
        for (delivery, tries) in due.deliveries {
            if !self.in_memory.insert(delivery.id) {
                continue;
            }
            found = true;
            let held = Held {
                event: delivery.event,
                tries: Some(tries),
                attempts_before: delivery.attempts_before,
                home: Home::Queue(delivery.id),
                signed: None,
            };
            self.ready.push_back((held, 0));
        }
        if found {
            // There may be more that are due than one read brings.
            self.next_retry_ms = Some(0);
        }
        self.postpone(due.unreadable);
    }

    /// Entries that cannot be read stay where they are, and are told of, once an hour.
    fn postpone(&mut self, unreadable: Vec<(EntryId, String)>) {
        for (id, reason) in unreadable {
            tracing::error!(webhook_id = %self.webhook_id, queue_id = %id, %reason, "a queued delivery cannot be read; it stays in the queue");
            let due_ms = self.dispatch.clock.unix_ms() + UNREADABLE_AGAIN_MS;
            self.in_memory.insert(id);
            self.write_schedule_of(id, due_ms, None, None);
        }
    }
}
