//! The streams that events come from, apart from Pombo's group on them: which there are, and how one gets another event.

use std::collections::BTreeSet;

use redis::Value;

use crate::event::EntryId;
use crate::store::connection::{Link, Master};
use crate::store::error::StoreError;
use crate::store::value;

/// Streams looked at per step of a discovery.
const SCAN_COUNT: usize = 1_000;

/// The streams behind `link` whose key matches the glob `pattern`, at most `most` of them; true if there are more.
///
/// # Errors
///
/// Whatever keeps Redis from answering.
pub async fn discover(
    link: &Link,
    pattern: &str,
    most: usize,
) -> Result<(Vec<String>, bool), StoreError> {
    let mut found = BTreeSet::new();
    for master in link.masters()? {
        on_master(&master, pattern, most, &mut found).await?;
    }
    let more = found.len() > most;
    Ok((found.into_iter().take(most).collect(), more))
}

/// Adds those of one server to `found`, until there are more than `most`.
async fn on_master(
    master: &Master,
    pattern: &str,
    most: usize,
    found: &mut BTreeSet<String>,
) -> Result<(), StoreError> {
    let mut cursor = "0".to_owned();
    loop {
        let mut commands = redis::pipe();
        commands
            .cmd("SCAN")
            .arg(&cursor)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(SCAN_COUNT);
        commands.arg("TYPE").arg("stream");
        let replies = master.slowly("look for source streams", &commands).await?;
        let mut parts = value::items(replies.into_iter().next().unwrap_or(Value::Nil)).into_iter();
        cursor = parts
            .next()
            .and_then(value::text)
            .unwrap_or_else(|| "0".to_owned());
        found.extend(
            parts
                .next()
                .map(value::items)
                .unwrap_or_default()
                .into_iter()
                .filter_map(value::text),
        );
        if cursor == "0" || found.len() > most {
            return Ok(());
        }
    }
}

/// Adds an event's fields to a stream, as the platform would. Returns the entry's id.
///
/// # Errors
///
/// Whatever keeps Redis from answering.
pub async fn add_entry(
    link: &Link,
    stream: &str,
    fields: &[(String, Vec<u8>)],
) -> Result<EntryId, StoreError> {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("*");
    for (name, value) in fields {
        command.arg(name).arg(value.as_slice());
    }
    let reply = link.connection()?.command("add an event", command).await?;
    value::entry_id(reply)
}
