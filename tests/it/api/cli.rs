//! The commands that ask the API, as a person or a script runs them.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::pombo::{Pombo, World};
use crate::support::receiver::{Receiver, Step};
use crate::support::wait::until;

/// What came of a command.
#[derive(Debug)]
struct Outcome {
    code: i32,
    out: String,
    errors: String,
}

impl Outcome {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.errors);
        self.out
    }

    #[track_caller]
    fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

/// A shell with POMBO_URL and POMBO_TOKEN set, and settings other than the daemon's.
struct Shell {
    url: String,
    token: String,
    arguments: Vec<String>,
}

impl Shell {
    fn at(pombo: &Pombo, token: &str) -> Shell {
        Shell {
            url: format!("http://{}", pombo.api_address()),
            token: token.to_owned(),
            arguments: vec!["--config".into(), "/dev/null".into()],
        }
    }

    async fn run(&self, arguments: &[&str]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_pombo"))
            .args(&self.arguments)
            .args(arguments)
            .env("POMBO_URL", &self.url)
            .env("POMBO_TOKEN", &self.token)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let outcome = Outcome {
            code: output.status.code().expect("it was not killed"),
            out: text(output.stdout),
            errors: text(output.stderr),
        };
        let shown = format!("{}{}", outcome.out, outcome.errors);
        assert!(
            self.token.is_empty() || !shown.contains(&self.token),
            "the token is shown: {shown}"
        );
        outcome
    }
}

async fn with_status(shell: &Shell, webhook: &str, status: &str) -> Value {
    until(
        "a delivery with this status",
        async || {
            let arguments = [
                "delivery", "list", webhook, "--status", status, "--output", "json",
            ];
            shell.run(&arguments).await.json()
        },
        |page: &Value| page["total"].as_u64() > Some(0),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_made_changed_tested_and_deleted_from_the_command_line() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let token = world.webhooks.tenant_token("acme").await;
    let pombo = world.config.start().await;
    let shell = Shell::at(&pombo, &token);
    let url = receiver.url("/hooks");

    let made = shell
        .run(&[
            "webhook",
            "create",
            "--name",
            "ERP",
            "--target",
            &url,
            "--event",
            "crm.*",
            "--header",
            "x-team: sales",
            "--timeout",
            "2s",
            "--output",
            "json",
        ])
        .await
        .json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["tenantId"], "acme");
    assert_eq!(made["timeoutMs"], 2000);
    let secret = made["secret"].as_str().unwrap();

    let table = shell.run(&["webhook", "list"]).await.ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID "), "{table}");
    assert!(
        lines[1].starts_with(id) && lines[1].contains("active"),
        "{table}"
    );
    assert!(!table.contains('\u{1b}'), "{table}");

    let shown = shell.run(&["webhook", "show", id]).await.ok();
    assert!(
        !shown.contains(secret) && !shown.contains("sales"),
        "{shown}"
    );
    let shown = shell.run(&["webhook", "show", id, "--secrets"]).await.ok();
    assert!(
        shown.contains(secret) && shown.contains("x-team: sales"),
        "{shown}"
    );
    let version = shown
        .lines()
        .find_map(|line| line.strip_prefix("version"))
        .unwrap()
        .trim();

    let update = [
        "webhook",
        "update",
        id,
        "--description",
        "for the ERP",
        "--clear",
        "headers",
    ];
    let with_version = [&update[..], &["--if-match", version, "--output", "json"]].concat();
    let changed = shell.run(&with_version).await.json();
    assert_eq!(changed["description"], "for the ERP");
    assert_eq!(changed["headers"], json!({}));
    let late = shell.run(&with_version).await;
    assert_eq!(late.code, 1, "{late:?}");
    assert!(late.errors.contains("(412)"), "{late:?}");
    assert_eq!(shell.run(&["webhook", "update", id]).await.code, 64);

    let tested = shell
        .run(&["webhook", "test", id, "--payload", "{\"n\": 1.50}"])
        .await;
    let tested = tested.ok();
    assert!(tested.contains("SUCCESS, answered 200"), "{tested}");
    assert!(tested.contains("\"n\": 1.50"), "{tested}");

    let rotated = shell
        .run(&["webhook", "rotate-secret", id, "--grace", "1h"])
        .await
        .ok();
    assert!(
        rotated.starts_with("secret ") && !rotated.contains(secret),
        "{rotated}"
    );

    let unsure = shell.run(&["webhook", "delete", id]).await;
    assert_eq!(unsure.code, 64, "{unsure:?}");
    shell.run(&["webhook", "delete", id, "--yes"]).await.ok();
    let gone = shell.run(&["webhook", "show", id]).await;
    assert_eq!(gone.code, 1, "{gone:?}");
    assert!(gone.errors.contains("(404)"), "{gone:?}");
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_deliveries_are_listed_shown_and_retried_from_the_command_line() {
    let world = World::with("[retry]\nmax_attempts = 2").await;
    let receiver = Receiver::start().await;
    for _ in 0..2 {
        receiver.push(Step::status(500));
    }
    let token = world.webhooks.tenant_token("acme").await;
    let pombo = world.config.start().await;
    let shell = Shell::at(&pombo, &token);
    let url = receiver.url("/hooks");
    let create = [
        "webhook", "create", "--name", "n", "--target", &url, "--event", "*", "--output", "json",
    ];
    let made = shell.run(&create).await.json();
    let id = made["id"].as_str().unwrap();
    pombo
        .wait_for_metric("pombo_webhooks", &[("state", "active")], |known| {
            known == 1.0
        })
        .await;

    let sent = shell
        .run(&[
            "event",
            "send",
            "crm.lead.created",
            "{\"n\": 1.50}",
            "--id",
            "evt_1",
            "--idempotency-key",
            "k",
        ])
        .await
        .ok();
    assert!(
        sent.starts_with("evt_1 was added to the stream events as "),
        "{sent}"
    );
    let again = shell
        .run(&[
            "event",
            "send",
            "crm.lead.created",
            "{\"n\": 1.50}",
            "--id",
            "evt_1",
            "--idempotency-key",
            "k",
        ])
        .await
        .ok();
    assert!(again.contains("was added before"), "{again}");

    let failed = with_status(&shell, id, "FAILED").await;
    let delivery = failed["data"][0]["id"].as_str().unwrap();
    let table = shell
        .run(&["delivery", "list", id, "--since", "1h"])
        .await
        .ok();
    assert!(
        table.contains("FAILED") && table.contains(delivery),
        "{table}"
    );
    let shown = shell.run(&["delivery", "show", delivery]).await.ok();
    assert_eq!(shown.matches(", answered 500, ").count(), 2, "{shown}");
    assert!(shown.contains("\"n\": 1.50"), "{shown}");
    let traced = shell.run(&["event", "deliveries", "evt_1"]).await.ok();
    assert!(traced.contains(delivery), "{traced}");

    let all = ["delivery", "retry", "--webhook", id, "--status", "failed"];
    let counted = shell.run(&[&all[..], &["--dry-run"]].concat()).await.ok();
    assert_eq!(counted, "1 delivery would be retried\n");
    let done = shell.run(&[&all[..], &["--wait"]].concat()).await.ok();
    assert!(done.contains("retried          1"), "{done}");
    with_status(&shell, id, "SUCCESS").await;
    let conflict = shell.run(&["delivery", "retry", delivery]).await;
    assert_eq!(conflict.code, 1, "{conflict:?}");
    assert!(conflict.errors.contains("(409)"), "{conflict:?}");
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_listed_replaced_and_deleted_from_the_command_line() {
    let world = World::new().await;
    let operator = world.webhooks.operator_token().await;
    let tenant = world.webhooks.tenant_token("acme").await;
    let pombo = world.config.start().await;
    let shell = Shell::at(&pombo, &operator);
    let listed = shell
        .run(&["token", "list", "--tenant", "acme", "--output", "json"])
        .await
        .json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert!(!listed.to_string().contains(&tenant));

    let regenerate = [
        "token",
        "regenerate",
        "--tenant",
        "acme",
        "--quiet",
        "--yes",
    ];
    let token = shell.run(&regenerate).await.ok();
    let token = token.strip_suffix('\n').unwrap();
    assert!(token.starts_with("pmb_"), "{token}");
    let old = Shell::at(&pombo, &tenant);
    let refused = old.run(&["webhook", "list"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.errors.contains("(401)") && refused.errors.contains("POMBO_TOKEN"),
        "{refused:?}"
    );
    let new = Shell::at(&pombo, token);
    assert_eq!(new.run(&["webhook", "list"]).await.errors, "no webhooks\n");

    let listed = shell
        .run(&["token", "list", "--tenant", "acme", "--output", "json"])
        .await
        .json();
    let id = listed[0]["id"].as_str().unwrap();
    shell.run(&["token", "delete", id, "--yes"]).await.ok();
    assert_eq!(new.run(&["webhook", "list"]).await.code, 1);
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_refuses_is_told_with_its_place_and_an_exit_code() {
    let world = World::new().await;
    let token = world.webhooks.tenant_token("acme").await;
    let pombo = world.config.start().await;
    let shell = Shell::at(&pombo, &token);
    let create = [
        "webhook", "create", "--name", "", "--target", "ftp://x", "--event", "*",
    ];
    let wrong = shell.run(&create).await;
    assert_eq!(wrong.code, 65, "{wrong:?}");
    for place in ["\n  /name: ", "\n  /url: "] {
        assert!(wrong.errors.contains(place), "{wrong:?}");
    }
    let forbidden = shell.run(&["webhook", "list", "--tenant", "globex"]).await;
    assert_eq!(forbidden.code, 1, "{forbidden:?}");
    assert!(forbidden.errors.contains("(403)"), "{forbidden:?}");
    let missing = Shell {
        token: String::new(),
        ..Shell::at(&pombo, "")
    };
    let missing = missing.run(&["webhook", "list"]).await;
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(missing.errors.contains("pombo token create"), "{missing:?}");
    let elsewhere = Shell {
        url: format!("http://{}/elsewhere", pombo.api_address()),
        ..Shell::at(&pombo, &token)
    };
    assert_eq!(elsewhere.run(&["webhook", "list"]).await.code, 1);
    let metrics = Shell {
        url: format!("http://{}", pombo.address()),
        ..Shell::at(&pombo, &token)
    };
    let metrics = metrics.run(&["webhook", "list"]).await;
    assert_eq!(metrics.code, 1, "{metrics:?}");
    assert!(metrics.errors.contains("is not Pombo's API"), "{metrics:?}");
    pombo.stop().await;
    let away = shell.run(&["webhook", "list"]).await;
    assert_eq!(away.code, 69, "{away:?}");
    assert!(
        away.errors
            .contains("cannot use the API at http://127.0.0.1:"),
        "{away:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_profile_the_commands_speak_the_platforms_words() {
    let world = World::new().await;
    let operator = world.webhooks.operator_token().await;
    let config = world.config.with_profile("jurichat");
    let pombo = config.start().await;
    let mut shell = Shell::at(&pombo, &operator);
    shell
        .arguments
        .extend(["--profile".into(), "jurichat".into()]);
    let made = shell
        .run(&[
            "webhook",
            "create",
            "--name",
            "n",
            "--target",
            "https://example.com/",
            "--event",
            "crm.lead.created",
            "--tenant",
            "7",
            "--output",
            "json",
        ])
        .await
        .json();
    assert_eq!(made["officeId"], "7");
    let listed = shell.run(&["webhook", "list", "--tenant", "7"]).await.ok();
    assert!(listed.contains(made["id"].as_str().unwrap()), "{listed}");
    assert_eq!(
        shell.run(&["webhook", "list", "--tenant", "8"]).await.out,
        ""
    );
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_is_printed_by_check_config_and_in_its_document() {
    let run = async |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pombo"))
            .args(["--config", "/dev/null", "--profile", "jurichat"])
            .args(arguments)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(30), output).await;
        let output = output.expect("it ends").expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let settings: toml::Table = run(&["check-config"]).await.parse().unwrap();
    assert_eq!(settings["api"]["tenant_field"].as_str(), Some("officeId"));
    assert_eq!(
        settings["catalogue"]["events"].as_array().unwrap().len(),
        11
    );
    let document: Value = serde_json::from_str(&run(&["openapi"]).await).unwrap();
    assert_eq!(document["servers"][0]["url"], "/");
    let webhook = &document["components"]["schemas"]["Webhook"]["properties"];
    assert!(webhook.get("officeId").is_some(), "{webhook:#}");
}
