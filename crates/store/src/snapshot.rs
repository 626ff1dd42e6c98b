//! What queries see at one moment.

use std::sync::Arc;

use tracehouse_catalogue::{FileRecord, Table};
use tracehouse_model::TenantId;

use crate::absent::{Unreadable, UnreadableReason};
use crate::arrivals::Arrived;
use crate::hot_batches::HotBatches;
use crate::span_file::SpanFile;

/// Whoever has spans that can be asked for.
pub trait Snapshots: Send + Sync {
    /// All spans of a tenant at this moment, each once. May read files to tell copies, so not for the threads of a runtime.
    fn snapshot(&self, tenant: &TenantId) -> Snapshot;

    /// The same with copies of others among the spans in memory: for questions about whole traces, which take these with
    /// [`Snapshot::hot_rows`].
    fn snapshot_as_sent(&self, tenant: &TenantId) -> Snapshot;

    /// A position up to which all that came can be seen.
    fn position(&self) -> u64;

    /// What came to a tenant after a position, up to another.
    fn arrived(&self, tenant: &TenantId, after: u64, up_to: u64) -> Arrived;
}

/// All spans of a tenant at one moment. Holding it keeps what it names readable.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// In order of arrival.
    pub hot: HotBatches,
    /// Those of spans, by last span start, newest first.
    pub files: Arc<Vec<Arc<SpanFile>>>,
    /// Files of other tables, by last start, newest first.
    pub(crate) other_tables: Arc<Vec<Arc<FileRecord>>>,
    /// Files that can't be read, without which answers over their times are partial.
    pub unreadable: Arc<Vec<Unreadable>>,
    /// When it was taken, for whoever looks for copies.
    pub(crate) taken_unix_nanos: i64,
}

impl Snapshot {
    /// The files of a table that count, newest first. Those of spans can be read by [`Snapshot::files`].
    pub fn files_of<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = &'a FileRecord> {
        let spans = self.files.iter().map(|file| &file.record);
        spans.chain(self.other_tables.iter().map(Arc::as_ref)).filter(move |record| record.table == *table)
    }

    /// Takes out files with which what is in memory could not be compared: who can read them a moment later would count twins twice.
    pub(crate) fn leave_out(&mut self, files: &[Arc<SpanFile>]) {
        if files.is_empty() {
            return;
        }
        let is_left_out = |file: &Arc<SpanFile>| files.iter().any(|other| Arc::ptr_eq(other, file));
        let (out, rest): (Vec<_>, Vec<_>) = self.files.iter().cloned().partition(is_left_out);
        let out = out.iter().map(|file| Unreadable::of(&file.record, UnreadableReason::HeldBack));
        self.unreadable = Arc::new(self.unreadable.iter().cloned().chain(out).collect());
        self.files = Arc::new(rest);
    }

    /// The same with each file so many times, each opened by itself: what very many files cost, without the disk for them.
    pub fn repeated(&self, times: usize) -> Self {
        let files = self.files.iter().flat_map(|file| std::iter::repeat_with(|| file.another()).take(times));
        Self { files: Arc::new(files.collect()), ..self.clone() }
    }
}
