//! Why a command ends before it is done, and with which exit code.

use std::io;

use crate::exit::Exit;
use crate::store::StoreError;

/// What went wrong with a command, in words for a terminal.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// How the process ends.
    pub exit: Exit,
    /// What is wrong, where, and what to do; empty if there is nobody left to tell.
    pub message: String,
}

impl Trouble {
    /// Trouble that ends the process with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Trouble {
        Trouble {
            exit,
            message: message.into(),
        }
    }

    /// The same with `before` said first: what was being done, or what was done already.
    pub fn within(mut self, before: &str) -> Trouble {
        if !self.message.is_empty() {
            self.message = format!("{before}: {}", self.message);
        }
        self
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        let exit = match error {
            StoreError::Corrupt { .. } => Exit::Failure,
            _ => Exit::Unavailable,
        };
        Trouble::new(exit, error.to_string())
    }
}

impl From<io::Error> for Trouble {
    /// For standard output: a reader that has seen enough (`pombo dead list | head`) is no trouble.
    fn from(error: io::Error) -> Trouble {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Trouble::new(Exit::Ok, ""),
            _ => Trouble::new(Exit::Failure, format!("cannot write the output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_seen_enough_is_no_trouble() {
        let trouble = Trouble::from(io::Error::from(io::ErrorKind::BrokenPipe)).within("listing");
        assert_eq!((trouble.exit, trouble.message.as_str()), (Exit::Ok, ""));
    }
}
