//! The webhooks: stored as JSON with a version for optimistic concurrency; every change is announced.

use redis::Value;
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::value::corrupt;
use super::{Store, scripts, value};
use crate::settings::Secret;
use crate::webhook::{Disabled, Webhook, WebhookSpec};

/// Changes kept for daemons that are slow to follow; one that misses some reads all webhooks anew.
const MOST_CHANGES: u64 = 10_000;
/// Webhooks read at a time.
const CHUNK: usize = 500;

#[derive(Serialize, Deserialize)]
struct StoredWebhook {
    v: u8,
    spec: WebhookSpec,
    secrets: Vec<Secret>,
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
        v: 1,
        spec: webhook.spec.clone(),
        secrets: webhook.secrets.clone(),
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
    let mut parts = value::items(reply).into_iter();
    let (version, uid, body) = (parts.next(), parts.next(), parts.next());
    let Some(body) = body.and_then(value::bytes) else {
        return Ok(None);
    };
    let what = || format!("webhook {id:?}");
    // The parser's own words could quote a secret: only their place is told.
    let stored: StoredWebhook = serde_json::from_slice(&body).map_err(|error| {
        corrupt(
            what(),
            format!(
                "not in the form of this version (column {})",
                error.column()
            ),
        )
    })?;
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
        let mut commands = redis::pipe();
        for id in ids {
            commands
                .cmd("HMGET")
                .arg(self.keys().webhook(id))
                .arg("version")
                .arg("uid")
                .arg("body");
        }
        let replies = self.link().slowly("read webhooks", &commands).await?;
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

    /// The ids of all webhooks, oldest first.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn webhook_ids(&self) -> Result<Vec<String>, StoreError> {
        let mut ids = Vec::new();
        loop {
            let mut commands = redis::pipe();
            commands
                .cmd("ZRANGE")
                .arg(self.keys().webhooks())
                .arg(ids.len())
                .arg(ids.len() + 9_999);
            let reply = self
                .link()
                .slowly("list webhooks", &commands)
                .await?
                .pop()
                .unwrap_or(Value::Nil);
            let chunk: Vec<String> = value::items(reply)
                .into_iter()
                .filter_map(value::text)
                .collect();
            let done = chunk.len() < 10_000;
            ids.extend(chunk);
            if done {
                // An index shifts under a reader when a webhook is deleted; each id stands once all the same.
                ids.sort_unstable();
                ids.dedup();
                return Ok(ids);
            }
        }
    }

    /// Reads all webhooks. Those that cannot be read come as errors beside the others.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn all_webhooks(&self) -> Result<(Vec<Webhook>, Vec<StoreError>), StoreError> {
        let ids = self.webhook_ids().await?;
        let (mut webhooks, mut errors) = (Vec::with_capacity(ids.len()), Vec::new());
        for chunk in ids.chunks(CHUNK) {
            for found in self.webhooks_by_id(chunk).await? {
                match found {
                    Ok(webhook) => webhooks.extend(webhook),
                    Err(error) => errors.push(error),
                }
            }
        }
        Ok((webhooks, errors))
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
            .arg(write(webhook)?)
            .number(webhook.created_ms)
            .number(MOST_CHANGES)
            .run(&mut self.link().connection()?)
            .await?;
        Ok(match value::integer(&reply) {
            Some(version) if version > 0 => Put::Version(version.unsigned_abs()),
            _ => Put::Conflict,
        })
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
