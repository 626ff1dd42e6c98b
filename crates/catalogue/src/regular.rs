//! SQLite opens the catalogue's files by itself, and a pipe in the place of one keeps it waiting for ever.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::CatalogueError;

/// What SQLite puts behind the catalogue's name to make those of its other files: commits that are not in the file itself yet,
/// an index of them, and what it has to undo before anything else.
pub(crate) const WAL_ENDING: &str = "-wal";
const SHM_ENDING: &str = "-shm";
pub(crate) const JOURNAL_ENDING: &str = "-journal";

/// One of SQLite's other files. They are beside the file that a link leads to.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).into_os_string();
    name.push(ending);
    name.into()
}

/// Fails if something else stands where SQLite will look for a file. Files may be missing, and a link may lead to one.
pub(crate) fn refuse_what_is_no_file(path: &Path) -> Result<(), CatalogueError> {
    let others = [WAL_ENDING, SHM_ENDING, JOURNAL_ENDING].map(|ending| beside(path, ending));
    for path in [path.to_owned()].into_iter().chain(others) {
        if let Some(what) = what_is_no_file(&path) {
            return Err(CatalogueError::NoFile { path, what });
        }
    }
    Ok(())
}

fn what_is_no_file(path: &Path) -> Option<&'static str> {
    let is_link = || fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match fs::metadata(path) {
        Ok(found) => (!found.is_file()).then(|| name_of(found.file_type())),
        // Through a link that leads nowhere SQLite would make a new file, where a disk may not be mounted.
        Err(_) if is_link() => Some("a link that leads to no file"),
        // There is none yet, or SQLite says what is wrong.
        Err(_) => None,
    }
}

fn name_of(kind: fs::FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}
