//! Events as the bytes that Redis is sent, made at the cost of a copy: what adds them shares the machine with what is
//! measured.

use std::io::Write as _;

use super::counts::{STAMP, STAMP_DIGITS};

/// What stands around the bytes that fill a payload up.
const FILL: &[u8] = b",\"fill\":\"";
const END: &[u8] = b"\"}";

/// Makes commands for events whose payloads have one size.
pub struct Events {
    /// What follows the stamp, with what ends the command.
    tail: Vec<u8>,
    /// What precedes it, from the payload's field on.
    head: Vec<u8>,
}

impl Events {
    /// For payloads of `bytes` bytes, or a little more where that is less than what a payload takes.
    pub fn new(bytes: usize) -> Events {
        let around = STAMP.len() + STAMP_DIGITS + FILL.len() + END.len();
        let fill = bytes.saturating_sub(around);
        let mut tail = FILL.to_vec();
        tail.resize(FILL.len() + fill, b'x');
        tail.extend_from_slice(END);
        let mut head = Vec::new();
        let _ = write!(head, "$7\r\npayload\r\n${}\r\n{STAMP}", around + fill);
        Events { tail, head }
    }

    /// The payload alone, of an event that is added at `at_us` (Unix µs).
    pub fn payload(&self, at_us: u64) -> Vec<u8> {
        let mut payload = format!("{STAMP}{at_us:016}").into_bytes();
        payload.extend_from_slice(&self.tail);
        payload
    }

    /// Appends the command that adds the event `number`, of type `kind`, at `at_us` (Unix µs), to the stream `events`.
    pub fn write(&self, commands: &mut Vec<u8>, number: u64, kind: &str, at_us: u64) {
        // Writing to memory does not fail. The id has always as many digits, so that its length is known.
        let _ = write!(
            commands,
            "*9\r\n$4\r\nXADD\r\n$6\r\nevents\r\n$1\r\n*\r\n$2\r\nid\r\n$10\r\ne{number:09}\r\n\
             $4\r\ntype\r\n${}\r\n{kind}\r\n",
            kind.len(),
        );
        commands.extend_from_slice(&self.head);
        let _ = write!(commands, "{at_us:016}");
        commands.extend_from_slice(&self.tail);
        commands.extend_from_slice(b"\r\n");
    }
}

/// Takes whole replies off the front of `bytes`: how many there were.
///
/// # Errors
///
/// The text of a reply that is an error, or that is no entry's id.
pub fn take_ids(bytes: &mut Vec<u8>) -> Result<u64, String> {
    let (mut taken, mut ids) = (0, 0);
    while let Some(line) = line_at(bytes, taken) {
        if line.first() != Some(&b'$') {
            return Err(String::from_utf8_lossy(line).into_owned());
        }
        // An id has no line end within it.
        let after = taken + line.len() + 2;
        let Some(id) = line_at(bytes, after) else {
            break;
        };
        taken = after + id.len() + 2;
        ids += 1;
    }
    bytes.drain(..taken);
    Ok(ids)
}

fn line_at(bytes: &[u8], from: usize) -> Option<&[u8]> {
    let rest = bytes.get(from..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    rest.get(..end)
}
