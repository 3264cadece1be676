//! `pombo rejected`: entries of sources that could not be read as events; lists them, shows them, gives them back to
//! their sources, purges them.

mod requeue;
mod show;
mod walk;

use std::io::{BufWriter, Write};

use super::connect::{self, Purpose};
use super::dead::{as_json_failed, stop_on_signal};
use super::progress::{self, Output};
use super::trouble::Trouble;
use crate::clock::Clock;
use crate::event::{EntryId, RejectReason};
use crate::exit::Exit;
use crate::settings::Settings;
use crate::store::Store;
use crate::store::rejected as store_rejected;

use walk::Walk;

/// The subcommands of `pombo rejected`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  pombo rejected list --source events --reason bad_json
  pombo rejected show 1773403200123-0
  pombo rejected requeue --reason no_tenant --dry-run    # once the settings can read them
  pombo rejected purge --all --yes")]
pub enum Rejected {
    /// List rejected entries, the oldest first
    List(ListArgs),
    /// Show a rejected entry with all its fields
    Show(ShowArgs),
    /// Add rejected entries to their streams again, with all their fields, as new entries
    Requeue(RequeueArgs),
    /// Remove rejected entries for good
    Purge(PurgeArgs),
}

/// The options that choose rejected entries; all that are given must hold.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FilterArgs {
    /// Only those of this source, by its name in the settings
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// Only those with this reason, such as bad_json; `pombo rejected list` prints it
    #[arg(long, value_parser = reason)]
    reason: Option<RejectReason>,
}

fn reason(text: &str) -> Result<RejectReason, String> {
    text.parse().map_err(|_| {
        let known = RejectReason::ALL.map(RejectReason::as_str);
        format!("it must be one of {}", known.join(", "))
    })
}

impl FilterArgs {
    fn is_some(&self) -> bool {
        self.source.is_some() || self.reason.is_some()
    }

    /// Whether an entry is among those that are meant.
    fn matches(&self, entry: &store_rejected::Rejected) -> bool {
        let source = self.source.as_ref();
        source.is_none_or(|source| *source == entry.source)
            && self
                .reason
                .is_none_or(|reason| reason.as_str() == entry.reason)
    }
}

/// The options of `pombo rejected list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// Print at most this many; all if it is not given
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// How to print them: a table for people, or a JSON array
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// The options of `pombo rejected show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The id of the rejected entry, as `pombo rejected list` prints it
    id: EntryId,

    /// How to print it: for people, or as a JSON object
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// The options of `pombo rejected requeue`.
#[derive(Debug, clap::Args)]
pub struct RequeueArgs {
    /// Ids of rejected entries, as `pombo rejected list` prints them
    #[arg(value_name = "ID")]
    ids: Vec<EntryId>,

    #[command(flatten)]
    filter: FilterArgs,

    /// Requeue all rejected entries
    #[arg(long, conflicts_with_all = ["ids", "source", "reason"])]
    all: bool,

    /// Requeue at most this many per second
    #[arg(long, value_name = "PER_SECOND", default_value = "1000", value_parser = progress::rate)]
    rate: f64,

    /// Say what would be requeued, and whether it could be read as an event now; change nothing
    #[arg(long)]
    dry_run: bool,
}

/// The options of `pombo rejected purge`.
#[derive(Debug, clap::Args)]
pub struct PurgeArgs {
    /// Ids of rejected entries, as `pombo rejected list` prints them
    #[arg(value_name = "ID")]
    ids: Vec<EntryId>,

    #[command(flatten)]
    filter: FilterArgs,

    /// Purge all rejected entries
    #[arg(long, conflicts_with_all = ["ids", "source", "reason"])]
    all: bool,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    /// Count what would be purged, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs a subcommand; what was asked for goes to `out`, everything else to `errors`.
///
/// # Errors
///
/// Says what kept it from being done.
pub async fn run(
    command: &Rejected,
    settings: &Settings,
    clock: &Clock,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    if let Rejected::Requeue(RequeueArgs {
        ids, filter, all, ..
    })
    | Rejected::Purge(PurgeArgs {
        ids, filter, all, ..
    }) = command
    {
        let selected = *all || filter.is_some() || !ids.is_empty();
        progress::require_selection(selected, "rejected entries")?;
    }
    // None of them makes anything of Pombo's where there was nothing.
    let connection = connect::store(settings, clock, Purpose::Read).await?;
    let store = &connection.to;
    match command {
        Rejected::List(args) => list(args, store, out, errors).await,
        Rejected::Show(args) => show(args, store, out, errors).await,
        Rejected::Requeue(args) => requeue::run(args, store, settings, clock, (out, errors)).await,
        Rejected::Purge(args) => purge(args, store, out, errors).await,
    }
}

async fn list(
    args: &ListArgs,
    store: &Store,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let mut out = BufWriter::new(out);
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut printed = 0u64;
    if args.output == Output::Json {
        out.write_all(b"[")?;
    }
    let mut walk = Walk::new(store, &args.filter, &[]);
    while left > 0
        && let Some(batch) = walk.next().await?
    {
        for entry in &batch {
            if left == 0 {
                break;
            }
            left -= 1;
            match args.output {
                Output::Table => {
                    if printed == 0 {
                        writeln!(out, "{}", show::table_head())?;
                    }
                    writeln!(out, "{}", show::table_line(entry))?;
                }
                Output::Json => {
                    let json = show::as_json(entry).map_err(as_json_failed)?;
                    let before = if printed == 0 { "\n" } else { ",\n" };
                    write!(out, "{before}{json}")?;
                }
            }
            printed += 1;
        }
    }
    match args.output {
        Output::Json if printed == 0 => out.write_all(b"]\n")?,
        Output::Json => out.write_all(b"\n]\n")?,
        Output::Table if printed == 0 => writeln!(errors, "no rejected entries")?,
        Output::Table => {}
    }
    out.flush()?;
    Ok(Exit::Ok)
}

async fn show(
    args: &ShowArgs,
    store: &Store,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let filter = FilterArgs::default();
    let mut walk = Walk::new(store, &filter, &[args.id]);
    let found = walk.next().await?.unwrap_or_default();
    let Some(entry) = found.first() else {
        writeln!(
            errors,
            "pombo: there is no rejected entry {}: it was requeued, purged, or fell out (rejected.max_count)",
            args.id
        )?;
        return Ok(Exit::Failure);
    };
    let mut out = BufWriter::new(out);
    match args.output {
        Output::Table => show::whole(entry, &mut out)?,
        Output::Json => {
            let json = show::as_whole_json(entry).map_err(as_json_failed)?;
            writeln!(out, "{json}")?;
        }
    }
    out.flush()?;
    Ok(Exit::Ok)
}

async fn purge(
    args: &PurgeArgs,
    store: &Store,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    if !args.dry_run {
        progress::can_confirm(args.yes)?;
    }
    let mut count = 0;
    let mut walk = Walk::new(store, &args.filter, &args.ids);
    while let Some(batch) = walk.next().await? {
        count += batch.len() as u64;
    }
    if args.dry_run {
        writeln!(out, "{} would be purged", entries(count))?;
        return Ok(Exit::Ok);
    }
    let question = format!("Purge {} for good?", entries(count));
    if count > 0 && !progress::confirmed(&question, args.yes)? {
        writeln!(errors, "nothing was purged")?;
        return Ok(Exit::Failure);
    }
    let stop = stop_on_signal()?;
    let bar = progress::bar(Some(count));
    let mut purged = 0;
    let mut walk = Walk::new(store, &args.filter, &args.ids);
    while !stop.is_cancelled()
        && let Some(batch) = walk.next().await?
    {
        let ids: Vec<EntryId> = batch.iter().map(|entry| entry.id).collect();
        if !ids.is_empty() {
            purged += store.drop_rejected(&ids).await?;
        }
        bar.inc(ids.len() as u64);
    }
    bar.finish_and_clear();
    writeln!(out, "{} purged", entries(purged))?;
    Ok(match stop.is_cancelled() {
        true => Exit::Interrupted,
        false if purged == 0 && !args.ids.is_empty() => Exit::Failure,
        false => Exit::Ok,
    })
}

fn entries(count: u64) -> String {
    match count {
        1 => "1 rejected entry".to_owned(),
        count => format!("{count} rejected entries"),
    }
}
