//! `pombo delivery`: lists and shows deliveries, and has them sent again, through the API.

mod retry;
pub mod show;

use std::io::Write;

use jiff::Timestamp;
use reqwest::Method;

use super::client::{self, ApiArgs, ApiClient, Ask};
use super::progress::Output;
use super::trouble::Trouble;
use crate::clock::{Clock, rfc3339_ms};
use crate::exit::Exit;
use crate::settings::Settings;
use crate::settings::units::parse_duration;

/// The subcommands of `pombo delivery`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
They ask the API, so that they work from anywhere; `pombo token create` makes a token.

Examples:
  pombo delivery list wh_4Yx0 --status FAILED --since 1h
  pombo delivery show wh_4Yx0.kbM2e1v0zAq3mJ8sQw5tLg
  pombo delivery retry wh_4Yx0.kbM2e1v0zAq3mJ8sQw5tLg
  pombo delivery retry --webhook wh_4Yx0 --status FAILED --since 2d --dry-run
  pombo delivery retry --webhook wh_4Yx0 --status FAILED --since 2d --wait")]
pub enum Delivery {
    /// List a webhook's deliveries, the newest first, a page at a time
    List(ListArgs),
    /// Show a delivery with its payload and every attempt
    Show(ShowArgs),
    /// Have deliveries that failed, or wait for a retry, attempted again
    Retry(retry::RetryArgs),
    /// Show how far a retry of many has come
    Job(retry::JobArgs),
}

/// Which deliveries of a webhook are meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Which {
    /// Only those of this status: PENDING, RETRYING, SUCCESS or FAILED
    #[arg(long, value_name = "STATUS", ignore_case = true, value_parser = ["PENDING", "RETRYING", "SUCCESS", "FAILED"])]
    status: Option<String>,

    /// Only those of events of this type
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,

    /// Only those of events since then: a time as 2026-03-13T12:00:00Z, or an age such as 2h
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<When>,

    /// Only those of events until then: a time, or an age
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<When>,
}

/// A moment on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This moment.
    At(Timestamp),
    /// So many milliseconds ago.
    Ago(u64),
}

fn when(text: &str) -> Result<When, &'static str> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(When::At(at));
    }
    match parse_duration(text) {
        Ok(age) => Ok(When::Ago(
            u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        )),
        Err(_) => Err(
            "it must be a time with its zone, such as 2026-03-13T12:00:00Z, or an age such as 2h",
        ),
    }
}

impl When {
    fn text(self, now_ms: u64) -> String {
        match self {
            When::At(at) => at.to_string(),
            When::Ago(ms) => rfc3339_ms(now_ms.saturating_sub(ms)),
        }
    }
}

impl Which {
    /// What was given, under the API's names.
    fn given(&self, now_ms: u64) -> Vec<(&'static str, String)> {
        let moment = |when: Option<When>| when.map(|when| when.text(now_ms));
        [
            (
                "status",
                self.status
                    .as_ref()
                    .map(|status| status.to_ascii_uppercase()),
            ),
            ("event", self.event.clone()),
            ("since", moment(self.since)),
            ("until", moment(self.until)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// The options of `pombo delivery list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// The webhook
    #[arg(value_name = "WEBHOOK_ID", value_parser = client::id)]
    webhook: String,

    #[command(flatten)]
    which: Which,

    /// Which page, from 1
    #[arg(long, value_name = "N", default_value_t = 1)]
    page: u64,

    /// Deliveries on a page, 1 to 100
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u64,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo delivery show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The delivery
    #[arg(value_name = "DELIVERY_ID", value_parser = client::id)]
    id: String,

    #[command(flatten)]
    api: ApiArgs,
}

/// Runs a subcommand; what was asked for goes to `out`, everything else to `errors`.
///
/// # Errors
///
/// Says what kept it from being done.
pub async fn run(
    command: &Delivery,
    settings: &Settings,
    clock: &Clock,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let now_ms = clock.unix_ms();
    match command {
        Delivery::List(args) => list(args, settings, now_ms, out, errors).await,
        Delivery::Show(args) => {
            let client = ApiClient::new(&args.api, settings)?;
            let path = ["webhooks", "deliveries", &args.id];
            let found = client.ask(Method::GET, Ask::of(&path)).await?;
            match args.api.output {
                Output::Json => writeln!(out, "{}", found.pretty())?,
                Output::Table => show::whole(&found.json, &found.text, out)?,
            }
            Ok(Exit::Ok)
        }
        Delivery::Retry(args) => retry::retry(args, settings, now_ms, out, errors).await,
        Delivery::Job(args) => retry::job(args, settings, out).await,
    }
}

async fn list(
    args: &ListArgs,
    settings: &Settings,
    now_ms: u64,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let client = ApiClient::new(&args.api, settings)?;
    let path = ["webhooks", args.webhook.as_str(), "deliveries"];
    let mut ask = Ask::of(&path)
        .with("page", Some(args.page))
        .with("limit", Some(args.limit));
    for (name, value) in args.which.given(now_ms) {
        ask = ask.with(name, Some(value));
    }
    let page = client.ask(Method::GET, ask).await?;
    if args.api.output == Output::Json {
        writeln!(out, "{}", page.pretty())?;
        return Ok(Exit::Ok);
    }
    if !show::list(&page.json["data"], out)? {
        writeln!(errors, "no deliveries")?;
        return Ok(Exit::Ok);
    }
    let count = |name: &str| page.json[name].as_u64().unwrap_or_default();
    let at_least = page
        .headers
        .get("pombo-total")
        .is_some_and(|total| total == "at-least");
    let is_best_effort = page
        .headers
        .get("pombo-order")
        .is_some_and(|order| order == "best-effort");
    if is_best_effort {
        writeln!(
            errors,
            "there was too much to look at: newer deliveries may be missing here"
        )?;
    }
    let (pages, total) = (count("totalPages"), count("total"));
    if pages > 1 {
        writeln!(
            errors,
            "page {} of {pages}, {}{total} deliveries; --page shows another",
            args.page,
            if at_least { "at least " } else { "" }
        )?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_an_age() {
        let now_ms = 1_773_403_200_000;
        assert_eq!(when("2h").unwrap().text(now_ms), "2026-03-13T10:00:00.000Z");
        let at = when("2026-03-13T12:00:00-03:00").unwrap();
        assert_eq!(at.text(now_ms), "2026-03-13T15:00:00Z");
        for wrong in ["yesterday", "2026-03-13", ""] {
            assert!(when(wrong).is_err(), "{wrong}");
        }
    }
}
