//! Which URLs and addresses may be called.
//!
//! A subscriber chooses the URL, so without these rules it could make the daemon call whatever the
//! daemon's own network reaches. A URL is judged when it is declared; since a name may lead anywhere
//! by the time it is called, each address is judged again right before it is connected to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use thiserror::Error;
use url::{Host, Url};

mod address;

#[cfg(test)]
mod tests;

/// The longest URL that a webhook may have, in bytes.
pub const LONGEST_URL: usize = 2048;

/// The rules: what the operator allows, and everything that is refused otherwise.
#[derive(Clone, Debug, Default)]
pub struct TargetRules {
    allow: Vec<IpNet>,
    https_only: bool,
}

/// An address that may not be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub struct Refusal {
    /// The address as it was about to be called.
    pub address: IpAddr,
    /// What kind of address it is, in plain words, such as `a private address (10.0.0.0/8)`.
    pub rule: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.address, self.rule)?;
        match address::embedded(self.address).first() {
            Some(inner) => write!(f, ", as an IPv6 form of {inner}"),
            None => Ok(()),
        }
    }
}

/// Why a URL may not be called. No message repeats the URL, which may hold a password.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TargetError {
    /// Longer than [`LONGEST_URL`].
    #[error("the URL is longer than {LONGEST_URL} bytes")]
    TooLong,
    /// Spaces or control characters, which a URL parser would drop in silence.
    #[error("the URL holds spaces or control characters")]
    Whitespace,
    /// No URL, with the parser's reason.
    #[error("this is not an absolute URL: {0}")]
    NotAUrl(url::ParseError),
    /// Neither http nor https.
    #[error("the URL begins with neither http:// nor https://")]
    Scheme,
    /// Plain http where only https is allowed.
    #[error("only https:// URLs are allowed here (targets.https_only)")]
    HttpsOnly,
    /// A user name or a password.
    #[error("the URL holds a user name or a password; use a header of the webhook instead")]
    Credentials,
    /// No host.
    #[error("the URL has no host")]
    NoHost,
    /// Port 0.
    #[error("port 0 cannot be called")]
    PortZero,
    /// The host is an address that may not be called.
    #[error("the address may not be called: {0}")]
    Address(#[from] Refusal),
}

impl TargetRules {
    /// Rules that refuse all that is not the public internet, but for the networks of `allow`, and
    /// plain http too if `https_only` is set. An IPv4 network of `allow` covers the IPv6 forms of its
    /// addresses as well.
    pub fn new(allow: Vec<IpNet>, https_only: bool) -> Self {
        TargetRules { allow, https_only }
    }

    /// Reads and judges a URL. An address in place of a host's name is judged too, in any of the forms
    /// that a URL allows (`0x7f.1` is 127.0.0.1); a name is not looked up.
    /// The URL that is returned has no fragment: it is never sent.
    ///
    /// # Errors
    ///
    /// Says which rule refuses the URL.
    pub fn check_url(&self, text: &str) -> Result<Url, TargetError> {
        if text.len() > LONGEST_URL {
            return Err(TargetError::TooLong);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TargetError::Whitespace);
        }
        let mut url = Url::parse(text).map_err(|error| match error {
            url::ParseError::EmptyHost => TargetError::NoHost,
            error => TargetError::NotAUrl(error),
        })?;
        match url.scheme() {
            "https" => {}
            "http" if self.https_only => return Err(TargetError::HttpsOnly),
            "http" => {}
            _ => return Err(TargetError::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Credentials);
        }
        match url.host() {
            None | Some(Host::Domain("")) => return Err(TargetError::NoHost),
            Some(Host::Domain(_)) => {}
            Some(Host::Ipv4(address)) => self.check_address(address.into())?,
            Some(Host::Ipv6(address)) => self.check_address(address.into())?,
        }
        if url.port() == Some(0) {
            return Err(TargetError::PortZero);
        }
        url.set_fragment(None);
        Ok(url)
    }

    /// Judges an address, which must be done right before connecting to it.
    ///
    /// # Errors
    ///
    /// Names the rule that refuses the address.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.allows(address) {
            return Ok(());
        }
        let embedded = address::embedded(address);
        // The first is the one that is reached; a Teredo address holds its server's besides.
        if embedded
            .first()
            .is_some_and(|inner| self.allows(IpAddr::V4(*inner)))
        {
            return Ok(());
        }
        let rule = address::rule(address).or_else(|| embedded_rule(&embedded));
        match rule {
            Some(rule) => Err(Refusal { address, rule }),
            None => Ok(()),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(&address))
    }
}

fn embedded_rule(embedded: &[Ipv4Addr]) -> Option<&'static str> {
    embedded
        .iter()
        .find_map(|inner| address::rule(IpAddr::V4(*inner)))
}

/// What of a URL may be shown in logs: scheme, host and port. Paths and queries of webhook URLs are
/// often secrets themselves.
pub fn shown_url(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) if url.has_host() => format!("{}/…", url.origin().ascii_serialization()),
        _ => "…".to_owned(),
    }
}
