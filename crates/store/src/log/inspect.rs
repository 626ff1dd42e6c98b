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
    /// Bytes with intact records behind them that are none.
    pub(crate) damaged_bytes: u64,
    /// Bytes at the end that are no record: one that was being written when the process ended.
    pub(crate) torn_bytes: u64,
}

fn is_whole(body: &[u8]) -> bool {
    segment::split_body(body).is_some_and(|(_, _, encoded)| SpanBatch::decode(encoded).is_ok())
}

/// Looks through all segments. A folder that is not there holds none.
pub(crate) fn inspect(folder: &Path) -> io::Result<Vec<SegmentFinding>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| SegmentName::of(path).is_some());
    paths.sort_unstable();
    paths.into_iter().map(inspect_segment).collect()
}

fn inspect_segment(path: PathBuf) -> io::Result<SegmentFinding> {
    let bytes = fs::read(&path)?;
    let Some(name) = SegmentName::of(&path) else { return Ok(SegmentFinding::default()) };
    let mut finding = SegmentFinding { path, ..SegmentFinding::default() };
    for (range, part) in Scan::new(&bytes, name.salt, name.first_sequence..u64::MAX) {
        match part {
            Part::Record { body, .. } if is_whole(body) => finding.records += 1,
            Part::CutOff { .. } | Part::Unknown if range.end == bytes.len() => {
                finding.torn_bytes += range.len() as u64;
            }
            _ => finding.damaged_bytes += range.len() as u64,
        }
    }
    Ok(finding)
}
