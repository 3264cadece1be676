use super::*;

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_one() {
    let problem = problem("[delivery]\nmax_in_flight = 5\ntimeuot = \"hunter2\"\n");
    assert_eq!(problem.key, "delivery.timeuot");
    assert!(
        problem.origin.ends_with("pombo.toml:3"),
        "{}",
        problem.origin
    );
    assert_eq!(problem.reason, "there is no such setting");
    assert_eq!(problem.nearest.as_deref(), Some("delivery.timeout"));
    assert!(problem.allowed.contains("connect_timeout"));
    assert!(!problem.to_string().contains("hunter2"));
}

#[test]
fn the_nearest_key_is_found_in_other_ways_too() {
    for (config, nearest) in [
        (
            "[delivery]\nmax-in-flight = 5",
            Some("delivery.max_in_flight"),
        ),
        ("[redis]\nurl_fiel = \"x\"", Some("redis.url_file")),
        ("prefix = \"x\"", Some("redis.prefix")),
        ("[retries]\nfirst = \"1s\"", Some("retry")),
        ("[Redis]\nurl = \"x\"", Some("redis")),
        ("[[source]]\nstream = \"x\"", Some("sources")),
        ("[redis]\nzzz = 1", None),
    ] {
        assert_eq!(problem(config).nearest.as_deref(), nearest, "{config}");
    }
}

#[test]
fn an_unknown_variable_is_refused_by_its_name() {
    let problem = environment_problem("POMBO_REDIS__PASWORD", "hunter2");
    assert_eq!(problem.key, "redis.pasword");
    assert_eq!(problem.origin, "environment variable POMBO_REDIS__PASWORD");
    assert_eq!(problem.nearest.as_deref(), Some("redis.password"));
    assert!(!problem.to_string().contains("hunter2"));
}

#[test]
fn keys_in_lists_are_named_with_their_number_and_line() {
    let problem =
        problem("[[sources]]\nstream = \"a\"\n\n[[sources]]\nstream = \"b\"\nformat = \"xml\"\n");
    assert_eq!(problem.key, "sources[1].format");
    assert!(
        problem.origin.ends_with("pombo.toml:6"),
        "{}",
        problem.origin
    );
    assert_eq!(problem.reason, "\"xml\" is none of the choices");
    assert_eq!(problem.allowed, r#""fields", "json", "cloudevents""#);

    let problem = environment_problem("POMBO__SOURCES", r#"[{"stream":"a","formt":"json"}]"#);
    assert_eq!(problem.key, "sources[0].formt");
    assert_eq!(problem.origin, "environment variable POMBO__SOURCES");
    assert_eq!(problem.nearest.as_deref(), Some("sources[0].format"));
}

#[test]
fn wrong_types_and_ranges_are_refused_with_what_is_allowed() {
    for (config, reason, allowed) in [
        (
            "[retry]\nfirst = 5",
            "is an integer, which is of the wrong type",
            "a duration with its unit, 100ms to 7d",
        ),
        ("[retry]\nfirst = \"5\"", "\"5\" has no unit", "a duration"),
        (
            "[retry]\nfirst = \"99ms\"",
            "\"99ms\" is too small",
            "100ms to 7d",
        ),
        (
            "[retry]\nfactor = 0.5",
            "\"0.5\" is out of range",
            "1.0 to 100.0",
        ),
        ("[retry]\nfactor = nan", "is out of range", "1.0 to 100.0"),
        (
            "[retry]\njitter = 1",
            "\"1\" is out of range",
            "0.0 to below 1.0",
        ),
        (
            "[retry]\nmax_attempts = 0",
            "\"0\" is too small",
            "an integer from 1 to 100000",
        ),
        (
            "[retry]\nmax_attempts = \"3\"",
            "is text, which is of the wrong type",
            "an integer",
        ),
        (
            "[retry]\nmax_attempts = 99999999999999999999",
            "is an integer that is too large",
            "an integer",
        ),
        (
            "[delivery]\nmax_payload = \"1M\"",
            "\"1M\" has an unknown unit",
            "1B to 64MiB",
        ),
        (
            "[delivery]\nmax_payload = -1",
            "\"-1\" is too small",
            "1B to 64MiB",
        ),
        (
            "[delivery]\ntenant_field = \"data\"",
            "another part of the envelope",
            "letters, digits",
        ),
        (
            "[ownership]\nshards = 1025",
            "\"1025\" is too large",
            "from 1 to 1024",
        ),
        (
            "[ownership]\nlease = \"2s\"",
            "\"2s\" is too small",
            "3s to 5m",
        ),
        ("[redis]\nprefix = \"\"", "\"\" is empty", "visible ASCII"),
        (
            "[redis]\nprefix = \"a{b}\"",
            "contains { or }",
            "without { and }",
        ),
        (
            "[redis]\nprefix = \"a b\"",
            "not visible ASCII",
            "visible ASCII",
        ),
        (
            "[redis]\nmemory_watermark = 2",
            "is out of range",
            "0.1 to 1.0",
        ),
        (
            "[redis]\nresponse_timeout = \"10ms\"",
            "is too small",
            "100ms to 1m",
        ),
        (
            "[signature]\nheader = \"a b\"",
            "is not the name of an HTTP header",
            "x-signature",
        ),
        (
            "[signature]\nheader = \"Webhook-Signature\"",
            "for another purpose",
            "x-signature",
        ),
        ("[signature]\nheader = \"x|y\"", "in it", "x-signature"),
        (
            "[signature]\nheader = \"content-type\"",
            "for another purpose",
            "x-signature",
        ),
        (
            "[signature]\nstandard_webhooks = \"yes\"",
            "is text",
            "true or false",
        ),
        (
            "[targets]\nallow = \"127.0.0.0/8\"",
            "is text",
            "a list of networks",
        ),
        (
            "[metrics]\nlisten = \"localhost:9464\"",
            "names are not looked up",
            "127.0.0.1:9464",
        ),
        (
            "[logging]\nlevel = \"inof\"",
            "neither a level nor",
            "error, warn",
        ),
        (
            "[instance]\nname = 2024-01-01",
            "is a date or a time",
            "visible ASCII",
        ),
        (
            "redis = \"redis://u:hunter2@host\"",
            "is text, which",
            "a table",
        ),
        (
            "sources = { stream = \"events\" }",
            "is a table, which",
            "a list of tables",
        ),
        ("sources = [\"hunter2\"]", "is text, which", "a table"),
    ] {
        let problem = problem(config);
        assert!(problem.reason.contains(reason), "{config}: {problem}");
        assert!(problem.allowed.contains(allowed), "{config}: {problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn texts_of_the_environment_are_refused_like_values_of_a_file() {
    for (name, value, reason) in [
        (
            "POMBO_RETRY__MAX_ATTEMPTS",
            "many",
            "\"many\" is no integer",
        ),
        ("POMBO_RETRY__JITTER", "some", "\"some\" is no number"),
        ("POMBO_RETRY__JITTER", "NaN", "\"NaN\" is out of range"),
        (
            "POMBO_TARGETS__HTTPS_ONLY",
            "1",
            "\"1\" is neither true nor false",
        ),
        (
            "POMBO_TARGETS__ALLOW",
            "127.0.0.0/8",
            "is not valid JSON (line 1, column 6)",
        ),
        (
            "POMBO_TARGETS__ALLOW",
            "[\"10.0.0.1/8\"]",
            "within the network 10.0.0.0/8",
        ),
        (
            "POMBO__SOURCES",
            "[{\"url\": hunter2}]",
            "is not valid JSON",
        ),
        ("POMBO__SOURCES", "null", "is null"),
        ("POMBO_REDIS__PASSWORD", "", "is empty"),
        (
            "POMBO_REDIS__PREFIX",
            "\u{FFFD}",
            "is text that is not UTF-8",
        ),
    ] {
        let problem = environment_problem(name, value);
        assert!(problem.reason.contains(reason), "{problem}");
        assert_eq!(problem.origin, format!("environment variable {name}"));
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn every_problem_is_reported_at_once_and_covered_ones_as_well() {
    let error = Surroundings::new()
        .variable("POMBO_RETRY__FIRST", "1s")
        .refused("[retry]\nfirst = 1\nlast = 2\n[delivery]\nconnect_timeout = \"1m\"\n");
    let keys: Vec<&str> = error.problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        ["delivery.connect_timeout", "retry.first", "retry.last"]
    );
    let text = error.to_string();
    assert!(
        text.starts_with("the settings are wrong in 3 places:\n"),
        "{text}"
    );
}

#[test]
fn broken_toml_is_reported_by_line_and_column_without_quoting_it() {
    for config in [
        "[redis]\npassword = hunter2\n",
        "[redis]\npassword = \"hunter2\n",
        "[redis]\npassword = \"\\hunter2\"\n",
        "[redis]\npassword = \"a\" hunter2\n",
        "[redis]\npassword = 'a'\npassword = 'hunter2'\n",
        "[redis\npassword = 'hunter2'\n",
        "[redis]\npassword = 0xhunter2\n",
        "[redis]\npassword = 2024-hunter2\n",
    ] {
        let error = Surroundings::new().refused(config);
        let text = error.to_string();
        assert!(text.contains("is not valid TOML"), "{text}");
        assert!(text.contains(", column "), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_report_reads_well() {
    let problem = Problem {
        key: "delivery.timeuot".into(),
        origin: "/etc/pombo/pombo.toml:3".into(),
        reason: "there is no such setting".into(),
        allowed: "the keys of delivery are timeout".into(),
        nearest: Some("delivery.timeout".into()),
    };
    let error = SettingsError {
        problems: vec![problem],
    };
    assert_eq!(
        error.to_string(),
        "the settings are wrong:\n  \
         delivery.timeuot: there is no such setting; did you mean delivery.timeout?\n    \
         given in /etc/pombo/pombo.toml:3\n    \
         allowed: the keys of delivery are timeout"
    );
}
