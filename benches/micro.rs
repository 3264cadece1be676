//! What the parts of a delivery cost by themselves: reading an event, finding its webhooks among many, making and signing
//! the request, the record of it, and the retry's arithmetic.
//!
//! `cargo bench --bench micro`

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use pombo::clock::Clock;
use pombo::delivery::{AttemptLog, AttemptRecord, delivery_id};
use pombo::dispatch::attempt::Prepared;
use pombo::event::{EntryId, Event, Layout};
use pombo::metrics::Metrics;
use pombo::registry::Registry;
use pombo::settings::{Secret, Settings};
use pombo::signature::{Scheme, SigningKeys};
use pombo::store::Store;
use pombo::webhook::Webhook;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const WEBHOOKS: u64 = 100_000;
const NOW_MS: u64 = 1_700_000_000_000;
const ENTRY: EntryId = EntryId { ms: NOW_MS, seq: 1 };

fn payload() -> Bytes {
    Bytes::from(format!("{{\"fill\":\"{}\"}}", "x".repeat(1_010)))
}

fn event() -> Event {
    Event {
        id: "evt_2ZvQ8r3fXk0aJ5sLw9tBnA".into(),
        event_type: "crm.lead.created".into(),
        tenant: "default".into(),
        time_ms: NOW_MS,
        arrived_ms: NOW_MS,
        stream: "events".into(),
        entry_id: ENTRY,
        content_type: "application/json".into(),
        payload_is_json: true,
        payload: payload(),
        enclosed: None,
    }
}

/// The webhook `number`, of a tenant with a hundred, that wants events of one of a hundred types or, one in ten, of a
/// whole family.
fn webhook(number: u64) -> Webhook {
    let wanted = match number % 10 {
        0 => "crm.*".to_owned(),
        _ => format!("crm.type{}", number % 100),
    };
    let spec = serde_json::json!({
        "id": format!("w{number}"), "name": "w", "tenant": format!("t{}", number / 100),
        "url": "http://127.0.0.1/hook", "events": [wanted],
    });
    Webhook {
        spec: serde_json::from_value(spec).expect("a webhook"),
        uid: format!("u{number}"),
        version: 1,
        secrets: vec![Secret::new(SECRET)],
        rotation_ends_ms: None,
        disabled: None,
        managed_by: None,
        created_ms: 1,
        updated_ms: 1,
    }
}

fn settings() -> Settings {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pombo.toml");
    let text = "[[sources]]\nstream = \"events\"\n[targets]\nallow = [\"127.0.0.0/8\"]\n";
    std::fs::write(&file, text).expect("a settings file");
    Settings::load(None, Some(&file), std::iter::empty()).expect("settings that are valid")
}

fn parts(criterion: &mut Criterion) {
    let settings = settings();
    let body = payload();
    let keys = SigningKeys::new(&[Secret::new(SECRET)]);
    criterion.bench_function("signing of 1 KiB: X-Signature", |bench| {
        bench.iter(|| keys.sign(Scheme::Timestamped, NOW_MS / 1_000, black_box(&body)));
    });
    criterion.bench_function("signing of 1 KiB: Standard Webhooks", |bench| {
        bench.iter(|| keys.sign_standard("evt_1", NOW_MS / 1_000, black_box(&body)));
    });
    let event = event();
    criterion.bench_function("envelope of 1 KiB", |bench| {
        bench.iter(|| black_box(&event).envelope("tenantId"));
    });
    let prepared = Prepared::new(&webhook(1), &settings).expect("a webhook that can be called");
    criterion.bench_function("request of 1 KiB, signed", |bench| {
        bench.iter(|| prepared.request(black_box(&event), "w1", 1, NOW_MS, None));
    });
    let field = |name: &'static str, value: Bytes| (Bytes::from_static(name.as_bytes()), value);
    let fields = vec![
        field("id", Bytes::from_static(b"evt_2ZvQ8r3fXk0aJ5sLw9tBnA")),
        field("type", Bytes::from_static(b"crm.lead.created")),
        field("payload", body.clone()),
    ];
    let layout = Layout::new(&settings.sources[0], 1 << 20);
    let stream: Arc<str> = "events".into();
    criterion.bench_function("event of 1 KiB, read", |bench| {
        bench.iter(|| layout.read(&stream, ENTRY, black_box(&fields)));
    });
    let store = Store::new(&settings, &Clock::simulated(NOW_MS, 1).0, &Metrics::new());
    let store = store.expect("a store");
    let mut log = AttemptLog::default();
    log.push(AttemptRecord {
        number: 1,
        started_ms: NOW_MS,
        status: Some(204),
        total_us: 1_234,
        shape: Some(prepared.shape_at(NOW_MS)),
        ..AttemptRecord::default()
    });
    criterion.bench_function("id of a delivery", |bench| {
        bench.iter(|| delivery_id(black_box("w1"), &stream, ENTRY));
    });
    criterion.bench_function("record of an attempt, made", |bench| {
        bench.iter(|| {
            let mut log = AttemptLog::default();
            log.push(AttemptRecord {
                number: 1,
                started_ms: NOW_MS,
                shape: Some(prepared.shape_at(NOW_MS)),
                ..AttemptRecord::default()
            });
            log
        });
    });
    criterion.bench_function("record of a delivery, written", |bench| {
        bench.iter(|| {
            store.finished(
                0,
                "u1",
                black_box(&event),
                1,
                &log,
                &settings.history,
                false,
            )
        });
    });
    criterion.bench_function("retry, when", |bench| {
        bench.iter(|| settings.retry.next(black_box(5), NOW_MS, None, 0.5, NOW_MS));
    });
}

fn filter(criterion: &mut Criterion) {
    let registry = Registry::new(64);
    registry.load((0..WEBHOOKS).map(webhook), &[]);
    let mut found = Vec::new();
    criterion.bench_function(
        "filter among 100,000 webhooks, 11 of which want the event",
        |bench| {
            bench.iter(|| {
                found.clear();
                registry.matching(black_box("t500"), black_box("crm.type7"), &mut found);
                found.len()
            });
        },
    );
    assert_eq!(found.len(), 11);
}

criterion_group!(benches, parts, filter);
criterion_main!(benches);
