//! `pombo event`: adds events and follows them to their deliveries, through the API.

use std::io::Write;

use reqwest::Method;
use reqwest::header::HeaderName;
use serde_json::json;

use super::client::{self, ApiArgs, ApiClient, Ask};
use super::delivery::show;
use super::pretty::escape_line;
use super::progress::Output;
use super::trouble::Trouble;
use super::webhook::fields;
use crate::exit::Exit;
use crate::settings::Settings;

/// The subcommands of `pombo event`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
They ask the API, so that they work from anywhere; `pombo send` adds an event without it, by Redis.

Examples:
  pombo event send crm.lead.created '{\"name\":\"Ada\"}' --tenant acme
  jq -c .order order.json | pombo event send order.created - --id ord_4711 --idempotency-key ord_4711
  pombo event deliveries ord_4711 --tenant acme")]
pub enum Event {
    /// Add an event
    Send(SendArgs),
    /// List the deliveries of an event
    Deliveries(DeliveriesArgs),
}

/// The options of `pombo event send`.
#[derive(Debug, clap::Args)]
pub struct SendArgs {
    /// The event's type, such as crm.lead.created
    #[arg(value_name = "TYPE")]
    event_type: String,

    /// The payload; "-" reads it from standard input
    #[arg(value_name = "JSON", default_value = "{}")]
    payload: String,

    /// The tenant whose event it is, for the operator; `default` if it is not given
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,

    /// The event's id; one is made if it is not given
    #[arg(long)]
    id: Option<String>,

    /// When it happened, such as 2026-03-13T12:00:00Z; now, if it is not given
    #[arg(long, value_name = "TIME")]
    time: Option<String>,

    /// The source to add it to, by its name in the daemon's settings; not needed if there is but one
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// The stream, for a source that stands for several
    #[arg(long)]
    stream: Option<String>,

    /// The same key with the same event adds it once, for 24 hours
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo event deliveries`.
#[derive(Debug, clap::Args)]
pub struct DeliveriesArgs {
    /// The event's id
    #[arg(value_name = "EVENT_ID", value_parser = client::id)]
    id: String,

    /// The tenant whose event it is, which the operator must say
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,

    #[command(flatten)]
    api: ApiArgs,
}

/// Runs a subcommand; what was asked for goes to `out`, everything else to `errors`.
///
/// # Errors
///
/// Says what kept it from being done.
pub async fn run(
    command: &Event,
    settings: &Settings,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    match command {
        Event::Send(args) => send(args, settings, out).await,
        Event::Deliveries(args) => {
            let client = ApiClient::new(&args.api, settings)?;
            let path = ["events", args.id.as_str(), "deliveries"];
            let ask = Ask::of(&path).with(&client.tenant_field, args.tenant.as_ref());
            let found = client.ask(Method::GET, ask).await?;
            if args.api.output == Output::Json {
                writeln!(out, "{}", found.pretty())?;
                return Ok(Exit::Ok);
            }
            if !show::list(&found.json["data"], out)? {
                writeln!(errors, "no deliveries")?;
            }
            if found.json["complete"] == false {
                writeln!(
                    errors,
                    "there can be more: only the newest deliveries of so many webhooks were looked at"
                )?;
            }
            Ok(Exit::Ok)
        }
    }
}

async fn send(args: &SendArgs, settings: &Settings, out: &mut dyn Write) -> Result<Exit, Trouble> {
    let client = ApiClient::new(&args.api, settings)?;
    let payload = fields::payload(&args.payload, settings.largest_event_body())?;
    let mut event = json!({ "type": args.event_type });
    for (name, value) in [
        (client.tenant_field.as_str(), &args.tenant),
        ("id", &args.id),
        ("time", &args.time),
        ("source", &args.source),
        ("stream", &args.stream),
    ] {
        if let Some(value) = value {
            event[name] = value.as_str().into();
        }
    }
    let mut ask = Ask::of(&["events"]);
    ask.body = Some(fields::with_payload(&event, &payload).into_bytes());
    if let Some(key) = &args.idempotency_key {
        let name = HeaderName::from_static("idempotency-key");
        ask.headers.push((name, key.clone()));
    }
    let added = client.ask(Method::POST, ask).await?;
    match args.api.output {
        Output::Json => writeln!(out, "{}", added.pretty())?,
        Output::Table => {
            let again = match added.headers.contains_key("idempotency-replayed") {
                true => " before",
                false => "",
            };
            let line = format!(
                "{} was added{again} to the stream {} as {}",
                added.text_of("id"),
                added.text_of("stream"),
                added.text_of("entryId")
            );
            writeln!(out, "{}", escape_line(&line))?;
        }
    }
    Ok(Exit::Ok)
}
