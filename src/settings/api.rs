//! `[api]`: the management API, who may use it, and how much of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Secret;
use super::error::Report;
use super::schema::{Key, Kind, days, millis, minutes};
use super::targets::networks;
use super::units;

/// `[api]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiSettings {
    /// Whether the API is served.
    pub enabled: bool,
    /// Where; port 0 is any free one.
    pub listen: SocketAddr,
    /// What its paths begin with: empty, or `/` and a path without a `/` at its end.
    pub base_path: String,
    /// What the tenant is called in bodies and queries.
    pub tenant_field: String,
    /// The header, in lower case, in which a token may stand instead of `Authorization`.
    pub key_header: String,
    /// PEM file with the certificate chain; with `tls_key_file` the API is served over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_certificate_file: Option<PathBuf>,
    /// PEM file with the certificate's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_key_file: Option<PathBuf>,
    /// Origins whose pages may call the API from a browser; `*` is every one.
    pub cors_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    #[serde(with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// How long a request may take, its body's arrival included; 1 s to 5 min.
    #[serde(with = "units::duration")]
    pub request_timeout: Duration,
    /// Bytes of a request's body, but for events: see [`super::Settings::largest_event_body`].
    #[serde(with = "units::size")]
    pub max_body: usize,
    /// Requests at work at the same time; more are answered 503.
    pub max_concurrent_requests: usize,
    /// Connections at the same time; more wait.
    pub max_connections: usize,
    /// Failed authentications of one address in a minute; more are answered 429.
    pub failed_auth_per_minute: u32,
    /// A token for the operator, beside those that are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_token: Option<Secret>,
    /// `[api.jwt]`
    pub jwt: JwtSettings,
}

/// `[api.jwt]`: tokens of the platform's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JwtSettings {
    /// The algorithm of `secret` or `public_key_file`: `HS256`, `RS256`, `ES256` or `EdDSA`.
    pub algorithm: String,
    /// The key for HS256, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// PEM file with the public key for the other algorithms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_file: Option<PathBuf>,
    /// Where a JSON Web Key Set is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// PEM file with authorities that are trusted for `jwks_url` beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_ca_file: Option<PathBuf>,
    /// How long a fetched key set is used before it is fetched again, 1 s to 1 d.
    #[serde(with = "units::duration")]
    pub jwks_refresh: Duration,
    /// The claim that holds the tenant.
    pub tenant_claim: String,
    /// What `aud` must contain, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What `iss` must be, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// By how much clocks may differ for `exp` and `nbf`, 0 s to 10 min.
    #[serde(with = "units::duration")]
    pub leeway: Duration,
}

impl JwtSettings {
    /// Whether any key is given, and so JWTs are accepted at all.
    pub fn is_enabled(&self) -> bool {
        self.secret.is_some() || self.public_key_file.is_some() || self.jwks_url.is_some()
    }
}

const VISIBLE: &str = "1 to 256 visible ASCII characters";

fn visible(text: &str) -> Result<(), String> {
    super::schema::visible(text, 256)
}

const JWT_KEYS: &[Key] = &[
    Key::new(
        "algorithm",
        Kind::Choice(&["HS256", "RS256", "ES256", "EdDSA"]),
    ),
    Key::new("secret", Kind::Secret),
    Key::new("public_key_file", Kind::Path),
    Key::text("jwks_url", "an http:// or https:// URL", check_jwks_url),
    Key::new("jwks_ca_file", Kind::Path),
    Key::duration("jwks_refresh", millis(1_000), days(1)),
    Key::text("tenant_claim", VISIBLE, visible),
    Key::text("audience", VISIBLE, visible),
    Key::text("issuer", VISIBLE, visible),
    Key::duration("leeway", millis(0), minutes(10)),
];

pub(super) const KEYS: &[Key] = &[
    Key::new("enabled", Kind::Flag),
    Key::text(
        "listen",
        "an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"",
        |text| match text.parse::<SocketAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err("is no IP address with a port (names are not looked up)".into()),
        },
    ),
    Key::text(
        "base_path",
        "\"\" or \"/\" for none, or a path such as \"/v1\" of letters, digits, -, _, . and /",
        check_base_path,
    ),
    Key::text(
        "tenant_field",
        "1 to 64 letters, digits, _ and -, but no name of another field",
        check_tenant_field,
    ),
    Key::text(
        "key_header",
        "the name of an HTTP header, such as \"x-api-key\"",
        check_key_header,
    ),
    Key::new("tls_certificate_file", Kind::Path),
    Key::new("tls_key_file", Kind::Path),
    Key::new(
        "cors_origins",
        Kind::Texts {
            allowed: "a list of origins, such as [\"https://console.example.com\"], or [\"*\"]",
            check: check_origin,
        },
    ),
    Key::new("trusted_proxies", Kind::Networks),
    Key::duration("request_timeout", millis(1_000), minutes(5)),
    Key::size("max_body", 16 << 10, 80 << 20),
    Key::integer("max_concurrent_requests", 1, 100_000),
    Key::integer("max_connections", 1, 100_000),
    Key::integer("failed_auth_per_minute", 1, 1_000_000),
    Key::new("operator_token", Kind::Secret),
    Key::new("jwt", Kind::Section(&[JWT_KEYS])),
];

fn check_base_path(text: &str) -> Result<(), String> {
    if matches!(text, "" | "/") {
        return Ok(());
    }
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    let segments = text.strip_prefix('/').map(|rest| rest.split('/'));
    match segments {
        None => Err("does not begin with /".into()),
        Some(_) if !plain || text.len() > 200 => {
            Err("has a character that is not allowed, or is too long".into())
        }
        Some(mut segments) => {
            if segments.any(|segment| matches!(segment, "" | "." | "..")) {
                return Err("has an empty part, or one of dots".into());
            }
            if text == "/docs" || text.starts_with("/docs/") || text == "/openapi.json" {
                return Err("is the place of the documentation".into());
            }
            Ok(())
        }
    }
}

/// The names of all other fields that stand beside the tenant in some body or answer.
const OTHER_FIELDS: &[&str] = &[
    "id",
    "name",
    "description",
    "url",
    "events",
    "secret",
    "isActive",
    "headers",
    "createdAt",
    "updatedAt",
    "stats",
    "disabled",
    "rateLimit",
    "maxInFlight",
    "timeoutMs",
    "retry",
    "ordering",
    "bodyMode",
    "signatureScheme",
    "type",
    "payload",
    "time",
    "source",
    "stream",
    "token",
    "operator",
    "expiresAt",
    "graceSeconds",
    "page",
    "limit",
    "status",
    "event",
    "since",
    "until",
    "dryRun",
    "after",
    "entryId",
    "webhookId",
    "complete",
    "secretRotationEndsAt",
    "data",
    "timestamp",
];

fn check_tenant_field(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 64 {
        Err(format!("is {} bytes long", text.len()))
    } else if OTHER_FIELDS.contains(&text) {
        Err("is the name of another field".into())
    } else if !text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    {
        Err("has a character that is not allowed".into())
    } else {
        Ok(())
    }
}

fn check_key_header(text: &str) -> Result<(), String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| "is not the name of an HTTP header".to_owned())?;
    let taken = matches!(
        name.as_str(),
        "authorization"
            | "host"
            | "content-type"
            | "content-length"
            | "connection"
            | "transfer-encoding"
            | "idempotency-key"
            | "if-match"
            | "if-none-match"
            | "cookie"
            | "x-forwarded-for"
            | "x-request-id"
    );
    if taken || name.as_str().len() > 100 {
        return Err("is a header with another purpose, or too long".into());
    }
    Ok(())
}

fn check_origin(text: &str) -> Result<(), String> {
    if text == "*" {
        return Ok(());
    }
    let wrong = || "is no origin: scheme, host and, if it is not the usual one, port".to_owned();
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    if matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text {
        Ok(())
    } else {
        Err(wrong())
    }
}

fn check_jwks_url(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|_| "is no URL".to_owned())?;
    let whole = matches!(url.scheme(), "http" | "https") && url.has_host();
    if !whole || text.parse::<Uri>().is_err() {
        return Err("is no http:// or https:// URL".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user or a password in it".into());
    }
    Ok(())
}

impl ApiSettings {
    /// Brings texts that mean the same into one form.
    pub(super) fn complete(&mut self) {
        self.key_header.make_ascii_lowercase();
        if self.base_path == "/" {
            self.base_path.clear();
        }
    }

    pub(super) fn check(&self, report: &mut Report) {
        match (&self.tls_certificate_file, &self.tls_key_file) {
            (Some(certificate), Some(key)) => {
                report.need_file("api.tls_certificate_file", certificate);
                report.need_file("api.tls_key_file", key);
            }
            (Some(_), None) => report.refuse(
                &["api.tls_certificate_file", "api.tls_key_file"],
                "is given without its key",
                "both or none of tls_certificate_file and tls_key_file",
            ),
            (None, Some(_)) => report.refuse(
                &["api.tls_key_file", "api.tls_certificate_file"],
                "is given without its certificate",
                "both or none of tls_certificate_file and tls_key_file",
            ),
            (None, None) => {}
        }
        if let Some(token) = &self.operator_token {
            let text = token.expose();
            if text.len() < 16 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                report.refuse(
                    &["api.operator_token"],
                    "is too short to be safe, or cannot stand in a header",
                    "at least 16 visible ASCII characters, such as `openssl rand -hex 32` prints",
                );
            }
        }
        self.jwt.check(report);
    }
}

impl JwtSettings {
    fn check(&self, report: &mut Report) {
        if let Some(file) = &self.public_key_file {
            report.need_file("api.jwt.public_key_file", file);
        }
        if let Some(file) = &self.jwks_ca_file {
            report.need_file("api.jwt.jwks_ca_file", file);
        }
        let given = [
            self.secret.is_some(),
            self.public_key_file.is_some(),
            self.jwks_url.is_some(),
        ];
        if given.iter().filter(|given| **given).count() > 1 {
            report.refuse(
                &["api.jwt"],
                "names more than one of secret, public_key_file and jwks_url",
                "one of them",
            );
        }
        if self.secret.is_some() && self.algorithm != "HS256" {
            report.refuse(
                &["api.jwt.algorithm", "api.jwt.secret"],
                format!("is {}, which is not made with a secret", self.algorithm),
                "HS256, or public_key_file instead of secret",
            );
        }
        if self.public_key_file.is_some() && self.algorithm == "HS256" {
            report.refuse(
                &["api.jwt.algorithm", "api.jwt.public_key_file"],
                "is HS256, for which a public key is no secret: anybody could make tokens",
                "RS256, ES256 or EdDSA",
            );
        }
        if let Some(secret) = &self.secret
            && secret.expose().len() < 32
        {
            report.refuse(
                &["api.jwt.secret"],
                "is shorter than 32 bytes, and could be guessed from any token that it signed (RFC 7518, 3.2)",
                "at least 32 bytes",
            );
        }
    }
}
