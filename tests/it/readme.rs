//! The README keeps its word: its snippets verify, its settings load, its tables are complete.

mod api;
mod receiver;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pombo::exit::Exit;
use pombo::metrics::{Metrics, SOURCE_STOP_REASONS};
use pombo::settings::Settings;
use pombo::target::TargetRules;
use pombo::webhook::{BodyMode, WebhookSpec};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::interop::captured::{Captured, capture, capture_at, now_unix_s};
use crate::interop::{installed, interpreter, run};

const README: &str = include_str!("../../README.md");
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const PAYLOAD: &str = r#"{"nome": "João", "valor": 1.50}"#;

/// The fenced blocks of the README: language and text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let mut blocks = Vec::new();
    let mut rest = README;
    while let Some((_, from)) = rest.split_once("\n```") {
        let (language, from) = from.split_once('\n').expect("a block has a first line");
        let (text, after) = from.split_once("\n```").expect("a block has an end");
        blocks.push((language, text));
        rest = after;
    }
    blocks
}

/// The only block that contains `text`.
pub fn block_with(text: &str) -> &'static str {
    let found: Vec<_> = blocks()
        .into_iter()
        .filter(|(_, block)| block.contains(text))
        .collect();
    assert_eq!(found.len(), 1, "blocks with {text:?} in README.md");
    found[0].1
}

fn block_in(language: &str) -> &'static str {
    let found: Vec<_> = blocks()
        .into_iter()
        .filter(|(found, _)| *found == language)
        .collect();
    assert_eq!(found.len(), 1, "blocks in {language} in README.md");
    found[0].1
}

/// What a receiver's code is to be tried with: what holds, and what does not.
async fn cases() -> Vec<(Value, bool)> {
    let captured = capture(&[OTHER, SECRET], BodyMode::Envelope, PAYLOAD).await;
    let genuine = captured.to_json(SECRET);
    let tampered = Captured {
        body: captured.body.to_ascii_uppercase().into(),
        ..captured
    };
    let stale = capture_at(&[SECRET], BodyMode::Envelope, PAYLOAD, now_unix_s() - 400).await;
    let mut unsigned = genuine.clone();
    unsigned["headers"]["x-signature"] = json!("t=,v1=");
    unsigned["headers"]["webhook-signature"] = json!("v1,");
    let mut foreign = genuine.clone();
    foreign["secret"] = json!("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    vec![
        (genuine, true),
        (tampered.to_json(SECRET), false),
        (stale.to_json(SECRET), false),
        (unsigned, false),
        (foreign, false),
    ]
}

/// Runs a program that prints, for the case on its standard input, what each of its checks says.
async fn try_out(command: impl Fn() -> Command, checks: usize) {
    for (case, holds) in cases().await {
        let output = run(command(), &case);
        let printed = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let expected = vec![holds.to_string(); checks];
        let said: Vec<&str> = printed.split_whitespace().collect();
        assert_eq!(said, expected, "{errors}\n{case:#}");
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a written file");
    path
}

#[track_caller]
fn require(program: &str, argument: &str) {
    let there = Command::new(program).arg(argument).output().is_ok();
    assert!(
        there,
        "{program} is not installed: run scripts/test, which installs it"
    );
}

#[tokio::test]
async fn the_snippet_for_node_verifies() {
    // Beside the library, or it would not be found.
    let folder = TempDir::new_in(installed().join("node")).unwrap();
    let driver = r#"
import { readFileSync } from "node:fs";
const { secret, headers, body_base64 } = JSON.parse(readFileSync(0, "utf8"));
const body = Buffer.from(body_base64, "base64");
let standard = true;
try {
  verifyStandard(secret, headers, body);
} catch {
  standard = false;
}
console.log(verifySignature(secret, headers["x-signature"], body), standard);
"#;
    let script = format!("{}{driver}", block_in("js"));
    let path = write(folder.path(), "receiver.mjs", &script);
    let command = || {
        let mut command = interpreter("node");
        command.arg(&path);
        command
    };
    try_out(command, 2).await;
}

#[tokio::test]
async fn the_snippet_for_python_verifies() {
    let folder = TempDir::new().unwrap();
    let driver = r#"
import base64, json, sys
given = json.load(sys.stdin)
headers, body = given["headers"], base64.b64decode(given["body_base64"])
try:
    verify_standard(given["secret"], headers, body)
    standard = True
except Exception:
    standard = False
print(str(verify_signature(given["secret"], headers["x-signature"], body)).lower(), str(standard).lower())
"#;
    let script = format!("{}\n{driver}", block_in("python"));
    let path = write(folder.path(), "receiver.py", &script);
    let command = || {
        let mut command = interpreter("python");
        command.arg(&path);
        command
    };
    try_out(command, 2).await;
}

#[tokio::test]
async fn the_snippet_for_php_verifies() {
    require("php", "--version");
    let folder = TempDir::new().unwrap();
    let driver = r#"
$given = json_decode(stream_get_contents(STDIN), true);
$body = base64_decode($given['body_base64']);
echo verify_signature($given['secret'], $given['headers']['x-signature'], $body) ? 'true' : 'false';
"#;
    let script = format!("<?php\n{}\n{driver}", block_in("php"));
    let path = write(folder.path(), "receiver.php", &script);
    let command = || {
        let mut command = Command::new("php");
        command.arg(&path);
        command
    };
    try_out(command, 1).await;
}

#[tokio::test]
async fn the_snippet_for_go_verifies() {
    require("go", "version");
    let folder = TempDir::new().unwrap();
    let driver = r#"
func main() {
	var given struct {
		Secret     string
		Headers    map[string]string
		BodyBase64 []byte `json:"body_base64"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&given); err != nil {
		panic(err)
	}
	fmt.Println(VerifySignature(given.Secret, given.Headers["x-signature"], given.BodyBase64))
}
"#;
    let imports = [
        "crypto/hmac",
        "crypto/sha256",
        "encoding/hex",
        "encoding/json",
        "fmt",
        "os",
        "strconv",
        "strings",
        "time",
    ]
    .map(|name| format!("import {name:?}\n"))
    .concat();
    let program = format!("package main\n{imports}{}\n{driver}", block_in("go"));
    let source = write(folder.path(), "main.go", &program);
    let built = folder.path().join("receiver");
    let mut build = Command::new("go");
    build
        .env("GOCACHE", folder.path().join("cache"))
        .env("GOTOOLCHAIN", "local")
        .args(["build", "-o"])
        .arg(&built)
        .arg(&source);
    let output = build.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    try_out(|| Command::new(&built), 1).await;
}

#[tokio::test]
async fn the_snippet_for_rust_verifies() {
    assert_eq!(
        block_in("rust"),
        include_str!("readme/receiver.rs").trim_end()
    );
    let captured = capture(&[OTHER, SECRET], BodyMode::Envelope, PAYLOAD).await;
    let (header, now) = (captured.header("x-signature"), now_unix_s());
    let (headers, body) = (&captured.headers, &captured.body);
    for secret in [SECRET, OTHER] {
        assert!(receiver::verify_signature(secret, header, body, now));
        receiver::verify_standard(secret, headers, body).unwrap();
    }
    assert!(!receiver::verify_signature(SECRET, header, b"{}", now));
    assert!(!receiver::verify_signature("another", header, body, now));
    assert!(!receiver::verify_signature(SECRET, header, body, now + 400));
    assert!(!receiver::verify_signature(SECRET, "t=,v1=", body, now));
    assert!(receiver::verify_standard(SECRET, headers, b"{}").is_err());
}

#[test]
fn the_settings_of_the_readme_load() {
    let folder = TempDir::new().unwrap();
    let (mut sources, mut webhooks) = (0, 0);
    for (language, block) in blocks() {
        if language != "toml" {
            continue;
        }
        if block.contains("[[webhooks]]") {
            let file: toml::Table = block.parse().unwrap();
            let rules = TargetRules::new(Vec::new(), false);
            for webhook in file["webhooks"].as_array().unwrap() {
                let spec: WebhookSpec = webhook.clone().try_into().unwrap();
                let errors = spec.validate(&rules);
                assert!(errors.is_empty(), "{errors:?}");
                webhooks += 1;
            }
            continue;
        }
        let path = write(folder.path(), "pombo.toml", block);
        let settings = Settings::load(None, Some(&path), std::iter::empty());
        sources += settings
            .unwrap_or_else(|error| panic!("{error}\n{block}"))
            .sources
            .len();
    }
    assert!(
        sources >= 3 && webhooks >= 1,
        "{sources} sources, {webhooks} webhooks"
    );
}

#[test]
fn every_metric_is_in_the_readme_with_its_meaning() {
    let metrics = Metrics::new();
    let source = metrics.source("events");
    let _stopped = source.stopped(SOURCE_STOP_REASONS[0]);
    let rendered = metrics.render();
    let helps = rendered
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "));
    let mut missing = Vec::new();
    for help in helps {
        let (name, meaning) = help.split_once(' ').unwrap();
        let expected = meaning.trim_end_matches('.');
        let told = README.lines().any(|line| {
            let starts = [format!("| `{name}`"), format!("| `{name}{{")];
            starts.iter().any(|start| line.starts_with(start)) && line.contains(expected)
        });
        if !name.starts_with("process_") && !told {
            missing.push(format!("| `{name}` | {expected} |"));
        }
    }
    assert!(
        missing.is_empty(),
        "README.md lacks:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_reason_why_a_source_is_not_read_is_in_the_readme_and_no_other() {
    let (_, from) = README
        .split_once("the label `reason` says why:")
        .expect("the README tells of reasons");
    let (told, _) = from.split_once("\n3. ").expect("another step follows");
    let told: BTreeSet<&str> = told.split('`').skip(1).step_by(2).collect();
    assert_eq!(told, BTreeSet::from(SOURCE_STOP_REASONS));
}

#[test]
fn every_exit_code_and_every_command_is_in_the_readme() {
    for exit in Exit::ALL {
        let row = format!("| {} | {} |", exit.code(), exit.describe());
        assert!(README.contains(&row), "README.md lacks {row}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_pombo"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    for line in commands.lines().take_while(|line| !line.is_empty()) {
        let Some(name) = line
            .strip_prefix("  ")
            .filter(|line| !line.starts_with(' '))
        else {
            continue;
        };
        let name = name.split_whitespace().next().unwrap();
        let row = format!("| `pombo {name}");
        assert!(
            name == "help" || README.contains(&row),
            "README.md lacks {row}"
        );
    }
}
