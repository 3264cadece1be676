//! Which signatures a request carries, and whether they hold: what `listen` and `verify` have in common.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use http::{HeaderMap, HeaderName};

use crate::settings::Secret;
use crate::signature::{Scheme, verify, verify_standard};

/// The options that say how requests are signed.
#[derive(Clone, Debug, clap::Args)]
pub struct SignatureArgs {
    /// The webhook's secret; may be given more than once while one is rotated
    #[arg(long, value_name = "SECRET", value_parser = secret, hide_env_values = true)]
    pub secret: Vec<Secret>,

    /// A file that holds the secret and nothing else; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub secret_file: Vec<PathBuf>,

    /// How the signature header is made: timestamped, sha256 or hex
    #[arg(long, default_value = "timestamped", value_parser = scheme)]
    pub scheme: Scheme,

    /// The name of the signature header
    #[arg(long, value_name = "NAME", default_value = "x-signature")]
    pub header: HeaderName,
}

fn secret(text: &str) -> Result<Secret, &'static str> {
    if text.is_empty() {
        return Err("a secret cannot be empty");
    }
    Ok(Secret::new(text))
}

fn scheme(text: &str) -> Result<Scheme, &'static str> {
    match text {
        "timestamped" => Ok(Scheme::Timestamped),
        "sha256" => Ok(Scheme::Sha256),
        "hex" => Ok(Scheme::Hex),
        _ => Err("it must be timestamped, sha256 or hex"),
    }
}

/// What came of checking one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// There is no secret to check with.
    Unchecked,
    /// The request carries no such signature.
    Missing,
    /// It fits the secret and the body, and its time is near enough.
    Verified,
    /// It does not, for this reason.
    Failed(String),
}

impl Check {
    /// One word for programs to read.
    pub fn as_str(&self) -> &'static str {
        match self {
            Check::Unchecked => "unchecked",
            Check::Missing => "missing",
            Check::Verified => "verified",
            Check::Failed(_) => "failed",
        }
    }

    /// Why it failed, if it did.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Check::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}

/// Both signatures of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// The signature header of Pombo's settings, by default `x-signature`.
    pub signature: Check,
    /// The Standard Webhooks signature.
    pub standard: Check,
}

impl Checks {
    /// Whether there is a signature and none that is wrong.
    pub fn hold(&self) -> bool {
        let both = [&self.signature, &self.standard];
        both.contains(&&Check::Verified)
            && both
                .iter()
                .all(|check| matches!(check, Check::Verified | Check::Missing))
    }
}

/// Checks the signatures of requests.
#[derive(Clone, Debug)]
pub struct Checker {
    secrets: Vec<Secret>,
    header: HeaderName,
    scheme: Scheme,
    tolerance_s: u64,
}

impl Checker {
    /// `tolerance_s` is how far a signature's time may be from now, in seconds, either way. Without `secrets` nothing is
    /// checked.
    pub fn new(secrets: Vec<Secret>, header: HeaderName, scheme: Scheme, tolerance_s: u64) -> Self {
        Self {
            secrets,
            header,
            scheme,
            tolerance_s,
        }
    }

    /// A checker as the options say.
    ///
    /// # Errors
    ///
    /// A file that holds no secret.
    pub fn from_args(args: &SignatureArgs, tolerance_s: u64) -> anyhow::Result<Self> {
        let mut secrets = args.secret.clone();
        for path in &args.secret_file {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read the secret in {}", path.display()))?;
            let text = text.trim_end_matches(['\r', '\n']);
            let secret = secret(text)
                .map_err(anyhow::Error::msg)
                .with_context(|| path.display().to_string())?;
            secrets.push(secret);
        }
        let header = args.header.clone();
        Ok(Self::new(secrets, header, args.scheme, tolerance_s))
    }

    /// Whether there is a secret to check with.
    pub fn has_secret(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// The header that carries the signature.
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// How far a signature's time may be from now, in seconds.
    pub fn tolerance_s(&self) -> u64 {
        self.tolerance_s
    }

    /// The same checks for signatures of any age.
    pub fn of_any_age(&self) -> Self {
        Self {
            tolerance_s: u64::MAX,
            ..self.clone()
        }
    }

    /// Checks both signatures of a request with these headers and this body.
    pub fn check(&self, headers: &HeaderMap, body: &[u8], now_unix_s: u64) -> Checks {
        if !self.has_secret() {
            return Checks {
                signature: Check::Unchecked,
                standard: Check::Unchecked,
            };
        }
        Checks {
            signature: self.check_signature(headers, body, now_unix_s),
            standard: self.check_standard(headers, body, now_unix_s),
        }
    }

    fn check_signature(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Check {
        let value = match only(headers, self.header.as_str()) {
            Ok(Some(value)) => value,
            Ok(None) => return Check::Missing,
            Err(reason) => return Check::Failed(reason),
        };
        let secrets = &self.secrets;
        match verify(self.scheme, secrets, value, body, now, self.tolerance_s) {
            Ok(()) => Check::Verified,
            Err(error) => Check::Failed(error.to_string()),
        }
    }

    fn check_standard(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Check {
        let value = |name: &'static str| only(headers, name);
        let (id, time, signature) = match (
            value("webhook-id"),
            value("webhook-timestamp"),
            value("webhook-signature"),
        ) {
            (Ok(Some(id)), Ok(Some(time)), Ok(Some(signature))) => (id, time, signature),
            (Err(reason), _, _) | (_, Err(reason), _) | (_, _, Err(reason)) => {
                return Check::Failed(reason);
            }
            (_, _, Ok(None)) => return Check::Missing,
            _ => return Check::Failed("webhook-id or webhook-timestamp is missing".to_owned()),
        };
        let tolerance = self.tolerance_s;
        match verify_standard(&self.secrets, id, time, signature, body, now, tolerance) {
            Ok(()) => Check::Verified,
            Err(error) => Check::Failed(error.to_string()),
        }
    }
}

/// The value of a header that may appear once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(format!("{name} appears more than once"));
    }
    match value.to_str() {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(format!("{name} is not plain ASCII")),
    }
}
