//! Having deliveries attempted again: single ones, or many of a webhook as a job of the API.

use std::io::Write;
use std::time::Duration;

use indicatif::ProgressBar;
use reqwest::Method;
use serde_json::{Value, json};

use super::Which;
use crate::cli::client::{self, ApiArgs, ApiClient, Ask};
use crate::cli::dead::stop_on_signal;
use crate::cli::pretty::escape_line;
use crate::cli::progress::{self, Output};
use crate::cli::table::field;
use crate::cli::trouble::Trouble;
use crate::exit::Exit;
use crate::settings::Settings;

/// How often a job's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often in a row looking may fail before it is given up: the job goes on whatever happens here.
const MOST_FAILURES: u32 = 20;

/// The options of `pombo delivery retry`.
#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    /// Ids of deliveries, as `pombo delivery list` prints them
    #[arg(value_name = "DELIVERY_ID", value_parser = client::id, required_unless_present = "webhook")]
    ids: Vec<String>,

    /// Many of this webhook: all that failed, unless the other options choose some
    #[arg(long, value_name = "WEBHOOK_ID", value_parser = client::id, conflicts_with = "ids")]
    webhook: Option<String>,

    #[command(flatten)]
    which: Which,

    /// Count what would be retried, and change nothing
    #[arg(long, requires = "webhook")]
    dry_run: bool,

    /// Wait until all of them are back in the queue
    #[arg(long, requires = "webhook", conflicts_with = "dry_run")]
    wait: bool,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo delivery job`.
#[derive(Debug, clap::Args)]
pub struct JobArgs {
    /// The webhook
    #[arg(value_name = "WEBHOOK_ID", value_parser = client::id)]
    webhook: String,

    /// The job, as `pombo delivery retry --webhook` prints it
    #[arg(value_name = "JOB_ID", value_parser = client::id)]
    job: String,

    /// Wait for its end
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    api: ApiArgs,
}

/// `pombo delivery retry`.
pub(super) async fn retry(
    args: &RetryArgs,
    settings: &Settings,
    now_ms: u64,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let given = args.which.given(now_ms);
    if args.webhook.is_none() && !given.is_empty() {
        return Err(Trouble::new(
            Exit::Usage,
            "the options that choose deliveries need --webhook",
        ));
    }
    let client = ApiClient::new(&args.api, settings)?;
    match &args.webhook {
        Some(webhook) => many(args, webhook, given, &client, out, errors).await,
        None => singles(args, &client, out, errors).await,
    }
}

async fn singles(
    args: &RetryArgs,
    client: &ApiClient,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let mut exit = Exit::Ok;
    for id in &args.ids {
        let path = ["webhooks", "deliveries", id, "retry"];
        match client.ask(Method::POST, Ask::of(&path)).await {
            Ok(answer) if args.api.output == Output::Json => {
                writeln!(out, "{}", answer.pretty())?;
            }
            Ok(answer) => {
                let message = escape_line(answer.text_of("message"));
                writeln!(out, "{id}: {message}")?;
            }
            // One that cannot be retried says nothing of the others.
            Err(trouble) if args.ids.len() > 1 && trouble.exit == Exit::Failure => {
                writeln!(errors, "{}", trouble.within(id))?;
                exit = Exit::Failure;
            }
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(exit)
}

async fn many(
    args: &RetryArgs,
    webhook: &str,
    given: Vec<(&'static str, String)>,
    client: &ApiClient,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let mut body = json!({});
    for (name, value) in given {
        body[name] = value.into();
    }
    if args.dry_run {
        body["dryRun"] = true.into();
    }
    let path = ["webhooks", webhook, "deliveries", "retry"];
    let answer = client.ask(Method::POST, Ask::of(&path).body(&body)).await?;
    if args.dry_run {
        match args.api.output {
            Output::Json => writeln!(out, "{}", answer.pretty())?,
            Output::Table => {
                let matched = answer.json["matched"].as_u64().unwrap_or_default();
                let at_least = match answer.json["exact"] == false {
                    true => "at least ",
                    false => "",
                };
                writeln!(out, "{at_least}{} would be retried", deliveries(matched))?;
            }
        }
        return Ok(Exit::Ok);
    }
    let job = answer.text_of("id");
    if !args.wait {
        match args.api.output {
            Output::Json => writeln!(out, "{}", answer.pretty())?,
            Output::Table => {
                show(&answer.json, out)?;
                writeln!(
                    errors,
                    "`pombo delivery job {webhook} {}` tells how far it is",
                    escape_line(job)
                )?;
            }
        }
        return Ok(Exit::Ok);
    }
    follow(client, webhook, job, &args.api, out).await
}

/// `pombo delivery job`.
pub(super) async fn job(
    args: &JobArgs,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let client = ApiClient::new(&args.api, settings)?;
    if args.wait {
        return follow(&client, &args.webhook, &args.job, &args.api, out).await;
    }
    let path = ["webhooks", args.webhook.as_str(), "jobs", args.job.as_str()];
    let found = client.ask(Method::GET, Ask::of(&path)).await?;
    match args.api.output {
        Output::Json => writeln!(out, "{}", found.pretty())?,
        Output::Table => show(&found.json, out)?,
    }
    Ok(outcome(&found.json))
}

/// Looks at a job until it has ended; it goes on when this ends first.
async fn follow(
    client: &ApiClient,
    webhook: &str,
    job: &str,
    args: &ApiArgs,
    out: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let stop = stop_on_signal()?;
    let path = ["webhooks", webhook, "jobs", job];
    let bar = progress::bar(None);
    let (mut failures, mut sized) = (0, false);
    let ended = loop {
        match client.ask(Method::GET, Ask::of(&path)).await {
            Ok(found) => {
                failures = 0;
                if !sized && let Some(matched) = found.json["matched"].as_u64() {
                    bar.set_length(matched);
                    sized = true;
                }
                bar.set_position(done(&found.json));
                if !is_running(&found.json) {
                    break found;
                }
            }
            Err(trouble) if trouble.exit == Exit::Unavailable && failures < MOST_FAILURES => {
                failures += 1;
            }
            Err(trouble) => {
                bar.finish_and_clear();
                return Err(trouble);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => {
                return interrupted(&bar, webhook, job);
            }
        }
    };
    bar.finish_and_clear();
    match args.output {
        Output::Json => writeln!(out, "{}", ended.pretty())?,
        Output::Table => show(&ended.json, out)?,
    }
    Ok(outcome(&ended.json))
}

fn interrupted(bar: &ProgressBar, webhook: &str, job: &str) -> Result<Exit, Trouble> {
    bar.finish_and_clear();
    Err(Trouble::new(
        Exit::Interrupted,
        format!("the job goes on: `pombo delivery job {webhook} {job}` tells how far it is"),
    ))
}

fn is_running(job: &Value) -> bool {
    job["status"] == "running"
}

/// How many of a job's deliveries have been gone through.
fn done(job: &Value) -> u64 {
    let counts = ["retried", "skipped", "failed"];
    counts.iter().filter_map(|name| job[*name].as_u64()).sum()
}

/// Whether all that could be retried was, as far as the job has come.
fn outcome(job: &Value) -> Exit {
    let failed = job["failed"].as_u64().unwrap_or_default() > 0;
    match job["status"].as_str() {
        Some("running" | "finished") if !failed => Exit::Ok,
        _ => Exit::Failure,
    }
}

fn deliveries(count: u64) -> String {
    match count {
        1 => "1 delivery".to_owned(),
        count => format!("{count} deliveries"),
    }
}

fn show(job: &Value, out: &mut dyn Write) -> std::io::Result<()> {
    for (head, name) in [
        ("job", "id"),
        ("webhook", "webhookId"),
        ("status", "status"),
        ("error", "error"),
        ("begun", "startedAt"),
        ("ended", "finishedAt"),
    ] {
        let text = job[name].as_str().unwrap_or_default();
        if !text.is_empty() {
            field(out, head, text)?;
        }
    }
    for name in ["matched", "retried", "skipped", "failed"] {
        if let Some(count) = job[name].as_u64() {
            field(out, name, &count.to_string())?;
        }
    }
    Ok(())
}
