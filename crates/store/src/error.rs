use std::path::PathBuf;

use tracehouse_catalogue::CatalogueError;
use tracehouse_disk::DiskError;
use tracehouse_log::AppendError;
use tracehouse_model::TenantId;
pub(crate) use tracehouse_model::error_chain as chain;

use crate::notes::MARKER;

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("reading or writing {path} failed; check that it exists, belongs to this user and has room")]
    Folder { path: String, source: std::io::Error },
    #[error(
        "the catalogue lists {listed} files, but the store's folder {path} is not there or is not the one they lie in; is a \
         disk not mounted? Nothing was changed. Mount it. If the files lie in that folder, and only the file {MARKER} is \
         missing, run `tracehouse store repair`; if they are gone for good, `tracehouse store repair --forget-missing`"
    )]
    NotMounted { path: String, listed: usize },
    #[error(
        "the catalogue lists {listed} files, and hardly any of them is in {path}: there is nothing to repair there. Nothing was \
         changed. Mount the disk that holds them, put the folder back, or name the right data directory; if the files are gone \
         for good, `tracehouse store repair --forget-missing` goes on without them"
    )]
    NothingToRepair { path: String, listed: usize },
    #[error(
        "the folder {path} belongs to the store {found}, but the catalogue lists {listed} files of the store {expected}; \
         nothing was changed. Use the catalogue and the folder that belong together. If they do, and only the file {MARKER} in \
         the folder is damaged, `tracehouse store repair` writes it anew"
    )]
    OtherStore { path: String, found: String, expected: String, listed: usize },
    #[error(
        "the folder {path} belongs to the store {found}, and hardly any of the {listed} files that the catalogue lists, of the \
         store {expected}, is in it: there is nothing to repair there. Nothing was changed. Use the catalogue and the folder \
         that belong together"
    )]
    NothingOfOurs { path: String, found: String, expected: String, listed: usize },
    #[error(
        "the file {path}, which names the store, is damaged: it holds no name. Nothing was changed. Run `tracehouse store \
         repair`: it writes the name anew if the {listed} files that the catalogue lists lie in that folder"
    )]
    NameDamaged { path: PathBuf, listed: usize },
    #[error(
        "{missing} of the {listed} files that the catalogue lists are not in {path}: {tenants} ({head}, …). Nothing was \
         changed. Mount what is not mounted, or put them back (`tracehouse store repair` moves back those that lie elsewhere in the folder); \
         if they are gone for good run `tracehouse store repair --forget-missing`"
    )]
    FilesMissing { path: String, missing: usize, listed: usize, tenants: String, head: String },
    #[error("removing the unfinished file {path} failed; check that the folder is writable")]
    Unfinished { path: String, source: Box<WriteError> },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

/// Why spans were not moved from memory or files into new files. Nothing is lost; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("writing a file of spans failed")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("writing to the store failed")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(
        "the spans of tenant {tenant} were not written to files; they stay in memory and the log, and it is tried again"
    )]
    Tenant { tenant: TenantId, source: Box<WriteError> },
    #[error("the log took no more spans")]
    Log(#[from] AppendError),
    #[error("uploading to the object store failed")]
    Objects(#[from] object_store::Error),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error("the object store {name} is not configured")]
    NoObjectStore { name: String },
    /// It is not tried again before a restart.
    #[error("{reason}")]
    AnotherWrites { reason: String },
    #[error("describing a file of spans failed")]
    Describe(#[from] serde_json::Error),
    #[error("a file that was to be merged is damaged; it is left as it is: {path}")]
    Damaged { path: String, source: parquet::errors::ParquetError },
    #[error("it panicked; the log of the server says where")]
    Ended,
}

/// Why a stored file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading the stored file {path} failed")]
pub struct ReadError {
    pub path: String,
    #[source]
    pub source: parquet::errors::ParquetError,
}

/// A panic over one batch or file must not end the thread that looks after all of them.
pub(crate) fn contained<T>(work: impl FnOnce() -> Result<T, WriteError>) -> Result<T, WriteError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(Err(WriteError::Ended))
}
