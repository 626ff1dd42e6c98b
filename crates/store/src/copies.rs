//! Finds spans that are stored already: copies that a sender sent again.
//!
//! A copy begins when its twin began, so only files with spans of the same minutes can hold the twin; of those, only files
//! whose filter may hold the trace are looked at; of those, ids, starts and kinds are compared in memory; and only where
//! all of them are the same is the content read ([`SpanBatch::is_copy`] decides). New spans therefore cost a few filter
//! look-ups for each trace, and files are read for traces that go on from one file into the next: where these are few the
//! pages that they stand in, else what tells all spans of the file apart.
//!
//! The bound: every file that was written within [`CHECKED_ALWAYS`] is looked at, and of older ones as many as
//! [`OLDER_FILES_MAX`], newest first. Copies beyond that are found when their files are merged and when a trace is read.
//!
//! A file that the machine can't read now can't be looked into. Whoever meets one must hold it back ([`crate::held_back`]): it
//! may hold twins of what is written meanwhile.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use parquet::arrow::arrow_reader::RowSelector;
use parquet::errors::ParquetError;
use tracehouse_model::{ContentHasher, CopyKey, SeededMap, SeededSet, SpanBatch, TraceId};
use tracehouse_spanfile::{OpenFile, Projection, RowRef, StringForm, TraceFilter, hour_of, is_damage};

use crate::error::chain;
use crate::span_file::SpanFile;
use crate::stored_ids::{KEY_COLUMNS, push_keys};

/// Files that were written within so long are always looked at.
pub(crate) const CHECKED_ALWAYS: Duration = Duration::from_secs(2 * 3600);
/// Of files written before that, at most so many are looked at for one flush: a sender that sends spans of all hours
/// would otherwise have all files read.
const OLDER_FILES_MAX: usize = 64;
/// Of how many spans under the same ids, kind and start the content is read in one file: so many, and for each span that
/// was sent under such ids [`COMPARED_PER_SENT`] more. Who chooses ids can't have whole files read for one span, and whoever
/// sends all again what is stored has all of it compared.
const COMPARED_MIN: usize = 16 * 1024;
const COMPARED_PER_SENT: usize = 64;
/// Spans whose content is read at once to be compared.
pub(crate) const COMPARED_AT_ONCE_MAX: usize = 16 * 1024;
/// Bytes of content that are read at once.
pub(crate) const COMPARED_BYTES_MAX: u64 = 16 << 20;
/// About so many spans can be told apart in the time that it takes to look up one trace.
const SPANS_PER_LOOK_UP: u64 = 4096;
const NANOS_PER_MINUTE: i64 = 60_000_000_000;
const MINUTES_PER_HOUR: i64 = 60;

/// The spans of one trace that may be copies, in the order of their starts.
pub(crate) struct TraceGroup<'a> {
    trace: TraceId,
    rows: &'a [RowRef],
    /// In which they begin.
    hours: RangeInclusive<i64>,
}

impl<'a> TraceGroup<'a> {
    pub(crate) fn new(trace: TraceId, rows: &'a [RowRef], starts_unix_nanos: impl Iterator<Item = i64>) -> Self {
        let (least, greatest) =
            starts_unix_nanos.fold((i64::MAX, i64::MIN), |(least, most), start| (least.min(start), most.max(start)));
        Self { trace, rows, hours: hour_of(least)..=hour_of(greatest) }
    }
}

/// Looks for twins of spans in files.
pub(crate) struct StoredCopies<'a> {
    /// Of one tenant, with spans of the same time.
    files: Vec<Candidate<'a>>,
    /// The places in `files` of those whose spans begin in an hour.
    by_hour: ByHour,
    batches: &'a [&'a SpanBatch],
    hasher: ContentHasher,
    found: Found,
}

struct Candidate<'a> {
    file: &'a Arc<SpanFile>,
    filter: Arc<TraceFilter>,
}

/// What a search for twins came to.
#[derive(Default)]
pub(crate) struct Found {
    /// The spans that have a twin, in no order.
    pub(crate) copies: Vec<RowRef>,
    /// Files that could not be looked into. The machine is at fault: what is damaged shows its spans to nobody.
    pub(crate) unread: Vec<Arc<SpanFile>>,
}

impl<'a> StoredCopies<'a> {
    /// `files`: all of the tenant; `starts`: of the spans that may be copies; `now_unix_nanos`: by the clock that the files'
    /// `created_at` was taken from.
    pub(crate) fn new(
        files: &'a [Arc<SpanFile>],
        batches: &'a [&'a SpanBatch],
        starts: impl Iterator<Item = i64>,
        now_unix_nanos: i64,
    ) -> Self {
        let mut met = of_the_same_minutes(files, starts);
        bound(&mut met, now_unix_nanos);
        Self::among(met, batches)
    }

    /// The same, without a bound on how many files are looked into.
    pub(crate) fn among_all(files: &'a [Arc<SpanFile>], batches: &'a [&'a SpanBatch]) -> Self {
        let starts = batches.iter().flat_map(|batch| batch.start_unix_nanos.iter().copied());
        Self::among(of_the_same_minutes(files, starts), batches)
    }

    fn among(files: Vec<&'a Arc<SpanFile>>, batches: &'a [&'a SpanBatch]) -> Self {
        let (files_by_hour, hasher) = (ByHour::default(), ContentHasher::default());
        let mut copies = Self { files: Vec::new(), by_hour: files_by_hour, batches, hasher, found: Found::default() };
        for file in files {
            match whole_or_what_is_left(file, || file.filter().map_err(|error| error.source)) {
                Ok(filter) => {
                    copies.by_hour.add(copies.files.len(), hours_of(file));
                    copies.files.push(Candidate { file, filter });
                }
                Err(error) => copies.found.not_read(file, &error),
            }
        }
        copies
    }

    /// Whether a file of the same time may hold spans of a trace.
    pub(crate) fn may_hold(&self, trace: TraceId) -> bool {
        self.files.iter().any(|candidate| candidate.filter.may_contain(trace))
    }

    /// Whether a file may hold twins of some spans of a trace: one of their hours, as twins begin at the same time. A flush may have
    /// a hundred thousand traces, and files of thousands of hours.
    pub(crate) fn may_hold_any(&self, group: &TraceGroup<'_>) -> bool {
        let mut met = self.by_hour.met(group.hours.clone());
        met.any(|at| self.files[at].filter.may_contain(group.trace))
    }

    /// The spans of the groups that have a twin in a file. Who has none needs no groups.
    pub(crate) fn find(mut self, groups: &[TraceGroup<'_>]) -> Found {
        let mut groups_by_hour = ByHour::default();
        groups.iter().enumerate().for_each(|(at, group)| groups_by_hour.add(at, group.hours.clone()));
        for Candidate { file, filter } in std::mem::take(&mut self.files) {
            let mut met: Vec<usize> = groups_by_hour.met(hours_of(file)).collect();
            met.sort_unstable();
            let met = met.into_iter().map(|at| &groups[at]);
            let inside: Vec<&TraceGroup<'_>> = met.filter(|group| filter.may_contain(group.trace)).collect();
            if inside.is_empty() {
                continue;
            }
            if let Err(error) = whole_or_what_is_left(file, || self.look_into(file, &inside)) {
                self.found.not_read(file, &error);
            }
        }
        self.found
    }

    /// Whether no file has spans of the same time: nothing has to be looked at.
    pub(crate) fn is_needless(&self) -> bool {
        self.files.is_empty()
    }

    fn look_into(&mut self, file: &Arc<SpanFile>, groups: &[&TraceGroup<'_>]) -> Result<(), ParquetError> {
        let open = file.open().map_err(|error| error.source)?;
        let ids = match file.known_ids() {
            None if groups.len() as u64 * SPANS_PER_LOOK_UP < file.record.spans => return self.look_up(&open, groups),
            None => file.ids(&open)?,
            Some(known) => known,
        };
        let mut sent = SentSpans::default();
        for (row_group, ids) in ids.row_groups.iter().enumerate() {
            let mut suspected: Vec<u32> = Vec::new();
            for group in groups {
                let Some(rows) = ids.traces.of(group.trace) else { continue };
                suspected.extend(self.suspected(group, rows.clone(), &ids.keys[rows], &mut sent));
            }
            // A row that can't be read is in no answer, so it is nobody's twin.
            if let Some(readable) = open.readable(row_group) {
                suspected.retain(|stored| readable.value(*stored as usize));
            }
            suspected.sort_unstable();
            self.compare(&open, row_group, &suspected, &mut sent)?;
        }
        Ok(())
    }

    /// Looks into the pages of a file in which the traces stand.
    fn look_up(&mut self, open: &OpenFile, groups: &[&TraceGroup<'_>]) -> Result<(), ParquetError> {
        let mut sent = SentSpans::default();
        for group in groups {
            for (row_group, rows) in open.find_trace(group.trace)? {
                let selection = vec![RowSelector::skip(rows.start), RowSelector::select(rows.len())];
                let mut keys = Vec::with_capacity(rows.len());
                let (form, at_once) = (StringForm::Dictionary, rows.len());
                for batch in open.scan(row_group, &KEY_COLUMNS, Some(selection.into()), form, at_once)? {
                    push_keys(&batch?, &mut keys)?;
                }
                let suspected = self.suspected(group, rows, &keys, &mut sent);
                self.compare(open, row_group, &suspected, &mut sent)?;
            }
        }
        Ok(())
    }

    /// The stored rows of a trace, ascending, that have the keys of sent ones, which are added to `sent`. `keys`: those of the
    /// stored rows.
    fn suspected(
        &self,
        group: &TraceGroup<'_>,
        stored: Range<usize>,
        keys: &[CopyKey],
        sent: &mut SentSpans,
    ) -> Vec<u32> {
        let key_of = |at: &RowRef| self.batches[at.batch as usize].copy_key(at.row as usize);
        let sent_keys: SeededSet<CopyKey> = group.rows.iter().map(key_of).collect();
        let rows = (stored.start as u32..).zip(keys).filter(|(_, key)| sent_keys.contains(*key));
        let (suspected, met): (Vec<u32>, SeededSet<CopyKey>) = rows.map(|(row, key)| (row, *key)).unzip();
        // A trace may go on in the next row group.
        let is_new = |key: &CopyKey| met.contains(key) && !sent.keys.contains(&(group.trace, *key));
        for at in group.rows.iter().filter(|at| is_new(&key_of(at))) {
            let hash = self.hasher.hash(self.batches[at.batch as usize], at.row as usize);
            sent.by_content.entry(hash).or_default().push(*at);
            sent.count += 1;
        }
        sent.keys.extend(met.iter().map(|key| (group.trace, *key)));
        suspected
    }

    /// Reads the content of the stored spans, some at a time, and compares.
    fn compare(
        &mut self,
        open: &OpenFile,
        row_group: usize,
        suspected: &[u32],
        sent: &mut SentSpans,
    ) -> Result<(), ParquetError> {
        let suspected = sent.bound(suspected);
        let bytes_per_row = open.row_bytes();
        let at_once = ((COMPARED_BYTES_MAX / bytes_per_row) as usize).clamp(1, COMPARED_AT_ONCE_MAX);
        for some in suspected.chunks(at_once) {
            let ranges = ranges_of(some.iter().copied());
            let stored = open.read_ranges(row_group, &ranges, Projection::All)?;
            for row in 0..stored.len() {
                let Some(alike) = sent.by_content.get_mut(&self.hasher.hash(&stored, row)) else { continue };
                let is_copy = |at: &mut RowRef| self.batches[at.batch as usize].is_copy(at.row as usize, &stored, row);
                self.found.copies.extend(alike.extract_if(.., is_copy));
            }
        }
        Ok(())
    }
}

/// The sent spans that one file may hold twins of.
#[derive(Default)]
struct SentSpans {
    /// Those of no twin yet, by a hash of their content.
    by_content: SeededMap<u64, Vec<RowRef>>,
    /// Under which ids they were sent.
    keys: SeededSet<(TraceId, CopyKey)>,
    /// How many there were.
    count: usize,
    /// Stored spans that were compared with them.
    compared: usize,
}

impl SentSpans {
    /// As many of the stored rows as may still be read.
    fn bound<'r>(&mut self, suspected: &'r [u32]) -> &'r [u32] {
        let room = (COMPARED_MIN + COMPARED_PER_SENT * self.count).saturating_sub(self.compared);
        let taken = &suspected[..suspected.len().min(room)];
        self.compared += taken.len();
        if taken.len() < suspected.len() {
            metrics::counter!("tracehouse_store_copies_unchecked_total").increment(1);
        }
        taken
    }
}

impl Found {
    fn not_read(&mut self, file: &Arc<SpanFile>, error: &ParquetError) {
        metrics::counter!("tracehouse_store_copies_unchecked_total").increment(1);
        tracing::warn!(
            path = file.record.path,
            error = chain(error),
            "a stored file could not be looked at for copies"
        );
        if !is_damage(error) && !self.unread.iter().any(|other| Arc::ptr_eq(other, file)) {
            self.unread.push(file.clone());
        }
    }
}

/// Reads a file; one that turns out to be damaged is checked, and what is left of it is read.
pub(crate) fn whole_or_what_is_left<T>(
    file: &SpanFile,
    mut read: impl FnMut() -> Result<T, ParquetError>,
) -> Result<T, ParquetError> {
    read().or_else(|error| if file.check(&error) { read() } else { Err(error) })
}

/// Bounds the number of files that were written long ago. They are ordered, newest first.
fn bound(found: &mut Vec<&Arc<SpanFile>>, now_unix_nanos: i64) {
    let always_since = now_unix_nanos.saturating_sub(CHECKED_ALWAYS.as_nanos() as i64);
    let always = found.partition_point(|file| file.record.created_at >= always_since);
    if found.len() > always + OLDER_FILES_MAX {
        let left_out = found.len() - always - OLDER_FILES_MAX;
        metrics::counter!("tracehouse_store_copies_unchecked_total").increment(left_out as u64);
        found.truncate(always + OLDER_FILES_MAX);
    }
}

/// Things by the hours that they are about.
#[derive(Default)]
struct ByHour {
    of_one: SeededMap<i64, Vec<usize>>,
    /// Those of several hours, which may meet any.
    of_several: Vec<usize>,
}

impl ByHour {
    fn add(&mut self, thing: usize, hours: RangeInclusive<i64>) {
        if hours.start() == hours.end() {
            self.of_one.entry(*hours.start()).or_default().push(thing);
        } else {
            self.of_several.push(thing);
        }
    }

    /// The things that may be about one of some hours, in no order.
    fn met(&self, hours: RangeInclusive<i64>) -> impl Iterator<Item = usize> {
        let is_wide = hours.end().saturating_sub(*hours.start()) >= self.of_one.len() as i64;
        let all = is_wide.then(|| self.of_one.values().flatten());
        let some = (!is_wide).then(|| hours.filter_map(|hour| self.of_one.get(&hour)).flatten());
        all.into_iter().flatten().chain(some.into_iter().flatten()).chain(&self.of_several).copied()
    }
}

/// In which hours spans of a file begin.
fn hours_of(file: &SpanFile) -> RangeInclusive<i64> {
    hour_of(file.record.start_min)..=hour_of(file.record.start_max)
}

/// In which minutes spans begin: for each hour one bit a minute.
struct Minutes(SeededMap<i64, u64>);

impl Minutes {
    fn of(starts: impl Iterator<Item = i64>) -> Self {
        let mut hours: SeededMap<i64, u64> = SeededMap::default();
        let mut last = (i64::MIN, i64::MIN);
        for start in starts {
            let minute = start.div_euclid(NANOS_PER_MINUTE);
            if last.0 == minute {
                continue;
            }
            last = (minute, start);
            let bit = 1u64 << minute.rem_euclid(MINUTES_PER_HOUR);
            *hours.entry(minute.div_euclid(MINUTES_PER_HOUR)).or_default() |= bit;
        }
        Self(hours)
    }

    /// Whether a file has spans that begin in one of the minutes.
    fn meet(&self, file: &SpanFile) -> bool {
        let record = &file.record;
        let hour_of = |start: i64| start.div_euclid(NANOS_PER_MINUTE * MINUTES_PER_HOUR);
        let (first, last) = (hour_of(record.start_min), hour_of(record.start_max));
        if first == last {
            let minute = |start: i64| start.div_euclid(NANOS_PER_MINUTE).rem_euclid(MINUTES_PER_HOUR);
            let from = u64::MAX << minute(record.start_min);
            let up_to = u64::MAX >> (u64::BITS as i64 - 1 - minute(record.start_max));
            return self.0.get(&first).is_some_and(|minutes| minutes & record.minutes & from & up_to != 0);
        }
        self.0.keys().any(|hour| (first..=last).contains(hour))
    }
}

/// Ascending rows as ranges.
fn ranges_of(rows: impl Iterator<Item = u32>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows.map(|row| row as usize) {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            Some(last) if last.end > row => {}
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

/// Files that have spans of the same minutes, newest first.
fn of_the_same_minutes(files: &[Arc<SpanFile>], starts: impl Iterator<Item = i64>) -> Vec<&Arc<SpanFile>> {
    let minutes = Minutes::of(starts);
    let mut found: Vec<&Arc<SpanFile>> = files.iter().filter(|file| minutes.meet(file)).collect();
    found.sort_by_key(|file| std::cmp::Reverse(file.record.created_at));
    found
}
