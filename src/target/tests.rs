use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn refused(rules: &TargetRules, address: &str) -> Option<&'static str> {
    rules
        .check_address(address.parse().unwrap())
        .err()
        .map(|refusal| refusal.rule)
}

fn allowing(networks: &[&str]) -> TargetRules {
    let networks = networks.iter().map(|n| n.parse().unwrap()).collect();
    TargetRules::new(networks, false)
}

#[test]
fn addresses_that_are_not_public_are_refused_by_a_rule_in_plain_words() {
    let rules = TargetRules::default();
    for (address, word) in [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "this network"),
        ("10.1.2.3", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("100.127.255.255", "carrier-grade NAT"),
        ("100.100.100.200", "metadata"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("168.63.129.16", "metadata"),
        ("169.254.1.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.8", "IETF"),
        ("192.0.0.192", "metadata"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "reserved"),
        ("192.168.0.1", "private"),
        ("198.18.0.1", "benchmarking"),
        ("198.19.255.255", "benchmarking"),
        ("198.51.100.1", "documentation"),
        ("203.0.113.1", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", "site-local"),
        ("fc00::1", "unique-local"),
        ("fd12:3456::1", "unique-local"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("ff02::1", "multicast"),
        ("100::1", "black hole"),
        ("2001:2::1", "benchmarking"),
        ("2001:10::1", "identifiers"),
        ("2001:20::1", "identifiers"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("4000::1", "outside 2000::/3"),
        ("5f00::1", "outside 2000::/3"),
    ] {
        let rule = refused(&rules, address);
        assert!(
            rule.is_some_and(|rule| rule.contains(word)),
            "{address}: {rule:?}"
        );
    }
}

#[test]
fn public_addresses_pass() {
    let rules = TargetRules::default();
    for address in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::8.8.8.8",
        "2002:808:808::1",
        "2001:0:808:808::f7f7:f7f7",
    ] {
        assert_eq!(refused(&rules, address), None, "{address}");
    }
}

/// Every IPv6 form of an IPv4 address.
fn forms(inner: Ipv4Addr) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = inner.octets().map(u16::from);
    let (high, low) = ((a << 8) | b, (c << 8) | d);
    vec![
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
    ]
}

#[test]
fn ipv6_forms_are_judged_by_the_address_that_they_hold() {
    let rules = TargetRules::default();
    for inner in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1"] {
        let inner: Ipv4Addr = inner.parse().unwrap();
        let rule = rules.check_address(inner.into()).unwrap_err().rule;
        for form in forms(inner) {
            let refusal = rules.check_address(form.into()).unwrap_err();
            assert_eq!(refusal.rule, rule, "{form}");
            assert!(
                refusal.to_string().contains(&inner.to_string()),
                "{refusal}"
            );
        }
    }
}

#[test]
fn a_tunnel_by_way_of_a_private_server_is_refused() {
    let rules = TargetRules::default();
    let rule = refused(&rules, "2001:0:a00:1::f7f7:f7f7");
    assert!(
        rule.is_some_and(|rule| rule.contains("private")),
        "{rule:?}"
    );
}

#[test]
fn a_local_translation_of_unknown_layout_is_refused_as_a_whole() {
    let rules = TargetRules::default();
    let rule = refused(&rules, "64:ff9b:1:a00:0:100:808:808");
    assert!(rule.is_some_and(|rule| rule.contains("NAT64")), "{rule:?}");
}

#[test]
fn an_allowed_network_covers_its_ipv6_forms_and_nothing_else() {
    let rules = allowing(&["127.0.0.0/8", "fd00::/8"]);
    for form in forms(Ipv4Addr::LOCALHOST) {
        assert_eq!(rules.check_address(form.into()), Ok(()), "{form}");
    }
    assert_eq!(refused(&rules, "127.0.0.1"), None);
    assert_eq!(refused(&rules, "fd00:ec2::254"), None);
    assert!(refused(&rules, "::1").is_some());
    assert!(refused(&rules, "10.0.0.1").is_some());
    assert!(refused(&rules, "::ffff:10.0.0.1").is_some());
}

#[test]
fn a_refusal_says_what_and_why() {
    let refusal = TargetRules::default()
        .check_address("10.0.0.1".parse().unwrap())
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "10.0.0.1 is a private address (10.0.0.0/8)"
    );
    let refusal = TargetRules::default()
        .check_address("::ffff:127.0.0.1".parse().unwrap())
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "::ffff:127.0.0.1 is a loopback address (127.0.0.0/8), as an IPv6 form of 127.0.0.1"
    );
}

#[test]
fn urls_that_may_be_called_pass_without_their_fragment() {
    let rules = TargetRules::default();
    for (text, url) in [
        ("https://example.com/hook", "https://example.com/hook"),
        ("HTTP://Example.com", "http://example.com/"),
        (
            "http://example.com:8080/a?b=c#d",
            "http://example.com:8080/a?b=c",
        ),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700::1]/", "https://[2606:4700::1]/"),
        ("http://localhost/", "http://localhost/"),
    ] {
        assert_eq!(rules.check_url(text).unwrap().as_str(), url);
    }
}

#[test]
fn urls_that_may_not_be_called_are_refused_by_their_rule() {
    let rules = TargetRules::default();
    let long = format!("https://example.com/{}", "a".repeat(2048));
    for (text, error) in [
        (long.as_str(), TargetError::TooLong),
        ("https://exa\nmple.com", TargetError::Whitespace),
        (" https://example.com", TargetError::Whitespace),
        ("ftp://example.com", TargetError::Scheme),
        ("file:///etc/passwd", TargetError::Scheme),
        ("mailto:a@b.c", TargetError::Scheme),
        ("https://user@example.com", TargetError::Credentials),
        ("https://:hidden@example.com", TargetError::Credentials),
        ("https://", TargetError::NoHost),
        ("https://example.com:0/", TargetError::PortZero),
    ] {
        assert_eq!(rules.check_url(text), Err(error), "{text}");
    }
    for text in [
        "",
        "example.com/hook",
        "//example.com",
        "https://[::1",
        "http://a:99999/",
    ] {
        let error = rules.check_url(text).unwrap_err();
        assert!(matches!(error, TargetError::NotAUrl(_)), "{text}: {error}");
    }
}

#[test]
fn every_spelling_of_an_address_in_a_url_is_judged() {
    let rules = TargetRules::default();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "0",
        "[::1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
    ] {
        let result = rules.check_url(&format!("http://{host}:81/"));
        assert!(
            matches!(result, Err(TargetError::Address(_))),
            "{host}: {result:?}"
        );
    }
    assert!(
        allowing(&["127.0.0.0/8"])
            .check_url("http://0x7f.1/")
            .is_ok()
    );
}

#[test]
fn plain_http_is_refused_where_only_https_is_allowed() {
    let rules = TargetRules::new(Vec::new(), true);
    assert_eq!(
        rules.check_url("http://example.com"),
        Err(TargetError::HttpsOnly)
    );
    assert!(rules.check_url("https://example.com").is_ok());
}

#[test]
fn no_message_and_no_shown_url_holds_what_may_be_secret() {
    let rules = TargetRules::default();
    for text in [
        "https://user:hidden@example.com/hidden",
        "ftp://example.com/hidden",
        "https://10.0.0.1/hidden?token=hidden",
        "hidden",
    ] {
        let error = rules.check_url(text).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("hidden"),
            "{error:?}"
        );
        assert!(!shown_url(text).contains("hidden"));
    }
    assert_eq!(
        shown_url("https://example.com:8443/a?b"),
        "https://example.com:8443/…"
    );
}

proptest! {
    #[test]
    fn every_form_of_an_address_gets_the_verdict_of_the_address(bits in any::<u32>()) {
        let rules = TargetRules::default();
        let inner = Ipv4Addr::from(bits);
        let verdict = rules.check_address(inner.into()).map_err(|refusal| refusal.rule);
        for form in forms(inner) {
            // `::` and `::1` are addresses of their own.
            if u128::from(form) > 1 {
                prop_assert_eq!(rules.check_address(form.into()).map_err(|refusal| refusal.rule), verdict);
            }
        }
    }

    #[test]
    fn any_text_is_judged_without_a_panic(text in "(https?://)?[\\[\\]:.@/%a-f0-9x\\PC]{0,30}") {
        let _ = TargetRules::default().check_url(&text);
        let _ = shown_url(&text);
    }
}
