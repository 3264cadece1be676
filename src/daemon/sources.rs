//! The readers of all sources: finds the streams of a glob, claims what nobody alive owns, and keeps one reader each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::event::Layout;
use crate::fanout::Fanout;
use crate::logging::StateLog;
use crate::membership::{Era, Membership};
use crate::metrics::{Metrics, SourceMetrics};
use crate::settings::{Settings, SourceSettings, Start, Trim};
use crate::source::{self, Gate, Reader, StreamState};
use crate::store::source::{SourceStream, discover};
use crate::store::{Link, Store, StoreError};

/// How often ownership is looked at and the sources' metrics are summed up.
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
    /// The nonces of all live daemons.
    pub live: watch::Receiver<Vec<String>>,
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
    /// Configured sources looked at so far.
    pub looked_at: usize,
}

struct Running {
    source: usize,
    state: watch::Receiver<StreamState>,
}

struct Discovery {
    metrics: SourceMetrics,
    layout: Arc<Layout>,
    streams: Vec<(String, Start)>,
    looked_at: Option<Instant>,
    /// Streams that another source reads already.
    overlapping: HashSet<String>,
    state: StateLog,
}

impl Sources {
    /// Runs the readers until the era is over, or, after `stop`, until all have finished.
    pub async fn run(self) {
        let mut readers = JoinSet::new();
        let mut running: HashMap<(usize, String), Running> = HashMap::new();
        let mut discoveries: Vec<Discovery> = self
            .configured
            .iter()
            .map(|source| Discovery {
                metrics: self.metrics.source(&source.settings.name),
                layout: Arc::new(Layout::new(
                    &source.settings,
                    self.settings.delivery.max_payload,
                )),
                streams: Vec::new(),
                looked_at: None,
                overlapping: HashSet::new(),
                state: StateLog::new("claiming of a source"),
            })
            .collect();
        while !self.stop.is_cancelled() && !self.era.token().is_cancelled() {
            for (index, source) in self.configured.iter().enumerate() {
                let discovery = &mut discoveries[index];
                match self
                    .look(source, discovery, index, &mut running, &mut readers)
                    .await
                {
                    Ok(()) => {
                        discovery.state.well();
                    }
                    Err(error) => {
                        if self.era.ends_with(&error) {
                            break;
                        }
                        discovery.state.trouble(
                            "failed",
                            format_args!("source {}: {error}", source.settings.name),
                        );
                    }
                }
            }
            let state = self.sum_up(&running, &discoveries);
            let pause = if state.reading < state.owned {
                LOOK_SOON
            } else {
                LOOK_EVERY
            };
            tokio::select! {
                _ = self.era.ended() => {}
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
                // A reader that ended by itself panicked, or its era is over: claimed and begun anew.
                Some(ended) = readers.join_next() => {
                    if let Ok(key) = ended {
                        running.remove(&key);
                    } else {
                        running.retain(|_, reader| reader.state.has_changed().is_ok());
                    }
                }
            }
        }
        while readers.join_next().await.is_some() {}
    }

    async fn look(
        &self,
        source: &ConfiguredSource,
        discovery: &mut Discovery,
        index: usize,
        running: &mut HashMap<(usize, String), Running>,
        readers: &mut JoinSet<(usize, String)>,
    ) -> Result<(), StoreError> {
        let settings = &source.settings;
        let due = discovery
            .looked_at
            .is_none_or(|then| then.elapsed() >= settings.discover_every);
        if !settings.is_glob() {
            if discovery.streams.is_empty() {
                discovery
                    .streams
                    .push((settings.stream.clone(), settings.start));
            }
        } else if due {
            self.discover(source, discovery).await?;
        }
        discovery.looked_at.get_or_insert_with(Instant::now);
        let live = self.live.borrow().clone();
        for (stream, start) in &discovery.streams {
            let key = (index, stream.clone());
            if running.contains_key(&key) {
                continue;
            }
            if let Some(other) = self.other_source_of(index, stream, running) {
                if discovery.overlapping.insert(stream.clone()) {
                    tracing::error!(
                        source = %settings.name, other, %stream,
                        "the stream belongs to two sources: it is read for the other one alone; narrow one of them"
                    );
                }
                continue;
            }
            let owner_key = owner_key(settings, stream);
            if !Membership::claim_source(&self.store, &self.era, &owner_key, &live).await? {
                continue;
            }
            let (progress, state) = watch::channel(StreamState::default());
            let reader = Reader::new(source::Parts {
                store: self.store.clone(),
                stream: SourceStream::new(source.link.clone(), self.store.keys().clone(), stream)
                    .removing(settings.trim == Trim::Acknowledged),
                settings: settings.clone(),
                start: *start,
                layout: discovery.layout.clone(),
                fanout: self.fanout.clone(),
                budget: self.dispatch.budget().clone(),
                era: self.era.clone(),
                clock: self.clock.clone(),
                metrics: discovery.metrics.clone(),
                gate: self.gate.clone(),
                stop: self.stop.clone(),
                most_rejected: self.settings.rejected.max_count,
                most_notices: self.settings.notices.max_count,
                progress,
            });
            running.insert(
                key.clone(),
                Running {
                    source: index,
                    state,
                },
            );
            readers.spawn(async move {
                reader.run().await;
                key
            });
        }
        Ok(())
    }

    /// The other source that reads `stream` of the same server: two readers of one group would hand each other's
    /// entries out twice.
    fn other_source_of(
        &self,
        index: usize,
        stream: &str,
        running: &HashMap<(usize, String), Running>,
    ) -> Option<&str> {
        let mine = &self.configured[index];
        running
            .keys()
            .filter(|(other, name)| *other != index && name == stream)
            .map(|(other, _)| &self.configured[*other])
            .find(|other| {
                other.link.is(&mine.link) || other.settings.server == mine.settings.server
            })
            .map(|other| other.settings.name.as_str())
    }

    /// Looks the streams of a glob up again; one that is found later is read from its beginning.
    async fn discover(
        &self,
        source: &ConfiguredSource,
        discovery: &mut Discovery,
    ) -> Result<(), StoreError> {
        let settings = &source.settings;
        let (found, more) = discover(&source.link, &settings.stream, settings.max_streams).await?;
        let first = !source.discovered.swap(true, Ordering::AcqRel);
        discovery.looked_at = Some(Instant::now());
        let own = format!("{}:{{", self.settings.redis.prefix);
        for stream in found {
            let known = discovery.streams.iter().any(|(name, _)| *name == stream);
            if !known && !stream.starts_with(&own) {
                tracing::info!(source = %settings.name, %stream, "a source stream was found");
                let start = if first {
                    settings.start
                } else {
                    Start::Beginning
                };
                discovery.streams.push((stream, start));
            }
        }
        if more {
            tracing::error!(
                source = %settings.name, max_streams = settings.max_streams,
                "more streams match the source than sources.max_streams allows: the others are not read"
            );
        }
        Ok(())
    }

    fn sum_up(
        &self,
        running: &HashMap<(usize, String), Running>,
        discoveries: &[Discovery],
    ) -> SourcesState {
        let mut state = SourcesState {
            owned: running.len(),
            reading: 0,
            looked_at: discoveries
                .iter()
                .filter(|discovery| discovery.looked_at.is_some())
                .count(),
        };
        let now_ms = self.clock.unix_ms();
        for (index, discovery) in discoveries.iter().enumerate() {
            let (mut lag, mut oldest) = (0, None);
            for reader in running.values().filter(|reader| reader.source == index) {
                let stream = *reader.state.borrow();
                state.reading += usize::from(stream.reading);
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

/// Under which name a stream's owner stands: a stream elsewhere may have the name of one here.
fn owner_key(settings: &SourceSettings, stream: &str) -> String {
    match &settings.server {
        None => stream.to_owned(),
        Some(_) => format!("{}@{}", stream, settings.name),
    }
}
