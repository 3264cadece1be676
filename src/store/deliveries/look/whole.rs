//! Looks at a history without a script: its entries are read whole, which costs Redis a small part of what ROWS does.
//!
//! They are small as long as payloads are no part of them. Where the settings keep payloads, histories are looked at by ROWS,
//! which leaves them in Redis; and so they all are from the first payload on that is met because other settings left it there.

use redis::{Cmd, Value};

use super::{Look, MOST_LOOKED_AT, Place, Row, RowFilter, Seen, Shelf, Waiting, cost, range};
use crate::store::codec;
use crate::store::error::StoreError;
use crate::store::value::{self, RawEntry};

/// What one look may bring, should there be payloads after all and each of them as long as any that is accepted: that holds
/// Redis up for a moment, but only until the first look has told.
const MOST_BYTES: usize = 128 << 20;
/// So many entries are worth a look even then.
const LEAST_AT_ONCE: usize = 8;

/// Most entries of one look where payloads have `longest_payload` bytes at most.
pub(super) fn most_at_once(longest_payload: usize) -> usize {
    (MOST_BYTES / longest_payload.max(1)).clamp(LEAST_AT_ONCE, MOST_LOOKED_AT)
}

/// How many entries one look asks for, `most_at_once` at most.
fn count(filter: &RowFilter, look: &Look, most_at_once: usize) -> usize {
    let most = look.most_entries.clamp(1, most_at_once);
    match *filter == RowFilter::default() {
        true => most.min(look.most_rows.max(1)),
        false => most,
    }
}

/// The command of one look.
pub(super) fn command(key: &str, filter: &RowFilter, look: &Look, most_at_once: usize) -> Cmd {
    let range = range(look);
    let mut command = redis::cmd(if range.newest_first {
        "XREVRANGE"
    } else {
        "XRANGE"
    });
    command.arg(key).arg(range.from).arg(range.to);
    command.arg("COUNT").arg(count(filter, look, most_at_once));
    command
}

/// Reads its reply: what was seen, and whether there were payloads. What cannot be read is told in the log and left out.
pub(super) fn read(
    uid: &str,
    filter: &RowFilter,
    look: &Look,
    most_at_once: usize,
    reply: Value,
) -> Result<(Seen, bool), StoreError> {
    let entries = value::entries(reply)?;
    let (mut looked_at, mut bytes, mut has_payloads) = (0, 0, false);
    let (mut rows, mut last) = (Vec::new(), None);
    let mut unreadable: Option<(StoreError, usize)> = None;
    for entry in &entries {
        let fields = entry.fields.as_deref().unwrap_or_default();
        bytes += fields.iter().map(|(_, value)| value.len()).sum::<usize>();
        has_payloads |= entry.get("p").is_some();
        looked_at += 1;
        last = Some(entry.id);
        match row(entry) {
            Ok(row) if wants(filter, &row) => rows.push(row),
            Ok(_) => {}
            Err(error) => unreadable.get_or_insert((error, 0)).1 += 1,
        }
        if rows.len() == look.most_rows.max(1) {
            break;
        }
    }
    if let Some((error, count)) = unreadable {
        tracing::warn!(uid, count, %error, "deliveries cannot be listed; of the first");
    }
    let seen = Seen {
        rows,
        cost: cost(looked_at, bytes),
        last,
        ended: looked_at == entries.len() && looked_at < count(filter, look, most_at_once),
    };
    Ok((seen, has_payloads))
}

fn row(entry: &RawEntry) -> Result<Row, StoreError> {
    let head = codec::read_head(entry)?;
    Ok(Row {
        place: Place {
            shelf: Shelf::History,
            id: entry.id,
        },
        entry_id: head.entry_id,
        stream: head.stream,
        event_type: head.event_type,
        event_id: head.event_id,
        due_ms: None,
    })
}

/// Whether a row of a history is wanted: what ROWS does.
fn wants(filter: &RowFilter, row: &Row) -> bool {
    let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|one| one == text);
    let arrived_ms = row.entry_id.ms;
    is(&filter.event_type, &row.event_type)
        && is(&filter.event_id, &row.event_id)
        && filter.since_ms.is_none_or(|since| arrived_ms >= since)
        && filter.until_ms.is_none_or(|until| arrived_ms < until)
        && filter.waiting != Some(Waiting::ForItsTime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EntryId;
    use crate::store::deliveries::From;

    fn look(most_entries: usize, most_rows: usize) -> Look {
        Look {
            from: From::Before(None),
            floor_ms: 5,
            now_ms: 100,
            most_entries,
            most_rows,
        }
    }

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    /// An entry that came at `ms`, whose event came then, too; with a payload, if there is one.
    fn entry(ms: u64, kind: &str, payload: Option<&str>) -> Value {
        let text = format!(
            r#"{{"v":3,"i":"e{ms}","t":"{kind}","n":"default","o":"events","e":"{ms}-0","a":1,"l":[]}}"#
        );
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let mut fields = vec![bulk("d"), bulk(&text)];
        fields.extend(
            payload
                .into_iter()
                .flat_map(|payload| [bulk("p"), bulk(payload)]),
        );
        Value::Array(vec![bulk(&format!("{ms}-0")), Value::Array(fields)])
    }

    fn packed(command: &Cmd) -> String {
        let words = command.args_iter().map(|word| match word {
            redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_look_asks_for_no_more_than_it_needs_and_for_so_much_at_once_at_most() {
        let all = RowFilter::default();
        let typed = RowFilter {
            event_type: Some("a".into()),
            ..RowFilter::default()
        };
        let asked = |filter, look: &Look| packed(&command("h", filter, look, 128));
        assert_eq!(asked(&all, &look(500, 10)), "XREVRANGE h + 5-0 COUNT 10");
        assert_eq!(asked(&all, &look(500, 300)), "XREVRANGE h + 5-0 COUNT 128");
        assert_eq!(asked(&typed, &look(500, 10)), "XREVRANGE h + 5-0 COUNT 128");
        let after = Look {
            from: From::After {
                after: id(1),
                until: id(9),
            },
            ..look(500, 10)
        };
        // What has expired is not looked at.
        let oldest = format!("XRANGE h (4-{} 9-0 COUNT 10", u64::MAX);
        assert_eq!(asked(&all, &after), oldest);
    }

    #[test]
    fn one_look_is_bounded_by_the_largest_payload_there_may_be() {
        assert_eq!(most_at_once(1 << 20), 128);
        assert_eq!(most_at_once(64 << 20), LEAST_AT_ONCE);
        assert_eq!(most_at_once(0), MOST_LOOKED_AT);
    }

    #[test]
    fn rows_are_those_that_are_wanted_and_the_look_goes_on_from_the_last_that_was_needed() {
        let entries = [(9, "a"), (8, "b"), (7, "a"), (6, "a")];
        let reply = Value::Array(entries.map(|(ms, kind)| entry(ms, kind, None)).to_vec());
        let typed = RowFilter {
            event_type: Some("a".into()),
            ..RowFilter::default()
        };
        let (seen, has_payloads) = read("u", &typed, &look(500, 2), 128, reply.clone()).unwrap();
        let found: Vec<u64> = seen.rows.iter().map(|row| row.entry_id.ms).collect();
        assert_eq!(
            (found, seen.last, seen.ended),
            (vec![9, 7], Some(id(7)), false)
        );
        assert!(!has_payloads);
        let since = RowFilter {
            since_ms: Some(7),
            until_ms: Some(9),
            ..RowFilter::default()
        };
        let (seen, _) = read("u", &since, &look(500, 10), 128, reply).unwrap();
        let found: Vec<&str> = seen.rows.iter().map(|row| row.event_id.as_str()).collect();
        assert_eq!((found, seen.cost, seen.ended), (vec!["e8", "e7"], 4, true));
    }

    #[test]
    fn payloads_are_noticed_and_what_cannot_be_read_is_left_out() {
        let strange = Value::Array(vec![Value::BulkString(b"8-0".to_vec()), Value::Nil]);
        let reply = Value::Array(vec![entry(9, "a", Some("{}")), strange]);
        let (seen, has_payloads) =
            read("u", &RowFilter::default(), &look(9, 2), 128, reply).unwrap();
        assert_eq!((seen.rows.len(), seen.last), (1, Some(id(8))));
        assert!(has_payloads && !seen.ended);
        let (seen, _) = read(
            "u",
            &RowFilter::default(),
            &look(9, 2),
            128,
            Value::Array(vec![]),
        )
        .unwrap();
        assert!(seen.ended && seen.last.is_none());
    }
}
