//! Names to addresses, without a blocking thread: a name server that hangs costs a timer and nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::ResponseCode;

use super::HttpClientError;

/// One question to one name server may take this long, so that a lost packet is asked again within a connect timeout.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// A name that did not exist is asked for again after at most this long: it may just have been set up.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(10);

/// Addresses are asked for again after at most this long, whatever the zone says, so that a move is followed.
const LONGEST_POSITIVE: Duration = Duration::from_secs(300);

/// More addresses than this are not tried: no honest name needs them.
const MAX_ADDRESSES: usize = 16;

/// Looks names up: the hosts file first, then DNS. Answers are kept as long as their zones allow, at most five minutes.
#[derive(Clone)]
pub struct Resolver {
    dns: TokioResolver,
}

impl Resolver {
    /// As the system is set up: `/etc/hosts`, and the name servers, search list and options of `/etc/resolv.conf`, all read
    /// once. Where there are no name servers to be found there, the one on this host is asked, as the C library does.
    ///
    /// # Errors
    ///
    /// [`HttpClientError::Resolver`] if the DNS client cannot be set up.
    pub fn system() -> Result<Self, HttpClientError> {
        match hickory_resolver::system_conf::read_system_conf() {
            Ok((config, options)) => Self::build(config, options),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "cannot use /etc/resolv.conf: names are looked up at the name server on this host"
                );
                Self::with_name_server(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)))
            }
        }
    }

    /// Asks one name server, by UDP and, for long answers, TCP.
    ///
    /// # Errors
    ///
    /// [`HttpClientError::Resolver`] if the DNS client cannot be set up.
    pub fn with_name_server(server: SocketAddr) -> Result<Self, HttpClientError> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
            .into_iter()
            .map(|mut connection| {
                connection.port = server.port();
                connection
            })
            .collect();
        let server = NameServerConfig::new(server.ip(), true, connections);
        Self::build(
            ResolverConfig::from_parts(None, Vec::new(), vec![server]),
            ResolverOpts::default(),
        )
    }

    fn build(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, HttpClientError> {
        options.timeout = options.timeout.min(QUESTION_TIMEOUT);
        options.attempts = options.attempts.max(2);
        options.use_hosts_file = ResolveHosts::Always;
        options.positive_max_ttl = Some(LONGEST_POSITIVE);
        options.negative_max_ttl = Some(LONGEST_NEGATIVE);
        // Its default of 32 open questions per TCP connection would let slow zones starve the others.
        options.max_active_requests = 4096;
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        match builder.build() {
            Ok(dns) => Ok(Self { dns }),
            Err(error) => Err(HttpClientError::Resolver(error.to_string())),
        }
    }

    /// The addresses of `host`, which may be an address itself, in the order in which to try them: families in turn.
    ///
    /// # Errors
    ///
    /// Why there is none, in plain words and without the name.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Some(address) = literal(host) {
            return Ok(vec![address]);
        }
        match self.dns.lookup_ip(host).await {
            Ok(answer) => {
                let addresses = in_turn(answer.iter());
                if addresses.is_empty() {
                    return Err("the name has no addresses".to_owned());
                }
                Ok(addresses)
            }
            Err(error) => Err(in_plain_words(&error)),
        }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// Whether `host` is an address already, so that nothing is looked up.
pub(super) fn is_literal(host: &str) -> bool {
    literal(host).is_some()
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse().ok()
}

fn in_turn(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut turns = Vec::new();
    while turns.len() < MAX_ADDRESSES {
        let before = turns.len();
        turns.extend(v6.next());
        turns.extend(v4.next());
        if turns.len() == before {
            break;
        }
    }
    turns
}

fn in_plain_words(error: &NetError) -> String {
    use hickory_resolver::net::DnsError;

    if error.is_nx_domain() {
        return "there is no such name".to_owned();
    }
    if error.is_no_records_found() {
        return "the name has no addresses".to_owned();
    }
    match error {
        NetError::Timeout => "the name servers did not answer".to_owned(),
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            "the name servers could not find out (SERVFAIL)".to_owned()
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => {
            "the name servers refused to answer".to_owned()
        }
        NetError::Proto(_) => "it is no valid name, or its name servers answer wrongly".to_owned(),
        NetError::Io(_) | NetError::NoConnections => "no name server can be reached".to_owned(),
        NetError::Busy => "too many names are being looked up".to_owned(),
        _ => "the look-up failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_take_turns_and_the_longer_one_follows() {
        let addresses: Vec<IpAddr> = ["::1", "::2", "::3", "1.1.1.1"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let order: Vec<String> = in_turn(addresses.into_iter())
            .iter()
            .map(IpAddr::to_string)
            .collect();
        assert_eq!(order, ["::1", "1.1.1.1", "::2", "::3"]);
    }

    #[test]
    fn a_name_with_thousands_of_addresses_is_cut_short() {
        let many = (0..4000u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(n)));
        assert_eq!(in_turn(many).len(), MAX_ADDRESSES);
    }

    #[test]
    fn literals_are_recognised_with_and_without_brackets() {
        assert_eq!(literal("[::1]"), Some("::1".parse().unwrap()));
        assert_eq!(literal("127.0.0.1"), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(literal("example.com"), None);
    }
}
