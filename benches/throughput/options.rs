//! The command line.

use std::path::PathBuf;

/// What this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It runs the others.
    Lead,
    /// The receiver of all deliveries.
    Receiver,
    /// The bare HTTP client.
    Raw,
}

/// What the bare client is to do.
#[derive(Clone, Debug, Default)]
pub struct RawWork {
    pub url: String,
    pub requests: u64,
    pub concurrency: usize,
    pub payload: usize,
    /// Whether the receiver is to speak TLS.
    pub tls: bool,
    /// A root certificate to trust.
    pub ca: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub role: Role,
    pub raw: RawWork,
    pub quick: bool,
    pub compare: bool,
    pub list: bool,
    pub runs: usize,
    pub scenarios: Vec<String>,
    /// Where the receiver's certificate is; without it, it speaks HTTP.
    pub tls: Option<PathBuf>,
}

impl Options {
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            role: Role::Lead,
            raw: RawWork::default(),
            quick: false,
            compare: false,
            list: false,
            runs: 3,
            scenarios: Vec::new(),
            tls: None,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = |what: &str| {
                let given = arguments.next();
                given.ok_or_else(|| format!("{argument} needs {what}"))
            };
            match argument.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--compare" => options.compare = true,
                "--list" => options.list = true,
                "--runs" => options.runs = number(&value("a number")?)?.max(1),
                "--role" => {
                    options.role = match value("a role")?.as_str() {
                        "receiver" => Role::Receiver,
                        "raw" => Role::Raw,
                        other => return Err(format!("there is no role {other}")),
                    };
                }
                "--url" => options.raw.url = value("a URL")?,
                "--requests" => options.raw.requests = number(&value("a number")?)? as u64,
                "--concurrency" => options.raw.concurrency = number(&value("a number")?)?,
                "--ca" => options.raw.ca = Some(value("a file")?.into()),
                "--tls" => options.tls = Some(value("a folder")?.into()),
                "--payload" => options.raw.payload = number(&value("a number")?)?,
                "--help" | "-h" => {
                    return Err(
                        "scripts/bench [--quick] [--runs N] [--compare] [--list] [SCENARIO...]"
                            .to_owned(),
                    );
                }
                flag if flag.starts_with('-') => return Err(format!("there is no {flag}")),
                name => options.scenarios.push(name.to_owned()),
            }
        }
        Ok(options)
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}
