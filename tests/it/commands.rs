//! The commands, run as a person or a script runs them.

mod apply;
mod dead;
mod place;
mod sources;
mod token;

use place::Place;

#[test]
fn commands_that_only_look_leave_an_empty_redis_empty() {
    let place = Place::new("[[sources]]\nstream = \"events\"\n");
    let file = place.write(
        "hooks.toml",
        "[[webhooks]]\nid = \"w1\"\nname = \"n\"\nurl = \"https://example.com/\"\nevents = [\"*\"]\n",
    );
    for command in [
        &["dead", "list", "--output", "json"][..],
        &["rejected", "list", "--output", "json"],
        &["dead", "replay", "--all"],
        &["rejected", "requeue", "--all", "--dry-run"],
        &["apply", &file, "--dry-run"],
    ] {
        place.run(command).ok();
    }
    assert_eq!(place.run(&["dead", "list", "--output", "json"]).out, "[]\n");
    assert_eq!(place.redis(&["DBSIZE"]), redis::Value::Int(0));
    // This one is there to change something.
    assert_eq!(place.run(&["enable", "w1"]).code, 1);
}

#[test]
fn without_redis_a_command_says_where_it_looked_and_ends_with_69() {
    let place = Place::new("");
    place.write(
        "pombo.toml",
        "[redis]\nurl = \"redis://user:hunter2@127.0.0.1:1\"\nconnect_timeout = \"100ms\"\n",
    );
    let outcome = place.run(&["dead", "list"]);
    assert_eq!(outcome.code, 69);
    assert_eq!(outcome.out, "");
    assert!(
        outcome
            .errors
            .contains("redis://user:***@127.0.0.1:1 (redis.url)"),
        "{}",
        outcome.errors
    );
    assert!(!outcome.errors.contains("hunter2"), "{}", outcome.errors);
}

#[test]
fn data_that_is_divided_otherwise_is_refused() {
    let place = Place::new("");
    place.redis(&["HSET", "pombo:meta", "schema", "1", "shards", "16"]);
    let outcome = place.run(&["dead", "list"]);
    assert_eq!(outcome.code, 69);
    assert!(
        outcome.errors.contains("set it to 16"),
        "{}",
        outcome.errors
    );
    place.redis(&["HSET", "pombo:meta", "schema", "99", "shards", "64"]);
    let outcome = place.run(&["rejected", "list"]);
    assert_eq!(outcome.code, 69);
    assert!(
        outcome.errors.contains("schema version 99"),
        "{}",
        outcome.errors
    );
}

#[test]
fn what_would_touch_everything_must_be_said() {
    let place = Place::new("");
    for command in [
        &["dead", "replay"][..],
        &["dead", "purge", "--yes"],
        &["rejected", "requeue"],
        &["rejected", "purge"],
        &["dead", "replay", "--all", "--webhook", "w1"],
        &["dead", "purge", "--all"],
        &["dead", "show", "no-delivery-id"],
        &["dead", "list", "--reason", "bored"],
    ] {
        let outcome = place.run(command);
        assert_eq!(outcome.code, 64, "{command:?}: {}", outcome.errors);
    }
}

#[test]
fn every_shell_gets_its_completions_without_any_settings() {
    let place = Place::new("");
    place.write("pombo.toml", "this is wrong\n");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]).ok();
        for command in ["apply", "dead", "rejected", "send", "enable"] {
            assert!(script.contains(command), "{shell} {command}");
        }
    }
}
