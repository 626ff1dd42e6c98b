//! The first bytes of a SQLite file: how the rest is to be read.
//!
//! Of most that is wrong with them SQLite itself says that the file is damaged. It believes a few: that a file may only be
//! read, as one written by a later SQLite would say, and that it keeps lists which it does not keep.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::regular::{JOURNAL_ENDING, WAL_ENDING, beside};

/// What is looked at, of the 100 bytes that <https://www.sqlite.org/fileformat.html#the_database_header> describes.
const HEADER_BYTES: usize = 100;

/// What is wrong with a file's header, if SQLite would not say so. Of a file without bytes SQLite makes a new one, and removes what is
/// left of the old one's commits: that is right only where nothing has been written yet.
pub(crate) fn fault(path: &Path) -> Result<Option<String>, io::Error> {
    if beside(path, JOURNAL_ENDING).exists() {
        return Ok(None);
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut header = Vec::with_capacity(HEADER_BYTES);
    file.take(HEADER_BYTES as u64).read_to_end(&mut header)?;
    if let Ok(whole) = header.as_slice().try_into() {
        return Ok(fault_of(whole));
    }
    let has_commits = beside(path, WAL_ENDING).metadata().is_ok_and(|found| found.len() > 0);
    let is_new = header.is_empty() && !has_commits;
    Ok((!is_new).then(|| format!("only {} bytes of it are left", header.len())))
}

fn fault_of(header: &[u8; HEADER_BYTES]) -> Option<String> {
    let [write_version, read_version, reserved_bytes] = [header[18], header[19], header[20]];
    let largest_root_page = u32::from_be_bytes([header[52], header[53], header[54], header[55]]);
    // 2 in both: with a write-ahead log; 1 in both: without, before the first start has ended.
    if write_version != read_version || !(1..=2).contains(&write_version) {
        return Some(format!("its header names the versions {write_version} and {read_version}"));
    }
    if reserved_bytes != 0 {
        return Some(format!("its header says that each page ends with {reserved_bytes} bytes of something else"));
    }
    (largest_root_page != 0).then(|| "its header says that it shrinks by itself".into())
}
