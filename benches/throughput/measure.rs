//! One scenario after the other, each several times, with the bare client in turn.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;

use crate::options::{Options, RawWork};
use crate::report::{self, Figures, Measured};
use crate::scenarios::{self, How, Pace, Scenario};
use crate::world::{World, raw_rate};
use crate::{special, usage};

pub async fn run(options: Options) -> ExitCode {
    let all = scenarios::all();
    if options.list {
        for scenario in &all {
            println!("{:14} {}", scenario.name, scenario.says);
        }
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = options
        .scenarios
        .iter()
        .find(|name| !all.iter().any(|scenario| scenario.name == **name))
    {
        eprintln!("there is no scenario {unknown}; --list names them");
        return ExitCode::from(2);
    }
    let picked = all
        .into_iter()
        .filter(|scenario| {
            options.scenarios.is_empty()
                || options.scenarios.iter().any(|name| name == scenario.name)
        })
        .map(|scenario| {
            if options.quick {
                scenario.quick()
            } else {
                scenario
            }
        });
    let runs = if options.quick { 1 } else { options.runs };
    let mut measured: Vec<Measured> = Vec::new();
    for scenario in picked {
        let mut figures = Vec::new();
        for run in 1..=runs {
            figures.push(measure(&scenario, &format!("{} {run}/{runs}", scenario.name)).await);
        }
        measured.push(Measured { scenario, figures });
    }
    eprintln!();
    report::print(&measured);
    let whole = report::write(&measured);
    if options.compare {
        report::compare(&measured);
    }
    if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn measure(scenario: &Scenario, title: &str) -> Figures {
    match scenario.how {
        How::Deliver => deliver(scenario, title).await,
        How::Idle => special::idle(scenario, title).await,
        How::Backlog => special::backlog(scenario, title).await,
        How::Restart => special::restart(scenario, title).await,
    }
}

async fn deliver(scenario: &Scenario, title: &str) -> Figures {
    progress(&format!("{title}: the bare client"));
    let raw = RawWork {
        url: String::new(),
        requests: scenario.deliveries_of(0, scenario.events).max(10_000),
        concurrency: scenario.concurrency(),
        payload: scenario.payload,
        tls: scenario.tls,
        ca: None,
    };
    let raw_rate = match scenario.pace {
        Pace::Flood => raw_rate(&raw),
        Pace::Steady(_) => 0.0,
    };
    progress(&format!("{title}: starting"));
    let mut world = World::start(scenario).await;
    // Connections, caches and the allocator's first pages are not what is measured.
    let warm_up = scenario.groups_once();
    world.add(scenario, 0, warm_up).await;
    let warm = scenario.deliveries_of(0, warm_up);
    let warm = world.settled(warm, |_| {}).await;
    world.reset().await;
    let daemons: Vec<u32> = world.daemons.iter().map(|daemon| daemon.0.id()).collect();
    let (redis, receiver) = (world.redis.0.id(), world.receiver.0.id());
    let queued_before = world.sum("pombo_fanout_queued_total ").await;
    let cpu = |pids: &[u32]| pids.iter().map(|pid| usage::cpu(*pid)).sum::<Duration>();
    let before = (cpu(&daemons), cpu(&[redis]), cpu(&[receiver]));
    let beside = scenario.api_requests;
    let api = (beside > 0).then(|| tokio::spawn(special::ask_api(world.api_port, beside)));
    let started = Instant::now();
    let (from, to) = (warm_up, warm_up + scenario.events);
    match scenario.pace {
        Pace::Flood => world.add(scenario, from, to).await,
        Pace::Steady(rate) => steadily(&mut world, scenario, from, to, rate).await,
    }
    let wanted = scenario.deliveries_of(from, to);
    let settled = world
        .settled(wanted, |done| {
            progress(&format!("{title}: {done} of {wanted}"))
        })
        .await;
    let took = started.elapsed();
    let mut extra = vec![("seconds", took.as_secs_f64())];
    if let Some(api) = api {
        api.abort();
        extra.push(("API requests answered", special::answered(&world).await));
    }
    let counts = world.counts().await;
    let each = |spent: Duration| spent.as_micros() as f64 / wanted as f64;
    let queued = world.sum("pombo_fanout_queued_total ").await - queued_before;
    Figures {
        per_second: wanted as f64 / took.as_secs_f64(),
        raw_per_second: raw_rate,
        daemon_us: each(cpu(&daemons) - before.0),
        redis_us: each(cpu(&[redis]) - before.1),
        receiver_us: each(cpu(&[receiver]) - before.2),
        daemon_peak_bytes: daemons.iter().map(|pid| usage::peak_memory(*pid)).sum(),
        queued_share: queued / wanted as f64,
        p50_ms: counts.quantile_ms(0.5),
        p99_ms: counts.quantile_ms(0.99),
        p999_ms: counts.quantile_ms(0.999),
        longest_ms: counts.longest_us as f64 / 1_000.0,
        duplicates: counts.duplicates,
        lost: if settled && warm {
            0
        } else {
            wanted.saturating_sub(counts.received - counts.duplicates)
        },
        extra,
    }
}

impl Scenario {
    /// As many events as it takes until every webhook had a few.
    fn groups_once(&self) -> u64 {
        match self.webhooks / self.fanout {
            0 | 1 => 3,
            groups => groups * 10,
        }
    }
}

/// Adds events at an even pace, some every 5 ms.
async fn steadily(world: &mut World, scenario: &Scenario, from: u64, to: u64, rate: u64) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut next = from;
    while next < to {
        ticks.tick().await;
        let due = from + (started.elapsed().as_secs_f64() * rate as f64) as u64;
        let end = due.min(to);
        if end > next {
            world.add(scenario, next, end).await;
            next = end;
        }
    }
}

pub fn progress(text: &str) {
    eprint!("\r\x1b[K{text}");
    let _ = std::io::stderr().flush();
}
