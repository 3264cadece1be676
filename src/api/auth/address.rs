//! Whose address a request comes from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address: the peer's, or behind trusted proxies the last one of `X-Forwarded-For` that is none of them.
/// What stands before that in the header is the client's own word.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut nearest = peer.to_canonical();
    if !is_trusted(&nearest) {
        return nearest;
    }
    let values = headers.get_all(FORWARDED_FOR).iter();
    let hops: Vec<_> = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .collect();
    for hop in hops.into_iter().rev() {
        // A hop that cannot be read is no reason to believe those before it.
        let Some(address) = read(hop) else {
            return nearest;
        };
        nearest = address;
        if !is_trusted(&nearest) {
            return nearest;
        }
    }
    nearest
}

/// An address, with or without a port.
fn read(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .or_else(|_| {
            text.trim_matches(['[', ']'])
                .parse::<Ipv6Addr>()
                .map(IpAddr::V6)
        });
    address.ok().map(|address| address.to_canonical())
}

/// What one customer has: an IPv4 address, or a /64 of IPv6.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(bits))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(peer: &str, forwarded: &[&str]) -> String {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_as_far_as_they_go() {
        assert_eq!(client_of("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client_of("10.1.1.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(
            client_of("::ffff:10.1.1.1", &["198.51.100.7"]),
            "198.51.100.7"
        );
        let forged = ["203.0.113.9, 198.51.100.7,10.2.2.2"];
        assert_eq!(client_of("10.1.1.1", &forged), "198.51.100.7");
        assert_eq!(
            client_of("10.1.1.1", &["203.0.113.9", "198.51.100.7"]),
            "198.51.100.7"
        );
        assert_eq!(client_of("fd00::1", &["[2001:db8::5]:443"]), "2001:db8::5");
        assert_eq!(
            client_of("10.1.1.1", &["198.51.100.7:4711"]),
            "198.51.100.7"
        );
    }

    #[test]
    fn what_cannot_be_read_leaves_the_nearest_hop() {
        assert_eq!(client_of("10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(client_of("10.1.1.1", &["203.0.113.9, unknown"]), "10.1.1.1");
        assert_eq!(client_of("10.1.1.1", &["x, 10.3.3.3"]), "10.3.3.3");
        assert_eq!(client_of("10.1.1.1", &["10.4.4.4"]), "10.4.4.4");
    }

    #[test]
    fn ipv6_addresses_of_one_customer_are_one() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("192.0.2.1"), "192.0.2.1");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
