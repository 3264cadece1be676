//! `pombo apply` and `pombo enable`.

use std::os::unix::fs::PermissionsExt as _;

use pombo::store::webhooks::Put;
use pombo::webhook::{Disabled, Webhook};

use super::place::{Place, finish};

fn webhook(id: &str, more: &str) -> String {
    format!(
        "[[webhooks]]\nid = \"{id}\"\nname = \"{id}\"\nurl = \"https://example.com/{id}\"\nevents = [\"crm.**\"]\n{more}\n"
    )
}

fn apply(place: &Place, text: &str, options: &[&str]) -> super::place::Outcome {
    let file = place.write("hooks.toml", text);
    place.run(&[&["apply", file.as_str()], options].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_creates_changes_keeps_and_prunes_and_says_so() {
    let place = Place::new("");
    let first = apply(&place, &(webhook("a", "") + &webhook("b", "")), &[]).ok();
    assert!(
        first.contains("+ a\n") && first.contains("+ b\n"),
        "{first}"
    );
    assert!(
        first.ends_with("2 created, 0 changed, 0 deleted, 0 unchanged\n"),
        "{first}"
    );
    let (store, _stop) = place.store().await;
    let before = store.webhook("a").await.unwrap().unwrap();
    assert!(before.secrets[0].expose().starts_with("whsec_"));

    let text = webhook("a", "max_in_flight = 8") + &webhook("c", "secret = \"s3cret\"");
    let dry = apply(&place, &text, &["--prune", "--dry-run"]).ok();
    assert!(dry.contains("a dry run: nothing was changed"), "{dry}");
    assert_eq!(store.webhook("a").await.unwrap().unwrap(), before);

    let second = apply(&place, &text, &["--prune"]).ok();
    assert!(
        second.contains("~ a\n    max_in_flight: (not set) -> 8\n"),
        "{second}"
    );
    assert!(
        second.contains("- b (") && second.contains("+ c\n"),
        "{second}"
    );
    assert!(!second.contains("s3cret"), "{second}");
    let after = store.webhook("a").await.unwrap().unwrap();
    assert_eq!(
        (&after.uid, after.version),
        (&before.uid, before.version + 1)
    );
    assert_eq!(after.secrets, before.secrets);
    assert!(store.webhook("b").await.unwrap().is_none());

    let third = apply(&place, &text, &["--prune"]).ok();
    assert_eq!(
        third,
        "= a\n= c\n0 created, 0 changed, 0 deleted, 2 unchanged\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_moves_to_another_tenant_is_another_webhook() {
    let place = Place::new("");
    apply(&place, &webhook("a", "tenant = \"acme\""), &[]).ok();
    let (store, _stop) = place.store().await;
    let before = store.webhook("a").await.unwrap().unwrap();
    let moved = apply(&place, &webhook("a", "tenant = \"globex\""), &[]).ok();
    assert!(
        moved.contains("- a (its tenant changes") && moved.contains("+ a (made anew"),
        "{moved}"
    );
    let after = store.webhook("a").await.unwrap().unwrap();
    assert_eq!(after.spec.tenant, "globex");
    assert_ne!(after.uid, before.uid);
    assert_ne!(after.secrets, before.secrets);
    assert_eq!(store.gone().await.unwrap(), [(before.uid, "a".to_owned())]);
}

#[test]
fn a_wrong_file_names_every_line_and_changes_nothing() {
    let place = Place::new("");
    let text = webhook("a", "") + &webhook("b", "timeout = \"15\"\nevnts = []");
    let outcome = apply(&place, &text, &[]);
    assert_eq!((outcome.code, outcome.out.as_str()), (65, ""));
    let file = place.path("hooks.toml");
    for line in [
        "webhooks[1].timeout: has no unit".to_owned(),
        format!("{}:12", file.display()),
        "allowed: \"100ms\" to \"5m\"".to_owned(),
        "did you mean events?".to_owned(),
        format!("{}:13", file.display()),
    ] {
        assert!(outcome.errors.contains(&line), "{line}: {}", outcome.errors);
    }
    assert_eq!(place.redis(&["DBSIZE"]), redis::Value::Int(0));
    let missing = place.run(&["apply", "/nonexistent/hooks.toml"]);
    assert_eq!(missing.code, 66);
}

#[test]
fn targets_are_judged_by_the_settings() {
    let text = webhook("a", "").replace("https://example.com/a", "http://127.0.0.1:9000/");
    let refused = apply(&Place::new(""), &text, &[]);
    assert_eq!(refused.code, 65);
    assert!(
        refused.errors.contains("127.0.0.1 is a loopback address"),
        "{}",
        refused.errors
    );
    apply(
        &Place::new("[targets]\nallow = [\"127.0.0.0/8\"]\n"),
        &text,
        &[],
    )
    .ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_others_made_is_left_alone_until_it_is_adopted() {
    let place = Place::new("");
    apply(&place, &webhook("a", ""), &[]).ok();
    let (store, _stop) = place.store().await;
    let mut theirs = store.webhook("a").await.unwrap().unwrap();
    theirs.managed_by = None;
    assert_ne!(store.put_webhook(&theirs).await.unwrap(), Put::Conflict);

    let text = webhook("a", "max_in_flight = 8") + &webhook("b", "");
    let refused = apply(&place, &text, &["--prune"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .out
            .contains("! a exists and was not made by `pombo apply`"),
        "{}",
        refused.out
    );
    assert!(
        refused.errors.contains("nothing was changed"),
        "{}",
        refused.errors
    );
    assert!(store.webhook("b").await.unwrap().is_none());

    apply(&place, "webhooks = []\n", &["--prune"]).ok();
    assert!(store.webhook("a").await.unwrap().is_some());

    apply(&place, &text, &["--adopt"]).ok();
    let ours = store.webhook("a").await.unwrap().unwrap();
    assert_eq!(ours.managed_by.as_deref(), Some("apply"));
    assert_eq!(ours.spec.max_in_flight, Some(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applies_at_the_same_time_do_not_get_into_each_others_way() {
    let place = Place::new("");
    let files: Vec<String> = (1..=6)
        .map(|n| {
            let hooks: String = (0..20)
                .map(|id| webhook(&format!("w{id}"), &format!("max_in_flight = {n}")))
                .collect();
            place.write(&format!("hooks-{n}.toml"), &hooks)
        })
        .collect();
    let running: Vec<_> = files
        .iter()
        .map(|file| place.start(&["apply", file]))
        .collect();
    for child in running {
        finish(child).ok();
    }
    let (store, _stop) = place.store().await;
    let (webhooks, unreadable) = store.all_webhooks().await.unwrap();
    assert_eq!((webhooks.len(), unreadable.len()), (20, 0));
    assert!(
        webhooks
            .iter()
            .all(|webhook| webhook.spec.max_in_flight.is_some())
    );
}

#[test]
fn generated_secrets_can_be_had_for_the_receivers() {
    let place = Place::new("");
    let text = webhook("a", "") + &webhook("b", "secret = \"mine\"");
    let hint = apply(&place, &text, &[]).errors;
    assert!(hint.contains("--secrets-out"), "{hint}");
    let path = place.path("secrets.toml");
    let outcome = apply(&place, &text, &["--secrets-out", path.to_str().unwrap()]);
    outcome.ok();
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written.starts_with("a = \"whsec_") && written.lines().count() == 1,
        "{written}"
    );
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_enable_clears_what_pombo_disabled() {
    let place = Place::new("");
    apply(&place, &webhook("a", ""), &[]).ok();
    let (store, _stop) = place.store().await;
    let found = store.webhook("a").await.unwrap().unwrap();
    let disabled = Webhook {
        disabled: Some(Disabled {
            reason: "the receiver answered 410\u{1b}[2J".into(),
            at_ms: 1_773_403_200_000,
        }),
        ..found
    };
    store.put_webhook(&disabled).await.unwrap();
    let shown = apply(&place, &webhook("a", "max_in_flight = 2"), &[]).ok();
    assert!(shown.contains("`pombo enable a` clears that"), "{shown}");
    assert!(
        store
            .webhook("a")
            .await
            .unwrap()
            .unwrap()
            .disabled
            .is_some()
    );

    let enabled = place.run(&["enable", "a"]).ok();
    assert!(enabled.contains("410\\u{1b}[2J"), "{enabled}");
    let after = store.webhook("a").await.unwrap().unwrap();
    assert!(after.disabled.is_none() && after.delivers());
    assert_eq!(after.spec.max_in_flight, Some(2));
    let again = place.run(&["enable", "a"]).ok();
    assert!(again.contains("is not disabled"), "{again}");
    assert_eq!(place.run(&["enable", "b"]).code, 1);
}
