//! Waiting for what must happen, without guessing how long it takes.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

/// How long a test waits for what must happen. Only a broken test ever waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks until what `look` sees is `enough`, and returns it. In vain, it fails with what was seen last.
pub async fn until<T: Debug>(
    what: &str,
    mut look: impl AsyncFnMut() -> T,
    enough: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let seen = look().await;
        if enough(&seen) {
            return seen;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain for: {what}\nseen last: {seen:#?}"
        );
    }
}

/// Looks for as long as `span` whether `look` stays `fine`: for what must not happen, where nothing tells that it
/// never will.
pub async fn stays<T: Debug>(
    what: &str,
    span: Duration,
    mut look: impl AsyncFnMut() -> T,
    fine: impl Fn(&T) -> bool,
) -> T {
    let end = Instant::now() + span;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let seen = look().await;
        assert!(
            fine(&seen),
            "it did not stay so: {what}\nseen last: {seen:#?}"
        );
        if Instant::now() >= end {
            return seen;
        }
    }
}
