use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

/// The folder that holds everything kept, which belongs to this process as long as this lives.
pub(crate) struct DataDir {
    path: PathBuf,
    /// The operating system gives the lock back when the file is closed, however the process ends.
    _lock: File,
}

impl DataDir {
    /// Makes the folder if there is none and locks it.
    pub(crate) fn take(path: &Path) -> anyhow::Result<Self> {
        let unwritable = || format!("data_dir {} cannot be written; check who owns it", path.display());
        fs::create_dir_all(path).with_context(unwritable)?;
        let lock = File::create(path.join("LOCK")).with_context(unwritable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!(
                "data_dir {} is in use by another tracehouse; stop it, or set data_dir to another folder",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(anyhow!(error).context(format!("data_dir {} cannot be locked", path.display())))
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn belongs_to_one_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("new/data");
        let first = DataDir::take(&path).expect("nobody has it");
        let refused = DataDir::take(&path).map(|_| ()).expect_err("the first has it");
        assert!(refused.to_string().contains("in use by another tracehouse"), "{refused}");
        drop(first);
        DataDir::take(&path).expect("the first gave it back");
    }

    #[test]
    fn says_what_cannot_be_written() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        let refused = DataDir::take(&file.path().join("inside")).map(|_| ()).expect_err("a file is no folder");
        assert!(refused.to_string().contains("cannot be written"), "{refused}");
    }
}
