use proptest::prelude::*;

use super::*;
use crate::target::TargetRules;

const APPLIED: &str = r#"
id = "crm-sync"
tenant = "acme"
name = "CRM sync"
url = "https://example.com/hook"
events = ["crm.lead.created", "chat.**"]
secret = "whsec_hidden"
active = false
headers = { "X-Team" = "integrations" }
rate_limit = { per_second = 10, burst = 20 }
max_in_flight = 8
timeout = "15s"
retry = { first = "1s", factor = 2, longest = "1h", jitter = 0.1, max_attempts = 5, max_age = "1d" }
ordering = "fifo"
body_mode = "payload"
"#;

fn minimal() -> WebhookSpec {
    serde_json::from_str(r#"{"id":"a","name":"A","url":"https://example.com","events":["*"]}"#)
        .unwrap()
}

fn wrong_fields(spec: &WebhookSpec) -> Vec<String> {
    spec.validate(&TargetRules::default())
        .into_iter()
        .map(|error| error.field)
        .collect()
}

#[test]
fn a_table_of_the_apply_file_reads_whole() {
    let spec: WebhookSpec = toml::from_str(APPLIED).unwrap();
    assert_eq!(spec.tenant, "acme");
    assert_eq!(spec.timeout, Some(Duration::from_secs(15)));
    assert_eq!(
        spec.rate_limit,
        Some(RateLimit {
            per_second: 10.0,
            burst: 20
        })
    );
    assert_eq!(spec.ordering, Ordering::Fifo);
    assert_eq!(spec.body_mode, Some(BodyMode::Payload));
    assert_eq!(spec.retry.as_ref().unwrap().factor, Some(2.0));
    assert!(!spec.active);
    assert_eq!(wrong_fields(&spec), Vec::<String>::new());
    assert!(spec.wants("chat.conversation.created"));
    assert!(!spec.wants("crm.lead.deleted"));
}

#[test]
fn what_is_left_out_has_its_default() {
    let spec = minimal();
    assert_eq!(spec.tenant, "default");
    assert!(spec.active);
    assert_eq!(spec.ordering, Ordering::None);
    assert_eq!(
        (spec.body_mode, &spec.secret, spec.timeout),
        (None, &None, None)
    );
    assert_eq!(wrong_fields(&spec), Vec::<String>::new());
}

#[test]
fn unknown_keys_are_refused() {
    for extra in [
        "nmae = \"x\"",
        "rate_limit = { per_second = 1, brust = 1 }",
        "retry = { fist = \"1s\" }",
    ] {
        let text = format!("id=\"a\"\nname=\"A\"\nurl=\"https://e.com\"\nevents=[\"*\"]\n{extra}");
        let error = toml::from_str::<WebhookSpec>(&text).unwrap_err();
        assert!(error.to_string().contains("unknown field"), "{error}");
    }
}

#[test]
fn a_stored_webhook_is_short_and_always_written_alike() {
    let spec = minimal();
    assert_eq!(
        serde_json::to_string(&spec).unwrap(),
        r#"{"id":"a","tenant":"default","name":"A","url":"https://example.com","events":["*"],"active":true,"ordering":"none"}"#
    );
}

#[test]
fn every_wrong_field_is_named_with_what_is_allowed() {
    let mut spec = minimal();
    spec.id = "a b".into();
    spec.tenant = String::new();
    spec.name = "é".repeat(101);
    spec.url = "https://10.0.0.1/".into();
    spec.events.clear();
    spec.secret = Some(Secret::new("hidden\n"));
    spec.rate_limit = Some(RateLimit {
        per_second: f64::NAN,
        burst: 0,
    });
    spec.max_in_flight = Some(0);
    spec.timeout = Some(Duration::from_millis(99));
    spec.retry = Some(RetryOverride {
        max_attempts: Some(0),
        ..RetryOverride::default()
    });
    assert_eq!(
        wrong_fields(&spec),
        [
            "id",
            "tenant",
            "name",
            "url",
            "events",
            "secret",
            "rate_limit.per_second",
            "rate_limit.burst",
            "max_in_flight",
            "timeout",
            "retry.max_attempts"
        ]
    );
    for error in spec.validate(&TargetRules::default()) {
        assert!(!error.reason.is_empty() && !error.allowed.is_empty());
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}

#[test]
fn the_edges_of_every_range_are_allowed() {
    let mut spec = minimal();
    spec.id = "a".repeat(64);
    spec.tenant = "t".repeat(256);
    spec.name = "é".repeat(100);
    spec.events = vec![EventFilter::parse("*").unwrap(); 100];
    spec.rate_limit = Some(RateLimit {
        per_second: 100_000.0,
        burst: 1,
    });
    spec.max_in_flight = Some(10_000);
    spec.timeout = Some(Duration::from_secs(300));
    spec.headers = (0..32)
        .map(|n| (format!("x-{n}"), "v".repeat(1024)))
        .collect();
    assert_eq!(wrong_fields(&spec), Vec::<String>::new());
    spec.headers.insert("x-more".into(), String::new());
    assert_eq!(wrong_fields(&spec), ["headers"]);
}

#[test]
fn a_rate_limit_keeps_to_its_ranges_and_fills_its_bucket_within_a_day() {
    let wrong = |per_second: f64, burst: u32| {
        let mut spec = minimal();
        spec.rate_limit = Some(RateLimit { per_second, burst });
        wrong_fields(&spec)
    };
    for (per_second, burst) in [
        (0.0001, 1),
        (0.0001, 8),
        (1.0, 86_400),
        (100_000.0, 100_000),
        (100_000.0, 1),
    ] {
        assert!(wrong(per_second, burst).is_empty(), "{per_second}, {burst}");
    }
    let subnormal = f64::MIN_POSITIVE / 2.0;
    for per_second in [
        0.0,
        -1.0,
        0.000_099,
        100_000.1,
        subnormal,
        f64::INFINITY,
        f64::NAN,
    ] {
        assert_eq!(
            wrong(per_second, 1),
            ["rate_limit.per_second"],
            "{per_second}"
        );
    }
    for (per_second, burst) in [
        (1.0, 0),
        (100.0, 100_001),
        (100.0, u32::MAX),
        (0.0001, 9),
        (1.0, 86_401),
    ] {
        assert_eq!(
            wrong(per_second, burst),
            ["rate_limit.burst"],
            "{per_second}, {burst}"
        );
    }
}

#[test]
fn reserved_and_broken_headers_are_refused_and_their_values_never_told() {
    for name in [
        "Content-Type",
        "content-length",
        "HOST",
        "Connection",
        "Transfer-Encoding",
        "TE",
        "Upgrade",
        "Trailer",
        "Keep-Alive",
        "Proxy-Authorization",
        "User-Agent",
        "X-Event-Id",
        "X-Delivery-Attempt",
        "Webhook-Id",
        "X-Signature",
        "x-signature-Previous",
        "bad name",
        "",
        "new\nline",
    ] {
        let mut spec = minimal();
        spec.headers.insert(name.into(), "hidden".into());
        let errors = spec.validate(&TargetRules::default());
        assert_eq!(errors.len(), 1, "{name}");
        assert!(!errors[0].to_string().contains("hidden"));
        assert!(!errors[0].to_string().contains('\n'));
    }
    for value in ["hidden\r\nx-evil: 1", "hidden\0", "hidden\t", "hiddén"] {
        let mut spec = minimal();
        spec.headers.insert("x-team".into(), value.into());
        let errors = spec.validate(&TargetRules::default());
        assert_eq!(errors.len(), 1, "{value:?}");
        assert!(!errors[0].to_string().contains("hidd"));
    }
    let mut spec = minimal();
    spec.headers
        .insert("Authorization".into(), "Bearer a".into());
    assert_eq!(wrong_fields(&spec), Vec::<String>::new());
    spec.headers
        .insert("authorization".into(), "Bearer b".into());
    assert_eq!(wrong_fields(&spec), ["headers.authorization"]);
}

#[test]
fn the_header_of_the_signature_is_reserved_under_its_own_name() {
    let mut spec = minimal();
    spec.headers
        .insert("X-Jurichat-Signature".into(), "a".into());
    let rules = TargetRules::default();
    assert!(spec.validate(&rules).is_empty());
    let errors = spec.validate_for(&rules, "x-jurichat-signature");
    assert_eq!(errors.len(), 1);
}

#[test]
fn debug_hides_the_secret_the_header_values_and_the_path() {
    let mut spec: WebhookSpec = toml::from_str(APPLIED).unwrap();
    spec.url = "https://example.com/hidden?hidden".into();
    spec.headers.insert("authorization".into(), "hidden".into());
    let webhook = Webhook {
        secrets: vec![Secret::new("whsec_concealed")],
        spec,
        uid: "u1".into(),
        version: 1,
        rotation_ends_ms: None,
        disabled: None,
        managed_by: None,
        created_ms: 0,
        updated_ms: 0,
    };
    let shown = format!("{webhook:?}");
    assert!(!shown.contains("whsec"), "{shown}");
    assert!(
        !shown.contains("/hidden") && !shown.contains("\"hidden\""),
        "{shown}"
    );
    assert!(
        shown.contains("authorization") && shown.contains("example.com"),
        "{shown}"
    );
}

#[test]
fn a_webhook_delivers_while_it_is_active_and_not_disabled() {
    let mut webhook = Webhook {
        spec: minimal(),
        uid: "u1".into(),
        version: 1,
        secrets: vec![Secret::new("s")],
        rotation_ends_ms: None,
        disabled: None,
        managed_by: None,
        created_ms: 0,
        updated_ms: 0,
    };
    assert!(webhook.delivers());
    webhook.disabled = Some(Disabled {
        reason: "the receiver answered 410 Gone".into(),
        at_ms: 1,
    });
    assert!(!webhook.delivers());
    webhook.disabled = None;
    webhook.spec.active = false;
    assert!(!webhook.delivers());
}

prop_compose! {
    fn overrides()(
        first in prop::option::of(0_u64..10_000_000),
        factor in prop::option::of(prop::num::f64::NORMAL | prop::num::f64::ZERO),
        longest in prop::option::of(0_u64..10_000_000),
        jitter in prop::option::of(0.0_f64..1.0),
        max_attempts in any::<Option<u32>>(),
        max_age in prop::option::of(0_u64..10_000_000),
    ) -> RetryOverride {
        RetryOverride {
            first: first.map(Duration::from_millis),
            factor,
            longest: longest.map(Duration::from_millis),
            jitter,
            max_attempts,
            max_age: max_age.map(Duration::from_millis),
        }
    }
}

prop_compose! {
    pub(crate) fn specs()(
        texts in ("\\PC{0,20}", "\\PC{0,20}", "\\PC{0,20}", "\\PC{0,30}"),
        events in prop::collection::vec("(crm|chat)(\\.[a-z]{1,5}|\\.\\*){0,3}(\\.\\*\\*)?", 0..5),
        secret in prop::option::of("\\PC{0,40}"),
        active in any::<bool>(),
        headers in prop::collection::btree_map("\\PC{0,10}", "\\PC{0,20}", 0..4),
        rate in prop::option::of((prop::num::f64::NORMAL, any::<u32>())),
        max_in_flight in any::<Option<u32>>(),
        timeout in prop::option::of(0_u64..1_000_000),
        retry in prop::option::of(overrides()),
        fifo in any::<bool>(),
        payload in any::<Option<bool>>(),
    ) -> WebhookSpec {
        let (id, tenant, name, url) = texts;
        WebhookSpec {
            id,
            tenant,
            description: fifo.then(|| name.clone()),
            name,
            url,
            events: events.iter().map(|text| EventFilter::parse(text).unwrap()).collect(),
            secret: secret.map(Secret::new),
            active,
            headers,
            rate_limit: rate.map(|(per_second, burst)| RateLimit { per_second, burst }),
            max_in_flight,
            timeout: timeout.map(Duration::from_millis),
            retry,
            ordering: if fifo { Ordering::Fifo } else { Ordering::None },
            body_mode: payload.map(|raw| if raw { BodyMode::Payload } else { BodyMode::Envelope }),
            signature_scheme: payload.map(|raw| if raw { Scheme::Hex } else { Scheme::Sha256 }),
        }
    }
}

proptest! {
    #[test]
    fn any_webhook_reads_back_as_it_was_stored(spec in specs()) {
        let json = serde_json::to_string(&spec).unwrap();
        let back: WebhookSpec = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(serde_json::to_string(&back).unwrap(), json);
        prop_assert_eq!(back, spec);
    }

    #[test]
    fn any_webhook_is_judged_without_telling_its_secrets(mut spec in specs()) {
        spec.secret = Some(Secret::new("\u{1}concealed"));
        spec.headers.insert("x-a".into(), "\u{1}concealed".into());
        let errors = spec.validate(&TargetRules::default());
        let shown = format!("{errors:?} {spec:?}");
        prop_assert!(!shown.contains("concealed"));
    }
}
