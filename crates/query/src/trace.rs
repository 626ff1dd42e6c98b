//! One trace, and one span of it.
//!
//! A trace may be as large as its sender likes: what it takes is estimated from the files before it is read, waited for if
//! other questions hold the memory, and read in portions. What doesn't fit is left out, and the answer says `N of M`.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{SeededSet, Span, SpanBatch, SpanId, TraceId, status};
use tracehouse_scan::{
    Held, Part, Reservation, may_contain, no_room, read_rows, readable, row_bytes, selection_of_range,
};
use tracehouse_spanfile::{OpenFile, Projection, StringForm, column};
use tracehouse_store::{HotBatch, HotRows, SpanFile};

use crate::answer_text::TextEstimate;
use crate::assemble::{bytes_of_hot_span, count_scanned, order};
use crate::copies::Sources;
use crate::error::QueryError;
use crate::question::Question;
use crate::request::{Trace, TraceDetail};
use crate::services::columns_of_services;
use crate::targets_told::target_columns;

/// What a portion may take while it is read.
const PORTION_BYTES: usize = 4 << 20;
/// Lists grow to twice their size, and are there twice while they do; at the end the spans are copied into their order.
pub(crate) const COPIES: usize = 3;
/// The first portion, and how much larger the next may be: what the rows really take is known only when they were read.
const FIRST_PORTION_ROWS: usize = 4096;
const PORTION_GROWTH: usize = 4;
/// About what a span in memory takes while it is looked up whether it is a copy of a stored one.
const LOOKED_UP_BYTES_PER_SPAN: usize = 96;
/// With less a trace is not begun to be read.
const HELD_BYTES_MIN: usize = 64 << 10;
/// About what a span takes beside its columns: in tables while the trace is put together.
pub(crate) const TABLE_BYTES_PER_SPAN: usize = 160;
/// A span with more copies than this is looked for no further.
const COPIES_MAX: usize = 16;
/// Columns for [`TraceDetail::Outline`], beside ids and times.
const OUTLINE_COLUMNS: [&str; 5] = ["name", "kind", "status", column::EVENT_NAMES, column::LINKED_TRACES];

/// What is asked of one trace.
#[derive(Clone, Copy)]
pub(crate) struct TraceQuestion {
    pub(crate) id: TraceId,
    pub(crate) detail: TraceDetail,
    /// At most so many spans.
    pub(crate) spans_max: usize,
    /// At most as many spans as make a text of this size.
    pub(crate) answer_bytes_max: usize,
    /// Whether all columns are read, whatever the detail.
    pub(crate) reads_whole: bool,
}

/// Where spans of a trace stand in a file.
struct Found<'a> {
    file: &'a Arc<SpanFile>,
    row_group: usize,
    rows: Range<usize>,
    /// The columns for an outline.
    outline: OnceCell<Vec<String>>,
}

/// Reads a trace; `None` if there is no span of it.
pub(crate) fn trace(question: Question<'_>, asked: TraceQuestion) -> std::result::Result<Option<Trace>, QueryError> {
    let found = find(question, asked.id);
    let hot = find_hot(question, asked.id)?;
    let Some(reading) = Reading::new(question, asked, &found, &hot)? else {
        let unread = question.reach.partial_reason();
        return unread.map_or(Ok(None), |reason| Err(QueryError::Unreadable(reason)));
    };
    let (trace, unsure) = reading.run(&found, &hot)?;
    if !unsure {
        return Ok(Some(trace));
    }
    // Spans look like copies in the columns that were read: all columns tell, if there is room for them.
    let whole = Reading::new(question, TraceQuestion { reads_whole: true, ..asked }, &found, &hot)?;
    let whole = whole.map(|reading| reading.run(&found, &hot)).transpose()?;
    let is_all = |trace: &Trace| trace.spans.len() as u64 == trace.span_count;
    Ok(Some(whole.map(|(whole, _)| whole).filter(|whole| is_all(whole) || !is_all(&trace)).unwrap_or(trace)))
}

/// Spans of the trace in memory that are not stored.
fn find_hot(question: Question<'_>, id: TraceId) -> std::result::Result<Vec<HotRows>, QueryError> {
    let Question { snapshot, bounds, .. } = question;
    let spans = |hot: &HotBatch| hot.spans.trace_id.iter().filter(|of_span| **of_span == id).count();
    let spans: usize = snapshot.hot.holding(&[id]).into_iter().map(|(_, hot)| spans(hot)).sum();
    let _held = bounds.wait_for(spans * LOOKED_UP_BYTES_PER_SPAN).map_err(|_| QueryError::Memory)?;
    Ok(snapshot.hot_rows(&[id]))
}

/// Where the trace stands in files that can be read.
fn find<'a>(question: Question<'a>, id: TraceId) -> Vec<Found<'a>> {
    let Question { snapshot, reach, .. } = question;
    let mut found = Vec::new();
    for file in snapshot.files.iter().filter(|file| may_contain(file, id)) {
        let parts = reach.attempt(file, Part::Whole, file.record.spans, |open| open.find_trace(id));
        found.extend(parts.into_iter().flatten().map(|(row_group, rows)| Found {
            file,
            row_group,
            rows,
            outline: OnceCell::new(),
        }));
    }
    found
}

/// A trace while it is read.
struct Reading<'a> {
    question: Question<'a>,
    asked: TraceQuestion,
    gathered: SpanBatch,
    sources: Sources,
    /// Spans of it that there are.
    total: u64,
    /// What the trace is expected to take, or does: its spans, copies of them while they are put together, and their text.
    held: Held,
    /// What it takes by now; at most what is held.
    charged: usize,
    portion_rows: usize,
    /// Why not all of them were gathered.
    cut: Option<&'static str>,
}

pub(crate) const CUT_BY_LIMIT: &str = "the limit of this request";
pub(crate) const CUT_BY_MEMORY: &str = "the memory for queries is used up; ask again, or open its spans one by one";
const CUT_BY_TIME: &str = "the time for a query was used up";
pub(crate) const CUT_BY_ANSWER: &str = "a larger answer is not written; open its spans one by one";

impl<'a> Reading<'a> {
    /// Waits for the memory that the trace is expected to take, or else for what there is. `None`: there is no such trace.
    fn new(
        question: Question<'a>,
        asked: TraceQuestion,
        found: &[Found<'_>],
        hot: &[HotRows],
    ) -> std::result::Result<Option<Self>, QueryError> {
        let Question { bounds, reach, .. } = question;
        let (mut total, mut bytes) = (0u64, 0usize);
        for found in found {
            total += found.rows.len() as u64;
            let Some(open) = reach.open(found.file) else { continue };
            let rows = found.rows.len().min(asked.spans_max);
            bytes = bytes.saturating_add(rows.saturating_mul(asked.bytes_of_span(found, &open)));
        }
        for HotRows { batch, rows } in hot {
            total += rows.len() as u64;
            bytes = bytes.saturating_add(rows.len().min(asked.spans_max) * COPIES * bytes_of_hot_span(batch));
        }
        if total == 0 {
            return Ok(None);
        }
        // Two large traces have room at once.
        let mut wanted = bytes.min(bounds.memory_bytes_max() / 2);
        let mut held = bounds.wait_for(wanted);
        while held.is_err() && wanted > HELD_BYTES_MIN {
            wanted /= 4;
            let mut smaller = bounds.hold();
            held = smaller.take(wanted).map(|()| smaller);
        }
        let held = held.map_err(|_| QueryError::Memory)?;
        let (gathered, portion_rows) = (SpanBatch::new(), FIRST_PORTION_ROWS);
        let sources = Sources::new(asked.reads_whole || !asked.detail.is_outline());
        Ok(Some(Self { question, asked, gathered, sources, total, held, charged: 0, portion_rows, cut: None }))
    }

    /// Counts what the trace takes; false if there is no room for it.
    fn charge(&mut self, bytes: usize) -> bool {
        let charged = self.charged.saturating_add(bytes);
        let missing = charged.saturating_sub(self.held.used());
        if missing > 0 && self.held.take(missing).is_err() {
            return false;
        }
        self.charged = charged;
        true
    }

    fn run(mut self, found: &[Found<'_>], hot: &[HotRows]) -> std::result::Result<(Trace, bool), QueryError> {
        // Files first: of two copies the stored one stays, so that the answer does not depend on what is in memory.
        for of_file in found.chunk_by(|one, other| Arc::ptr_eq(one.file, other.file)) {
            for found in of_file {
                self.read_found(found);
            }
            self.sources.end_file(self.gathered.len());
        }
        for HotRows { batch, rows } in hot {
            self.read_hot(batch, rows);
        }
        if self.gathered.is_empty() {
            let unread = self.question.reach.partial_reason();
            return Err(unread.map_or(QueryError::Memory, QueryError::Unreadable));
        }
        Ok(self.finish())
    }

    fn read_hot(&mut self, hot: &HotBatch, rows: &[usize]) {
        let mut wanted = rows.len().min(self.asked.spans_max - self.gathered.len().min(self.asked.spans_max));
        if wanted < rows.len() {
            self.cut = self.cut.or(Some(CUT_BY_LIMIT));
        }
        while wanted > 0 && !self.charge(wanted * (COPIES * bytes_of_hot_span(hot) + TABLE_BYTES_PER_SPAN)) {
            self.cut = self.cut.or(Some(CUT_BY_MEMORY));
            wanted /= 2;
        }
        self.gathered.append_rows(&hot.spans, rows.iter().copied().take(wanted));
    }

    fn room_for_spans(&mut self) -> usize {
        let room = self.asked.spans_max - self.gathered.len().min(self.asked.spans_max);
        if room == 0 {
            self.cut = self.cut.or(Some(CUT_BY_LIMIT));
        }
        room
    }

    /// Reads what stands in one place, portion by portion, as far as there is room.
    fn read_found(&mut self, found: &Found<'_>) {
        let mut rows = found.rows.clone();
        while !rows.is_empty() && self.cut.is_none() {
            let room = self.room_for_spans();
            if self.question.bounds.exceeded() {
                self.cut = Some(CUT_BY_TIME);
            }
            if self.cut.is_some() {
                return;
            }
            let portion = rows.start..rows.start + rows.len().min(room).min(self.portion_rows);
            match self.read_portion(found, portion) {
                Some(read) => rows.start += read,
                None => return,
            }
        }
    }

    /// Reads the first of some rows; how many is told. `None`: they can't be read, or there is no memory for them.
    fn read_portion(&mut self, found: &Found<'_>, rows: Range<usize>) -> Option<usize> {
        let Question { bounds, reach, .. } = self.question;
        let (asked, part) = (self.asked, Part::RowGroup(found.row_group));
        let open = reach.open(found.file)?;
        let columns = asked.columns(found, &open);
        let bytes_of_row = asked.row_bytes(&open, found.row_group, columns);
        let rows = rows.start..rows.start + rows.len().min((PORTION_BYTES / bytes_of_row).max(1));
        // As arrays, and as spans that are made of them.
        let of_portion = rows.len() * (2 * bytes_of_row + TABLE_BYTES_PER_SPAN);
        if !self.charge(of_portion) {
            self.cut = Some(CUT_BY_MEMORY);
            return None;
        }
        let projection = columns.map_or(Projection::All, Projection::Only);
        let read = reach.attempt(found.file, part, found.rows.len() as u64, |open| {
            read_rows(open, found.row_group, rows.clone(), projection)
        });
        let spans = read.inspect(|spans| count_scanned(bounds, &open, columns, spans.len()));
        let bytes = spans.as_ref().map_or(0, |spans| COPIES * spans.memory_bytes() + TABLE_BYTES_PER_SPAN * rows.len());
        let fits = self.charge(bytes);
        self.charged -= of_portion;
        if !fits {
            self.cut = Some(CUT_BY_MEMORY);
            return None;
        }
        let spans = spans?;
        // Rows are read in larger portions as long as they turn out to be small.
        let fitting = PORTION_BYTES / (bytes / COPIES / rows.len()).max(1);
        self.portion_rows = fitting.clamp(1, rows.len() * PORTION_GROWTH);
        if self.gathered.is_empty() {
            self.gathered = spans
        } else {
            self.gathered.append(&spans)
        }
        Some(rows.len())
    }

    /// Puts the trace together, with as many spans as the text of the answer may have.
    fn finish(mut self) -> (Trace, bool) {
        let gathered = std::mem::take(&mut self.gathered);
        let (mut order, mut trees) = order(&gathered, &self.sources);
        let mut tree = trees.pop().expect("there are spans of one trace");
        let (kept, text_bytes) = self.kept_of(&gathered, &order);
        order.truncate(kept);
        tree.parent.truncate(kept);
        let Summary { start_unix_nanos, duration_nanos, error_count } = Summary::of(&gathered, &order);
        let mut spans = SpanBatch::new();
        spans.append_rows(&gathered, order.into_iter().map(|row| row as usize));
        drop(gathered);
        // What is left is the copy in order, and what the writer of the answer will make of it.
        self.held.give_back(self.held.used().saturating_sub(spans.memory_bytes() + text_bytes));
        let (shown, span_count) = (spans.len() as u64, self.total - tree.duplicates);
        // When the spans that were found began says nothing of those that were not: any file that is missing may hold some.
        let unread = self.question.reach.partial_reason();
        let cut = self.cut.filter(|_| shown < span_count).map(|why| format!("{shown} of {span_count} spans: {why}"));
        let reasons: Vec<String> = cut.into_iter().chain(unread).collect();
        let trace = Trace {
            trace_id: self.asked.id,
            parent: tree.parent,
            start_unix_nanos,
            duration_nanos,
            root: tree.root.filter(|root| (*root as usize) < kept),
            error_count,
            duplicates: tree.duplicates,
            span_count,
            partial_reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            tenants: Vec::new(),
            memory: Reservation::of(self.held),
            spans,
        };
        (trace, tree.unsure)
    }

    /// How many spans, in their order, the text of the answer may have, and how long it is about.
    fn kept_of(&mut self, gathered: &SpanBatch, order: &[u32]) -> (usize, usize) {
        if self.asked.detail == TraceDetail::Texts {
            return (order.len(), 0);
        }
        let mut estimate = TextEstimate::new(gathered, self.asked.detail);
        let mut bytes = 0usize;
        for (kept, &row) in order.iter().enumerate() {
            let of_span = estimate.bytes_of(row as usize);
            let why = if bytes.saturating_add(of_span) > self.asked.answer_bytes_max && kept > 0 {
                Some(CUT_BY_ANSWER)
            } else if !self.charge(of_span) && kept > 0 {
                Some(CUT_BY_MEMORY)
            } else {
                None
            };
            if let Some(why) = why {
                self.cut = Some(why);
                return (kept, bytes);
            }
            bytes += of_span;
        }
        (order.len(), bytes)
    }
}

/// What some spans of a trace are together.
pub(crate) struct Summary {
    pub(crate) start_unix_nanos: i64,
    pub(crate) duration_nanos: i64,
    pub(crate) error_count: u64,
}

impl Summary {
    pub(crate) fn of(spans: &SpanBatch, rows: &[u32]) -> Self {
        let (mut start, mut end, mut error_count) = (i64::MAX, i64::MIN, 0);
        for row in rows.iter().map(|&row| row as usize) {
            let begin = spans.start_unix_nanos[row];
            start = start.min(begin);
            end = end.max(begin.saturating_add(spans.duration_nanos[row]));
            error_count += u64::from(spans.status_code[row] == status::ERROR);
        }
        Self { start_unix_nanos: start, duration_nanos: end.saturating_sub(start), error_count }
    }
}

impl TraceQuestion {
    /// The columns to read of a file; `None`: all.
    fn columns<'f>(&self, found: &'f Found<'_>, open: &Arc<OpenFile>) -> Option<&'f [String]> {
        let outline = || {
            let with_targets = self.detail == TraceDetail::OutlineWithTargets;
            let of_targets = if with_targets { target_columns(found.file, open) } else { Vec::new() };
            let always = OUTLINE_COLUMNS.into_iter().chain(columns_of_services(open)).map(str::to_owned);
            let columns: SeededSet<String> = always.chain(of_targets).collect();
            columns.into_iter().collect()
        };
        let is_outline = self.detail.is_outline() && !self.reads_whole;
        is_outline.then(|| found.outline.get_or_init(outline).as_slice())
    }

    fn row_bytes(&self, open: &OpenFile, row_group: usize, columns: Option<&[String]>) -> usize {
        let names: Option<Vec<&str>> = columns.map(|names| names.iter().map(String::as_str).collect());
        row_bytes(open, row_group, names.as_deref())
    }

    /// About what a span of a file takes until the answer is written.
    fn bytes_of_span(&self, found: &Found<'_>, open: &Arc<OpenFile>) -> usize {
        COPIES * self.row_bytes(open, found.row_group, self.columns(found, open)) + TABLE_BYTES_PER_SPAN
    }
}

/// One span with all that belongs to it; reads no other. Of several under the same id the one that keeps it where each needs its own.
pub(crate) fn span(
    question: Question<'_>,
    trace: TraceId,
    id: SpanId,
) -> std::result::Result<Option<Span>, QueryError> {
    let mut copies: Vec<Span> = Vec::new();
    for found in find(question, trace) {
        let part = Part::RowGroup(found.row_group);
        let most = COPIES_MAX - copies.len().min(COPIES_MAX);
        let read = question
            .reach
            .attempt(found.file, part, found.rows.len() as u64, |open| spans_with_id(question, open, &found, id, most));
        copies.extend(read.into_iter().flatten());
    }
    for (_, hot) in question.snapshot.hot.holding(&[trace]) {
        let spans = &hot.spans;
        let is_it = |row: &usize| spans.trace_id[*row] == trace && spans.span_id[*row] == id;
        copies.extend((0..spans.len()).filter(is_it).take(COPIES_MAX).map(|row| spans.span(row)));
    }
    match copies.into_iter().min_by_key(rank) {
        Some(span) => Ok(Some(span)),
        // It may be where nobody looked for want of memory.
        None if question.bounds.exceeded() => Err(QueryError::Memory),
        None => question.reach.partial_reason().map_or(Ok(None), |reason| Err(QueryError::Unreadable(reason))),
    }
}

/// The first of several spans under one id.
pub(crate) fn rank(span: &Span) -> impl Ord + use<> {
    (span.placing().rank(), span.name.clone(), span.service_name.clone())
}

/// The rows of one place that have a span id, as spans.
fn spans_with_id(
    question: Question<'_>,
    open: &OpenFile,
    found: &Found<'_>,
    id: SpanId,
    most: usize,
) -> Result<Vec<Span>> {
    let (row_group, bounds) = (found.row_group, question.bounds);
    let readable = readable(open, row_group);
    let is_readable = |row: usize| readable.as_ref().is_none_or(|readable| readable.value(row));
    let selection = selection_of_range(&found.rows);
    let mut rows: Vec<usize> = Vec::new();
    let mut next = found.rows.start;
    for batch in bounds.scan(open, row_group, &["span_id"], Some(selection), StringForm::View)? {
        let batch = batch?;
        let ids = batch.column(0).as_fixed_size_binary_opt();
        let ids = ids.ok_or_else(|| ParquetError::General("span ids of another type".into()))?;
        let same = (0..batch.num_rows()).filter(|&at| ids.value(at) == id.0).map(|at| next + at);
        let same = same.filter(|&row| is_readable(row));
        rows.extend(same.take(most - rows.len().min(most)));
        next += batch.num_rows();
    }
    rows.into_iter()
        .map(|row| {
            let _held = bounds.held(2 * row_bytes(open, row_group, None)).map_err(no_room)?;
            Ok(open.read_rows(row_group, row..row + 1, Projection::All)?.span(0))
        })
        .collect()
}
