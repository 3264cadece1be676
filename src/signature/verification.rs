//! Verification of signatures, as a receiver does it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use thiserror::Error;

use super::{Scheme, SigningKeys, fed};
use crate::settings::Secret;

/// Why a signature does not verify. Neither the secret nor the right signature is ever part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum VerifyError {
    /// There is no secret to verify with, or none that the scheme can use.
    #[error("there is no secret that this kind of signature can be verified with")]
    NoSecret,
    /// The header is not in the form of its scheme.
    #[error("the signature header is not in the form that its scheme asks for")]
    Malformed,
    /// The time is missing or no number.
    #[error("the signature's timestamp is missing or not a whole number of seconds")]
    BadTimestamp,
    /// Signed too long ago: an old request may have been sent again by someone else.
    #[error(
        "the request was signed {age_s} s ago, more than the {tolerance_s} s that are tolerated"
    )]
    TooOld {
        /// How long ago, in seconds.
        age_s: u64,
        /// How long ago it might have been, in seconds.
        tolerance_s: u64,
    },
    /// Signed at a time that has yet to come: one of the two clocks is wrong.
    #[error(
        "the request was signed {ahead_s} s in the future, more than the {tolerance_s} s that are tolerated"
    )]
    InFuture {
        /// How far in the future, in seconds.
        ahead_s: u64,
        /// How far it might have been, in seconds.
        tolerance_s: u64,
    },
    /// No signature fits: the body, the time or the secret is another one.
    #[error("no signature fits the body: it was changed on its way, or signed with another secret")]
    Mismatch,
}

/// Verifies the operator's header against any of the secrets, in constant time for each signature.
///
/// Of the schemes only [`Scheme::Timestamped`] knows when a request was signed: it alone heeds
/// `now_unix_s` and `tolerance_s`.
///
/// # Errors
///
/// Says what is wrong with the header, its time or its signatures.
pub fn verify(
    scheme: Scheme,
    secrets: &[Secret],
    header: &str,
    body: &[u8],
    now_unix_s: u64,
    tolerance_s: u64,
) -> Result<(), VerifyError> {
    let keys = SigningKeys::new(secrets).whole;
    let header = header.trim();
    match scheme {
        Scheme::Timestamped => {
            let (time, signatures) = timestamped(header)?;
            check_time(time, now_unix_s, tolerance_s)?;
            any_fits(&keys, &[time.as_bytes(), b".", body], &signatures)
        }
        Scheme::Sha256 => {
            let hex = header
                .strip_prefix("sha256=")
                .ok_or(VerifyError::Malformed)?;
            any_fits(&keys, &[body], &[from_hex(hex)?])
        }
        Scheme::Hex => any_fits(&keys, &[body], &[from_hex(header)?]),
    }
}

/// Verifies the three headers of Standard Webhooks (`webhook-id`, `webhook-timestamp` and
/// `webhook-signature`) against any of the secrets that are base64.
///
/// # Errors
///
/// Says what is wrong with the headers, the time or the signatures.
pub fn verify_standard(
    secrets: &[Secret],
    id: &str,
    timestamp_header: &str,
    signature_header: &str,
    body: &[u8],
    now_unix_s: u64,
    tolerance_s: u64,
) -> Result<(), VerifyError> {
    let keys = SigningKeys::new(secrets).standard;
    let time = timestamp_header.trim();
    check_time(time, now_unix_s, tolerance_s)?;
    // Signatures of other versions (v1a is an asymmetric one) may stand beside ours.
    let signatures: Vec<Vec<u8>> = signature_header
        .split_ascii_whitespace()
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .filter_map(|base64| STANDARD.decode(base64).ok())
        .collect();
    if signatures.is_empty() {
        return Err(VerifyError::Malformed);
    }
    let message = [id.as_bytes(), b".", time.as_bytes(), b".", body];
    any_fits(&keys, &message, &signatures)
}

/// The time as it is written, which is what was signed, and every `v1`. Other keys may be added to the
/// header one day and are passed over.
fn timestamped(header: &str) -> Result<(&str, Vec<Vec<u8>>), VerifyError> {
    let mut time = None;
    let mut signatures = Vec::new();
    for item in header.split(',') {
        let (key, value) = item.trim().split_once('=').ok_or(VerifyError::Malformed)?;
        match key {
            "t" if time.replace(value).is_some() => return Err(VerifyError::Malformed),
            "v1" => signatures.push(from_hex(value)?),
            _ => {}
        }
    }
    if signatures.is_empty() {
        return Err(VerifyError::Malformed);
    }
    Ok((time.ok_or(VerifyError::BadTimestamp)?, signatures))
}

fn from_hex(text: &str) -> Result<Vec<u8>, VerifyError> {
    hex::decode(text).map_err(|_| VerifyError::Malformed)
}

fn check_time(text: &str, now_unix_s: u64, tolerance_s: u64) -> Result<(), VerifyError> {
    // `parse` alone would take a leading plus.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let signed: u64 = text
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or(VerifyError::BadTimestamp)?;
    let age_s = now_unix_s.saturating_sub(signed);
    let ahead_s = signed.saturating_sub(now_unix_s);
    if age_s > tolerance_s {
        return Err(VerifyError::TooOld { age_s, tolerance_s });
    }
    if ahead_s > tolerance_s {
        return Err(VerifyError::InFuture {
            ahead_s,
            tolerance_s,
        });
    }
    Ok(())
}

fn any_fits(
    keys: &[Hmac<Sha256>],
    message: &[&[u8]],
    signatures: &[Vec<u8>],
) -> Result<(), VerifyError> {
    if keys.is_empty() {
        return Err(VerifyError::NoSecret);
    }
    for key in keys {
        let mac = fed(key, message);
        if signatures
            .iter()
            .any(|signature| mac.clone().verify_slice(signature).is_ok())
        {
            return Ok(());
        }
    }
    Err(VerifyError::Mismatch)
}
