//! The readers of all sources: one for each stream that belongs to this daemon.
//!
//! A stream has one reader at a time: whoever stands as its owner. The daemon that it belongs to claims it when nobody
//! who lives owns it, and asks a living owner to release it. So daemons need not have the same sources: what is never
//! asked for stays where it is, and what belongs to a daemon that does not know it is claimed by one that does.

mod discovery;
mod readers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::discovery::{Discovery, owner_key};
use self::readers::Readers;
use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::fanout::Fanout;
use crate::logging::StateLog;
use crate::membership::{Era, Members, living};
use crate::metrics::Metrics;
use crate::settings::{Settings, SourceSettings, Start, Trim};
use crate::source::{self, Gate, Reader, StreamState};
use crate::store::source::SourceStream;
use crate::store::{Link, Store, StoreError};

/// How often the sources' metrics are summed up, and a stream that another daemon still owns is asked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The same while a stream that is owned is not being read yet, so that readiness tells of it soon.
const LOOK_SOON: Duration = Duration::from_millis(50);

/// A configured source and the link to its server.
#[derive(Clone)]
pub struct ConfiguredSource {
    /// Its settings.
    pub settings: Arc<SourceSettings>,
    /// Its server.
    pub link: Link,
    /// Whether its streams were ever looked up: what is found later is read from its beginning.
    pub discovered: Arc<AtomicBool>,
}

/// What the sources of one era work with.
pub struct Sources {
    /// The daemon's own Redis.
    pub store: Store,
    /// All settings.
    pub settings: Arc<Settings>,
    /// The sources.
    pub configured: Vec<ConfiguredSource>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Clock,
    /// The era.
    pub era: Arc<Era>,
    /// Where events go.
    pub fanout: Arc<Fanout>,
    /// The lanes, for their budget.
    pub dispatch: Arc<Dispatch>,
    /// What halts the reading.
    pub gate: watch::Receiver<Gate>,
    /// All live daemons.
    pub live: watch::Receiver<Members>,
    /// Streams that other daemons ask for, by the name under which their owner stands.
    pub asked: mpsc::Receiver<String>,
    /// Stops the reading.
    pub stop: CancellationToken,
    /// Told how many streams are known and how many are being read.
    pub state: watch::Sender<SourcesState>,
}

/// How the sources are, for readiness.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourcesState {
    /// Streams that this daemon owns.
    pub owned: usize,
    /// Of these, those that are being read.
    pub reading: usize,
    /// What halts the reading of one of them, as the metric `pombo_source_stopped` has it.
    pub halted: Option<&'static str>,
    /// Configured sources looked at so far.
    pub looked_at: usize,
}

/// A stream that this daemon may read and does not.
struct Idle {
    source: usize,
    stream: String,
    start: Start,
    key: String,
    /// Whether it belongs to this daemon.
    belongs: bool,
}

/// What is remembered from look to look.
#[derive(Default)]
struct Looks {
    /// When owners were last looked at, and when those of streams that belong to other daemons were.
    owners_at: Option<Instant>,
    strays_at: Option<Instant>,
    /// The owners of streams that belong to other daemons, at the last look.
    strays: HashMap<String, Option<String>>,
    /// Streams whose readers have finished for another daemon.
    unreleased: Vec<String>,
    /// Sources on servers of their own that cannot be reached from here, by their place, and since when.
    unreachable: HashMap<usize, Instant>,
}

impl Sources {
    /// Runs the readers until the era is over, or, after `stop`, until all have finished and their streams are released.
    pub async fn run(mut self) {
        let mut readers = Readers::default();
        let mut looks = Looks::default();
        let state = StateLog::new("claiming of sources");
        let mut discoveries: Vec<Discovery> = self
            .configured
            .iter()
            .map(|source| Discovery::new(source, &self.settings, &self.metrics))
            .collect();
        while !self.stop.is_cancelled() && !self.era.token().is_cancelled() {
            for (source, discovery) in self.configured.iter().zip(&mut discoveries) {
                match discovery.look(source).await {
                    Ok(()) => {
                        discovery.state.well();
                    }
                    Err(error) => {
                        let name = &source.settings.name;
                        discovery
                            .state
                            .trouble("failed", format_args!("source {name}: {error}"));
                    }
                }
            }
            match self.look(&mut discoveries, &mut looks, &mut readers).await {
                Ok(()) => {
                    state.well();
                }
                Err(error) if self.era.ends_with(&error) => break,
                Err(error) => {
                    state.trouble("failed", &error);
                }
            }
            self.let_go_of_unreachable(&mut looks, &mut readers);
            readers.cut();
            let now = self.sum_up(&readers, &discoveries);
            let pause =
                if now.reading < now.owned || readers.all().any(|reader| reader.is_leaving()) {
                    LOOK_SOON
                } else {
                    LOOK_EVERY
                };
            tokio::select! {
                _ = self.era.ended() => {}
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.live.changed() => looks.owners_at = None,
                Some(key) = self.asked.recv() => self.let_go(&key, &mut readers),
                Some((key, leaves)) = readers.ended() => {
                    looks.owners_at = None;
                    // One that has ended because the daemon stops may be seen here first.
                    if leaves || self.stop.is_cancelled() {
                        looks.unreleased.push(key);
                    }
                }
            }
        }
        loop {
            if let Err(error) = self.release(&mut looks.unreleased).await {
                tracing::debug!(%error, "a source could not be released; it goes to others when this daemon is gone");
            }
            match readers.ended().await {
                Some((key, _)) => looks.unreleased.push(key),
                None => return,
            }
        }
    }

    /// Releases what other daemons asked for, and starts readers of what this daemon can have.
    async fn look(
        &self,
        discoveries: &mut [Discovery],
        looks: &mut Looks,
        readers: &mut Readers,
    ) -> Result<(), StoreError> {
        self.release(&mut looks.unreleased).await?;
        let passed = |then: Option<Instant>, time| then.is_none_or(|then| then.elapsed() >= time);
        if !passed(looks.owners_at, LOOK_EVERY) {
            return Ok(());
        }
        let strays = passed(looks.strays_at, self.settings.ownership.lease);
        let members = self.live.borrow().clone();
        let mut idle = self.idle(discoveries, readers, &members);
        idle.retain(|stream| stream.belongs || strays);
        looks.owners_at = Some(Instant::now());
        if strays {
            looks.strays_at = looks.owners_at;
        }
        if idle.is_empty() {
            return Ok(());
        }
        let keys: Vec<String> = idle.iter().map(|stream| stream.key.clone()).collect();
        let owners = self.store.source_owners(&keys).await?;
        let nonces = owners.iter().flatten().map(String::as_str);
        let living = living(&self.store, &members, nonces).await?;
        for (stream, owner) in idle.into_iter().zip(owners) {
            let owner = owner.filter(|owner| !owner.is_empty());
            let expected = owner.clone().unwrap_or_default();
            if expected == self.era.nonce {
                // Its reader failed, or the reply to the claim was lost.
                self.start(stream, discoveries, readers);
            } else if living.contains(&expected) {
                looks.strays.remove(&stream.key);
                if stream.belongs
                    && let Err(error) = self.store.ask_for_source(&expected, &stream.key).await
                {
                    // A full Redis refuses it; whoever is not asked keeps reading.
                    tracing::debug!(%error, "a source could not be asked for");
                }
            } else if stream.belongs || looks.strays.get(&stream.key) == Some(&owner) {
                let nonce = &self.era.nonce;
                if self
                    .store
                    .claim_source(&stream.key, &expected, nonce)
                    .await?
                {
                    looks.strays.remove(&stream.key);
                    self.start(stream, discoveries, readers);
                }
            } else {
                looks.strays.insert(stream.key, owner);
            }
        }
        Ok(())
    }

    /// The streams without a reader here.
    fn idle(
        &self,
        discoveries: &mut [Discovery],
        readers: &Readers,
        members: &Members,
    ) -> Vec<Idle> {
        let mut idle = Vec::new();
        for (index, discovery) in discoveries.iter_mut().enumerate() {
            let settings = &self.configured[index].settings;
            for (stream, start) in &discovery.streams {
                let key = owner_key(settings, stream);
                if let Some(other) = self.other_source_of(index, stream, readers) {
                    if discovery.overlapping.insert(stream.clone()) {
                        tracing::error!(
                            source = %settings.name, other, %stream,
                            "the stream belongs to two sources: it is read for the other one alone; narrow one of them"
                        );
                    }
                    continue;
                }
                if readers.runs(&key) || !self.can_be_reached(index, members) {
                    continue;
                }
                idle.push(Idle {
                    source: index,
                    stream: stream.clone(),
                    start: *start,
                    belongs: members.of_source(&key) == Some(&self.era.nonce),
                    key,
                });
            }
        }
        idle
    }

    /// Whether a source's server can be reached from here. Where there is nobody else it makes no difference.
    fn can_be_reached(&self, source: usize, members: &Members) -> bool {
        let link = &self.configured[source].link;
        link.is(self.store.link())
            || !members.has_successor(&self.era.nonce)
            || link.connection().is_ok()
    }

    /// What could not be reached for a lease is left to others, who may be better off.
    fn let_go_of_unreachable(&self, looks: &mut Looks, readers: &mut Readers) {
        let since = &mut looks.unreachable;
        let members = self.live.borrow().clone();
        let now = Instant::now();
        for source in 0..self.configured.len() {
            if self.can_be_reached(source, &members) {
                if since.remove(&source).is_some() {
                    looks.owners_at = None;
                }
            } else if *since.entry(source).or_insert(now) + self.settings.ownership.lease <= now {
                for key in readers.of(source) {
                    readers.let_go(&key, now);
                }
            }
        }
    }

    fn start(&self, idle: Idle, discoveries: &[Discovery], readers: &mut Readers) {
        // Two sources may stand for one stream: whichever came first has it.
        if readers.runs(&idle.key) {
            return;
        }
        let source = &self.configured[idle.source];
        let discovery = &discoveries[idle.source];
        let (progress, state) = watch::channel(StreamState::default());
        let stop = self.stop.child_token();
        let keys = self.store.keys().clone();
        let reader = Reader::new(source::Parts {
            store: self.store.clone(),
            stream: SourceStream::new(source.link.clone(), keys, &idle.stream)
                .removing(source.settings.trim == Trim::Acknowledged),
            settings: source.settings.clone(),
            start: idle.start,
            layout: discovery.layout.clone(),
            fanout: self.fanout.clone(),
            budget: self.dispatch.budget().clone(),
            era: self.era.clone(),
            clock: self.clock.clone(),
            metrics: discovery.metrics.clone(),
            gate: self.gate.clone(),
            stop: stop.clone(),
            most_rejected: self.settings.rejected.max_count,
            most_notices: self.settings.notices.max_count,
            progress,
        });
        tracing::info!(source = %source.settings.name, stream = %idle.stream, "this daemon reads the stream now");
        readers.start(idle.key, idle.source, idle.stream, state, stop, reader);
    }

    /// Another daemon asks for a stream: if it belongs to another, its reader finishes.
    fn let_go(&self, key: &str, readers: &mut Readers) {
        let members = self.live.borrow();
        let belongs_to = members.of_source(key);
        if belongs_to.is_some_and(|nonce| nonce != self.era.nonce) {
            readers.let_go(key, Instant::now() + self.settings.ownership.handover);
        }
    }

    /// Releases streams whose readers have finished, and calls those that they belong to.
    async fn release(&self, unreleased: &mut Vec<String>) -> Result<(), StoreError> {
        while let Some(key) = unreleased.last() {
            self.store.claim_source(key, &self.era.nonce, "").await?;
            let members = self.live.borrow().clone();
            let next: Vec<String> = match members.of_source(key) {
                Some(nonce) if !self.era.is_leaving() => vec![nonce.to_owned()],
                // The list may be from before this daemon said that it leaves.
                _ => members.others(&self.era.nonce),
            };
            tracing::info!(source = %key, "this daemon no longer reads the stream");
            unreleased.pop();
            if let Err(error) = self.store.call(&next).await {
                tracing::debug!(%error, "a successor could not be called; it looks again by itself");
            }
        }
        Ok(())
    }

    /// The other source that reads `stream` of the same server: two readers of one group would hand each other's
    /// entries out twice.
    fn other_source_of(&self, index: usize, stream: &str, readers: &Readers) -> Option<&str> {
        let mine = &self.configured[index];
        readers
            .all()
            .filter(|reader| reader.source != index && reader.stream == stream)
            .map(|reader| &self.configured[reader.source])
            .find(|other| {
                other.link.is(&mine.link) || other.settings.server == mine.settings.server
            })
            .map(|other| other.settings.name.as_str())
    }

    fn sum_up(&self, readers: &Readers, discoveries: &[Discovery]) -> SourcesState {
        let mut state = SourcesState {
            owned: readers.all().filter(|reader| !reader.is_leaving()).count(),
            reading: 0,
            halted: readers
                .all()
                .find_map(|reader| reader.state.borrow().halted),
            looked_at: discoveries
                .iter()
                .filter(|discovery| discovery.looked_at.is_some())
                .count(),
        };
        let now_ms = self.clock.unix_ms();
        let members = self.live.borrow().clone();
        for (index, discovery) in discoveries.iter().enumerate() {
            if !self.can_be_reached(index, &members) {
                // What belongs to this daemon is its trouble, even while others help out.
                let settings = &self.configured[index].settings;
                let streams = discovery.streams.iter();
                let keys = streams.map(|(stream, _)| owner_key(settings, stream));
                let left = keys.filter(|key| {
                    !readers.runs(key) && members.of_source(key) == Some(&self.era.nonce)
                });
                state.owned += left.count();
            }
            let (mut lag, mut oldest) = (0, None);
            for reader in readers.all().filter(|reader| reader.source == index) {
                let stream = *reader.state.borrow();
                // One that is halted would be read.
                let reading = stream.reading || stream.halted.is_some();
                state.reading += usize::from(reading && !reader.is_leaving());
                lag += stream.lag_entries;
                oldest = [oldest, stream.oldest_unread_ms]
                    .into_iter()
                    .flatten()
                    .min();
            }
            discovery
                .metrics
                .lag_entries
                .set(i64::try_from(lag).unwrap_or(i64::MAX));
            let age = oldest.map_or(0, |oldest| now_ms.saturating_sub(oldest));
            discovery.metrics.lag_seconds.set(age as f64 / 1_000.0);
        }
        self.state.send_if_modified(|old| {
            let changed = *old != state;
            old.clone_from(&state);
            changed
        });
        state
    }
}
