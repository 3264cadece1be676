//! Redis' globs: whether a stream is one of those that a source stands for.

/// Whether `text` matches `pattern` as Redis' SCAN has it: `*`, `?`, `[a-c]`, `[^a]`, and `\` before what stands for itself.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // Where to go on when what follows the last `*` did not fit: the star takes one byte more.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, seen));
            at += 1;
            continue;
        }
        if let Some(length) = one(&pattern[at..], text[seen]) {
            at += length;
            seen += 1;
            continue;
        }
        match star {
            Some((after, from)) => {
                star = Some((after, from + 1));
                (at, seen) = (after, from + 1);
            }
            None => return false,
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// The length of the pattern's first element if it stands for `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b'[' => {
            let (fits, length) = set(&pattern[1..], byte);
            fits.then_some(length + 1)
        }
        literal => (*literal == byte).then_some(1),
    }
}

/// Whether `byte` is in the set that begins after its `[`, and the length of the set with its `]`.
fn set(pattern: &[u8], byte: u8) -> (bool, usize) {
    let negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    while let Some(&low) = pattern.get(at) {
        match low {
            b']' => return (found != negated, at + 1),
            b'\\' if at + 1 < pattern.len() => {
                found |= pattern[at + 1] == byte;
                at += 2;
            }
            _ if pattern.get(at + 1) == Some(&b'-') && at + 2 < pattern.len() => {
                let high = pattern[at + 2];
                found |= (low.min(high)..=low.max(high)).contains(&byte);
                at += 3;
            }
            _ => {
                found |= low == byte;
                at += 1;
            }
        }
    }
    // Without its end, Redis takes the set to reach as far as the pattern does.
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_are_those_of_redis() {
        for (pattern, text, expected) in [
            ("events", "events", true),
            ("events", "events2", false),
            ("events:*", "events:", true),
            ("events:*", "events:a:b", true),
            ("*:events", "a:b:events", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("[\\]]", "]", true),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
