//! API tokens: only the SHA-256 of each is kept, so that what leaks from here opens nothing.
//!
//! A token is a hash under its digest, which Redis itself removes when the token ends. Its id stands in three indexes
//! (digests, its tenant's tokens, all tokens), from which the ids of tokens that ended are removed whenever somebody
//! lists them or needs their room.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::Value;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::StoreError;
use super::value::corrupt;
use super::{Store, scripts, value};
use crate::clock::Clock;
use crate::settings::Secret;

/// What every token of Pombo's own begins with.
pub const TOKEN_PREFIX: &str = "pmb_";
/// Tokens that a tenant may have, or the operator.
pub const MOST_TOKENS: usize = 1_000;
/// Tokens of one listing.
pub const MOST_LISTED: usize = 1_000;
/// Characters of a token that are shown later.
const HINT: usize = 4;
/// How often a listing is done again because tokens in it had ended. Each time those are gone, so that more than one
/// round is needed only where a thousand at once had.
const ROUNDS: usize = 3;

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

impl StoredToken {
    /// Makes up a token: its text, which is nowhere to be had afterwards, and what is kept of it.
    pub fn generate(
        clock: &Clock,
        tenant: Option<String>,
        name: String,
        expires_ms: Option<u64>,
    ) -> (Secret, StoredToken) {
        let random = URL_SAFE_NO_PAD.encode(clock.random_bytes::<32>());
        let text = format!("{TOKEN_PREFIX}{random}");
        let stored = StoredToken {
            v: 1,
            id: format!("tok_{}", URL_SAFE_NO_PAD.encode(clock.random_bytes::<16>())),
            tenant,
            name,
            hint: text[text.len() - HINT..].to_owned(),
            created_ms: clock.unix_ms(),
            expires_ms,
        };
        (Secret::new(text), stored)
    }

    /// How the token is shown once it was made: `pmb_…abcd`.
    pub fn masked(&self) -> String {
        format!("{TOKEN_PREFIX}…{}", self.hint)
    }
}

/// The digest under which a token is kept, in hex.
pub fn digest_of(token: &Secret) -> String {
    hex::encode(Sha256::digest(token.expose().as_bytes()))
}

/// Whether a token found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Yes,
    /// Its tenant has [`MOST_TOKENS`] already; nothing was changed.
    Full,
}

/// Which tokens a listing is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// Those of a tenant.
    Tenant(&'a str),
    /// All: of every tenant and the operator.
    All,
}

impl Store {
    /// Keeps a new token under its digest.
    ///
    /// # Errors
    ///
    /// A full Redis refuses; whatever keeps it from answering.
    pub async fn put_token(&self, digest: &str, token: &StoredToken) -> Result<Kept, StoreError> {
        let ends = token.expires_ms.map(|ms| ms.to_string());
        self.with_room(token, || {
            self.token_call(&scripts::PUT_TOKEN, digest, token)
                .arg(ends.as_deref().unwrap_or_default())
                .number(MOST_TOKENS as u64)
        })
        .await
    }

    /// Keeps a new token that does not end, and ends all others of its tenant: at `others_end_ms`, or at once.
    ///
    /// # Errors
    ///
    /// A full Redis refuses; whatever keeps it from answering.
    pub async fn replace_tokens(
        &self,
        digest: &str,
        token: &StoredToken,
        others_end_ms: Option<u64>,
    ) -> Result<Kept, StoreError> {
        let ends = others_end_ms.map(|ms| ms.to_string());
        self.with_room(token, || {
            self.token_call(&scripts::REPLACE_TOKENS, digest, token)
                .arg(ends.as_deref().unwrap_or_default())
                .number(MOST_TOKENS as u64)
                .arg(self.keys().token(""))
        })
        .await
    }

    fn token_call(
        &self,
        script: &'static scripts::Script,
        digest: &str,
        token: &StoredToken,
    ) -> scripts::Call {
        // Text and numbers always serialise.
        let body = serde_json::to_string(token).unwrap_or_default();
        script
            .call()
            .key(self.keys().token(digest))
            .key(self.keys().tokens())
            .key(self.keys().tenant_tokens(token.tenant.as_deref()))
            .key(self.keys().all_tokens())
            .arg(&token.id)
            .arg(digest)
            .arg(body)
            .number(token.created_ms)
    }

    /// Tries `keep`, and once more if tokens that ended took the room.
    async fn with_room(
        &self,
        token: &StoredToken,
        keep: impl Fn() -> scripts::Call,
    ) -> Result<Kept, StoreError> {
        for again in [true, false] {
            let reply = keep().run(&mut self.link().connection()?).await?;
            if value::integer(&reply) == Some(1) {
                return Ok(Kept::Yes);
            }
            let index = self.keys().tenant_tokens(token.tenant.as_deref());
            if !again || self.listed(&index, Some(&index)).await?.1 == 0 {
                break;
            }
        }
        Ok(Kept::Full)
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
        let reply = self
            .link()
            .connection()?
            .command("look up a token", self.get_token(digest))
            .await?;
        let token = read(reply)?;
        Ok(token.filter(|token| token.expires_ms.is_none_or(|end| now_ms < end)))
    }

    fn get_token(&self, digest: &str) -> redis::Cmd {
        let mut command = redis::cmd("HMGET");
        command
            .arg(self.keys().token(digest))
            .arg("body")
            .arg("ends");
        command
    }

    /// The newest tokens, newest first, [`MOST_LISTED`] at most. One that cannot be read is logged and left out.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn list_tokens(&self, whose: Whose<'_>) -> Result<Vec<StoredToken>, StoreError> {
        let of_tenant = match whose {
            Whose::Tenant(tenant) => Some(self.keys().tenant_tokens(Some(tenant))),
            Whose::All => None,
        };
        let index = of_tenant
            .clone()
            .unwrap_or_else(|| self.keys().all_tokens());
        let mut tokens = Vec::new();
        for _ in 0..ROUNDS {
            let (found, ended) = self.listed(&index, of_tenant.as_ref()).await?;
            tokens = found;
            if ended == 0 {
                break;
            }
        }
        Ok(tokens)
    }

    /// The tokens whose ids `index` holds, and how many of these had ended. Those are taken out of the indexes, and of
    /// `of_tenant` if it is known.
    async fn listed(
        &self,
        index: &str,
        of_tenant: Option<&String>,
    ) -> Result<(Vec<StoredToken>, usize), StoreError> {
        const OPERATION: &str = "list tokens";
        let mut commands = redis::pipe();
        commands
            .cmd("ZREVRANGE")
            .arg(index)
            .arg(0)
            .arg(MOST_LISTED - 1);
        let replies = self.link().slowly(OPERATION, &commands).await?;
        let ids: Vec<String> = value::items(replies.into_iter().next().unwrap_or(Value::Nil))
            .into_iter()
            .filter_map(value::text)
            .collect();
        if ids.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let mut commands = redis::pipe();
        commands.cmd("HMGET").arg(self.keys().tokens()).arg(&ids);
        let replies = self.link().slowly(OPERATION, &commands).await?;
        let digests = value::items(replies.into_iter().next().unwrap_or(Value::Nil));
        let mut commands = redis::pipe();
        for digest in digests {
            // An id without a digest finds nothing under this key, as one whose token has ended.
            let digest = value::text(digest).unwrap_or_default();
            commands.add_command(self.get_token(&digest));
        }
        let replies = self.link().slowly(OPERATION, &commands).await?;
        let (mut tokens, mut ended) = (Vec::with_capacity(ids.len()), Vec::new());
        for (id, reply) in ids.into_iter().zip(replies) {
            match read(reply) {
                Ok(Some(token)) => tokens.push(token),
                Ok(None) => ended.push(id),
                // One that nobody can read must not hide the others.
                Err(error) => {
                    tracing::warn!(%error, token = id, "a token is left out of a listing")
                }
            }
        }
        if !ended.is_empty() {
            let mut indexes = vec![self.keys().all_tokens()];
            indexes.extend(of_tenant.cloned());
            self.forget_tokens(&ended, &indexes).await?;
        }
        Ok((tokens, ended.len()))
    }

    async fn forget_tokens(&self, ids: &[String], indexes: &[String]) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("HDEL").arg(self.keys().tokens()).arg(ids);
        for index in indexes {
            commands.cmd("ZREM").arg(index).arg(ids);
        }
        self.link()
            .connection()?
            .all("forget tokens", &commands)
            .await
            .map(drop)
    }

    /// Ends a token at once. Returns whether there was one of this id, and of `tenant` if one is named.
    ///
    /// What a tenant asks for takes the same way whether the id is another tenant's or nobody's.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering; what is stored cannot be read.
    pub async fn remove_token(&self, id: &str, tenant: Option<&str>) -> Result<bool, StoreError> {
        const OPERATION: &str = "look up a token";
        let mut connection = self.link().connection()?;
        if let Some(tenant) = tenant {
            let mut command = redis::cmd("ZSCORE");
            command.arg(self.keys().tenant_tokens(Some(tenant))).arg(id);
            if connection.command(OPERATION, command).await? == Value::Nil {
                return Ok(false);
            }
        }
        let mut command = redis::cmd("HGET");
        command.arg(self.keys().tokens()).arg(id);
        let reply = connection.command(OPERATION, command).await?;
        let Some(digest) = value::text(reply) else {
            return Ok(false);
        };
        let reply = connection
            .command(OPERATION, self.get_token(&digest))
            .await?;
        let found = read(reply)?;
        let owner = match &found {
            Some(token) => token.tenant.as_deref(),
            None => tenant,
        };
        // The token first: whatever fails after that, it is not accepted any more. No transaction, which a full Redis
        // would refuse.
        let mut commands = redis::pipe();
        commands.cmd("UNLINK").arg(self.keys().token(&digest));
        connection.all("remove a token", &commands).await?;
        let indexes = [self.keys().tenant_tokens(owner), self.keys().all_tokens()];
        self.forget_tokens(&[id.to_owned()], &indexes).await?;
        Ok(found.is_some())
    }
}

/// A token out of its fields `body` and `ends`, the second of which tells when it ends if it does.
fn read(reply: Value) -> Result<Option<StoredToken>, StoreError> {
    let mut fields = value::items(reply).into_iter();
    let Some(body) = fields.next().and_then(value::bytes) else {
        return Ok(None);
    };
    let token: StoredToken = serde_json::from_slice(&body)
        .map_err(|error| corrupt("an API token", error.to_string()))?;
    let ends = fields.next().as_ref().and_then(value::integer);
    Ok(Some(StoredToken {
        expires_ms: ends
            .and_then(|ms| u64::try_from(ms).ok())
            .or(token.expires_ms),
        ..token
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_32_random_bytes_and_shows_its_last_four_characters() {
        let (clock, _) = Clock::simulated(1_000, 7);
        let (text, stored) = StoredToken::generate(&clock, None, "ci".into(), None);
        let random = text.expose().strip_prefix(TOKEN_PREFIX).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(random).unwrap().len(), 32);
        assert!(text.expose().ends_with(&stored.hint));
        assert_eq!(stored.masked(), format!("pmb_…{}", stored.hint));
        let (other, other_stored) = StoredToken::generate(&clock, None, "ci".into(), None);
        assert_ne!(text, other);
        assert_ne!(stored.id, other_stored.id);
    }

    #[test]
    fn the_digest_is_the_sha_256_in_hex() {
        let digest = digest_of(&Secret::new("abc"));
        assert!(digest.starts_with("ba7816bf") && digest.ends_with("f20015ad"));
    }
}
