//! Deletes files that no longer count.

use std::collections::BTreeMap;

use crate::error::WriteError;
use crate::shared::{RetiredFile, Shared};

/// So many files are deleted before the catalogue is told.
const DELETED_AT_ONCE_MAX: usize = 1024;

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
        if let Err(error) = delete(shared, files) {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn delete(shared: &Shared, files: &[RetiredFile]) -> Result<(), WriteError> {
    let mut in_stores: BTreeMap<&str, Vec<&RetiredFile>> = BTreeMap::new();
    for file in files {
        in_stores.entry(&file.object_store).or_default().push(file);
    }
    let mut outcomes = Vec::new();
    for (name, files) in in_stores {
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let of_store = match shared.objects.get(name) {
            Some(objects) => objects.delete_durably(&paths),
            None => files.iter().map(|_| Err(WriteError::NoObjectStore { name: name.to_owned() })).collect(),
        };
        outcomes.extend(files.into_iter().zip(of_store));
    }
    let mut deleted = Vec::new();
    let mut first_error = None;
    for (file, outcome) in outcomes {
        match outcome {
            Ok(()) => deleted.push(file.id.clone()),
            Err(error) => {
                shared.retired.lock().push(file.clone());
                first_error.get_or_insert(error);
            }
        }
    }
    files.iter().filter_map(|file| file.file.as_ref()).for_each(|file| file.let_go());
    if let Err(error) = shared.runtime.block_on(shared.catalogue.forget(&deleted)) {
        // They are gone already; to delete them once more is no error.
        let gone = files.iter().filter(|file| deleted.contains(&file.id)).cloned();
        shared.retired.lock().extend(gone);
        return Err(error.into());
    }
    first_error.map_or(Ok(()), Err)
}
