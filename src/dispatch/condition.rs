//! A condition that hardly anybody waits for and everybody may bring about: telling of it costs a look where nobody waits.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// See the module's own words.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Whether anybody waits, so that most need not look who does.
    is_awaited: AtomicBool,
    changed: Notify,
}

impl Condition {
    /// Resolves when it `is_met`, which is asked again each time that it may be.
    pub async fn until(&self, is_met: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the look, or what changes in between would wake nobody.
            changed.as_mut().enable();
            self.is_awaited.store(true, Ordering::SeqCst);
            if is_met() {
                return;
            }
            changed.await;
        }
    }

    /// Wakes whoever waits, if it `is_met`; to be called after whatever may bring it about.
    pub fn tell_if(&self, is_met: impl FnOnce() -> bool) {
        // One order of all these for everybody: who came to wait too late to be seen here sees what was changed.
        if self.is_awaited.load(Ordering::SeqCst) && is_met() {
            self.is_awaited.store(false, Ordering::SeqCst);
            self.changed.notify_waiters();
        }
    }

    #[cfg(test)]
    pub fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::SeqCst)
    }
}
