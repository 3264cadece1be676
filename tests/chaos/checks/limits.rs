//! Limits hold across the daemons: rate exactly, one at a time for fifo, and concurrency but for what an old owner
//! still has on the wire.

use super::Evidence;
use super::repeats::{disturbed, windows};
use crate::faults::Window;
use crate::plan::SUBSCRIBERS;
use crate::schedule::Kind;

pub fn check(evidence: &mut Evidence<'_>) {
    let ledger = evidence.world.ledger.clone();
    let windows: Vec<Window> = windows(evidence).copied().collect();
    let (mut fast, mut crowded) = (Vec::new(), Vec::new());
    for (index, one) in SUBSCRIBERS.iter().enumerate() {
        let book = ledger.book(index);
        for excess in &book.excesses {
            // A daemon that is stopped between taking a token and writing to its socket writes when it goes on: as many
            // as it may have in flight, and none beyond.
            let held = one.max_in_flight.unwrap_or(1);
            let stopped = |window: &&Window| {
                window.kind == Kind::Pause
                    && (window.to_ms..window.to_ms + 1_000).contains(&excess.at_ms)
            };
            let tolerated = windows.iter().filter(stopped).count() as f64 * f64::from(held);
            if excess.tokens > tolerated {
                fast.push(format!(
                    "{} got {:.1} more than its limit at {} ms",
                    one.id, excess.tokens, excess.at_ms
                ));
            }
        }
        // At each fault an old owner has at most its limit on the wire, and one repeat of each.
        let limit = one.max_in_flight.unwrap_or(1) as usize;
        let most = 2 * limit * windows.len();
        if book.overlaps.len() > most {
            crowded.push(format!(
                "{} had {} attempts beside others, and {} faults explain {most}",
                one.id,
                book.overlaps.len(),
                windows.len()
            ));
        }
        for overlap in &book.overlaps {
            if !disturbed(&windows, overlap.at_ms) {
                let whose = if overlap.two_daemons {
                    "two daemons"
                } else {
                    "one daemon"
                };
                crowded.push(format!(
                    "{} got e{} by d{} at {} ms while another was on the wire, from {whose}",
                    one.id, overlap.number, overlap.daemon, overlap.at_ms
                ));
            }
        }
    }
    evidence.fail_with("no rate limit is exceeded in any stretch of time", &fast);
    evidence.fail_with(
        "attempts overlap beyond a webhook's limit only while an old owner's are on the wire",
        &crowded,
    );
}
