//! `pombo openapi`: the API's description for programs.

use std::io::{self, Write};

use crate::api::docs;
use crate::exit::Exit;
use crate::settings::Settings;

/// Prints the OpenAPI document of an API with these settings.
///
/// # Errors
///
/// `out` cannot be written to.
pub fn run(settings: &Settings, out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<Exit> {
    match docs::document_text(settings) {
        Ok(text) => match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // A reader that has seen enough is no trouble.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(Exit::Ok),
        },
        Err(error) => {
            writeln!(errors, "pombo: the document cannot be written: {error}")?;
            Ok(Exit::Internal)
        }
    }
}
