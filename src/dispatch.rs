//! Dispatch: the lanes of all webhooks whose shards this daemon owns, what wakes them, and what they share.
//!
//! A webhook without work has no lane. What has work later stands on the agenda; the [`alarm`](Dispatch::alarm)
//! makes a lane when its time has come, an offer or a wake-up makes one at once.

mod agenda;
pub mod attempt;
pub(crate) mod budget;
mod condition;
mod hand_over;
pub(crate) mod handle;
pub mod http_client;
mod inbox;
mod lane;
pub mod limiter;
mod notify;
mod settle;
mod stats;
pub mod threads;
mod turns;
mod upkeep;
mod usher;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use self::agenda::Agenda;
use self::attempt::Prepared;
use self::budget::TakenBudget;
use self::handle::{LaneHandle, Offer};
use self::lane::{Beginning, Lane};
use self::limiter::Limiter;
use self::settle::{Records, Settled};
use self::stats::Stats;
use self::threads::LaneThreads;
use crate::clock::Clock;
use crate::event::Event;
use crate::membership::Era;
use crate::metrics::Metrics;
use crate::registry::{Registered, Registry};
use crate::settings::Settings;
use crate::source::ticket::Share;
use crate::store::lane::{LaneKeys, PAUSED_DUE_MS};
use crate::store::stats::Ended;
use crate::store::{Store, StoreError};

/// A lane that ended without parking (a panic, a webhook that cannot be called) is made again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// Rate limiters by uid, each with the shard of its webhook.
type Limiters = HashMap<Arc<str>, (u16, Arc<Limiter>)>;

/// What the dispatch of one era works with.
pub struct Parts {
    /// The daemon's Redis.
    pub store: Store,
    /// All settings.
    pub settings: Arc<Settings>,
    /// Time and randomness.
    pub clock: Clock,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The era that all of it belongs to.
    pub era: Arc<Era>,
    /// The webhooks.
    pub registry: Arc<Registry>,
    /// What lanes run on.
    pub threads: Arc<LaneThreads>,
}

/// See the module's own words.
pub struct Dispatch {
    store: Store,
    settings: Arc<Settings>,
    clock: Clock,
    metrics: Arc<Metrics>,
    era: Arc<Era>,
    registry: Arc<Registry>,
    threads: Arc<LaneThreads>,
    /// Where everything but lanes runs.
    common: Handle,
    /// The shared cap on attempts in flight.
    slots: Arc<Semaphore>,
    budget: Arc<TakenBudget>,
    lanes: Vec<Mutex<HashMap<Arc<str>, Arc<LaneHandle>>>>,
    limiters: Mutex<Limiters>,
    agenda: Agenda,
    /// Webhooks with dead letters, as far as is known.
    buried: Mutex<HashSet<(u16, Arc<str>)>>,
    burials: AtomicU64,
    untold: notify::Untold,
    settled: mpsc::UnboundedSender<Settled>,
    records: Arc<Records>,
    stats: Arc<Stats>,
    /// Shards in which nothing more is started, because they go to another daemon.
    draining: Vec<AtomicBool>,
    tasks: TaskTracker,
}

impl Dispatch {
    /// The dispatch of one era. Its background work ends with the era.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn new(parts: Parts) -> Arc<Dispatch> {
        let (settled, arriving) = mpsc::unbounded_channel();
        let tasks = TaskTracker::new();
        let records = Records::new(parts.metrics.clone());
        tasks.spawn(settle::settle(
            parts.store.clone(),
            parts.era.clone(),
            records.clone(),
            parts.settings.clone(),
            arriving,
        ));
        let stats = Arc::new(Stats::new(parts.metrics.clone()));
        tasks.spawn(stats.clone().keep(parts.store.clone(), parts.era.clone()));
        let delivery = &parts.settings.delivery;
        Arc::new(Dispatch {
            slots: Arc::new(Semaphore::new(delivery.max_in_flight_total)),
            budget: TakenBudget::new(delivery),
            lanes: (0..parts.store.shards())
                .map(|_| Mutex::default())
                .collect(),
            limiters: Mutex::default(),
            agenda: Agenda::default(),
            buried: Mutex::default(),
            burials: AtomicU64::new(0),
            untold: Mutex::default(),
            settled,
            records,
            stats,
            draining: (0..parts.store.shards())
                .map(|_| AtomicBool::new(false))
                .collect(),
            tasks,
            store: parts.store,
            settings: parts.settings,
            clock: parts.clock,
            metrics: parts.metrics,
            era: parts.era,
            registry: parts.registry,
            threads: parts.threads,
            common: Handle::current(),
        })
    }

    fn lanes(&self, shard: u16) -> MutexGuard<'_, HashMap<Arc<str>, Arc<LaneHandle>>> {
        // Shards come from the same number that the list was made with.
        self.lanes[usize::from(shard) % self.lanes.len()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn buried(&self) -> MutexGuard<'_, HashSet<(u16, Arc<str>)>> {
        self.buried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A dead letter of this webhook was made.
    pub(crate) fn note_buried(&self, shard: u16, uid: &Arc<str>) {
        self.buried().insert((shard, uid.clone()));
        self.burials.fetch_add(1, Ordering::Relaxed);
        self.stats.count(shard, uid, Ended::Failed, 1);
    }

    /// The webhooks that may have dead letters.
    pub fn with_dead_letters(&self) -> Vec<(u16, Arc<str>)> {
        self.buried().iter().cloned().collect()
    }

    /// How many dead letters were made in this era.
    pub fn burials(&self) -> u64 {
        self.burials.load(Ordering::Relaxed)
    }

    /// Whether any webhook may have deliveries in its queue.
    pub fn has_work(&self) -> bool {
        self.agenda.next().is_some()
            || (0..self.store.shards()).any(|shard| !self.lanes(shard).is_empty())
    }

    /// The webhooks that may have deliveries in their queues.
    pub fn with_work(&self) -> Vec<(u16, Arc<str>)> {
        let mut found = self.agenda.all();
        for shard in 0..self.store.shards() {
            found.extend(self.lanes(shard).keys().map(|uid| (shard, uid.clone())));
        }
        found
    }

    /// The bound on taken deliveries, which the reader of a source waits for.
    pub fn budget(&self) -> &Arc<TakenBudget> {
        &self.budget
    }

    /// Reads what is due in `shards` that were just claimed.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn adopt(self: &Arc<Dispatch>, shards: &[u16]) -> Result<(), StoreError> {
        if shards.is_empty() {
            return Ok(());
        }
        for (shard, work) in self.store.all_work(shards).await? {
            for (uid, due_ms) in work.due {
                let due_ms = match self.registry.by_uid(&uid) {
                    // It was paused when it was parked; it may have been made active since.
                    Some(registered) if due_ms == PAUSED_DUE_MS && registered.delivers() => 0,
                    _ => due_ms,
                };
                self.agenda.put(shard, Arc::from(uid), due_ms);
            }
            let buried = work.buried.into_iter().map(|uid| (shard, Arc::from(uid)));
            self.buried().extend(buried);
        }
        for (uid, id) in self.store.gone().await? {
            let shard = self.store.shard_of(&id);
            if shards.contains(&shard) {
                self.clear(shard, &uid).await?;
            }
        }
        Ok(())
    }

    /// Offers a delivery to its lane: taken, it is sent within a moment or stored; refused, it comes back and must be
    /// queued.
    ///
    /// # Errors
    ///
    /// The share comes back.
    pub fn offer(
        self: &Arc<Dispatch>,
        to: &Arc<Registered>,
        event: &Arc<Event>,
        share: Share,
    ) -> Result<(), Share> {
        if to.is_fifo()
            || self.is_draining(to.shard)
            || !self.era.is_valid()
            || self.era.owned(to.shard).is_none()
        {
            return Err(share);
        }
        let mut lanes = self.lanes(to.shard);
        let handle = match lanes.get(&to.uid) {
            Some(handle) if handle.is_open() => handle.clone(),
            Some(_) => return Err(share),
            None => {
                // A webhook on the agenda has work in its queue: what comes now goes there too.
                if self.agenda.holds(&to.uid) {
                    return Err(share);
                }
                match self.spawn(&mut lanes, to, false) {
                    Some(handle) => handle,
                    None => return Err(share),
                }
            }
        };
        let Some(permit) = self.budget.take(event.payload.len()) else {
            return Err(share);
        };
        let offered = handle.offer(Offer {
            event: event.clone(),
            share,
            permit,
        });
        offered.map_err(|refused| refused.share)
    }

    /// There is work in the queue of `uid`, or something scheduled there may be due sooner than its lane knows.
    pub fn wake(self: &Arc<Dispatch>, shard: u16, uid: &Arc<str>) {
        self.call(shard, uid, LaneHandle::wake);
    }

    /// Something was added to the queue of `uid`: what is scheduled there need not be looked at again.
    pub(crate) fn wake_for_more(self: &Arc<Dispatch>, shard: u16, uid: &Arc<str>) {
        self.call(shard, uid, LaneHandle::wake_for_more);
    }

    fn call(self: &Arc<Dispatch>, shard: u16, uid: &Arc<str>, wake: impl Fn(&LaneHandle)) {
        // A lane made while draining would park at once, be due at once, and keep the drain from its end.
        if self.era.owned(shard).is_none() || self.is_draining(shard) {
            return;
        }
        let mut lanes = self.lanes(shard);
        if let Some(handle) = lanes.get(uid) {
            wake(handle);
            return;
        }
        self.agenda.remove(uid);
        match self.registry.by_uid(uid) {
            Some(registered) if registered.shard == shard => {
                if self.spawn(&mut lanes, &registered, true).is_none() {
                    self.agenda.put(shard, uid.clone(), self.soon());
                }
            }
            // A webhook that this daemon does not know (yet): looked at again, and cleared if it was deleted.
            _ => self.agenda.put(shard, uid.clone(), self.soon()),
        }
    }

    fn soon(&self) -> u64 {
        self.clock.unix_ms() + u64::try_from(AGAIN.as_millis()).unwrap_or(0)
    }

    fn spawn(
        self: &Arc<Dispatch>,
        lanes: &mut HashMap<Arc<str>, Arc<LaneHandle>>,
        to: &Arc<Registered>,
        behind: bool,
    ) -> Option<Arc<LaneHandle>> {
        let owned = self.era.owned(to.shard)?;
        let (prepared, limiter) = self.prepare(to)?;
        let open = !behind && to.delivers() && !to.is_fifo();
        let thread = self.threads.of(&to.uid);
        let announcements = thread.announcements.clone();
        let handle = Arc::new(LaneHandle::new(announcements, open));
        lanes.insert(to.uid.clone(), handle.clone());
        let lane = Lane::new(
            self.clone(),
            Beginning {
                http: thread.http.clone(),
                turns: thread.turns.clone(),
                handle: handle.clone(),
                registered: to.clone(),
                prepared,
                limiter,
                keys: LaneKeys {
                    shard: to.shard,
                    uid: to.uid.clone(),
                    owner: owned.value.clone(),
                },
                cut: owned.cut.clone(),
                behind,
            },
        );
        self.tasks.spawn_on(lane.run(), &thread.runtime);
        Some(handle)
    }

    /// What a lane calls its webhook with; `None` if it cannot be called, which is logged.
    fn prepare(&self, to: &Registered) -> Option<(Arc<Prepared>, Option<Arc<Limiter>>)> {
        let error = match to.webhook() {
            Ok(webhook) => match Prepared::new(&webhook, &self.settings) {
                Ok(prepared) => return Some((Arc::new(prepared), self.limiter(to, &webhook))),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        tracing::error!(webhook_id = %to.id(), error, "a webhook cannot be called; its deliveries wait");
        None
    }

    /// A lane wants to end. True if it may: nothing came in meanwhile.
    fn end_lane(&self, keys: &LaneKeys, handle: &Arc<LaneHandle>, due_ms: Option<u64>) -> bool {
        let mut lanes = self.lanes(keys.shard);
        if handle.has_offers() || handle.has_news() {
            return false;
        }
        if let Some(due_ms) = due_ms {
            self.agenda.put(keys.shard, keys.uid.clone(), due_ms);
        }
        if lanes
            .get(&keys.uid)
            .is_some_and(|found| Arc::ptr_eq(found, handle))
        {
            lanes.remove(&keys.uid);
        }
        true
    }

    /// A lane is no more. One that ended by itself was removed before; for any other there may be work left.
    fn lane_dropped(&self, keys: &LaneKeys, handle: &Arc<LaneHandle>) {
        let mut lanes = self.lanes(keys.shard);
        if lanes
            .get(&keys.uid)
            .is_some_and(|found| Arc::ptr_eq(found, handle))
        {
            lanes.remove(&keys.uid);
            self.agenda.put(keys.shard, keys.uid.clone(), self.soon());
        }
    }
}
