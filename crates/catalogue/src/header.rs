//! The first bytes of a SQLite file: how the rest is to be read.
//!
//! Of most that is wrong with them SQLite itself says that the file is damaged. It believes a few: that a file may only be
//! read, as one written by a later SQLite would say, and that it keeps lists which it does not keep.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What is looked at, of the 100 bytes that <https://www.sqlite.org/fileformat.html#the_database_header> describes.
const HEADER_BYTES: usize = 100;
/// For what SQLite has to undo before anything else: the file's first bytes mean nothing as long as it is there.
const JOURNAL_ENDING: &str = "-journal";

/// What is wrong with a file's header, if SQLite would not say so. A file that is too short for one is not looked at.
pub(crate) fn fault(path: &Path) -> Result<Option<String>, io::Error> {
    let mut journal = path.as_os_str().to_owned();
    journal.push(JOURNAL_ENDING);
    if PathBuf::from(journal).exists() {
        return Ok(None);
    }
    let mut header = [0; HEADER_BYTES];
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => Ok(fault_of(&header)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => Ok(None),
        Err(error) => Err(error),
    }
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
