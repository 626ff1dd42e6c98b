use std::path::PathBuf;
use std::time::Duration;

use tracehouse_disk::DiskError;

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

/// Why a [`SpanFeed`](crate::SpanFeed) can't go on from where it is.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// They stand in files, or were lost before the start.
    #[error("records {first} to {last} are not in the log any more")]
    Gone { first: u64, last: u64 },
    #[error("record {sequence} can't be read: the log segment {path} is damaged at byte {offset}")]
    Damaged { sequence: u64, path: PathBuf, offset: u64 },
    #[error(transparent)]
    Disk(#[from] DiskError),
}
