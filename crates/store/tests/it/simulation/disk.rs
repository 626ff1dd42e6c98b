//! A disk that a power failure leaves with less than was written to it, and whose steps fail.
//!
//! The files lie in a real folder. Beside it the disk knows what of them a power failure may take back: names whose folder was not
//! synchronised since, and bytes of files that were not. A failure takes each of them back or not, as chance has it, so that steps
//! survive it in another order than they were taken in; the end of a file is cut anywhere, or holds zeros where bytes are missing. What a
//! synchronisation that failed was to keep no later one keeps, as with Linux.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender};

use parking_lot::Mutex;
use tracehouse_disk::{DiskFaults, DiskStep};

use super::chance::Chance;

/// Where code asks the disk to synchronise.
pub(crate) type Site = (&'static str, u32);

/// Errors as Linux numbers them: those of the machine have a number, unlike those of what is read.
const INPUT_OUTPUT: i32 = 5;
const NOT_PERMITTED: i32 = 13;
const TOO_MANY_FILES: i32 = 24;
const NO_ROOM: i32 = 28;
/// What a segment of the log holds before its first record.
pub(crate) const SEGMENT_BEGIN_BYTES: u64 = 8;

/// A change of the names in a folder, and how it is taken back.
#[derive(Debug)]
enum Undo {
    /// A file or folder was made.
    Remove(PathBuf),
    /// A file was removed, or another renamed over it.
    PutBack {
        path: PathBuf,
        bytes: Vec<u8>,
    },
    RenameBack {
        from: PathBuf,
        to: PathBuf,
    },
    /// A file came from another folder, which still has its old name.
    NameToo {
        from: PathBuf,
        to: PathBuf,
    },
    /// A folder was removed.
    MakeFolder(PathBuf),
}

impl Undo {
    /// Whether it is about a file or folder, or something in that.
    fn is_about(&self, other: &Path) -> bool {
        match self {
            Self::Remove(path) | Self::MakeFolder(path) | Self::PutBack { path, .. } => path.starts_with(other),
            Self::RenameBack { from, to } | Self::NameToo { from, to } => {
                from.starts_with(other) || to.starts_with(other)
            }
        }
    }
}

/// What is to happen to the steps to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Sound,
    /// One in so many steps that write fails with an error of the machine.
    Failing {
        one_in: u64,
    },
    /// Nothing can be written: there is no room.
    Full,
    /// No other segment of the log can be begun.
    NoSegments,
    /// One in so many folders and files can't be read.
    Unreadable {
        one_in: u64,
    },
}

#[derive(Default)]
struct State {
    /// In the order of the steps: the folder that holds the name, and how it is taken back.
    names: Vec<(PathBuf, Undo)>,
    /// Files that were written to: how many bytes of them are on the disk for good.
    durable: BTreeMap<PathBuf, u64>,
    /// What was cut off the end of a file: from where, and the bytes.
    cut: BTreeMap<PathBuf, (u64, Vec<u8>)>,
    /// What the system has dropped, as its synchronisation failed: it is read until the power fails.
    dropped: BTreeMap<PathBuf, Vec<Range<u64>>>,
    has_dropped: bool,
    /// Of the log, since the process began: nobody may take these for durable any more.
    not_synchronised: BTreeSet<PathBuf>,
    /// One of them was synchronised again.
    synchronised_again: Option<PathBuf>,
    /// What a segment of the log may take before nothing more is written to it.
    segment_bytes_max: Option<u64>,
    /// The last step was to write.
    was_written: bool,
    /// It took more.
    too_long: Option<PathBuf>,
    /// A failure of the power made a hole in the log: what was never acknowledged looks like damage then.
    has_torn_log: bool,
    /// A synchronisation takes effect once it is done, which is when the next step begins.
    synchronising: Option<Synchronising>,
    mood: Option<Mood>,
    /// After so many more steps the power fails.
    steps_left: Option<u64>,
    has_failed: bool,
    /// Nothing can be made beneath this folder, whose owner is another.
    refused: Option<PathBuf>,
    /// Nothing in this folder can be listed or read.
    unlisted: Option<PathBuf>,
    /// A part of the write that fails now reaches its file.
    tears: bool,
    chance: Chance,
    trace: u64,
    /// With which number the last segment of the log began.
    segment_begins: u64,
    /// The same of the one before it.
    segment_before_begins: u64,
    /// A later one that began with a smaller one.
    number_given_again: Option<u64>,
    steps: u64,
    sites: BTreeSet<Site>,
    /// The last step made the folder in which files are written.
    has_made_spool: bool,
    /// As if the code did not ask for this.
    left_out: Option<Site>,
}

enum Synchronising {
    Folder(PathBuf),
    File(PathBuf),
}

/// Work stops before one of its steps, so that other work goes on amid it.
pub(crate) struct Pause {
    /// So many steps on a file that is being written come before.
    pub(crate) steps_left: u64,
    pub(crate) tell: Sender<Moment>,
    pub(crate) go_on: Receiver<()>,
}

/// What is heard of work that may pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Paused,
    Done,
}

thread_local! {
    /// Who reads now only looks at what the store does: no step, and nothing fails.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

/// Reads files of the store as the test does, not the store.
pub(crate) fn looking<T>(look: impl FnOnce() -> T) -> T {
    LOOKS.set(true);
    let looked = look();
    LOOKS.set(false);
    looked
}

pub(crate) struct SimulatedDisk {
    root: PathBuf,
    state: Mutex<State>,
    pause: Mutex<Option<Pause>>,
}

impl SimulatedDisk {
    pub(crate) fn new(root: PathBuf, chance: Chance, left_out: Option<Site>) -> Self {
        let state = Mutex::new(State { chance, left_out, ..State::default() });
        Self { root, state, pause: Mutex::default() }
    }

    pub(crate) fn set_pause(&self, pause: Option<Pause>) {
        *self.pause.lock() = pause;
    }

    /// From now on nothing can be made beneath a folder.
    pub(crate) fn refuse(&self, folder: Option<PathBuf>) {
        self.state.lock().refused = folder;
    }

    /// From now on nothing in a folder can be listed, nor read by who has it not open.
    pub(crate) fn unlist(&self, folder: Option<PathBuf>) {
        self.state.lock().unlisted = folder;
    }

    pub(crate) fn has_unlisted(&self) -> bool {
        self.state.lock().unlisted.is_some()
    }

    /// Somebody else moves or removes this file or folder, and waits until that is durable.
    pub(crate) fn moved_by_hand(&self, path: &Path) {
        let mut state = self.state.lock();
        state.finish();
        state.names.retain(|(_, undo)| !undo.is_about(path));
        if path.extension().is_none_or(|extension| extension != "parquet") {
            (state.segment_begins, state.segment_before_begins) = (0, 0);
        }
        state.durable.retain(|other, _| !other.starts_with(path));
        state.cut.retain(|other, _| !other.starts_with(path));
        state.dropped.retain(|other, _| !other.starts_with(path));
    }

    /// Work on a file that is being written waits here if it is to: it holds none of the locks that other work needs.
    fn pause_before(&self, step: DiskStep<'_>) {
        let (DiskStep::CreateFile(path) | DiskStep::Write { path, .. } | DiskStep::SyncFile(path)) = step else {
            return;
        };
        if path.extension().is_none_or(|extension| extension != "tmp") {
            return;
        }
        let due = {
            let mut pause = self.pause.lock();
            match &mut *pause {
                Some(Pause { steps_left: 0, .. }) => pause.take(),
                Some(Pause { steps_left, .. }) => {
                    *steps_left -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some(Pause { tell, go_on, .. }) = due {
            let _ = tell.send(Moment::Paused);
            // An error: who looked amid the work has panicked.
            let _ = go_on.recv();
        }
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        self.state.lock().mood = Some(mood).filter(|mood| *mood != Mood::Sound);
    }

    /// The power fails before the step after so many others.
    pub(crate) fn fail_power_after(&self, steps: u64) {
        self.state.lock().steps_left = Some(steps);
    }

    pub(crate) fn has_power(&self) -> bool {
        !self.state.lock().has_failed
    }

    pub(crate) fn has_torn_log(&self) -> bool {
        self.state.lock().has_torn_log
    }

    /// The number with which a segment of the log began though a larger one had been given.
    pub(crate) fn number_given_again(&self) -> Option<u64> {
        self.state.lock().number_given_again
    }

    /// It does not know of what failed before.
    pub(crate) fn process_begins(&self) {
        self.state.lock().not_synchronised.clear();
    }

    /// Nothing is to be written to a segment of the log that has so many bytes.
    pub(crate) fn bound_segments(&self, bytes_max: u64) {
        self.state.lock().segment_bytes_max = Some(bytes_max);
    }

    /// A segment of the log that was written to though it was too long.
    pub(crate) fn too_long(&self) -> Option<PathBuf> {
        self.state.lock().too_long.clone()
    }

    /// A file of the log that was synchronised again after that had failed.
    pub(crate) fn synchronised_again(&self) -> Option<PathBuf> {
        self.state.lock().synchronised_again.clone()
    }

    /// A number that follows from all steps so far: two runs that took the same steps have the same.
    pub(crate) fn trace(&self) -> u64 {
        self.state.lock().trace
    }

    pub(crate) fn steps(&self) -> u64 {
        self.state.lock().steps
    }

    pub(crate) fn sites(&self) -> BTreeSet<Site> {
        self.state.lock().sites.clone()
    }

    /// Whether bytes were dropped since this was asked.
    pub(crate) fn take_dropped(&self) -> bool {
        std::mem::take(&mut self.state.lock().has_dropped)
    }

    /// A step of the catalogue, which writes for itself: it counts, and fails once the power has.
    pub(crate) fn step_elsewhere(&self) -> io::Result<()> {
        self.state.lock().take_step()
    }

    /// The process was killed: what it wrote the system still knows. The disk is sound for the next one.
    pub(crate) fn restart_process(&self) {
        let mut state = self.state.lock();
        state.finish();
        state.is_restarted();
    }

    /// The power came back: what is lost is lost.
    pub(crate) fn restore_power(&self) {
        let mut state = self.state.lock();
        state.finish();
        state.lose();
        (state.segment_begins, state.segment_before_begins) = (0, 0);
        state.is_restarted();
    }
}

impl State {
    fn is_restarted(&mut self) {
        (self.has_failed, self.steps_left, self.mood, self.refused) = (false, None, None, None);
    }

    fn take_step(&mut self) -> io::Result<()> {
        self.tears = false;
        if !self.has_failed && self.steps_left == Some(0) {
            self.has_failed = true;
            self.tears = true;
        }
        if self.has_failed {
            return Err(io::Error::from_raw_os_error(INPUT_OUTPUT));
        }
        self.steps_left = self.steps_left.map(|left| left - 1);
        self.steps += 1;
        Ok(())
    }

    fn finish(&mut self) {
        match self.synchronising.take() {
            Some(Synchronising::Folder(folder)) => self.names.retain(|(holder, _)| *holder != folder),
            Some(Synchronising::File(path)) => {
                let bytes = fs::metadata(&path).map_or(0, |found| found.len());
                self.durable.insert(path.clone(), bytes);
                self.cut.remove(&path);
            }
            None => {}
        }
    }

    /// Takes back what the disk does not hold for good, each or not.
    fn lose(&mut self) {
        // Sometimes everything, sometimes nothing.
        let share = [0, 4, 8, 8, 8][self.chance.below(5) as usize];
        for (path, durable) in std::mem::take(&mut self.durable) {
            let Ok(mut bytes) = fs::read(&path) else { continue };
            let cut = self.cut.remove(&path);
            if (bytes.len() as u64) < durable || share == 0 {
                continue;
            }
            let durable = usize::try_from(durable).expect("files are small");
            let unsure = bytes.len() - durable;
            if unsure > 0 {
                let kept = if share == 8 { 0 } else { self.chance.below(unsure as u64 + 1) as usize };
                let kept = if self.chance.one_in(2) { kept } else { self.chance.below(unsure as u64 + 1) as usize };
                bytes.truncate(durable + kept);
                // Blocks reach the disk in any order.
                if kept > 1 && self.chance.one_in(3) {
                    let from = durable + self.chance.below(kept as u64) as usize;
                    let to = (from + 1 + self.chance.below(4096) as usize).min(bytes.len());
                    bytes[from..to].fill(0);
                    self.has_torn_log |= is_of_log(&path);
                }
            }
            if let Some((from, old)) = cut
                && self.chance.one_in(2)
            {
                // That the file was cut off was not written down.
                bytes.truncate(usize::try_from(from).expect("files are small"));
                bytes.extend(old);
            }
            fs::write(&path, bytes).expect("a file of the simulation");
        }
        self.cut.clear();
        for (path, ranges) in std::mem::take(&mut self.dropped) {
            let Ok(mut bytes) = fs::read(&path) else { continue };
            self.has_torn_log |= is_of_log(&path);
            self.lose_dropped(&mut bytes, ranges);
            fs::write(&path, bytes).expect("a file of the simulation");
        }
        for (_, undo) in std::mem::take(&mut self.names).into_iter().rev() {
            if self.chance.below(8) >= share {
                continue;
            }
            match undo {
                Undo::Remove(path) if path.is_dir() => drop(fs::remove_dir_all(path)),
                Undo::Remove(path) => drop(fs::remove_file(path)),
                Undo::PutBack { path, bytes } => {
                    let _ = fs::create_dir_all(parent(&path));
                    if !path.exists() {
                        fs::write(path, bytes).expect("a file of the simulation");
                    }
                }
                Undo::RenameBack { from, to } => {
                    let _ = fs::create_dir_all(parent(&from));
                    if !from.exists() {
                        let _ = fs::rename(to, from);
                    }
                }
                Undo::NameToo { from, to } => drop(fs::hard_link(to, from)),
                Undo::MakeFolder(path) => drop(fs::create_dir_all(path)),
            }
        }
    }

    fn lose_dropped(&mut self, bytes: &mut [u8], ranges: Vec<Range<u64>>) {
        for range in ranges {
            let [from, to] = [range.start, range.end].map(|at| usize::try_from(at).expect("files are small"));
            if self.chance.one_in(2)
                && let Some(lost) = bytes.get_mut(from..to)
            {
                lost.fill(0);
            }
        }
    }

    /// A synchronisation fails.
    fn drop_bytes(&mut self, path: &Path) {
        let bytes = fs::metadata(path).map_or(0, |found| found.len());
        let Some(durable) = self.durable.get_mut(path).filter(|durable| **durable < bytes) else { return };
        self.dropped.entry(path.to_owned()).or_default().push(*durable..bytes);
        // The system takes them for written.
        *durable = bytes;
        // Of other files the work that writes them is done again.
        if is_of_log(path) {
            self.has_dropped = true;
            self.not_synchronised.insert(path.to_owned());
        }
    }

    /// Numbers of records are given once, as long as nobody takes away what tells how far they went.
    fn look_at_number(&mut self, step: DiskStep<'_>) {
        let (DiskStep::Write { path, .. } | DiskStep::RemoveFile(path)) = step else { return };
        if !is_of_log(path) || parent(path).ends_with("damaged") {
            return;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let begins = name.split('-').next().and_then(|number| number.parse().ok()).expect("a segment's name");
        let bytes = fs::metadata(path).map_or(0, |found| found.len());
        if let DiskStep::RemoveFile(_) = step {
            // One that never held a record tells nobody any more how far they went, if it was the only one.
            if bytes <= SEGMENT_BEGIN_BYTES && begins == self.segment_begins {
                self.segment_begins = self.segment_before_begins;
            }
            return;
        }
        if bytes > 0 {
            return;
        }
        if begins < self.segment_begins {
            self.number_given_again = Some(begins);
        }
        self.segment_before_begins = std::mem::replace(&mut self.segment_begins, begins);
    }

    /// What may be taken back after this step.
    fn begin(&mut self, step: DiskStep<'_>, site: Site) {
        let held_by = |path: &Path| parent(path).to_owned();
        let makes_spool = matches!(step, DiskStep::CreateFolder(path) if path.ends_with(".spool"));
        let follows_spool = std::mem::replace(&mut self.has_made_spool, makes_spool);
        // A long record is written in two steps.
        let writes = matches!(step, DiskStep::Write { .. });
        let goes_on = std::mem::replace(&mut self.was_written, writes) && writes;
        match step {
            DiskStep::CreateFolder(path) if !path.exists() => {
                self.names.push((held_by(path), Undo::Remove(path.to_owned())));
            }
            DiskStep::RemoveFolder(path) if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) => {
                self.names.push((held_by(path), Undo::MakeFolder(path.to_owned())));
            }
            DiskStep::CreateFile(path) => {
                self.put_back(path);
                self.durable.insert(path.to_owned(), 0);
                self.names.push((held_by(path), Undo::Remove(path.to_owned())));
            }
            DiskStep::Rename { from, to } if from.exists() => {
                self.put_back(to);
                if let Some(durable) = self.durable.remove(from) {
                    self.durable.insert(to.to_owned(), durable);
                }
                if let Some(cut) = self.cut.remove(from) {
                    self.cut.insert(to.to_owned(), cut);
                }
                if let Some(ranges) = self.dropped.remove(from) {
                    self.dropped.insert(to.to_owned(), ranges);
                }
                let (from, to) = (from.to_owned(), to.to_owned());
                if held_by(&from) != held_by(&to) {
                    self.names.push((held_by(&from), Undo::NameToo { from: from.clone(), to: to.clone() }));
                }
                self.names.push((held_by(&to), Undo::RenameBack { from, to }));
            }
            DiskStep::RemoveFile(path) => self.put_back(path),
            DiskStep::CutOff { path, from } => {
                let bytes = fs::read(path).unwrap_or_default();
                let at = usize::try_from(from).expect("files are small").min(bytes.len());
                self.cut.insert(path.to_owned(), (from, bytes[at..].to_vec()));
                let durable = self.durable.entry(path.to_owned()).or_insert(bytes.len() as u64);
                *durable = (*durable).min(from);
                for range in self.dropped.get_mut(path).into_iter().flatten() {
                    (range.start, range.end) = (range.start.min(from), range.end.min(from));
                }
            }
            DiskStep::Write { path, .. } => {
                let bytes = fs::metadata(path).map_or(0, |found| found.len());
                if is_of_log(path) && !goes_on && self.segment_bytes_max.is_some_and(|bytes_max| bytes >= bytes_max) {
                    self.too_long = Some(path.to_owned());
                }
                self.durable.entry(path.to_owned()).or_insert(bytes);
            }
            DiskStep::SyncFolder(path) => {
                // One that a failure takes back the next start makes: nothing fails without it.
                if !follows_spool {
                    self.sites.insert(site);
                }
                if self.left_out != Some(site) {
                    self.synchronising = Some(Synchronising::Folder(path.to_owned()));
                }
            }
            DiskStep::SyncFile(path) => {
                if self.not_synchronised.contains(path) {
                    self.synchronised_again = Some(path.to_owned());
                }
                self.sites.insert(site);
                if self.left_out != Some(site) {
                    self.synchronising = Some(Synchronising::File(path.to_owned()));
                }
            }
            _ => {}
        }
    }

    /// A file is about to lose its name; a failure may give it back, with what of it is on the disk.
    fn put_back(&mut self, path: &Path) {
        let Ok(mut bytes) = fs::read(path) else { return };
        if let Some(durable) = self.durable.remove(path) {
            bytes.truncate(usize::try_from(durable).expect("files are small"));
        }
        if let Some((from, old)) = self.cut.remove(path)
            && self.chance.one_in(2)
        {
            bytes.truncate(usize::try_from(from).expect("files are small"));
            bytes.extend(old);
        }
        if let Some(ranges) = self.dropped.remove(path) {
            self.lose_dropped(&mut bytes, ranges);
        }
        self.names.push((parent(path).to_owned(), Undo::PutBack { path: path.to_owned(), bytes }));
    }

    fn fault(&mut self, step: DiskStep<'_>) -> Option<io::Error> {
        if let (
            Some(refused),
            DiskStep::CreateFolder(path) | DiskStep::CreateFile(path) | DiskStep::Rename { to: path, .. },
        ) = (&self.refused, step)
            && path.starts_with(refused)
        {
            return Some(io::Error::from_raw_os_error(NOT_PERMITTED));
        }
        if let (Some(unlisted), DiskStep::Read(path)) = (&self.unlisted, step)
            && path.starts_with(unlisted)
        {
            return Some(io::Error::from_raw_os_error(NOT_PERMITTED));
        }
        let reads = matches!(step, DiskStep::Read(_));
        let needs_room = matches!(step, DiskStep::CreateFolder(_) | DiskStep::CreateFile(_) | DiskStep::Write { .. });
        match self.mood? {
            Mood::Sound => None,
            Mood::Failing { one_in } => {
                (!reads && self.chance.one_in(one_in)).then(|| io::Error::from_raw_os_error(INPUT_OUTPUT))
            }
            Mood::Full => needs_room.then(|| io::Error::from_raw_os_error(NO_ROOM)),
            Mood::NoSegments => {
                let begins = matches!(step, DiskStep::CreateFile(path) if is_of_log(path));
                begins.then(|| io::Error::from_raw_os_error(TOO_MANY_FILES))
            }
            Mood::Unreadable { one_in } => {
                (reads && self.chance.one_in(one_in)).then(|| io::Error::from_raw_os_error(INPUT_OUTPUT))
            }
        }
    }
}

impl DiskFaults for SimulatedDisk {
    fn before(&self, step: DiskStep<'_>, site: &'static Location<'static>) -> io::Result<()> {
        if LOOKS.get() {
            return Ok(());
        }
        self.pause_before(step);
        let mut state = self.state.lock();
        let state = &mut *state;
        state.take_step()?;
        state.finish();
        state.trace = mixed(state.trace, &self.root, step);
        let fault = state.fault(step);
        if std::env::var_os("SIMULATION_STEPS").is_some() {
            eprintln!("    {step:?} at {}:{}{}", site.file(), site.line(), if fault.is_some() { " FAILS" } else { "" });
        }
        if let Some(error) = fault {
            match step {
                DiskStep::Write { .. } => state.begin(step, (site.file(), site.line())),
                DiskStep::SyncFile(path) => state.drop_bytes(path),
                _ => {}
            }
            state.tears = true;
            return Err(error);
        }
        state.look_at_number(step);
        state.begin(step, (site.file(), site.line()));
        Ok(())
    }

    fn torn(&self, bytes: usize) -> usize {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.tears) { state.chance.below(bytes as u64 + 1) as usize } else { 0 }
    }
}

fn mixed(trace: u64, root: &Path, step: DiskStep<'_>) -> u64 {
    let (kind, path, bytes) = match step {
        DiskStep::CreateFolder(path) => (1, path, 0),
        DiskStep::RemoveFolder(path) => (2, path, 0),
        DiskStep::SyncFolder(path) => (3, path, 0),
        DiskStep::CreateFile(path) => (4, path, 0),
        DiskStep::Read(path) => (5, path, 0),
        DiskStep::Write { path, bytes } => (6, path, bytes as u64),
        DiskStep::CutOff { path, from } => (7, path, from),
        DiskStep::SyncFile(path) => (8, path, 0),
        DiskStep::Rename { to, .. } => (9, to, 0),
        DiskStep::RemoveFile(path) => (10, path, 0),
    };
    // Where the folder of a run lies differs.
    let name = path.strip_prefix(root).map_or(&b""[..], |path| path.as_os_str().as_encoded_bytes());
    let step = name.iter().fold(kind * 31 + bytes, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    (trace ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

fn is_of_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "wal")
}

pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().expect("a path inside a folder")
}
