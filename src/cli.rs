//! The commands: what is common to all, and which there are.

pub mod apply;
pub mod check_config;
pub mod client;
pub mod connect;
pub mod dead;
pub mod delivery;
pub mod dev;
pub mod enable;
pub mod event;
pub mod listen;
pub mod openapi;
pub mod pretty;
pub mod progress;
pub mod rejected;
pub mod send;
pub mod serve;
pub mod signature_check;
pub mod table;
pub mod token;
pub mod trouble;
pub mod verify;
pub mod webhook;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::dispatch::threads::ThreadCounts;
use crate::exit::Exit;
use crate::settings::{self, Settings};
use trouble::Trouble;

/// Delivers events from Redis streams to webhooks: signed, with retries, rate limits and dead letters
#[derive(Debug, Parser)]
#[command(name = "pombo", version, after_help = Exit::table())]
struct Arguments {
    /// The settings file [default: /etc/pombo/pombo.toml if it exists]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Settings of a platform, which lie under the file and the environment: jurichat or wts-chat
    #[arg(long, global = true, value_name = "NAME", env = "POMBO_PROFILE")]
    profile: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// Which settings a command was asked to use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    /// The profile, if one was named.
    pub profile: Option<&'a str>,
    /// The file, if one was named.
    pub config: Option<&'a Path>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve,
    /// See it work: starts a Redis, the daemon, subscribers and sample events, and ends all of it with Ctrl-C
    Dev(dev::Args),
    /// Make the webhooks those of a file, and print the difference
    Apply(apply::Args),
    /// Print the settings in force, with secrets hidden, or everything that is wrong with them
    CheckConfig,
    /// List, show, replay and purge deliveries that were given up
    #[command(subcommand)]
    Dead(dead::Dead),
    /// List, show, requeue and purge entries of sources that could not be read as events
    #[command(subcommand)]
    Rejected(rejected::Rejected),
    /// Let a webhook that Pombo disabled have its deliveries again
    Enable(enable::Args),
    /// Add an event to a source, as the platform would
    Send(send::Args),
    /// Make, list, show, change, delete and test webhooks, through the API
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    /// List and show deliveries, and have them sent again, through the API
    #[command(subcommand)]
    Delivery(delivery::Delivery),
    /// Add an event, and follow it to its deliveries, through the API
    #[command(subcommand)]
    Event(event::Event),
    /// Make, list, delete and replace tokens of the API
    #[command(subcommand)]
    Token(token::Token),
    /// Print the API's OpenAPI document, in the words of the settings
    Openapi,
    /// Run a local receiver that verifies and prints what it gets
    Listen(listen::Args),
    /// Check the signatures of a saved request
    Verify(verify::Args),
    /// Print a script that lets a shell complete this command line
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const COMPLETIONS_HELP: &str = "\
Examples:
  pombo completions bash > /usr/share/bash-completion/completions/pombo
  pombo completions zsh > ~/.zfunc/_pombo
  pombo completions fish > ~/.config/fish/completions/pombo.fish";

/// Runs the command that `arguments` ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come as errors too; whether they could be printed changes nothing.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
        }
    };
    match run(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("pombo: {error:#}");
            Exit::Failure
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let given = Given {
        profile: arguments.profile.as_deref(),
        config: arguments.config.as_deref(),
    };
    let (mut out, mut errors) = (std::io::stdout(), std::io::stderr());
    match arguments.command {
        Command::CheckConfig => Ok(check_config::check_config(
            given,
            settings::process_environment(),
            &mut out,
            &mut errors,
        )?),
        Command::Apply(args) => with_settings(given, async |settings| {
            apply::run(&args, settings, &Clock::system(), &mut out, &mut errors).await
        }),
        Command::Dead(command) => with_settings(given, async |settings| {
            dead::run(&command, settings, &Clock::system(), &mut out, &mut errors).await
        }),
        Command::Rejected(command) => with_settings(given, async |settings| {
            rejected::run(&command, settings, &Clock::system(), &mut out, &mut errors).await
        }),
        Command::Enable(args) => with_settings(given, async |settings| {
            enable::run(&args, settings, &Clock::system(), &mut out).await
        }),
        Command::Send(args) => with_settings(given, async |settings| {
            send::run(&args, settings, &Clock::system(), &mut out).await
        }),
        Command::Webhook(command) => with_settings(given, async |settings| {
            webhook::run(&command, settings, &mut out, &mut errors).await
        }),
        Command::Delivery(command) => with_settings(given, async |settings| {
            delivery::run(&command, settings, &Clock::system(), &mut out, &mut errors).await
        }),
        Command::Event(command) => with_settings(given, async |settings| {
            event::run(&command, settings, &mut out, &mut errors).await
        }),
        Command::Token(command) => with_settings(given, async |settings| {
            token::run(&command, settings, &Clock::system(), &mut out, &mut errors).await
        }),
        Command::Openapi => match load(given) {
            Ok(settings) => Ok(openapi::run(&settings, &mut out, &mut errors)?),
            Err(exit) => Ok(exit),
        },
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "pombo", &mut script);
            match out.write_all(&script).and_then(|()| out.flush()) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
                _ => Ok(Exit::Ok),
            }
        }
        Command::Serve => match load(given) {
            Ok(settings) => serve::run(settings),
            Err(exit) => Ok(exit),
        },
        Command::Dev(args) => dev::run(args, given),
        Command::Listen(args) => {
            runtime(1)?.block_on(async {
                let stop = CancellationToken::new();
                serve::cancel_on_signal(stop.clone())?;
                listen::run(args, Clock::system(), stop).await
            })?;
            Ok(Exit::Ok)
        }
        Command::Verify(args) => Ok(verify::run(&args, &Clock::system(), &mut out, &mut errors)?),
    }
}

/// Runs a command that needs the settings, and tells its trouble.
fn with_settings(
    given: Given<'_>,
    command: impl AsyncFnOnce(&Settings) -> Result<Exit, Trouble>,
) -> anyhow::Result<Exit> {
    let settings = match load(given) {
        Ok(settings) => settings,
        Err(exit) => return Ok(exit),
    };
    let runtime = runtime(1)?;
    let exit = runtime.block_on(command(&settings));
    // What still runs then, such as a look-up of a name, has nobody left to tell.
    runtime.shutdown_background();
    Ok(exit.unwrap_or_else(|trouble| {
        if !trouble.message.is_empty() {
            eprintln!("pombo: {trouble}");
        }
        trouble.exit
    }))
}

/// The settings, or what is wrong with them told and the exit code for it.
pub(crate) fn load(given: Given<'_>) -> Result<Settings, Exit> {
    Settings::load(given.profile, given.config, settings::process_environment()).map_err(|error| {
        eprintln!("{error}");
        Exit::Config
    })
}

/// The runtime of everything but lanes, where there are `workers` threads in all; 0 is one for each core.
pub(crate) fn runtime(workers: usize) -> std::io::Result<tokio::runtime::Runtime> {
    match ThreadCounts::of(workers).common {
        1 => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
        workers => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build(),
    }
}
