//! One scenario after the other, each several times, with the bare client in turn.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::bare::{self, Bare};
use crate::deliver::{self, Delivered};
use crate::figures::{Measured, Run};
use crate::options::{HELP, Options, RawWork};
use crate::progress::Progress;
use crate::scenarios::{How, Pace, Scenario};
use crate::usage::MachineSince;
use crate::{accepted, list, report, special};

pub async fn run(options: Options) -> ExitCode {
    if options.help {
        print!("{HELP}");
        for scenario in list::all() {
            let mark = if scenario.in_quick { '*' } else { ' ' };
            println!("{mark} {:15} {}", scenario.name, scenario.says);
        }
        return ExitCode::SUCCESS;
    }
    let in_quick = |scenario: &Scenario| scenario.in_quick;
    let picked = match options.pick(list::all(), |scenario| scenario.name, in_quick) {
        Ok(picked) => picked,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    // Read before hours are spent on what cannot be compared.
    let before = match accepted::read(&accepted::file()) {
        Ok(before) => before,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    // All that runs and all that lies about goes with the world that a run holds, which is dropped with it.
    let (mut ended, mut interrupted) = (
        ended_by(SignalKind::terminate()),
        ended_by(SignalKind::interrupt()),
    );
    let all = tokio::select! {
        all = all(picked, &options) => all,
        _ = ended.recv() => return ExitCode::from(128 + 15),
        _ = interrupted.recv() => return ExitCode::from(128 + 2),
    };
    Progress::end();
    report::tell(&options, &all, before)
}

fn ended_by(kind: SignalKind) -> tokio::signal::unix::Signal {
    signal(kind).expect("a signal that can be waited for")
}

async fn all(picked: Vec<Scenario>, options: &Options) -> Vec<Measured> {
    let mut all = Vec::new();
    for scenario in picked {
        let mut measured = Measured {
            name: scenario.name,
            says: scenario.says,
            runs: Vec::new(),
        };
        let mut turns = Turns::of(scenario, options.quick);
        for run in 1..=options.runs {
            let title = format!("{} {run}/{}", measured.name, options.runs);
            measured.runs.push(turns.run(&Progress::of(title)).await);
        }
        all.push(measured);
    }
    all
}

/// A scenario, and what is measured in turn with it: before a run and after it, so that a machine that drifts does so for
/// both. What came after one run is at the same time what comes before the next.
struct Turns {
    scenario: Scenario,
    quick: bool,
    base: Option<Scenario>,
    bare_before: Option<Bare>,
    base_before: Option<Delivered>,
    /// The even pace of the base, the same in all its runs.
    pace: Option<u64>,
}

impl Turns {
    fn of(scenario: Scenario, quick: bool) -> Turns {
        let sized = |scenario: Scenario| if quick { scenario.quick() } else { scenario };
        Turns {
            base: scenario.base.and_then(list::named).map(sized),
            scenario: sized(scenario),
            quick,
            bare_before: None,
            base_before: None,
            pace: None,
        }
    }

    async fn run(&mut self, progress: &Progress) -> Run {
        let bare_before = self.bare(progress, true).await;
        let base_before = self.base(progress, true).await;
        let scenario = &self.scenario;
        let machine = MachineSince::now();
        let mut run = match scenario.how {
            How::Deliver => {
                let delivered = deliver::deliver(scenario, self.pace, self.quick, progress).await;
                delivered.run
            }
            How::Idle => special::idle(scenario, self.quick, progress).await,
            How::Backlog => special::backlog(scenario, self.quick, progress).await,
            How::Restart => special::restart(scenario, self.quick, progress).await,
        };
        run.insert("stolen_percent", machine.stolen_percent());
        // A first look has no time for what comes after.
        if !self.quick {
            self.base_before = self.base(progress, false).await;
            self.bare_before = self.bare(progress, false).await;
        }
        if let Some(before) = bare_before {
            let after = self.bare_before.as_ref().unwrap_or(&before);
            compare_with_bare(&mut run, &before.mean(after), &self.scenario);
        }
        if let Some(before) = base_before {
            let after = self.base_before.as_ref().unwrap_or(&before);
            compare_with_base(&mut run, &before, after);
        }
        run
    }

    /// Runs the bare client; or takes what it came to after the run before.
    async fn bare(&mut self, progress: &Progress, take: bool) -> Option<Bare> {
        let scenario = &self.scenario;
        if scenario.how != How::Deliver {
            return None;
        }
        if take && self.bare_before.is_some() {
            return self.bare_before.take();
        }
        let flood = scenario.pace == Pace::Flood;
        let deliveries = scenario.deliveries_of(0, scenario.events);
        let work = RawWork {
            // Fewer would only tell how long it takes to start.
            requests: if flood {
                deliveries.max(20_000)
            } else {
                deliveries
            },
            rate: match scenario.pace {
                Pace::Flood => 0,
                Pace::Steady(rate) => rate * scenario.fanout,
            },
            concurrency: scenario.concurrency(),
            payload: scenario.payload,
            tls: scenario.tls,
            ..RawWork::default()
        };
        progress.step("the bare client");
        Some(bare::measure(&work).await)
    }

    /// Runs the scenario that this one is measured by; or takes what it came to after the run before.
    async fn base(&mut self, progress: &Progress, take: bool) -> Option<Delivered> {
        let base = self.base.as_ref()?;
        if take && self.base_before.is_some() {
            return self.base_before.take();
        }
        progress.step(&format!("{} in turn", base.name));
        // Half of what the base makes: nothing waits for more than its turn, and yet all have work to do.
        let pace = (self.scenario.how == How::Deliver).then_some(self.pace.unwrap_or(0));
        let delivered = deliver::deliver(base, pace, self.quick, progress).await;
        self.pace = delivered.pace;
        Some(delivered)
    }
}

fn compare_with_bare(run: &mut Run, bare: &Bare, scenario: &Scenario) {
    let of = |run: &Run, key| run.get(key).copied().unwrap_or(0.0);
    if scenario.pace == Pace::Flood {
        run.insert("bare_per_second", bare.per_second);
        run.insert("ratio", of(run, "per_second") / bare.per_second);
    } else {
        run.insert("bare_p50_ms", bare.p50_ms);
        run.insert("bare_p99_ms", bare.p99_ms);
    }
    run.insert("bare_client_us", bare.client_us);
    run.insert("bare_receiver_us", bare.receiver_us);
    if bare.client_us > 0.0 {
        run.insert("daemon_of_bare", of(run, "daemon_us") / bare.client_us);
        run.insert("redis_of_bare", of(run, "redis_us") / bare.client_us);
    }
}

fn compare_with_base(run: &mut Run, before: &Delivered, after: &Delivered) {
    let base = (before.received_per_second + after.received_per_second) / 2.0;
    run.insert("base_per_second", base);
    if let Some(received) = run.get("received_per_second").copied() {
        run.insert("rate_of_base", received / base);
    }
    let (Some(before), Some(after)) = (before.paced_p99_ms, after.paced_p99_ms) else {
        return;
    };
    let base = (before + after) / 2.0;
    run.insert("base_p99_ms", base);
    if let Some(p99) = run.get("paced_p99_ms").copied() {
        run.insert("p99_of_base", p99 / base);
    }
}
