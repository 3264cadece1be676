//! The webhooks: stored as JSON with a version for optimistic concurrency; every change is announced.

mod list;
mod newer;

use redis::Value;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::value::corrupt;
use super::{Store, scripts, value};
use crate::settings::Secret;
use crate::webhook::{Disabled, Webhook, WebhookSpec};

/// Changes kept for daemons that are slow to follow; one that misses some reads all webhooks anew.
const MOST_CHANGES: u64 = 10_000;

/// The version of the form in which this daemon stores webhooks.
const FORM: u8 = 1;

#[derive(Serialize, Deserialize)]
struct StoredWebhook {
    v: u8,
    spec: WebhookSpec,
    secrets: Vec<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotation_ends_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    #[serde(default)]
    disabled_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    managed_by: Option<String>,
    created_ms: u64,
    updated_ms: u64,
}

/// What came of an attempt to change a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It has this version now.
    Version(u64),
    /// Somebody else changed it meanwhile; nothing was changed.
    Conflict,
}

fn write(webhook: &Webhook) -> Result<String, StoreError> {
    let stored = StoredWebhook {
        v: FORM,
        spec: webhook.spec.clone(),
        secrets: webhook.secrets.clone(),
        rotation_ends_ms: webhook.rotation_ends_ms,
        disabled_reason: webhook
            .disabled
            .as_ref()
            .map(|disabled| disabled.reason.clone()),
        disabled_at_ms: webhook
            .disabled
            .as_ref()
            .map_or(0, |disabled| disabled.at_ms),
        managed_by: webhook.managed_by.clone(),
        created_ms: webhook.created_ms,
        updated_ms: webhook.updated_ms,
    };
    serde_json::to_string(&stored)
        .map_err(|error| corrupt(format!("webhook {}", webhook.spec.id), error.to_string()))
}

fn read(id: &str, reply: Value) -> Result<Option<Webhook>, StoreError> {
    if let Some((code, detail)) = value::server_error(&reply) {
        return Err(corrupt(
            format!("webhook {id:?}"),
            format!("Redis answered {code} {detail}"),
        ));
    }
    let mut parts = value::items(reply).into_iter();
    let (version, uid, body) = (parts.next(), parts.next(), parts.next());
    let Some(body) = body.and_then(value::bytes) else {
        return Ok(None);
    };
    let what = || format!("webhook {id:?}");
    // The parser's own words could quote a secret: only their place is told.
    let malformed = |error: serde_json::Error| {
        let column = error.column();
        corrupt(
            what(),
            format!("not in the form of this version (column {column})"),
        )
    };
    // Of the same form with more in it, as a daemon of the next version may write it: the rest is understood. Of another
    // form: only that is told.
    let form = |error| match serde_json::from_slice(&body) {
        Ok(newer::Form { v }) => Ok((v, newer::known_part(&body).ok_or(error))),
        Err(error) => Err(malformed(error)),
    };
    let (v, stored) = match serde_json::from_slice::<StoredWebhook>(&body) {
        Ok(stored) => (stored.v, Ok(stored)),
        Err(error) => form(error)?,
    };
    if v > FORM {
        return Err(StoreError::Newer {
            what: what(),
            found: v,
            known: FORM,
        });
    }
    let stored = stored.map_err(malformed)?;
    Ok(Some(Webhook {
        version: version
            .as_ref()
            .and_then(value::integer)
            .unwrap_or(0)
            .max(0)
            .unsigned_abs(),
        uid: uid
            .and_then(value::text)
            .ok_or_else(|| corrupt(what(), "its uid is missing"))?,
        spec: stored.spec,
        secrets: stored.secrets,
        rotation_ends_ms: stored.rotation_ends_ms,
        disabled: stored.disabled_reason.map(|reason| Disabled {
            reason,
            at_ms: stored.disabled_at_ms,
        }),
        managed_by: stored.managed_by,
        created_ms: stored.created_ms,
        updated_ms: stored.updated_ms,
    }))
}

impl Store {
    /// Reads webhooks by id; `None` for those that do not exist. One that cannot be read is an error in its place.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn webhooks_by_id(
        &self,
        ids: &[String],
    ) -> Result<Vec<Result<Option<Webhook>, StoreError>>, StoreError> {
        if ids.is_empty() {
            // The client library takes a pipeline without commands for a mistake.
            return Ok(Vec::new());
        }
        let mut commands = redis::pipe();
        for id in ids {
            commands
                .cmd("HMGET")
                .arg(self.keys().webhook(id))
                .arg("version")
                .arg("uid")
                .arg("body");
        }
        let replies = self.link().slowly_each("read webhooks", &commands).await?;
        Ok(ids
            .iter()
            .zip(replies)
            .map(|(id, reply)| read(id, reply))
            .collect())
    }

    /// Reads one webhook.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering; what is stored cannot be read.
    pub async fn webhook(&self, id: &str) -> Result<Option<Webhook>, StoreError> {
        let found = self.webhooks_by_id(&[id.to_owned()]).await?;
        found.into_iter().next().unwrap_or(Ok(None))
    }

    /// Whether a tenant has a webhook of this id.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn is_webhook_of(&self, tenant: &str, id: &str) -> Result<bool, StoreError> {
        let mut command = redis::cmd("ZSCORE");
        command.arg(self.keys().tenant_webhooks(tenant)).arg(id);
        let mut connected = self.link().connection()?;
        let score = connected.command("look for a webhook", command).await?;
        Ok(score != Value::Nil)
    }

    /// How many webhooks a tenant has.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn count_webhooks(&self, tenant: &str) -> Result<u64, StoreError> {
        let mut command = redis::cmd("ZCARD");
        command.arg(self.keys().tenant_webhooks(tenant));
        let reply = self
            .link()
            .connection()?
            .command("count webhooks", command)
            .await?;
        Ok(value::integer(&reply).unwrap_or(0).max(0).unsigned_abs())
    }

    /// Stores `webhook` if the version stored is still `webhook.version` (0 = it does not exist yet).
    ///
    /// # Errors
    ///
    /// A full Redis refuses; whatever keeps it from answering.
    pub async fn put_webhook(&self, webhook: &Webhook) -> Result<Put, StoreError> {
        let expected = if webhook.version == 0 {
            String::new()
        } else {
            webhook.version.to_string()
        };
        let body = match webhook.version {
            0 => write(webhook)?,
            // What a daemon of the next version keeps there is not this one's to drop. If it is changed meanwhile, the
            // version is another one, and nothing is written.
            _ => newer::with_unknown_of(self.stored_body(&webhook.spec.id).await?, write(webhook)?),
        };
        let reply = scripts::PUT_WEBHOOK
            .call()
            .key(self.keys().webhook(&webhook.spec.id))
            .key(self.keys().webhooks())
            .key(self.keys().tenant_webhooks(&webhook.spec.tenant))
            .key(self.keys().changes())
            .key(self.keys().change_number())
            .arg(expected)
            .arg(&webhook.spec.id)
            .arg(&webhook.uid)
            .arg(body)
            .number(webhook.created_ms)
            .number(MOST_CHANGES)
            .run(&mut self.link().connection()?)
            .await?;
        Ok(match value::integer(&reply) {
            Some(version) if version > 0 => Put::Version(version.unsigned_abs()),
            _ => Put::Conflict,
        })
    }

    async fn stored_body(&self, id: &str) -> Result<Option<bytes::Bytes>, StoreError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.keys().webhook(id)).arg("body");
        let reply = self
            .link()
            .connection()?
            .command("read a webhook", command)
            .await?;
        Ok(value::bytes(reply))
    }

    /// Deletes `webhook` if the version stored is still its version. Its queue is removed by the owner of its shard.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn delete_webhook(&self, webhook: &Webhook) -> Result<Put, StoreError> {
        let reply = scripts::DELETE_WEBHOOK
            .call()
            .key(self.keys().webhook(&webhook.spec.id))
            .key(self.keys().webhooks())
            .key(self.keys().tenant_webhooks(&webhook.spec.tenant))
            .key(self.keys().changes())
            .key(self.keys().change_number())
            .key(self.keys().gone())
            .number(webhook.version)
            .arg(&webhook.spec.id)
            .arg(&webhook.uid)
            .number(MOST_CHANGES)
            .run(&mut self.link().connection()?)
            .await?;
        Ok(match value::integer(&reply) {
            Some(1) => Put::Version(webhook.version),
            _ => Put::Conflict,
        })
    }

    /// Deleted webhooks whose queues wait to be removed: uid and id.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn gone(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("HGETALL").arg(self.keys().gone());
        let reply = self
            .link()
            .slowly("list deleted webhooks", &commands)
            .await?
            .pop()
            .unwrap_or(Value::Nil);
        Ok(value::text_map(reply).into_iter().collect())
    }

    /// Whether the webhook with this uid was deleted, and its queue may still have to be removed.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn is_gone(&self, uid: &str) -> Result<bool, StoreError> {
        let mut command = redis::cmd("HEXISTS");
        command.arg(self.keys().gone()).arg(uid);
        let reply = self
            .link()
            .connection()?
            .command("look for a deleted webhook", command)
            .await?;
        Ok(value::integer(&reply) == Some(1))
    }

    /// Forgets a deleted webhook whose queue was removed.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn forget_gone(&self, uid: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("HDEL");
        command.arg(self.keys().gone()).arg(uid);
        self.link()
            .connection()?
            .command("forget a deleted webhook", command)
            .await
            .map(drop)
    }
}
