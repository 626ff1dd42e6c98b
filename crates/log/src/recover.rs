//! Reads the log after a start.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tracehouse_disk::{Disk, DiskError, open_regular};
use tracehouse_model::{SpanBatch, TenantId};

use crate::continuity::{Continuity, EndLost, LogMark, LostRecords};
use crate::entry::DurableBatch;
use crate::parts::{Part, SegmentParts};
use crate::pieces::Pieces;
use crate::positions::Positions;
use crate::segment::{self, HEADER_BYTES, MAGIC, RecordKind, SegmentName};

/// What the name of such a copy has in it.
const COPY_OF_SEGMENT: &str = ".wal";
/// Copies of damaged segments take at most so much; the oldest go first.
const DAMAGED_BYTES_MAX: u64 = 1 << 30;
const COPIES_OF_SEGMENT_MAX: usize = 100;
/// Copies are compared in pieces of so much.
const COMPARED_BYTES: usize = 1 << 16;
/// So many zeros in a row are not written to a copy.
const HOLE_BYTES_MIN: u64 = 1 << 16;
/// So many findings are named; of the rest the number is told.
const FINDINGS_MAX: usize = 100;
pub const DAMAGED_FOLDER: &str = "damaged";

/// What a recovery met, apart from the batches.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Highest number met or known to the catalogue; the next record gets the one after.
    pub last_sequence: u64,
    pub records: u64,
    pub spans: u64,
    /// Bytes at the end of the last segment that were cut off.
    pub cut_off_bytes: u64,
    /// Records that are gone or can't be read, and that may hold spans that stand nowhere else.
    pub lost_records: u64,
    /// Copies of segments, or of their ends, in which something could not be read.
    pub kept_aside: Vec<PathBuf>,
    /// All that are there by now, with those of earlier starts, and their sizes in bytes.
    pub copies_aside: Vec<(PathBuf, u64)>,
    /// What is wrong, for people.
    pub findings: Vec<Finding>,
    pub findings_left_out: u64,
    /// Segments that are still needed, with the last number in each.
    pub segments: Vec<(PathBuf, u64)>,
    /// Segments that are not. They go once the log goes on in a new one: without any, it would look as if all were lost.
    pub needless: Vec<PathBuf>,
}

/// Something in the log that should not be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The last segment ended with bytes that are no whole record. After a crash that is what was being written.
    CutOff { segment: PathBuf, bytes: u64, header: Option<RecordAtFault> },
    /// A record that is there can't be read.
    Damaged { segment: PathBuf, bytes: u64, record: RecordAtFault },
    /// Bytes between records are none.
    Unknown { segment: PathBuf, offset: u64, bytes: u64 },
    /// Records that are missing, by their numbers.
    Lost(LostRecords),
    /// The log ends before it should.
    EndLost(EndLost),
}

/// What the header and the beginning of a record that can't be read still say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordAtFault {
    pub sequence: u64,
    pub body_bytes: u64,
    pub tenant: Option<TenantId>,
}

impl RecordAtFault {
    /// Whether its spans may stand nowhere else.
    pub fn counts(&self, kind: RecordKind, positions: &Positions) -> bool {
        match &self.tenant {
            Some(tenant) => positions.counts(tenant, kind, self.sequence),
            None => self.sequence > positions.all(),
        }
    }
}

impl fmt::Display for RecordAtFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "record {} with {} bytes of spans", self.sequence, self.body_bytes)?;
        match &self.tenant {
            Some(tenant) => write!(formatter, " of tenant {tenant}"),
            None => write!(formatter, " of an unknown tenant"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff { segment, bytes, header } => {
                write!(formatter, "the last {bytes} bytes of the log segment {} were cut off: ", segment.display())?;
                match header {
                    Some(record) => write!(formatter, "the beginning of {record}")?,
                    None => write!(formatter, "no header of a record can be read in them")?,
                }
                write!(
                    formatter,
                    ". What a crash interrupted was never acknowledged; after damage of the disk spans may be lost"
                )
            }
            Self::Damaged { segment, bytes, record } => {
                let segment = segment.display();
                write!(
                    formatter,
                    "{bytes} bytes of the log segment {segment} can't be read: {record}. Its spans are lost"
                )
            }
            Self::Unknown { segment, offset, bytes } => {
                let segment = segment.display();
                write!(
                    formatter,
                    "{bytes} bytes from {offset} on of the log segment {segment} are no record that can be told"
                )
            }
            Self::Lost(lost) => lost.fmt(formatter),
            Self::EndLost(lost) => lost.fmt(formatter),
        }
    }
}

/// Passes every intact record that counts on, in order, with what was met before it. The torn end of the last segment is cut off; what else can't be
/// read is copied aside and named, and the records behind it are still read. A segment that the machine can't read at all
/// ends the recovery: to go on without it would lose it.
pub fn recover(
    disk: &Disk,
    folder: &Path,
    positions: &Positions,
    mark: Option<LogMark>,
    replay: impl FnMut(DurableBatch, &Recovered),
) -> Result<Recovered, DiskError> {
    let segments = list(disk, folder)?;
    let recovered = Recovered { last_sequence: positions.highest(), ..Recovered::default() };
    let continuity = Continuity::new(positions, mark);
    let mut recovery = Recovery { disk, folder, positions, replay, recovered, continuity, told: 0 };
    for (at, segment) in segments.iter().enumerate() {
        let mut behind = segments[at + 1..].iter().filter(|other| other.bytes > MAGIC.len() as u64).peekable();
        let is_last = behind.peek().is_none();
        // Of two that begin with one number one comes from before a power failure, and holds no record.
        let next = behind.map(|other| other.name.first_sequence).find(|first| *first > segment.name.first_sequence);
        recovery.segment(segment, next.unwrap_or(u64::MAX), is_last)?;
    }
    recovery.end(mark);
    let needed = recovery.recovered.segments.iter().map(|(path, _)| path);
    // Of those that nobody needs any more only the last can have been cut off.
    let last = segments.iter().rposition(|segment| segment.bytes > MAGIC.len() as u64).unwrap_or(0);
    let is_cut = |path: &&PathBuf| segments[last..].iter().any(|segment| segment.path == **path);
    for path in needed.chain(recovery.recovered.needless.iter().filter(is_cut)) {
        // Who wrote it, or cut off its end, may have been killed before it was synchronised. From now on it is seen, and later records
        // are numbered after it, or as what was cut off. The names of all segments survive with the next one's.
        disk.sync_file(path)?;
    }
    // Where there is no folder there are no copies.
    recovery.recovered.copies_aside = copies(&folder.join(DAMAGED_FOLDER)).unwrap_or_default();
    Ok(recovery.recovered)
}

struct FoundSegment {
    name: SegmentName,
    path: PathBuf,
    bytes: u64,
}

fn list(disk: &Disk, folder: &Path) -> Result<Vec<FoundSegment>, DiskError> {
    let mut segments = Vec::new();
    for (path, _) in disk.list(folder)? {
        if let Some(name) = SegmentName::of(&path) {
            // A link that leads nowhere is named when it is to be read.
            let found = fs::metadata(&path).or_else(|_| fs::symlink_metadata(&path));
            let found = found.map_err(|source| DiskError { action: "looking at", path: path.clone(), source })?;
            segments.push(FoundSegment { name, path, bytes: found.len() });
        }
    }
    segments.sort_unstable_by_key(|segment| segment.name);
    Ok(segments)
}

/// The end of a segment, which is no whole record.
struct Tail {
    range: Range<u64>,
    header: Option<RecordAtFault>,
    /// It looks like a write that a crash interrupted: a part of a record, or zeros. Anything else may have been a record, and so may
    /// this where the end of the log is lost.
    is_torn: bool,
}

struct Recovery<'a, Replay> {
    disk: &'a Disk,
    folder: &'a Path,
    positions: &'a Positions,
    replay: Replay,
    recovered: Recovered,
    continuity: Continuity<'a>,
    /// The highest number that the log tells of.
    told: u64,
}

impl<Replay: FnMut(DurableBatch, &Recovered)> Recovery<'_, Replay> {
    fn segment(&mut self, segment: &FoundSegment, end: u64, is_last: bool) -> Result<(), DiskError> {
        let FoundSegment { name, path, .. } = segment;
        let failed = |source| DiskError { action: "reading", path: path.clone(), source };
        let mut pieces = Pieces::of(self.disk.open_to_read(path)?).map_err(failed)?;
        let bytes = pieces.bytes();
        let parts = SegmentParts::new(&mut pieces, name.salt, name.first_sequence..end).map_err(failed)?;
        let mut is_damaged = false;
        let mut last_sequence = None;
        let mut tail = None;
        self.number(name.first_sequence);
        self.told = self.told.max(name.first_sequence.saturating_sub(1));
        for part in parts {
            let (range, part) = part.map_err(failed)?;
            let is_end = is_last && range.end == bytes;
            match part {
                Part::Record { sequence, body } => {
                    self.number(sequence);
                    self.pass(sequence);
                    last_sequence = Some(sequence);
                    is_damaged |= !self.record(path, sequence, &body);
                }
                // Pages of a file may reach the disk in any order.
                Part::Damaged { sequence, body_bytes, head } if is_end => {
                    let header = Some(RecordAtFault::new(sequence, body_bytes, &head));
                    tail = Some(Tail { range, header, is_torn: false });
                }
                Part::Damaged { sequence, body_bytes, head } => {
                    self.number(sequence);
                    self.pass(sequence);
                    last_sequence = Some(sequence);
                    is_damaged = true;
                    self.damaged_record(path, sequence, body_bytes, &head);
                }
                Part::CutOff { sequence, body_bytes, head } => {
                    let header = Some(RecordAtFault::new(sequence, body_bytes, &head));
                    tail = Some(Tail { range, header, is_torn: true });
                }
                Part::Unknown { is_zeros } if is_end => {
                    let is_torn = is_zeros || range.end - range.start < HEADER_BYTES as u64;
                    tail = Some(Tail { range, header: None, is_torn });
                }
                Part::Unknown { .. } => {
                    is_damaged = true;
                    let (offset, bytes) = (range.start, range.end - range.start);
                    self.find(Finding::Unknown { segment: path.clone(), offset, bytes });
                }
            }
        }
        if is_damaged || (tail.is_some() && !is_last) {
            self.keep_aside(path, &mut pieces, 0..bytes)?;
        }
        if let Some(tail) = tail {
            if is_last {
                self.cut_off(path, &mut pieces, &tail)?;
            }
            let bytes = tail.range.end - tail.range.start;
            self.find(Finding::CutOff { segment: path.clone(), bytes, header: tail.header });
        }
        self.finish(path, last_sequence);
        Ok(())
    }

    /// A record with this number is there: those before it should have been met.
    fn number(&mut self, sequence: u64) {
        if let Some(lost) = self.continuity.meet(sequence) {
            self.recovered.lost_records += lost.count();
            self.find(Finding::Lost(lost));
        }
    }

    fn pass(&mut self, sequence: u64) {
        self.continuity.pass(sequence);
        self.told = self.told.max(sequence);
    }

    /// All segments were read.
    fn end(&mut self, mark: Option<LogMark>) {
        // A number that was given is not given again: a segment without records tells by its name how far they went, also if the
        // catalogue lost that.
        let reached = mark.map_or(0, |mark| mark.reached).max(self.told);
        self.recovered.last_sequence = self.recovered.last_sequence.max(reached);
        let Some(lost) = self.continuity.end(self.told) else { return };
        self.recovered.lost_records += lost.lost.map_or(0, LostRecords::count);
        self.find(Finding::EndLost(lost));
    }

    /// Returns whether the record could be read, or need not be.
    fn record(&mut self, path: &Path, sequence: u64, body: &[u8]) -> bool {
        let Some((tenant, kind, encoded)) = segment::split_body(body) else {
            self.damaged_record(path, sequence, body.len() as u64, body);
            return false;
        };
        if !self.positions.counts(&tenant, kind, sequence) {
            return true;
        }
        let Ok(spans) = SpanBatch::decode(encoded) else {
            self.damaged_record(path, sequence, body.len() as u64, body);
            return false;
        };
        self.recovered.records += 1;
        self.recovered.spans += spans.len() as u64;
        (self.replay)(DurableBatch { sequence, tenant, kind, spans }, &self.recovered);
        true
    }

    /// One whose spans stand in files is no loss. `head`: the beginning of the body at least.
    fn damaged_record(&mut self, path: &Path, sequence: u64, body_bytes: u64, head: &[u8]) {
        let record = RecordAtFault::new(sequence, body_bytes, head);
        let kind = segment::split_body(head).map_or(RecordKind::New, |(_, kind, _)| kind);
        if record.counts(kind, self.positions) {
            self.recovered.lost_records += 1;
            let bytes = HEADER_BYTES as u64 + body_bytes;
            self.find(Finding::Damaged { segment: path.to_owned(), bytes, record });
        }
    }

    fn find(&mut self, finding: Finding) {
        if self.recovered.findings.len() < FINDINGS_MAX {
            self.recovered.findings.push(finding);
        } else {
            self.recovered.findings_left_out += 1;
        }
    }

    fn cut_off(&mut self, path: &Path, segment: &mut Pieces, tail: &Tail) -> Result<(), DiskError> {
        let from = tail.range.start;
        self.recovered.cut_off_bytes += tail.range.end - from;
        // Where a record is missing that was known, the tail is what is left of it.
        let is_end_lost = self.continuity.end(self.told).is_some();
        if !tail.is_torn || is_end_lost {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.keep_aside(Path::new(&format!("{name}.from-{from}")), segment, tail.range.clone())?;
        }
        self.disk.open_to_write(path)?.cut_off(from)
    }

    /// Writes a copy that stays until a person has looked at it, or newer ones need the room. Of a part that takes more than
    /// all copies may, the beginning is kept; zeros take no room on the disk.
    fn keep_aside(&mut self, path: &Path, segment: &mut Pieces, part: Range<u64>) -> Result<(), DiskError> {
        let folder = self.folder.join(DAMAGED_FOLDER);
        if self.disk.create_folder(&folder)? {
            self.disk.sync_folder(self.folder)?;
        }
        let end = part.end.min(part.start + DAMAGED_BYTES_MAX);
        let failed = |source| DiskError { action: "reading", path: path.to_owned(), source };
        let (copy, is_there) = name_of_copy(&folder, path, segment, &(part.start..end)).map_err(failed)?;
        if !is_there {
            self.make_room_aside(&folder, end - part.start)?;
            self.copy_aside(&copy, segment, part.start..end)?;
        }
        // Also of one that is there: who wrote it may have been interrupted before.
        self.disk.sync_file(&copy).inspect_err(|_| {
            // A second synchronisation may succeed for what the first one lost; a second copy is written again.
            let _ = self.disk.remove_file(&copy);
        })?;
        self.disk.sync_folder(&folder)?;
        self.recovered.kept_aside.push(copy);
        Ok(())
    }

    fn copy_aside(&self, copy: &Path, segment: &mut Pieces, part: Range<u64>) -> Result<(), DiskError> {
        let failed = |source| DiskError { action: "reading", path: copy.to_owned(), source };
        let mut file = self.disk.create_file(copy)?;
        let mut place = part.start;
        while place < part.end {
            let zeros = segment.zeros_from(place).map_err(failed)?.min(part.end - place);
            if zeros >= HOLE_BYTES_MIN {
                place += zeros;
                // Nothing is behind this place: the file becomes longer by a hole.
                file.cut_off(place - part.start)?;
                continue;
            }
            let bytes = segment.from(place, 1).map_err(failed)?;
            let bytes = &bytes[..bytes.len().min((part.end - place) as usize)];
            file.append(bytes)?;
            place += bytes.len() as u64;
        }
        Ok(())
    }

    fn make_room_aside(&self, folder: &Path, needed: u64) -> Result<(), DiskError> {
        let mut copies: Vec<(PathBuf, u64)> = Vec::new();
        for (path, kind) in self.disk.list(folder)? {
            // Whatever else somebody put there is not ours to remove.
            if kind.is_file() && path.file_name().is_some_and(|name| name.to_string_lossy().contains(COPY_OF_SEGMENT)) {
                let found = fs::metadata(&path);
                let found = found.map_err(|source| DiskError { action: "looking at", path: path.clone(), source })?;
                copies.push((path, found.len()));
            }
        }
        copies.sort_unstable();
        let mut bytes: u64 = copies.iter().map(|(_, bytes)| bytes).sum();
        for (path, freed) in copies {
            if bytes + needed <= DAMAGED_BYTES_MAX {
                break;
            }
            tracing::warn!(path = %path.display(), "the copies of damaged log segments take too much room: the oldest is removed");
            self.disk.remove_file(&path)?;
            bytes -= freed;
        }
        Ok(())
    }

    fn finish(&mut self, path: &Path, last_sequence: Option<u64>) {
        self.recovered.last_sequence = self.recovered.last_sequence.max(last_sequence.unwrap_or(0));
        match last_sequence.filter(|&last| last > self.positions.all()) {
            Some(last) => self.recovered.segments.push((path.to_owned(), last)),
            None => self.recovered.needless.push(path.to_owned()),
        }
    }
}

/// A name for a copy of a part of a segment under which no copy of another part is, and whether there is one of this. One that was
/// broken off is written anew.
fn name_of_copy(folder: &Path, path: &Path, segment: &mut Pieces, part: &Range<u64>) -> io::Result<(PathBuf, bool)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut copy = folder.join(&*name);
    let mut number = 1;
    while number <= COPIES_OF_SEGMENT_MAX {
        match held_by(&copy, segment, part)? {
            Held::Whole => return Ok((copy, true)),
            Held::Beginning => return Ok((copy, false)),
            Held::Other => number += 1,
        }
        copy = folder.join(format!("{name}.copy-{number}"));
    }
    let advice = format!("there are {COPIES_OF_SEGMENT_MAX} copies of {name} in {}; take them away", folder.display());
    Err(io::Error::other(advice))
}

/// What a copy holds of a part of a segment.
enum Held {
    Whole,
    /// Or nothing at all.
    Beginning,
    Other,
}

fn held_by(copy: &Path, segment: &mut Pieces, part: &Range<u64>) -> io::Result<Held> {
    let mut file = match open_regular(copy, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::Beginning),
        // Something else stands there, or what is somebody else's.
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::PermissionDenied) => {
            return Ok(Held::Other);
        }
        Err(error) => return Err(error),
    };
    let mut piece = vec![0; COMPARED_BYTES];
    let mut place = part.start;
    while place < part.end {
        let wanted = COMPARED_BYTES.min(usize::try_from(part.end - place).unwrap_or(COMPARED_BYTES));
        let read = match file.read(&mut piece[..wanted]) {
            Ok(0) => return Ok(Held::Beginning),
            Ok(read) => read,
            // What can't be read is not written over.
            Err(_) => return Ok(Held::Other),
        };
        if segment.from(place, read)?.get(..read) != Some(&piece[..read]) {
            return Ok(Held::Other);
        }
        place += read as u64;
    }
    Ok(Held::Whole)
}

impl RecordAtFault {
    /// `head`: the beginning of the body at least.
    pub fn new(sequence: u64, body_bytes: u64, head: &[u8]) -> Self {
        let tenant = segment::split_body(head).map(|(tenant, _, _)| tenant);
        Self { sequence, body_bytes, tenant }
    }
}

/// What starts kept aside, which stays until a person takes it away. A folder that is not there holds nothing.
pub(crate) fn copies(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut copies = Vec::new();
    for entry in entries {
        let entry = entry?;
        copies.push((entry.path(), entry.metadata()?.len()));
    }
    copies.sort_unstable();
    Ok(copies)
}
