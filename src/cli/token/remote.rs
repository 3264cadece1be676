//! Tokens through the API: what needs a token already.

use std::io::Write;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::cli::client::{self, ApiArgs, ApiClient, Ask};
use crate::cli::progress::{self, Output};
use crate::cli::table::{Table, field};
use crate::cli::trouble::Trouble;
use crate::exit::Exit;
use crate::settings::Settings;
use crate::settings::units::parse_duration;

/// The options of `pombo token list`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only this tenant's, for the operator; all if it is not given
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo token delete`.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// The token's id, as `pombo token list` prints it
    #[arg(value_name = "TOKEN_ID", value_parser = client::id)]
    id: String,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    api: ApiArgs,
}

/// The options of `pombo token regenerate`.
#[derive(Debug, clap::Args)]
pub struct RegenerateArgs {
    /// The tenant whose tokens are replaced, for the operator; `default` if it is not given
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,

    /// The new token's name, for people
    #[arg(long)]
    name: Option<String>,

    /// How long the old tokens still open the API, such as 1h; not at all if it is not given
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    grace: Option<Duration>,

    /// Print the token and nothing else
    #[arg(long, short)]
    quiet: bool,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    api: ApiArgs,
}

pub(super) async fn list(
    args: &ListArgs,
    settings: &Settings,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let client = ApiClient::new(&args.api, settings)?;
    let ask = Ask::of(&["tokens"]).with(&client.tenant_field, args.tenant.as_ref());
    let listed = client.ask(Method::GET, ask).await?;
    if args.api.output == Output::Json {
        writeln!(out, "{}", listed.pretty())?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("ID", 40),
        ("TENANT", 24),
        ("NAME", 32),
        ("TOKEN", 20),
        ("CREATED", 24),
        ("EXPIRES", 24),
    ]);
    for token in listed.json.as_array().into_iter().flatten() {
        let text = |name: &str| token[name].as_str().unwrap_or_default().to_owned();
        let or_dash = |text: String| if text.is_empty() { "-".into() } else { text };
        let tenant = match client.tenant_of(token) {
            "" => "(operator)".to_owned(),
            tenant => tenant.to_owned(),
        };
        table.row([
            text("id"),
            tenant,
            or_dash(text("name")),
            text("token"),
            text("createdAt"),
            or_dash(text("expiresAt")),
        ]);
    }
    if table.is_empty() {
        writeln!(errors, "no tokens")?;
    }
    table.print(out)?;
    Ok(Exit::Ok)
}

pub(super) async fn delete(
    args: &DeleteArgs,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<Exit, Trouble> {
    progress::can_confirm(args.yes)?;
    let client = ApiClient::new(&args.api, settings)?;
    let question = format!(
        "delete the token {}? Whoever uses it is locked out",
        args.id
    );
    if !progress::confirmed(&question, args.yes)? {
        return Ok(Exit::Failure);
    }
    let path = ["tokens", args.id.as_str()];
    client.ask(Method::DELETE, Ask::of(&path)).await?;
    if args.api.output == Output::Table {
        writeln!(out, "the token {} is deleted", args.id)?;
    }
    Ok(Exit::Ok)
}

pub(super) async fn regenerate(
    args: &RegenerateArgs,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<Exit, Trouble> {
    progress::can_confirm(args.yes)?;
    let client = ApiClient::new(&args.api, settings)?;
    let whose = match &args.tenant {
        Some(tenant) => format!("the tenant {tenant}"),
        None => "the tenant".to_owned(),
    };
    let question = format!("replace all tokens of {whose} by a new one?");
    if !progress::confirmed(&question, args.yes)? {
        return Ok(Exit::Failure);
    }
    let mut body = json!({});
    if let Some(tenant) = &args.tenant {
        body[&client.tenant_field] = tenant.as_str().into();
    }
    if let Some(name) = &args.name {
        body["name"] = name.as_str().into();
    }
    if let Some(grace) = args.grace {
        body["graceSeconds"] = grace.as_secs().into();
    }
    let ask = Ask::of(&["tokens", "regenerate"]).body(&body);
    let made = client.ask(Method::POST, ask).await?;
    let text = |name: &str| made.json[name].as_str().unwrap_or_default();
    match args.api.output {
        _ if args.quiet => writeln!(out, "{}", text("token"))?,
        Output::Json => writeln!(out, "{}", made.pretty())?,
        Output::Table => {
            field(out, "token", text("token"))?;
            field(out, "id", text("id"))?;
            field(out, "tenant", client.tenant_of(&made.json))?;
            field(out, "name", text("name"))?;
            writeln!(
                out,
                "It is shown this once: Pombo keeps only what tells whether it is right."
            )?;
        }
    }
    Ok(Exit::Ok)
}
