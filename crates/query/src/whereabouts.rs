//! Which files hold a trace, and where: as precisely as it takes.
//!
//! The filters of the files are wrong about one file in some hundred, which costs a page of ids each time. A query that
//! looks for thousands of traces reads the ids of a file once instead.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracehouse_model::TraceId;
use tracehouse_store::{ReadError, Snapshot, SpanFile, TraceRows};

use crate::bounds::Bounds;

/// What one query knows of where traces are.
pub(crate) struct Whereabouts<'a> {
    snapshot: &'a Snapshot,
    bounds: &'a Bounds<'a>,
    /// For each file, once it was asked for. `None`: there is no memory for it, or it can't be read.
    of_files: Vec<OnceLock<Option<Vec<TraceRows>>>>,
    bytes: AtomicUsize,
}

impl<'a> Whereabouts<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot, bounds: &'a Bounds<'a>) -> Self {
        let of_files = snapshot.files.iter().map(|_| OnceLock::new()).collect();
        Self { snapshot, bounds, of_files, bytes: AtomicUsize::new(0) }
    }

    /// Where the traces of a file stand: if that is known, or in any case if the query is about `many` traces.
    pub(crate) fn of_file(&self, number: usize, many: bool) -> Option<&[TraceRows]> {
        let known = &self.of_files[number];
        let known = if many { known.get_or_init(|| self.read(number).ok().flatten()) } else { known.get()? };
        known.as_deref()
    }

    fn read(&self, number: usize) -> Result<Option<Vec<TraceRows>>, ReadError> {
        let bytes_max = self.bounds.whereabouts_bytes_max();
        if self.bytes.load(Ordering::Relaxed) > bytes_max {
            return Ok(None);
        }
        let file = &self.snapshot.files[number];
        let open = file.open()?;
        let columns = ["trace_id"];
        let bytes = (0..open.row_groups()).map(|row_group| open.bytes_of(row_group, Some(&columns))).sum();
        self.bounds.count_scanned(bytes, 1, 1);
        let found = open.trace_rows().map_err(|source| file.read_error(source))?;
        let bytes: usize = found.iter().map(TraceRows::bytes).sum();
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok((before + bytes <= bytes_max).then_some(found))
    }

    /// Whether a trace may have spans outside a file.
    pub(crate) fn elsewhere(&self, trace: TraceId, file: &SpanFile, many: bool) -> bool {
        let in_files = self.snapshot.files.iter().enumerate().any(|(number, other)| {
            !std::ptr::eq(&raw const **other, file)
                && other.may_contain(trace)
                && self.of_file(number, many).is_none_or(|rows| rows.iter().any(|rows| rows.of(trace).is_some()))
        });
        in_files || self.snapshot.hot.iter().any(|hot| hot.may_contain(trace))
    }
}
