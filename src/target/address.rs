//! The addresses that are not the public internet, by IANA's special-purpose registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network, as its first address and the length of its prefix, and what it is.
type Rule<T> = (T, u32, &'static str);

/// The first that fits is the answer: single addresses stand before the networks that hold them.
#[rustfmt::skip]
const V4: &[Rule<[u8; 4]>] = &[
    ([169, 254, 169, 254], 32, "a cloud metadata service"),
    ([100, 100, 100, 200], 32, "a cloud metadata service"),
    ([168, 63, 129, 16],   32, "a cloud metadata service"),
    ([192, 0, 0, 192],     32, "a cloud metadata service"),
    ([0, 0, 0, 0],         32, "the unspecified address"),
    ([0, 0, 0, 0],          8, "an address of this network (0.0.0.0/8)"),
    ([10, 0, 0, 0],         8, "a private address (10.0.0.0/8)"),
    ([100, 64, 0, 0],      10, "a carrier-grade NAT address (100.64.0.0/10)"),
    ([127, 0, 0, 0],        8, "a loopback address (127.0.0.0/8)"),
    ([169, 254, 0, 0],     16, "a link-local address (169.254.0.0/16)"),
    ([172, 16, 0, 0],      12, "a private address (172.16.0.0/12)"),
    ([192, 0, 0, 0],       24, "reserved for IETF protocols (192.0.0.0/24)"),
    ([192, 0, 2, 0],       24, "reserved for documentation (192.0.2.0/24)"),
    ([192, 88, 99, 0],     24, "reserved, a former 6to4 relay (192.88.99.0/24)"),
    ([192, 168, 0, 0],     16, "a private address (192.168.0.0/16)"),
    ([198, 18, 0, 0],      15, "reserved for benchmarking (198.18.0.0/15)"),
    ([198, 51, 100, 0],    24, "reserved for documentation (198.51.100.0/24)"),
    ([203, 0, 113, 0],     24, "reserved for documentation (203.0.113.0/24)"),
    ([224, 0, 0, 0],        4, "a multicast address (224.0.0.0/4)"),
    ([255, 255, 255, 255], 32, "the broadcast address"),
    ([240, 0, 0, 0],        4, "reserved (240.0.0.0/4)"),
];

#[rustfmt::skip]
const V6: &[Rule<[u16; 8]>] = &[
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, "a cloud metadata service"),
    ([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254],  128, "a cloud metadata service"),
    ([0, 0, 0, 0, 0, 0, 0, 0],              128, "the unspecified address"),
    ([0, 0, 0, 0, 0, 0, 0, 1],              128, "a loopback address (::1)"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0],          10, "a link-local address (fe80::/10)"),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0],          10, "a site-local address (fec0::/10)"),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0],           7, "a unique-local address (fc00::/7)"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0],           8, "a multicast address (ff00::/8)"),
    ([0x100, 0, 0, 0, 0, 0, 0, 0],           64, "reserved, a black hole (100::/64)"),
    ([0x2001, 0x2, 0, 0, 0, 0, 0, 0],        48, "reserved for benchmarking (2001:2::/48)"),
    ([0x2001, 0x10, 0, 0, 0, 0, 0, 0],       28, "reserved for identifiers (2001:10::/28)"),
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0],       28, "reserved for identifiers (2001:20::/28)"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0],      32, "reserved for documentation (2001:db8::/32)"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0],          20, "reserved for documentation (3fff::/20)"),
];

const OUTSIDE_GLOBAL_V6: &str = "reserved (outside 2000::/3)";
const LOCAL_NAT64: &str = "a local NAT64 translation (64:ff9b:1::/48)";

/// Which rule refuses the address by itself, whatever IPv4 address it may hold.
pub(super) fn rule(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => V4
            .iter()
            .find(|(network, length, _)| {
                let shift = 32 - length;
                let network = u32::from(Ipv4Addr::from(*network));
                u32::from(address) >> shift == network >> shift
            })
            .map(|(_, _, rule)| *rule),
        IpAddr::V6(address) => rule_v6(address),
    }
}

fn rule_v6(address: Ipv6Addr) -> Option<&'static str> {
    let listed = V6
        .iter()
        .find(|(network, length, _)| within(address, Ipv6Addr::from(*network), *length))
        .map(|(_, _, rule)| *rule);
    if listed.is_some() || !embedded(IpAddr::V6(address)).is_empty() {
        return listed;
    }
    if within(address, LOCAL_NAT64_NETWORK, 48) {
        return Some(LOCAL_NAT64);
    }
    let global = within(address, Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
    (!global).then_some(OUTSIDE_GLOBAL_V6)
}

const LOCAL_NAT64_NETWORK: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0);

/// The IPv4 addresses that an IPv6 address stands for, the one that is reached first. They, not the
/// form, decide: a translator or a tunnel on the way would reach them.
pub(super) fn embedded(address: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return Vec::new();
    };
    let [_, b, c, _, _, _, g, h] = address.segments();
    let last = join(g, h);
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Vec::new(),
        // Compatible, mapped, and translated by SIIT.
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => {
            vec![last]
        }
        // NAT64. In the local-use network the place of the address depends on the translator; only the
        // plain form is taken apart, every other is refused as a whole.
        [0x64, 0xff9b, 0 | 1, 0, 0, 0, ..] => vec![last],
        // 6to4.
        [0x2002, ..] => vec![join(b, c)],
        // Teredo: the client's address, inverted, and its server's.
        [0x2001, 0, server_high, server_low, ..] => {
            vec![join(!g, !h), join(server_high, server_low)]
        }
        _ => Vec::new(),
    }
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

fn within(address: Ipv6Addr, network: Ipv6Addr, length: u32) -> bool {
    let shift = 128 - length;
    u128::from(address) >> shift == u128::from(network) >> shift
}
