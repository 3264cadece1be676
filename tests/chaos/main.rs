//! Breaks Pombo by a seed, and checks every promise afterwards: see `scripts/chaos --help`.

mod checks;
mod daemons;
mod dice;
mod faults;
mod fleet;
mod ledger;
mod options;
mod plan;
mod producer;
mod report;
mod rest;
mod run;
mod schedule;
mod topology;

// The helpers of the integration tests, where they are.
#[path = "../it"]
mod it {
    pub mod support;
}
use it::support;

use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use options::Options;
use report::Outcome;
use schedule::Schedule;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(said) => {
            eprintln!("{said}");
            return ExitCode::from(64);
        }
    };
    if options.table {
        return match report::table() {
            Ok(table) => {
                print!("{table}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(66)
            }
        };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let failed = runtime.block_on(all(Arc::new(options)));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        eprintln!("{failed} runs failed");
        ExitCode::FAILURE
    }
}

/// Runs all seeds; returns how many failed.
async fn all(options: Arc<Options>) -> u64 {
    let mut wanted: Vec<(u64, Arc<Options>)> = Vec::new();
    for seed in options.seeds() {
        wanted.push((seed, options.clone()));
    }
    if options.short {
        // Checks that find nothing prove nothing: one run is there to be found out.
        let sabotaged = Options {
            sabotage: true,
            ..Options::clone(&options)
        };
        wanted.push((1, Arc::new(sabotaged)));
    }
    let room = Arc::new(Semaphore::new(options.jobs));
    let mut runs = JoinSet::new();
    for (seed, options) in wanted {
        let room = room.clone();
        runs.spawn(async move {
            let _place = room.acquire_owned().await;
            one(seed, options).await
        });
    }
    let mut failed = 0;
    while let Some(passed) = runs.join_next().await {
        failed += u64::from(!passed.unwrap_or(false));
    }
    failed
}

/// One run from its schedule to its line in the report. True if it passed.
async fn one(seed: u64, options: Arc<Options>) -> bool {
    let schedule = Schedule::draw(seed, &options);
    let topology = options.topology.name();
    println!(
        "seed {seed}, {topology}, {} daemons:\n{schedule}",
        options.daemons
    );
    if options.only_schedule {
        return true;
    }
    // A thread of its own: what drives a run is one long future that need not move between threads.
    let running = tokio::task::spawn_blocking({
        let options = options.clone();
        move || Handle::current().block_on(run::run(seed, &schedule, &options))
    });
    let outcome = match running.await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => broken(seed, &options, error),
        // Its message is on stderr already.
        Err(panic) => broken(seed, &options, panic.to_string()),
    };
    if options.sabotage {
        let found = outcome.losses > 0 && !outcome.passed();
        let verdict = if found { "found" } else { "NOT FOUND" };
        println!("seed {seed}, sabotaged: {verdict}: {} lost", outcome.losses);
        return found;
    }
    println!("{}", report::tell(&outcome, &options));
    if let Err(error) = report::keep(&outcome) {
        eprintln!("the run could not be kept: {error}");
    }
    outcome.passed()
}

/// A run that the suite itself could not finish.
fn broken(seed: u64, options: &Options, error: String) -> Outcome {
    Outcome {
        topology: options.topology.name().to_owned(),
        seed,
        daemons: options.daemons,
        seconds: options.seconds,
        failures: vec![format!("the run was not finished: {error}")],
        ..Outcome::default()
    }
}
