//! `pombo token`: who may call the API.

mod remote;

use std::io::Write;

use super::trouble::Trouble;
use crate::exit::Exit;
use crate::settings::Settings;

/// The subcommands of `pombo token`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  pombo token list --tenant acme
  pombo token regenerate --tenant acme --grace 1h
  pombo token delete tok_4Yx0")]
pub enum Token {
    /// List tokens, masked
    List(remote::ListArgs),
    /// Delete a token: it opens nothing any more
    Delete(remote::DeleteArgs),
    /// Make one new token in the place of all that a tenant has
    Regenerate(remote::RegenerateArgs),
}

/// Runs a subcommand; what was asked for goes to `out`, everything else to `errors`.
///
/// # Errors
///
/// Says what kept it from being done.
pub async fn run(
    command: &Token,
    settings: &Settings,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<Exit, Trouble> {
    match command {
        Token::List(args) => remote::list(args, settings, out, errors).await,
        Token::Delete(args) => remote::delete(args, settings, out).await,
        Token::Regenerate(args) => remote::regenerate(args, settings, out).await,
    }
}
