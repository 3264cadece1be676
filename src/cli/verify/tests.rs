use std::io::Write as _;

use super::*;
use crate::settings::Secret;
use crate::signature::{Scheme, SigningKeys};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NOW: u64 = 1_773_403_200;
const BODY: &str = r#"{"id":"evt_1","data":{"a":1.0}}"#;

fn signed(body: &str) -> Vec<(&'static str, String)> {
    let keys = SigningKeys::new(&[Secret::new(SECRET)]);
    let body = body.as_bytes();
    vec![
        ("content-type", "application/json".to_owned()),
        ("x-signature", keys.sign(Scheme::Timestamped, NOW, body)),
        ("webhook-id", "evt_1".to_owned()),
        ("webhook-timestamp", NOW.to_string()),
        (
            "webhook-signature",
            keys.sign_standard("evt_1", NOW, body).unwrap(),
        ),
    ]
}

fn saved(prefix: &str, end: &str, body: &str) -> String {
    let mut text = format!("{prefix}POST /hook HTTP/1.1{end}");
    for (name, value) in signed(BODY) {
        text.push_str(&format!("{prefix}{name}: {value}{end}"));
    }
    text.push_str(&format!("{}{end}{body}", prefix.trim_end()));
    text
}

fn run_on(request: &str, secret: &str, now: u64) -> (Exit, String, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(request.as_bytes()).unwrap();
    let args = Args {
        signature: SignatureArgs {
            secret: vec![Secret::new(secret)],
            secret_file: Vec::new(),
            scheme: Scheme::Timestamped,
            header: "x-signature".parse().unwrap(),
        },
        tolerance: 300,
        now: Some(now),
        file: file.path().display().to_string(),
    };
    let (clock, _) = Clock::simulated(0, 0);
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let exit = run(&args, &clock, &mut out, &mut errors).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (exit, text(out), text(errors))
}

#[test]
fn a_genuine_request_is_told_so_however_it_was_saved() {
    for (prefix, end) in [("", "\r\n"), ("", "\n"), ("> ", "\n"), ("> ", "\r\n")] {
        let (exit, out, errors) = run_on(&saved(prefix, end, BODY), SECRET, NOW + 10);
        assert_eq!(exit, Exit::Ok, "{out}{errors}");
        assert_eq!(
            out,
            "x-signature: verified\nwebhook-signature: verified\nThe request is genuine.\n"
        );
    }
}

#[test]
fn what_curl_says_beside_the_request_is_passed_over() {
    let request = saved("> ", "\r\n", BODY);
    let request = format!("* Connected to localhost\n{request}");
    assert_eq!(run_on(&request, SECRET, NOW).0, Exit::Ok);
}

#[test]
fn a_line_end_that_an_editor_added_is_forgiven_and_mentioned() {
    let (exit, out, _) = run_on(&saved("", "\n", &format!("{BODY}\n")), SECRET, NOW);
    assert_eq!(exit, Exit::Ok);
    assert!(out.starts_with("(the line end after the body"), "{out}");
}

#[test]
fn content_length_says_where_the_body_ends() {
    let request = saved("", "\n", &format!("{BODY}\n\n")).replace(
        "content-type",
        &format!("content-length: {}\ncontent-type", BODY.len()),
    );
    let (exit, out, _) = run_on(&request, SECRET, NOW);
    assert_eq!(exit, Exit::Ok, "{out}");
    assert!(out.contains("only the first 31 bytes count"), "{out}");
}

#[test]
fn a_changed_body_and_another_secret_are_wrong() {
    for (body, secret) in [(r#"{"id":"evt_2"}"#, SECRET), (BODY, "tea-and-toast")] {
        let (exit, out, _) = run_on(&saved("", "\n", body), secret, NOW);
        assert_eq!(exit, Exit::Failure);
        assert!(out.contains("x-signature: WRONG: "), "{out}");
        assert!(out.ends_with("The request is not to be trusted.\n"));
        assert!(!out.contains(secret), "{out}");
    }
}

#[test]
fn an_old_request_is_wrong_by_its_time_only() {
    let (exit, out, _) = run_on(&saved("", "\n", BODY), SECRET, NOW + 301);
    assert_eq!(exit, Exit::Failure);
    assert!(
        out.contains("x-signature: WRONG TIME: it is right"),
        "{out}"
    );
    assert!(out.contains("--tolerance none"), "{out}");
}

#[test]
fn a_request_without_signatures_is_not_genuine() {
    let (exit, out, _) = run_on("content-type: text/plain\n\nhello", SECRET, NOW);
    assert_eq!(exit, Exit::Failure);
    assert!(out.ends_with("The request is not signed.\n"), "{out}");
}

#[test]
fn what_is_no_request_is_refused_with_its_line() {
    let (exit, _, errors) = run_on("content-type: a\nnonsense\n\n", SECRET, NOW);
    assert_eq!(exit, Exit::Data);
    assert!(errors.contains("line 2 is neither"), "{errors}");
    assert_eq!(run_on("", SECRET, NOW).0, Exit::Data);
}
