//! `pombo verify`: does the signature of a saved request hold?

mod saved;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::pretty::escape_line;
use super::signature_check::{Check, Checker, Checks, SignatureArgs};
use crate::clock::Clock;
use crate::exit::Exit;

use saved::SavedRequest;

/// The largest saved request that is read, in bytes.
const MAX_SAVED: u64 = 128 * 1024 * 1024;

/// The options of `pombo verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How the request is signed
    #[command(flatten)]
    pub signature: SignatureArgs,

    /// How far the signature's time may be from now, in seconds, or "none" for any distance
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = tolerance)]
    pub tolerance: u64,

    /// The time to take for now, as Unix seconds; by default this machine's
    #[arg(long, value_name = "UNIX")]
    pub now: Option<u64>,

    /// The saved request: headers, an empty line, the body; "-" reads standard input
    #[arg(value_name = "FILE")]
    pub file: String,
}

fn tolerance(text: &str) -> Result<u64, &'static str> {
    match text {
        "none" => Ok(u64::MAX),
        _ => text
            .parse()
            .map_err(|_| "it must be a number of seconds, or none"),
    }
}

/// Reads the saved request and says on `out` what its signatures are worth; complaints go to `errors`.
///
/// [`Exit::Ok`] if it is signed and nothing is wrong with that, [`Exit::Failure`] if not, [`Exit::Usage`] without a secret,
/// [`Exit::NoInput`] for a file that cannot be read, [`Exit::Data`] for one that is no request.
///
/// # Errors
///
/// `out` or `errors` cannot be written to.
pub fn run(
    args: &Args,
    clock: &Clock,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<Exit> {
    let checker = match Checker::from_args(&args.signature, args.tolerance) {
        Ok(checker) if checker.has_secret() => checker,
        Ok(_) => {
            writeln!(
                errors,
                "error: give the webhook's secret with --secret or --secret-file"
            )?;
            return Ok(Exit::Usage);
        }
        Err(error) => {
            writeln!(errors, "error: {error:#}")?;
            return Ok(Exit::NoInput);
        }
    };
    let bytes = match read(&args.file) {
        Ok(bytes) => bytes,
        Err(error) => {
            writeln!(errors, "error: cannot read {}: {error}", args.file)?;
            return Ok(Exit::NoInput);
        }
    };
    let request = match SavedRequest::parse(&bytes) {
        Ok(request) => request,
        Err(reason) => {
            writeln!(errors, "error: {} is no saved request: {reason}", args.file)?;
            return Ok(Exit::Data);
        }
    };
    let now = args.now.unwrap_or_else(|| clock.unix_ms() / 1000);
    verify(&request, &checker, now, out)
}

fn read(file: &str) -> io::Result<Vec<u8>> {
    let input: Box<dyn Read> = if file == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(Path::new(file))?)
    };
    let mut bytes = Vec::new();
    input.take(MAX_SAVED + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SAVED {
        return Err(io::Error::other("it is larger than any delivery"));
    }
    Ok(bytes)
}

fn verify(
    request: &SavedRequest<'_>,
    checker: &Checker,
    now: u64,
    out: &mut dyn Write,
) -> io::Result<Exit> {
    let of_any_age = checker.of_any_age();
    let mut body = request.body;
    if let Some(without) = request.body_without_line_end()
        && of_any_age.check(&request.headers, without, now).hold()
    {
        writeln!(out, "(the line end after the body is not part of it)")?;
        body = without;
    }
    if let Some(remark) = request.remark() {
        writeln!(out, "({remark})")?;
    }
    let checks = checker.check(&request.headers, body, now);
    let aged = of_any_age.check(&request.headers, body, now);
    let header = checker.header().as_str();
    let tolerance = checker.tolerance_s();
    for (name, check, aged) in [
        (header, &checks.signature, &aged.signature),
        ("webhook-signature", &checks.standard, &aged.standard),
    ] {
        writeln!(out, "{name}: {}", in_words(check, aged, tolerance))?;
    }
    writeln!(out, "{}", verdict(&checks))?;
    Ok(if checks.hold() {
        Exit::Ok
    } else {
        Exit::Failure
    })
}

fn in_words(check: &Check, of_any_age: &Check, tolerance: u64) -> String {
    match check {
        Check::Verified => "verified".to_owned(),
        Check::Missing | Check::Unchecked => "not there".to_owned(),
        Check::Failed(_) if *of_any_age == Check::Verified => format!(
            "WRONG TIME: it is right for this secret and body, but was made more than {tolerance} s from now \
             (--tolerance none, or --now, checks a request that was saved earlier)"
        ),
        Check::Failed(reason) => format!("WRONG: {}", escape_line(reason)),
    }
}

fn verdict(checks: &Checks) -> &'static str {
    if checks.hold() {
        "The request is genuine."
    } else if checks.signature == Check::Missing && checks.standard == Check::Missing {
        "The request is not signed."
    } else {
        "The request is not to be trusted."
    }
}

#[cfg(test)]
mod tests;
