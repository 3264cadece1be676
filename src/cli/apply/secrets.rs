//! Hands out secrets that Pombo generated: to a file, never to a terminal or a log.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::webhook::Webhook;

/// Writes a line `<id> = "<secret>"` for each webhook, as TOML, in the place of what the file held. The file is readable
/// by its owner alone from its first byte on.
///
/// # Errors
///
/// The file, or the new one beside it that takes its place, cannot be written.
pub fn write(path: &Path, webhooks: &[Webhook]) -> io::Result<()> {
    let mut text = Zeroizing::new(String::new());
    for webhook in webhooks {
        if let Some(secret) = webhook.secrets.first() {
            let quoted = Zeroizing::new(toml::Value::from(secret.expose()).to_string());
            text.push_str(&webhook.spec.id);
            text.push_str(" = ");
            text.push_str(&quoted);
            text.push('\n');
        }
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::webhook::WebhookSpec;

    #[test]
    fn the_file_is_its_owners_alone_even_if_it_was_not() {
        let spec: WebhookSpec = serde_json::from_str(
            r#"{"id":"w1","name":"n","url":"https://example.com/","events":["*"]}"#,
        )
        .unwrap();
        let webhook = Webhook {
            spec,
            uid: "u".into(),
            version: 1,
            secrets: vec!["whsec_new".into(), "whsec_old".into()],
            rotation_ends_ms: None,
            disabled: None,
            managed_by: None,
            created_ms: 0,
            updated_ms: 0,
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets.toml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, &[webhook]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "w1 = \"whsec_new\"\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
