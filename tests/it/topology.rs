//! Redis as more than one server.

mod cluster;
mod guarded;
mod others;
mod replicas;
mod sentinel;

use crate::faults::ledger::{Ledger, share};
use crate::support::receiver::{Receiver, Step};

/// Every fifth event fails at first, so that queues, schedules and the rest have work too.
async fn receiver(ledger: &Ledger) -> Receiver {
    ledger
        .receiver(|request| match share(request.header("x-event-id"), 5) {
            0 if request.header("x-delivery-attempt") == "1" => Step::status(500),
            _ => Step::status(200),
        })
        .await
}
