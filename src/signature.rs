//! Signatures of deliveries, made and verified.
//!
//! Two kinds stand side by side: one header of the operator's choosing in one of the [`Scheme`]s, and
//! the trio of headers of the Standard Webhooks specification.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::settings::Secret;

mod verification;

pub use verification::{VerifyError, verify, verify_standard};

#[cfg(test)]
mod tests;

/// What a digest takes in hex and in base64.
const HEX: usize = 64;
const BASE64: usize = 44;
/// What generated secrets begin with, and what is cut off before the base64 of a Standard Webhooks key.
const SECRET_PREFIX: &str = "whsec_";

/// How the operator's own header is made; always HMAC-SHA256 with the secret's whole text as the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// `t=<unix seconds>,v1=<hex over "<t>.<body>">`, with a `v1` for each secret while one rotates.
    #[default]
    Timestamped,
    /// `sha256=<hex over the body>`.
    Sha256,
    /// The hex over the body, and nothing else.
    Hex,
}

impl Scheme {
    /// The value of the schemes with room for one signature; without a key it holds none.
    fn value(self, key: Option<&Hmac<Sha256>>, body: &[u8]) -> String {
        let lead = match self {
            Scheme::Sha256 => "sha256=",
            Scheme::Timestamped | Scheme::Hex => "",
        };
        let mut value = String::with_capacity(lead.len() + HEX);
        value.push_str(lead);
        if let Some(key) = key {
            push_hex(&mut value, digest(key, &[body]));
        }
        value
    }
}

/// A webhook's secrets, made ready to sign: the keys are worked into the hash once, and each signature
/// starts from a copy of that.
#[derive(Clone)]
pub struct SigningKeys {
    whole: Vec<Hmac<Sha256>>,
    standard: Vec<Hmac<Sha256>>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys")
            .field("secrets", &self.whole.len())
            .finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// Prepares the secrets, of which the newest comes first.
    pub fn new(secrets: &[Secret]) -> Self {
        SigningKeys {
            whole: secrets
                .iter()
                .map(|secret| keyed(secret.expose().as_bytes()))
                .collect(),
            standard: standard_keys(secrets),
        }
    }

    /// The value of the operator's header. `Timestamped` signs with every secret, the others, which
    /// have room for one signature only, with the newest. Without any secret there is nothing to sign
    /// with, and the value holds no signature.
    pub fn sign(&self, scheme: Scheme, unix_s: u64, body: &[u8]) -> String {
        // Room for just this: what becomes a header's value would otherwise need a place of its own.
        match scheme {
            Scheme::Timestamped => {
                let mut digits = itoa::Buffer::new();
                let time = digits.format(unix_s);
                let signatures = self.whole.len() * (",v1=".len() + HEX);
                let mut value = String::with_capacity("t=".len() + time.len() + signatures);
                value.push_str("t=");
                value.push_str(time);
                for key in &self.whole {
                    value.push_str(",v1=");
                    push_hex(&mut value, digest(key, &[time.as_bytes(), b".", body]));
                }
                value
            }
            Scheme::Sha256 | Scheme::Hex => scheme.value(self.whole.first(), body),
        }
    }

    /// The value of the header beside the operator's for the schemes with room for one signature only: while a secret
    /// rotates, that of the older one. `None` where there is no other, and for `Timestamped`.
    pub fn sign_previous(&self, scheme: Scheme, body: &[u8]) -> Option<String> {
        if scheme == Scheme::Timestamped {
            return None;
        }
        Some(scheme.value(Some(self.whole.get(1)?), body))
    }

    /// Whether more than one secret signs.
    pub fn rotates(&self) -> bool {
        self.whole.len() > 1
    }

    /// Whether there is a secret that Standard Webhooks can sign with.
    pub fn signs_standard(&self) -> bool {
        !self.standard.is_empty()
    }

    /// The value of `webhook-signature`: a `v1,<base64 over "<id>.<unix seconds>.<body>">` for each
    /// secret that is base64, with or without `whsec_` before it, with spaces between them. `None` when
    /// no secret is.
    pub fn sign_standard(&self, id: &str, unix_s: u64, body: &[u8]) -> Option<String> {
        let mut digits = itoa::Buffer::new();
        let time = digits.format(unix_s).as_bytes();
        let message = [id.as_bytes(), b".", time, b".", body];
        let room = self.standard.len() * ("v1, ".len() + BASE64);
        let mut value = String::with_capacity(room.saturating_sub(1));
        for key in &self.standard {
            if !value.is_empty() {
                value.push(' ');
            }
            value.push_str("v1,");
            STANDARD.encode_string(digest(key, &message), &mut value);
        }
        (!value.is_empty()).then_some(value)
    }
}

/// Adds a digest in hex: the whole of it, where `hex::encode` would go from character to character.
fn push_hex(text: &mut String, digest: [u8; 32]) {
    let mut digits = [0; HEX];
    // They have the room, and are text.
    if hex::encode_to_slice(digest, &mut digits).is_ok() {
        text.push_str(std::str::from_utf8(&digits).unwrap_or_default());
    }
}

/// A new secret out of 32 random bytes: `whsec_` and their base64.
pub fn generate_secret(random: [u8; 32]) -> Secret {
    Secret::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(random)))
}

fn standard_keys(secrets: &[Secret]) -> Vec<Hmac<Sha256>> {
    secrets
        .iter()
        .filter_map(|secret| {
            let text = secret.expose();
            let base64 = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
            let key = zeroize::Zeroizing::new(STANDARD.decode(base64).ok()?);
            (!key.is_empty()).then(|| keyed(&key))
        })
        .collect()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length: longer ones than a block are hashed, shorter ones padded.
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn digest(key: &Hmac<Sha256>, message: &[&[u8]]) -> [u8; 32] {
    fed(key, message).finalize().into_bytes().into()
}

fn fed(key: &Hmac<Sha256>, message: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in message {
        mac.update(part);
    }
    mac
}
