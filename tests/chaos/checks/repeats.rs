//! Duplicates: each explained by a fault that found the delivery unfinished, and no more of them than such faults can cause.

use super::{Dead, Evidence};
use crate::faults::Window;
use crate::plan::{Plan, SUBSCRIBERS};
use crate::schedule::Kind;

/// A delivery stays unfinished after its receiver's 2xx until Redis has it: its event until the slowest of its siblings
/// is delivered or stored (a second) and acknowledged, on a busy machine.
const SETTLING_MS: u64 = 2_500;

/// What is begun by a fault goes on after it: connecting anew, a lease that runs out, shards that are claimed.
pub const AFTERMATH_MS: u64 = 3_000;

/// A group that is made again begins at its source's mark, which is written each second and stands before the oldest
/// event that is open: what was settled since then comes again.
const MARK_MS: u64 = 4_000;

impl Window {
    /// From when to when what is unfinished may be repeated for its sake.
    fn reach(&self) -> (u64, u64) {
        let before = if self.kind == Kind::Group { MARK_MS } else { 0 };
        (
            self.from_ms.saturating_sub(before),
            self.to_ms + AFTERMATH_MS,
        )
    }

    fn meets(&self, from_ms: u64, to_ms: u64) -> bool {
        let (begin, end) = self.reach();
        begin <= to_ms && from_ms <= end
    }
}

/// The faults of the run that were done.
pub fn windows<'a>(evidence: &'a Evidence<'_>) -> impl Iterator<Item = &'a Window> {
    evidence.world.windows.iter().flatten()
}

/// Whether a fault was there at this time, or just before.
pub fn disturbed(windows: &[Window], at_ms: u64) -> bool {
    windows.iter().any(|window| window.meets(at_ms, at_ms))
}

/// How many repeats so many faults can cause. At each of them the delivery may be on the wire from each of its homes,
/// which then loses its answer; and each may find it stored in its queue while its event is not acknowledged yet, which
/// gives it one home more.
fn most_repeats(faults: u64) -> u64 {
    faults * (faults + 3) / 2
}

pub fn check(evidence: &mut Evidence<'_>, dead: &Dead) {
    let ledger = evidence.world.ledger.clone();
    let windows: Vec<Window> = windows(evidence).copied().collect();
    let mut wrong = Vec::new();
    for (index, one) in SUBSCRIBERS.iter().enumerate() {
        let book = ledger.book(index);
        let repeated = book
            .records
            .iter()
            .filter(|(_, record)| record.successes > 1);
        for (number, record) in repeated {
            let extra = u64::from(record.successes) - 1;
            let sent_ms = evidence
                .produced
                .get(*number as usize)
                .map_or(0, |(_, at)| u64::from(*at));
            let (first_ms, last_ms) = (u64::from(record.first_ms), u64::from(record.last_ms));
            let unfinished = windows
                .iter()
                .filter(|window| window.meets(sent_ms, first_ms + SETTLING_MS));
            let met = windows
                .iter()
                .filter(|window| window.meets(sent_ms, last_ms))
                .count() as u64;
            if unfinished.count() == 0 || extra > most_repeats(met) {
                wrong.push(format!(
                    "{} of {} came {} times, from {first_ms} to {last_ms} ms, sent at {sent_ms} ms, with {met} faults in that time",
                    Plan::id(*number),
                    one.id,
                    record.successes
                ));
            }
            evidence.outcome.duplicates += extra;
            evidence.outcome.most_repeats = evidence.outcome.most_repeats.max(extra);
            let last = windows
                .iter()
                .filter(|window| window.reach().0 <= last_ms)
                .max_by_key(|window| window.from_ms);
            let kind = last.map_or("none", |window| window.kind.name());
            *evidence
                .outcome
                .duplicates_by_fault
                .entry(kind.to_owned())
                .or_default() += extra;
        }
    }
    let twice = dead
        .iter()
        .flat_map(|of| of.values())
        .map(|count| u64::from(*count) - 1);
    evidence.outcome.duplicates += twice.sum::<u64>();
    evidence.fail_with(
        "a delivery is repeated only where a fault found it unfinished, and no more often than that explains",
        &wrong,
    );
}
