//! Bytes of strangers on a terminal: JSON is laid out, nothing is reordered, and nothing can move the cursor.

use serde::de::IgnoredAny;

/// Whether `bytes` are one JSON value.
pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Lays valid JSON out over lines, two spaces to a level, and stops soon after `limit` bytes of that. Every token stays as
/// it was written; a line is never broken within a string.
pub fn indent_json(json: &str, limit: usize) -> String {
    let mut laid_out = String::new();
    let mut depth = 0usize;
    let mut last = None;
    for token in Tokens(json) {
        if laid_out.len() > limit {
            break;
        }
        match token {
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                if !matches!(last, Some("{" | "[")) {
                    new_line(&mut laid_out, depth);
                }
                laid_out.push_str(token);
            }
            "," => {
                laid_out.push_str(token);
                new_line(&mut laid_out, depth);
            }
            ":" => laid_out.push_str(": "),
            _ => {
                if matches!(last, Some("{" | "[")) {
                    new_line(&mut laid_out, depth);
                }
                laid_out.push_str(token);
                if matches!(token, "{" | "[") {
                    depth += 1;
                }
            }
        }
        last = Some(token);
    }
    laid_out
}

/// Valid JSON on one line.
pub fn compact_json(json: &str) -> String {
    Tokens(json).collect()
}

fn new_line(text: &mut String, depth: usize) {
    text.push('\n');
    for _ in 0..depth.min(MAX_INDENT) {
        text.push_str("  ");
    }
}

/// JSON may be nested thousands deep, and each line would repeat that.
const MAX_INDENT: usize = 32;

/// The tokens of valid JSON, without the space between them.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start_matches([' ', '\t', '\r', '\n']);
        let length = match rest.as_bytes().first()? {
            b'"' => string_length(rest.as_bytes()),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => rest
                .find([' ', '\t', '\r', '\n', '{', '}', '[', ']', ',', ':'])
                .unwrap_or(rest.len()),
        };
        let (token, rest) = rest.split_at(length);
        self.0 = rest;
        Some(token)
    }
}

/// The length of the string that `bytes` begin with, quotes included.
fn string_length(bytes: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

/// Makes text safe for a terminal: characters that would move the cursor, change colours or reverse the reading direction
/// are shown as escapes. Line ends stay.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && (c.is_control() || is_invisible(c)) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// As [`escape`], and line ends are escaped too.
pub fn escape_line(text: &str) -> String {
    escape(text).replace('\n', "\\u{a}")
}

/// Characters that change how their neighbours are shown: marks of direction, joiners, line separators.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The first `limit` bytes of `text`, cut between characters, and how many bytes are left out.
pub fn bounded(text: &str, limit: usize) -> (&str, usize) {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (&text[..end], text.len() - end)
}

/// A body as lines for people, each indented: JSON is laid out, nothing can drive the terminal, and about `limit` bytes
/// are shown.
pub fn body_lines(body: &[u8], limit: usize) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(body) else {
        return vec![format!("  ({} bytes that are no text)", body.len())];
    };
    let laid_out = if is_json(body) {
        indent_json(text, limit)
    } else {
        text.to_owned()
    };
    let (shown, left_out) = bounded(&laid_out, limit);
    let mut lines: Vec<String> = escape(shown)
        .lines()
        .map(|line| format!("  {line}"))
        .collect();
    if left_out > 0 {
        lines.push(format!("  … (the body has {} bytes)", body.len()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_and_keeps_order_numbers_and_escapes() {
        let json = r#" {"z":1.50,"a":[1, {"b":"x,\"{}\\"}],"e":{},"n":[ ],"big":12345678901234567890123} "#;
        let expected = r#"{
  "z": 1.50,
  "a": [
    1,
    {
      "b": "x,\"{}\\"
    }
  ],
  "e": {},
  "n": [],
  "big": 12345678901234567890123
}"#;
        assert_eq!(indent_json(json, usize::MAX), expected);
        let compact =
            r#"{"z":1.50,"a":[1,{"b":"x,\"{}\\"}],"e":{},"n":[],"big":12345678901234567890123}"#;
        assert_eq!(compact_json(expected), compact);
    }

    #[test]
    fn deep_json_is_not_laid_out_without_bound() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(indent_json(&deep, 1000).len() < 2000);
    }

    #[test]
    fn scalars_are_json_too() {
        for json in ["null", "-1e5", "\"a b\"", "true"] {
            assert!(is_json(json.as_bytes()));
            assert_eq!(indent_json(json, usize::MAX), json);
        }
        assert!(!is_json(b"{\"a\":1} x"));
    }

    #[test]
    fn what_could_drive_a_terminal_is_escaped() {
        let nasty = "a\x1b[2Jb\r\u{202e}c\u{9b}d\n\u{200b}é€";
        let safe = "a\\u{1b}[2Jb\\u{d}\\u{202e}c\\u{9b}d\n\\u{200b}é€";
        assert_eq!(escape(nasty), safe);
        assert!(!escape_line(nasty).contains('\n'));
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(bounded("aé", 2), ("a", 2));
        assert_eq!(bounded("aé", 3), ("aé", 0));
        assert_eq!(bounded("aé", 99), ("aé", 0));
    }
}
