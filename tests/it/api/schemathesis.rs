//! Whether the API is what its document says, tried with whatever schemathesis can make up from the document.

use std::path::Path;

use tokio::process::Command;

use crate::interop::installed;
use crate::support::pombo::World;

const TOKEN: &str = "operator-of-the-schemathesis-run";
/// The same requests in every run. Another number tries others.
const SEED: &str = "20260313";
/// Requests made up for each operation, in each of the phases that make them up.
const EXAMPLES: &str = "25";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_that_can_be_made_up_gets_an_answer_that_the_document_does_not_tell_of() {
    let program = installed().join("python/bin/st");
    assert!(
        program.exists(),
        "{} is not installed: run scripts/test, which installs it",
        program.display()
    );
    // The operator's token is a setting, for the run deletes and replaces whatever tokens it finds. It is without a token
    // again and again, by intent.
    let world = World::with(&format!(
        "[api]\noperator_token = {TOKEN:?}\nfailed_auth_per_minute = 1000000\n\
         [delivery]\ntimeout = \"1s\"\nconnect_timeout = \"1s\"\n[retry]\nmax_attempts = 2"
    ))
    .await;
    let pombo = world.config.spawn().await;
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/api");
    let output = Command::new(program)
        .current_dir(world.config.directory())
        .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
        .env("PYTHONPATH", hooks)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("COLUMNS", "160")
        .args([
            "run",
            "--no-color",
            "--seed",
            SEED,
            "--max-examples",
            EXAMPLES,
        ])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .args(["--phases", "examples,coverage,fuzzing,stateful"])
        // Not all that a schema cannot forbid is right: an event type must be in the catalogue, a name of a header must
        // not be one that Pombo sends itself, two fields must fit each other.
        .args([
            "--checks",
            "all",
            "--exclude-checks",
            "positive_data_acceptance",
        ])
        .args(["--continue-on-failure", "--no-shrink", "--warnings", "off"])
        .args(["--generation-database", "none", "--request-timeout", "20"])
        .arg(format!("http://{}/openapi.json", pombo.api_address()))
        .kill_on_drop(true)
        .output()
        .await
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}\nthe end of the daemon's log:\n{}",
        String::from_utf8_lossy(&output.stderr),
        pombo
            .log()
            .lines()
            .iter()
            .rev()
            .take(20)
            .rev()
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
    println!("{said}");
    let log = pombo.log().lines().join("\n");
    assert!(!log.contains(TOKEN), "the token is in the log");
    assert_eq!(pombo.stop().await, Some(0));
}
