use std::time::Duration;

use tracehouse_catalogue::CatalogueError;

/// Why a batch was not taken. Unless said otherwise a sender may try again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    #[error("{reason}; send again in {} s", retry_after.as_secs())]
    Busy { retry_after: Duration, reason: String },
    #[error("{reason}; stored spans can still be queried; send again in {} s", retry_after.as_secs())]
    DiskFull { retry_after: Duration, reason: String },
    /// Ingest has ended until a restart.
    #[error("{reason}")]
    Failed { reason: String },
    #[error("shutting down")]
    ShuttingDown,
}

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("reading or writing {path} failed; check that it exists, belongs to this user and has room")]
    Folder { path: String, source: std::io::Error },
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
    #[error("uploading to the object store failed")]
    Objects(#[from] object_store::Error),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error("describing a file of spans failed")]
    Describe(#[from] serde_json::Error),
    #[error("a file that was to be merged is damaged; it is left as it is: {path}")]
    Damaged { path: String, source: parquet::errors::ParquetError },
    #[error("the background thread ended; see the log for its error")]
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
