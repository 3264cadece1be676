//! The folder that `pombo dev` keeps its things in: one run at a time, and a settings file for the other commands.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::exit::Exit;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another run has it.
    #[error(
        "`pombo dev` is running in {} already; stop it, or give this one another folder with --data",
        .0.display()
    )]
    Busy(PathBuf),
    /// It cannot be made, or something in it cannot be written.
    #[error("cannot use {}: {error}", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// The system's own words.
        error: io::Error,
    },
}

impl FolderError {
    /// The process's exit code for this error.
    pub fn exit(&self) -> Exit {
        match self {
            FolderError::Busy(_) => Exit::Busy,
            FolderError::Unusable { .. } => Exit::Failure,
        }
    }
}

/// The folder, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    shown: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, for nobody else to read, and takes it.
    ///
    /// # Errors
    ///
    /// See [`FolderError`].
    pub fn open(shown: &Path) -> Result<Folder, FolderError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |error| FolderError::Unusable { path, error }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(shown)
            .map_err(unusable(shown))?;
        let path = shown.canonicalize().map_err(unusable(shown))?;
        let file = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file)
            .map_err(unusable(&file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::Busy(shown.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(&file)(error)),
        }
        let folder = Folder {
            path,
            shown: shown.to_owned(),
            _lock: lock,
        };
        // It lies in the user's own work, and none of it is to be kept there.
        folder.write(".gitignore", "*\n")?;
        Ok(folder)
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path as the user wrote it.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file in it.
    ///
    /// # Errors
    ///
    /// [`FolderError::Unusable`].
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, FolderError> {
        let path = self.file(name);
        match std::fs::write(&path, text) {
            Ok(()) => Ok(path),
            Err(error) => Err(FolderError::Unusable { path, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_had_by_one_run_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/.pombo");
        let first = Folder::open(&path).unwrap();
        let refused = Folder::open(&path).unwrap_err();
        assert_eq!(refused.exit(), Exit::Busy);
        assert!(refused.to_string().contains("--data"), "{refused}");
        drop(first);
        Folder::open(&path).unwrap();
    }
}
