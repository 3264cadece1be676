//! The section about the API: each of its commands is run as it stands there, but for the ports.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use super::{README, block_in, blocks};
use crate::support::pombo::World;

/// Runs `script` as bash runs it in a folder, with the program found by its name.
async fn bash(folder: &Path, script: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_pombo"));
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .args(["-c", script])
        .current_dir(folder)
        .env(
            "PATH",
            format!("{}:{path}", program.parent().unwrap().display()),
        )
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(90), output)
        .await
        .expect("it ends")
        .expect("bash is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{said}\n{errors}");
    said
}

/// The commands of the README, in their order.
fn commands() -> Vec<&'static str> {
    let commands = blocks().into_iter();
    commands
        .filter_map(|(language, block)| (language == "sh").then_some(block))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_token_to_a_verified_delivery_every_command_of_the_readme_runs() {
    let world = World::new().await;
    let file = world.config.file();
    let pombo = world.config.spawn().await;
    let folder = world.config.directory();
    assert_eq!(file, folder.join("pombo.toml"));
    let api = pombo.api_address().to_string();
    // Nobody else takes it in the moment until the receiver does.
    let receiver = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();

    let commands = commands();
    assert!(commands.len() >= 9, "{commands:#?}");
    let mut script =
        String::from("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n");
    for (number, command) in commands.iter().enumerate() {
        script.push_str(&format!("echo '--- {number}'\n"));
        match command {
            // The README says: a moment later.
            command if command.contains("/deliveries?") => script.push_str(&format!(
                "for i in $(seq 300); do FOUND=$({command}\n); grep -q SUCCESS <<<\"$FOUND\" && break; sleep 0.1; done\n\
                 echo \"$FOUND\"\n"
            )),
            command if command.starts_with("pombo listen") => {
                let port = receiver.port();
                script.push_str(&command.replace(" &", " > heard.txt 2>&1 &"));
                script.push_str(&format!(
                    "\nfor i in $(seq 300); do (echo > /dev/tcp/127.0.0.1/{port}) 2>/dev/null && break; sleep 0.1; done\n"
                ));
            }
            command => {
                script.push_str(command);
                script.push('\n');
            }
        }
    }
    script = script
        .replace("127.0.0.1:8080", &api)
        .replace("127.0.0.1:9000", &receiver.to_string())
        .replace("--port 9000", &format!("--port {}", receiver.port()));
    let said = bash(folder, &script).await;

    let parts: Vec<&str> = said.split("--- ").collect();
    let part = |text: &str| {
        let at = commands.iter().position(|command| command.contains(text));
        parts[at.expect("a command") + 1]
            .split_once('\n')
            .unwrap()
            .1
    };
    let tested: Value = serde_json::from_str(part("/test\"")).unwrap();
    assert_eq!(
        (&tested["status"], &tested["statusCode"]),
        (&json!("SUCCESS"), &json!(200)),
        "{said}"
    );
    let verified = part("pombo verify");
    assert!(verified.contains("The request is genuine."), "{verified}");
    let added: Value = serde_json::from_str(part("Idempotency-Key")).unwrap();
    assert_eq!(added["type"], "crm.lead.created", "{said}");
    let delivered: Value = serde_json::from_str(part("/deliveries?")).unwrap();
    assert_eq!(
        (&delivered["event"], &delivered["status"]),
        (&json!("crm.lead.created"), &json!("SUCCESS")),
        "{said}"
    );
    let line = part("pombo webhook list");
    assert!(line.contains("SUCCESS, answered 200"), "{line}");
    assert!(line.contains("is deleted"), "{line}");
    let profile = part("--profile jurichat openapi");
    assert!(
        profile.contains("\n/\n") && profile.contains("officeId"),
        "{profile}"
    );

    let heard = std::fs::read_to_string(folder.join("heard.txt")).unwrap();
    assert!(
        heard.contains("verified") && !heard.contains("WRONG"),
        "{heard}"
    );
    assert!(heard.contains("\"name\": \"Ada\""), "{heard}");
    assert_eq!(pombo.stop().await, Some(0));
}

#[tokio::test]
async fn the_refusal_in_the_readme_is_the_one_that_the_api_gives() {
    let world = World::new().await;
    let token = world.webhooks.tenant_token("acme").await;
    let pombo = world.config.start().await;
    let told: Value = serde_json::from_str(block_in("json")).unwrap();
    let wrong = json!({"name": "n", "url": "erp.example.com/hooks", "events": ["crm.lead.*"]});
    let answer = pombo
        .api()
        .with_token(&token)
        .post("/v1/webhooks", &wrong)
        .await;
    assert_eq!(answer.expect(422), told);
    pombo.stop().await;
}

#[test]
fn every_status_of_the_document_is_in_the_readme() {
    let document: Value =
        serde_json::from_str(include_str!("../../../config/openapi.json")).unwrap();
    let (_, from) = README.split_once("### What goes wrong").unwrap();
    let (table, _) = from.split_once("### Under").unwrap();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            for status in operation["responses"].as_object().into_iter().flatten() {
                let status = status.0;
                assert!(
                    status.starts_with('2') || status == "500" || table.contains(status.as_str()),
                    "README.md lacks {status}"
                );
            }
        }
    }
}
