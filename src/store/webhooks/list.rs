//! Lists of webhooks.

use std::collections::BTreeSet;

use redis::Value;

use crate::store::error::StoreError;
use crate::store::{Store, value};
use crate::webhook::Webhook;

/// Ids looked at per step of a listing. Not more, for what large replies took the allocator keeps: with 5,000,
/// a daemon that had read 100,000 webhooks held on to 15 MB that nobody used (`scripts/bench idle`).
const SCAN_COUNT: usize = 200;
/// Webhooks read at a time: those of a step, which may have a few more than it looks at.
const CHUNK: usize = 250;
/// The cursor at which a scan begins, and ends.
const START: &str = "0";

impl Store {
    /// The ids of all webhooks, in order.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn webhook_ids(&self) -> Result<Vec<String>, StoreError> {
        let (mut ids, mut cursor) = (BTreeSet::new(), START.to_owned());
        loop {
            let found;
            (found, cursor) = self.some_webhook_ids(&cursor).await?;
            ids.extend(found);
            if cursor == START {
                return Ok(ids.into_iter().collect());
            }
        }
    }

    /// Some of the ids, and the cursor of the next ones. An id may come twice.
    async fn some_webhook_ids(&self, cursor: &str) -> Result<(Vec<String>, String), StoreError> {
        // By ZSCAN and not by rank: a deletion under way shifts ranks, and a webhook that is passed over would be taken
        // for deleted.
        let mut commands = redis::pipe();
        commands.cmd("ZSCAN").arg(self.keys().webhooks());
        commands.arg(cursor).arg("COUNT").arg(SCAN_COUNT);
        let replies = self.link().slowly("list webhooks", &commands).await?;
        let mut parts = value::items(replies.into_iter().next().unwrap_or(Value::Nil)).into_iter();
        let next = parts.next().and_then(value::text);
        let found = parts.next().map(value::pairs).unwrap_or_default();
        let ids = found.into_iter().filter_map(|(id, _)| value::text(id));
        Ok((ids.collect(), next.unwrap_or_else(|| START.to_owned())))
    }

    /// The ids of the webhooks of `tenant`, or of all (`None`), by the time of their creation and then by id: at most
    /// `most` of those after the webhook `after`. `None` if `after` is none of them.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn webhook_ids_after(
        &self,
        tenant: Option<&str>,
        after: Option<&str>,
        most: usize,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let key = match tenant {
            Some(tenant) => self.keys().tenant_webhooks(tenant),
            None => self.keys().webhooks(),
        };
        let mut first = 0;
        if let Some(after) = after {
            let mut commands = redis::pipe();
            commands.cmd("ZRANK").arg(&key).arg(after);
            let replies = self.link().slowly("find a webhook", &commands).await?;
            match replies.first().and_then(value::integer) {
                Some(rank) => first = rank.saturating_add(1),
                None => return Ok(None),
            }
        }
        let mut commands = redis::pipe();
        let last = first.saturating_add(i64::try_from(most).unwrap_or(i64::MAX)) - 1;
        commands.cmd("ZRANGE").arg(&key).arg(first).arg(last);
        let replies = self.link().slowly("list webhooks", &commands).await?;
        let ids = value::items(replies.into_iter().next().unwrap_or(Value::Nil));
        Ok(Some(ids.into_iter().filter_map(value::text).collect()))
    }

    /// Reads all webhooks, in the order of their ids. Those that cannot be read come as errors with their ids beside the
    /// others.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn all_webhooks(
        &self,
    ) -> Result<(Vec<Webhook>, Vec<(String, StoreError)>), StoreError> {
        let (mut webhooks, mut errors) = (Vec::new(), Vec::new());
        let ids = self.webhook_ids().await?;
        let mut take = |webhook| webhooks.push(webhook);
        self.read_each(&ids, &mut take, &mut errors).await?;
        Ok((webhooks, errors))
    }

    /// Reads all webhooks, a few at a time, and gives each to `take`; one may come twice, the newer last. Those that
    /// cannot be read are returned as errors with their ids.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn each_webhook(
        &self,
        mut take: impl FnMut(Webhook) + Send,
    ) -> Result<Vec<(String, StoreError)>, StoreError> {
        let (mut errors, mut cursor) = (Vec::new(), START.to_owned());
        loop {
            let ids;
            (ids, cursor) = self.some_webhook_ids(&cursor).await?;
            self.read_each(&ids, &mut take, &mut errors).await?;
            if cursor == START {
                return Ok(errors);
            }
        }
    }

    async fn read_each(
        &self,
        ids: &[String],
        take: &mut (impl FnMut(Webhook) + Send),
        errors: &mut Vec<(String, StoreError)>,
    ) -> Result<(), StoreError> {
        for chunk in ids.chunks(CHUNK) {
            let found = self.webhooks_by_id(chunk).await?;
            for (id, found) in chunk.iter().zip(found) {
                match found {
                    Ok(webhook) => webhook.into_iter().for_each(&mut *take),
                    Err(error) => errors.push((id.clone(), error)),
                }
            }
        }
        Ok(())
    }
}
