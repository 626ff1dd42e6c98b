//! The object stores in which the files of a store lie, by their names: each file says which one holds it. Today there is one.

use std::io;
use std::sync::Arc;

use parquet::errors::ParquetError;
use tracehouse_catalogue::FileRecord;
use tracehouse_spanfile::{FileSource, Handles};

use crate::error::WriteError;
use crate::objects::Objects;

/// Those that are configured. What lies in another can't be read, nor removed.
const CONFIGURED: [&str; 1] = [FileRecord::LOCAL];

/// Whether files of an object store can be read.
pub(crate) fn is_configured(name: &str) -> bool {
    CONFIGURED.contains(&name)
}

pub(crate) struct ObjectStores {
    local: Objects,
}

impl ObjectStores {
    pub(crate) fn new(local: Objects) -> Self {
        Self { local }
    }

    /// The one that every store has, with the folder in which files are written before they have a name.
    pub(crate) fn local(&self) -> &Objects {
        &self.local
    }

    /// `None`: it is not configured.
    pub(crate) fn get(&self, name: &str) -> Option<&Objects> {
        (name == FileRecord::LOCAL).then_some(&self.local)
    }

    /// The same for who changes something there.
    pub(crate) fn needed(&self, name: &str) -> Result<&Objects, WriteError> {
        self.get(name).ok_or_else(|| WriteError::NoObjectStore { name: name.to_owned() })
    }

    /// As [`Objects::open`].
    pub(crate) fn open(
        &self,
        record: &FileRecord,
        number: u64,
        handles: &Arc<Handles>,
    ) -> Result<FileSource, ParquetError> {
        match self.get(&record.object_store) {
            Some(objects) => objects.open(record, number, handles),
            None => {
                let error = WriteError::NoObjectStore { name: record.object_store.clone() };
                Err(ParquetError::External(Box::new(io::Error::other(error))))
            }
        }
    }

    /// As [`Objects::confirm`].
    pub(crate) fn confirm(&self, record: &FileRecord) {
        self.get(&record.object_store).into_iter().for_each(|objects| objects.confirm(&record.path));
    }

    /// As [`Objects::hide`].
    pub(crate) fn hide(&self, record: &FileRecord) {
        self.get(&record.object_store).into_iter().for_each(|objects| objects.hide(&record.path));
    }

    /// As [`Objects::delete`].
    pub(crate) fn delete(&self, record: &FileRecord) -> Result<(), WriteError> {
        self.needed(&record.object_store)?.delete(&record.path)
    }

    /// As [`Objects::is_there`].
    pub(crate) fn is_there(&self, record: &FileRecord) -> bool {
        self.get(&record.object_store).is_some_and(|objects| objects.is_there(&record.path))
    }
}
