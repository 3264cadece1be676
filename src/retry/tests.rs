use proptest::prelude::*;

use super::*;

const HOUR: u64 = 60 * 60 * 1_000;
const MIDDLE: f64 = 0.5;

fn exact() -> RetryPolicy {
    RetryPolicy {
        jitter: 0.0,
        ..RetryPolicy::default()
    }
}

#[test]
fn the_default_policy_goes_from_five_seconds_to_twelve_hours() {
    let policy = RetryPolicy::default();
    let seconds: Vec<u64> = (1..15).map(|n| policy.base_delay(n).as_secs()).collect();
    assert_eq!(
        seconds,
        [
            5, 15, 45, 135, 405, 1_215, 3_645, 10_935, 32_805, 43_200, 43_200, 43_200, 43_200,
            43_200
        ]
    );
    assert!(policy.validate().is_empty());
}

#[test]
fn the_last_attempt_exhausts_the_delivery() {
    let policy = exact();
    assert_eq!(policy.next(14, 0, None, MIDDLE, 0), Next::At(12 * HOUR));
    assert_eq!(
        policy.next(15, 0, None, MIDDLE, 0),
        Next::GiveUp(DeadReason::Exhausted)
    );
    assert_eq!(
        policy.next(u32::MAX, 0, None, MIDDLE, 0),
        Next::GiveUp(DeadReason::Exhausted)
    );
}

#[test]
fn an_attempt_past_the_age_limit_expires_the_delivery() {
    let policy = exact();
    let limit = 1_000 + 96 * HOUR;
    assert_eq!(
        policy.next(1, 1_000, None, MIDDLE, limit - 5_000),
        Next::At(limit)
    );
    assert_eq!(
        policy.next(1, 1_000, None, MIDDLE, limit - 4_999),
        Next::GiveUp(DeadReason::Expired)
    );
    assert_eq!(
        policy.next(1, 1_000, Some(limit + 1), MIDDLE, 2_000),
        Next::GiveUp(DeadReason::Expired)
    );
}

#[test]
fn a_hint_only_ever_makes_the_delay_longer() {
    let policy = exact();
    assert_eq!(policy.next(1, 0, Some(60_000), MIDDLE, 0), Next::At(60_000));
    assert_eq!(policy.next(1, 0, Some(1_000), MIDDLE, 0), Next::At(5_000));
}

#[test]
fn jitter_spreads_both_ways() {
    let policy = RetryPolicy::default();
    assert_eq!(policy.next(1, 0, None, 0.0, 0), Next::At(4_000));
    assert_eq!(policy.next(1, 0, None, MIDDLE, 0), Next::At(5_000));
    assert_eq!(policy.next(1, 0, None, 0.999_999_9, 0), Next::At(6_000));
}

#[test]
fn a_factor_of_one_keeps_the_delay_and_does_not_walk_far() {
    let policy = RetryPolicy {
        first: Duration::from_millis(100),
        factor: 1.0,
        ..exact()
    };
    assert_eq!(policy.base_delay(u32::MAX), Duration::from_millis(100));
    assert_eq!(policy.base_delay(0), Duration::from_millis(100));
    let steep = RetryPolicy::default();
    assert_eq!(steep.base_delay(u32::MAX), steep.longest);
}

#[test]
fn an_override_changes_what_it_names() {
    let other: RetryOverride = toml::from_str("first = \"100ms\"\nmax_attempts = 3").unwrap();
    let policy = RetryPolicy::default().overridden(&other);
    assert_eq!(
        policy,
        RetryPolicy {
            first: Duration::from_millis(100),
            max_attempts: 3,
            ..RetryPolicy::default()
        }
    );
    assert!(toml::from_str::<RetryOverride>("frist = \"1s\"").is_err());
}

#[test]
fn every_field_out_of_range_is_named() {
    let wrong = RetryPolicy {
        first: Duration::from_millis(99),
        factor: f64::NAN,
        longest: Duration::ZERO,
        jitter: 1.1,
        max_attempts: 0,
        max_age: Duration::MAX,
    };
    let fields: Vec<String> = wrong.validate().into_iter().map(|e| e.field).collect();
    assert_eq!(
        fields,
        [
            "first",
            "factor",
            "longest",
            "longest",
            "jitter",
            "max_attempts",
            "max_age"
        ]
    );
    assert!(RetryOverride::default().validate().is_empty());
}

fn policies() -> impl Strategy<Value = RetryPolicy> {
    (
        100_u64..5_000_000,
        1.0_f64..20.0,
        100_u64..50_000_000,
        0.0_f64..=1.0,
        1_u32..200,
        100_u64..400_000_000,
    )
        .prop_map(
            |(first, factor, longest, jitter, max_attempts, max_age)| RetryPolicy {
                first: Duration::from_millis(first),
                factor,
                longest: Duration::from_millis(longest),
                jitter,
                max_attempts,
                max_age: Duration::from_millis(max_age),
            },
        )
}

proptest! {
    #[test]
    fn the_base_delay_never_shrinks_and_stays_within_its_bounds(policy in policies()) {
        let mut last = policy.first.min(policy.longest);
        for attempt in 1..40 {
            let delay = policy.base_delay(attempt);
            prop_assert!(delay >= last && delay <= policy.longest);
            last = delay;
        }
    }

    #[test]
    fn the_base_delay_is_the_power_that_it_claims_to_be(policy in policies(), attempt in 1_u32..20) {
        let first = policy.first.min(policy.longest).as_secs_f64();
        let expected = (first * policy.factor.powi(attempt as i32 - 1)).min(policy.longest.as_secs_f64());
        let delay = policy.base_delay(attempt).as_secs_f64();
        prop_assert!((delay - expected).abs() <= 1e-6 * expected.max(1.0), "{delay} {expected}");
    }

    #[test]
    fn the_next_attempt_respects_jitter_hint_and_age(
        policy in policies(),
        made in 1_u32..250,
        first in 0_u64..1_000_000,
        waited in 0_u64..400_000_000,
        hint in prop::option::of(0_u64..500_000_000),
        random in 0.0_f64..1.0,
    ) {
        let now = first + waited;
        let limit = first + policy.max_age.as_millis() as u64;
        let base = policy.base_delay(made).as_secs_f64() * 1_000.0;
        let (least, most) = (base * (1.0 - policy.jitter), base * (1.0 + policy.jitter));
        match policy.next(made, first, hint, random, now) {
            Next::At(due) => {
                prop_assert!(made < policy.max_attempts);
                prop_assert!(due <= limit);
                prop_assert!(due >= hint.unwrap_or(0));
                let delay = (due - now) as f64;
                prop_assert!(delay >= least - 1.0);
                prop_assert!(delay <= most + 1.0 || Some(due) == hint);
            }
            Next::GiveUp(DeadReason::Exhausted) => prop_assert!(made >= policy.max_attempts),
            Next::GiveUp(reason) => {
                prop_assert_eq!(reason, DeadReason::Expired);
                let latest = (now as f64 + most + 1.0).max(hint.unwrap_or(0) as f64);
                prop_assert!(latest > limit as f64);
            }
        }
    }
}
