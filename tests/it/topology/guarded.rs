//! Servers that want a password, and to be spoken to by TLS, with an authority of their own.

use super::receiver;
use crate::faults::ledger::{Ledger, config, subscribe};
use crate::support::cluster::Cluster;
use crate::support::pombo::Config;
use crate::support::redis::{Login, Options, Redis};
use crate::support::sentinel::Sentinels;
use crate::support::tls::TestCa;

const PASSWORD: &str = "segredo-dos-servidores";
const EACH: usize = 50;
const WEBHOOKS: [&str; 2] = ["a", "b"];
/// Stores wait for replicas, over connections of their own.
const WAITS: &str = "[redis]\nwait_replicas = 1";

fn options(ca: &TestCa, username: Option<&'static str>) -> Options {
    Options {
        tcp: true,
        login: Some(Login {
            username,
            password: PASSWORD,
        }),
        tls: Some(ca.files(&["127.0.0.1"])),
        ..Options::default()
    }
}

/// The servers ask nobody for a certificate.
fn without_client_certificates(mut options: Options) -> Options {
    let words = ["--tls-auth-clients", "no"].map(str::to_owned);
    options.arguments.extend(words);
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_servers_with_tls_client_certificates_and_users_of_their_own_fail_over() {
    let ca = TestCa::new();
    let redis = Sentinels::start_with(options(&ca, Some("pombo"))).await;
    let own = ca.files(&["pombo"]);
    let config = config("redis://ignored")
        .with(&redis.settings())
        .with(&format!(
            "[redis]\nclient_certificate_file = {:?}\nclient_key_file = {:?}",
            own.certificate, own.key
        ))
        .with(WAITS);
    let ledger = Ledger::default();
    let receiver = receiver(&ledger).await;
    subscribe(&config.webhooks().await, &receiver, &WEBHOOKS).await;
    let pombo = config.start().await;
    let first = redis.in_step().await;
    redis.servers[first].events("e", "many", EACH).await;
    ledger.complete(&WEBHOOKS, "e", EACH).await;

    // The old master is not waited for: sentinels let it be one for another ten seconds.
    let second = redis.fail_over().await;
    redis.servers[second]
        .events_from("e", EACH, "many", EACH)
        .await;
    ledger.complete(&WEBHOOKS, "e", 2 * EACH).await;
    redis.servers[second].settled("events").await;
    assert!(pombo.metric("pombo_redis_generations_total", &[]).await >= 1.0);
    assert_eq!(pombo.metric("pombo_events_lost_total", &[]).await, 0.0);
    pombo.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_tls_and_a_password_delivers_after_a_failover_and_slots_that_moved() {
    let ca = TestCa::new();
    let options = without_client_certificates(options(&ca, None));
    let cluster = Cluster::start_with(options).await;
    let config = config("redis://ignored")
        .with(&cluster.settings())
        .with(WAITS);
    let ledger = Ledger::default();
    let receiver = receiver(&ledger).await;
    subscribe(&config.webhooks().await, &receiver, &WEBHOOKS).await;
    let pombo = config.start().await;
    cluster.events_from("e", 0, "many", EACH).await;
    ledger.complete(&WEBHOOKS, "e", EACH).await;

    let failed = cluster.master_of_key("events").await;
    cluster.fail_over_to(cluster.replica_of(failed)).await;
    cluster.events_from("e", EACH, "many", EACH).await;
    ledger.complete(&WEBHOOKS, "e", 2 * EACH).await;
    let generations = pombo.metric("pombo_redis_generations_total", &[]).await;
    assert!(generations >= 1.0, "{generations}");

    // Redirections lead to the ports for TLS.
    for key in ["events", "pombo:{cfg}:changes", "pombo:{s00}:owner"] {
        let slot = cluster.slot(key).await;
        let from = cluster.master_of(slot).await;
        let mut others = (0..3).filter(|master| ![from, failed].contains(master));
        cluster.reshard(slot, others.next().expect("one")).await;
    }
    cluster.events_from("e", 2 * EACH, "many", EACH).await;
    ledger.complete(&WEBHOOKS, "e", 3 * EACH).await;
    cluster.settled("events").await;
    assert_eq!(pombo.metric("pombo_events_lost_total", &[]).await, 0.0);
    pombo.stop().await;
}

/// Starts a daemon that cannot connect, and returns what /readyz says of why. Neither there nor in the log is `secret`.
async fn trouble(config: Config, words: &str, secret: &str) -> String {
    let pombo = config.spawn_unready().await;
    let page = pombo
        .wait_for_readyz(|page| page.status == 503 && page.body.contains(words))
        .await;
    pombo.log().wait_for(words).await;
    let log = pombo.kill().await.lines().join("\n");
    for text in [&page.body, &log] {
        assert!(!text.contains(secret), "{text}");
    }
    page.body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_login_or_a_certificate_is_told_without_the_password() {
    const WRONG: &str = "senha-errada";
    let (ca, other) = (TestCa::new(), TestCa::new());
    let options = without_client_certificates(options(&ca, None));
    let redis = Redis::start_with(options).await;
    let address = format!("127.0.0.1:{}", redis.port());
    let stranger = || {
        let ca = ca.file();
        config(&format!("rediss://{address}")).with(&format!("[redis]\nca_file = {ca:?}"))
    };
    let single = || stranger().with(&format!("[redis]\npassword = {PASSWORD:?}"));
    let cluster = || single().with("[redis]\ntopology = \"cluster\"");
    let sentinel = || {
        single().with(&format!(
            "[redis]\ntopology = \"sentinel\"\n\
             [redis.sentinel]\nmaster = \"any\"\naddresses = [{address:?}]"
        ))
    };

    single().start().await.stop().await;
    let wrong = format!("[redis]\npassword = {WRONG:?}");
    let refused = "Password authentication failed";
    trouble(stranger(), "NOAUTH", PASSWORD).await;
    trouble(single().with(&wrong), refused, WRONG).await;
    let told = trouble(cluster().with(&wrong), refused, WRONG).await;
    assert!(told.contains(&address), "{told}");
    let wrong = format!("[redis.sentinel]\npassword = {WRONG:?}");
    let told = trouble(sentinel().with(&wrong), refused, WRONG).await;
    assert!(told.contains(&address), "{told}");

    let untrusted = format!("[redis]\nca_file = {:?}", other.file());
    for config in [single(), cluster(), sentinel()] {
        let config = config.with(&untrusted);
        trouble(config, "invalid peer certificate", PASSWORD).await;
    }
}
