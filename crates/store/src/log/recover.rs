//! Reads the log after a start.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::DurableBatch;
use super::segment::{self, MAGIC};

/// What a recovery met, apart from the batches.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Highest number met or already stored; the next record gets the one after.
    pub(crate) last_sequence: u64,
    pub(crate) records: u64,
    /// Bytes of an unfinished, never acknowledged record that were cut off the end.
    pub(crate) torn_bytes: u64,
    /// Segments with damage inside; copies are kept in the folder `damaged`.
    pub(crate) damaged: Vec<PathBuf>,
    /// Segments that are still needed, with the last number in each.
    pub(crate) segments: Vec<(PathBuf, u64)>,
}

/// Passes every intact record after `position` on, in order. A torn end of the last segment is cut off; damage elsewhere
/// is copied aside and skipped, and the records behind it are still read.
pub(crate) fn recover(
    folder: &Path,
    position: u64,
    mut replay: impl FnMut(DurableBatch) -> io::Result<()>,
) -> io::Result<Recovered> {
    let mut paths: Vec<(u64, PathBuf)> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .filter_map(|path| Some((segment::first_sequence(&path)?, path)))
        .collect();
    paths.sort_unstable();
    let mut recovered = Recovered { last_sequence: position, ..Recovered::default() };
    let count = paths.len();
    for (number, (_, path)) in paths.into_iter().enumerate() {
        let is_last = number + 1 == count;
        let bytes = fs::read(&path)?;
        let scan = scan_segment(&bytes, position, &mut recovered, &mut replay)?;
        if scan.damaged || (!is_last && scan.intact_end < bytes.len()) {
            let kept = keep_aside(folder, &path)?;
            recovered.damaged.push(kept);
        } else if scan.intact_end < bytes.len() {
            recovered.torn_bytes += (bytes.len() - scan.intact_end) as u64;
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(scan.intact_end as u64)?;
            file.sync_all()?;
        }
        match scan.last_sequence.filter(|&last| last > position) {
            Some(last) => recovered.segments.push((path, last)),
            None => fs::remove_file(&path)?,
        }
    }
    File::open(folder)?.sync_all()?;
    Ok(recovered)
}

struct Scan {
    last_sequence: Option<u64>,
    /// Everything from here to the end is not part of an intact record.
    intact_end: usize,
    /// An intact record stands behind bytes that are not one, or a record can't be decoded.
    damaged: bool,
}

fn scan_segment(
    bytes: &[u8],
    position: u64,
    recovered: &mut Recovered,
    replay: &mut impl FnMut(DurableBatch) -> io::Result<()>,
) -> io::Result<Scan> {
    let has_magic = bytes.starts_with(MAGIC);
    let begin = if has_magic { MAGIC.len() } else { 0 };
    let mut scan = Scan { last_sequence: None, intact_end: begin, damaged: false };
    let mut offset = begin;
    while offset < bytes.len() {
        let Some(record) = segment::record_at(bytes, offset) else {
            offset += 1;
            continue;
        };
        if offset != scan.intact_end {
            scan.damaged = true;
        }
        offset = record.end;
        scan.intact_end = record.end;
        scan.last_sequence = Some(record.sequence);
        recovered.last_sequence = recovered.last_sequence.max(record.sequence);
        if record.sequence <= position {
            continue;
        }
        match segment::decode_body(record.body) {
            Some((tenant, spans)) => {
                recovered.records += 1;
                replay(DurableBatch { sequence: record.sequence, tenant, spans })?;
            }
            None => scan.damaged = true,
        }
    }
    Ok(scan)
}

fn keep_aside(folder: &Path, path: &Path) -> io::Result<PathBuf> {
    let damaged = folder.join("damaged");
    fs::create_dir_all(&damaged)?;
    let kept = damaged.join(path.file_name().unwrap_or_default());
    fs::copy(path, &kept)?;
    Ok(kept)
}
