use std::collections::HashSet;

use proptest::prelude::*;

use super::life::Home;
use super::*;

#[test]
fn a_delivery_id_is_stable_and_names_its_webhook() {
    let entry = EntryId { ms: 5, seq: 7 };
    let id = delivery_id("wh_1-a", "events", entry);
    assert_eq!(id, "wh_1-a.Vx9vKE6ag36Zcc0bSec7XA");
    assert_eq!(id, delivery_id("wh_1-a", "events", entry));
    assert_eq!(webhook_id_of(&id), Some("wh_1-a"));
    assert_ne!(id, delivery_id("wh_1-a", "events2", entry));
    assert_ne!(id, delivery_id("wh_1-a", "events", entry.next()));
}

#[test]
fn what_is_no_delivery_id_names_no_webhook() {
    for text in [
        "",
        "wh_1",
        "wh_1.short",
        ".AAAAAAAAAAAAAAAAAAAAAA",
        "w h.AAAAAAAAAAAAAAAAAAAAAA",
        "wh.AAAAAAAAAAAAAAAAAAAAA=",
        "a.b.AAAAAAAAAAAAAAAAAAAAAA",
    ] {
        assert_eq!(webhook_id_of(text), None, "{text}");
    }
}

#[test]
fn tries_count_on_through_a_replay_while_the_policy_starts_anew() {
    let first = Tries::default().failed(100, Some(500), "answered 500");
    let second = first.failed(200, None, &"é".repeat(200));
    assert_eq!((second.attempts, second.since_replay), (2, 2));
    assert_eq!(
        (second.first_attempt_ms, second.last_attempt_ms),
        (100, 200)
    );
    assert_eq!(second.last_error.len(), 300);

    let odd = first.failed(200, None, &format!("x{}", "é".repeat(200)));
    assert_eq!(odd.last_error.len(), 299, "no character is cut in half");

    let again = second.replayed();
    assert_eq!((again.attempts, again.since_replay), (2, 0));
    let third = again.failed(900, Some(404), "answered 404");
    assert_eq!((third.attempts, third.since_replay), (3, 1));
    assert_eq!(third.first_attempt_ms, 900);
}

#[test]
fn every_reason_has_a_name_that_reads_back() {
    for reason in DeadReason::ALL {
        assert_eq!(reason.as_str().parse(), Ok(reason));
        assert_eq!(
            serde_json::to_string(&reason).unwrap(),
            format!("\"{reason}\"")
        );
        assert!(!reason.describe().is_empty());
    }
    assert_eq!("Gone".parse::<DeadReason>(), Err(UnknownReason));
}

/// The machine as it is drawn on paper, in its notation: T taken, S being stored, Q queued, F a POST in
/// flight, L landed; `-` is the source entry with nothing in memory.
const DRAWN: &str = "
    -  Offered T        -  Enqueued Q       -  EnqueueFailed -   -  Overflowed Dead
    T  Started TF       T  Unstarted S
    TF Succeeded Delivered                  TF Failed S         TF Lingered SF
    S  Stored Q         S  StoreFailed T     S  Buried Dead
    SF Stored QF        SF StoreFailed TF   SF Landed SL
    SL Stored QF        SL StoreFailed TF
    Q  Started QF       Q  Buried Dead
    QF Succeeded Delivered                  QF Failed Q
    Dead Replayed Q
    T Voided -  TF Voided -  S Voided -  SF Voided -  SL Voided -
    - WebhookDeleted Discarded   T WebhookDeleted Discarded   TF WebhookDeleted Discarded
    S WebhookDeleted Discarded   SF WebhookDeleted Discarded
    Q WebhookDeleted Discarded   QF WebhookDeleted Discarded
";

fn short(state: State) -> &'static str {
    match state {
        State::AtSource => "-",
        State::Taken => "T",
        State::TakenInFlight => "TF",
        State::Storing => "S",
        State::StoringInFlight => "SF",
        State::StoringLanded => "SL",
        State::Queued => "Q",
        State::QueuedInFlight => "QF",
        State::Delivered => "Delivered",
        State::Dead => "Dead",
        State::Discarded => "Discarded",
    }
}

#[test]
fn the_table_is_the_machine_as_drawn() {
    let words: Vec<&str> = DRAWN.split_whitespace().collect();
    let drawn: HashSet<(String, String, String)> = words
        .chunks(3)
        .map(|row| (row[0].into(), row[1].into(), row[2].into()))
        .collect();
    let table: HashSet<(String, String, String)> = TRANSITIONS
        .iter()
        .map(|(from, by, to)| (short(*from).into(), format!("{by:?}"), short(*to).into()))
        .collect();
    assert_eq!(table, drawn);
    assert_eq!(table.len(), TRANSITIONS.len(), "no transition stands twice");
}

#[test]
fn a_state_and_a_change_lead_to_one_state() {
    let keys: HashSet<(State, Change)> = TRANSITIONS.iter().map(|(f, c, _)| (*f, *c)).collect();
    assert_eq!(keys.len(), TRANSITIONS.len());
    assert_eq!(
        State::Taken.after(Change::Started),
        Some(State::TakenInFlight)
    );
    assert_eq!(State::Delivered.after(Change::Started), None);
}

#[test]
fn every_state_is_reached_and_only_ends_have_no_way_out() {
    let mut reached = HashSet::from([State::AtSource]);
    while TRANSITIONS
        .iter()
        .any(|(from, _, to)| reached.contains(from) && reached.insert(*to))
    {}
    assert_eq!(reached.len(), 11);
    for state in reached {
        let leaves = TRANSITIONS.iter().any(|(from, _, _)| *from == state);
        let end = matches!(state, State::Delivered | State::Discarded);
        assert_eq!(leaves, !end, "{state:?}");
    }
}

#[test]
fn a_home_vanishes_only_by_truth_burial_or_with_its_webhook() {
    for (from, change, to) in TRANSITIONS {
        match (from.home(), to.home()) {
            (_, Home::Nowhere) => {
                assert!(matches!(change, Change::Succeeded | Change::WebhookDeleted))
            }
            (_, Home::DeadLetters) => {
                assert!(matches!(change, Change::Buried | Change::Overflowed));
            }
            (Home::Source, Home::Queue) => assert_eq!(change, Change::Enqueued),
            (Home::Undecided, Home::Queue) => assert_eq!(change, Change::Stored),
            (Home::Queue, after) => assert_eq!(after, Home::Queue),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn the_webhook_of_any_delivery_id_reads_back(
        webhook in "[A-Za-z0-9_-]{1,64}",
        stream in "\\PC{0,20}",
        ms in any::<u64>(),
        seq in any::<u64>(),
    ) {
        let id = delivery_id(&webhook, &stream, EntryId { ms, seq });
        prop_assert_eq!(webhook_id_of(&id), Some(webhook.as_str()));
    }
}
