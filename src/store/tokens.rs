//! API tokens: only the SHA-256 of each is kept, so that what leaks from here opens nothing.

use redis::Value;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::StoreError;
use super::value::corrupt;
use super::{Store, value};
use crate::settings::Secret;

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredToken {
    /// Version of the stored form.
    pub v: u8,
    /// Names the token; no secret.
    pub id: String,
    /// Whose it is; `None` for the operator, who sees all tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// For people.
    pub name: String,
    /// The last characters of the token, by which people tell theirs apart.
    pub hint: String,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// From when on it is not accepted any more, in Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
}

/// The digest under which a token is kept, in hex.
pub fn digest_of(token: &Secret) -> String {
    hex::encode(Sha256::digest(token.expose().as_bytes()))
}

impl Store {
    /// Keeps a new token under its digest.
    ///
    /// # Errors
    ///
    /// A full Redis refuses; whatever keeps it from answering.
    pub async fn put_token(&self, digest: &str, token: &StoredToken) -> Result<(), StoreError> {
        // Text and numbers always serialise.
        let body = serde_json::to_string(token).unwrap_or_default();
        let key = self.keys().token(digest);
        let mut commands = redis::pipe();
        commands.cmd("HSET").arg(&key).arg("body").arg(body);
        if let Some(expires_ms) = token.expires_ms {
            commands.cmd("PEXPIREAT").arg(&key).arg(expires_ms);
        }
        commands
            .cmd("HSET")
            .arg(self.keys().tokens())
            .arg(&token.id)
            .arg(digest);
        commands
            .cmd("SADD")
            .arg(self.keys().tenant_tokens(token.tenant.as_deref()))
            .arg(&token.id);
        self.link()
            .connection()?
            .transaction("store a token", &mut commands)
            .await
            .map(drop)
    }

    /// The token of this digest, if it is accepted at `now_ms`.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering; what is stored cannot be read.
    pub async fn token_by_digest(
        &self,
        digest: &str,
        now_ms: u64,
    ) -> Result<Option<StoredToken>, StoreError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys().token(digest)).arg("body");
        let reply = self
            .link()
            .connection()?
            .command("look up a token", command)
            .await?;
        let token = read(reply)?;
        Ok(token.filter(|token| token.expires_ms.is_none_or(|end| now_ms < end)))
    }
}

fn read(reply: Value) -> Result<Option<StoredToken>, StoreError> {
    let Some(body) = value::bytes(reply) else {
        return Ok(None);
    };
    let token: StoredToken = serde_json::from_slice(&body)
        .map_err(|error| corrupt("an API token", error.to_string()))?;
    Ok(Some(token))
}
