//! Which streams a configured source stands for.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::ConfiguredSource;
use crate::event::Layout;
use crate::logging::StateLog;
use crate::metrics::{Metrics, SourceMetrics};
use crate::settings::{Settings, SourceSettings, Start};
use crate::store::StoreError;
use crate::store::source::discover;

/// The streams of one source that are known.
pub(super) struct Discovery {
    pub metrics: SourceMetrics,
    pub layout: Arc<Layout>,
    pub streams: Vec<(String, Start)>,
    pub looked_at: Option<Instant>,
    /// Streams that another source reads already.
    pub overlapping: HashSet<String>,
    pub state: StateLog,
    /// What the keys begin with that Pombo makes for itself.
    own_keys: String,
}

impl Discovery {
    pub fn new(source: &ConfiguredSource, settings: &Settings, metrics: &Metrics) -> Discovery {
        let named = &source.settings;
        let streams = match named.is_glob() {
            true => Vec::new(),
            false => vec![(named.stream.clone(), named.start)],
        };
        Discovery {
            metrics: metrics.source(&named.name),
            layout: Arc::new(Layout::new(named, settings.delivery.max_payload)),
            streams,
            looked_at: None,
            overlapping: HashSet::new(),
            state: StateLog::new("looking for source streams"),
            own_keys: format!("{}:{{", settings.redis.prefix),
        }
    }

    /// Looks the streams of a glob up when it is time to; one that is found later is read from its beginning.
    pub async fn look(&mut self, source: &ConfiguredSource) -> Result<(), StoreError> {
        let settings = &source.settings;
        let due = self
            .looked_at
            .is_none_or(|then| then.elapsed() >= settings.discover_every);
        if !due {
            return Ok(());
        }
        if !settings.is_glob() {
            self.looked_at = Some(Instant::now());
            return Ok(());
        }
        let (found, more) = discover(&source.link, &settings.stream, settings.max_streams).await?;
        let first = !source.discovered.swap(true, Ordering::AcqRel);
        self.looked_at = Some(Instant::now());
        for stream in found {
            let known = self.streams.iter().any(|(name, _)| *name == stream);
            if !known && !stream.starts_with(&self.own_keys) {
                tracing::info!(source = %settings.name, %stream, "a source stream was found");
                let start = if first {
                    settings.start
                } else {
                    Start::Beginning
                };
                self.streams.push((stream, start));
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
}

/// Under which name a stream's owner stands: a stream elsewhere may have the name of one here.
pub(super) fn owner_key(settings: &SourceSettings, stream: &str) -> String {
    match &settings.server {
        None => stream.to_owned(),
        Some(_) => format!("{}@{}", stream, settings.name),
    }
}
