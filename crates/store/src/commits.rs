//! Commits that add files which were just written, also when nobody can tell what became of one.

use std::collections::HashSet;

use tracehouse_catalogue::{CatalogueContents, Commit, FileRecord};

use crate::error::{WriteError, chain};
use crate::shared::Shared;
use tracehouse_log::is_stored;

impl Shared {
    /// Commits a change that adds files which were just written. If it fails they are removed again, or an engine that
    /// reads the folder with a glob would count their spans twice.
    pub(crate) fn commit_new_files(&self, commit: Commit) -> Result<(), WriteError> {
        let Err(error) = self.runtime.block_on(self.catalogue.commit(commit.clone())) else {
            self.confirm_files(&commit.add);
            return Ok(());
        };
        // A commit may have been done though its answer was lost: removing its files would lose their spans, and writing
        // them once more would double them.
        let Ok(contents) = self.runtime.block_on(self.catalogue.load()) else {
            self.unresolved.lock().push(commit);
            return Err(error.into());
        };
        if was_done(&contents, &commit) {
            tracing::warn!(error = chain(&error), "a commit reported an error but was done");
            self.confirm_files(&commit.add);
            return Ok(());
        }
        self.discard_files(&commit.add);
        Err(error.into())
    }

    /// Finds out what became of commits whose outcome could not be told. Comes before every other change of that kind.
    pub(crate) fn resolve_commits(&self) -> Result<(), WriteError> {
        let _no_other_change = self.files_lock.lock();
        let mut unresolved = self.unresolved.lock();
        if unresolved.is_empty() {
            return Ok(());
        }
        let contents = self.runtime.block_on(self.catalogue.load())?;
        for commit in unresolved.drain(..) {
            if was_done(&contents, &commit) {
                tracing::warn!(files = commit.add.len(), "a commit whose outcome was unknown was done");
                self.apply(commit);
            } else {
                self.discard_files(&commit.add);
            }
        }
        Ok(())
    }

    /// Shows queries what a commit did.
    fn apply(&self, commit: Commit) {
        self.confirm_files(&commit.add);
        let mut files: Vec<_> = commit.add.into_iter().map(|record| self.span_file(record)).collect();
        for position in commit.log_positions {
            let tenants = position.tenant.map_or_else(|| self.state.tenant_ids(), |tenant| vec![tenant]);
            self.state.flushed(&tenants, position.position, std::mem::take(&mut files));
        }
        let retired: HashSet<String> = commit.retire.into_iter().map(|(id, _)| id).collect();
        let mut replaced = self.state.all_files();
        replaced.retain(|file| retired.contains(&file.record.id));
        self.state.change_files(files, &retired.iter().cloned().collect::<Vec<_>>());
        self.retire_later(&replaced);
        self.let_go_of_held_back(&retired);
    }

    fn confirm_files(&self, files: &[FileRecord]) {
        files.iter().for_each(|record| self.objects.confirm(&record.path));
    }

    /// Removes files that were written but never committed.
    pub(crate) fn discard_files(&self, written: &[FileRecord]) {
        for record in written {
            if let Err(error) = self.objects.delete(&record.path) {
                tracing::warn!(error = chain(&error), path = record.path, "removing an uncommitted file failed");
            }
        }
    }
}

/// Whether the catalogue knows all that a commit was to tell it. Commits are atomic, so a part of it is none of it.
fn was_done(contents: &CatalogueContents, commit: &Commit) -> bool {
    let known: HashSet<&str> = contents.files.iter().map(|file| file.id.as_str()).collect();
    let live = contents.files.iter().filter(|file| file.retired.is_none());
    let live: HashSet<&str> = live.map(|file| file.id.as_str()).collect();
    commit.add.iter().all(|record| known.contains(record.id.as_str()))
        && commit.retire.iter().all(|(id, _)| !live.contains(id.as_str()))
        && commit.log_positions.iter().all(|position| is_stored(&contents.log_positions, position))
}
