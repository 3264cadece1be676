//! Replaying and purging.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::filter::Filter;
use super::walk::{Batch, Standing, Walk};
use super::{PurgeArgs, ReplayArgs};
use crate::cli::pretty::escape_line;
use crate::cli::progress::{self, Pace};
use crate::cli::trouble::Trouble;
use crate::clock::Clock;
use crate::exit::Exit;
use crate::store::Store;

/// How long the owner of a replayed delivery may go without being told, which matters at a slow pace.
const WAKE_EVERY: Duration = Duration::from_millis(200);

/// Dead letters by webhook.
#[derive(Debug, Default)]
struct Count {
    by_webhook: BTreeMap<String, u64>,
    total: u64,
    /// Of all, those whose webhook was deleted.
    orphans: u64,
}

async fn count(store: &Store, filter: &Filter) -> Result<Count, Trouble> {
    let mut count = Count::default();
    let mut walk = Walk::new(store, filter);
    while let Some(batch) = walk.next().await? {
        let letters = batch.letters.len() as u64;
        count.total += letters;
        if !batch.exists() {
            count.orphans += letters;
        }
        if let Some(first) = batch.letters.first() {
            let id = first.ending.webhook_id.clone();
            *count.by_webhook.entry(id).or_default() += letters;
        }
    }
    Ok(count)
}

impl Count {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for (webhook, letters) in &self.by_webhook {
            writeln!(out, "{letters:>8}  {}", escape_line(webhook))?;
        }
        Ok(())
    }
}

fn dead_letters(count: u64) -> String {
    match count {
        1 => "1 dead letter".to_owned(),
        count => format!("{count} dead letters"),
    }
}

/// What became of the letters that a replay came by.
#[derive(Debug, Default)]
struct Replayed {
    replayed: u64,
    /// Replayed, purged or expired meanwhile.
    gone: u64,
    /// Their webhook was deleted.
    orphans: u64,
    /// Their webhook's queue has no room.
    full: u64,
    unreadable: u64,
    /// Of those replayed, the ones whose webhook gets nothing at present.
    idle: u64,
    interrupted: bool,
}

/// `pombo dead replay`.
pub(super) async fn replay(
    args: &ReplayArgs,
    filter: &Filter,
    store: &Store,
    most_queued: u64,
    clock: &Clock,
    stop: &CancellationToken,
    (out, errors): (&mut dyn Write, &mut dyn Write),
) -> Result<Exit, Trouble> {
    if args.dry_run {
        let count = count(store, filter).await?;
        count.print(out)?;
        writeln!(
            out,
            "{} would be replayed",
            dead_letters(count.total - count.orphans)
        )?;
        if count.orphans > 0 {
            writeln!(
                errors,
                "{} would stay: {DELETED}",
                dead_letters(count.orphans)
            )?;
        }
        return Ok(Exit::Ok);
    }
    let total = match progress::is_watched() {
        true => Some(count(store, filter).await?.total),
        false => None,
    };
    let mut replay = Replay {
        store,
        clock,
        stop,
        most_queued,
        pace: Pace::new(args.rate),
        bar: progress::bar(total),
        done: Replayed::default(),
    };
    let result = replay.all(filter).await;
    replay.bar.finish_and_clear();
    let done = replay.done;
    writeln!(out, "{} replayed", dead_letters(done.replayed))?;
    for (number, why) in [
        (done.gone, "somebody else was faster"),
        (done.orphans, DELETED),
        (
            done.full,
            "the queue of the webhook is full (queue.max_deliveries); replay them when it has drained",
        ),
        (done.unreadable, "what is stored is not of this version"),
    ] {
        if number > 0 {
            writeln!(errors, "{} not replayed: {why}", dead_letters(number))?;
        }
    }
    if done.idle > 0 {
        writeln!(
            errors,
            "{} of them wait in their queue: their webhook is inactive, or disabled by Pombo (`pombo enable`)",
            done.idle
        )?;
    }
    result?;
    Ok(match done {
        Replayed {
            interrupted: true, ..
        } => Exit::Interrupted,
        Replayed {
            orphans: 0,
            full: 0,
            unreadable: 0,
            ..
        } if done.replayed + done.gone > 0 => Exit::Ok,
        // Ids name what ought to be there; a filter may match nothing.
        _ if args.ids.is_empty() && done.orphans + done.full + done.unreadable == 0 => Exit::Ok,
        _ => Exit::Failure,
    })
}

const DELETED: &str = "their webhook was deleted";

struct Replay<'a> {
    store: &'a Store,
    clock: &'a Clock,
    stop: &'a CancellationToken,
    most_queued: u64,
    pace: Pace,
    bar: ProgressBar,
    done: Replayed,
}

impl Replay<'_> {
    async fn all(&mut self, filter: &Filter) -> Result<(), Trouble> {
        let mut walk = Walk::new(self.store, filter);
        while let Some(batch) = walk.next().await? {
            self.done.unreadable += batch.unreadable.len() as u64;
            if batch.letters.is_empty() {
                continue;
            }
            if !batch.exists() {
                self.done.orphans += batch.letters.len() as u64;
                self.bar.inc(batch.letters.len() as u64);
                continue;
            }
            self.batch(&batch).await?;
            if self.done.interrupted {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn batch(&mut self, batch: &Batch) -> Result<(), Trouble> {
        let uid: Arc<str> = Arc::from(batch.uid.as_str());
        let queued = self.store.sizes(&[(batch.shard, uid)]).await?.waiting;
        let room = self.most_queued.saturating_sub(queued);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let fitting = &batch.letters[..room.min(batch.letters.len())];
        self.done.full += (batch.letters.len() - fitting.len()) as u64;
        let mut told = Instant::now();
        let mut untold = false;
        for letter in fitting {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    self.done.interrupted = true;
                    break;
                }
                () = self.pace.turn() => {}
            }
            let now_ms = self.clock.unix_ms();
            let replayed = self
                .store
                .replay(batch.shard, &batch.uid, letter.id, now_ms)
                .await?;
            if replayed {
                self.done.replayed += 1;
                self.done.idle += u64::from(batch.standing == Standing::Idle);
                untold = true;
            } else {
                self.done.gone += 1;
            }
            self.bar.inc(1);
            if untold && told.elapsed() >= WAKE_EVERY {
                self.wake(batch).await?;
                (told, untold) = (Instant::now(), false);
            }
        }
        if untold {
            self.wake(batch).await?;
        }
        Ok(())
    }

    async fn wake(&self, batch: &Batch) -> Result<(), Trouble> {
        let uids = std::slice::from_ref(&batch.uid);
        Ok(self.store.wake_owner(batch.shard, uids).await?)
    }
}

/// `pombo dead purge`.
pub(super) async fn purge(
    args: &PurgeArgs,
    filter: &Filter,
    store: &Store,
    stop: &CancellationToken,
    (out, errors): (&mut dyn Write, &mut dyn Write),
) -> Result<Exit, Trouble> {
    if !args.dry_run {
        progress::can_confirm(args.yes)?;
    }
    let count = count(store, filter).await?;
    if args.dry_run {
        count.print(out)?;
        writeln!(out, "{} would be purged", dead_letters(count.total))?;
        return Ok(Exit::Ok);
    }
    let question = format!(
        "Purge {} of {} webhook(s) for good?",
        dead_letters(count.total),
        count.by_webhook.len()
    );
    if count.total > 0 && !progress::confirmed(&question, args.yes)? {
        writeln!(errors, "nothing was purged")?;
        return Ok(Exit::Failure);
    }
    let bar = progress::bar(Some(count.total));
    let (mut purged, mut unreadable) = (0, 0);
    let mut walk = Walk::new(store, filter);
    while let Some(batch) = walk.next().await? {
        unreadable += batch.unreadable.len();
        let ids: Vec<_> = batch.letters.iter().map(|letter| letter.id).collect();
        purged += store.purge(batch.shard, &batch.uid, &ids).await?;
        bar.inc(ids.len() as u64);
        if stop.is_cancelled() {
            break;
        }
    }
    bar.finish_and_clear();
    writeln!(out, "{} purged", dead_letters(purged))?;
    if unreadable > 0 {
        writeln!(
            errors,
            "{unreadable} stay: what is stored is not of this version; they expire by dead_letters.max_age"
        )?;
    }
    Ok(match stop.is_cancelled() {
        true => Exit::Interrupted,
        false if purged == 0 && !args.ids.is_empty() => Exit::Failure,
        false => Exit::Ok,
    })
}
