//! Commits that add files which were just written, or move positions of the log, also when nobody can tell what became of one.
//!
//! A position is moved by who knows where it is: what the catalogue said at the start, moved by each commit since. Should it be
//! elsewhere, another process writes the same catalogue, and the log of neither tells all that is not stored yet. This one then
//! stops, for good: it does not know what the other has done.

use std::collections::HashSet;

use tracehouse_catalogue::{CatalogueContents, CatalogueError, Commit, FileRecord};

use crate::error::{WriteError, chain};
use crate::held_back::to_remember;
use crate::notes::HELD_BACK_META;
use crate::shared::Shared;
use tracehouse_log::is_stored;

impl Shared {
    /// Commits a change that adds files which were just written, or moves positions of the log. If it fails the files are removed
    /// again, or an engine that reads the folder with a glob would count their spans twice.
    pub(crate) fn commit(&self, mut commit: Commit) -> Result<(), WriteError> {
        self.refuse_if_another_writes()?;
        commit.based_on = self.positions.lock().basis_of(&commit.log_positions);
        let Err(error) = self.runtime.block_on(self.catalogue.commit(commit.clone())) else {
            self.was_committed(&commit);
            return Ok(());
        };
        if let CatalogueError::PositionMoved { .. } = error {
            self.discard_files(&commit.add);
            self.end_as_another_writes(&error);
            return Err(error.into());
        }
        if let CatalogueError::PositionBack { .. } = error {
            self.discard_files(&commit.add);
            return Err(error.into());
        }
        // A commit may have been done though its answer was lost: removing its files would lose their spans, and writing
        // them once more would double them.
        let Ok(contents) = self.runtime.block_on(self.catalogue.load()) else {
            self.unresolved.lock().push(commit);
            return Err(error.into());
        };
        if was_done(&contents, &commit) {
            tracing::warn!(error = chain(&error), "a commit reported an error but was done");
            self.was_committed(&commit);
            return Ok(());
        }
        self.discard_files(&commit.add);
        Err(error.into())
    }

    fn was_committed(&self, commit: &Commit) {
        let mut positions = self.positions.lock();
        for to in &commit.log_positions {
            // One further on is known already.
            let _ = positions.move_to(to);
        }
        drop(positions);
        commit.add.iter().for_each(|record| self.objects.confirm(record));
    }

    /// From here on nothing of the catalogue is changed. What was acknowledged and not stored yet stays in memory, where it can be
    /// asked for, and in the log; more is not taken, as it could not be stored.
    fn end_as_another_writes(&self, error: &CatalogueError) {
        tracing::error!(error = chain(error), "spans are not accepted any more, and nothing is stored");
        let _ = self.another_writes.set(format!(
            "{error}. Until then no spans are accepted; those that were can be queried, and stay in the log at {}",
            self.config.log_dir.display()
        ));
    }

    /// Fails once another process was found to write the same catalogue.
    pub(crate) fn refuse_if_another_writes(&self) -> Result<(), WriteError> {
        let refused = |reason: &String| Err(WriteError::AnotherWrites { reason: reason.clone() });
        self.another_writes.get().map_or(Ok(()), refused)
    }

    /// Finds out what became of commits whose outcome could not be told. Comes before every other change of that kind.
    pub(crate) fn resolve_commits(&self) -> Result<(), WriteError> {
        self.refuse_if_another_writes()?;
        let _no_other_change = self.files_lock.lock();
        let mut unresolved = self.unresolved.lock();
        if unresolved.is_empty() {
            return Ok(());
        }
        let contents = self.runtime.block_on(self.catalogue.load())?;
        if unresolved.iter().any(|commit| commit.meta.iter().any(|(name, _)| name == HELD_BACK_META)) {
            // Perhaps a file counts in the catalogue that does not here: what is written now would not be compared with it.
            let meta = vec![to_remember(&self.absent.lock(), None)];
            self.runtime.block_on(self.catalogue.commit(Commit { meta, ..Commit::default() }))?;
        }
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
        self.was_committed(&commit);
        // Without files it moved positions over spans that stay in memory, as those that were repeated in the log do.
        let is_flush = !commit.add.is_empty();
        let mut files: Vec<_> = commit.add.into_iter().map(|record| self.span_file(record)).collect();
        for position in commit.log_positions.into_iter().filter(|_| is_flush) {
            let tenants = position.tenant.map_or_else(|| self.state.tenant_ids(), |tenant| vec![tenant]);
            let flushed = tenants.iter().map(|tenant| (tenant, position.position));
            self.state.flushed(flushed, std::mem::take(&mut files));
        }
        let retired: HashSet<String> = commit.retire.into_iter().map(|(id, _)| id).collect();
        let mut replaced = self.state.all_files();
        replaced.retain(|file| retired.contains(&file.record.id));
        self.state.change_files(files, &retired.iter().cloned().collect::<Vec<_>>());
        self.retire_later(&replaced);
        self.let_go_of_held_back(&retired);
    }

    /// Removes files that were written but never committed.
    pub(crate) fn discard_files(&self, written: &[FileRecord]) {
        for record in written {
            if let Err(error) = self.objects.delete(record) {
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
    let tells_nothing_else = commit.add.is_empty() && commit.retire.is_empty() && commit.log_positions.is_empty();
    if tells_nothing_else {
        return commit.meta.iter().all(|(name, value)| contents.meta.get(name) == Some(value));
    }
    commit.add.iter().all(|record| known.contains(record.id.as_str()))
        && commit.retire.iter().all(|(id, _)| !live.contains(id.as_str()))
        && commit.log_positions.iter().all(|position| is_stored(&contents.log_positions, position))
}
