use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;
use standardwebhooks::{Webhook, WebhookError};

/// The webhook-* headers. An error unless the body is what was sent, within the last five minutes.
pub fn verify_standard(secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), WebhookError> {
    Webhook::new(secret)?.verify(body, headers)
}

/// The x-signature header. True if the body is what was sent, within the last five minutes.
pub fn verify_signature(secret: &str, header: &str, body: &[u8], now_unix_s: u64) -> bool {
    let time = header.split(',').find_map(|part| part.strip_prefix("t="));
    let Some((text, seconds)) = time.and_then(|text| Some((text, text.parse::<u64>().ok()?)))
    else {
        return false;
    };
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return false;
    };
    let mac = mac.chain_update(text).chain_update(".").chain_update(body);
    let signed = header.split(',').any(|part| {
        let given = part
            .strip_prefix("v1=")
            .and_then(|hex| hex::decode(hex).ok());
        given.is_some_and(|given| mac.clone().verify_slice(&given).is_ok())
    });
    signed && now_unix_s.abs_diff(seconds) <= 300
}
