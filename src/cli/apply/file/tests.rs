use proptest::prelude::*;

use super::*;

fn read_text(text: &str) -> Result<Vec<WebhookSpec>, Vec<String>> {
    let rules = TargetRules::new(Vec::new(), false);
    let surroundings = Surroundings {
        rules: &rules,
        signature_header: "x-sig",
    };
    read("hooks.toml", text, &surroundings).map_err(|problems| {
        problems
            .iter()
            .map(|problem| format!("{} {}: {}", problem.origin, problem.key, problem.reason))
            .collect()
    })
}

const FULL: &str = r#"
[[webhooks]]
id = "orders"
tenant = "acme"
name = "Orders"
url = "https://erp.example.com/hooks"
events = ["order.created", "crm.**"]
secret = "s3cret"
active = false
headers = { x-team = "erp", "x.dotted" = "y" }
rate_limit = { per_second = 50, burst = 10 }
max_in_flight = 8
timeout = "15s"
retry = { first = "5s", factor = 3, longest = "12h", jitter = 0.2, max_attempts = 15, max_age = "4d" }
ordering = "fifo"
body_mode = "payload"

[[webhooks]]
id = "second"
name = "2"
url = "https://example.com/"
events = ["*"]
"#;

#[test]
fn every_key_is_read() {
    let webhooks = read_text(FULL).unwrap();
    assert_eq!(webhooks.len(), 2);
    let first = &webhooks[0];
    assert_eq!(
        (first.id.as_str(), first.tenant.as_str()),
        ("orders", "acme")
    );
    assert_eq!(first.rate_limit.unwrap().per_second, 50.0);
    assert_eq!(first.retry.as_ref().unwrap().factor, Some(3.0));
    assert_eq!(first.headers.len(), 2);
    assert!(!first.active);
    assert_eq!(webhooks[1].tenant, "default");
    assert_eq!(read_text("webhooks = []\n").unwrap().len(), 0);
}

#[test]
fn every_mistake_is_told_with_its_line_and_its_key() {
    let text = r#"
[[webhooks]]
id = "or ders"
nmae = "typo"
url = "ftp://example.com/"
events = ["order.created",
  "lead*", 7]
timeout = "15"
[webhooks.headers]
"x-sig" = "no"
"bad\u001b" = "no"
[webhooks.retry]
first = "1ms"
factor = "three"
max_attempts = -1

[[webhooks]]
id = "a"
name = 7
events = []
rate_limit = { burst = 1 }
ordering = "lifo"
max_in_flight = 20000
"#;
    let mut expected = vec![
        "hooks.toml:17 webhooks[1].url: is missing",
        "hooks.toml:3 webhooks[0].id: this is no webhook id",
        "hooks.toml:4 webhooks[0].nmae: is no key that there is",
        "hooks.toml:5 webhooks[0].url: the URL begins with neither http:// nor https://",
        "hooks.toml:7 webhooks[0].events[1]: is no event filter: a wildcard stands for whole segments: `*` alone between dots, or `**` at the end",
        "hooks.toml:7 webhooks[0].events[2]: is a whole number",
        "hooks.toml:8 webhooks[0].timeout: has no unit",
        "hooks.toml:10 webhooks[0].headers.x-sig: this header is set by Pombo or by HTTP itself",
        "hooks.toml:11 webhooks[0].headers.bad\\u{1b}: this is no name of a header",
        "hooks.toml:13 webhooks[0].retry.first: the first delay is out of range",
        "hooks.toml:14 webhooks[0].retry.factor: is text",
        "hooks.toml:15 webhooks[0].retry.max_attempts: is out of range",
        "hooks.toml:19 webhooks[1].name: is a whole number",
        "hooks.toml:20 webhooks[1].events: there are 0 event filters",
        "hooks.toml:21 webhooks[1].rate_limit.per_second: is missing",
        "hooks.toml:22 webhooks[1].ordering: is none of the choices",
        "hooks.toml:23 webhooks[1].max_in_flight: the number is out of range",
    ];
    let mut found = read_text(text).unwrap_err();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn an_unknown_key_is_told_with_the_one_that_was_meant_and_all_there_are() {
    let rules = TargetRules::default();
    let surroundings = Surroundings {
        rules: &rules,
        signature_header: "x-signature",
    };
    let text = FULL.replace("per_second", "per-secnd");
    let problems = read("f", &text, &surroundings).unwrap_err();
    let shown = problems[0].to_string();
    assert!(shown.contains("did you mean per_second?"), "{shown}");
    assert!(shown.contains("allowed: per_second, burst"), "{shown}");
    assert_eq!(problems[0].key, "webhooks[0].rate_limit.per-secnd");
}

#[test]
fn an_id_stands_once() {
    let text = FULL.replace("\"second\"", "\"orders\"");
    let wrong = read_text(&text).unwrap_err();
    assert_eq!(
        wrong,
        ["hooks.toml:19 webhooks[1].id: is \"orders\", as that of the webhook in line 3 is"]
    );
}

#[test]
fn text_that_is_no_toml_is_told_by_line_without_being_quoted() {
    let wrong = read_text("[[webhooks]]\nid = \"a\"\nsecret = s3cret\nname = \"x\n").unwrap_err();
    assert!(
        wrong[0].starts_with("hooks.toml:3 (the file): is not valid TOML"),
        "{wrong:?}"
    );
    assert!(
        wrong
            .iter()
            .any(|problem| problem.starts_with("hooks.toml:4")),
        "{wrong:?}"
    );
    assert!(!wrong.concat().contains("s3cret"), "{wrong:?}");
}

#[test]
fn a_file_must_say_that_it_declares_nothing() {
    assert_eq!(
        read_text("# empty\n").unwrap_err(),
        ["hooks.toml:1 webhooks: is missing: nothing is declared"]
    );
    assert_eq!(
        read_text("[webhook]\nid = 1\n").unwrap_err(),
        ["hooks.toml:1 webhook: is no key that there is"]
    );
    assert_eq!(
        read_text("\n[webhooks]\nid = 1\n").unwrap_err(),
        ["hooks.toml:2 webhooks: is a table"]
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic_or_show_a_secret(
        key in "[a-z_]{1,14}", value in "[ -~\n]{0,40}", cut in 0usize..900,
    ) {
        let text = format!("{}\n{key} = {value}\n", &FULL[..cut.min(FULL.len())]);
        if let Err(problems) = read_text(&text) {
            prop_assert!(!problems.concat().contains("s3cret"));
        }
    }
}
