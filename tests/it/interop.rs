//! What receivers' own libraries say about Pombo's signatures: `interop/README.md`.

pub mod captured;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pombo::webhook::BodyMode;
use serde_json::{Value, json};

use self::captured::capture;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEWER: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const CHOSEN: &str = "uma senha que o cliente escolheu";
const PAYLOAD: &str = r#"{ "lead": {"nome": "João Ávila 🕊", "valor": 1.50}, "lead": null }"#;

/// The two official libraries, each with the script that uses it.
pub const LANGUAGES: [(&str, &str); 2] = [("node", "mjs"), ("python", "py")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder that `scripts/test` installs the libraries into.
pub fn installed() -> PathBuf {
    let folder = root().join("target/interop");
    assert!(
        folder.join("stamp").exists(),
        "the libraries that signatures are verified with are not installed in {}: run scripts/test, which installs them",
        folder.display()
    );
    folder
}

/// The program that runs a language's scripts.
pub fn interpreter(language: &str) -> Command {
    match language {
        "python" => Command::new(installed().join("python/bin/python")),
        other => Command::new(other),
    }
}

/// Runs `command` with `input` on its standard input.
pub fn run(mut command: Command, input: &Value) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    // It may end without reading all of it; its exit code then tells why.
    let _ = stdin.write_all(input.to_string().as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

/// The exit code of the verification, and what it printed.
fn verify(input: &Value) -> Vec<(Option<i32>, String)> {
    installed();
    let verified = LANGUAGES.iter().map(|(language, extension)| {
        let mut command = interpreter(language);
        command.arg(root().join(format!("tests/it/interop/verify.{extension}")));
        let output = run(command, input);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), format!("{language}: {errors}"))
    });
    verified.collect()
}

#[track_caller]
fn assert_verified(input: &Value) {
    for (code, errors) in verify(input) {
        assert_eq!(code, Some(0), "{errors}");
    }
}

#[track_caller]
fn assert_refused(input: &Value) {
    for (code, errors) in verify(input) {
        assert_eq!(code, Some(1), "{errors}");
        for signature in ["standard: ", "x-signature: "] {
            assert!(errors.contains(signature), "{errors}");
        }
    }
}

#[tokio::test]
async fn official_libraries_verify_what_was_delivered() {
    for body_mode in [BodyMode::Envelope, BodyMode::Payload] {
        let captured = capture(&[SECRET], body_mode, PAYLOAD).await;
        assert_verified(&captured.to_json(SECRET));
    }
}

#[tokio::test]
async fn while_a_secret_rotates_both_verify() {
    let captured = capture(&[NEWER, SECRET], BodyMode::Envelope, PAYLOAD).await;
    assert_verified(&captured.to_json(NEWER));
    assert_verified(&captured.to_json(SECRET));
}

#[tokio::test]
async fn a_secret_that_is_no_base64_signs_x_signature_alone() {
    let captured = capture(&[CHOSEN], BodyMode::Payload, PAYLOAD).await;
    assert_eq!(captured.header("webhook-signature"), "");
    let mut input = captured.to_json(CHOSEN);
    input["verify"] = json!(["x-signature"]);
    assert_verified(&input);
}

#[tokio::test]
async fn a_changed_body_and_another_secret_are_refused() {
    let mut captured = capture(&[SECRET], BodyMode::Envelope, PAYLOAD).await;
    assert_refused(&captured.to_json(NEWER));
    captured.body = captured.body.to_ascii_uppercase().into();
    assert_refused(&captured.to_json(SECRET));
}
