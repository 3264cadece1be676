//! JSON Web Tokens: which key, which algorithm, whether the signature is good.
//!
//! The algorithm is never the token's choice: a key verifies one algorithm, that of the settings or its own in a key set,
//! and what names another is refused. So neither `none` nor an HMAC with a public key is ever tried.

use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::claims::Rules;
use super::jwks::Jwks;
use crate::api::problem::Problem;
use crate::clock::Clock;
use crate::settings::{JwtSettings, Secret};

/// A key and the one algorithm that it verifies.
pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    pub(super) algorithm: Algorithm,
}

enum Keys {
    One(Arc<Key>),
    Set(Arc<Jwks>),
}

/// What verifies JSON Web Tokens.
pub(super) struct Jwt {
    keys: Keys,
    rules: Rules,
}

impl Jwt {
    /// Nothing if the settings give no key.
    ///
    /// # Errors
    ///
    /// Which setting cannot be used, and why.
    pub(super) fn new(settings: &JwtSettings, clock: &Clock) -> Result<Option<Jwt>, String> {
        let algorithm: Algorithm = settings
            .algorithm
            .parse()
            .map_err(|_| format!("api.jwt.algorithm: {} is not known", settings.algorithm))?;
        let one = |decoding| {
            Keys::One(Arc::new(Key {
                decoding,
                algorithm,
            }))
        };
        let keys = if let Some(secret) = &settings.secret {
            one(DecodingKey::from_secret(secret.expose().as_bytes()))
        } else if let Some(path) = &settings.public_key_file {
            let key = public_key(path, algorithm);
            let path = path.display();
            one(key.map_err(|reason| format!("api.jwt.public_key_file: {path}: {reason}"))?)
        } else if let Some(url) = &settings.jwks_url {
            Keys::Set(Jwks::new(url, settings, clock)?)
        } else {
            return Ok(None);
        };
        Ok(Some(Jwt {
            keys,
            rules: Rules::new(settings),
        }))
    }

    /// The tenant that a token names, if the token is valid at `now_ms`.
    ///
    /// # Errors
    ///
    /// 503 when the keys are not to be had.
    pub(super) async fn tenant_of(
        &self,
        token: &Secret,
        now_ms: u64,
    ) -> Result<Option<String>, Problem> {
        let Ok(header) = decode_header(token.expose()) else {
            return Ok(None);
        };
        // What must be understood for the token to mean what it says is not understood here (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Ok(None);
        }
        let keys = match &self.keys {
            Keys::One(key) => vec![key.clone()],
            Keys::Set(set) => set.find(header.kid.as_deref(), header.alg).await?,
        };
        let claims = keys
            .iter()
            .filter(|key| key.algorithm == header.alg)
            .find_map(|key| verified(token, key));
        Ok(claims.and_then(|claims| self.rules.tenant_of(&claims, now_ms)))
    }
}

/// The claims of a token whose signature is good. What they claim is looked at by [`Rules`], with our own clock.
fn verified(token: &Secret, key: &Key) -> Option<Map<String, Value>> {
    let mut validation = Validation::new(key.algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    decode(token.expose(), &key.decoding, &validation)
        .ok()
        .map(|found| found.claims)
}

/// Bytes of a point on P-256 that is not compressed.
const P256_POINT: usize = 65;

fn public_key(path: &Path, algorithm: Algorithm) -> Result<DecodingKey, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    if String::from_utf8_lossy(&pem).contains("PRIVATE KEY") {
        return Err("holds a private key, where only the public one belongs".into());
    }
    let key = match algorithm {
        Algorithm::RS256 => DecodingKey::from_rsa_pem(&pem),
        Algorithm::ES256 => DecodingKey::from_ec_pem(&pem),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(&pem),
        other => return Err(format!("no public key verifies {other:?} here")),
    };
    let key = key.map_err(|error| format!("holds no public key for {algorithm:?}: {error}"))?;
    if algorithm == Algorithm::ES256
        && key.try_get_as_bytes().map(<[u8]>::len).ok() != Some(P256_POINT)
    {
        return Err("holds a key of another curve than P-256, the one of ES256".into());
    }
    Ok(key)
}
