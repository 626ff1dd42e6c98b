//! What a repair does with a second copy of a stored file that is in its place: an operator put it back though the file was there,
//! or more than one. It is kept beside, under a name that neither a store nor an engine with a glob reads.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use tracehouse_disk::open_to_read;

use crate::error::OpenError;
use crate::objects::id_of_path;
use crate::repair_report::Action;
use crate::survey::UnknownFile;

use super::{Listed, Repair};

/// Stands, with a number, behind the name of a copy.
const COPY_SUFFIX: &str = ".copy";
/// So much of two files is compared at once.
const COMPARED_BYTES: usize = 64 * 1024;

impl Repair<'_> {
    /// Keeps aside what an unknown file is a copy of, under whichever of its names. Returns whether there was such a copy.
    pub(super) fn keep_copies_aside(
        &mut self,
        file: &UnknownFile,
        id: Option<&str>,
        listed: &Listed,
    ) -> Result<bool, OpenError> {
        let Some(home) = id.and_then(|id| listed.live.get(id)) else { return Ok(false) };
        let mut kept = 0;
        for suffix in file.names.all() {
            kept += usize::from(self.keep_copy_aside(&file.path, suffix, home)?);
        }
        if (1..file.names.all().count()).contains(&kept) {
            self.report.left(&file.path, "a copy of another file had the same name; repair once more".to_owned());
        }
        Ok(kept > 0)
    }

    /// The same for other names of listed files than their own.
    pub(super) fn keep_further_copies_aside(
        &mut self,
        further: &[(String, &'static str)],
        listed: &Listed,
    ) -> Result<(), OpenError> {
        for (path, suffix) in further {
            if id_of_path(path).and_then(|id| listed.live.get(id)) == Some(path) {
                self.keep_copy_aside(path, suffix, path)?;
            }
        }
        Ok(())
    }

    /// Keeps a file aside that is the same as the one in its place, byte by byte. Returns whether it is.
    pub(super) fn keep_copy_aside(&mut self, path: &str, suffix: &str, home: &str) -> Result<bool, OpenError> {
        let (copy, own) = (self.place(path, suffix), self.place(home, ""));
        let [Some(copy_at), Some(own_at)] = [&copy, &own].map(|place| self.foreseen.now_at(place)) else {
            return Ok(false);
        };
        // What can't be read is left, and named.
        if copy == own || !self.is_taken(&copy) || is_needed(&copy_at, &own_at) || !has_same_bytes(&copy_at, &own_at) {
            return Ok(false);
        }
        let kept = self.free_name(path, COPY_SUFFIX);
        self.rename(&copy, &kept)?;
        self.report.did(Action::KeepCopy { path: self.in_store(&copy), of: home.to_owned(), kept_as: kept });
        Ok(true)
    }
}

/// Whether the file in its place is a link that leads to the other, or both names lead to one file in another way: then it must keep
/// its name. A link that leads to the file in its place is not needed.
fn is_needed(copy: &Path, own: &Path) -> bool {
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match (fs::canonicalize(copy), fs::canonicalize(own)) {
        (Ok(of_copy), Ok(of_own)) => of_copy == of_own && (is_link(own) || !is_link(copy)),
        _ => true,
    }
}

fn has_same_bytes(one: &Path, other: &Path) -> bool {
    let compare = || -> io::Result<bool> {
        let (one, other) = (open_to_read(one)?, open_to_read(other)?);
        if one.metadata()?.len() != other.metadata()?.len() {
            return Ok(false);
        }
        let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
        loop {
            for (file, bytes) in [(&one, &mut of_one), (&other, &mut of_other)] {
                bytes.clear();
                file.take(COMPARED_BYTES as u64).read_to_end(bytes)?;
            }
            if of_one != of_other || of_one.is_empty() {
                return Ok(of_one == of_other);
            }
        }
    };
    compare().unwrap_or(false)
}
