//! `pombo serve`: the daemon, its signals, and what the service manager is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::daemon::Daemon;
use crate::exit::Exit;
use crate::logging;
use crate::readiness::Readiness;
use crate::settings::Settings;

/// Runs the daemon until a signal.
///
/// # Errors
///
/// The runtime cannot be made.
pub fn run(settings: Settings) -> anyhow::Result<Exit> {
    if let Err(error) = settings.require_sources() {
        eprintln!("{error}");
        return Ok(Exit::Config);
    }
    logging::init(&settings.logging)?;
    let runtime = super::runtime(settings.instance.worker_threads)?;
    let exit = runtime.block_on(serve(settings));
    // What still runs then, such as a look-up of a name, has nobody left to tell.
    runtime.shutdown_timeout(Duration::from_millis(200));
    exit
}

async fn serve(settings: Settings) -> anyhow::Result<Exit> {
    let name = settings.instance.name.clone();
    let daemon = match Daemon::new(settings, Clock::system()) {
        Ok(daemon) => daemon,
        Err(error) => {
            tracing::error!("{error}");
            return Ok(error.exit());
        }
    };
    let stop = CancellationToken::new();
    cancel_on_signal(stop.clone())?;
    let metrics = daemon.metrics_address()?;
    let api = daemon.api_address()?.map(tracing::field::display);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), instance = %name, %metrics, api, "pombo starts");
    let manager = tokio::spawn(tell_service_manager(daemon.readiness(), stop.clone()));
    let result = daemon.run(stop).await;
    manager.abort();
    match result {
        Ok(()) => {
            tracing::info!("pombo has stopped");
            Ok(Exit::Ok)
        }
        Err(error) => {
            tracing::error!("{error}");
            Ok(error.exit())
        }
    }
}

/// Cancels `stop` on the first SIGTERM or SIGINT; the second ends the process at once. Nothing is lost either way:
/// what is not settled is still in Redis.
///
/// # Errors
///
/// The handlers cannot be installed.
pub fn cancel_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn(async move {
        let mut seen = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if seen {
                tracing::warn!("second signal: stopping at once");
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
            seen = true;
            stop.cancel();
        }
    });
    Ok(())
}

/// Tells systemd when the daemon is ready, what it waits for, and, while the runtime turns, that it lives.
async fn tell_service_manager(readiness: Readiness, stop: CancellationToken) {
    let notify = |states: &[NotifyState<'_>]| {
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(states);
    };
    // Ticks on whatever else happens: a condition that comes and goes must not put the next one off.
    let mut watchdog = sd_notify::watchdog_enabled().map(watchdog_ticks);
    let mut ready = false;
    let mut conditions = Vec::new();
    loop {
        tokio::select! {
            changed = readiness.changed_since(&conditions) => {
                conditions = changed;
                let status = readiness.missing().unwrap_or_else(|| "delivering".to_owned());
                notify(&[NotifyState::Status(&status)]);
                if !ready && readiness.is_ready() {
                    ready = true;
                    tracing::info!("ready");
                    notify(&[NotifyState::Ready]);
                }
            }
            () = next_tick(&mut watchdog) => notify(&[NotifyState::Watchdog]),
            () = stop.cancelled() => {
                notify(&[NotifyState::Stopping]);
                return;
            }
        }
    }
}

/// Three ticks in `period`, so that one that comes late does no harm.
fn watchdog_ticks(period: Duration) -> Interval {
    let mut ticks = interval((period / 3).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The next of `ticks`; never, if there are none.
async fn next_tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_watchdog_ticks_however_often_something_else_happens() {
        let mut ticks = Some(watchdog_ticks(Duration::from_millis(30)));
        let three = async {
            let mut seen = 0;
            while seen < 3 {
                tokio::select! {
                    () = next_tick(&mut ticks) => seen += 1,
                    () = tokio::task::yield_now() => {}
                }
            }
        };
        let ticked = tokio::time::timeout(Duration::from_secs(30), three).await;
        assert!(ticked.is_ok(), "it was put off again and again");
    }
}
