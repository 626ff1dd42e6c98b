//! Looks through the log without changing it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::segment::{self, MAGIC};

/// What a segment of the log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SegmentFinding {
    pub(crate) path: PathBuf,
    /// Records that can be read.
    pub(crate) records: u64,
    /// Bytes with intact records behind them that are none.
    pub(crate) damaged_bytes: u64,
    /// Bytes at the end that are no record: one that was being written when the process ended.
    pub(crate) torn_bytes: u64,
}

/// Looks through all segments. A folder that is not there holds none.
pub(crate) fn inspect(folder: &Path) -> io::Result<Vec<SegmentFinding>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| segment::first_sequence(path).is_some());
    paths.sort_unstable();
    paths.into_iter().map(inspect_segment).collect()
}

fn inspect_segment(path: PathBuf) -> io::Result<SegmentFinding> {
    let bytes = fs::read(&path)?;
    let mut intact_end = if bytes.starts_with(MAGIC) { MAGIC.len() } else { 0 };
    let mut finding = SegmentFinding { path, ..SegmentFinding::default() };
    let mut offset = intact_end;
    while offset < bytes.len() {
        let Some(record) = segment::record_at(&bytes, offset) else {
            offset += 1;
            continue;
        };
        finding.damaged_bytes += (offset - intact_end) as u64;
        if segment::decode_body(record.body).is_some() {
            finding.records += 1;
        } else {
            finding.damaged_bytes += (record.end - offset) as u64;
        }
        offset = record.end;
        intact_end = record.end;
    }
    finding.torn_bytes = (bytes.len() - intact_end) as u64;
    Ok(finding)
}
