//! Which connections are used again, and what a dead one costs.

use super::*;

/// Sends so many requests that each needs a connection of its own: none is answered before all have come.
async fn post_at_once(client: &HttpClient, receiver: &Receiver, count: usize) {
    let (gate, url) = (Gate::new(), receiver.url("/"));
    for _ in 0..count {
        receiver.push(Answer::new(200).after(&gate));
    }
    let posts = futures_util::future::join_all((0..count).map(|_| client.post(post(&url))));
    let (posted, _) = tokio::join!(posts, async {
        receiver.wait_for(count).await;
        gate.open();
    });
    assert!(posted.iter().all(|posted| status(posted) == 200));
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let receiver = Receiver::start().await;
    let client = client();
    for _ in 0..5 {
        receiver.push(Answer::new(200).body("thanks"));
        assert_eq!(status(&client.post(post(&receiver.url("/"))).await), 200);
    }
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_body_within_the_limit_leaves_its_connection_in_use() {
    let receiver = Receiver::start().await;
    let client = client();
    receiver.push(Answer::new(200).body(vec![b'.'; BODY_LIMIT]));
    client.post(post(&receiver.url("/"))).await;
    client.post(post(&receiver.url("/"))).await;
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_body_past_the_limit_costs_its_connection_and_nothing_else() {
    let receiver = Receiver::start().await;
    let client = client();
    receiver.push(Answer::new(200).body(vec![b'.'; 4 * BODY_LIMIT]));
    let posted = client.post(post(&receiver.url("/"))).await;
    assert_eq!(status(&posted), 200);
    receiver.wait_for_closed(1).await;
    assert_eq!(status(&client.post(post(&receiver.url("/"))).await), 200);
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_refused_connection_is_a_connect_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let posted = client().post(post(&format!("http://{address}/"))).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Connect);
    let expected = format!("cannot connect to {address} at {address}: connection refused");
    assert_eq!(detail, expected);
}

#[tokio::test]
async fn a_reset_before_any_answer_on_a_fresh_connection_is_not_sent_again() {
    for step in [Step::Reset, Step::Close] {
        let receiver = Receiver::start().await;
        receiver.push(step);
        let posted = client().post(post(&receiver.url("/"))).await;
        let (kind, detail) = failure(&posted);
        assert_eq!(kind, FailureKind::Connect, "{detail}");
        assert!(detail.starts_with("no answer from 127.0.0.1:"), "{detail}");
        assert!(!posted.resent);
        assert_eq!(receiver.received().len(), 1);
    }
}

#[tokio::test]
async fn a_request_lost_on_a_reused_connection_is_sent_again_once_and_at_once() {
    for step in [Step::Reset, Step::Close] {
        let receiver = Receiver::start().await;
        let client = client();
        assert_eq!(status(&client.post(post(&receiver.url("/"))).await), 200);
        receiver.push(step);
        let posted = client.post(post(&receiver.url("/"))).await;
        assert_eq!(status(&posted), 200);
        assert!(posted.resent);
        let received = receiver.received();
        assert_eq!(received.len(), 3);
        assert_eq!(received[1].before_on_connection, 1);
        assert_eq!(received[2].before_on_connection, 0);
        assert_eq!(received[1].headers, received[2].headers);
        assert_eq!(received[1].body, received[2].body);
    }
}

#[tokio::test]
async fn a_request_that_is_lost_twice_is_a_failure() {
    let receiver = Receiver::start().await;
    let client = client();
    client.post(post(&receiver.url("/"))).await;
    receiver.push(Step::Reset).push(Step::Reset);
    let posted = client.post(post(&receiver.url("/"))).await;
    assert_eq!(failure(&posted).0, FailureKind::Connect);
    assert!(posted.resent);
    assert_eq!(receiver.received().len(), 3);
}

#[tokio::test]
async fn many_dead_idle_connections_cost_each_request_one_sending_at_most() {
    let receiver = Receiver::scripted(|request| match request.before_on_connection {
        0 => Step::status(200),
        _ => Step::Reset,
    })
    .await;
    let client = client();
    post_at_once(&client, &receiver, 8).await;
    let url = receiver.url("/");
    for _ in 0..8 {
        let posted = client.post(post(&url)).await;
        assert_eq!(status(&posted), 200);
        assert!(posted.resent);
    }
}

#[tokio::test]
async fn connections_that_the_receiver_closed_while_idle_are_not_used() {
    let receiver = Receiver::start().await;
    let client = client();
    client.post(post(&receiver.url("/"))).await;
    receiver.close_idle();
    receiver.wait_for_closed(1).await;
    let posted = client.post(post(&receiver.url("/"))).await;
    assert_eq!(status(&posted), 200);
    assert_eq!(receiver.connections(), 2);
    receiver.push(Answer::new(200).then_close());
    assert_eq!(status(&client.post(post(&receiver.url("/"))).await), 200);
    receiver.wait_for_closed(2).await;
    assert_eq!(status(&client.post(post(&receiver.url("/"))).await), 200);
}

#[tokio::test]
async fn a_task_that_has_used_up_its_share_of_work_sees_a_closed_connection_all_the_same() {
    let receiver = Receiver::start().await;
    let client = client();
    client.post(post(&receiver.url("/"))).await;
    receiver.close_idle();
    receiver.wait_for_closed(1).await;
    let mut posting = Box::pin(client.post(post(&receiver.url("/"))));
    let first = std::future::poll_fn(|cx| {
        while tokio::task::coop::has_budget_remaining() {
            let _ = std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx);
        }
        std::task::Poll::Ready(posting.as_mut().poll(cx))
    })
    .await;
    let posted = match first {
        std::task::Poll::Ready(posted) => posted,
        std::task::Poll::Pending => posting.await,
    };
    assert_eq!(status(&posted), 200);
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn connections_past_the_total_are_closed_after_one_request() {
    let receiver = Receiver::start().await;
    let few = DeliverySettings {
        max_in_flight_total: 1,
        ..settings()
    };
    let client = HttpClient::new(loopback_allowed(), &few, None).unwrap();
    post_at_once(&client, &receiver, 3).await;
    let url = receiver.url("/");
    receiver.wait_for_closed(2).await;
    client.post(post(&url)).await;
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn idle_connections_to_one_host_make_room_for_those_to_another() {
    let (crowded, other) = (Receiver::start().await, Receiver::start().await);
    let few = DeliverySettings {
        max_in_flight_total: 4,
        ..settings()
    };
    let client = HttpClient::new(loopback_allowed(), &few, None).unwrap();
    post_at_once(&client, &crowded, 4).await;
    let url = crowded.url("/");
    for _ in 0..3 {
        let posted = client.post(post(&other.url("/"))).await;
        assert_eq!(status(&posted), 200);
    }
    assert_eq!(other.connections(), 1, "its connection was kept");
    crowded.wait_for_closed(1).await;
    for _ in 0..3 {
        client.post(post(&url)).await;
    }
    assert_eq!(crowded.connections(), 4, "the others were kept too");
}

#[tokio::test]
async fn idle_connections_are_closed_in_time_without_any_further_request() {
    let receiver = Receiver::start().await;
    let short = DeliverySettings {
        idle_connection_timeout: Duration::from_secs(1),
        ..settings()
    };
    let client = HttpClient::new(loopback_allowed(), &short, None).unwrap();
    assert_eq!(status(&client.post(post(&receiver.url("/"))).await), 200);
    receiver.wait_for_closed(1).await;
}

#[tokio::test]
async fn the_parts_of_making_a_connection_are_told_by_the_attempt_that_made_it_alone() {
    let ca = TestCa::new();
    let receiver = Receiver::start_tls(&ca).await;
    let client = client_trusting(&ca);
    let url = receiver.url_by_name("localhost", "/");
    let first = client.post(post(&url)).await.phases;
    let parts = [first.dns_us, first.connect_us, first.tls_us];
    let made: u64 = parts.iter().map(|part| part.expect("a part")).sum();
    assert!(made <= first.first_byte_us.expect("an answer"), "{first:?}");
    let second = client.post(post(&url)).await;
    let phases = second.phases;
    assert_eq!([phases.dns_us, phases.connect_us, phases.tls_us], [None; 3]);
    let first_byte = Duration::from_micros(phases.first_byte_us.expect("an answer"));
    assert!(first_byte <= second.duration);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_failure_tells_the_parts_that_there_were() {
    let untrusted = Receiver::start_tls(&TestCa::new()).await;
    let url = untrusted.url_by_name("localhost", "/");
    let posted = client().post(post(&url)).await;
    assert_eq!(failure(&posted).0, FailureKind::Tls);
    let phases = posted.phases;
    assert!(phases.dns_us.is_some() && phases.connect_us.is_some());
    assert_eq!((phases.tls_us, phases.first_byte_us), (None, None));

    let refused = client().post(post("http://127.0.0.1:1/")).await.phases;
    assert!(refused.connect_us.is_some() && refused.dns_us.is_none());
    let nowhere = client().post(post("http://nowhere.invalid/")).await.phases;
    assert!(nowhere.dns_us.is_some() && nowhere.connect_us.is_none());

    let receiver = Receiver::start().await;
    receiver.push(Step::Reset);
    let reset = client().post(post(&receiver.url("/"))).await.phases;
    assert!(reset.connect_us.is_some() && reset.first_byte_us.is_none());
}
