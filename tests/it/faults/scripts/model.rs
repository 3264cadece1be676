//! Random interleavings of two daemons that take the shard from each other, against a model: every delivery that was
//! stored and not delivered has exactly one home, whatever they do.

use std::collections::{BTreeMap, BTreeSet};

use pombo::event::EntryId;
use pombo::store::StoreError;
use pombo::store::dead::Buried;
use pombo::store::lane::{Parked, Work, Written};
use pombo::store::queue::Removal;
use pombo::store::retry::Hastened;

use super::{Bench, LATER, ME, SHARD, UID, caps, ending, event, lane, storing, tries};
use crate::faults::ledger::Dice;

const SEEDS: u64 = 8;
const STEPS: usize = 150;

#[derive(Default)]
struct Model {
    owner: String,
    queue: BTreeMap<EntryId, String>,
    scheduled: BTreeSet<EntryId>,
    dead: BTreeMap<EntryId, String>,
    delivered: BTreeSet<String>,
    stored: usize,
    /// Every queue id there ever was: actors also use ids that are no more.
    ids: Vec<EntryId>,
    letters: Vec<EntryId>,
}

impl Model {
    fn pick(&self, dice: &mut Dice) -> Option<EntryId> {
        pick(&self.ids, dice)
    }

    fn add(&mut self, id: EntryId, name: String) {
        self.ids.push(id);
        self.queue.insert(id, name);
        self.stored += 1;
    }

    fn remove(&mut self, id: EntryId) -> Option<String> {
        self.scheduled.remove(&id);
        self.queue.remove(&id)
    }
}

fn pick(ids: &[EntryId], dice: &mut Dice) -> Option<EntryId> {
    ids.get(dice.below(ids.len() as u64) as usize).copied()
}

#[tokio::test]
async fn whatever_two_daemons_do_every_stored_delivery_has_one_home() {
    for seed in 0..SEEDS {
        let bench = Bench::new().await;
        let mut dice = Dice::new(seed);
        let mut model = Model {
            owner: ME.to_owned(),
            ..Model::default()
        };
        for step in 0..STEPS {
            let what = act(&bench, &mut model, &mut dice, step).await;
            check(&bench, &model, &format!("seed {seed}, step {step}: {what}")).await;
        }
    }
}

async fn act(bench: &Bench, model: &mut Model, dice: &mut Dice, step: usize) -> String {
    let actor = [ME, "other:1"][dice.below(2) as usize];
    let mine = model.owner == actor;
    let (store, generation) = (bench.store(), bench.generation());
    let now_ms = pombo::clock::Clock::system().unix_ms();
    let fenced = |error: &StoreError| matches!(error, StoreError::Fenced { .. });
    let name = format!("e{step}");
    let kind = dice.below(11);
    match kind {
        0 => {
            let expected = [ME, "other:1"][dice.below(2) as usize];
            let done = store.claim(SHARD, expected, actor).await.expect("ok");
            assert_eq!(done, model.owner == expected);
            if done {
                model.owner = actor.to_owned();
            }
        }
        1 | 2 => {
            let id = bench.enqueue(&[&name], now_ms).await[0];
            model.add(id, name);
        }
        3 | 4 => {
            let due = (dice.below(2) == 0).then_some(LATER);
            match bench
                .store_events(&lane(actor), &[storing(&name, due, 1)])
                .await
            {
                Ok(ids) => {
                    assert!(mine);
                    model.add(ids[0], name);
                    model.scheduled.extend(due.map(|_| ids[0]));
                }
                Err(error) => assert!(!mine && fenced(&error), "{error}"),
            }
        }
        5 => {
            let Some(id) = model.pick(dice) else {
                return "nothing".to_owned();
            };
            let there = model.queue.contains_key(&id);
            match store
                .schedule(&lane(actor), id, LATER, &tries(1), generation)
                .await
            {
                Ok(written) => {
                    assert!(mine);
                    assert_eq!(written == Written::Done, there);
                    model.scheduled.extend(there.then_some(id));
                }
                Err(error) => assert!(!mine && fenced(&error), "{error}"),
            }
        }
        6 => {
            let Some(id) = model.pick(dice) else {
                return "nothing".to_owned();
            };
            let name = model.queue.get(&id).cloned().unwrap_or_default();
            let result = store
                .dead(
                    &lane(actor),
                    id,
                    &event(&name),
                    &ending(now_ms),
                    &caps(1_000),
                    generation,
                )
                .await;
            match result {
                Ok(buried) => {
                    assert!(mine);
                    assert_eq!(buried != Buried::Gone, model.queue.contains_key(&id));
                    if model.remove(id).is_some() {
                        let letter = bench.dead().await.last().expect("the new one").id;
                        model.letters.push(letter);
                        model.dead.insert(letter, name);
                    }
                }
                Err(error) => assert!(!mine && fenced(&error), "{error}"),
            }
        }
        7 => {
            // Truth needs no fence: whoever got the 2xx removes.
            let Some(id) = model.pick(dice) else {
                return "nothing".to_owned();
            };
            let removal = Removal {
                shard: SHARD,
                uid: UID.into(),
                id,
                tried: true,
            };
            store.remove(&[removal], generation).await.expect("ok");
            let delivered = model.remove(id);
            model.delivered.extend(delivered);
        }
        8 => {
            let Some(letter) = pick(&model.letters, dice) else {
                return "nothing".to_owned();
            };
            let back = store.replay(SHARD, UID, letter, now_ms).await.expect("ok");
            assert_eq!(back, model.dead.contains_key(&letter));
            if let Some(name) = model.dead.remove(&letter) {
                let id = bench.queue().await.last().expect("the new one").0;
                model.ids.push(id);
                model.queue.insert(id, name);
                model.scheduled.insert(id);
            }
        }
        9 => {
            // Whoever asks for it, and whoever owns it.
            let Some(id) = model.pick(dice) else {
                return "nothing".to_owned();
            };
            let before = bench.scheduled(id).await;
            let hastened = store.hasten(SHARD, UID, id, now_ms).await.expect("ok");
            let expected = match (model.queue.contains_key(&id), before) {
                (false, _) => Hastened::Gone,
                (true, Some(due)) if due > now_ms => Hastened::Done,
                (true, _) => Hastened::NotScheduled,
            };
            assert_eq!(hastened, expected);
            if hastened == Hastened::Done {
                assert_eq!(bench.scheduled(id).await, Some(now_ms));
                assert!(bench.due().await.is_some_and(|due| due <= now_ms));
            }
        }
        _ => {
            let cursor = model.pick(dice).unwrap_or(EntryId::MIN);
            let parked = Parked { hold_ms: 0, cursor };
            match store
                .park(&lane(actor), parked, Work::Any, now_ms, generation)
                .await
            {
                Ok(next) => {
                    assert!(mine);
                    assert_eq!(next.is_none(), model.queue.is_empty(), "{next:?}");
                    // Somebody must come back for whatever is neither scheduled nor told to be.
                    let unscheduled = model.queue.len() > model.scheduled.len();
                    let now = next.is_some_and(|next| next <= now_ms);
                    assert!(now || !unscheduled, "{next:?} with unscheduled entries");
                }
                Err(error) => assert!(!mine && fenced(&error), "{error}"),
            }
        }
    }
    format!("{actor} did {kind}")
}

async fn check(bench: &Bench, model: &Model, what: &str) {
    let queue: BTreeMap<EntryId, String> = bench.queue().await.into_iter().collect();
    assert_eq!(queue, model.queue, "{what}");
    let dead: BTreeMap<EntryId, String> = bench
        .dead()
        .await
        .into_iter()
        .map(|letter| (letter.id, letter.event.id.clone()))
        .collect();
    assert_eq!(dead, model.dead, "{what}");
    let scheduled: BTreeSet<String> = bench
        .redis
        .run::<Vec<String>>("ZRANGE pombo:{s01}:retry:w-uid 0 -1")
        .await
        .into_iter()
        .collect();
    let expected: BTreeSet<String> = model.scheduled.iter().map(EntryId::to_string).collect();
    assert_eq!(scheduled, expected, "{what}");
    if !model.queue.is_empty() {
        assert!(
            bench.due().await.is_some(),
            "{what}: nobody would come for it"
        );
    }
    let homes: BTreeSet<&String> = model
        .queue
        .values()
        .chain(model.dead.values())
        .chain(&model.delivered)
        .collect();
    assert_eq!(homes.len(), model.stored, "{what}");
    assert_eq!(
        model.queue.len() + model.dead.len() + model.delivered.len(),
        model.stored
    );
}
