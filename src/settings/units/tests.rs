use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

#[test]
fn durations_are_read_with_their_units() {
    for (text, millis) in [
        ("250ms", 250),
        ("15s", 15_000),
        ("5m", 300_000),
        ("12h", 43_200_000),
        ("4d", 345_600_000),
        ("1h30m", 5_400_000),
        ("1h 30m", 5_400_000),
        ("0s", 0),
    ] {
        let duration = parse_duration(text).unwrap();
        assert_eq!(duration, Duration::from_millis(millis), "{text}");
    }
}

#[test]
fn what_is_no_duration_is_refused_with_a_reason() {
    for (text, reason) in [
        ("", "is empty"),
        ("15", "has no unit"),
        ("0", "has no unit"),
        ("1h 5", "ends without a unit"),
        ("5 parsecs", "has an unknown unit (known: ms, s, m, h, d)"),
        ("s", "has no number before a unit"),
        ("-5s", "has no number before a unit"),
        ("5s!", "has a character that no duration has"),
        (
            "1month",
            "has a month or a year in it, which have no fixed length",
        ),
        (
            "5M",
            "has a month or a year in it, which have no fixed length",
        ),
        ("99999999999999999999s", "is too large or too fine a number"),
    ] {
        let error = parse_duration(text).unwrap_err();
        assert_eq!(error.to_string(), reason, "{text}");
    }
}

#[test]
fn durations_are_written_short() {
    for (millis, text) in [
        (0, "0s"),
        (250, "250ms"),
        (1_500, "1s500ms"),
        (60_000, "1m"),
        (5_400_000, "1h30m"),
        (345_600_000, "4d"),
    ] {
        assert_eq!(format_duration(Duration::from_millis(millis)), text);
    }
}

#[test]
fn sizes_are_read_with_and_without_units() {
    for (text, bytes) in [
        ("0", 0),
        ("1048576", 1_048_576),
        ("1MiB", 1_048_576),
        ("16 KiB", 16_384),
        ("1MB", 1_000_000),
        ("3kb", 3_000),
        ("7B", 7),
        ("1GiB", 1 << 30),
    ] {
        assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
    }
}

#[test]
fn what_is_no_size_is_refused_with_a_reason() {
    for (text, reason) in [
        ("", "does not begin with a whole number"),
        ("MiB", "does not begin with a whole number"),
        ("-1", "does not begin with a whole number"),
        (
            "1.5MiB",
            "has an unknown unit (known: B, KB, MB, GB, KiB, MiB, GiB)",
        ),
        (
            "1M",
            "has an unknown unit (known: B, KB, MB, GB, KiB, MiB, GiB)",
        ),
        ("99999999999999999999", "is too large a number"),
        ("99999999999999GiB", "is too large a number"),
    ] {
        assert_eq!(parse_size(text).unwrap_err().to_string(), reason, "{text}");
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Holder {
    #[serde(with = "duration")]
    wait: Duration,
    #[serde(with = "option_duration", default)]
    limit: Option<Duration>,
    #[serde(with = "size")]
    room: usize,
}

#[test]
fn the_serde_forms_are_the_texts() {
    let holder: Holder =
        serde_json::from_str(r#"{"wait":"15s","limit":"1m","room":"16KiB"}"#).unwrap();
    assert_eq!(holder.wait, Duration::from_secs(15));
    assert_eq!(holder.limit, Some(Duration::from_secs(60)));
    assert_eq!(holder.room, 16_384);
    assert_eq!(
        serde_json::to_string(&holder).unwrap(),
        r#"{"wait":"15s","limit":"1m","room":"16KiB"}"#
    );
    let without: Holder = serde_json::from_str(r#"{"wait":"1s","room":10}"#).unwrap();
    assert_eq!((without.limit, without.room), (None, 10));
    assert!(serde_json::from_str::<Holder>(r#"{"wait":15,"room":10}"#).is_err());
    assert!(serde_json::from_str::<Holder>(r#"{"wait":"1s","room":-1}"#).is_err());
}

proptest! {
    #[test]
    fn a_written_duration_reads_back(secs in 0u64..10_000_000_000, nanos in 0u32..1_000_000_000) {
        let duration = Duration::new(secs, nanos);
        prop_assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
    }

    #[test]
    fn a_written_size_reads_back(bytes in any::<usize>(), shift in 0u32..40) {
        let bytes = bytes >> shift << shift;
        prop_assert_eq!(parse_size(&format_size(bytes)).unwrap(), bytes);
    }

    #[test]
    fn no_text_makes_the_readers_panic(text in ".{0,40}") {
        let _ = parse_duration(&text);
        let _ = parse_size(&text);
    }
}
