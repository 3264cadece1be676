//! The ACL rule of the README: the daemon and the commands do all that they do with it, and nothing is denied.

use pombo::clock::Clock;
use pombo::event::EntryId;
use pombo::store::notices::Notice;
use pombo::store::tokens::{Kept, StoredToken, Whose, digest_of};
use pombo::webhook::{Ordering, RateLimit};
use redis::Value;

use crate::readme;
use crate::support::pombo::{Config, Webhooks};
use crate::support::receiver::{Receiver, Step};
use crate::support::redis::Redis;
use crate::support::wait::until;

const PASSWORD: &str = "segredo";

/// Makes the user that the README says, for the streams of this test.
async fn make_user(redis: &Redis) {
    let rule = readme::block_with("ACL SETUSER")
        .replace('\\', " ")
        .replace("PASSWORD", PASSWORD)
        .replace("~events", "~events ~shop:*:events");
    let mut words = rule.split_whitespace();
    let mut command = redis::cmd(words.next().expect("a command"));
    words.for_each(|word| {
        command.arg(word);
    });
    let _: String = redis.query(&command).await;
}

fn settings(redis: &Redis, elsewhere: &Redis) -> Config {
    Config::new(redis).with(&format!(
        "[redis]\nusername = \"pombo\"\npassword = \"{PASSWORD}\"\n\
         [[sources]]\nstream = \"events\"\ntrim = \"acknowledged\"\n\
         [[sources]]\nstream = \"shop:*:events\"\ndiscover_every = \"1s\"\n\
         [[sources]]\nname = \"elsewhere\"\nstream = \"events\"\nurl = {:?}\n\
         username = \"pombo\"\npassword = \"{PASSWORD}\"\n",
        elsewhere.url()
    ))
}

/// What the API and the command line do with tokens.
async fn tokens(webhooks: &Webhooks) {
    webhooks.tenant_token("acme").await;
    let store = webhooks.store();
    let clock = Clock::system();
    for grace_ms in [Some(60_000), None] {
        let (text, token) = StoredToken::generate(&clock, Some("acme".into()), "new".into(), None);
        let ends_ms = grace_ms.map(|ms| clock.unix_ms() + ms);
        let digest = digest_of(&text);
        let replaced = store.replace_tokens(&digest, &token, ends_ms);
        assert_eq!(replaced.await.expect("an answer"), Kept::Yes);
    }
    let listed = store.list_tokens(Whose::Tenant("acme")).await;
    let listed = listed.expect("an answer");
    assert_eq!(listed.len(), 1);
    let removed = store.remove_token(&listed[0].id, Some("acme")).await;
    assert!(removed.expect("an answer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_acl_rule_of_the_readme_suffices() {
    let (redis, elsewhere) = (Redis::start().await, Redis::start().await);
    make_user(&redis).await;
    make_user(&elsewhere).await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/bad" => Step::status(500),
        "/gone" => Step::status(410),
        _ => Step::status(200),
    })
    .await;
    let config = settings(&redis, &elsewhere);
    let webhooks = config.webhooks().await;
    let plain = webhooks.all("plain", &receiver.url("/plain")).await;
    let url = receiver.url("/bad");
    let bad = webhooks
        .make("bad", &url, &["a.*"], |spec| {
            spec.retry = Some(pombo::webhook::RetryOverride {
                max_attempts: Some(2),
                ..Default::default()
            });
        })
        .await;
    let url = receiver.url("/gone");
    webhooks.make("gone", &url, &["a.*"], |_| {}).await;
    let url = receiver.url("/fifo");
    webhooks
        .make("fifo", &url, &["**"], |spec| spec.ordering = Ordering::Fifo)
        .await;
    let url = receiver.url("/slow");
    webhooks
        .make("slow", &url, &["*"], |spec| {
            spec.rate_limit = Some(RateLimit {
                per_second: 20.0,
                burst: 1,
            });
        })
        .await;
    let url = receiver.url("/paused");
    let paused = webhooks
        .make("paused", &url, &["*"], |spec| spec.active = false)
        .await;

    let pombo = config.start().await;
    redis.events("evt_", "a.b", 20).await;
    let fields = [("type", "a.b"), ("payload", "{}")];
    redis.add("shop:1:events", &fields).await;
    elsewhere.add("events", &fields).await;
    redis.add("events", &[("no", "event")]).await;
    receiver
        .wait_until(|received| {
            ["/plain", "/fifo", "/slow"]
                .iter()
                .all(|path| received.iter().filter(|one| one.path == *path).count() >= 22)
        })
        .await;
    until(
        "the streams of both sources acknowledged",
        async || {
            (
                redis.pending("events").await,
                redis.pending("shop:1:events").await,
            )
        },
        |pending| *pending == (0, 0),
    )
    .await;

    // What the command line does.
    let store = webhooks.store();
    tokens(&webhooks).await;
    let dead = webhooks.wait_for_dead(&bad, 22).await;
    webhooks.replay(&bad, &dead[0]).await;
    let shard = store.shard_of("bad");
    let uids = [bad.uid.clone()];
    store.wake_owner(shard, &uids).await.expect("a wake-up");
    until(
        "a replayed dead letter dead again",
        async || webhooks.dead(&bad).await,
        |found| found.len() == 22 && found.iter().all(|one| one.id != dead[0].id),
    )
    .await;
    assert_eq!(
        store
            .purge(shard, &bad.uid, &[dead[1].id])
            .await
            .expect("an answer"),
        1
    );
    assert_eq!(store.buried(shard).await.expect("an answer"), uids);
    let rejected = store.rejected(EntryId::MIN, 10).await.expect("an answer");
    assert_eq!(rejected.len(), 1);
    store
        .requeue(&rejected[0], store.link())
        .await
        .expect("an answer");
    let notice = Notice {
        kind: "test",
        tenant: None,
        webhook_id: None,
        detail: "a test".into(),
    };
    let now_ms = Clock::system().unix_ms();
    store
        .announce(&notice, now_ms, 100)
        .await
        .expect("an answer");
    until(
        "the webhook that is gone to be disabled",
        async || webhooks.get("gone").await,
        |webhook| {
            webhook
                .as_ref()
                .is_some_and(|webhook| webhook.disabled.is_some())
        },
    )
    .await;
    webhooks.delete(&paused).await;
    webhooks.delete(&plain).await;
    let leftovers = format!("*:queue:{}", paused.uid);
    until(
        "the queue of a deleted webhook removed",
        async || redis.keys(&leftovers).await,
        Vec::is_empty,
    )
    .await;
    until(
        "the stream trimmed",
        async || redis.run::<u64>("XLEN events").await,
        |length| *length <= 1,
    )
    .await;

    // A successor finds everything, whether its predecessor left or was cut off.
    drop(pombo);
    let pombo = config.start().await;
    redis.event("evt_last", "a.b", "{}").await;
    receiver
        .wait_until(|received| {
            received
                .iter()
                .any(|one| one.path == "/fifo" && one.header("x-event-id") == "evt_last")
        })
        .await;
    let page = pombo.metrics().await;
    assert_eq!(page.value("pombo_redis_up", &[]), 1.0);
    pombo.stop().await;

    for redis in [redis, elsewhere] {
        let denied: Vec<Value> = redis.run("ACL LOG").await;
        assert!(denied.is_empty(), "{denied:#?}");
    }
}

#[tokio::test]
async fn the_acl_rule_of_the_readme_gives_no_more_than_that() {
    let redis = Redis::start().await;
    make_user(&redis).await;
    let client = redis::Client::open(redis.url()).expect("a URL");
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .expect("a connection");
    let mut auth = redis::cmd("AUTH");
    auth.arg("pombo").arg(PASSWORD);
    let _: String = auth.query_async(&mut connection).await.expect("a user");
    for words in [
        "FLUSHALL",
        "CONFIG GET *",
        "KEYS *",
        "GET other",
        "XLEN other",
        "SHUTDOWN",
    ] {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().expect("a command"));
        words.for_each(|word| {
            command.arg(word);
        });
        let denied = command.query_async::<Value>(&mut connection).await;
        let code = denied.expect_err("it is denied").code().map(str::to_owned);
        assert_eq!(code.as_deref(), Some("NOPERM"));
    }
}
