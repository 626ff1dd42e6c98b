//! Looks through the log without changing it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracehouse_model::SpanBatch;

use super::scan::{Part, Scan};
use super::segment::{self, SegmentName};

/// What a segment of the log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SegmentFinding {
    pub(crate) path: PathBuf,
    /// Records that can be read.
    pub(crate) records: u64,
    /// Bytes that are no record or a damaged one, and have records behind them.
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
    let mut segments: Vec<(SegmentName, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        segments.extend(SegmentName::of(&path).map(|name| (name, path)));
    }
    segments.sort_unstable();
    segments.into_iter().map(|(name, path)| inspect_segment(name, path)).collect()
}

fn inspect_segment(name: SegmentName, path: PathBuf) -> io::Result<SegmentFinding> {
    let bytes = fs::read(&path)?;
    let mut finding = SegmentFinding { path, ..SegmentFinding::default() };
    let numbers = name.first_sequence..u64::MAX;
    for (range, part) in Scan::new(&bytes, name.salt, numbers) {
        let is_readable =
            |body| segment::split_body(body).is_some_and(|(_, _, spans)| SpanBatch::decode(spans).is_ok());
        match part {
            Part::Record { body, .. } => {
                finding.damaged_bytes += std::mem::take(&mut finding.torn_bytes);
                if is_readable(body) {
                    finding.records += 1;
                } else {
                    finding.damaged_bytes += range.len() as u64;
                }
            }
            Part::Damaged { .. } => finding.damaged_bytes += range.len() as u64,
            // Nothing but records behind it makes it damage.
            Part::CutOff { .. } | Part::Unknown => finding.torn_bytes += range.len() as u64,
        }
    }
    Ok(finding)
}
