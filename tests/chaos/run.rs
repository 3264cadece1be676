//! One run: everything is started, broken, healed and checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pombo::webhook::{BodyMode, Ordering, RateLimit, RetryOverride, Webhook};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::checks::{self, Evidence};
use crate::daemons::{Daemon, SETTINGS, faketime};
use crate::faults::World;
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::plan::{Plan, STREAMS, SUBSCRIBERS};
use crate::producer::{Produced, produce};
use crate::report::{self, Outcome};
use crate::rest;
use crate::schedule::{Kind, Schedule};
use crate::support::pombo::Webhooks;
use crate::topology::Topology;

/// Runs one seed.
///
/// # Errors
///
/// What kept the run itself from being made; what was found wrong stands in the outcome.
pub async fn run(seed: u64, schedule: &Schedule, options: &Options) -> Result<Outcome, String> {
    let clocks = options.faults.contains(&Kind::Clock);
    if clocks && faketime().is_none() {
        return Err("the fault clock needs libfaketime (Debian: faketime)".to_owned());
    }
    let topology = Topology::start(options.topology).await;
    let direct = topology.direct().with(SETTINGS);
    let address = topology.address();
    let ledger = Arc::new(Ledger::new(Plan { seed }));
    let fleet = Fleet::start(ledger.clone())
        .await
        .map_err(|error| format!("no receivers: {error}"))?;
    let mut daemons = Vec::new();
    // The last one is the one that joins and leaves.
    for index in 0..=options.daemons {
        daemons.push(Daemon::new(&topology, index, clocks, ledger.clone()).await);
    }
    let webhooks = direct.webhooks().await;
    let mut world = World {
        topology,
        daemons,
        fleet,
        ledger: ledger.clone(),
        queues: Vec::new(),
        windows: Vec::new(),
        kills: 0,
        verbose: options.verbose,
    };
    for stream in STREAMS {
        let _: String = address
            .run(&["XGROUP", "CREATE", stream, "pombo", "0", "MKSTREAM"])
            .await
            .map_err(|error| error.to_string())?;
    }
    let mut first = true;
    let mut subscribed = Vec::new();
    for daemon in &mut world.daemons[..options.daemons] {
        daemon.start().await;
        if std::mem::take(&mut first) {
            // The number of shards is settled by the first daemon.
            if let Some(process) = daemon.process() {
                process.wait_ready().await;
            }
            subscribed = subscribe(&webhooks, &world.fleet).await;
        }
    }
    for daemon in &world.daemons[..options.daemons] {
        if let Some(process) = daemon.process() {
            process.wait_ready().await;
        }
    }

    world.queues = subscribed
        .iter()
        .map(|webhook| rest::key(&webhooks, webhook, "queue"))
        .collect();

    let stop = CancellationToken::new();
    let produced = Arc::new(Produced::default());
    let mut producing = JoinSet::new();
    let early_ms = ledger.now_ms();
    for stream in 0..STREAMS.len() {
        producing.spawn(produce(
            stream,
            options.rate,
            address.clone(),
            ledger.clone(),
            produced.clone(),
            stop.clone(),
        ));
    }
    world.follow(schedule, early_ms).await;
    let end = ledger.begun() + Duration::from_millis(early_ms + options.seconds * 1_000);
    tokio::time::sleep_until(end).await;
    stop.cancel();
    while producing.join_next().await.is_some() {}
    world.heal().await?;
    webhooks.connected().await;
    let rested = rest::wait(&address, &webhooks, &subscribed, options.verbose).await;

    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    for kind in &schedule.faults {
        *faults.entry(kind.name().to_owned()).or_default() += 1;
    }
    let mut outcome = Outcome {
        topology: options.topology.name().to_owned(),
        seed,
        daemons: options.daemons,
        seconds: options.seconds,
        faults,
        ..Outcome::default()
    };
    match rested {
        Ok(took) => outcome.rest_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        Err(left) => outcome
            .failures
            .push(format!("it does not come to rest: {}", left.join("; "))),
    }
    let mut evidence = Evidence {
        address,
        webhooks: &webhooks,
        subscribed: &subscribed,
        world: &mut world,
        produced: produced.all(),
        outcome: &mut outcome,
    };
    checks::all(&mut evidence)
        .await
        .map_err(|error| format!("a check could not be made: {error}"))?;
    outcome.kills = world.kills;
    if options.verbose || !outcome.passed() {
        keep_logs(seed, &world);
    }
    for daemon in &mut world.daemons {
        daemon.terminate();
    }
    for daemon in &mut world.daemons {
        daemon.left().await;
    }
    let (_, told) = ledger.wrongs();
    for wrong in told {
        if !outcome.failures.contains(&wrong) {
            outcome.failures.push(wrong);
        }
    }
    Ok(outcome)
}

async fn subscribe(webhooks: &Webhooks, fleet: &Fleet) -> Vec<Webhook> {
    let mut made = Vec::new();
    for (index, one) in SUBSCRIBERS.iter().enumerate() {
        let change = |spec: &mut pombo::webhook::WebhookSpec| {
            if one.fifo {
                spec.ordering = Ordering::Fifo;
            }
            spec.rate_limit = one
                .rate
                .map(|(per_second, burst)| RateLimit { per_second, burst });
            spec.max_in_flight = one.max_in_flight;
            spec.body_mode = one.payload_only.then_some(BodyMode::Payload);
            spec.retry = one.max_attempts.map(|max_attempts| RetryOverride {
                max_attempts: Some(max_attempts),
                ..RetryOverride::default()
            });
        };
        let url = fleet.url(index);
        made.push(webhooks.make(one.id, &url, one.events, change).await);
    }
    made
}

fn keep_logs(seed: u64, world: &World) {
    let directory = report::directory().join(format!("seed-{seed}"));
    let kept = std::fs::create_dir_all(&directory).and_then(|()| {
        for daemon in &world.daemons {
            for (process, log) in daemon.logs.iter().enumerate() {
                let file = directory.join(format!("d{}.{process}.log", daemon.index));
                std::fs::write(file, log.lines().join("\n"))?;
            }
        }
        Ok(())
    });
    if let Err(error) = kept {
        eprintln!("the logs could not be kept: {error}");
    }
}
