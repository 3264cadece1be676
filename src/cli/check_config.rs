//! `pombo check-config`: are the settings fine, and which are in force?

use std::io::{self, Write};

use super::Given;
use crate::exit::Exit;
use crate::settings::Settings;

/// Prints the settings in force to `out`, as TOML with secrets hidden; or to `errors` everything that is wrong with them.
///
/// Settings without a source are fine for every command but `serve`, so that there is a remark and no failure.
pub fn check_config(
    given: Given<'_>,
    env: impl Iterator<Item = (String, String)>,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> io::Result<Exit> {
    match Settings::load(given.profile, given.config, env) {
        Ok(settings) => {
            out.write_all(settings.to_toml_redacted().as_bytes())?;
            out.flush()?;
            if settings.require_sources().is_err() {
                writeln!(
                    errors,
                    "note: there is no [[sources]], without which `pombo serve` does not start"
                )?;
            }
            Ok(Exit::Ok)
        }
        Err(error) => {
            writeln!(errors, "{error}")?;
            Ok(Exit::Config)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(config: &str, env: &[(&str, &str)]) -> (Exit, String, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pombo.toml");
        std::fs::write(&file, config).unwrap();
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let env = env
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let exit = check_config(
            Given {
                profile: None,
                config: Some(&file),
            },
            env,
            &mut out,
            &mut errors,
        )
        .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (exit, text(out), text(errors))
    }

    #[test]
    fn effective_settings_are_printed_with_secrets_hidden() {
        let (exit, out, errors) = run(
            "[redis]\nurl = \"redis://u:hunter2@host:1\"\n[[sources]]\nstream = \"events\"\n",
            &[("POMBO_RETRY__MAX_ATTEMPTS", "3")],
        );
        assert_eq!((exit, errors.as_str()), (Exit::Ok, ""));
        assert!(out.contains("url = \"redis://u:***@host:1\"\n"), "{out}");
        assert!(out.contains("max_attempts = 3\n"), "{out}");
        assert!(out.contains("[[sources]]\nname = \"events\"\n"), "{out}");
        assert!(!out.contains("hunter2"), "{out}");
    }

    #[test]
    fn wrong_settings_end_with_the_code_for_it_and_print_nothing_else() {
        let (exit, out, errors) = run("[retry]\nfirst = \"soon\"\n", &[]);
        assert_eq!((exit, out.as_str()), (Exit::Config, ""));
        assert!(errors.contains("retry.first: \"soon\""), "{errors}");
    }

    #[test]
    fn settings_without_a_source_are_remarked_on() {
        let (exit, out, errors) = run("", &[]);
        assert_eq!(exit, Exit::Ok);
        assert!(out.contains("[shutdown]"));
        assert!(errors.starts_with("note: there is no [[sources]]"));
    }
}
