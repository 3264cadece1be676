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

/// What generated secrets begin with, and what is cut off before the base64 of a Standard Webhooks key.
const SECRET_PREFIX: &str = "whsec_";

/// Room for one signature with what stands before it.
const SIGNATURE_CHARS: usize = 96;

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
        let mut value = String::with_capacity(self.whole.len().max(1) * SIGNATURE_CHARS);
        match scheme {
            Scheme::Timestamped => {
                value.push_str("t=");
                value.push_str(&unix_s.to_string());
                // What is signed is the time as it stands in the header.
                let time = "t=".len()..value.len();
                for key in &self.whole {
                    let mac = digest(key, &[&value.as_bytes()[time.clone()], b".", body]);
                    value.push_str(",v1=");
                    push_hex(&mut value, mac);
                }
            }
            Scheme::Sha256 | Scheme::Hex => {
                if scheme == Scheme::Sha256 {
                    value.push_str("sha256=");
                }
                if let Some(key) = self.whole.first() {
                    push_hex(&mut value, digest(key, &[body]));
                }
            }
        }
        value
    }

    /// The value of the header beside the operator's for the schemes with room for one signature only: while a secret
    /// rotates, that of the older one. `None` where there is no other, and for `Timestamped`.
    pub fn sign_previous(&self, scheme: Scheme, body: &[u8]) -> Option<String> {
        let signature = || Some(hex::encode(digest(self.whole.get(1)?, &[body])));
        match scheme {
            Scheme::Timestamped => None,
            Scheme::Sha256 => signature().map(|hex| format!("sha256={hex}")),
            Scheme::Hex => signature(),
        }
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
        let time = unix_s.to_string();
        let message = [id.as_bytes(), b".", time.as_bytes(), b".", body];
        let mut value = String::with_capacity(self.standard.len() * SIGNATURE_CHARS);
        for key in &self.standard {
            value.push_str(if value.is_empty() { "v1," } else { " v1," });
            STANDARD.encode_string(digest(key, &message), &mut value);
        }
        (!value.is_empty()).then_some(value)
    }
}

fn push_hex(to: &mut String, mac: [u8; 32]) {
    for byte in mac {
        for digit in [byte >> 4, byte & 15] {
            to.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
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
