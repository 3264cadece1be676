//! A JSON Web Key Set from a URL: fetched when it is needed, kept while the URL is away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::Client;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::jwt::Key;
use crate::api::problem::Problem;
use crate::clock::Clock;
use crate::dispatch::http_client::tls_config;
use crate::logging::StateLog;
use crate::settings::JwtSettings;

/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request waits for one.
const PATIENCE: Duration = Duration::from_secs(3);
/// The least time between the beginnings of two fetches, unless the setting `api.jwt.jwks_refresh` is shorter.
const AGAIN: Duration = Duration::from_secs(10);
const LARGEST_SET: usize = 1 << 20;
const MOST_KEYS: usize = 100;
/// Keys that are tried for a token that does not say which one signed it.
const MOST_TRIED: usize = 10;

/// A key set and how it is had.
pub(super) struct Jwks {
    url: String,
    client: Client,
    refresh: Duration,
    clock: Clock,
    found: ArcSwapOption<KeySet>,
    /// When the last fetch began.
    began: Mutex<Option<Duration>>,
    /// Whether a fetch is under way.
    busy: watch::Sender<bool>,
    state: StateLog,
}

/// One fetch under way, to its end.
struct Busy(Arc<Jwks>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_replace(false);
    }
}

/// A key and its id.
type Named = (Option<String>, Arc<Key>);

struct KeySet {
    keys: Vec<Named>,
    fetched: Duration,
}

impl KeySet {
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<Arc<Key>> {
        self.keys
            .iter()
            .filter(|(own, key)| {
                key.algorithm == algorithm && (id.is_none() || own.as_deref() == id)
            })
            .take(MOST_TRIED)
            .map(|(_, key)| key.clone())
            .collect()
    }

    fn knows(&self, id: &str) -> bool {
        self.keys.iter().any(|(own, _)| own.as_deref() == Some(id))
    }
}

impl Jwks {
    /// # Errors
    ///
    /// The authorities that the settings name cannot be used.
    pub(super) fn new(
        url: &str,
        settings: &JwtSettings,
        clock: &Clock,
    ) -> Result<Arc<Jwks>, String> {
        let tls = tls_config(settings.jwks_ca_file.as_deref())
            .map_err(|error| format!("api.jwt.jwks_ca_file: {error}"))?;
        // The settings alone say what is fetched from where: no proxy out of the environment, nowhere else.
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| format!("api.jwt.jwks_url: {error}"))?;
        Ok(Arc::new(Jwks {
            url: url.to_owned(),
            client,
            refresh: settings.jwks_refresh,
            clock: clock.clone(),
            found: ArcSwapOption::empty(),
            began: Mutex::default(),
            busy: watch::Sender::new(false),
            state: StateLog::new("the JSON Web Key Set"),
        }))
    }

    /// The keys that may have signed a token which names this key and algorithm.
    ///
    /// # Errors
    ///
    /// 503 when no set was ever had.
    pub(super) async fn find(
        self: &Arc<Jwks>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<Arc<Key>>, Problem> {
        match self.found.load_full() {
            None => self.fetch_within(PATIENCE, self.refresh.min(AGAIN)).await,
            // A set that is too old is used while the new one comes.
            Some(set) if self.is_old(&set) => {
                self.fetch_within(Duration::ZERO, self.refresh.min(AGAIN))
                    .await;
            }
            Some(set) if id.is_some_and(|id| !set.knows(id)) => {
                self.fetch_within(PATIENCE, AGAIN).await;
            }
            Some(_) => {}
        }
        match &*self.found.load() {
            Some(set) => Ok(set.find(id, algorithm)),
            None => Err(Problem::unavailable(
                "The keys for JSON Web Tokens are not available. Try again in a moment.",
            )),
        }
    }

    fn is_old(&self, set: &KeySet) -> bool {
        self.clock.monotonic().saturating_sub(set.fetched) >= self.refresh
    }

    /// Fetches the set unless that was begun less than `again` ago, and waits for it, or for another fetch under way, for
    /// so long at most.
    async fn fetch_within(self: &Arc<Jwks>, patience: Duration, again: Duration) {
        let mut busy = self.busy.subscribe();
        if self.begins(again) {
            let fetch = Busy(self.clone());
            // A task of its own: whoever waits for it may go away.
            tokio::spawn(async move { fetch.0.fetch().await });
        }
        let _ = tokio::time::timeout(patience, busy.wait_for(|busy| !busy)).await;
    }

    /// Whether it is time for a fetch, which has begun then.
    fn begins(&self, again: Duration) -> bool {
        let now = self.clock.monotonic();
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let due = began.is_none_or(|at| now.saturating_sub(at) >= again);
        if !due || *self.busy.borrow() {
            return false;
        }
        *began = Some(now);
        self.busy.send_replace(true);
        true
    }

    async fn fetch(&self) {
        let body = match self.read().await {
            Ok(body) => body,
            Err(reason) => {
                self.state.trouble("away", reason);
                return;
            }
        };
        match parse(&body) {
            Ok(keys) => {
                self.state.well();
                let fetched = self.clock.monotonic();
                self.found.store(Some(Arc::new(KeySet { keys, fetched })));
            }
            Err(reason) => {
                self.state.trouble("unusable", reason);
            }
        }
    }

    async fn read(&self) -> Result<Vec<u8>, String> {
        // The URL could hold a key of its own in its query.
        let told = |error: reqwest::Error| {
            let error = error.without_url();
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            text
        };
        let mut response = self.client.get(&self.url).send().await.map_err(told)?;
        if !response.status().is_success() {
            return Err(format!("it was answered with {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            if body.len() + chunk.len() > LARGEST_SET {
                return Err(format!("it is larger than {LARGEST_SET} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The usable keys of a set, with their ids. Those of kinds that are not known here are passed over.
fn parse(body: &[u8]) -> Result<Vec<Named>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set = serde_json::from_slice(body)
        .map_err(|error| format!("it is no key set (line {})", error.line()))?;
    let keys: Vec<_> = set
        .keys
        .into_iter()
        .filter_map(|key| serde_json::from_value(key).ok())
        .filter_map(|jwk: Jwk| Some((jwk.common.key_id.clone(), Arc::new(usable(&jwk)?))))
        .take(MOST_KEYS)
        .collect();
    match keys.is_empty() {
        true => Err("it holds no key that can be used".into()),
        false => Ok(keys),
    }
}

/// A public key for signatures, and its algorithm: the one that it names, else the usual one of its kind.
fn usable(jwk: &Jwk) -> Option<Key> {
    let for_signatures = match &jwk.common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(_) => false,
    };
    let operations = jwk.common.key_operations.as_ref();
    if !for_signatures || operations.is_some_and(|all| !all.contains(&KeyOperations::Verify)) {
        return None;
    }
    let algorithm = match (&jwk.algorithm, jwk.common.key_algorithm) {
        (AlgorithmParameters::RSA(_), named) => match named {
            None | Some(KeyAlgorithm::RS256) => Algorithm::RS256,
            Some(KeyAlgorithm::RS384) => Algorithm::RS384,
            Some(KeyAlgorithm::RS512) => Algorithm::RS512,
            Some(KeyAlgorithm::PS256) => Algorithm::PS256,
            Some(KeyAlgorithm::PS384) => Algorithm::PS384,
            Some(KeyAlgorithm::PS512) => Algorithm::PS512,
            Some(_) => return None,
        },
        (AlgorithmParameters::EllipticCurve(key), named) => match (&key.curve, named) {
            (EllipticCurve::P256, None | Some(KeyAlgorithm::ES256)) => Algorithm::ES256,
            (EllipticCurve::P384, None | Some(KeyAlgorithm::ES384)) => Algorithm::ES384,
            _ => return None,
        },
        (AlgorithmParameters::OctetKeyPair(key), None | Some(KeyAlgorithm::EdDSA))
            if key.curve == EllipticCurve::Ed25519 =>
        {
            Algorithm::EdDSA
        }
        // A symmetric key that anybody can fetch is no key.
        _ => return None,
    };
    let decoding = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key {
        decoding,
        algorithm,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn algorithm(jwk: Value) -> Option<Algorithm> {
        let parsed = parse(json!({"keys": [jwk]}).to_string().as_bytes());
        parsed.ok().map(|keys| keys[0].1.algorithm)
    }

    fn rsa(more: Value) -> Value {
        merged(json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), more)
    }

    fn merged(mut key: Value, more: Value) -> Value {
        for (name, value) in more.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    #[test]
    fn a_key_verifies_its_own_algorithm_or_the_usual_one_of_its_kind() {
        assert_eq!(algorithm(rsa(json!({}))), Some(Algorithm::RS256));
        assert_eq!(
            algorithm(rsa(json!({"alg": "PS256", "use": "sig"}))),
            Some(Algorithm::PS256)
        );
        let ec = |curve: &str| json!({"kty": "EC", "crv": curve, "x": "AQAB", "y": "AQAB"});
        assert_eq!(algorithm(ec("P-256")), Some(Algorithm::ES256));
        assert_eq!(algorithm(ec("P-384")), Some(Algorithm::ES384));
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAB", "alg": "EdDSA"});
        assert_eq!(algorithm(ed), Some(Algorithm::EdDSA));
    }

    #[test]
    fn what_is_no_public_key_for_signatures_is_passed_over() {
        for refused in [
            json!({"kty": "oct", "k": "AQAB", "alg": "HS256"}),
            rsa(json!({"alg": "HS256"})),
            rsa(json!({"alg": "RSA-OAEP"})),
            rsa(json!({"use": "enc"})),
            rsa(json!({"key_ops": ["encrypt"]})),
            json!({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB", "alg": "ES384"}),
            json!({"kty": "EC", "crv": "P-521", "x": "AQAB", "y": "AQAB"}),
            json!({"kty": "unheard-of"}),
            json!(7),
        ] {
            assert_eq!(algorithm(refused.clone()), None, "{refused}");
            // It does not spoil the others.
            let set = json!({"keys": [refused, rsa(json!({"kid": "good"}))]});
            let keys = parse(set.to_string().as_bytes()).unwrap();
            assert_eq!(keys.len(), 1);
            assert_eq!(keys[0].0.as_deref(), Some("good"));
        }
        for no_set in ["", "[]", "{}", "{\"keys\": {}}", "{\"keys\": []}"] {
            assert!(parse(no_set.as_bytes()).is_err());
        }
    }
}
