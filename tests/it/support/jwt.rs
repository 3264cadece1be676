//! Keys of a platform that issues JSON Web Tokens, and tokens signed with them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use pombo::clock::Clock;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::{Value, json};

/// A key that signs.
pub struct SigningKey {
    algorithm: Algorithm,
    encoding: EncodingKey,
    /// The public key as PEM.
    pub public_pem: String,
    /// The public key as a JSON Web Key, without an id.
    pub jwk: Value,
}

fn openssl(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("written input");
    drop(stdin);
    let output = child.wait_with_output().expect("an output");
    assert!(output.status.success(), "openssl {arguments:?}");
    String::from_utf8(output.stdout).expect("text")
}

impl SigningKey {
    /// RS256, of 2048 bits.
    pub fn rsa() -> SigningKey {
        let private = openssl(
            &[
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
            ],
            "",
        );
        let modulus = openssl(&["rsa", "-noout", "-modulus"], &private);
        let modulus = modulus.trim().trim_start_matches("Modulus=");
        let modulus = hex::decode(modulus).expect("hexadecimal digits");
        SigningKey {
            algorithm: Algorithm::RS256,
            encoding: EncodingKey::from_rsa_pem(private.as_bytes()).expect("a key"),
            public_pem: openssl(&["pkey", "-pubout"], &private),
            jwk: json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"}),
        }
    }

    /// ES256.
    pub fn ec() -> SigningKey {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let point = &key.public_key_raw()[1..];
        let (x, y) = point.split_at(32);
        let part = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        SigningKey {
            algorithm: Algorithm::ES256,
            encoding: EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).expect("a key"),
            public_pem: key.public_key_pem(),
            jwk: json!({"kty": "EC", "crv": "P-256", "x": part(x), "y": part(y)}),
        }
    }

    /// EdDSA, with Ed25519.
    pub fn ed() -> SigningKey {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let x = URL_SAFE_NO_PAD.encode(key.public_key_raw());
        SigningKey {
            algorithm: Algorithm::EdDSA,
            encoding: EncodingKey::from_ed_pem(key.serialize_pem().as_bytes()).expect("a key"),
            public_pem: key.public_key_pem(),
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": x}),
        }
    }

    /// HS256.
    pub fn hmac(secret: &str) -> SigningKey {
        SigningKey {
            algorithm: Algorithm::HS256,
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            public_pem: String::new(),
            jwk: json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret), "alg": "HS256"}),
        }
    }

    /// The name of its algorithm, as the settings have it.
    pub fn algorithm(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    /// The public key as a JSON Web Key.
    pub fn jwk(&self, id: &str) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = json!(id);
        jwk
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(None, claims)
    }

    /// A token with these claims that names its key.
    pub fn sign_as(&self, id: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = id.map(str::to_owned);
        encode(&header, claims, &self.encoding).expect("a signed token")
    }
}

/// Seconds since 1970, so many from now.
pub fn seconds_from_now(seconds: i64) -> i64 {
    let now = i64::try_from(Clock::system().unix_ms() / 1_000).expect("a time");
    now + seconds
}

/// Claims of a tenant that hold for five minutes.
pub fn claims(tenant: &str) -> Value {
    json!({"tenantId": tenant, "exp": seconds_from_now(300)})
}
