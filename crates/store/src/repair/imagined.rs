//! The catalogue of a dry run: it begins as the real one, takes what a repair would commit, and forgets it at the end.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tracehouse_catalogue::{
    Catalogue, CatalogueContents, CatalogueError, Changes, Commit, FileRecord, LegacyDescription, NoteKind, Retirement,
    Revision, SqliteCatalogue,
};

pub(super) struct ImaginedCatalogue {
    contents: Mutex<CatalogueContents>,
    /// For what is read file by file. `None`: there is none.
    read_only: Option<Arc<SqliteCatalogue>>,
}

impl ImaginedCatalogue {
    pub(super) fn new(contents: CatalogueContents, read_only: Option<Arc<SqliteCatalogue>>) -> Self {
        Self { contents: Mutex::new(contents), read_only }
    }
}

fn apply(contents: &mut CatalogueContents, commit: Commit) {
    contents.damaged_rows.retain(|row| !commit.drop_damaged.contains(&row.row));
    let is_dropped = |kind: NoteKind, row: Option<i64>| row.is_some_and(|row| commit.drop_notes.contains(&(kind, row)));
    contents.damaged_notes.retain(|note| !is_dropped(note.kind, note.row));
    contents.files.extend(commit.add);
    contents.files.sort_unstable_by(|left, right| left.id.cmp(&right.id));
    let change = |files: &mut Vec<FileRecord>, id: &str, change: &dyn Fn(&mut FileRecord)| {
        files.iter_mut().filter(|file| file.id == id).for_each(change);
    };
    for (id, reason) in commit.retire {
        let retired = Some(Retirement { at: commit.retired_at, reason });
        change(&mut contents.files, &id, &|file| file.retired.clone_from(&retired));
    }
    for restored in commit.restore {
        change(&mut contents.files, &restored.id, &|file| file.clone_from(&restored));
    }
    for (id, lost_spans) in commit.lost_spans {
        change(&mut contents.files, &id, &|file| file.lost_spans = lost_spans);
    }
    for position in commit.log_positions {
        let is_same = |known: &tracehouse_catalogue::LogPosition| {
            known.log == position.log && (known.tenant == position.tenant || position.tenant.is_none())
        };
        contents.log_positions.retain(|known| !is_same(known) || known.position > position.position);
        contents.log_positions.push(position);
    }
    for (name, value) in commit.meta {
        let is_mended = |kind: NoteKind, known: Option<&str>| kind == NoteKind::Meta && known == Some(&*name);
        contents.damaged_notes.retain(|note| !is_mended(note.kind, note.name.as_deref()));
        if let Some(names) = &mut contents.meta_names {
            names.insert(name.clone());
        }
        contents.meta.insert(name, value);
    }
}

#[async_trait]
impl Catalogue for ImaginedCatalogue {
    async fn load(&self) -> Result<CatalogueContents, CatalogueError> {
        Ok(self.contents.lock().clone())
    }

    async fn commit(&self, commit: Commit) -> Result<(), CatalogueError> {
        apply(&mut self.contents.lock(), commit);
        Ok(())
    }

    async fn forget(&self, file_ids: &[String]) -> Result<(), CatalogueError> {
        self.contents.lock().files.retain(|file| file.retired.is_none() || !file_ids.contains(&file.id));
        Ok(())
    }

    async fn changes_since(&self, _: Revision) -> Result<Changes, CatalogueError> {
        Ok(Changes::Everything)
    }

    async fn legacy_description(&self, file_id: &str) -> Result<Option<LegacyDescription>, CatalogueError> {
        match &self.read_only {
            Some(catalogue) => catalogue.legacy_description(file_id).await,
            None => Ok(None),
        }
    }
}
