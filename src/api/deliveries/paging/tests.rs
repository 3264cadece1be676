use proptest::prelude::*;

use super::*;
use crate::store::deliveries::Place;

fn row(shelf: Shelf, came_ms: u64, seq: u64, arrived: (u64, u64)) -> Row {
    Row {
        place: Place {
            shelf,
            id: EntryId { ms: came_ms, seq },
        },
        entry_id: EntryId {
            ms: arrived.0,
            seq: arrived.1,
        },
        stream: "events".into(),
        event_type: "a".into(),
        event_id: String::new(),
        due_ms: None,
    }
}

/// Shelves as Redis would have them: sorted by when the deliveries came, newest first.
fn shelves(spec: &[(u8, u64, u64)]) -> Vec<Vec<Row>> {
    let mut shelves = vec![Vec::new(); 3];
    for (seq, (shelf, arrived, waited)) in spec.iter().enumerate() {
        let index = usize::from(*shelf % 3);
        let seq = seq as u64;
        shelves[index].push(row(
            Shelf::ALL[index],
            arrived + waited,
            seq,
            (*arrived, seq),
        ));
    }
    for shelf in &mut shelves {
        shelf.sort_by_key(|row| std::cmp::Reverse(row.place));
    }
    shelves
}

fn look(rows: &[Row], before: Option<EntryId>, count: usize) -> Seen {
    let unseen: Vec<&Row> = rows
        .iter()
        .filter(|row| before.is_none_or(|before| row.place.id < before))
        .collect();
    let found: Vec<Row> = unseen.iter().take(count).copied().cloned().collect();
    Seen {
        cost: found.len(),
        last: found.last().map(|row| row.place.id),
        ended: found.len() < count,
        rows: found,
    }
}

fn index_of(shelf: Shelf) -> usize {
    Shelf::ALL.iter().position(|one| *one == shelf).unwrap()
}

/// The newest `wanted`, whatever they cost.
fn newest_of(wanted: usize) -> Goal {
    Goal {
        wanted,
        count_all: false,
        since_ms: 0,
        budget: usize::MAX,
        enough: usize::MAX,
    }
}

fn walk(shelves: &[Vec<Row>], goal: Goal, count: usize) -> Paging {
    let mut paging = Paging::new(&Shelf::ALL, goal);
    each_look(&mut paging, |next| {
        look(
            &shelves[index_of(next.shelf)],
            next.before,
            count.min(next.rows),
        )
    });
    paging
}

fn each_look(paging: &mut Paging, mut look: impl FnMut(Next) -> Seen) {
    loop {
        let looks = paging.next();
        if looks.is_empty() {
            return;
        }
        for next in looks {
            paging.saw(next.shelf, look(next));
        }
    }
}

fn newest(shelves: &[Vec<Row>]) -> Vec<Row> {
    let mut all: Vec<Row> = shelves.iter().flatten().cloned().collect();
    all.sort_by_key(|row| std::cmp::Reverse(key(row)));
    all
}

fn spec() -> impl Strategy<Value = Vec<(u8, u64, u64)>> {
    prop::collection::vec((0u8..3, 1u64..200, 0u64..150), 0..80)
}

proptest! {
    #[test]
    fn pages_are_those_of_everything_sorted(
        spec in spec(), page in 1usize..8, limit in 1usize..12, count in 1usize..9, count_all in any::<bool>(),
    ) {
        let shelves = shelves(&spec);
        let goal = Goal { count_all, ..newest_of(page * limit) };
        let paging = walk(&shelves, goal, count);
        prop_assert!(paging.is_complete());
        if count_all {
            prop_assert_eq!(paging.matched(), spec.len() as u64);
        }
        let is_all = spec.len() < page * limit;
        prop_assert_eq!(paging.all(), is_all.then_some(spec.len()));
        let skip = (page - 1) * limit;
        let expected: Vec<Row> = newest(&shelves).into_iter().skip(skip).take(limit).collect();
        prop_assert_eq!(paging.page(skip, limit), expected);
    }

    #[test]
    fn a_beginning_in_time_ends_the_walk_and_loses_nothing_after_it(
        spec in spec(), since_ms in 0u64..300, count in 1usize..9,
    ) {
        let shelves = shelves(&spec);
        let filtered: Vec<Vec<Row>> = shelves
            .iter()
            .map(|shelf| shelf.iter().filter(|row| row.entry_id.ms >= since_ms).cloned().collect())
            .collect();
        let goal = Goal { count_all: true, since_ms, ..newest_of(1_000) };
        // Looks return what matches and go on from the last that was looked at.
        let mut paging = Paging::new(&Shelf::ALL, goal);
        each_look(&mut paging, |next| {
            let mut seen = look(&shelves[index_of(next.shelf)], next.before, count);
            seen.rows.retain(|row| row.entry_id.ms >= since_ms);
            seen
        });
        prop_assert!(paging.is_complete());
        let all = newest(&filtered);
        prop_assert_eq!(paging.matched(), all.len() as u64);
        prop_assert_eq!(paging.page(0, 1_000), all);
    }

    #[test]
    fn the_budget_is_kept_and_its_end_is_told(spec in spec(), budget in 0usize..60) {
        let shelves = shelves(&spec);
        let goal = Goal { count_all: true, budget, ..newest_of(1_000) };
        let paging = walk(&shelves, goal, 5);
        // The first look at each of the three shelves is made together with the others.
        prop_assert!(paging.cost() < budget + 3 * 5);
        prop_assert!(paging.matched() <= spec.len() as u64);
        prop_assert_eq!(paging.is_complete(), paging.walks.iter().all(|walk| walk.ended));
    }
}

#[test]
fn the_first_page_of_a_large_shelf_is_not_paid_for_with_all_of_it() {
    let spec: Vec<(u8, u64, u64)> = (0..10_000).map(|n| (2, 1_000 + n, 3)).collect();
    let shelves = shelves(&spec);
    let goal = newest_of(20);
    let paging = walk(&shelves, goal, 20);
    assert!(paging.cost() < 100, "{}", paging.cost());
    assert_eq!(paging.page(0, 1)[0].entry_id.ms, 10_999);
}

#[test]
fn few_looks_see_much_where_deliveries_take_long() {
    let spec: Vec<(u8, u64, u64)> = (0..1_000).map(|n| (2, 1_000 + n, 900)).collect();
    let shelves = shelves(&spec);
    let goal = Goal {
        enough: 200,
        ..newest_of(10)
    };
    let mut paging = Paging::new(&[Shelf::History], goal);
    let mut rows = Vec::new();
    each_look(&mut paging, |next| {
        rows.push(next.rows);
        look(&shelves[2], next.before, next.rows)
    });
    assert_eq!(rows, [10, 190]);
}

#[test]
fn what_may_still_be_seen_of_a_filled_page_is_shared_out_to_the_shelves_that_could_change_it() {
    // Dead letters and history in turn, each some time after its event; nothing waits.
    let spec: Vec<(u8, u64, u64)> = (0..200).map(|n| (1 + n as u8 % 2, 1_000 + n, 30)).collect();
    let shelves = shelves(&spec);
    let goal = Goal {
        enough: 100,
        ..newest_of(20)
    };
    let mut paging = Paging::new(&Shelf::ALL, goal);
    let mut looks = Vec::new();
    each_look(&mut paging, |next| {
        looks.push((next.shelf, next.rows));
        look(&shelves[index_of(next.shelf)], next.before, next.rows)
    });
    assert_eq!(
        looks,
        [
            (Shelf::Queue, 20),
            (Shelf::Dead, 20),
            (Shelf::History, 20),
            (Shelf::Dead, 30),
            (Shelf::History, 30)
        ]
    );
    assert!(paging.is_complete());
}

#[test]
fn few_looks_see_much_where_little_of_it_is_wanted() {
    let spec: Vec<(u8, u64, u64)> = (0..1_000).map(|n| (2, 1_000 + n, 0)).collect();
    let shelves = shelves(&spec);
    let mut paging = Paging::new(&[Shelf::History], newest_of(10));
    let mut rows = Vec::new();
    each_look(&mut paging, |next| {
        rows.push(next.rows);
        let mut seen = look(&shelves[2], next.before, next.rows);
        seen.rows.clear();
        seen
    });
    assert_eq!(rows, [10, 20, 40, 80, 160, 320, 640]);
}

#[test]
fn a_page_is_filled_from_every_shelf_however_large_the_entries_are() {
    let spec: Vec<(u8, u64, u64)> = (0..300).map(|n| (n as u8 % 3, 1_000 + n, 5_000)).collect();
    let shelves = shelves(&spec);
    for (page, enough) in [(1, 1), (1, 50), (4, 1), (4, 50)] {
        let goal = Goal {
            enough,
            ..newest_of(page * 10)
        };
        let mut paging = Paging::new(&Shelf::ALL, goal);
        each_look(&mut paging, |next| {
            // A look ends early where entries are large.
            let shelf = &shelves[index_of(next.shelf)];
            let mut seen = look(shelf, next.before, next.rows.min(4));
            seen.cost *= 65;
            seen
        });
        assert!(!paging.is_complete());
        assert!(paging.walks.iter().all(|walk| walk.looks > 0));
        assert_eq!(
            paging.page((page - 1) * 10, 10).len(),
            10,
            "{page} {enough}"
        );
    }
}

#[test]
fn a_delivery_on_two_shelves_is_told_once_where_it_came_last() {
    let shelves = vec![
        vec![row(Shelf::Queue, 10, 0, (5, 0))],
        vec![row(Shelf::Dead, 20, 0, (5, 0))],
        Vec::new(),
    ];
    let goal = newest_of(10);
    let page = walk(&shelves, goal, 10).page(0, 10);
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].place.shelf, Shelf::Dead);
}
