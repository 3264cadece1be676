//! `pombo send` and `pombo rejected`.

use bytes::Bytes;
use pombo::event::{EntryId, Layout};
use pombo::store::Store;
use pombo::store::rejected::Rejecting;

use super::place::Place;

type Pairs<T> = Vec<(T, T)>;

/// The fields of a stream's entries as text, as the server has them.
fn entries(place: &Place, stream: &str) -> Vec<(String, Pairs<String>)> {
    let raw: Vec<(String, Pairs<Vec<u8>>)> =
        redis::from_redis_value(place.redis(&["XRANGE", stream, "-", "+"])).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    raw.into_iter()
        .map(|(id, fields)| {
            let fields = fields.into_iter();
            let fields = fields.map(|(name, value)| (text(name), text(value)));
            (id, fields.collect())
        })
        .collect()
}

#[test]
fn an_event_is_sent_in_the_layout_of_its_source_and_its_entry_is_printed() {
    let place = Place::new(
        r#"
[[sources]]
stream = "plain"
fields = { type = "kind", payload = "body" }
[[sources]]
name = "enveloped"
stream = "json:*"
format = "json"
pointers = { type = "/meta/type", tenant = "/meta/tenant", payload = "/data" }
"#,
    );
    let sent = place.run(&[
        "send",
        "a.b",
        r#"{"n": 1.50}"#,
        "--source",
        "plain",
        "--tenant",
        "acme",
    ]);
    let id = sent.ok();
    let found = entries(&place, "plain");
    assert_eq!(format!("{}\n", found[0].0), id);
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        found[0].1,
        [
            field("kind", "a.b"),
            field("tenant", "acme"),
            field("body", r#"{"n": 1.50}"#)
        ]
    );

    let command = [
        "send",
        "a.b",
        "-",
        "--source",
        "enveloped",
        "--stream",
        "json:7",
        "--id",
        "e1",
    ];
    place.run_with(&command, b"[1,  2]\n").ok();
    let (_, fields) = entries(&place, "json:7").remove(0);
    let settings = place.settings();
    let fields: Vec<(Bytes, Bytes)> = fields
        .into_iter()
        .map(|(name, value)| (Bytes::from(name), Bytes::from(value)))
        .collect();
    let event = Layout::new(&settings.sources[1], 1 << 20)
        .read(&"json:7".into(), EntryId { ms: 1, seq: 0 }, &fields)
        .unwrap();
    assert_eq!(
        (event.event_type.as_str(), event.id.as_str()),
        ("a.b", "e1")
    );
    assert_eq!(&event.payload[..], b"[1,  2]");
}

#[test]
fn what_would_be_rejected_is_not_sent() {
    let place = Place::new(
        "[[sources]]\nstream = \"events\"\nconstants = { tenant = \"acme\" }\n[[sources]]\nstream = \"more:*\"\n",
    );
    for (command, code, words) in [
        (
            &["send", "a.b", "{oops", "--source", "events"][..],
            65,
            "not valid JSON",
        ),
        (
            &["send", "a b", "{}", "--source", "events"],
            65,
            "event type",
        ),
        (
            &["send", "a.b", "--tenant", "globex", "--source", "events"],
            65,
            "the tenant \"acme\" and not \"globex\"",
        ),
        (&["send", "a.b"], 64, "events, more:*"),
        (
            &["send", "a.b", "--source", "other"],
            64,
            "no source named \"other\"",
        ),
        (&["send", "a.b", "--source", "more:*"], 64, "--stream"),
        (
            &["send", "a.b", "--source", "more:*", "--stream", "less:1"],
            64,
            "does not read the stream",
        ),
    ] {
        let outcome = place.run(command);
        assert_eq!(outcome.code, code, "{command:?}: {}", outcome.errors);
        assert!(
            outcome.errors.contains(words),
            "{command:?}: {}",
            outcome.errors
        );
    }
    assert_eq!(place.redis(&["DBSIZE"]), redis::Value::Int(0));
    assert_eq!(Place::new("").run(&["send", "a.b"]).code, 78);
}

async fn reject(
    store: &Store,
    source: &str,
    number: u64,
    reason: &'static str,
    payload: &'static str,
) {
    let rejecting = Rejecting {
        source: source.to_owned(),
        stream: format!("{source}-stream"),
        entry_id: EntryId { ms: number, seq: 0 },
        reason,
        detail: "not what it should be\u{1b}[2J".to_owned(),
        fields: vec![
            (Bytes::from("type"), Bytes::from("a.b")),
            (Bytes::from("payload"), Bytes::from(payload)),
            (Bytes::from("raw\u{7}"), Bytes::from_static(b"\xff\x00")),
        ],
    };
    let generation = store.link().generation();
    store.reject(&[rejecting], 1_000, generation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_entries_are_listed_shown_and_given_back_to_their_own_redis() {
    let place = Place::new("");
    let other = format!("{}?db=1", place.url());
    let settings = format!(
        "[redis]\nurl = \"{}\"\n[[sources]]\nname = \"own\"\nstream = \"own-stream\"\n\
         [[sources]]\nname = \"far\"\nstream = \"far-stream\"\nurl = \"{other}\"\n",
        place.url()
    );
    place.write("pombo.toml", &settings);
    let (store, _stop) = place.store().await;
    reject(&store, "own", 1, "bad_tenant", "{}").await;
    reject(&store, "far", 2, "bad_json", "{oops").await;
    reject(&store, "lost", 3, "bad_json", "{}").await;

    let listed = place.run(&["rejected", "list", "--output", "json"]).json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(
        (&listed[1]["source"], &listed[1]["entry_id"]),
        (&"far".into(), &"2-0".into())
    );
    assert_eq!(listed[1]["reason"], "bad_json");
    let id = listed[1]["id"].as_str().unwrap();
    let shown = place.run(&["rejected", "show", id]).ok();
    assert!(
        shown.contains("{oops") && shown.contains("be\\u{1b}[2J") && shown.contains("raw\\u{7}"),
        "{shown}"
    );
    let whole = place
        .run(&["rejected", "show", id, "--output", "json"])
        .json();
    assert_eq!(whole["fields"]["payload"], "{oops");
    assert_eq!(whole["fields"]["raw\u{7}"]["base64"], "/wA=");
    let table = place
        .run(&["rejected", "list", "--reason", "bad_tenant"])
        .ok();
    assert_eq!(table.lines().count(), 2);
    assert_eq!(place.run(&["rejected", "show", "5-5"]).code, 1);

    let dry = place.run(&["rejected", "requeue", "--source", "far", "--dry-run"]);
    assert!(
        dry.errors
            .contains("would be rejected again: bad_json (far)"),
        "{}",
        dry.errors
    );
    assert_eq!(dry.ok(), "1 rejected entry would be requeued\n");

    let outcome = place.run(&["rejected", "requeue", "--all"]);
    assert_eq!(
        (outcome.code, outcome.out.as_str()),
        (1, "2 rejected entries requeued\n")
    );
    assert!(
        outcome.errors.contains("no source named \"lost\""),
        "{}",
        outcome.errors
    );
    assert_eq!(
        entries(&place, "own-stream")[0].1[0],
        ("type".to_owned(), "a.b".to_owned())
    );
    assert_eq!(place.redis(&["EXISTS", "far-stream"]), redis::Value::Int(0));
    let client = redis::Client::open(other).unwrap();
    let length: u64 = redis::cmd("XLEN")
        .arg("far-stream")
        .query(&mut client.get_connection().unwrap())
        .unwrap();
    assert_eq!(length, 1);

    let purged = place.run(&["rejected", "purge", "--all", "--yes"]).ok();
    assert_eq!(purged, "1 rejected entry purged\n");
    let left = place.run(&["rejected", "list", "--output", "json"]);
    assert_eq!(left.ok(), "[]\n");
}
