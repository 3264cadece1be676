//! Pombo's own operational events, for the platform to read as it reads any stream.

use super::Store;
use super::error::StoreError;

/// One notice.
#[derive(Debug, Clone)]
pub struct Notice {
    /// What happened: `dead_letters_dropped`, `webhook_disabled`, …
    pub kind: &'static str,
    /// The tenant concerned, if it is one.
    pub tenant: Option<String>,
    /// The webhook concerned, if it is one.
    pub webhook_id: Option<String>,
    /// Plain words.
    pub detail: String,
}

impl Store {
    /// Announces `notice` to whoever reads the capped notices stream.
    ///
    /// # Errors
    ///
    /// Whatever keeps Redis from answering.
    pub async fn announce(
        &self,
        notice: &Notice,
        now_ms: u64,
        most: u64,
    ) -> Result<(), StoreError> {
        let mut command = redis::cmd("XADD");
        command
            .arg(self.keys().notices())
            .arg("MAXLEN")
            .arg("~")
            .arg(most)
            .arg("*");
        command
            .arg("v")
            .arg("1")
            .arg("kind")
            .arg(notice.kind)
            .arg("time")
            .arg(now_ms);
        if let Some(tenant) = &notice.tenant {
            command.arg("tenant").arg(tenant);
        }
        if let Some(id) = &notice.webhook_id {
            command.arg("webhook_id").arg(id);
        }
        command.arg("detail").arg(&notice.detail);
        self.link()
            .connection()?
            .command("announce a notice", command)
            .await
            .map(drop)
    }
}
