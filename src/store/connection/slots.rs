//! Which slot of a cluster a command belongs to.

use redis::{Arg, Cmd};

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key: of its hash tag, if it has one.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, as the cluster's specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |mut crc, byte| {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = match crc & 0x8000 {
                0 => crc << 1,
                _ => (crc << 1) ^ 0x1021,
            };
        }
        crc
    })
}

/// The slot of a command by its first key; `None` for one without keys. Knows the commands that the store uses: their
/// keys, where they have several, are always of one slot.
pub(super) fn slot_of_command(command: &Cmd) -> Option<u16> {
    let mut words = command.args_iter().map(|arg| match arg {
        Arg::Simple(word) => word,
        _ => &[][..],
    });
    let name = words.next()?.to_ascii_uppercase();
    let key = match &name[..] {
        b"INFO" | b"PING" | b"SCAN" | b"WAIT" | b"CLUSTER" | b"ASKING" | b"SENTINEL" => None,
        b"XGROUP" | b"XINFO" | b"OBJECT" | b"MEMORY" => words.nth(1),
        b"EVAL" | b"EVALSHA" | b"EVAL_RO" | b"EVALSHA_RO" => match words.nth(1)? {
            b"0" => None,
            _ => words.next(),
        },
        b"XREAD" | b"XREADGROUP" => {
            words.find(|word| word.eq_ignore_ascii_case(b"STREAMS"))?;
            words.next()
        }
        _ => words.next(),
    };
    key.map(slot_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // From CLUSTER KEYSLOT.
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"pombo:{foo}:queue:1"), slot_of(b"foo"));
        assert_eq!(slot_of(b"{}foo"), slot_of(b"{}foo"));
        assert_ne!(slot_of(b"{}foo"), slot_of(b"foo"));
        assert_eq!(slot_of(b""), 0);
    }

    #[test]
    fn a_command_belongs_to_the_slot_of_its_first_key() {
        let of = |words: &str| {
            let mut words = words.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            words.for_each(|word| {
                command.arg(word);
            });
            slot_of_command(&command)
        };
        let foo = Some(12_182);
        for command in [
            "XADD foo * a b",
            "xack foo g 1-1",
            "XINFO STREAM foo",
            "XGROUP CREATE foo g 0",
            "EVALSHA abc 2 foo {foo}1 x",
            "EVAL body 1 foo",
            "XREADGROUP GROUP g c COUNT 5 BLOCK 10 STREAMS foo >",
            "XREAD BLOCK 10 STREAMS foo {foo}2 0 0",
        ] {
            assert_eq!(of(command), foo, "{command}");
        }
        for command in ["INFO", "SCAN 0", "EVAL body 0", "WAIT 1 50"] {
            assert_eq!(of(command), None, "{command}");
        }
    }
}
