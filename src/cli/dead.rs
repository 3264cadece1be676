//! `pombo dead`: deliveries that were given up; lists them, shows them, replays them, purges them.

mod change;
mod filter;
mod show;
mod walk;

use std::io::{BufWriter, Write};

use tokio_util::sync::CancellationToken;

use super::connect::{self, Purpose};
use super::progress::{self, Output};
use super::serve::cancel_on_signal;
use super::trouble::Trouble;
use crate::clock::Clock;
use crate::exit::Exit;
use crate::settings::Settings;
use crate::store::Store;

pub use filter::{Filter, FilterArgs};
use walk::Walk;

/// The subcommands of `pombo dead`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  pombo dead list --webhook orders-erp --newer-than 1h
  pombo dead list --output json | jq -r .[].delivery_id
  pombo dead show orders-erp.kbM2e1v0zAq3mJ8sQw5tLg
  pombo dead replay --webhook orders-erp --reason exhausted --rate 50
  pombo dead purge --older-than 14d --dry-run")]
pub enum Dead {
    /// List dead letters: by webhook, the oldest first
    List(ListArgs),
    /// Show a dead letter with its payload and the last answer
    Show(ShowArgs),
    /// Put dead letters back into the queues of their webhooks, to be attempted anew
    Replay(ReplayArgs),
    /// Remove dead letters for good
    Purge(PurgeArgs),
}

/// The options of `pombo dead list`.
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

/// The options of `pombo dead show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The delivery's id, as `pombo dead list` prints it
    #[arg(value_name = "DELIVERY_ID")]
    id: String,

    /// How to print it: for people, or as a JSON object with the whole payload
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// The options of `pombo dead replay`.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// Ids of deliveries, as `pombo dead list` prints them
    #[arg(value_name = "DELIVERY_ID")]
    ids: Vec<String>,

    #[command(flatten)]
    filter: FilterArgs,

    /// Replay all dead letters of all webhooks
    #[arg(long, conflicts_with_all = ["ids", "webhook", "tenant", "reason", "older_than", "newer_than"])]
    all: bool,

    /// Replay at most this many per second; the limits of the webhooks hold besides
    #[arg(long, value_name = "PER_SECOND", default_value = "1000", value_parser = progress::rate)]
    rate: f64,

    /// Count what would be replayed, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// The options of `pombo dead purge`.
#[derive(Debug, clap::Args)]
pub struct PurgeArgs {
    /// Ids of deliveries, as `pombo dead list` prints them
    #[arg(value_name = "DELIVERY_ID")]
    ids: Vec<String>,

    #[command(flatten)]
    filter: FilterArgs,

    /// Purge all dead letters of all webhooks
    #[arg(long, conflicts_with_all = ["ids", "webhook", "tenant", "reason", "older_than", "newer_than"])]
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
    command: &Dead,
    settings: &Settings,
    clock: &Clock,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let now_ms = clock.unix_ms();
    let filter = match command {
        Dead::List(args) => Filter::new(&args.filter, &[], now_ms)?,
        Dead::Show(args) => {
            let ids = std::slice::from_ref(&args.id);
            Filter::new(&FilterArgs::default(), ids, now_ms)?
        }
        Dead::Replay(ReplayArgs {
            ids, filter, all, ..
        })
        | Dead::Purge(PurgeArgs {
            ids, filter, all, ..
        }) => {
            let selected = *all || filter.is_some() || !ids.is_empty();
            progress::require_selection(selected, "dead letters")?;
            Filter::new(filter, ids, now_ms)?
        }
    };
    // None of them makes anything where there was nothing.
    let connection = connect::store(settings, clock, Purpose::Read).await?;
    let store = &connection.to;
    match command {
        Dead::List(args) => list(args, &filter, store, out, errors).await,
        Dead::Show(args) => show(args, &filter, store, out, errors).await,
        Dead::Replay(args) => {
            let stop = stop_on_signal()?;
            let most = settings.queue.max_deliveries;
            change::replay(args, &filter, store, most, clock, &stop, (out, errors)).await
        }
        Dead::Purge(args) => {
            let stop = stop_on_signal()?;
            change::purge(args, &filter, store, &stop, (out, errors)).await
        }
    }
}

/// Ends a long command between two steps.
pub(super) fn stop_on_signal() -> Result<CancellationToken, Trouble> {
    let stop = CancellationToken::new();
    cancel_on_signal(stop.clone()).map_err(|error| {
        Trouble::new(Exit::Failure, format!("cannot wait for signals: {error}"))
    })?;
    Ok(stop)
}

pub(super) fn as_json_failed(error: serde_json::Error) -> Trouble {
    Trouble::new(Exit::Internal, format!("cannot write JSON: {error}"))
}

async fn list(
    args: &ListArgs,
    filter: &Filter,
    store: &Store,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let mut out = BufWriter::new(out);
    let mut left = args.limit.unwrap_or(u64::MAX);
    let (mut printed, mut unreadable) = (0u64, false);
    if args.output == Output::Json {
        out.write_all(b"[")?;
    }
    let mut walk = Walk::new(store, filter);
    while left > 0
        && let Some(batch) = walk.next().await?
    {
        for error in &batch.unreadable {
            unreadable = true;
            writeln!(errors, "warning: a dead letter is left out: {error}")?;
        }
        for letter in &batch.letters {
            if left == 0 {
                break;
            }
            left -= 1;
            match args.output {
                Output::Table => {
                    if printed == 0 {
                        writeln!(out, "{}", show::table_head())?;
                    }
                    writeln!(out, "{}", show::table_line(letter))?;
                }
                Output::Json => {
                    let json = show::as_json(letter, batch.exists()).map_err(as_json_failed)?;
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
        Output::Table if printed == 0 => writeln!(errors, "no dead letters")?,
        Output::Table => {}
    }
    out.flush()?;
    Ok(if unreadable { Exit::Failure } else { Exit::Ok })
}

async fn show(
    args: &ShowArgs,
    filter: &Filter,
    store: &Store,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let mut out = BufWriter::new(out);
    let mut walk = Walk::new(store, filter);
    let mut found = 0u64;
    while let Some(batch) = walk.next().await? {
        for letter in &batch.letters {
            match args.output {
                Output::Table => {
                    if found > 0 {
                        writeln!(out)?;
                    }
                    show::whole(letter, batch.exists(), &mut out)?;
                }
                Output::Json => {
                    let json =
                        show::as_whole_json(letter, batch.exists()).map_err(as_json_failed)?;
                    writeln!(out, "{json}")?;
                }
            }
            found += 1;
        }
    }
    out.flush()?;
    if found == 0 {
        writeln!(
            errors,
            "pombo: there is no dead letter of the delivery {}: it was replayed, purged, or never given up",
            args.id
        )?;
        return Ok(Exit::Failure);
    }
    Ok(Exit::Ok)
}
