//! One process at a time may use a store's folders: a second one would remove files that the first is about to commit.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::OpenError;

/// Held as long as the store may write. The system lets go of it when the process ends, however that happens.
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    pub(crate) fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join("lock");
        let shown = path.display().to_string();
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
        let file = file.map_err(|source| OpenError::Folder { path: shown.clone(), source })?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(OpenError::InUse { path: shown }),
            Err(error) => tracing::warn!(%error, path = shown, "locking failed; nothing else may use this folder"),
        }
        Ok(Self { _file: file })
    }
}
