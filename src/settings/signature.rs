//! `[signature]`: how deliveries are signed.

use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::schema::{Key, Kind};
use crate::signature::Scheme;

/// `[signature]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SignatureSettings {
    /// The header that carries the signature, in lower case.
    pub header: String,
    /// What is signed and how it is written.
    #[serde(with = "SchemeText")]
    pub scheme: Scheme,
    /// Whether the Standard Webhooks signature is sent as well.
    pub standard_webhooks: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Scheme", rename_all = "snake_case")]
enum SchemeText {
    Timestamped,
    Sha256,
    Hex,
}

pub(super) const KEYS: &[Key] = &[
    Key::text(
        "header",
        "the name of an HTTP header that nothing else uses, such as \"x-signature\"",
        check_header,
    ),
    Key::new("scheme", Kind::Choice(&["timestamped", "sha256", "hex"])),
    Key::new("standard_webhooks", Kind::Flag),
];

fn check_header(text: &str) -> Result<(), String> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| "is not the name of an HTTP header".to_owned())?;
    let name = name.as_str();
    let reserved = matches!(
        name,
        "content-type"
            | "content-length"
            | "content-encoding"
            | "host"
            | "connection"
            | "transfer-encoding"
            | "te"
            | "upgrade"
            | "trailer"
            | "keep-alive"
            | "expect"
            | "user-agent"
    ) || ["proxy-", "x-event-", "x-delivery-", "webhook-"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    if reserved {
        return Err("is a header that every delivery uses for another purpose".into());
    }
    // The records of attempts are parted by it.
    if name.contains('|') {
        return Err("has a \"|\" in it".into());
    }
    if name.len() > 100 {
        return Err(format!("is {} bytes long, above 100", name.len()));
    }
    Ok(())
}
