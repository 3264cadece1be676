use std::time::Duration;

use super::*;

#[test]
fn a_simulated_clock_stands_still_until_it_is_advanced() {
    let (clock, hand) = Clock::simulated(1_000, 7);
    assert_eq!(
        (clock.unix_ms(), clock.monotonic()),
        (1_000, Duration::ZERO)
    );

    let copy = clock.clone();
    hand.advance(Duration::from_micros(1_500));
    assert_eq!(copy.unix_ms(), 1_001);
    assert_eq!(clock.monotonic(), Duration::from_micros(1_500));
    hand.advance(Duration::from_micros(500));
    assert_eq!(clock.unix_ms(), 1_002);
}

#[test]
fn the_same_seed_gives_the_same_chance() {
    let draw = |seed| {
        let (clock, _) = Clock::simulated(0, seed);
        (
            clock.random_unit().to_bits(),
            clock.random_bytes::<16>(),
            clock.random_unit().to_bits(),
        )
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn the_system_clock_never_goes_back_and_its_chance_stays_in_range() {
    let clock = Clock::system();
    let mut last = clock.monotonic();
    for _ in 0..1_000 {
        let now = clock.monotonic();
        assert!(now >= last);
        last = now;
        assert!((0.0..1.0).contains(&clock.random_unit()));
    }
    assert_ne!(clock.random_bytes::<32>(), clock.random_bytes::<32>());
    assert!(clock.unix_ms() > 1_700_000_000_000);
}

#[test]
fn moments_are_written_with_milliseconds_in_utc() {
    assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(rfc3339_ms(1_773_403_200_123), "2026-03-13T12:00:00.123Z");
    assert_eq!(rfc3339_ms(u64::MAX), "9999-12-30T22:00:00.999Z");
}
