//! How much a lane reads at a time: what it delivers in a moment. A quick one would wait for its next window if it read less, a
//! slow one would only have in memory what it read early.

use std::time::Duration;

use tokio::time::Instant;

/// The fewest entries of a window, unless fewer are large enough; and its size before the lane's pace is known.
const LEAST_ENTRIES: usize = 16;
/// The most entries of a window, and the bytes that it aims at (`scripts/bench backlog` tells).
const MOST_ENTRIES: usize = 300;
const AIM_BYTES: usize = 384 * 1024;
/// A window is to last for so long.
const LASTS: Duration = Duration::from_millis(250);
/// A lane is quick if a window lasts for less than this.
const QUICK: Duration = Duration::from_millis(50);

/// See the module's own words.
pub(super) struct Pace {
    /// Entries of a window.
    entries: usize,
    /// The most of them, as large as they are.
    most: usize,
    quick: bool,
    /// Since when attempts are counted, and how many had ended by then.
    since: Option<(Instant, u64)>,
}

impl Pace {
    pub fn new() -> Pace {
        Pace {
            entries: LEAST_ENTRIES,
            most: LEAST_ENTRIES,
            quick: false,
            since: None,
        }
    }

    /// How many entries a window has.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// With how many ready the next window is to be asked for. A quick lane goes through much while that comes.
    pub fn low_water(&self) -> usize {
        match self.quick {
            true => self.entries,
            false => self.entries.div_ceil(2),
        }
    }

    /// How many entries may be read at a time, at any pace.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether what is read is mostly started within a moment.
    pub fn is_quick(&self) -> bool {
        self.quick
    }

    /// Looks again how large windows are to be: it is `now`, so many attempts have `ended` since the lane began, and it may be
    /// `dry`, with nothing ready though it could start more.
    pub fn look(&mut self, now: Instant, ended: u64, dry: bool) {
        let Some((since, before)) = self.since else {
            self.since = Some((now, ended));
            return;
        };
        let (took, ended_since) = (now - since, ended.saturating_sub(before));
        if took < LASTS && ended_since < self.entries as u64 / 2 {
            // Too few to tell a pace by. Receivers may think, or nothing new have been found.
            return;
        }
        self.since = Some((now, ended));
        let within = |time: Duration| {
            let share = time.as_secs_f64() / took.as_secs_f64().max(1e-6);
            (ended_since as f64 * share) as usize
        };
        // By steps, for a single look may be wrong.
        let (half, double) = (self.entries / 2, self.entries * 2);
        self.entries = match dry {
            // Its pace was that of its reads.
            true => double,
            false => within(LASTS).clamp(half, double),
        };
        self.entries = self.entries.max(LEAST_ENTRIES).min(self.most);
        self.quick = within(QUICK) >= self.entries;
    }

    /// A window had nothing for the lane, and there are more: it is to find soon what has.
    pub fn note_nothing(&mut self) {
        self.entries = self.most;
    }

    /// So many entries were read, of so many bytes in all.
    pub fn note_read(&mut self, entries: usize, bytes: usize) {
        if let Some(average) = bytes.checked_div(entries) {
            self.most = (AIM_BYTES / average.max(1)).clamp(1, MOST_ENTRIES);
            self.entries = self.entries.min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of the window of a lane whose entries are of `bytes` and that ends `ended` attempts in each `took`.
    fn after(looks: u64, ended: u64, took: Duration, bytes: usize) -> Pace {
        let (mut pace, begun) = (Pace::new(), Instant::now());
        for look in 0..looks {
            pace.look(begun + took * look as u32, look * ended, false);
            pace.note_read(1, bytes);
        }
        pace
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_quick_lane_soon_has_the_largest_windows() {
        let pace = after(10, 50, MS, 1_000);
        assert_eq!((pace.entries(), pace.is_quick()), (MOST_ENTRIES, true));
    }

    #[test]
    fn a_slow_lane_has_small_windows_again() {
        let mut pace = after(10, 50, MS, 1_000);
        for look in 1..10 {
            pace.look(Instant::now() + look * 10_000 * MS, 500, false);
        }
        assert_eq!((pace.entries(), pace.is_quick()), (LEAST_ENTRIES, false));
    }

    #[test]
    fn a_lane_whose_receiver_hangs_reads_no_more_than_at_first() {
        let pace = after(100, 0, 100 * MS, 1_000);
        assert_eq!((pace.entries(), pace.is_quick()), (LEAST_ENTRIES, false));
    }

    #[test]
    fn a_lane_that_waits_for_its_reads_is_given_larger_windows() {
        let (mut pace, begun, mut ended) = (Pace::new(), Instant::now(), 0);
        for look in 0..10 {
            pace.look(begun + look * 1_000 * MS, ended, true);
            pace.note_read(1, 1_000);
            ended += pace.entries() as u64;
        }
        assert_eq!((pace.entries(), pace.is_quick()), (MOST_ENTRIES, false));
    }

    #[test]
    fn what_has_nothing_for_the_lane_is_passed_quickly() {
        let mut pace = after(10, 0, 1_000 * MS, 1_000);
        pace.note_nothing();
        assert_eq!(
            (pace.entries(), pace.low_water()),
            (MOST_ENTRIES, MOST_ENTRIES / 2)
        );
    }

    #[test]
    fn a_window_lasts_for_a_moment_though_many_land_together() {
        let (mut pace, begun) = (Pace::new(), Instant::now());
        for second in 0..20 {
            let landed = begun + second * 1_000 * MS;
            // Asked for again and again until all that landed are replaced.
            for look in 0..5 {
                pace.look(landed + look * MS, u64::from(second) * 1_000, false);
                pace.note_read(1, 1_000);
            }
        }
        assert_eq!((pace.entries(), pace.is_quick()), (250, false));
    }

    #[test]
    fn a_lane_of_middling_pace_is_not_quick() {
        let pace = after(100, 200, 100 * MS, 1_000);
        assert_eq!((pace.entries(), pace.is_quick()), (MOST_ENTRIES, false));
    }

    #[test]
    fn windows_of_large_entries_have_few_and_at_least_one() {
        assert_eq!(after(10, 50, MS, 100_000).entries(), 3);
        let pace = after(10, 50, MS, 10_000_000);
        assert_eq!((pace.entries(), pace.most()), (1, 1));
    }
}
