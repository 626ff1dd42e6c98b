use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_disk::Disk;
use tracehouse_log::{Background, Durability};

use crate::decider::Decider;

/// How the store works. Every field has a default that suits one machine.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    pub log_dir: PathBuf,
    pub durability: Durability,
    /// Spans in memory may take so many bytes; above it senders are asked to wait.
    pub hot_bytes_max: usize,
    /// Spans in memory are written to files when they take so many bytes …
    pub flush_bytes: usize,
    /// … or when the oldest has been there so long.
    pub flush_interval: Duration,
    /// About so many files a flush makes for a tenant, one for each hour in which spans begin; the next flush, which begins at once,
    /// writes its later requests. Fewer would make many small files of spans of many hours, and more keep other tenants waiting
    /// if somebody sends times at random.
    pub flush_files_max: usize,
    /// What was read of files may be kept in memory up to so many bytes: footers, names, filters.
    pub cache_bytes_max: usize,
    /// Files whose last span began longer ago are removed.
    pub retention: Duration,
    /// The oldest files are removed when all together take more bytes.
    pub disk_budget_bytes: Option<u64>,
    /// With less room on the disk no spans are accepted; what is stored can still be queried.
    pub disk_free_bytes_min: u64,
    /// A file that no longer counts is deleted after so long: no query runs longer.
    pub delete_grace: Duration,
    /// How often small files are looked for, to be merged.
    pub compaction_interval: Duration,
    /// The log goes on in a new segment when one has so many bytes.
    pub log_segment_bytes_max: u64,
    /// The way to the disk; tests put faults into it.
    pub disk: Disk,
    pub background: Background,
    /// Who decides which traces merges keep; `None`: all are kept.
    pub decider: Option<Arc<dyn Decider>>,
}

/// A piece of background work, as far as it goes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreStep {
    /// Writes what waits for the log, and acknowledges it.
    Log,
    /// Writes what is in memory to files, if it is time.
    Flush,
    /// Compares files that were held back and merges small ones, if it is time.
    Merge,
    /// Expires, deletes, and looks after what is missing or damaged.
    Keep,
}

/// Segments of the log beside what is in memory; with more, spans that can't be written to files are repeated at its end.
const SEGMENTS_BEFORE_CARRYING: u64 = 4;

impl StoreConfig {
    pub(crate) fn log_bytes_before_carrying(&self) -> u64 {
        self.log_segment_bytes_max.saturating_mul(SEGMENTS_BEFORE_CARRYING)
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            log_dir: PathBuf::from("data/log"),
            durability: Durability::Fsync,
            hot_bytes_max: 224 * MIB,
            flush_bytes: 96 * MIB,
            flush_interval: Duration::from_secs(60),
            flush_files_max: 8192,
            cache_bytes_max: 160 * MIB,
            retention: Duration::from_secs(7 * 24 * 3600),
            disk_budget_bytes: None,
            disk_free_bytes_min: 512 * MIB as u64,
            delete_grace: Duration::from_secs(120),
            compaction_interval: Duration::from_secs(15),
            log_segment_bytes_max: 64 * MIB as u64,
            disk: Disk::default(),
            background: Background::Threads,
            decider: None,
        }
    }
}
