//! A webhook that keeps the order never sees an older event for the first time after a newer one's success.
//!
//! Events that Redis itself lost in a failover count for nothing here: a master that does not know yet that it was
//! replaced hands out, and has delivered, what its successor never had.

use super::{Events, Evidence};
use crate::plan::{Plan, STREAMS, SUBSCRIBERS};

pub fn check(evidence: &mut Evidence<'_>, events: &Events) {
    let ledger = evidence.world.ledger.clone();
    let mut wrong = Vec::new();
    for (subscriber, one) in SUBSCRIBERS.iter().enumerate() {
        let mut newest = [None; STREAMS.len()];
        for seen in &ledger.book(subscriber).log {
            let stream = Plan::stream_of(seen.number);
            if !events.has(seen.number) {
                continue;
            }
            match newest[stream] {
                Some(newest) if !seen.success && newest > seen.number => wrong.push(format!(
                    "at {} ms {} got event {} after {newest} of the same stream",
                    seen.at_ms, one.id, seen.number
                )),
                _ => {}
            }
            if seen.success {
                newest[stream] = newest[stream].max(Some(seen.number));
            }
        }
    }
    evidence.fail_with("the order is kept", &wrong);
}
