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
    /// It becomes another program, which ends with the process that started it.
    Tied,
}

/// What the bare client is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawWork {
    pub url: String,
    pub requests: u64,
    pub concurrency: usize,
    pub payload: usize,
    /// Requests a second; 0 for as many as there can be.
    pub rate: u64,
    /// Whether the receiver is to speak TLS.
    pub tls: bool,
    /// A root certificate to trust.
    pub ca: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub role: Role,
    pub raw: RawWork,
    pub quick: bool,
    pub compare: bool,
    pub accept: bool,
    pub help: bool,
    pub runs: usize,
    pub scenarios: Vec<String>,
    /// Where the receiver's certificate is; without it, it speaks HTTP.
    pub tls: Option<PathBuf>,
    /// The process to end with.
    pub parent: u32,
    /// The program to become, with its arguments.
    pub program: Vec<String>,
}

impl Options {
    /// # Errors
    ///
    /// What is wrong with them, and what to do.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            role: Role::Lead,
            raw: RawWork::default(),
            quick: false,
            compare: false,
            accept: false,
            help: false,
            runs: 0,
            scenarios: Vec::new(),
            tls: None,
            parent: 0,
            program: Vec::new(),
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
                "--accept" => options.accept = true,
                "--help" | "-h" | "--list" => options.help = true,
                "--runs" => options.runs = number(&value("how many")?)?,
                "--role" => {
                    options.role = match value("a role")?.as_str() {
                        "receiver" => Role::Receiver,
                        "raw" => Role::Raw,
                        "tied" => Role::Tied,
                        other => return Err(format!("there is no role {other}")),
                    };
                }
                "--parent" => options.parent = number(&value("a process id")?)?,
                "--url" => options.raw.url = value("a URL")?,
                "--requests" => options.raw.requests = number(&value("how many")?)?,
                "--concurrency" => options.raw.concurrency = number(&value("how many")?)?,
                "--rate" => options.raw.rate = number(&value("how many")?)?,
                "--payload" => options.raw.payload = number(&value("a size")?)?,
                "--ca" => options.raw.ca = Some(value("a file")?.into()),
                "--tls" => options.tls = Some(value("a folder")?.into()),
                "--" => options.program.extend(arguments.by_ref()),
                flag if flag.starts_with('-') => {
                    return Err(format!("there is no {flag}; --help says what there is"));
                }
                name => options.scenarios.push(name.to_owned()),
            }
        }
        if options.accept && options.quick {
            return Err("--accept is for runs of full length, not for --quick".to_owned());
        }
        if options.runs == 0 {
            options.runs = if options.quick { 1 } else { 3 };
        }
        Ok(options)
    }

    /// The scenarios that were asked for, out of `all`, in their order.
    ///
    /// # Errors
    ///
    /// Which of them there is none of, and what there is.
    pub fn pick<T>(
        &self,
        all: Vec<T>,
        name: impl Fn(&T) -> &'static str,
        in_quick: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, String> {
        let unknown = |asked: &&String| !all.iter().any(|one| name(one) == asked.as_str());
        if let Some(unknown) = self.scenarios.iter().find(unknown) {
            let names: Vec<&str> = all.iter().map(&name).collect();
            return Err(format!(
                "there is no scenario {unknown}; there are: {}",
                names.join(", ")
            ));
        }
        let asked = |one: &T| match self.scenarios.is_empty() {
            true => !self.quick || in_quick(one),
            false => self.scenarios.iter().any(|asked| asked == name(one)),
        };
        Ok(all.into_iter().filter(asked).collect())
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// What `--help` says before the scenarios.
pub const HELP: &str = "\
scripts/bench [OPTION...] [SCENARIO...]

Measures how many deliveries a second Pombo makes on this machine, what each costs, and how that compares with the bare HTTP
client, which is measured in turn with it. Prints tables and writes target/bench/throughput.json. Needs redis-server.

  --quick       a tenth of the events, once: a first look of about a minute. Sizes that goals name are not reached then
  --runs N      how often each scenario is run (3; 1 with --quick); figures are medians
  --compare     prints how ratios and memory differ from those that were accepted last, and points out what is worse by more
                than a tenth
  --accept      keeps ratios and memory of this run as accepted, in benches/throughput/accepted.json; scenarios that were not
                run keep theirs
  --help        this text

Ends with 0; with 1 if a delivery was lost or came twice; with 2 if the command line is wrong. A goal that is not met or a
figure that is worse does not change it: both depend on what else the machine does, and are for people to judge.

Without names, all scenarios are run (with --quick, those with a *):
";
