//! Names and addresses: what is looked up, and what is never connected to.

use std::net::IpAddr;

use super::*;

#[tokio::test]
async fn a_forbidden_address_is_not_connected_to_by_literal_nor_by_name() {
    let receiver = Receiver::start().await;
    let client = HttpClient::new(rules(&[]), &settings(), None).unwrap();
    for url in [receiver.url("/"), receiver.url_by_name("localhost", "/")] {
        let posted = client.post(post(&url)).await;
        let (kind, detail) = failure(&posted);
        assert_eq!(kind, FailureKind::Forbidden, "{detail}");
        assert!(detail.contains("loopback"), "{detail}");
    }
    let posted = client.post(post("http://[::1]:9/")).await;
    assert_eq!(failure(&posted).0, FailureKind::Forbidden);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_of_the_hosts_file_is_found() {
    let receiver = Receiver::start().await;
    let url = receiver.url_by_name("localhost", "/");
    assert_eq!(status(&client().post(post(&url)).await), 200);
    let host = format!("localhost:{}", receiver.address().port());
    assert_eq!(receiver.received()[0].header("host"), host);
}

#[tokio::test]
async fn a_name_that_turns_to_a_forbidden_address_is_not_followed_there() {
    let receiver = Receiver::start().await;
    // First an allowed loopback address, then, as an attacker would, a forbidden one.
    let dns = DnsServer::start(|_, before| {
        let address = if before == 0 {
            [127, 0, 0, 1]
        } else {
            [127, 9, 9, 9]
        };
        DnsAnswer::Addresses(vec![IpAddr::from(address)])
    })
    .await;
    let client = client_asking(&dns, rules(&["127.0.0.0/16"]));
    let url = receiver.url_by_name("rebinding.example", "/");
    receiver.push(Answer::new(200).then_close());
    assert_eq!(status(&client.post(post(&url)).await), 200);
    receiver.wait_for_closed(1).await;
    let posted = client.post(post(&url)).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Forbidden, "{detail}");
    assert!(
        detail.contains("127.9.9.9") && detail.contains("loopback"),
        "{detail}"
    );
    assert_eq!(dns.questions(), 2);
}

#[tokio::test]
async fn of_a_names_addresses_the_forbidden_are_passed_over_and_the_dead_do_not_count() {
    let receiver = Receiver::start().await;
    let dns = DnsServer::start(|_, _| {
        let addresses = [[10, 0, 0, 1], [127, 0, 0, 7], [127, 0, 0, 1]];
        DnsAnswer::Addresses(addresses.map(IpAddr::from).to_vec())
    })
    .await;
    // Nobody listens on 127.0.0.7: the receiver is bound to 127.0.0.1.
    let client = client_asking(&dns, loopback_allowed());
    let url = receiver.url_by_name("several.example", "/");
    assert_eq!(status(&client.post(post(&url)).await), 200);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_dns_failure() {
    let dns = DnsServer::start(|_, _| DnsAnswer::NoSuchName).await;
    let client = client_asking(&dns, loopback_allowed());
    let posted = client.post(post("http://gone.example/a?secret=b")).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Dns);
    assert_eq!(detail, "cannot look up gone.example: there is no such name");
}

#[tokio::test]
async fn a_name_without_addresses_is_a_dns_failure() {
    let dns = DnsServer::start(|_, _| DnsAnswer::Addresses(Vec::new())).await;
    let client = client_asking(&dns, loopback_allowed());
    let posted = client.post(post("http://empty.example/")).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Dns);
    assert!(detail.ends_with("the name has no addresses"), "{detail}");
}

#[tokio::test]
async fn a_silent_name_server_costs_the_connect_timeout_and_no_more() {
    let dns = DnsServer::start(|_, _| DnsAnswer::Silence).await;
    let hasty = DeliverySettings {
        connect_timeout: SHORT,
        ..settings()
    };
    let resolver = Resolver::with_name_server(dns.address()).unwrap();
    let client = HttpClient::with_resolver(loopback_allowed(), &hasty, None, resolver).unwrap();
    let posted = client.post(post("http://silent.example/")).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Dns);
    assert!(detail.ends_with("did not answer within 800ms"), "{detail}");
}

#[tokio::test]
async fn the_resolver_of_this_system_knows_no_invalid_names() {
    let posted = client().post(post("http://pombo-test.invalid/")).await;
    assert_eq!(failure(&posted).0, FailureKind::Dns);
}

#[tokio::test]
async fn an_ipv6_address_is_tried() {
    let Ok(listener) = TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0)).await else {
        return; // No IPv6 on this host.
    };
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let posted = client().post(post(&format!("http://[::1]:{port}/"))).await;
    let (kind, detail) = failure(&posted);
    assert_eq!(kind, FailureKind::Connect, "{detail}");
    assert!(detail.contains(&format!("[::1]:{port}")), "{detail}");
}
