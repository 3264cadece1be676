//! `pombo webhook`: makes, lists, shows, changes, deletes and tests webhooks through the API.

pub(super) mod fields;
mod show;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ETAG, IF_MATCH};
use serde_json::{Value, json};

use super::client::{self, ApiArgs, ApiClient, Ask, Reply};
use super::progress::{self, Output};
use super::trouble::Trouble;
use crate::exit::Exit;
use crate::settings::Settings;
use crate::settings::units::parse_duration;

use fields::FieldArgs;

/// The subcommands of `pombo webhook`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
They ask the API, so that they work from anywhere; `pombo token create` makes a token.

Examples:
  export POMBO_URL=https://hooks.example.com POMBO_TOKEN=pmb_...
  pombo webhook create --name ERP --target https://erp.example.com/hooks --event 'crm.lead.*'
  pombo webhook list --output json | jq -r '.[] | select(.isActive | not).id'
  pombo webhook update wh_4Yx0 --event crm.lead.created --event contact.created
  pombo webhook rotate-secret wh_4Yx0 --grace 2d
  pombo webhook test wh_4Yx0 --event crm.lead.created")]
pub enum Webhook {
    /// Make a webhook, and print its secret
    Create(CreateArgs),
    /// List webhooks with what became of their deliveries
    List(ListArgs),
    /// Show a webhook
    Show(ShowArgs),
    /// Change what is given, and nothing else
    Update(UpdateArgs),
    /// Delete a webhook with its queue, its retries, its dead letters and its history
    Delete(DeleteArgs),
    /// Replace the secret; both sign until the grace is over
    RotateSecret(RotateArgs),
    /// Send a test delivery now, and show how it went
    Test(TestArgs),
}

/// The options of `pombo webhook create`.
#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    #[command(flatten)]
    fields: FieldArgs,

    /// The tenant whose webhook it is, for the operator; `default` if it is not given
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,

    /// A file that holds the secret and nothing else; one is made if it is not given
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo webhook list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only this tenant's, for the operator; all tenants' if it is not given
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo webhook show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The webhook
    #[arg(value_name = "WEBHOOK_ID", value_parser = client::id)]
    id: String,

    /// Show the secret and the values of its headers, too; JSON always has them
    #[arg(long)]
    secrets: bool,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo webhook update`.
#[derive(Debug, clap::Args)]
pub struct UpdateArgs {
    /// The webhook
    #[arg(value_name = "WEBHOOK_ID", value_parser = client::id)]
    id: String,

    #[command(flatten)]
    fields: FieldArgs,

    /// Have it get deliveries again, also after Pombo disabled it
    #[arg(long, conflicts_with = "inactive")]
    active: bool,

    /// Take a field's value away, such as description, headers or rateLimit; may be given more than once
    #[arg(long, value_name = "FIELD")]
    clear: Vec<String>,

    /// Change it only if it still has this version, which `pombo webhook show` prints
    #[arg(long, value_name = "VERSION")]
    if_match: Option<String>,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo webhook delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// The webhook
    #[arg(value_name = "WEBHOOK_ID", value_parser = client::id)]
    id: String,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo webhook rotate-secret`.
#[derive(Debug, clap::Args)]
pub struct RotateArgs {
    /// The webhook
    #[arg(value_name = "WEBHOOK_ID", value_parser = client::id)]
    id: String,

    /// How long the old secret signs as well, such as 2d [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    grace: Option<Duration>,

    /// A file that holds the new secret and nothing else; one is made if it is not given
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo webhook test`.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// The webhook
    #[arg(value_name = "WEBHOOK_ID", value_parser = client::id)]
    id: String,

    /// The event type to send a sample of, from the catalogue [default: webhook.test]
    #[arg(long, value_name = "TYPE")]
    event: Option<String>,

    /// The payload instead of a sample, as JSON; "-" reads it from standard input
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,

    #[command(flatten)]
    api: ApiArgs,
}

/// Runs a subcommand; what was asked for goes to `out`, everything else to `errors`.
///
/// # Errors
///
/// Says what kept it from being done.
pub async fn run(
    command: &Webhook,
    settings: &Settings,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    match command {
        Webhook::Create(args) => {
            let client = ApiClient::new(&args.api, settings)?;
            let mut body = args.fields.body()?;
            if let Some(tenant) = &args.tenant {
                body[&client.tenant_field] = tenant.as_str().into();
            }
            if let Some(secret) = fields::secret_of(args.secret_file.as_deref())? {
                body["secret"] = secret;
            }
            let ask = Ask::of(&["webhooks"]).body(&body);
            let made = client.ask(Method::POST, ask).await?;
            one(&client, &made, &args.api, true, out)
        }
        Webhook::List(args) => {
            let client = ApiClient::new(&args.api, settings)?;
            let ask = Ask::of(&["webhooks"]).with(&client.tenant_field, args.tenant.as_ref());
            let listed = client.ask(Method::GET, ask).await?;
            if args.api.output == Output::Json {
                writeln!(out, "{}", listed.pretty())?;
            } else if !show::list(&client, &listed.json, out)? {
                writeln!(errors, "no webhooks")?;
            }
            Ok(Exit::Ok)
        }
        Webhook::Show(args) => {
            let client = ApiClient::new(&args.api, settings)?;
            let path = ["webhooks", &args.id];
            let found = client.ask(Method::GET, Ask::of(&path)).await?;
            one(&client, &found, &args.api, args.secrets, out)
        }
        Webhook::Update(args) => update(args, settings, out).await,
        Webhook::Delete(args) => {
            progress::can_confirm(args.yes)?;
            let client = ApiClient::new(&args.api, settings)?;
            let path = ["webhooks", args.id.as_str()];
            // What is asked about must be there, and the question names it.
            let found = client.ask(Method::GET, Ask::of(&path)).await?;
            let question = format!(
                "delete the webhook {} ({}), with everything that waits for it?",
                args.id,
                super::pretty::escape_line(found.text_of("name"))
            );
            if !progress::confirmed(&question, args.yes)? {
                return Ok(Exit::Failure);
            }
            client.ask(Method::DELETE, Ask::of(&path)).await?;
            if args.api.output == Output::Table {
                writeln!(out, "the webhook {} is deleted", args.id)?;
            }
            Ok(Exit::Ok)
        }
        Webhook::RotateSecret(args) => rotate(args, settings, out).await,
        Webhook::Test(args) => test(args, settings, out).await,
    }
}

fn one(
    client: &ApiClient,
    webhook: &Reply,
    args: &ApiArgs,
    secrets: bool,
    out: &mut dyn Write,
) -> Result<Exit, Trouble> {
    match args.output {
        Output::Json => writeln!(out, "{}", webhook.pretty())?,
        Output::Table => {
            let version = webhook
                .headers
                .get(ETAG)
                .and_then(|etag| etag.to_str().ok());
            show::whole(client, &webhook.json, version, secrets, out)?;
        }
    }
    Ok(Exit::Ok)
}

async fn update(
    args: &UpdateArgs,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let client = ApiClient::new(&args.api, settings)?;
    let mut body = args.fields.body()?;
    if args.active {
        body["isActive"] = true.into();
    }
    for field in &args.clear {
        body[field] = Value::Null;
    }
    if body.as_object().is_some_and(|fields| fields.is_empty()) {
        return Err(Trouble::new(
            Exit::Usage,
            "say what to change: see `pombo webhook update --help`",
        ));
    }
    let path = ["webhooks", args.id.as_str()];
    let mut ask = Ask::of(&path).body(&body);
    if let Some(version) = &args.if_match {
        // As a header it stands in quotes, which shells take away.
        let version = match version.starts_with('"') || version == "*" {
            true => version.clone(),
            false => format!("\"{version}\""),
        };
        ask.headers.push((IF_MATCH, version));
    }
    let changed = client.ask(Method::PATCH, ask).await?;
    one(&client, &changed, &args.api, false, out)
}

async fn rotate(
    args: &RotateArgs,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let client = ApiClient::new(&args.api, settings)?;
    let mut body = json!({});
    if let Some(grace) = args.grace {
        body["graceSeconds"] = grace.as_secs().into();
    }
    if let Some(secret) = fields::secret_of(args.secret_file.as_deref())? {
        body["secret"] = secret;
    }
    let path = ["webhooks", args.id.as_str(), "secret", "rotate"];
    let rotated = client.ask(Method::POST, Ask::of(&path).body(&body)).await?;
    match args.api.output {
        Output::Json => writeln!(out, "{}", rotated.pretty())?,
        Output::Table => {
            super::table::field(out, "secret", rotated.text_of("secret"))?;
            let until = rotated.text_of("secretRotationEndsAt");
            if !until.is_empty() {
                super::table::field(out, "old one until", until)?;
            }
        }
    }
    Ok(Exit::Ok)
}

async fn test(args: &TestArgs, settings: &Settings, out: &mut dyn Write) -> Result<Exit, Trouble> {
    let client = ApiClient::new(&args.api, settings)?;
    let mut body = json!({});
    if let Some(event) = &args.event {
        body["event"] = event.as_str().into();
    }
    let mut text = body.to_string();
    if let Some(payload) = &args.payload {
        let payload = fields::payload(payload, settings.largest_event_body())?;
        text = fields::with_payload(&body, &payload);
    }
    let path = ["webhooks", args.id.as_str(), "test"];
    let mut ask = Ask::of(&path);
    ask.body = Some(text.into_bytes());
    let tested = client.ask(Method::POST, ask).await?;
    match args.api.output {
        Output::Json => writeln!(out, "{}", tested.pretty())?,
        Output::Table => show::test(&tested.json, out)?,
    }
    Ok(match tested.text_of("status") {
        "SUCCESS" => Exit::Ok,
        _ => Exit::Failure,
    })
}
