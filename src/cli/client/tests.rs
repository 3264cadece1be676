use super::*;

fn settings(file: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pombo.toml");
    std::fs::write(&path, file).unwrap();
    Settings::load(None, Some(&path), std::iter::empty()).unwrap()
}

fn at(url: Option<&str>, file: &str) -> Result<String, Exit> {
    let args = ApiArgs {
        url: url.map(str::to_owned),
        ..ApiArgs::default()
    };
    base(&args, &settings(file))
        .map(|url| url.to_string())
        .map_err(|trouble| trouble.exit)
}

#[test]
fn the_api_is_where_the_settings_say_unless_a_url_is_given() {
    assert_eq!(at(None, "").unwrap(), "http://127.0.0.1:8080/v1");
    assert_eq!(at(Some(""), "").unwrap(), "http://127.0.0.1:8080/v1");
    let everywhere = "[api]\nlisten = \"[::]:81\"\nbase_path = \"/\"\n";
    assert_eq!(at(None, everywhere).unwrap(), "http://[::1]:81/");
    let own = Some("https://hooks.example.com");
    assert_eq!(at(own, "").unwrap(), "https://hooks.example.com/v1");
    assert_eq!(at(own, everywhere).unwrap(), "https://hooks.example.com/");
    let path = Some("https://example.com/hooks/v1/?a=b#c");
    assert_eq!(at(path, "").unwrap(), "https://example.com/hooks/v1/");
}

#[test]
fn what_is_no_url_of_an_api_is_refused() {
    for url in [
        "example.com",
        "ftp://example.com",
        "http://u:hunter2@example.com",
    ] {
        assert_eq!(at(Some(url), ""), Err(Exit::Usage), "{url}");
    }
    assert_eq!(at(None, "[api]\nenabled = false\n"), Err(Exit::Usage));
    assert_eq!(
        at(None, "[api]\nlisten = \"127.0.0.1:0\"\n"),
        Err(Exit::Usage)
    );
}

#[test]
fn a_token_is_never_shown() {
    let args = ApiArgs {
        token: Some(Secret::new("pmb_hunter2\nx")),
        ..ApiArgs::default()
    };
    let trouble = token(&args).unwrap_err();
    assert!(!trouble.message.contains("hunter2"), "{trouble}");
    let args = ApiArgs {
        token: Some(Secret::new("pmb_hunter2")),
        ..ApiArgs::default()
    };
    assert!(!format!("{args:?} {:?}", token(&args).unwrap()).contains("hunter2"));
}

#[test]
fn a_token_in_a_file_goes_before_others_and_may_end_with_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "pmb_file\n").unwrap();
    let mut args = ApiArgs {
        token: Some(Secret::new("pmb_other")),
        token_file: Some(path),
        ..ApiArgs::default()
    };
    assert_eq!(token(&args).unwrap().unwrap(), "Bearer pmb_file");
    args.token_file = Some("/nowhere".into());
    assert_eq!(token(&args).unwrap_err().exit, Exit::NoInput);
}

#[test]
fn ids_cannot_lead_to_another_path() {
    for wrong in ["", ".", ".."] {
        assert!(id(wrong).is_err(), "{wrong:?}");
    }
    assert!(id("wh_1/../x").is_ok(), "it is encoded");
}

#[tokio::test]
async fn refusals_are_told_with_each_mistake_and_its_place() {
    let client = ApiClient::new(&ApiArgs::default(), &settings("")).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("retry-after", HeaderValue::from_static("7"));
    let problem = r#"{"type":"urn:pombo:problem:validation","title":"The request is not valid","status":422,
        "detail":"2 fields are wrong.","errors":[{"pointer":"/name","detail":"is too \u001blong","allowed":"1 to 100"},
        {"parameter":"page","detail":"is no number"}]}"#;
    let refused = |status: u16, body: &str| {
        let status = StatusCode::from_u16(status).unwrap();
        client
            .understand(status, headers.clone(), body.to_owned().into())
            .unwrap_err()
    };
    let trouble = refused(422, problem);
    assert_eq!(trouble.exit, Exit::Data);
    assert_eq!(
        trouble.message,
        "The request is not valid (422): 2 fields are wrong.\n  /name: is too \\u{1b}long (allowed: 1 to 100)\n  \
         page: is no number\nTry again in 7 s."
    );
    let with = |status: u16| refused(status, r#"{"title":"t","detail":"d"}"#);
    assert!(with(401).message.contains("Set POMBO_TOKEN"));
    for (status, exit) in [
        (401, Exit::Failure),
        (404, Exit::Failure),
        (409, Exit::Failure),
        (503, Exit::Unavailable),
        (500, Exit::Failure),
    ] {
        assert_eq!(with(status).exit, exit, "{status}");
    }
    let foreign = refused(404, "<html>not here</html>");
    assert!(foreign.message.contains("is not Pombo's API"), "{foreign}");
}
