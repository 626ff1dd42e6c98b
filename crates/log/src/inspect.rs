//! Looks through the log without changing it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracehouse_disk::open_to_read;
use tracehouse_model::SpanBatch;

use crate::continuity::{Continuity, EndLost, LogMark, LostRecords};
use crate::parts::{Part, SegmentParts};
use crate::pieces::Pieces;
use crate::positions::Positions;
use crate::recover::{DAMAGED_FOLDER, RecordAtFault, copies};
use crate::segment::{self, SegmentName};

/// What a log holds.
#[derive(Debug, Default)]
pub struct LogFinding {
    pub segments: Vec<SegmentFinding>,
    /// Records that should be there and are not.
    pub lost: Vec<LostRecords>,
    pub end_lost: Option<EndLost>,
    /// The first number that a segment begins with.
    pub first: Option<u64>,
    /// The highest number that the log tells of.
    pub told: u64,
    /// What the segments take on the disk.
    pub bytes: u64,
    /// Copies of what a start could not read, with their sizes.
    pub copies: Vec<(PathBuf, u64)>,
}

/// What a segment of the log holds.
#[derive(Debug, Default)]
pub struct SegmentFinding {
    pub path: PathBuf,
    /// Records that can be read.
    pub records: u64,
    /// Bytes that are no record or a damaged one, and have records behind them.
    pub damaged_bytes: u64,
    /// Bytes at the end that are no record: one that was being written when the process ended.
    pub torn_bytes: u64,
    /// Whose header stands at their beginning.
    pub torn_record: Option<RecordAtFault>,
    /// Nothing comes behind it.
    pub is_last: bool,
    /// Why it could not be read to its end.
    pub fault: Option<io::Error>,
}

/// Looks through all segments. A folder that is not there holds none.
pub fn inspect(folder: &Path, positions: &Positions, mark: Option<LogMark>) -> io::Result<LogFinding> {
    let mut segments: Vec<(SegmentName, PathBuf)> = Vec::new();
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries? {
                let path = entry?.path();
                segments.extend(SegmentName::of(&path).map(|name| (name, path)));
            }
        }
    }
    segments.sort_unstable();
    let (mut finding, mut continuity, mut told) = (LogFinding::default(), Continuity::new(positions, mark), 0);
    for (name, path) in segments {
        finding.lost.extend(continuity.meet(name.first_sequence));
        finding.first.get_or_insert(name.first_sequence);
        told = told.max(name.first_sequence.saturating_sub(1));
        finding.bytes += fs::metadata(&path).map_or(0, |found| found.len());
        let mut segment = SegmentFinding { path, ..SegmentFinding::default() };
        let inspected = inspect_segment(name, &mut segment, |sequence| {
            finding.lost.extend(continuity.meet(sequence));
            continuity.pass(sequence);
            told = told.max(sequence);
        });
        segment.fault = inspected.err();
        finding.segments.push(segment);
    }
    if let Some(last) = finding.segments.last_mut() {
        last.is_last = true;
    }
    finding.copies = copies(&folder.join(DAMAGED_FOLDER))?;
    finding.told = told;
    // What a segment holds that can't be read is not known to be lost.
    let is_read = finding.segments.iter().all(|segment| segment.fault.is_none());
    finding.end_lost = continuity.end(told).filter(|_| is_read);
    Ok(finding)
}

/// `meet` is told the number of each record that is there, or was.
fn inspect_segment(name: SegmentName, finding: &mut SegmentFinding, mut meet: impl FnMut(u64)) -> io::Result<()> {
    let mut pieces = Pieces::of(open_to_read(&finding.path)?)?;
    let numbers = name.first_sequence..u64::MAX;
    for part in SegmentParts::new(&mut pieces, name.salt, numbers)? {
        let (range, part) = part?;
        let bytes = range.end - range.start;
        let is_readable =
            |body| segment::split_body(body).is_some_and(|(_, _, spans)| SpanBatch::decode(spans).is_ok());
        match part {
            Part::Record { sequence, body } => {
                meet(sequence);
                finding.damaged_bytes += std::mem::take(&mut finding.torn_bytes);
                finding.torn_record = None;
                if is_readable(&body) {
                    finding.records += 1;
                } else {
                    finding.damaged_bytes += bytes;
                }
            }
            Part::Damaged { sequence, .. } => {
                meet(sequence);
                finding.damaged_bytes += bytes;
            }
            // Nothing but records behind it makes it damage.
            Part::CutOff { sequence, body_bytes, head } => {
                finding.torn_bytes += bytes;
                finding.torn_record.get_or_insert_with(|| RecordAtFault::new(sequence, body_bytes, &head));
            }
            Part::Unknown { .. } => finding.torn_bytes += bytes,
        }
    }
    Ok(())
}
