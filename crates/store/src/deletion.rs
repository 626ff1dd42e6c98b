//! Deletes files that no longer count.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::WriteError;
use crate::objects::Deletion;
use crate::shared::{RetiredFile, Shared};

/// So many files are deleted before the catalogue is told.
const DELETED_AT_ONCE_MAX: usize = 1024;
/// How often a file that is nowhere is looked for: its folder may be on a disk that is not mounted, and nobody would know it any more
/// when it is back.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// After so long it is taken for deleted.
const MISSING_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Deletes files whose grace period is over, and forgets them once they can't come back. A file set aside as damaged stays.
/// Those that can't be deleted are tried again by the next call; the error is that of the first.
pub(crate) fn delete_retired(shared: &Shared) -> Result<(), WriteError> {
    let now = shared.clock.monotonic();
    let mut due: Vec<RetiredFile> = Vec::new();
    shared.retired.lock().retain(|file| {
        let is_later = now < file.delete_at;
        if !is_later {
            due.push(file.clone());
        }
        is_later
    });
    let mut first_error = None;
    for files in due.chunks(DELETED_AT_ONCE_MAX) {
        if let Err(error) = delete(shared, files, now) {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn delete(shared: &Shared, files: &[RetiredFile], now: Duration) -> Result<(), WriteError> {
    let mut in_stores: BTreeMap<&str, Vec<&RetiredFile>> = BTreeMap::new();
    for file in files {
        in_stores.entry(&file.object_store).or_default().push(file);
    }
    let mut deletions = Vec::new();
    for (name, files) in in_stores {
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let of_store = match shared.objects.get(name) {
            Some(objects) => objects.delete_durably(&paths),
            None => {
                let no_store = || Err(WriteError::NoObjectStore { name: name.to_owned() });
                files.iter().map(|_| Deletion { was_there: false, outcome: no_store() }).collect()
            }
        };
        deletions.extend(files.into_iter().zip(of_store));
    }
    let mut deleted = Vec::new();
    let mut first_error = None;
    for (file, Deletion { was_there, outcome }) in deletions {
        let is_deleted = file.is_deleted || was_there;
        let missing_since = Some(file.missing_since.unwrap_or(now));
        match outcome {
            Ok(()) if is_deleted || file.is_given_up(now) => deleted.push(file.id.clone()),
            Ok(()) => {
                let later = RetiredFile { missing_since, delete_at: now + LOOK_AGAIN, ..file.clone() };
                shared.retired.lock().push(later);
            }
            Err(error) => {
                shared.retired.lock().push(RetiredFile { is_deleted, ..file.clone() });
                first_error.get_or_insert(error);
            }
        }
    }
    files.iter().filter_map(|file| file.file.as_ref()).for_each(|file| file.let_go());
    if let Err(error) = shared.runtime.block_on(shared.catalogue.forget(&deleted)) {
        let gone = files.iter().filter(|file| deleted.contains(&file.id));
        shared.retired.lock().extend(gone.map(|file| RetiredFile { is_deleted: true, ..file.clone() }));
        return Err(error.into());
    }
    first_error.map_or(Ok(()), Err)
}

impl RetiredFile {
    fn is_given_up(&self, now: Duration) -> bool {
        self.missing_since.is_some_and(|since| now.saturating_sub(since) >= MISSING_MAX)
    }
}
