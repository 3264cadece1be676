//! The instance's lock file: whoever holds it is the only daemon of its name that lives on this host, so that it may
//! depose its predecessor at once instead of waiting for a lease to run out.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// Why the lock is not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error(
        "another pombo with the instance name {name:?} is running (it holds {path}); give this one another instance.name"
    )]
    Held {
        /// The instance's name.
        name: String,
        /// The file.
        path: String,
    },
    /// The file cannot be made or opened.
    #[error("cannot open the lock file {path} (instance.lock_file): {error}")]
    Open {
        /// The file.
        path: String,
        /// The system's own words.
        error: std::io::Error,
    },
}

/// The lock, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the instance `name`.
    ///
    /// # Errors
    ///
    /// See [`LockError`].
    pub fn take(path: &Path, name: &str) -> Result<Lock, LockError> {
        let shown = path.display().to_string();
        let open = |error| LockError::Open {
            path: shown.clone(),
            error,
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(open)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(open)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held {
                name: name.to_owned(),
                path: shown,
            }),
            Err(TryLockError::Error(error)) => Err(open(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_once_and_again_after_its_holder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("pombo.lock");
        let first = Lock::take(&path, "a").unwrap();
        let refused = Lock::take(&path, "a").unwrap_err().to_string();
        assert!(refused.contains("instance.name"), "{refused}");
        drop(first);
        Lock::take(&path, "a").unwrap();
    }
}
