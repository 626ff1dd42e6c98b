//! Whether an open catalogue still stands under its name. SQLite goes on with files that were removed or renamed beneath it: each commit
//! succeeds, and the next start finds none of them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::regular::{WAL_ENDING, beside};

/// A catalogue's file, and the name under which it was opened.
pub(crate) struct Standing {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// What is new may stand in SQLite's log alone for a while; nothing that SQLite does leaves an empty file later.
    began_empty: bool,
    /// SQLite's write-ahead log. It is there while a connection writes.
    log: PathBuf,
}

impl Standing {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        let log = beside(path, WAL_ENDING);
        let began_empty = found.len() == 0;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino(), began_empty, log })
    }

    pub(crate) fn is_in_place(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(found) => {
                (found.dev(), found.ino()) == (self.device, self.inode) && (found.len() > 0 || self.began_empty)
            }
            // What can't be looked at is not known to be gone; SQLite says what is wrong.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// To be asked while a connection writes.
    pub(crate) fn has_its_log(&self) -> bool {
        !fs::metadata(&self.log).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}
