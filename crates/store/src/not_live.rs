//! Files that the catalogue does not take for live ones, though this store does: a change that retires them is refused as a whole.
//!
//! Either a commit retired them whose answer was lost on the way, and they are deleted; or their rows were damaged or lost while
//! the store runs, and they count as unknown to the catalogue, as after a restart.

use std::sync::Arc;

use tracehouse_catalogue::{CatalogueError, FileRecord};

use crate::error::{WriteError, chain};
use crate::shared::Shared;
use crate::span_file::SpanFile;
use crate::survey::UnknownFile;

/// The file that a refused change was about.
pub(crate) fn not_live(error: &CatalogueError) -> Option<&str> {
    match error {
        CatalogueError::NotLive(id) | CatalogueError::DamagedRow { id, .. } => Some(id),
        _ => None,
    }
}

impl Shared {
    /// Takes a file out of what counts if a change of some files failed as the catalogue does not take that one for live: the others
    /// must not wait for it. Returns whether it did. The caller holds the lock of the list of files.
    pub(crate) fn settle_not_live(&self, error: &WriteError, files: &[Arc<SpanFile>]) -> bool {
        let WriteError::Catalogue(error) = error else { return false };
        let Some(id) = not_live(error) else { return false };
        let Some(file) = files.iter().find(|file| file.record.id == id) else { return false };
        if !self.unresolved.lock().is_empty() {
            // One of them may have put the file's spans into another.
            return false;
        }
        // What can't be found out now is tried again.
        let Ok(contents) = self.runtime.block_on(self.catalogue.load()) else { return false };
        match contents.files.iter().find(|record| record.id == id) {
            Some(record) if record.retired.is_some() => {
                tracing::warn!(path = record.path, "a file was retired, though the answer was lost");
                self.state.change_files(Vec::new(), std::slice::from_ref(&record.id));
                self.retire_later(std::slice::from_ref(file));
                true
            }
            // Whoever changed it has changed it back.
            Some(_) => false,
            None => {
                tracing::error!(path = file.record.path, error = chain(error), "a file does not count any more");
                self.set_unknown(&file.record);
                true
            }
        }
    }

    /// The catalogue does not know a file any more.
    fn set_unknown(&self, record: &FileRecord) {
        let mut absent = self.absent.lock();
        absent.held_back.retain(|held_back| held_back.id != record.id);
        absent.unknown.push(UnknownFile::in_its_place(&record.path));
        absent.report_gauges();
        let removed = std::slice::from_ref(&record.id);
        // At once: no question may see it neither among the files nor among those that are unknown.
        self.state.change_files_and_unreadable(Vec::new(), removed, absent.by_tenant());
    }
}
