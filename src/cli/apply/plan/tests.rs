use super::*;
use crate::webhook::Disabled;

fn spec(toml: &str) -> WebhookSpec {
    let text = format!(
        "id = \"w1\"\nname = \"one\"\nurl = \"https://a.example.com/hook\"\nevents = [\"crm.**\"]\n{toml}"
    );
    toml::from_str(&text).unwrap()
}

fn planner(clock: &Clock) -> Planner<'_> {
    Planner {
        clock,
        adopt: false,
    }
}

fn stored(declared: &WebhookSpec) -> Webhook {
    let (clock, _) = Clock::simulated(1_000, 1);
    let Step::Create(made) = planner(&clock).step(declared, None) else {
        panic!("there was nothing before");
    };
    Webhook {
        version: 7,
        ..made.webhook
    }
}

fn clock() -> Clock {
    Clock::simulated(5_000, 2).0
}

#[test]
fn a_new_webhook_gets_a_uid_and_a_secret_if_it_declares_none() {
    let clock = clock();
    let Step::Create(made) = planner(&clock).step(&spec(""), None) else {
        panic!("there was nothing before");
    };
    assert!(made.generated);
    assert_eq!((made.webhook.uid.len(), made.webhook.version), (20, 0));
    assert!(made.webhook.secrets[0].expose().starts_with("whsec_"));
    assert_eq!(made.webhook.managed_by.as_deref(), Some("apply"));

    let Step::Create(made) = planner(&clock).step(&spec("secret = \"mine\""), None) else {
        panic!("there was nothing before");
    };
    assert!(!made.generated);
    assert_eq!(made.webhook.secrets, vec!["mine".into()]);
    assert_eq!(made.webhook.spec.secret, None);
}

#[test]
fn what_is_as_declared_is_unchanged_and_keeps_its_generated_secret() {
    let declared = spec("retry = { first = \"1s\" }");
    let found = stored(&declared);
    let clock = clock();
    let step = planner(&clock).step(&declared, Some(found.clone()));
    assert_eq!(step, Step::Unchanged(found));
}

#[test]
fn changes_name_each_field_with_its_old_and_its_new_value() {
    let found = stored(&spec("max_in_flight = 4\ntimeout = \"15s\""));
    let mut declared = spec("max_in_flight = 8\nretry = { first = \"1s\" }");
    declared.name = "two".into();
    let clock = clock();
    let Step::Update { webhook, changes } = planner(&clock).step(&declared, Some(found.clone()))
    else {
        panic!("it is different");
    };
    let lines: Vec<String> = changes
        .iter()
        .map(|change| format!("{}: {}", change.field, change.shown))
        .collect();
    assert_eq!(
        lines,
        [
            "max_in_flight: 4 -> 8",
            "name: \"one\" -> \"two\"",
            "retry.first: (not set) -> \"1s\"",
            "timeout: \"15s\" -> (not set)",
        ]
    );
    assert_eq!((webhook.version, &webhook.uid), (7, &found.uid));
    assert_eq!((webhook.created_ms, webhook.updated_ms), (1_000, 5_000));
    assert_eq!(webhook.secrets, found.secrets);
}

#[test]
fn no_secret_no_header_and_no_path_of_a_url_is_shown() {
    let found = stored(&spec(
        "secret = \"s3cret-1\"\nheaders = { authorization = \"t0ken-1\" }",
    ));
    let mut declared = spec("secret = \"s3cret-2\"\nheaders = { authorization = \"t0ken-2\" }");
    declared.url = "https://a.example.com/p4th".into();
    let clock = clock();
    let step = planner(&clock).step(&declared, Some(found));
    let mut printed = Vec::new();
    crate::cli::apply::show::step(&step, &mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    assert_eq!(
        printed,
        "~ w1\n    headers.authorization: (hidden) (changed where it is not shown)\n    \
         url: https://a.example.com/… (changed where it is not shown)\n    secret: (changed)\n"
    );
    for secret in ["s3cret", "t0ken", "p4th"] {
        assert!(!format!("{printed}{step:?}").contains(secret), "{step:?}");
    }
}

#[test]
fn another_secret_replaces_all_there_were_and_the_newest_again_changes_nothing() {
    let mut found = stored(&spec(""));
    found.secrets = vec!["new".into(), "old".into()];
    let clock = clock();
    let same = planner(&clock).step(&spec("secret = \"new\""), Some(found.clone()));
    assert!(matches!(same, Step::Unchanged(_)));
    let Step::Update { webhook, .. } =
        planner(&clock).step(&spec("secret = \"other\""), Some(found))
    else {
        panic!("the secret is different");
    };
    assert_eq!(webhook.secrets, vec!["other".into()]);
}

#[test]
fn another_tenant_makes_another_webhook_with_another_secret() {
    let found = stored(&spec("tenant = \"a\""));
    let clock = clock();
    let step = planner(&clock).step(&spec("tenant = \"b\""), Some(found.clone()));
    let Step::Recreate { old, new } = step else {
        panic!("the tenant is different");
    };
    assert_eq!(old, found);
    assert_ne!(new.webhook.uid, found.uid);
    assert_ne!(new.webhook.secrets, found.secrets);
    assert_eq!(new.webhook.version, 0);
}

#[test]
fn a_webhook_of_others_is_neither_changed_nor_pruned_unless_it_is_adopted() {
    let declared = spec("");
    let mut found = stored(&declared);
    found.managed_by = Some("api".into());
    let clock = clock();
    let planner = planner(&clock);
    assert_eq!(
        planner.step(&declared, Some(found.clone())),
        Step::Foreign(found.clone())
    );
    assert_eq!(planner.pruned(found.clone()), None);
    let adopting = Planner {
        adopt: true,
        ..planner
    };
    let Step::Update { webhook, changes } = adopting.step(&declared, Some(found)) else {
        panic!("it changes hands");
    };
    assert_eq!(webhook.managed_by.as_deref(), Some("apply"));
    assert_eq!(changes[0].shown, "\"api\" -> \"apply\"");
}

#[test]
fn a_webhook_that_pombo_disabled_stays_disabled() {
    let mut found = stored(&spec(""));
    found.disabled = Some(Disabled {
        reason: "410 Gone".into(),
        at_ms: 3_000,
    });
    let clock = clock();
    let Step::Update { webhook, .. } =
        planner(&clock).step(&spec("max_in_flight = 1"), Some(found.clone()))
    else {
        panic!("it is different");
    };
    assert_eq!(webhook.disabled, found.disabled);
}
