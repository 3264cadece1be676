use std::time::Duration;

use super::*;
use crate::settings::schema::{Key, Keys, Kind, ROOT, iter};

#[test]
fn the_embedded_defaults_are_those_of_the_manual() {
    let settings = Settings::defaults_for_tests();
    assert_eq!(settings.redis.server.url.expose(), "redis://127.0.0.1:6379");
    assert_eq!(settings.redis.prefix, "pombo");
    assert!(settings.sources.is_empty());
    assert_eq!(settings.delivery.timeout, Duration::from_secs(15));
    assert_eq!(settings.delivery.max_payload, 1 << 20);
    assert_eq!(settings.delivery.response_body_limit, 16 << 10);
    assert_eq!(settings.retry.longest, Duration::from_secs(12 * 3_600));
    assert_eq!(settings.retry.max_age, Duration::from_secs(4 * 86_400));
    assert_eq!(settings.retry.jitter, 0.2);
    assert_eq!(settings.signature.header, "x-signature");
    assert_eq!(settings.queue.max_deliveries, 2_000_000);
    assert_eq!(settings.metrics.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(settings.shutdown.grace, Duration::from_secs(20));
    assert!(settings.instance.name.ends_with("@127.0.0.1:9464"));
}

#[test]
fn every_key_of_the_schema_is_in_the_defaults_file() {
    let mut section = String::new();
    let mut documented = Vec::new();
    for line in DEFAULTS.lines() {
        let line = match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            Some(_) => continue,
            None => line,
        };
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if let Some((name, _)) = line.split_once(" = ") {
            documented.push(format!("{section}.{name}"));
        }
    }
    // A table within a list of tables is written in one line.
    fn leaves(section: &str, keys: Keys, in_list: bool, found: &mut Vec<String>) {
        for Key { name, kind } in iter(keys) {
            let name = format!("{section}{name}");
            match kind {
                Kind::Section(keys) if !in_list => {
                    leaves(&format!("{name}."), keys, false, found);
                }
                Kind::Sections(keys) if section.is_empty() => {
                    leaves(&format!("{name}."), keys, true, found);
                }
                _ => found.push(name),
            }
        }
    }
    let mut known = Vec::new();
    leaves("", ROOT, false, &mut known);
    documented.sort();
    known.sort();
    assert_eq!(documented, known);
}

/// The defaults file with all its optional keys made real, but for those that contradict each other.
fn uncommented() -> String {
    DEFAULTS
        .lines()
        .filter_map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(' ') || rest.is_empty() => None,
            Some(rest) => Some(rest),
            None => Some(line),
        })
        .filter(|line| !line.contains("_file = "))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn the_optional_keys_of_the_defaults_file_are_valid_too() {
    // And of the ways to give the key of JWTs one alone is allowed.
    let only_for_one_format = ["pointers", "field ", "tenant_attribute", "jwks_url"];
    // Sentinels are only asked where there are some, in a topology that is not the default.
    let config: String = uncommented()
        .replace("\ntopology = \"single\"", "\ntopology = \"sentinel\"")
        .replace("\naddresses = []", "\naddresses = [\"a:26379\"]")
        .lines()
        .filter(|line| !only_for_one_format.iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    let settings = load(&config);
    let mut expected = SourceSettings::new("events");
    expected.server = settings.sources[0].server.clone();
    assert_eq!(settings.sources, [expected]);
}

#[test]
fn the_documented_defaults_of_a_source_are_its_defaults_in_every_format() {
    for (format, keys) in [
        ("json", &["pointers", "field "][..]),
        ("cloudevents", &["field ", "tenant_attribute"]),
    ] {
        let lines: String = uncommented()
            .lines()
            .filter(|line| keys.iter().any(|key| line.starts_with(key)))
            .map(|line| format!("{line}\n"))
            .collect();
        let source = |lines: &str| {
            let settings = load(&format!(
                "[[sources]]\nstream = \"events\"\nformat = \"{format}\"\n{lines}"
            ));
            settings.sources[0].clone()
        };
        assert_eq!(source(&lines), source(""));
    }
}

#[test]
fn a_file_covers_the_defaults_and_the_environment_covers_the_file() {
    let settings = Surroundings::new()
        .variable("POMBO_DELIVERY__MAX_IN_FLIGHT", "7")
        .load("[delivery]\nmax_in_flight = 5\ntimeout = \"20s\"\n")
        .unwrap();
    assert_eq!(settings.delivery.max_in_flight, 7);
    assert_eq!(settings.delivery.timeout, Duration::from_secs(20));
    assert_eq!(settings.delivery.connect_timeout, Duration::from_secs(5));
}

#[test]
fn the_system_file_is_read_if_it_is_there_and_none_is_named() {
    let surroundings = Surroundings::new();
    let file = surroundings.file("system.toml", "[redis]\nprefix = \"other\"\n");
    let settings = Settings::load_from(None, None, &file, std::iter::empty()).unwrap();
    assert_eq!(settings.redis.prefix, "other");

    let missing = surroundings.directory.path().join("missing.toml");
    let settings = Settings::load_from(None, None, &missing, std::iter::empty()).unwrap();
    assert_eq!(settings.redis.prefix, "pombo");

    let named = surroundings.file("named.toml", "");
    let settings = Settings::load_from(None, Some(&named), &file, std::iter::empty()).unwrap();
    assert_eq!(settings.redis.prefix, "pombo");
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let error =
        Settings::load(None, Some(Path::new("/no/such/file")), std::iter::empty()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("/no/such/file"), "{text}");
    assert!(text.contains("cannot be read: No such file"), "{text}");
}

#[test]
fn names_without_a_double_underscore_are_not_settings() {
    let settings = environment(&[
        ("POMBO_SERVICE_HOST", "10.0.0.1"),
        ("POMBO_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
        ("POMBO_REDIS_URL", "nonsense"),
        ("OTHER__THING", "1"),
    ])
    .unwrap();
    assert_eq!(settings.redis, Settings::defaults_for_tests().redis);
}

#[test]
fn the_key_decides_the_type_of_a_text_from_the_environment() {
    let settings = environment(&[
        ("POMBO_REDIS__PASSWORD", "0123"),
        ("POMBO_REDIS__USERNAME", "true"),
        ("POMBO_REDIS__PREFIX", "1e5"),
        ("POMBO_RETRY__FACTOR", "2"),
        ("POMBO_TARGETS__HTTPS_ONLY", "true"),
        ("POMBO_DELIVERY__MAX_PAYLOAD", "2048"),
        ("POMBO_QUEUE__MAX_DELIVERIES", "1000"),
        ("POMBO_TARGETS__ALLOW", r#"["127.0.0.0/8", "10.1.2.3"]"#),
        (
            "POMBO__SOURCES",
            r#"[{"stream": "events", "read_count": 9}]"#,
        ),
    ])
    .unwrap();
    let redis = &settings.redis;
    assert_eq!(redis.server.password.as_ref().unwrap().expose(), "0123");
    assert_eq!(redis.server.username.as_deref(), Some("true"));
    assert_eq!(redis.prefix, "1e5");
    assert_eq!(settings.retry.factor, 2.0);
    assert!(settings.targets.https_only);
    assert_eq!(settings.delivery.max_payload, 2_048);
    assert_eq!(settings.queue.max_deliveries, 1_000);
    let allow: Vec<String> = settings
        .targets
        .allow
        .iter()
        .map(|n| n.to_string())
        .collect();
    assert_eq!(allow, ["127.0.0.0/8", "10.1.2.3/32"]);
    assert_eq!(settings.sources[0].read_count, 9);
}

#[test]
fn a_list_in_the_environment_replaces_that_of_the_file() {
    let settings = Surroundings::new()
        .variable("POMBO__SOURCES", r#"[{"stream":"b"}]"#)
        .load("[[sources]]\nstream = \"a\"\n[[sources]]\nstream = \"c\"\n")
        .unwrap();
    assert_eq!(settings.sources, [SourceSettings::new("b")]);
}

#[test]
fn a_section_can_be_given_as_json() {
    let settings = environment(&[("POMBO__RETRY", r#"{"first":"1s","max_attempts":3}"#)]).unwrap();
    assert_eq!(settings.retry.first, Duration::from_secs(1));
    assert_eq!(settings.retry.max_attempts, 3);
    assert_eq!(settings.retry.factor, 3.0);
}

#[test]
fn two_variables_for_one_key_are_refused() {
    for (one, two) in [
        ("POMBO_RETRY__FIRST", "POMBO__RETRY__FIRST"),
        ("POMBO__RETRY", "POMBO_RETRY__FIRST"),
    ] {
        let error = environment(&[(one, "1s"), (two, "1s")]).unwrap_err();
        assert!(
            error.problems.iter().any(|problem| problem.reason
                == "is given by another environment variable too, whole or in part"),
            "{error}"
        );
    }
}

#[test]
fn what_is_printed_has_no_key_that_the_schema_does_not_know() {
    fn check(path: &str, keys: Keys, table: &toml::Table) {
        for (name, value) in table {
            let known = iter(keys).find(|key| key.name == name);
            let key = known.unwrap_or_else(|| panic!("{path}.{name} is not in the schema"));
            match (key.kind, value) {
                (Kind::Section(keys), toml::Value::Table(table)) => check(name, keys, table),
                (Kind::Sections(keys), toml::Value::Array(items)) => {
                    items
                        .iter()
                        .for_each(|item| check(name, keys, item.as_table().unwrap()));
                }
                _ => {}
            }
        }
    }
    let mut settings = Settings::defaults_for_tests();
    let mut source = SourceSettings::new("events");
    source.server = Some(RedisServer {
        username: Some("u".into()),
        password: Some("p".into()),
        database: Some(1),
        ca_file: Some("a".into()),
        client_certificate_file: Some("b".into()),
        client_key_file: Some("c".into()),
        ..RedisServer::new("redis://host")
    });
    settings.sources.push(source);
    settings.targets.ca_file = Some("d".into());
    check("", ROOT, &toml::Table::try_from(&settings).unwrap());
}

#[test]
fn the_instance_and_its_lock_file_are_found_when_they_are_not_given() {
    let lock = |variables: &[(&str, &str)]| {
        let mut all = vec![("POMBO_INSTANCE__NAME", "web/1@[::1]:9")];
        all.extend_from_slice(variables);
        environment(&all).unwrap().instance.lock_file
    };
    let file = "pombo-web-1----1--9.lock";
    let in_directory = |directory: &str| Path::new(directory).join(file);
    assert_eq!(lock(&[]), in_directory("/tmp"));
    assert_eq!(lock(&[("TMPDIR", "/scratch")]), in_directory("/scratch"));
    assert_eq!(
        lock(&[("XDG_RUNTIME_DIR", "/run/user/1"), ("TMPDIR", "/x")]),
        in_directory("/run/user/1")
    );
    assert_eq!(
        lock(&[
            ("STATE_DIRECTORY", "/var/lib/pombo:/other"),
            ("XDG_RUNTIME_DIR", "/x")
        ]),
        in_directory("/var/lib/pombo")
    );
    let given = load("[instance]\nname = \"a\"\nlock_file = \"/l\"\n").instance;
    assert_eq!(
        (given.name.as_str(), given.lock_file),
        ("a", PathBuf::from("/l"))
    );
    let default = load("[metrics]\nlisten = \"[::1]:80\"\n").instance;
    assert!(default.name.ends_with("@[::1]:80"), "{}", default.name);
}
