//! The documentation as it is served: to programs, and to a person with a browser.

use std::path::Path;

use serde_json::{Value, json};

use crate::interop::{installed, interpreter, run};
use crate::support::pombo::World;

const BROWSER: &str = "/usr/bin/chromium";

/// What a person finds who opens the page, gives a token and tries an operation.
async fn tried_in_a_browser(input: Value) -> Value {
    installed();
    assert!(
        Path::new(BROWSER).exists(),
        "{BROWSER} is not installed: run scripts/test, which installs it"
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/api/docs.mjs");
    let output = tokio::task::spawn_blocking(move || {
        let mut command = interpreter("node");
        command.arg(script);
        run(command, &input)
    });
    let output = output.await.expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_reads_the_page_and_tries_a_call_with_a_token_and_no_other_host_is_asked() {
    for base_path in ["/v1", "/"] {
        let world = World::with(&format!("[api]\nbase_path = {base_path:?}")).await;
        let token = world.webhooks.tenant_token("acme").await;
        let pombo = world.config.start().await;
        let own = format!("http://{}/", pombo.api_address());
        let picture = std::env::var("POMBO_PICTURE").ok();
        let said = tried_in_a_browser(json!({
            "url": format!("{own}docs"),
            "token": token,
            "path": "/webhooks",
            "picture": picture,
        }))
        .await;
        assert_eq!(said["status"], "200", "{said:#}");
        assert_eq!(said["title"], "Pombo API");
        let document = pombo.api().get("/openapi.json").await.expect(200);
        let paths = document["paths"].as_object().unwrap().values();
        let operations: usize = paths.map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(said["operations"], operations, "{said:#}");
        assert_eq!(said["complaints"], json!([]), "{said:#}");
        let requests: Vec<&str> = said["requests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|url| url.as_str().unwrap())
            .filter(|url| !url.starts_with("data:") && !url.starts_with("blob:"))
            .collect();
        let called = format!("{}/webhooks", base_path.trim_end_matches('/'));
        let called = own.trim_end_matches('/').to_owned() + &called;
        assert!(
            requests.iter().any(|url| url.starts_with(&called)),
            "{requests:#?}"
        );
        for url in requests {
            assert!(url.starts_with(&own), "{url} was asked");
        }
        let stored = said["stored"].as_str().unwrap();
        assert!(!stored.contains(&token), "the token outlives the page");
        pombo.stop().await;
    }
}

#[tokio::test]
async fn the_document_and_the_page_are_at_the_root_and_need_no_token() {
    let world = World::with("[api]\nbase_path = \"/hooks/v2\"").await;
    let pombo = world.config.start().await;
    let api = pombo.api();
    let document = api.get("/openapi.json").await;
    assert_eq!(document.header("content-type"), "application/json");
    let document = document.expect(200);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"][0]["url"], "/hooks/v2");

    let moved = api.get("/docs").await;
    assert_eq!((moved.status, moved.header("location")), (303, "docs/"));
    for (file, media_type) in [
        ("", "text/html; charset=utf-8"),
        ("start.js", "text/javascript; charset=utf-8"),
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("swagger-ui.css", "text/css; charset=utf-8"),
        ("favicon-32x32.png", "image/png"),
    ] {
        let page = api.get(&format!("/docs/{file}")).await;
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, media_type),
            "{file}"
        );
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(!policy.contains("http"), "{policy}");
    }
    for missing in ["/docs/index.html", "/docs/a/b", "/docs/%2e%2e%2fdocs.rs"] {
        assert_eq!(api.get(missing).await.status, 404, "{missing}");
    }
    assert_eq!(api.post("/openapi.json", &json!({})).await.status, 405);
    assert_eq!(api.get("/hooks/v2/openapi.json").await.status, 404);
}

#[tokio::test]
async fn the_served_document_is_the_one_that_the_command_prints() {
    let world = World::with("[api]\ntenant_field = \"officeId\"\nkey_header = \"X-Own-Key\"").await;
    let pombo = world.config.start().await;
    let served = pombo.api().get("/openapi.json").await.expect(200);
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_pombo"))
        .arg("--config")
        .arg(world.config.file())
        .arg("openapi")
        .output()
        .await
        .unwrap();
    assert!(output.status.success());
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(served, printed);
    assert_eq!(
        printed["components"]["securitySchemes"]["key"]["name"],
        "x-own-key"
    );
}
