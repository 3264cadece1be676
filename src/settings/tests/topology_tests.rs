use super::*;

const SENTINELS: &str =
    "[redis.sentinel]\nmaster = \"events\"\naddresses = [\"a:26379\", \"[fd00::1]:26379\"]\n";

#[test]
fn each_topology_is_read_with_what_belongs_to_it() {
    let settings = load(&format!(
        "[redis]\nurl = \"rediss://:hunter2@ignored/3\"\ntopology = \"sentinel\"\n{SENTINELS}"
    ));
    assert_eq!(settings.redis.topology, Topology::Sentinel);
    assert_eq!(settings.redis.sentinel.addresses.len(), 2);
    let settings = load(
        "[redis]\nurl = \"redis://a:7000\"\ntopology = \"cluster\"\nnodes = [\"b:7000\"]\ndatabase = 0\nwait_replicas = 1",
    );
    assert_eq!(settings.redis.nodes, ["b:7000"]);
    assert_eq!(settings.redis.wait_replicas, 1);
    assert_eq!(load("").redis.topology, Topology::Single);
}

#[test]
fn what_a_topology_cannot_do_is_refused() {
    for (config, key, reason) in [
        (
            "[redis]\ntopology = \"sentinel\"\nsentinel = { addresses = [\"a:1\"] }".to_owned(),
            "redis.sentinel.master",
            "is missing",
        ),
        (
            "[redis]\ntopology = \"sentinel\"\nsentinel = { master = \"m\" }".to_owned(),
            "redis.sentinel.addresses",
            "nobody to ask",
        ),
        (
            "[redis]\ntopology = \"sentinel\"\nsentinel = { master = \"m\", addresses = [\"a:1\", \"a\"] }".to_owned(),
            "redis.sentinel.addresses[1]",
            "no address of the form host:port",
        ),
        (
            format!("[redis]\ntopology = \"sentinel\"\n{SENTINELS}username = \"u\""),
            "redis.sentinel.username",
            "needs a password",
        ),
        (
            format!("[redis]\nurl = \"unix:///s\"\ntopology = \"sentinel\"\n{SENTINELS}"),
            "redis.url",
            "is a unix socket",
        ),
        (
            "[redis.sentinel]\nmaster = \"m\"".to_owned(),
            "redis.sentinel.master",
            "redis.topology is not \"sentinel\"",
        ),
        (
            "[redis]\ntopology = \"cluster\"\nsentinel = { password = \"hunter2\" }".to_owned(),
            "redis.sentinel.password",
            "redis.topology is not \"sentinel\"",
        ),
        (
            "[redis]\nnodes = [\"a:1\"]".to_owned(),
            "redis.nodes",
            "redis.topology is not \"cluster\"",
        ),
        (
            "[redis]\ntopology = \"cluster\"\nurl = \"unix:///s\"".to_owned(),
            "redis.url",
            "is a unix socket",
        ),
        (
            "[redis]\ntopology = \"cluster\"\nurl = \"redis://a/1\"".to_owned(),
            "redis.url",
            "a database other than 0",
        ),
        (
            "[redis]\ntopology = \"cluster\"\ndatabase = 2".to_owned(),
            "redis.database",
            "a database other than 0",
        ),
        (
            "[redis]\ntopology = \"ring\"".to_owned(),
            "redis.topology",
            "is none of the choices",
        ),
        (
            "[redis]\nwait_replicas = 1\nresponse_timeout = \"1s\"\nwait_timeout = \"1s\"".to_owned(),
            "redis.wait_timeout",
            "is not below redis.response_timeout",
        ),
        (
            "[[sources]]\nstream = \"s\"\nurl = \"redis://b\"\ntopology = \"cluster\"".to_owned(),
            "sources[0].topology",
            "there is no such setting",
        ),
    ] {
        let problem = problem(&config);
        assert_eq!(problem.key, key, "{config}");
        assert!(problem.reason.contains(reason), "{config}: {problem}");
        assert!(!problem.to_string().contains("hunter2"));
    }
}

#[test]
fn the_password_of_the_sentinels_is_never_shown() {
    let settings = load(&format!(
        "[redis]\ntopology = \"sentinel\"\n{SENTINELS}password = \"hunter2\""
    ));
    let shown = settings.to_toml_redacted();
    assert!(
        !shown.contains("hunter2") && shown.contains("<hidden>"),
        "{shown}"
    );
    assert!(!format!("{settings:?}").contains("hunter2"));
}
