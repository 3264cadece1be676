//! What is asked for on the command line.

use pombo::clock::Clock;

use crate::schedule::Kind;

pub const USAGE: &str = "\
Runs daemons, Redis, receivers and a producer, breaks them as a seed tells, and checks every promise at the end.

  scripts/chaos [OPTION]...

  --topology NAME   single (default), sentinel or cluster
  --runs N          runs, with the seeds S, S+1, ... (1)
  --seconds N       how long events and faults last in each run (20)
  --seed N          the first seed (from the clock)
  --daemons N       daemons, 1 to 8 (2)
  --rate N          events a second (150)
  --faults A,B      only these faults (all that the topology has)
  --jobs N          runs at the same time (1)
  --short           what scripts/test runs: three short runs of fixed seeds, at the same time, and a sabotaged one
  --sabotage        the suite itself loses deliveries: passes if the checks find that out
  --verbose         tell each fault when it is done, and keep the daemons' logs of every run
  --schedule        no run: print what each seed would do
  --table           no run: sum target/chaos/runs.jsonl up as a table in Markdown

A failing run prints the one command that repeats it, and keeps the daemons' logs in target/chaos/.";

/// The seeds of the short form: within their six seconds they have kill -9 of daemons and of Redis, a hand-over, a daemon
/// that joins, SIGSTOP, a silent network, a cut reply, a lost group, flushed scripts and a full Redis.
const SHORT: [u64; 3] = [26, 29, 42];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    Single,
    Sentinel,
    Cluster,
}

impl Topology {
    pub fn name(self) -> &'static str {
        match self {
            Topology::Single => "single",
            Topology::Sentinel => "sentinel",
            Topology::Cluster => "cluster",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    pub topology: Topology,
    pub runs: u64,
    pub seconds: u64,
    pub seed: u64,
    pub daemons: usize,
    pub rate: u64,
    pub faults: Vec<Kind>,
    pub jobs: usize,
    pub verbose: bool,
    pub table: bool,
    pub only_schedule: bool,
    pub short: bool,
    pub sabotage: bool,
}

impl Options {
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            topology: Topology::Single,
            runs: 1,
            seconds: 20,
            seed: Clock::system().unix_ms() % 1_000_000_000,
            daemons: 2,
            rate: 150,
            faults: Vec::new(),
            jobs: 1,
            verbose: false,
            table: false,
            only_schedule: false,
            short: false,
            sabotage: false,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let (name, mut given) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            match name.as_str() {
                "--short" => {
                    (options.seconds, options.jobs) = (6, 4);
                    options.short = true;
                    continue;
                }
                "--verbose" => {
                    options.verbose = true;
                    continue;
                }
                "--schedule" => {
                    options.only_schedule = true;
                    continue;
                }
                "--sabotage" => {
                    options.sabotage = true;
                    continue;
                }
                "--table" => {
                    options.table = true;
                    continue;
                }
                "--help" | "-h" => return Err(USAGE.to_owned()),
                _ => {}
            }
            let value = given.take().or_else(|| arguments.next());
            let value = value.ok_or_else(|| format!("{name} needs a value\n\n{USAGE}"))?;
            options.set(&name, &value)?;
        }
        if options.faults.is_empty() {
            options.faults = Kind::all(options.topology);
        }
        for kind in &options.faults {
            if !Kind::all(options.topology).contains(kind) {
                let (kind, topology) = (kind.name(), options.topology.name());
                return Err(format!(
                    "there is no fault {kind} with --topology {topology}"
                ));
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = |low: u64, high: u64| match value.parse::<u64>() {
            Ok(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(format!(
                "{name} is a number from {low} to {high}, not {value:?}"
            )),
        };
        match name {
            "--topology" => {
                self.topology = match value {
                    "single" => Topology::Single,
                    "sentinel" => Topology::Sentinel,
                    "cluster" => Topology::Cluster,
                    _ => return Err(format!("no topology {value:?}: single, sentinel, cluster")),
                }
            }
            "--runs" => self.runs = number(1, 100_000)?,
            "--seconds" => self.seconds = number(3, 3_600)?,
            "--seed" => self.seed = number(0, u64::MAX)?,
            "--daemons" => self.daemons = number(1, 8)? as usize,
            "--rate" => self.rate = number(2, 5_000)?,
            "--jobs" => self.jobs = number(1, 64)? as usize,
            "--faults" => {
                self.faults = value
                    .split(',')
                    .map(|name| {
                        let known = || Kind::ALL.map(Kind::name).join(", ");
                        Kind::named(name).ok_or_else(|| format!("no fault {name:?}: {}", known()))
                    })
                    .collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("unknown option {name}\n\n{USAGE}")),
        }
        Ok(())
    }

    /// The seeds of all runs.
    pub fn seeds(&self) -> Vec<u64> {
        match self.short {
            true => SHORT.to_vec(),
            false => (0..self.runs)
                .map(|run| self.seed.wrapping_add(run))
                .collect(),
        }
    }

    /// The command that repeats the run of one seed.
    pub fn replay(&self, seed: u64) -> String {
        let faults = if self.faults == Kind::all(self.topology) {
            String::new()
        } else {
            let names: Vec<&str> = self.faults.iter().map(|kind| kind.name()).collect();
            format!(" --faults {}", names.join(","))
        };
        format!(
            "scripts/chaos --topology {} --daemons {} --seconds {} --rate {}{faults} --seed {seed}",
            self.topology.name(),
            self.daemons,
            self.seconds,
            self.rate,
        )
    }
}
