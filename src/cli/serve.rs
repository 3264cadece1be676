//! `pombo serve`: the daemon, its signals, and what the service manager is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
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
    tracing::info!(version = env!("CARGO_PKG_VERSION"), instance = %name, %metrics, "pombo starts");
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
    let watchdog = sd_notify::watchdog_enabled().map(|period| period / 3);
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
            () = tokio::time::sleep(watchdog.unwrap_or(Duration::from_secs(3_600))) => {
                if watchdog.is_some() {
                    notify(&[NotifyState::Watchdog]);
                }
            }
            () = stop.cancelled() => {
                notify(&[NotifyState::Stopping]);
                return;
            }
        }
    }
}
