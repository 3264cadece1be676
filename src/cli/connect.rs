//! A connection to Redis for the time of one command.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::trouble::Trouble;
use crate::clock::Clock;
use crate::exit::Exit;
use crate::metrics::Metrics;
use crate::settings::{RedisServer, Settings};
use crate::store::connection::LinkState;
use crate::store::{Link, Store};

/// How long a server that does not take the connection is tried again: long enough for one that is being restarted,
/// short enough for a person who mistyped its address.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a command is going to do with what Pombo keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Look at it. Nothing is written, not even that Pombo was here.
    Read,
    /// Change it.
    Write,
}

/// A store whose connection lasts as long as this.
pub struct ShortLived<T> {
    /// What is connected.
    pub to: T,
    _stop: DropGuard,
}

/// Connects to the Redis of `settings.redis` and checks that what is kept there fits this program and its settings.
///
/// # Errors
///
/// Says where Redis was looked for and why it cannot be used.
pub async fn store(
    settings: &Settings,
    clock: &Clock,
    purpose: Purpose,
) -> Result<ShortLived<Store>, Trouble> {
    let server = &settings.redis.server;
    let store = Store::new(settings, clock, &Metrics::new())
        .map_err(|error| unavailable("redis.url", server, &error.to_string()))?;
    let stop = connected(store.link(), settings, "redis.url", server).await?;
    match store.check_fit(purpose == Purpose::Write).await? {
        Ok(()) => Ok(ShortLived {
            to: store,
            _stop: stop,
        }),
        Err(unfit) => Err(Trouble::new(Exit::Unavailable, unfit.to_string())),
    }
}

/// Connects to another Redis than Pombo's own; `key` is the setting that names it, such as `sources[0].url`.
///
/// # Errors
///
/// As [`store`].
pub async fn link(
    settings: &Settings,
    clock: &Clock,
    server: &RedisServer,
    key: &str,
) -> Result<ShortLived<Link>, Trouble> {
    let link = Link::new(server, &settings.redis, clock, &Metrics::new())
        .map_err(|error| unavailable(key, server, &error.to_string()))?;
    let stop = connected(&link, settings, key, server).await?;
    Ok(ShortLived {
        to: link,
        _stop: stop,
    })
}

/// Keeps `link` connected until the guard is dropped, and waits for the first connection.
async fn connected(
    link: &Link,
    settings: &Settings,
    key: &str,
    server: &RedisServer,
) -> Result<DropGuard, Trouble> {
    let mut states = link.watch();
    let stop = CancellationToken::new();
    tokio::spawn(link.clone().keep(stop.clone()));
    let stop = stop.drop_guard();
    let mut deadline = Instant::now() + settings.redis.connect_timeout + Duration::from_secs(1);
    let mut reason = "no answer".to_owned();
    loop {
        match tokio::time::timeout_at(deadline, states.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(unavailable(key, server, &reason)),
        }
        match &*states.borrow_and_update() {
            LinkState::Starting => {}
            LinkState::Up(_) => return Ok(stop),
            LinkState::Down(why) => reason.clone_from(why),
        }
        deadline = deadline.min(Instant::now() + PATIENCE);
    }
}

fn unavailable(key: &str, server: &RedisServer, reason: &str) -> Trouble {
    Trouble::new(
        Exit::Unavailable,
        format!(
            "cannot use the Redis at {} ({key}): {reason}\nSee that it runs and that the settings are those of its \
             daemon: `pombo check-config` prints them, --config names another file.",
            server.shown_url()
        ),
    )
}
