//! `pombo listen`: a receiver on this machine that checks the signature of whatever it gets and shows it.

mod listener;
mod show;

use std::io::{self, IsTerminal as _, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::signature_check::{Checker, SignatureArgs};
use crate::clock::Clock;

pub use listener::{Delivery, Listener, Reply};
pub use show::{as_json, as_text};

/// How far the time of a signature may be from now, in seconds: what receivers are advised to allow.
pub const TOLERANCE_S: u64 = 300;

/// How deliveries are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The options of `pombo listen`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 9000)]
    pub port: u16,

    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,

    /// How requests are signed. Without a secret nothing is verified.
    #[command(flatten)]
    pub signature: SignatureArgs,

    /// The status to answer with
    #[arg(long, default_value = "200", value_parser = status)]
    pub status: StatusCode,

    /// How long to wait before answering, such as 200ms
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub delay: Duration,

    /// The share of requests to answer with 500 instead, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub fail_rate: f64,

    /// How to show deliveries
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

fn status(text: &str) -> Result<StatusCode, &'static str> {
    let status = text.parse::<StatusCode>().ok();
    status
        .filter(|status| (200..600).contains(&status.as_u16()))
        .ok_or("it must be a number from 200 to 599")
}

fn share(text: &str) -> Result<f64, &'static str> {
    let share = text.parse::<f64>().ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or("it must be a number from 0 to 1")
}

/// Listens and shows what comes on standard output, until `shutdown`.
///
/// # Errors
///
/// A secret that cannot be read, or an address that cannot be listened on.
pub async fn run(args: Args, clock: Clock, shutdown: CancellationToken) -> anyhow::Result<()> {
    let checker = Checker::from_args(&args.signature, TOLERANCE_S)?;
    let verifies = checker.has_secret();
    let address = SocketAddr::new(args.host, args.port);
    let listener = Listener::bind(address, checker, clock.clone())
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    if args.output == Output::Text {
        let remark = if verifies {
            ""
        } else {
            " (signatures are not verified: no --secret)"
        };
        eprintln!("Listening on http://{}{remark}", listener.local_addr());
    }

    let colours = io::stdout().is_terminal() && args.output == Output::Text;
    let out = Mutex::new(io::stdout());
    let stop = shutdown.clone();
    let answer = move |delivery: &Delivery| {
        let fails = args.fail_rate > 0.0 && clock.random_unit() < args.fail_rate;
        let status = if fails {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            args.status
        };
        let shown = match args.output {
            Output::Text => as_text(delivery, status, colours),
            Output::Json => as_json(delivery, status),
        };
        if let Ok(mut out) = out.lock()
            && writeln!(out, "{shown}").and_then(|()| out.flush()).is_err()
        {
            // Nobody reads any more.
            stop.cancel();
        }
        Reply {
            status,
            delay: args.delay,
        }
    };
    listener.serve(answer, shutdown).await;
    Ok(())
}
