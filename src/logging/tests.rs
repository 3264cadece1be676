use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged_at(level: &str, format: LogFormat, colour: bool, act: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let filter = filter::parse(level).unwrap();
    let subscriber = subscriber(format, filter, colour, move || writer.clone());
    tracing::subscriber::with_default(subscriber, act);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn logged(format: LogFormat, act: impl FnOnce()) -> String {
    logged_at("info", format, false, act)
}

const HOSTILE: &str = "a\nERROR forged\r\u{1b}[2J\u{9b}31m\u{7f}\u{202e}z";

#[test]
fn text_lines_hold_message_and_fields_with_quotes_where_needed() {
    let text = logged(LogFormat::Text, || {
        tracing::warn!(webhook = "wh_1", error = %"no \"route\"", attempt = 3, "attempt failed");
    });
    assert!(
        text.ends_with("attempt failed webhook=wh_1 error=\"no \\\"route\\\"\" attempt=3\n"),
        "{text}"
    );
    assert!(text.contains(" WARN "), "{text}");
}

#[test]
fn nothing_hostile_reaches_a_text_line_raw() {
    for colour in [false, true] {
        let text = logged_at("info", LogFormat::Text, colour, || {
            let span = tracing::error_span!("lane", webhook = HOSTILE);
            let _inside = span.enter();
            tracing::info!(display = %HOSTILE, debug = ?HOSTILE, text = HOSTILE, "message {HOSTILE}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(
            !text.contains(['\r', '\u{9b}', '\u{7f}', '\u{202e}']),
            "{text:?}"
        );
        assert!(!text.contains("\u{1b}[2J"), "{text:?}");
        assert_eq!(text.contains('\u{1b}'), colour, "{text:?}");
        assert!(
            text.contains(r"a\nERROR forged\r\u{1b}[2J\u{9b}31m\u{7f}\u{202e}z"),
            "{text:?}"
        );
    }
}

#[test]
fn nothing_hostile_reaches_a_json_line_raw_and_it_reads_back_unchanged() {
    let text = logged(
        LogFormat::Json,
        || tracing::info!(error = %HOSTILE, "hello"),
    );
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
    assert!(
        text.trim_end_matches('\n')
            .chars()
            .all(|c| !c.is_control() && c != '\u{202e}'),
        "{text:?}"
    );
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["error"], HOSTILE);
    assert_eq!(line["message"], "hello");
    assert_eq!(line["level"], "INFO");
}

#[test]
fn a_bare_level_is_for_pombo_and_leaves_libraries_at_warnings() {
    let text = logged_at("trace", LogFormat::Text, false, || {
        tracing::trace!("ours");
        tracing::info!(target: "h2::codec", "theirs, with headers");
        tracing::warn!(target: "h2::codec", "their warning");
    });
    assert!(
        text.contains("ours") && text.contains("their warning"),
        "{text}"
    );
    assert!(!text.contains("with headers"), "{text}");
}

#[test]
fn directives_choose_levels_by_module() {
    let text = logged_at(
        "error,h2=info,pombo::logging=debug",
        LogFormat::Text,
        false,
        || {
            tracing::debug!("ours");
            tracing::info!(target: "h2::codec", "theirs");
            tracing::info!(target: "pombo::other", "other");
        },
    );
    assert!(
        text.contains("ours") && text.contains("theirs") && !text.contains("other"),
        "{text}"
    );
}

#[test]
fn levels_are_read_strictly() {
    for level in [
        "info",
        "WARN",
        "off",
        "info,pombo::dispatch=debug",
        "debug , hyper=info",
    ] {
        assert!(check_level(level).is_ok(), "{level}");
    }
    for level in [
        "inof",
        "",
        "pombo",
        "pombo=loud",
        "info,",
        "info,,warn",
        "verbose,info",
    ] {
        assert!(
            matches!(check_level(level), Err(LoggingError::Level { .. })),
            "{level}"
        );
    }
}

#[test]
fn a_state_is_logged_when_it_changes_and_not_at_every_retry() {
    let redis = StateLog::new("redis");
    let text = logged(LogFormat::Text, || {
        assert!(!redis.well(), "well at first is no news");
        assert!(redis.trouble("refused", "connection refused, port 4711"));
        for port in 0..1000 {
            assert!(!redis.trouble("refused", format_args!("connection refused, port {port}")));
        }
        assert!(redis.trouble("loading", "Redis is loading its data"));
        assert!(redis.well());
        assert!(!redis.well());
    });
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].ends_with(
            "trouble subject=redis reason=refused error=\"connection refused, port 4711\""
        ),
        "{text}"
    );
    assert!(lines[0].contains(" WARN "), "{text}");
    assert!(lines[1].contains("reason=loading"), "{text}");
    assert!(
        lines[2].contains(" INFO ") && lines[2].ends_with("reason=loading count=1"),
        "{text}"
    );
}

#[test]
fn a_trouble_that_goes_on_for_another_cause_tells_each_cause_once() {
    let redis = StateLog::new("redis");
    let text = logged(LogFormat::Text, || {
        for port in 0..3 {
            let told = port == 0;
            assert_eq!(
                told,
                redis.trouble("failed", format_args!("refused, port {port}"))
            );
            assert_eq!(
                told,
                redis.trouble("failed", format_args!("no answer after {port} ms"))
            );
        }
        for cause in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
            redis.trouble("failed", cause);
        }
        assert!(redis.well());
    });
    // Two, six more up to the bound, and the end.
    assert_eq!(text.lines().count(), 9, "{text}");
    assert!(text.ends_with("reason=failed count=15\n"), "{text}");
}

#[test]
fn severe_trouble_is_an_error() {
    let text = logged(LogFormat::Text, || {
        StateLog::severe("source crm").trouble("lost", "12 entries were trimmed");
    });
    assert!(
        text.contains("ERROR") && text.contains("subject=\"source crm\""),
        "{text}"
    );
}
