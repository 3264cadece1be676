//! A delivery as its receiver sees it.

use crate::support::pombo::Config;
use crate::support::receiver::Receiver;
use crate::support::redis::Redis;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_reaches_its_receiver_and_is_acknowledged() {
    let (redis, receiver) = (Redis::start().await, Receiver::start().await);
    let config = Config::new(&redis);
    config.webhooks().await.all("w", &receiver.url("/")).await;
    let pombo = config.start().await;
    redis.event("evt_1", "crm.lead.created", r#"{"a":1}"#).await;
    receiver.wait_for(1).await;
    redis.settled("events").await;
    pombo.stop().await;
}

#[tokio::test]
async fn the_program_delivers_and_ends_with_exit_code_0() {
    let (redis, receiver) = (Redis::start().await, Receiver::start().await);
    let config = Config::new(&redis);
    config.webhooks().await.all("w", &receiver.url("/")).await;
    let pombo = config.spawn().await;
    redis.event("evt_1", "crm.lead.created", r#"{"a":1}"#).await;
    receiver.wait_for(1).await;
    redis.settled("events").await;
    assert_eq!(pombo.stop().await, Some(0));
}
