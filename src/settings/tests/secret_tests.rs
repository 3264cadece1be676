use super::*;

#[test]
fn a_secret_is_read_from_its_file_without_the_last_newline() {
    let surroundings = Surroundings::new();
    for (content, secret) in [
        ("hunter2\n", "hunter2"),
        ("hunter2\r\n", "hunter2"),
        ("hunter2", "hunter2"),
        ("hunter2\n\n", "hunter2\n"),
        (" spaced ", " spaced "),
    ] {
        let file = surroundings.file("password", content);
        let settings = surroundings
            .load(&format!("[redis]\npassword_file = {:?}\n", file))
            .unwrap();
        assert_eq!(settings.redis.server.password.unwrap().expose(), secret);
    }
}

#[test]
fn a_file_takes_the_place_of_a_url_of_the_defaults() {
    let surroundings = Surroundings::new();
    let file = surroundings.file("url", "redis://u:p@elsewhere\n");
    let path = file.to_str().unwrap();
    let settings = Surroundings::new()
        .variable("POMBO_REDIS__URL_FILE", path)
        .load(&format!(
            "[[sources]]\nstream = \"s\"\nurl_file = {path:?}\n"
        ))
        .unwrap();
    assert_eq!(settings.redis.server.url.expose(), "redis://u:p@elsewhere");
    let server = settings.sources[0].server.as_ref().unwrap();
    assert_eq!(server.url.expose(), "redis://u:p@elsewhere");
}

#[test]
fn a_secret_and_its_file_are_not_both_accepted() {
    let surroundings = Surroundings::new();
    let file = surroundings.file("password", "hunter2");
    let path = file.to_str().unwrap();
    let error = Surroundings::new()
        .variable("POMBO_REDIS__PASSWORD", "hunter3")
        .refused(&format!("[redis]\npassword_file = {path:?}\n"));
    let [problem] = &error.problems[..] else {
        panic!("{error}")
    };
    assert_eq!(problem.key, "redis.password_file");
    assert!(
        problem
            .origin
            .contains("pombo.toml:2, environment variable POMBO_REDIS__PASSWORD")
    );
    let text = error.to_string();
    assert!(!text.contains("hunter"), "{text}");

    let error = Surroundings::new().refused(&format!(
        "[redis]\nurl = \"redis://h\"\nurl_file = {path:?}\n"
    ));
    assert_eq!(error.problems[0].key, "redis.url_file");
}

#[test]
fn a_file_that_holds_no_secret_is_refused() {
    let surroundings = Surroundings::new();
    for (name, content, reason) in [
        ("empty", &b"\n"[..], "is empty"),
        ("binary", b"\xff\xfe", "is not UTF-8 text"),
        ("large", &[b'a'; 70_000], "is larger than 64KiB"),
    ] {
        let path = surroundings.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = surroundings.refused(&format!("[redis]\npassword_file = {path:?}\n"));
        let [problem] = &error.problems[..] else {
            panic!("{error}")
        };
        assert_eq!(problem.key, "redis.password_file");
        assert!(problem.reason.contains(reason), "{problem}");
    }
    let file = surroundings.file("url", "http://hunter2");
    let error = surroundings.refused(&format!("[redis]\nurl_file = {file:?}\n"));
    let text = error.to_string();
    assert!(
        text.contains("has a scheme that Pombo does not know"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_missing_file_is_named_unless_its_name_could_be_the_secret() {
    let named = problem("[redis]\npassword_file = \"/no/such/file\"\n");
    assert!(
        named
            .reason
            .starts_with("the file /no/such/file cannot be read: No such file")
    );
    let mistaken = problem("[redis]\npassword_file = \"hunter2\"\n").to_string();
    assert!(
        mistaken.contains("the file that it names cannot be read"),
        "{mistaken}"
    );
    assert!(!mistaken.contains("hunter2"), "{mistaken}");
}

#[test]
fn a_file_is_offered_for_secrets_only() {
    assert_eq!(
        problem("[redis]\nprefix_file = \"/x\"\n").reason,
        "there is no such setting"
    );
}

#[test]
fn no_secret_is_in_the_printed_settings_or_in_debug() {
    let settings = load(concat!(
        "[redis]\nurl = \"rediss://user:SECRET1@host:1/2\"\n",
        "[[sources]]\nstream = \"a\"\nurl = \"redis+unix:///s?db=1&pass=SECRET2&user=u\"\n",
        "[[sources]]\nstream = \"b\"\nurl = \"redis://host\"\nusername = \"u\"\npassword = \"SECRET3\"\n",
    ));
    let printed = settings.to_toml_redacted();
    assert!(
        printed.contains("url = \"rediss://user:***@host:1/2\"\n"),
        "{printed}"
    );
    assert!(
        printed.contains("url = \"redis+unix:///s?db=1&pass=***&user=u\"\n"),
        "{printed}"
    );
    assert!(printed.contains("password = \"<hidden>\"\n"), "{printed}");
    assert!(!printed.contains("SECRET"), "{printed}");
    let debug = format!("{settings:#?}");
    assert!(!debug.contains("SECRET"), "{debug}");
    assert_eq!(
        settings.sources[0].server.as_ref().unwrap().shown_url(),
        "redis+unix:///s?db=1&pass=***&user=u"
    );
}

#[test]
fn a_secret_of_the_wrong_type_is_not_shown() {
    for config in [
        "[redis]\npassword = 4711",
        "[redis]\nurl = [\"4711\"]",
        "[redis]\npassword = { a = 4711 }",
    ] {
        let text = problem(config).to_string();
        assert!(text.contains("of the wrong type"), "{text}");
        assert!(!text.contains("4711"), "{text}");
    }
}
