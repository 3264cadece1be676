//! `pombo dev`: all of it in one terminal. A Redis of its own, the daemon, subscribers, and two platforms' events.
//!
//! Order of starting: the folder's lock, Redis, the subscribers' ports and webhooks, the daemon, then the events. Order
//! of stopping: the events, the daemon (what flies lands), the subscribers, Redis.

mod folder;
mod redis;
mod samples;
mod settings;
mod show;
mod subscribers;
mod tally;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::folder::Folder;
use self::redis::{PrivateRedis, RedisError, Socket};
use self::settings::Made;
use self::show::{Line, Screen, What};
use self::subscribers::Ready;
use self::tally::Tally;
use crate::cli::Given;
use crate::clock::Clock;
use crate::daemon::Daemon;
use crate::event::EntryId;
use crate::exit::Exit;
use crate::logging;
use crate::metrics::Metrics;
use crate::settings::Secret;
use crate::store::Store;
use crate::store::connection::LinkState;
use crate::store::source::add_entry;

/// How long it may take until the daemon is ready, and how long nothing may happen once all events are sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often dead letters are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Dead letters read at a time.
const BATCH: usize = 500;

/// The options of `pombo dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Events a second, 0.1 to 1000
    #[arg(long, default_value_t = 2.0, value_parser = rate)]
    pub rate: f64,

    /// Stop after this many events, once each of their deliveries has ended
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub events: Option<u64>,

    /// The port of the metrics; 0 picks a free one, for the API too [default: 9464, and 8080 for the API, if they are free]
    #[arg(long)]
    pub port: Option<u16>,

    /// The folder for Redis' data
    #[arg(long, value_name = "DIR", default_value = ".pombo")]
    pub data: PathBuf,

    /// The program that is started as Redis
    #[arg(long, value_name = "PROGRAM", default_value = "redis-server")]
    pub redis_server: PathBuf,
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse::<f64>().ok();
    rate.filter(|rate| (0.1..=1_000.0).contains(rate))
        .ok_or("it must be a number from 0.1 to 1000")
}

/// Runs until a signal, or until all of `--events` have ended.
///
/// # Errors
///
/// What nobody can do anything about but try again.
pub fn run(args: Args, given: Given<'_>) -> anyhow::Result<Exit> {
    let folder = match Folder::open(&args.data) {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("pombo: {error}");
            return Ok(error.exit());
        }
    };
    let runtime = super::runtime(0)?;
    let exit = runtime.block_on(with_redis(&args, given, &folder));
    // What still runs then, such as a look-up of a name, has nobody left to tell.
    runtime.shutdown_timeout(Duration::from_millis(200));
    exit
}

/// Starts Redis, and stops it however the rest ends.
async fn with_redis(args: &Args, given: Given<'_>, folder: &Folder) -> anyhow::Result<Exit> {
    let clock = Clock::system();
    let stop = CancellationToken::new();
    super::serve::cancel_on_signal(stop.clone())?;
    let refused = |error: RedisError| {
        eprintln!("pombo: {error}");
        Ok(error.exit())
    };
    let starting = async {
        let socket = Socket::choose(folder, &clock).await?;
        let url = socket.url();
        let redis = PrivateRedis::start(&args.redis_server, folder, socket).await?;
        Ok((url, redis))
    };
    let (url, mut redis) = tokio::select! {
        started = starting => match started {
            Ok(started) => started,
            Err(error) => return refused(error),
        },
        () = stop.cancelled() => return Ok(Exit::Interrupted),
    };
    let exit = tokio::select! {
        exit = play(args, given, folder, &url, &clock, stop) => exit,
        error = redis.ended() => refused(error),
    };
    redis.stop().await;
    exit
}

async fn play(
    args: &Args,
    given: Given<'_>,
    folder: &Folder,
    url: &Secret,
    clock: &Clock,
    stop: CancellationToken,
) -> anyhow::Result<Exit> {
    let Made { settings, changed } = match settings::make(args.port, given, folder, url)? {
        Ok(made) => made,
        Err(exit) => return Ok(exit),
    };
    logging::init(&settings.logging)?;
    let mut tasks = JoinSet::new();
    let (everything, listening) = (CancellationToken::new(), CancellationToken::new());
    let store = Store::new(&settings, clock, &Metrics::new())?;
    tasks.spawn(store.link().clone().keep(everything.clone()));
    connected(&store).await?;
    let mut ready = subscribers::prepare(&settings, &store, clock).await?;
    let mut graves = Graves::find(&store, &ready).await?;

    let scheme = match settings.api.tls_certificate_file {
        Some(_) => "https",
        None => "http",
    };
    let daemon = match Daemon::new(settings, clock.clone()) {
        Ok(daemon) => daemon,
        Err(error) => {
            eprintln!("pombo: {error}");
            return Ok(error.exit());
        }
    };
    let metrics = daemon.metrics_address()?;
    let api = daemon.api_address()?;
    let api = api.map(|address| format!("{scheme}://{address}"));
    let readiness = daemon.readiness();
    let screen = Arc::new(Screen::new(colours(), stop.clone()));
    let tally = Arc::new(Tally::new(hex::encode(clock.random_bytes::<3>())));
    let serving = subscribers::serve(&mut ready, &screen, &tally, clock, &listening);
    screen.print(&opening(
        &screen,
        args,
        folder,
        &changed,
        (metrics, api),
        &ready,
    ));

    let daemon_stop = CancellationToken::new();
    // In a task of its own, so that it is polled whatever else waits here; ended with this function at the latest.
    let mut daemon_task = JoinSet::new();
    daemon_task.spawn(daemon.run(daemon_stop.clone()));
    let show = async {
        timeout(PATIENCE, readiness.ready()).await.map_err(|_| {
            anyhow::anyhow!("not ready: {}", readiness.missing().unwrap_or_default())
        })?;
        produce(args, &store, &ready, &tally, clock).await?;
        settled(&tally).await
    };
    let exit = tokio::select! {
        finished = show => finished.map(|()| Exit::Ok),
        () = stop.cancelled() => Ok(match args.events {
            Some(_) => Exit::Interrupted,
            None => Exit::Ok,
        }),
        ended = daemon_task.join_next() => match ended {
            Some(Ok(Err(error))) => {
                eprintln!("pombo: {error}");
                Ok(error.exit())
            }
            _ => Err(anyhow::anyhow!("the daemon ended")),
        },
        error = graves.watch(&store, &ready, &screen, &tally, clock) => Err(error.into()),
    };
    daemon_stop.cancel();
    while daemon_task.join_next().await.is_some() {}
    listening.cancel();
    serving.join_all().await;
    everything.cancel();
    while tasks.join_next().await.is_some() {}

    let totals = tally.totals();
    screen.print(&format!("\n{}", show::summary(&totals, tally.latencies())));
    exit.map(|exit| match exit {
        Exit::Ok if totals.unverified > 0 => Exit::Failure,
        exit => exit,
    })
}

/// Whether standard output is to be coloured.
fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !unwanted
}

async fn connected(store: &Store) -> anyhow::Result<()> {
    let mut state = store.link().watch();
    let up = state.wait_for(|state| matches!(state, LinkState::Up(_)));
    match timeout(PATIENCE, up).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(anyhow::anyhow!("there is no connection to Redis")),
    }
}

fn opening(
    screen: &Screen,
    args: &Args,
    folder: &Folder,
    changed: &[String],
    (metrics, api): (SocketAddr, Option<String>),
    ready: &[Ready],
) -> String {
    let program = std::env::args_os().next().unwrap_or_else(|| "pombo".into());
    let mut lines = vec![
        screen.strong("Pombo, all of it in this terminal"),
        String::new(),
        format!(
            "  events       two platforms, {} a second, through a Redis of their own",
            args.rate
        ),
    ];
    for (at, ready) in ready.iter().enumerate() {
        lines.push(format!(
            "  {:<12} {:<11} {}",
            if at == 0 { "subscribers" } else { "" },
            ready.subscriber.id,
            ready.subscriber.about
        ));
    }
    for (at, changed) in changed.iter().enumerate() {
        let head = if at == 0 { "settings" } else { "" };
        lines.push(format!("  {head:<12} {changed}"));
    }
    if let Some(api) = api {
        lines.push(format!("  API          {api}/docs"));
    }
    lines.extend([
        format!("  metrics      http://{metrics}/metrics"),
        format!(
            "  look inside  {} --config {} dead list",
            Path::new(&program).display(),
            folder.shown().join("pombo.toml").display()
        ),
        "  stop         Ctrl-C; nothing is left running".to_owned(),
        String::new(),
        screen.faint(&show::heads()),
    ]);
    lines.join("\n")
}

/// Adds the sample events to their streams, at their rate.
async fn produce(
    args: &Args,
    store: &Store,
    ready: &[Ready],
    tally: &Tally,
    clock: &Clock,
) -> anyhow::Result<()> {
    let mut pace = interval(Duration::from_secs_f64(1.0 / args.rate));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0..args.events.unwrap_or(u64::MAX) {
        pace.tick().await;
        let sample = samples::sample(n);
        let tenant = sample.platform.tenant;
        let wanted = subscribers::wanted_by(ready, tenant, sample.event_type);
        let entry = sample.entry(&tally.event_id(n), clock.unix_ms());
        tally.sending(n, wanted, clock.monotonic());
        add_entry(store.link(), sample.platform.stream, &entry)
            .await
            .context("an event could not be added to its stream")?;
    }
    Ok(())
}

/// Waits until each delivery has ended.
async fn settled(tally: &Tally) -> anyhow::Result<()> {
    while !tally.is_settled() {
        if timeout(PATIENCE, tally.changed()).await.is_err() {
            anyhow::bail!(
                "deliveries are missing, and none has ended for {} s",
                PATIENCE.as_secs()
            );
        }
    }
    Ok(())
}

/// The dead letters of each subscriber, up to which they are known.
struct Graves {
    known: Vec<EntryId>,
}

impl Graves {
    /// Passes over what earlier runs left.
    async fn find(store: &Store, ready: &[Ready]) -> Result<Graves, crate::store::StoreError> {
        let mut known = Vec::with_capacity(ready.len());
        for ready in ready {
            let (shard, mut last) = (store.shard_of(ready.subscriber.id), EntryId::MIN);
            let uid = &ready.webhook.uid;
            while let (_, Some(seen)) = store.dead_letters(shard, uid, last, BATCH).await? {
                last = seen;
            }
            known.push(last);
        }
        Ok(Graves { known })
    }

    /// Shows new ones, for as long as Redis answers.
    async fn watch(
        &mut self,
        store: &Store,
        ready: &[Ready],
        screen: &Screen,
        tally: &Tally,
        clock: &Clock,
    ) -> crate::store::StoreError {
        loop {
            for (at, ready) in ready.iter().enumerate() {
                let shard = store.shard_of(ready.subscriber.id);
                let (uid, after) = (&ready.webhook.uid, self.known[at]);
                let letters = match store.dead_letters(shard, uid, after, BATCH).await {
                    Ok((letters, last)) => {
                        self.known[at] = last.unwrap_or(after);
                        letters
                    }
                    Err(error) => return error,
                };
                for letter in letters.into_iter().flatten() {
                    let noted = tally.died(at, &letter.event.id, clock.monotonic());
                    screen.line(&Line {
                        at_ms: letter.ending.at_ms,
                        subscriber: ready.subscriber.id,
                        event_type: &letter.event.event_type,
                        attempt: letter.ending.tries.attempts,
                        verified: None,
                        what: What::Dead {
                            reason: letter.ending.reason.as_str(),
                            error: &letter.ending.tries.last_error,
                        },
                        noted,
                    });
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }
}
