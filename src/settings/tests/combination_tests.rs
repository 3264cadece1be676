use super::*;

fn refused_at(config: &str) -> (String, String) {
    let problem = problem(config);
    (problem.key, problem.reason)
}

#[test]
fn combinations_that_cannot_work_are_refused_with_the_consequence() {
    for (config, key, reason) in [
        (
            "[delivery]\nconnect_timeout = \"16s\"",
            "delivery.connect_timeout",
            "longer than the whole attempt may take (delivery.timeout, 15s)",
        ),
        (
            "[delivery]\nmax_in_flight = 100\nmax_in_flight_total = 99",
            "delivery.max_in_flight",
            "one slow webhook could hold every slot",
        ),
        (
            "[delivery]\nmax_payload = \"2MiB\"\nmax_taken_bytes = \"1MiB\"",
            "delivery.max_taken_bytes",
            "a large event would stop its source for good",
        ),
        (
            "[retry]\nfirst = \"2h\"\nlongest = \"1h\"",
            "retry.first",
            "above the longest delay (retry.longest, 1h)",
        ),
        (
            "[retry]\nmax_age = \"1s\"",
            "retry.max_age",
            "nothing would ever be tried again",
        ),
        (
            "[queue]\nmax_deliveries = 10\nmax_total_deliveries = 9",
            "queue.max_deliveries",
            "one dead webhook would stop the sources",
        ),
        (
            "[redis]\nresponse_timeout = \"5s\"\n[ownership]\nlease = \"4s\"",
            "redis.response_timeout",
            "others would take over its webhooks",
        ),
        (
            "[targets]\nca_file = \"/no/such/file\"",
            "targets.ca_file",
            "/no/such/file cannot be read: No such file",
        ),
        (
            "[targets]\nca_file = \"/\"",
            "targets.ca_file",
            "it is a directory",
        ),
    ] {
        let (found_key, found_reason) = refused_at(config);
        assert_eq!(found_key, key);
        assert!(found_reason.contains(reason), "{found_reason}");
    }
}

#[test]
fn one_attempt_alone_needs_no_time_for_a_second() {
    load("[retry]\nmax_age = \"1s\"\nmax_attempts = 1\n");
}

#[test]
fn quick_and_constant_retries_are_allowed() {
    let retry = load(
        "[retry]\nfirst = \"100ms\"\nlongest = \"100ms\"\nfactor = 1\njitter = 0\nmax_age = \"1s\"\n",
    )
    .retry;
    assert_eq!((retry.factor, retry.jitter), (1.0, 0.0));
}

#[test]
fn a_combination_is_not_judged_when_one_of_its_keys_is_wrong_anyway() {
    let (key, _) = refused_at("[retry]\nfirst = \"5\"\nlongest = \"1s\"");
    assert_eq!(key, "retry.first");
}

#[test]
fn a_combination_names_every_place_that_takes_part_in_it() {
    let error = Surroundings::new()
        .variable("POMBO_DELIVERY__CONNECT_TIMEOUT", "10s")
        .refused("[delivery]\ntimeout = \"5s\"\n");
    let origin = &error.problems[0].origin;
    assert!(
        origin.starts_with("environment variable POMBO_DELIVERY__CONNECT_TIMEOUT, "),
        "{origin}"
    );
    assert!(origin.ends_with("pombo.toml:2"), "{origin}");
}

#[test]
fn redis_urls_of_every_supported_kind_are_accepted() {
    for url in [
        "redis://host",
        "redis://host:6380/15",
        "redis://user:p%40ss@host",
        "redis://:pass@[::1]:6379",
        "rediss://host",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=1",
        "redis+unix:///run/redis.sock?db=1&user=u&pass=p",
    ] {
        let settings = load(&format!("[redis]\nurl = \"{url}\"\n"));
        assert_eq!(settings.redis.server.url.expose(), url);
        assert_eq!(settings.redis.server.tls(), url.starts_with("rediss:"));
    }
}

#[test]
fn redis_urls_that_would_not_work_are_refused_and_never_shown() {
    for (url, reason) in [
        ("hunter2", "is not a valid URL"),
        ("redis://u:hunter2@", "is not a valid URL"),
        ("redis:hunter2", "names no host"),
        ("redis://:hun#ter2@host", "is not a valid URL"),
        ("redis://host#insecure", "certificates are always verified"),
        ("redis://host?hunter2", "has a `?`"),
        ("redis://host/hunter2", "not the number of a database"),
        ("redis://host/65536", "not the number of a database"),
        ("redis://hunter2@host", "has a user without a password"),
        ("http://hunter2", "has a scheme that Pombo does not know"),
        ("redis-sentinel://hunter2", "redis.topology = \"sentinel\""),
        ("redis+cluster://hunter2", "redis.topology = \"cluster\""),
        ("unix://run/hunter2", "write three slashes"),
        ("unix:///", "names no socket"),
        ("unix:///s?db=x", "a db that is not a number"),
        ("unix:///s?database=1", "a parameter other than"),
        ("unix:///s?user=hunter2", "has a user without a password"),
    ] {
        let problem = problem(&format!("[redis]\nurl = \"{url}\"\n"));
        assert_eq!(problem.key, "redis.url");
        assert!(problem.reason.contains(reason), "{url}: {problem}");
        assert!(problem.allowed.contains("rediss://"), "{problem}");
        for part in ["hunter2", "hun#", "ter2"] {
            assert!(!problem.to_string().contains(part), "{problem}");
        }
    }
}

#[test]
fn credentials_and_database_are_given_once() {
    for (config, key) in [
        (
            "url = \"redis://u:p@h\"\nusername = \"v\"\n",
            "redis.username",
        ),
        (
            "url = \"redis://:p@h\"\npassword = \"q\"\n",
            "redis.password",
        ),
        (
            "url = \"unix:///s?pass=p\"\npassword = \"q\"\n",
            "redis.password",
        ),
        ("url = \"redis://h/1\"\ndatabase = 2\n", "redis.database"),
        ("url = \"unix:///s?db=1\"\ndatabase = 2\n", "redis.database"),
        ("username = \"u\"\n", "redis.username"),
    ] {
        let error = Surroundings::new().refused(&format!("[redis]\n{config}"));
        assert_eq!(error.problems[0].key, key, "{error}");
    }
    load("[redis]\nusername = \"u\"\npassword = \"p\"\ndatabase = 3\n");
    load("[redis]\nurl = \"unix:///s\"\ndatabase = 3\n");
    load("[redis]\nurl = \"redis+unix:///s\"\ndatabase = 3\n");
}

#[test]
fn files_for_tls_need_a_url_for_tls_and_each_other() {
    let surroundings = Surroundings::new();
    let pem = surroundings.file("x.pem", "");
    let pem = pem.display();
    for (keys, key, reason) in [
        (
            format!("ca_file = \"{pem}\"\n"),
            "redis.ca_file",
            "the connection would not be encrypted",
        ),
        (
            format!("url = \"rediss://h\"\nclient_key_file = \"{pem}\"\n"),
            "redis.client_key_file",
            "is of no use without its certificate",
        ),
        (
            format!("url = \"rediss://h\"\nclient_certificate_file = \"{pem}\"\n"),
            "redis.client_certificate_file",
            "is of no use without its key",
        ),
        (
            "url = \"rediss://h\"\nca_file = \"/no/such\"\n".into(),
            "redis.ca_file",
            "/no/such cannot be read",
        ),
    ] {
        let error = surroundings.refused(&format!("[redis]\n{keys}"));
        let [problem] = &error.problems[..] else {
            panic!("{error}")
        };
        assert_eq!(problem.key, key);
        assert!(problem.reason.contains(reason), "{problem}");
    }
    surroundings
        .load(&format!(
            "[redis]\nurl = \"rediss://h\"\nca_file = \"{pem}\"\nclient_certificate_file = \"{pem}\"\nclient_key_file = \"{pem}\"\n"
        ))
        .unwrap();
}

#[test]
fn the_signature_header_is_kept_in_lower_case() {
    let settings = load("[signature]\nheader = \"X-JuriChat-Signature\"\nscheme = \"hex\"\n");
    assert_eq!(settings.signature.header, "x-jurichat-signature");
    assert_eq!(settings.signature.scheme, crate::signature::Scheme::Hex);
}

#[test]
fn serving_without_a_source_is_refused_and_nothing_else_is() {
    let error = load("").require_sources().unwrap_err();
    assert!(error.to_string().contains("POMBO__SOURCES"), "{error}");
    assert!(
        load("[[sources]]\nstream = \"s\"\n")
            .require_sources()
            .is_ok()
    );
}
