use proptest::prelude::*;

use super::*;

fn matches(filter: &str, event_type: &str) -> bool {
    EventFilter::parse(filter).unwrap().matches(event_type)
}

#[test]
fn a_name_matches_itself_alone() {
    assert!(matches("crm.lead.created", "crm.lead.created"));
    assert!(!matches("crm.lead.created", "crm.lead.create"));
    assert!(!matches("crm.lead", "crm.lead.created"));
    assert!(EventFilter::parse("crm.lead").unwrap().is_exact());
}

#[test]
fn one_star_is_exactly_one_segment() {
    assert!(matches("crm.*.created", "crm.lead.created"));
    assert!(!matches("crm.*.created", "crm.created"));
    assert!(!matches("crm.*.created", "crm.lead.stage.created"));
    assert!(matches("crm.*", "crm.lead"));
    assert!(!matches("crm.*", "crm"));
    assert!(!matches("crm.*", "crm.lead.created"));
    assert!(matches("*.*", "contact.created"));
    assert!(!matches("*.*", "contact"));
    assert!(!EventFilter::parse("crm.*").unwrap().is_exact());
}

#[test]
fn a_final_double_star_is_one_or_more_segments() {
    assert!(matches("crm.**", "crm.lead"));
    assert!(matches("crm.**", "crm.lead.created"));
    assert!(!matches("crm.**", "crm"));
    assert!(!matches("crm.**", "crmx.lead"));
    assert!(matches("*.lead.**", "crm.lead.a.b"));
    assert!(matches("**", "anything.at.all"));
}

#[test]
fn a_star_alone_is_everything() {
    for event_type in ["a", "a.b", "a.b.c", "..", "*"] {
        assert!(matches("*", event_type));
    }
    assert!(!EventFilter::parse("*").unwrap().is_exact());
}

#[test]
fn what_could_mean_something_else_is_refused() {
    let long = "a".repeat(257);
    for (text, error) in [
        ("", FilterError::Empty),
        (long.as_str(), FilterError::TooLong),
        ("crm lead", FilterError::NotVisibleAscii),
        ("crm.lead\n", FilterError::NotVisibleAscii),
        ("crm.ação", FilterError::NotVisibleAscii),
        ("crm..lead", FilterError::EmptySegment),
        (".crm", FilterError::EmptySegment),
        ("crm.", FilterError::EmptySegment),
        ("crm.**.created", FilterError::DoubleStarInside),
        ("crm.le*", FilterError::PartialWildcard),
        ("crm.***", FilterError::PartialWildcard),
    ] {
        assert_eq!(EventFilter::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn a_wrong_filter_in_a_file_says_what_is_allowed() {
    let error = serde_json::from_str::<EventFilter>(r#""crm.le*""#)
        .unwrap_err()
        .to_string();
    assert!(error.contains("whole segments"), "{error}");
    assert!(error.contains("crm.*.created"), "{error}");
}

/// The definition itself: try every way to lay the pattern over the segments.
fn naive(pattern: &[&str], segments: &[&str]) -> bool {
    match (pattern, segments) {
        ([], []) => true,
        (["**"], [_, ..]) => true,
        (["*", pattern @ ..], [_, segments @ ..]) => naive(pattern, segments),
        ([name, pattern @ ..], [segment, segments @ ..]) => {
            name == segment && naive(pattern, segments)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn agrees_with_the_naive_matcher(
        mut pattern in prop::collection::vec("[ab]|\\*", 1..5),
        open_end in any::<bool>(),
        event_type in prop::collection::vec("[ab]", 1..6),
    ) {
        if open_end {
            pattern.push("**".into());
        }
        let text = pattern.join(".");
        let parts: Vec<&str> = pattern.iter().map(String::as_str).collect();
        let segments: Vec<&str> = event_type.iter().map(String::as_str).collect();
        let expected = text == "*" || naive(&parts, &segments);
        prop_assert_eq!(matches(&text, &event_type.join(".")), expected);
    }

    #[test]
    fn any_text_is_either_refused_or_kept_as_written(text in "[a-c.*\\PC]{0,12}") {
        if let Ok(filter) = EventFilter::parse(&text) {
            prop_assert_eq!(filter.as_str(), &text);
            prop_assert_eq!(filter.is_exact(), !text.contains('*'));
            let json = serde_json::to_string(&filter).unwrap();
            prop_assert_eq!(serde_json::from_str::<EventFilter>(&json).unwrap(), filter);
        }
    }
}
