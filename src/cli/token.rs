//! `pombo token`: API tokens. The first is made straight in Redis; everything else asks the API.

mod remote;

use std::io::Write;

use super::connect::{self, Purpose};
use super::pretty::escape_line;
use super::trouble::Trouble;
use crate::api::caller::is_tenant;
use crate::clock::Clock;
use crate::exit::Exit;
use crate::settings::Settings;
use crate::store::tokens::{Kept, MOST_TOKENS, StoredToken, digest_of};

const LONGEST_NAME: usize = 100;

/// What `pombo token` can do.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  pombo token create --operator
  pombo token list --tenant acme
  pombo token regenerate --tenant acme --grace 1h
  pombo token delete tok_4Yx0")]
pub enum Token {
    /// Make a token, straight in Redis: before any other exists, and without the daemon
    Create(Create),
    /// List tokens, masked, through the API
    List(remote::ListArgs),
    /// Delete a token, through the API: it opens nothing any more
    Delete(remote::DeleteArgs),
    /// Make one new token in the place of all that a tenant has, through the API
    Regenerate(remote::RegenerateArgs),
}

/// The options of `pombo token create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The token is printed once and kept nowhere: Redis holds its SHA-256. The command needs the settings of the daemon, as it
talks to its Redis.

Examples:
  pombo token create --operator
  TOKEN=$(pombo token create --tenant acme --name \"CRM sync\" --quiet)")]
pub struct Create {
    /// A token of the operator: for all tenants
    #[arg(long, conflicts_with = "tenant", required_unless_present = "tenant")]
    operator: bool,
    /// A token of this tenant
    #[arg(long, value_name = "TENANT", value_parser = tenant)]
    tenant: Option<String>,
    /// What the token is called in listings, for people
    #[arg(long, value_name = "NAME", default_value = "command line", value_parser = name)]
    name: String,
    /// Print the token and nothing else
    #[arg(long, short)]
    quiet: bool,
}

fn tenant(text: &str) -> Result<String, String> {
    match is_tenant(text) {
        true => Ok(text.to_owned()),
        false => Err("a tenant is 1 to 256 visible ASCII characters".to_owned()),
    }
}

fn name(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    match (1..=LONGEST_NAME).contains(&length) && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err("a name is 1 to 100 characters, none of them a control character".to_owned()),
    }
}

/// Runs a subcommand; what was asked for goes to `out`, everything else to `errors`.
///
/// # Errors
///
/// Redis or the API cannot be used, or there are too many tokens.
pub async fn run(
    command: &Token,
    settings: &Settings,
    clock: &Clock,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    match command {
        Token::Create(args) => create(args, settings, clock, out).await,
        Token::List(args) => remote::list(args, settings, out, errors).await,
        Token::Delete(args) => remote::delete(args, settings, out).await,
        Token::Regenerate(args) => remote::regenerate(args, settings, out).await,
    }
}

async fn create(
    args: &Create,
    settings: &Settings,
    clock: &Clock,
    out: &mut dyn Write,
) -> Result<Exit, Trouble> {
    let connection = connect::store(settings, clock, Purpose::Write).await?;
    let (text, token) = StoredToken::generate(clock, args.tenant.clone(), args.name.clone(), None);
    if connection.to.put_token(&digest_of(&text), &token).await? == Kept::Full {
        return Err(Trouble::new(
            Exit::Failure,
            format!("there are {MOST_TOKENS} tokens already; delete some first"),
        ));
    }
    if args.quiet {
        writeln!(out, "{}", text.expose())?;
        return Ok(Exit::Ok);
    }
    let whose = match &args.tenant {
        Some(tenant) => format!("the tenant {}", escape_line(tenant)),
        None => "the operator, for all tenants".to_owned(),
    };
    writeln!(out, "{}", text.expose())?;
    writeln!(
        out,
        "\nThis is the token of {whose}; its id is {}. It is shown this once: keep it where secrets are kept.",
        token.id
    )?;
    Ok(Exit::Ok)
}
