use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use rustix::fs::Mode;
use tracehouse_disk::{Disk, open_regular};
use tracehouse_store::StorePaths;

const LOCK: &str = "LOCK";
/// What lies in the folder. Of the catalogue SQLite makes further files.
const OUR_FOLDERS: [&str; 2] = ["log", "store"];
const CATALOGUE: &str = "catalogue.sqlite";
/// Nothing that a process with a data folder makes has them.
const RIGHTS_OF_OTHERS: Mode = Mode::RWXG.union(Mode::RWXO);

/// The folder that holds everything kept, which belongs to this process as long as this lives.
pub(crate) struct DataDir {
    path: PathBuf,
    /// The operating system gives the locks back when the files are closed, however the process ends. Of the folder itself, should
    /// somebody remove the file; and of the file, for disks on which folders can't be locked and for earlier versions. `None`: there
    /// is no file to lock, and none is made to read only.
    _locks: [Option<File>; 2],
}

impl DataDir {
    /// Makes the folder if there is none, locks it and takes the rights of others from it.
    pub(crate) fn take(path: &Path) -> anyhow::Result<Self> {
        Self::take_through(&Disk::default(), path)
    }

    fn take_through(disk: &Disk, path: &Path) -> anyhow::Result<Self> {
        disk.settle_folder(path).map_err(|error| {
            let why = unwritable(path, &error.source);
            anyhow!(error).context(why)
        })?;
        Self::lock(path)
    }

    /// Locks the folder, which must be there.
    pub(crate) fn take_existing(path: &Path) -> anyhow::Result<Self> {
        refuse_without_store(path)?;
        Self::lock(path)
    }

    /// Keeps others from writing to the folder, which must be there, and writes nothing to it, so that it may lie on a disk that
    /// is mounted read-only.
    pub(crate) fn take_to_read(path: &Path) -> anyhow::Result<Self> {
        refuse_without_store(path)?;
        let lock_path = path.join(LOCK);
        let lock = match open_regular(&lock_path, OpenOptions::new().read(true)) {
            // Where no server has been none is to be kept away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("at {} {error}; move that away", lock_path.display())
            }
            lock => Some(lock.with_context(|| {
                format!("data_dir {} cannot be read; run this as the user that owns it", path.display())
            })?),
        };
        if let Some(lock) = &lock {
            refuse_if_locked(path, lock.try_lock_shared())?;
        }
        let folder = lock_folder(path, File::try_lock_shared)?;
        Ok(Self { path: path.to_owned(), _locks: [lock, folder] })
    }

    fn lock(path: &Path) -> anyhow::Result<Self> {
        // For what libraries make, SQLite above all: they ask for the rights that the user's settings leave.
        rustix::process::umask(RIGHTS_OF_OTHERS);
        let lock_path = path.join(LOCK);
        let lock = open_regular(&lock_path, OpenOptions::new().create(true).write(true).truncate(false).mode(0o600));
        let lock = match lock {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!("at {} {error}; move that away", lock_path.display())
            }
            lock => lock.map_err(|error| {
                let why = unwritable(path, &error);
                anyhow!(error).context(why)
            })?,
        };
        refuse_if_locked(path, lock.try_lock())?;
        let folder = lock_folder(path, File::try_lock)?;
        let data_dir = Self { path: path.to_owned(), _locks: [Some(lock), folder] };
        data_dir.make_private();
        Ok(data_dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the rights of others from what is ours, and from the folder if nothing else is in it: an earlier version left
    /// them to the user's settings. Where that is not permitted it is said, and goes on.
    pub(crate) fn make_private(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        let names: Vec<String> =
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
        let is_ours =
            |name: &String| name == LOCK || OUR_FOLDERS.contains(&name.as_str()) || name.starts_with(CATALOGUE);
        let mut private: Vec<PathBuf> =
            names.iter().filter(|name| is_ours(name)).map(|name| self.path.join(name)).collect();
        if names.iter().all(is_ours) {
            private.push(self.path.clone());
        }
        for path in private {
            match Disk::default().make_private(&path) {
                Ok(true) => {
                    tracing::info!(path = %path.display(), "others could read this; access is now limited to its owner")
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "others may be able to read stored spans"),
            }
        }
    }

    /// Where the parts of the store lie in it.
    pub(crate) fn store_paths(&self) -> StorePaths {
        StorePaths { store: self.path.join("store"), log: self.path.join("log"), catalogue: self.path.join(CATALOGUE) }
    }
}

/// Why a folder cannot be written, and what to do.
fn unwritable(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => format!(
            "data_dir {path} lies on a disk that is mounted read-only, so nothing can be kept there. Look for errors of the disk in \
             the kernel's log, then mount it to be written (`mount -o remount,rw`). `tracehouse store check` needs no writing"
        ),
        _ => format!("data_dir {path} cannot be written; check who owns it"),
    }
}

fn refuse_without_store(path: &Path) -> anyhow::Result<()> {
    if path.join(CATALOGUE).exists() || path.join("store").exists() {
        return Ok(());
    }
    bail!("data_dir {} holds no store; give the right folder with --data-dir or --config", path.display());
}

/// Locks the folder itself, if its disk can: some file systems of networks lock only files that are written.
fn lock_folder(path: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> anyhow::Result<Option<File>> {
    let Ok(folder) = File::open(path) else { return Ok(None) };
    match lock(&folder) {
        Err(TryLockError::Error(_)) => Ok(None),
        outcome => refuse_if_locked(path, outcome).map(|()| Some(folder)),
    }
}

fn refuse_if_locked(path: &Path, outcome: Result<(), TryLockError>) -> anyhow::Result<()> {
    match outcome {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!(
            "data_dir {} is in use by another tracehouse; stop it, or set data_dir to another folder",
            path.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(anyhow!(error).context(format!("data_dir {} cannot be locked", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;
    use std::sync::{Arc, Mutex};

    use tracehouse_disk::{DiskFaults, DiskStep};

    use super::*;

    #[test]
    fn belongs_to_one_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("new/data");
        let first = DataDir::take(&path).expect("nobody has it");
        let refused = DataDir::take(&path).map(|_| ()).expect_err("the first has it");
        assert!(refused.to_string().contains("in use by another tracehouse"), "{refused}");
        drop(first);
        DataDir::take(&path).expect("the first gave it back");
    }

    /// The catalogue lies in it, and nobody else synchronises the folder above it.
    #[test]
    fn its_name_survives_a_power_failure() {
        #[derive(Default)]
        struct Synchronised(Mutex<Vec<PathBuf>>);

        impl DiskFaults for Synchronised {
            fn before(&self, step: DiskStep<'_>, _: &'static Location<'static>) -> io::Result<()> {
                if let DiskStep::SyncFolder(path) = step {
                    self.0.lock().expect("nobody panicked").push(path.to_owned());
                }
                Ok(())
            }
        }

        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let synchronised = Arc::new(Synchronised::default());
        let disk = Disk::with_faults(synchronised.clone());
        drop(DataDir::take_through(&disk, &folder.path().join("data")).expect("nobody has it"));
        assert!(synchronised.0.lock().expect("nobody panicked").contains(&folder.path().to_owned()));
    }

    /// Before, a second server began to write to the same folder.
    #[test]
    fn belongs_to_one_at_a_time_though_the_lock_file_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path();
        let first = DataDir::take(path).expect("nobody has it");
        fs::create_dir(path.join("store")).expect("ours");
        for _ in 0..2 {
            fs::remove_file(path.join(LOCK)).expect("it is there");
            for refused in [DataDir::take(path), DataDir::take_to_read(path)] {
                let refused = refused.map(|_| ()).expect_err("the first has it");
                assert!(refused.to_string().contains("in use by another tracehouse"), "{refused}");
            }
        }
        drop(first);
        DataDir::take(path).expect("the first gave it back");
    }

    #[test]
    fn who_only_reads_changes_nothing_and_keeps_writers_away() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path();
        let refused = DataDir::take_to_read(path).map(|_| ()).expect_err("there is no store");
        assert!(refused.to_string().contains("holds no store"), "{refused}");
        fs::create_dir(path.join("store")).expect("ours");
        drop(DataDir::take_to_read(path).expect("nobody has it"));
        assert!(!path.join(LOCK).exists(), "nothing is made");
        drop(DataDir::take(path).expect("nobody has it"));
        let readers = [DataDir::take_to_read(path), DataDir::take_to_read(path)];
        let refused = DataDir::take_existing(path).map(|_| ()).expect_err("they read");
        assert!(refused.to_string().contains("in use by another tracehouse"), "{refused}");
        assert!(readers.iter().all(Result::is_ok), "nobody writes");
        drop(readers);
        let writer = DataDir::take(path).expect("nobody has it");
        let refused = DataDir::take_to_read(path).map(|_| ()).expect_err("somebody writes");
        assert!(refused.to_string().contains("in use by another tracehouse"), "{refused}");
        drop(writer);
    }

    #[test]
    fn a_disk_that_is_mounted_read_only_is_named() {
        let error = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        let said = unwritable(Path::new("/data"), &error);
        assert!(said.contains("mounted read-only") && said.contains("remount,rw"), "{said}");
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(unwritable(Path::new("/data"), &error).contains("check who owns it"));
    }

    #[test]
    fn is_its_owners_alone_unless_it_holds_what_is_not_ours() {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        let loosen = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("data");
        drop(DataDir::take(&path).expect("nobody has it"));
        assert_eq!((mode(&path), mode(&path.join(LOCK))), (0o700, 0o600));
        // As an earlier version left it.
        fs::create_dir(path.join("store")).expect("ours");
        fs::write(path.join(CATALOGUE), "").expect("ours");
        loosen(&path, 0o755);
        loosen(&path.join("store"), 0o755);
        loosen(&path.join(CATALOGUE), 0o644);
        drop(DataDir::take(&path).expect("nobody has it"));
        assert_eq!((mode(&path), mode(&path.join("store")), mode(&path.join(CATALOGUE))), (0o700, 0o700, 0o600));
        fs::write(path.join("notes.txt"), "of somebody else").expect("ours");
        loosen(&path, 0o755);
        drop(DataDir::take(&path).expect("nobody has it"));
        assert_eq!((mode(&path), mode(&path.join("store"))), (0o755, 0o700));
    }

    /// Once, a pipe in its place kept the server and every command waiting for ever.
    #[test]
    fn names_what_stands_in_the_place_of_the_lock() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let lock = folder.path().join(LOCK);
        rustix::fs::mknodat(rustix::fs::CWD, &lock, rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("can be made");
        for take in [DataDir::take, DataDir::lock] {
            let refused = take(folder.path()).map(|_| ()).expect_err("it is no file");
            let expected = format!("at {} a pipe stands there, and no file; move that away", lock.display());
            assert_eq!(refused.to_string(), expected);
        }
        fs::remove_file(&lock).expect("it is there");
        // A link to a file is somebody's wish, and the file may hold something.
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, "kept").expect("ours");
        std::os::unix::fs::symlink(&elsewhere, &lock).expect("ours");
        drop(DataDir::take(folder.path()).expect("it is a file"));
        assert_eq!(fs::read_to_string(&elsewhere).expect("ours"), "kept");
    }

    #[test]
    fn says_what_cannot_be_written() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        let refused = DataDir::take(&file.path().join("inside")).map(|_| ()).expect_err("a file is no folder");
        assert!(refused.to_string().contains("cannot be written"), "{refused}");
    }
}
