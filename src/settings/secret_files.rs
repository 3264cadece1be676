//! Secrets that are given as files: `password_file` stands for `password`.

use std::io::Read;
use std::path::Path;

use config::{Map, Value, ValueKind};

use super::convert::{allowed, check_secret};
use super::error::{Problem, Report};
use super::schema::{self, Keys, Kind, join};

/// More than any secret needs; a wrong path may name something endless.
const LARGEST: u64 = 64 * 1024;

/// Replaces every `<secret>_file` of a table, and of the tables in it, by the secret that the file holds.
/// `given` says whether somebody gave a key, rather than the built-in defaults: only then do the two collide.
pub(super) fn resolve(path: &str, keys: Keys, table: &mut Map<String, Value>, report: &mut Report) {
    for key in schema::iter(keys) {
        let full = join(path, key.name);
        match key.kind {
            Kind::Section(inner) => {
                if let Some(ValueKind::Table(section)) =
                    table.get_mut(key.name).map(|value| &mut value.kind)
                {
                    resolve(&full, inner, section, report);
                }
            }
            Kind::Sections(inner) => {
                if let Some(ValueKind::Array(items)) =
                    table.get_mut(key.name).map(|value| &mut value.kind)
                {
                    for (index, item) in items.iter_mut().enumerate() {
                        if let ValueKind::Table(section) = &mut item.kind {
                            resolve(&format!("{full}[{index}]"), inner, section, report);
                        }
                    }
                }
            }
            Kind::Secret | Kind::Url => {
                if let Some(file) = table.remove(&format!("{}_file", key.name)) {
                    let origin = file.origin().unwrap_or_default().to_owned();
                    match secret(&full, key.kind, file, report) {
                        Some(secret) => {
                            table.insert(key.name.into(), Value::new(Some(&origin), secret));
                        }
                        None => report.mark_bad(&full),
                    }
                }
            }
            _ => {}
        }
    }
}

fn secret(full: &str, kind: Kind, file: Value, report: &mut Report) -> Option<String> {
    let file_key = format!("{full}_file");
    if report.given(full) {
        report.refuse(
            &[&file_key, full],
            format!("{full} is given too, and nobody can tell which of them you mean"),
            format!("either {full} or {file_key}; take one of them away"),
        );
        return None;
    }
    let origin = file.origin().unwrap_or_default().to_owned();
    let mut refuse = |reason: String, allowed: String| {
        report.add(Problem {
            key: file_key.clone(),
            origin: origin.clone(),
            reason,
            allowed,
            nearest: None,
        });
        None
    };
    let path = file.into_string().unwrap_or_default();
    // Whoever mistakes this key for the secret itself must not find it in a log.
    let shown = if path.starts_with(['/', '.']) {
        format!("the file {path}")
    } else {
        "the file that it names".into()
    };
    let text = match read(Path::new(&path)) {
        Ok(text) => text,
        Err(reason) => {
            return refuse(
                format!("{shown} {reason}"),
                "the path of a file that holds the secret".into(),
            );
        }
    };
    let trimmed = text.strip_suffix('\n').unwrap_or(&text);
    let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
    match check_secret(kind, trimmed) {
        Ok(()) => Some(trimmed.to_owned()),
        Err(reason) => refuse(format!("the content of {shown} {reason}"), allowed(kind)),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err("is larger than 64KiB, which is no secret".into());
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".into())
}
