//! The usher of a lanes' thread: tells its lanes of what was offered to them.
//!
//! Offers come from another thread, and each wake-up from there costs a system call and a turn of the woken lane. So the
//! thread is woken once for many, and a lane that came by its inbox before its name was called is not woken at all.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::handle::LaneHandle;

/// Lanes that are told before others have a turn.
const AT_A_TIME: usize = 256;

/// Tells lanes, until nobody can announce anything any more.
pub(super) async fn usher(mut announced: mpsc::UnboundedReceiver<Arc<LaneHandle>>) {
    let mut lanes = Vec::new();
    while announced.recv_many(&mut lanes, AT_A_TIME).await > 0 {
        lanes.drain(..).for_each(|lane| lane.announce());
    }
}
