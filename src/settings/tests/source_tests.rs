use super::*;

fn source(keys: &str) -> SourceSettings {
    load(&format!("[[sources]]\nstream = \"events\"\n{keys}")).sources[0].clone()
}

fn source_problem(keys: &str) -> Problem {
    problem(&format!("[[sources]]\nstream = \"events\"\n{keys}"))
}

#[test]
fn a_stream_is_all_that_a_source_needs() {
    assert_eq!(source(""), SourceSettings::new("events"));
    let problem = problem("[[sources]]\nformat = \"json\"\n");
    assert_eq!(problem.key, "sources[0].stream");
    assert!(problem.reason.starts_with("is missing"));
    assert!(
        problem.origin.ends_with("pombo.toml:1"),
        "{}",
        problem.origin
    );
}

#[test]
fn the_example_of_the_manual_is_read() {
    let read = source(
        "format = \"fields\"\n\
         fields = { type = \"type\", tenant = \"tenant\", payload = \"payload\", id = \"id\", time = \"time\" }\n\
         defaults = { tenant = \"default\" }\nstart = \"0\"\ntrim = \"none\"\n",
    );
    assert_eq!(read, SourceSettings::new("events"));
}

#[test]
fn names_that_are_not_given_keep_their_defaults_and_empty_ones_are_none() {
    let fields = source("fields = { type = \"event\", time = \"\" }\n").fields;
    assert_eq!(fields.event_type.as_deref(), Some("event"));
    assert_eq!(fields.payload.as_deref(), Some("payload"));
    assert_eq!((fields.time, fields.content_type), (None, None));

    let pointers = source("format = \"json\"\npointers = { payload = \"\", id = \"\" }\n").pointers;
    assert_eq!(pointers.payload.as_deref(), Some(""));
    assert_eq!(pointers.id, None);
    assert_eq!(pointers.event_type.as_deref(), Some("/type"));
}

#[test]
fn a_constant_takes_the_place_of_name_pointer_and_default() {
    let read = source("constants = { type = \"order.paid\", tenant = \"acme\" }\n");
    assert_eq!(read.constants["tenant"], "acme");
    assert_eq!((read.fields.event_type, read.fields.tenant), (None, None));
    assert!(read.defaults.is_empty());
}

#[test]
fn the_default_tenant_can_be_changed_and_taken_away() {
    let defaults = |keys: &str| source(keys).defaults;
    assert_eq!(defaults("")["tenant"], "default");
    assert_eq!(
        defaults("defaults = { tenant = \"main\" }\n")["tenant"],
        "main"
    );
    assert_eq!(defaults("defaults = { type = \"t\" }\n").len(), 2);
    assert!(defaults("defaults = { tenant = \"\" }\n").is_empty());
}

#[test]
fn layouts_that_contradict_themselves_are_refused() {
    for (keys, key, reason) in [
        (
            "pointers = { type = \"/t\" }\n",
            "sources[0].pointers",
            "means nothing for the format fields",
        ),
        (
            "format = \"json\"\nfields = { type = \"t\" }\n",
            "sources[0].fields",
            "means nothing for the format json",
        ),
        (
            "field = \"body\"\n",
            "sources[0].field",
            "means nothing for the format fields",
        ),
        (
            "format = \"json\"\ntenant_attribute = \"t\"\n",
            "sources[0].tenant_attribute",
            "means nothing for the format json",
        ),
        (
            "constants = { type = \"a\" }\nfields = { type = \"t\" }\n",
            "sources[0].constants.type",
            "sources[0].fields.type would never be used",
        ),
        (
            "constants = { tenant = \"a\" }\ndefaults = { tenant = \"t\" }\n",
            "sources[0].constants.tenant",
            "sources[0].defaults.tenant would never be used",
        ),
        (
            "fields = { type = \"\" }\n",
            "sources[0].fields.type",
            "all would be rejected",
        ),
        (
            "fields = { payload = \"\" }\n",
            "sources[0].fields.payload",
            "nothing without a payload",
        ),
        (
            "constants = { id = \"1\" }\n",
            "sources[0].constants.id",
            "receivers drop events whose id they have seen",
        ),
        (
            "defaults = { payload = \"1\" }\n",
            "sources[0].defaults.payload",
            "is what every event must bring itself",
        ),
        (
            "constants = { tenant = \"a b\" }\n",
            "sources[0].constants.tenant",
            "not visible ASCII",
        ),
        (
            "constants = { colour = \"red\" }\n",
            "sources[0].constants.colour",
            "there is no such setting",
        ),
        (
            "format = \"json\"\npointers = { type = \"t\" }\n",
            "sources[0].pointers.type",
            "does not begin with a slash",
        ),
        (
            "format = \"json\"\npointers = { type = \"/a~2\" }\n",
            "sources[0].pointers.type",
            "has a ~ that is not part of",
        ),
        (
            "content_type = \"json\"\n",
            "sources[0].content_type",
            "is no content type",
        ),
        (
            "start = 0\n",
            "sources[0].start",
            "is an integer, which is of the wrong type",
        ),
        (
            "username = \"u\"\n",
            "sources[0].username",
            "the source is read from that of [redis]",
        ),
        (
            "url = \"redis://h\"\nca_file = \"/\"\n",
            "sources[0].ca_file",
            "the connection would not be encrypted",
        ),
    ] {
        let problem = source_problem(keys);
        assert_eq!(problem.key, key, "{problem}");
        assert!(problem.reason.contains(reason), "{problem}");
    }
}

#[test]
fn a_cloudevents_source_needs_no_place_for_the_type() {
    let read =
        source("format = \"cloudevents\"\nfield = \"event\"\ntenant_attribute = \"officeid\"\n");
    assert_eq!(read.format, Format::CloudEvents);
    assert_eq!(read.tenant_attribute, "officeid");
}

#[test]
fn sources_must_not_be_in_each_others_way() {
    let same_stream =
        problem("[[sources]]\nstream = \"a\"\n[[sources]]\nname = \"b\"\nstream = \"a\"\n");
    assert_eq!(same_stream.key, "sources[1].stream");
    let same_redis = problem(
        "[[sources]]\nstream = \"a\"\n[[sources]]\nname = \"b\"\nstream = \"a\"\nurl = \"redis://127.0.0.1:6379\"\n",
    );
    assert_eq!(same_redis.key, "sources[1].stream");
    let same_name = problem(
        "[[sources]]\nstream = \"a\"\n[[sources]]\nstream = \"a\"\nurl = \"redis://other\"\n",
    );
    assert_eq!(same_name.key, "sources[1].name");
    assert!(same_name.reason.contains("is \"a\", as that of sources[0]"));
    load(
        "[[sources]]\nstream = \"a\"\n[[sources]]\nname = \"b\"\nstream = \"a\"\nurl = \"redis://other\"\n",
    );
}

#[test]
fn a_stream_of_pombos_own_is_no_source() {
    let problem = problem("[[sources]]\nstream = \"pombo:{cfg}:changes\"\n");
    assert!(problem.reason.contains("its state would be read as events"));
    load("[[sources]]\nstream = \"pombo:events\"\n");
}

#[test]
fn a_stream_that_is_no_name_needs_one() {
    let problem = problem("[[sources]]\nstream = \"my events\"\n");
    assert_eq!(problem.key, "sources[0].name");
    let settings = load("[[sources]]\nstream = \"my events\"\nname = \"mine\"\n");
    assert_eq!(settings.sources[0].name, "mine");
}

#[test]
fn globs_are_told_from_streams() {
    for (stream, glob) in [
        ("events", false),
        ("events:*", true),
        ("e?", true),
        ("e[12]", true),
    ] {
        assert_eq!(SourceSettings::new(stream).is_glob(), glob, "{stream}");
    }
}
