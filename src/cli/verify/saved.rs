//! A request as people save it: raw HTTP, or the lines that `curl -v` prints.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A request out of a file.
#[derive(Debug)]
pub(super) struct SavedRequest<'a> {
    pub(super) headers: HeaderMap,
    /// As long as `content-length` says, where that is less than what was saved.
    pub(super) body: &'a [u8],
    saved_body: usize,
}

impl<'a> SavedRequest<'a> {
    /// Headers, one a line, an empty line, and the body, which is everything after it. A request line, the `>` of curl
    /// before each line, curl's own remarks (`*`), its answer (`<`) and HTTP/2's `:path` and the like are passed over;
    /// lines may end as in Unix or as in HTTP.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        let mut rest = bytes;
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            let (line, after) = split_line(rest);
            rest = after;
            let line = std::str::from_utf8(line)
                .map_err(|_| format!("line {number} of its head is no text"))?;
            let line = match line.as_bytes().first() {
                Some(b'*' | b'<') => continue,
                Some(b'>') => line[1..].trim_start(),
                _ => line,
            };
            if line.is_empty() {
                break;
            }
            if line.starts_with(':') || is_request_line(line) {
                continue;
            }
            let (name, value) = header(line)
                .ok_or_else(|| format!("line {number} is neither a header nor empty"))?;
            headers.append(name, value);
        }
        if headers.is_empty() {
            return Err("it has no headers".to_owned());
        }
        if headers.contains_key(TRANSFER_ENCODING) {
            return Err(
                "its body is saved in chunks (transfer-encoding), not as it was signed".to_owned(),
            );
        }
        let told = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(usize::MAX);
        Ok(Self {
            headers,
            body: &rest[..rest.len().min(told)],
            saved_body: rest.len(),
        })
    }

    /// The body without the line end that editors and shells add, if it has one and its length is not told.
    pub(super) fn body_without_line_end(&self) -> Option<&'a [u8]> {
        if self.headers.contains_key(CONTENT_LENGTH) {
            return None;
        }
        let body = self.body.strip_suffix(b"\n")?;
        Some(body.strip_suffix(b"\r").unwrap_or(body))
    }

    /// What is odd about the body's length.
    pub(super) fn remark(&self) -> Option<String> {
        let told: usize = self
            .headers
            .get(CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .parse()
            .ok()?;
        let saved = self.saved_body;
        if saved < told {
            Some(format!(
                "the saved body has {saved} bytes, but content-length says {told}: a part of it is missing"
            ))
        } else if saved > told {
            Some(format!(
                "of the saved body only the first {told} bytes count, as content-length says"
            ))
        } else {
            None
        }
    }
}

/// The first line, without its end, and what comes after it.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &bytes[bytes.len()..]),
    };
    (line.strip_suffix(b"\r").unwrap_or(line), rest)
}

fn is_request_line(line: &str) -> bool {
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default();
    let version = words.next_back().unwrap_or_default();
    !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_uppercase())
        && version.starts_with("HTTP/")
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
    let value = HeaderValue::from_str(value.trim()).ok()?;
    Some((name, value))
}
