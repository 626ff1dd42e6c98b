//! The one way to open a file of the data directory.
//!
//! Anything may stand where a file should: a pipe, which keeps who opens it waiting for ever, or a link to a device that can
//! be read without end. So a file is opened without waiting, and used only if it is one. A link to a file is followed, since
//! people put files elsewhere that way; a file that is newly made never goes through a link.

use std::error::Error;
use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Readers wrap errors of other readers in their own, though hardly so often.
const DEPTH_MAX: usize = 16;

/// What stands where a file should.
#[derive(Debug, thiserror::Error)]
#[error("{what} stands there, and no file")]
pub struct NoFile {
    what: &'static str,
}

impl NoFile {
    fn error(what: &'static str) -> io::Error {
        // Errors of a disk are told with advice that goes by this kind.
        io::Error::new(io::ErrorKind::AlreadyExists, Self { what })
    }
}

/// Opens a file to read it.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open_regular(path, OpenOptions::new().read(true))
}

/// Opens anew what was a file before, in one call of the system: many files are opened again and again. What may have been put
/// in its place since then is told by [`what_reading_tells`].
pub fn open_again(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| in_words(path, false, error))
}

/// An error of reading something that was opened as a file: what it is, if it is none.
pub fn what_reading_tells(file: &File, error: io::Error) -> io::Error {
    match file.metadata() {
        Ok(found) if !found.is_file() => NoFile::error(name_of(found.file_type())),
        _ => error,
    }
}

/// Opens a file, or makes it if the options say so. What is no file is refused and named; nothing is waited for.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_with(path, options, OFlags::NONBLOCK)
}

/// The same for a file that is newly made: what a link leads to is not touched.
pub fn open_new(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    open_with(path, options, OFlags::NONBLOCK | OFlags::NOFOLLOW)
}

fn open_with(path: &Path, options: &mut OpenOptions, flags: OFlags) -> io::Result<File> {
    let file = match options.custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) => return Err(in_words(path, flags.contains(OFlags::NOFOLLOW), error)),
    };
    let kind = file.metadata()?.file_type();
    if kind.is_file() { Ok(file) } else { Err(NoFile::error(name_of(kind))) }
}

/// An error of opening: what stands in the way, if that is it.
fn in_words(path: &Path, links_are: bool, error: io::Error) -> io::Error {
    in_the_way(path, links_are).map_or(error, NoFile::error)
}

/// What stands at a path, in words, if that is no file; `None` if a file is there or nothing.
pub fn what_is_no_file(path: &Path) -> Option<&'static str> {
    in_the_way(path, false)
}

/// The same for a folder.
pub fn what_is_no_folder(path: &Path) -> Option<&'static str> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => None,
        Ok(found) if found.is_file() => Some("a file"),
        _ => in_the_way(path, false),
    }
}

fn in_the_way(path: &Path, links_are: bool) -> Option<&'static str> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    if !kind.is_symlink() {
        return (!kind.is_file()).then(|| name_of(kind));
    }
    match fs::metadata(path) {
        _ if links_are => Some("a link"),
        Ok(target) => (!target.is_file()).then(|| name_of(target.file_type())),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => Some("a link that leads in a circle"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("a link that leads nowhere"),
        Err(_) => None,
    }
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "something unknown",
    }
}

/// Whether an error, however deep others have wrapped it, is that a file was not there when it was to be read: nothing, or something
/// that is no file.
pub fn is_absent(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    for _ in 0..DEPTH_MAX {
        let Some(error) = cause else { return false };
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let inner = error.get_ref();
            if error.kind() == io::ErrorKind::NotFound || inner.is_some_and(|inner| inner.is::<NoFile>()) {
                return true;
            }
            cause = inner.map(|inner| inner as &(dyn Error + 'static));
        } else {
            cause = error.source();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use rustix::fs::{CWD, FileType as NodeType, Mode};

    use super::*;

    /// Puts everything that is no file into a folder: its path, and what it is in words.
    fn things(folder: &Path) -> Vec<(PathBuf, &'static str)> {
        let at = |name: &str| folder.join(name);
        fs::create_dir(at("folder")).expect("can be made");
        rustix::fs::mknodat(CWD, at("pipe"), NodeType::Fifo, Mode::RWXU, 0).expect("can be made");
        drop(UnixListener::bind(at("socket")).expect("can be made"));
        symlink("/dev/zero", at("device")).expect("can be made");
        symlink(at("circle"), at("circle")).expect("can be made");
        symlink(at("gone"), at("nowhere")).expect("can be made");
        symlink(at("pipe"), at("to-pipe")).expect("can be made");
        let words = [
            ("folder", "a folder"),
            ("pipe", "a pipe"),
            ("socket", "a socket"),
            ("device", "a device"),
            ("circle", "a link that leads in a circle"),
            ("nowhere", "a link that leads nowhere"),
            ("to-pipe", "a pipe"),
        ];
        words.into_iter().map(|(name, words)| (at(name), words)).collect()
    }

    /// Once, whoever opened a pipe waited for ever.
    #[test]
    fn what_is_no_file_is_refused_and_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, words) in things(folder.path()) {
            let openings = [
                open_to_read(&path).err(),
                open_regular(&path, OpenOptions::new().write(true)).err(),
                open_regular(&path, OpenOptions::new().read(true).write(true)).err(),
            ];
            for error in openings {
                let error = error.expect("it is no file");
                assert_eq!(error.to_string(), format!("{words} stands there, and no file"), "{}", path.display());
                assert!(is_absent(&io::Error::other(error)));
            }
            let again = open_again(&path).map(|opened| what_reading_tells(&opened, io::Error::from_raw_os_error(5)));
            assert_eq!(again.unwrap_or_else(|error| error).to_string(), format!("{words} stands there, and no file"));
            assert_eq!(what_is_no_file(&path), Some(words));
            assert_eq!(what_is_no_folder(&path), Some(words).filter(|words| *words != "a folder"));
            open_new(&path, OpenOptions::new().create(true).write(true)).expect_err("no file can be made there");
        }
        assert!(!folder.path().join("gone").exists(), "nothing is made through a link");
    }

    #[test]
    fn links_to_files_are_followed_but_no_file_is_made_through_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "kept").expect("can be written");
        symlink(&file, &link).expect("can be made");
        for path in [&file, &link] {
            for opened in [open_to_read(path), open_again(path)] {
                let opened = opened.expect("it is a file");
                assert_eq!(io::read_to_string(&opened).expect("can be read"), "kept");
                assert_eq!(
                    what_reading_tells(&opened, io::ErrorKind::UnexpectedEof.into()).kind(),
                    io::ErrorKind::UnexpectedEof
                );
            }
            assert_eq!(what_is_no_file(path), None);
            assert_eq!(what_is_no_folder(path), Some("a file"));
        }
        open_new(&link, OpenOptions::new().create(true).write(true).truncate(true)).expect_err("it is a link");
        assert_eq!(fs::read_to_string(&file).expect("can be read"), "kept");
    }

    #[test]
    fn what_is_not_there_is_absent_and_what_cannot_be_read_is_not() {
        let nothing = open_to_read(Path::new("/nowhere/at/all")).expect_err("there is nothing");
        let wrapped = io::Error::other(io::Error::other(nothing));
        assert!(is_absent(&wrapped));
        assert!(!is_absent(&io::Error::other(io::Error::from_raw_os_error(5))));
        assert!(!is_absent(&std::fmt::Error));
        assert_eq!(what_is_no_file(Path::new("/nowhere/at/all")), None);
        assert_eq!(what_is_no_folder(Path::new("/nowhere/at/all")), None);
    }
}
