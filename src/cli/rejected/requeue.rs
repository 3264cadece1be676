//! Gives rejected entries back to the streams that they came from.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::walk::Walk;
use super::{RequeueArgs, entries};
use crate::cli::connect::{self, ShortLived};
use crate::cli::dead::stop_on_signal;
use crate::cli::pretty::escape_line;
use crate::cli::progress::{self, Pace};
use crate::cli::trouble::Trouble;
use crate::clock::Clock;
use crate::event::{EntryId, Layout};
use crate::exit::Exit;
use crate::settings::{Settings, SourceSettings};
use crate::store::rejected::Rejected;
use crate::store::{Link, Store};

/// What became of the entries.
#[derive(Debug, Default)]
struct Done {
    requeued: u64,
    /// Of a source that the settings do not have, by its name.
    homeless: BTreeMap<String, u64>,
    /// Those that would be rejected again, by reason and its words.
    again: BTreeMap<String, u64>,
}

/// A source that entries go back to.
struct Home<'a> {
    layout: Layout,
    link: Link,
    _keep: Option<ShortLived<Link>>,
    source: &'a SourceSettings,
}

struct Requeue<'a> {
    args: &'a RequeueArgs,
    store: &'a Store,
    settings: &'a Settings,
    clock: &'a Clock,
    homes: BTreeMap<String, Home<'a>>,
    done: Done,
}

/// Runs `pombo rejected requeue`.
pub(super) async fn run(
    args: &RequeueArgs,
    store: &Store,
    settings: &Settings,
    clock: &Clock,
    (out, errors): (&mut dyn Write, &mut dyn Write),
) -> Result<Exit, Trouble> {
    let stop = stop_on_signal()?;
    let mut requeue = Requeue {
        args,
        store,
        settings,
        clock,
        homes: BTreeMap::new(),
        done: Done::default(),
    };
    let result = requeue.all(&stop).await;
    let done = requeue.done;
    let would = if args.dry_run {
        "would be requeued"
    } else {
        "requeued"
    };
    writeln!(out, "{} {would}", entries(done.requeued))?;
    for (why, count) in &done.again {
        let what = if args.dry_run {
            "would be rejected again"
        } else {
            "will be rejected again unless the daemon has newer settings than this command"
        };
        writeln!(errors, "{} of them {what}: {}", count, escape_line(why))?;
    }
    for (source, count) in &done.homeless {
        writeln!(
            errors,
            "{} not requeued: the settings have no source named {source:?}; give it that name again, or purge them",
            entries(*count)
        )?;
    }
    result?;
    Ok(if stop.is_cancelled() {
        Exit::Interrupted
    } else if !done.homeless.is_empty() || (done.requeued == 0 && !args.ids.is_empty()) {
        Exit::Failure
    } else {
        Exit::Ok
    })
}

impl<'a> Requeue<'a> {
    async fn all(&mut self, stop: &CancellationToken) -> Result<(), Trouble> {
        let bar = match self.args.dry_run {
            true => indicatif::ProgressBar::hidden(),
            false => progress::bar(self.total().await?),
        };
        let mut pace = Pace::new(self.args.rate);
        let mut walk = Walk::new(self.store, &self.args.filter, &self.args.ids);
        while let Some(batch) = walk.next().await? {
            for entry in &batch {
                if !self.args.dry_run {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return Ok(()),
                        () = pace.turn() => {}
                    }
                }
                self.one(entry).await?;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// How many there are, where somebody watches.
    async fn total(&self) -> Result<Option<u64>, Trouble> {
        if !progress::is_watched() {
            return Ok(None);
        }
        let mut walk = Walk::new(self.store, &self.args.filter, &self.args.ids);
        let mut total = 0;
        while let Some(batch) = walk.next().await? {
            total += batch.len() as u64;
        }
        Ok(Some(total))
    }

    async fn one(&mut self, entry: &Rejected) -> Result<(), Trouble> {
        if !self.homes.contains_key(&entry.source) {
            match self.home(&entry.source).await? {
                Some(home) => {
                    self.homes.insert(entry.source.clone(), home);
                }
                None => {
                    *self.done.homeless.entry(entry.source.clone()).or_default() += 1;
                    return Ok(());
                }
            }
        }
        let Some(home) = self.homes.get(&entry.source) else {
            return Ok(());
        };
        let stream: Arc<str> = Arc::from(entry.stream.as_str());
        let as_if = EntryId {
            ms: self.clock.unix_ms(),
            seq: 0,
        };
        if let Err(rejection) = home.layout.read(&stream, as_if, &entry.fields) {
            let why = format!("{} ({})", rejection.reason, home.source.name);
            *self.done.again.entry(why).or_default() += 1;
        }
        if !self.args.dry_run {
            self.store.requeue(entry, &home.link).await?;
        }
        self.done.requeued += 1;
        Ok(())
    }

    async fn home(&self, name: &str) -> Result<Option<Home<'a>>, Trouble> {
        let sources = self.settings.sources.iter().enumerate();
        let Some((index, source)) = sources.into_iter().find(|(_, source)| source.name == name)
        else {
            return Ok(None);
        };
        let layout = Layout::new(source, self.settings.delivery.max_payload);
        let keep = match &source.server {
            // A dry run leaves the other server alone.
            Some(server) if !self.args.dry_run => {
                let key = format!("sources[{index}].url");
                Some(connect::link(self.settings, self.clock, server, &key).await?)
            }
            _ => None,
        };
        let link = keep.as_ref().map_or(self.store.link(), |link| &link.to);
        Ok(Some(Home {
            layout,
            link: link.clone(),
            _keep: keep,
            source,
        }))
    }
}
