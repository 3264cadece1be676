//! `pombo enable`: lets a webhook that Pombo disabled have its deliveries again.

use std::io::Write;

use super::connect::{self, Purpose};
use super::pretty::escape_line;
use super::trouble::Trouble;
use crate::clock::{Clock, rfc3339_ms};
use crate::exit::Exit;
use crate::settings::Settings;
use crate::store::webhooks::Put;
use crate::webhook::Webhook;

/// How often it is tried again because somebody else changed the webhook meanwhile.
const MOST_CONFLICTS: u32 = 5;

/// The options of `pombo enable`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Pombo disables a webhook when its receiver answers 410 Gone, and nothing but this command enables it again. What waits in
its queue is then sent; what became a dead letter meanwhile is put back with `pombo dead replay --webhook ID`.
A webhook with active = false in its file stays inactive.

Example:
  pombo enable orders-erp")]
pub struct Args {
    /// The webhook's id
    #[arg(value_name = "WEBHOOK_ID")]
    id: String,
}

/// Runs the command; says on `out` what was done.
///
/// # Errors
///
/// There is no such webhook, or Redis did not take the change.
pub async fn run(
    args: &Args,
    settings: &Settings,
    clock: &Clock,
    out: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let connection = connect::store(settings, clock, Purpose::Write).await?;
    let store = &connection.to;
    let id = escape_line(&args.id);
    for _ in 0..=MOST_CONFLICTS {
        let Some(found) = store.webhook(&args.id).await? else {
            return Err(Trouble::new(
                Exit::Failure,
                format!("there is no webhook {id}"),
            ));
        };
        let Some(disabled) = found.disabled.clone() else {
            let inactive = if found.spec.active {
                ""
            } else {
                ", but its owner set active = false"
            };
            writeln!(out, "{id} is not disabled by Pombo{inactive}")?;
            return Ok(Exit::Ok);
        };
        let uid = found.uid.clone();
        let enabled = Webhook {
            disabled: None,
            updated_ms: clock.unix_ms(),
            ..found
        };
        if store.put_webhook(&enabled).await? == Put::Conflict {
            continue;
        }
        store.wake_owner(store.shard_of(&args.id), &[uid]).await?;
        writeln!(
            out,
            "{id} is enabled; it was disabled at {}: {}",
            rfc3339_ms(disabled.at_ms),
            escape_line(&disabled.reason)
        )?;
        if !enabled.spec.active {
            writeln!(out, "it still gets nothing: its owner set active = false")?;
        }
        return Ok(Exit::Ok);
    }
    Err(Trouble::new(
        Exit::Failure,
        format!("somebody else keeps changing the webhook {id}; try again"),
    ))
}
