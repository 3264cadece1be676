use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_773_403_200_000;
const HOUR: u64 = 3_600_000;

fn answer(status: u16, retry_after: Option<&str>) -> AttemptResult {
    AttemptResult::Answer {
        status,
        retry_after: retry_after.map(str::to_owned),
        body_start: Vec::new(),
    }
}

fn failure(kind: FailureKind, detail: &str) -> AttemptResult {
    AttemptResult::Failure {
        kind,
        detail: detail.to_owned(),
    }
}

fn hint(result: &AttemptResult) -> Option<u64> {
    match result.outcome(NOW) {
        Outcome::Failed { not_before_ms, .. } => not_before_ms,
        _ => None,
    }
}

#[test]
fn every_2xx_is_a_delivery_and_410_is_the_end() {
    for status in [200, 201, 204, 299] {
        assert_eq!(answer(status, None).outcome(NOW), Outcome::Delivered);
    }
    assert_eq!(answer(410, None).outcome(NOW), Outcome::Gone);
}

#[test]
fn every_other_answer_is_a_failure_in_plain_words() {
    for (status, reason) in [
        (500, "answered 500 Internal Server Error"),
        (302, "answered 302 Found"),
        (404, "answered 404 Not Found"),
        (199, "answered 199"),
        (600, "answered 600"),
        (0, "answered 0"),
    ] {
        assert_eq!(
            answer(status, Some("5")).outcome(NOW),
            Outcome::Failed {
                reason: reason.to_owned(),
                not_before_ms: None
            }
        );
    }
}

#[test]
fn every_failure_is_told_in_plain_words() {
    for (kind, detail, text) in [
        (FailureKind::Timeout, "", "no answer within the deadline"),
        (
            FailureKind::Connect,
            "connection refused",
            "the connection failed: connection refused",
        ),
        (
            FailureKind::Tls,
            "the certificate has expired",
            "could not secure the connection: the certificate has expired",
        ),
        (FailureKind::Dns, "", "could not resolve the host's name"),
        (
            FailureKind::Forbidden,
            "10.0.0.1",
            "the address may not be called: 10.0.0.1",
        ),
        (
            FailureKind::Other,
            "two\r\nlines",
            "no proper answer: two  lines",
        ),
    ] {
        let result = failure(kind, detail);
        assert_eq!(result.describe(), text);
        assert_eq!(result.class(), kind.as_str());
        assert_eq!(result.status(), None);
        assert_eq!(
            result.outcome(NOW),
            Outcome::Failed {
                reason: text.to_owned(),
                not_before_ms: None
            }
        );
    }
    let long = failure(FailureKind::Other, &"é".repeat(400)).describe();
    assert!(long.len() <= 300);
}

#[test]
fn answers_are_classed_by_their_hundred() {
    for (status, class) in [
        (200, "2xx"),
        (301, "3xx"),
        (410, "4xx"),
        (599, "5xx"),
        (101, "other"),
        (999, "other"),
    ] {
        assert_eq!(answer(status, None).class(), class);
        assert_eq!(answer(status, None).status(), Some(status));
    }
}

#[test]
fn a_wait_is_asked_for_in_seconds_or_by_date_and_is_at_most_an_hour() {
    for status in [429, 503] {
        for (text, expected) in [
            ("120", Some(NOW + 120_000)),
            (" 7 ", Some(NOW + 7_000)),
            ("3600", Some(NOW + HOUR)),
            ("3601", Some(NOW + HOUR)),
            ("99999999999999999999999", Some(NOW + HOUR)),
            ("Fri, 13 Mar 2026 12:00:10 GMT", Some(NOW + 10_000)),
            ("Friday, 13-Mar-26 12:00:10 GMT", Some(NOW + 10_000)),
            ("Sat, 14 Mar 2026 12:00:00 GMT", Some(NOW + HOUR)),
            ("Fri, 13 Mar 2026 11:59:59 GMT", None),
            ("0", None),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(hint(&answer(status, Some(text))), expected, "{text:?}");
        }
        assert_eq!(hint(&answer(status, None)), None);
    }
}

proptest! {
    #[test]
    fn no_header_asks_for_more_than_an_hour(text in "[0-9]{0,30}|\\PC{0,30}", now in any::<u64>()) {
        let result = answer(503, Some(&text));
        if let Outcome::Failed { not_before_ms: Some(due), .. } = result.outcome(now) {
            prop_assert!(due >= now && due <= now.saturating_add(HOUR));
        }
    }
}
