//! The scripts, each with its contract in the header of its file, and the one place that recovers from NOSCRIPT.

use redis::{Cmd, Value};

use super::connection::{Connected, Link};
use super::error::StoreError;
use super::value;

/// A script and its digest.
pub(crate) struct Script {
    /// What it does, for errors and metrics.
    operation: &'static str,
    body: &'static str,
    digest: std::sync::OnceLock<String>,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal, $operation:literal;)*) => {
        $($(#[$doc])* pub(crate) static $name: Script = Script {
            operation: $operation,
            body: include_str!(concat!("scripts/", $file)),
            digest: std::sync::OnceLock::new(),
        };)*
    };
}

scripts! {
    STORE = "store.lua", "store a delivery";
    SCHEDULE = "schedule.lua", "schedule a retry";
    DEAD = "dead.lua", "dead-letter a delivery";
    BURY = "bury.lua", "dead-letter a delivery that was never queued";
    REPLAY = "replay.lua", "replay a dead letter";
    HASTEN = "hasten.lua", "hasten a retry";
    PARK = "park.lua", "park a lane";
    BEAT = "beat.lua", "beat";
    CLAIM = "claim.lua", "claim a shard";
    CLAIM_SOURCE = "claim_source.lua", "claim a source";
    PUT_WEBHOOK = "put_webhook.lua", "store a webhook";
    DELETE_WEBHOOK = "delete_webhook.lua", "delete a webhook";
    PUT_TOKEN = "put_token.lua", "store a token";
    REPLACE_TOKENS = "replace_tokens.lua", "replace tokens";
    TRIM = "trim.lua", "trim a source";
    PROGRESS = "progress.lua", "read a source's progress";
    JOB = "job.lua", "note a job's progress";
    ROWS = "rows.lua", "list deliveries";
    RECORDS = "records.lua", "read deliveries";
    SHELVES = "shelves.lua", "count deliveries";
}

impl Script {
    fn digest(&self) -> &str {
        self.digest
            .get_or_init(|| redis::Script::new(self.body).get_hash().to_owned())
    }

    /// A call of the script; add keys and arguments with [`Call::key`] and [`Call::arg`].
    pub fn call(&'static self) -> Call {
        Call {
            script: self,
            keys: Vec::new(),
            arguments: Vec::new(),
        }
    }
}

/// One call of a script.
pub(crate) struct Call {
    script: &'static Script,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    pub fn key(mut self, key: String) -> Call {
        self.keys.push(key);
        self
    }

    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Call {
        self.push(argument.as_ref());
        self
    }

    /// As [`Call::arg`], where there are many.
    pub fn push(&mut self, argument: &[u8]) {
        self.arguments.push(argument.to_vec());
    }

    pub fn number(self, argument: u64) -> Call {
        self.arg(argument.to_string())
    }

    fn command(&self, name: &str, code: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(code).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key.as_str());
        }
        for argument in &self.arguments {
            command.arg(argument.as_slice());
        }
        command
    }

    /// Runs the call; a server that does not know the script is given its body.
    ///
    /// # Errors
    ///
    /// As the server's answer is sorted by [`StoreError`].
    pub async fn run(self, connected: &mut Connected) -> Result<Value, StoreError> {
        let operation = self.script.operation;
        let mut pipeline = redis::Pipeline::with_capacity(1);
        pipeline.add_command(self.command("EVALSHA", self.script.digest()));
        let mut replies = connected.pipeline(operation, &pipeline).await?;
        let reply = replies.pop().unwrap_or(Value::Nil);
        match value::server_error(&reply) {
            None => Ok(reply),
            Some((code, _)) if code == "NOSCRIPT" => {
                connected
                    .command(operation, self.command("EVAL", self.script.body))
                    .await
            }
            Some((code, detail)) => {
                connected.count_error(operation);
                Err(StoreError::from_code(operation, &code, &detail))
            }
        }
    }

    /// As [`Call::run`], on one of the pool's connections: for slow reads that nobody's delivery waits for.
    ///
    /// # Errors
    ///
    /// As the server's answer is sorted by [`StoreError`].
    pub async fn run_slowly(self, link: &Link) -> Result<Value, StoreError> {
        let operation = self.script.operation;
        let asks = [Ask::Script(self)];
        let reply = run_all_slowly(operation, &asks, link).await?.pop();
        Ok(reply.unwrap_or(Value::Nil))
    }
}

/// What is asked of the server in one go with others.
pub(crate) enum Ask {
    Script(Call),
    Plain(Cmd),
}

/// As [`Call::run_slowly`], several calls and other commands in one go and in order: a connection of the pool costs about as
/// much as a call.
///
/// # Errors
///
/// The first that the server's answers hold, as it is sorted by [`StoreError`].
pub(crate) async fn run_all_slowly(
    operation: &'static str,
    asks: &[Ask],
    link: &Link,
) -> Result<Vec<Value>, StoreError> {
    if asks.is_empty() {
        return Ok(Vec::new());
    }
    let mut by_digest = redis::Pipeline::with_capacity(asks.len());
    for ask in asks {
        by_digest.add_command(match ask {
            Ask::Script(call) => call.command("EVALSHA", call.script.digest()),
            Ask::Plain(command) => command.clone(),
        });
    }
    let mut replies = link.slowly_each(operation, &by_digest).await?;
    let is_unknown =
        |reply: &Value| value::server_error(reply).is_some_and(|(code, _)| code == "NOSCRIPT");
    let Some(from) = replies.iter().position(is_unknown) else {
        return link.checked(operation, replies);
    };
    // All from there on, so that they still run in order.
    let mut by_body = redis::Pipeline::with_capacity(asks.len());
    for ask in asks.iter().skip(from) {
        by_body.add_command(match ask {
            Ask::Script(call) => call.command("EVAL", call.script.body),
            Ask::Plain(command) => command.clone(),
        });
    }
    replies.truncate(from);
    let mut replies = link.checked(operation, replies)?;
    replies.extend(link.slowly(operation, &by_body).await?);
    Ok(replies)
}
