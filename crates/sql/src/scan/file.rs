//! Scans one file, row group by row group: first which rows satisfy the filters, then the columns of those rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::common::Result as StatementResult;
use parquet::errors::Result;
use tracehouse_model::{SpanBatch, TraceId};
use tracehouse_scan::{
    Columns, Contents, Held, Part, ReadRows, RowGroup, Test, Values, contents_of, may_contain, may_hold, row_bytes,
};
use tracehouse_spanfile::{OpenFile, TreeIds};
use tracehouse_store::SpanFile;

use super::own_ids::IdsOf;
use super::sources::{Sources, is_columnar, present, stored_names};
use super::spans::SpanRows;
use super::{STEP_BYTES_MAX, Scan, ScanError, ScanResult};
use crate::plan::{Condition, Ranges};
use crate::tables::Column;
use crate::watch::Watch;

/// Whether anything in a file may satisfy the filters, from what it says of itself. Reads no rows.
pub(super) fn may_match(scan: &Scan, file: &Arc<SpanFile>) -> StatementResult<bool> {
    let predicate = &scan.predicate;
    // A file whose names or filter can't be read may hold anything.
    let has_trace = predicate.traces.as_ref().is_none_or(|traces| traces.iter().any(|&id| may_contain(file, id)));
    let start_time = Some((file.record.start_min, file.record.start_max));
    if !has_trace || !predicate.may_hold(&Ranges { start_time, duration_nanos: None }) {
        return Ok(false);
    }
    if predicate.conditions.is_empty() {
        return Ok(true);
    }
    let contents = contents_of(file);
    let columnar = |column: &Column| is_columnar(column, scan.table);
    for condition in &predicate.conditions {
        let may_hold = match condition.columns.as_slice() {
            [column] if columnar(column) => {
                may_hold(column.stored_field(), &ColumnTest { condition, column, watch: &scan.watch }, &contents)
            }
            columns => {
                let absent = |column: &Column| columnar(column) && !column.stored_field().may_occur(&contents);
                columns.is_empty() || !columns.iter().all(absent) || condition.holds_for_null()?
            }
        };
        if !may_hold {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A condition on one column that a file holds.
struct ColumnTest<'a> {
    condition: &'a Condition,
    column: &'a Column,
    watch: &'a Watch,
}

impl Test for ColumnTest<'_> {
    type Error = ScanError;

    fn of(&self, values: Values) -> ScanResult<BooleanArray> {
        // A statement may have thousands of conditions.
        self.watch.check()?;
        // A value of another type is null to the condition, and yet the value: it hides the resource's.
        let present = matches!(self.column, Column::Attribute(_)).then(|| present(&values));
        let values = self.column.made_of(values)?;
        let (rows, nulls) = (
            values.len(),
            present.map_or_else(|| values.logical_nulls(), |there| Some(NullBuffer::new(there.values().clone()))),
        );
        Ok(BooleanArray::new(self.condition.holds(vec![values], rows)?, nulls))
    }

    fn only_text(&self) -> Option<&str> {
        self.condition.only_text()
    }

    fn of_none(&self) -> ScanResult<bool> {
        Ok(self.condition.holds(vec![self.column.of_none()], 1)?.value(0))
    }
}

/// The part of a file that one partition reads.
pub(super) struct FileScan {
    file: Arc<SpanFile>,
    open: Arc<OpenFile>,
    /// Names that occur in it; nothing is known if they can't be read.
    contents: Contents,
    /// The row group that is read, or the next one.
    row_group: usize,
    /// Rows of it before this one were given.
    first_row: usize,
    current: Option<Wanted>,
    /// Where the wanted traces stand, once it has been looked up: row group and rows.
    traces: Option<Vec<(usize, Range<usize>)>>,
    /// The ids of the row group that is read, once they were asked for.
    ids: Option<(TreeIds, Held)>,
    /// How often reading the row group has failed.
    tries: usize,
}

/// The wanted rows of the row group that is read.
struct Wanted {
    rows: BooleanBuffer,
    reading: Reading,
}

enum Reading {
    /// Column by column.
    Columns(Box<Columns>),
    /// As whole spans, after those that were read already.
    Spans(Option<Box<ReadSpans>>),
}

/// Spans that were read together.
struct ReadSpans {
    spans: SpanBatch,
    /// The row in the row group that is the first of them.
    first: usize,
    /// Rows in the row group that are wanted and were not given yet.
    wanted: std::vec::IntoIter<usize>,
    /// The row in the row group to go on with after them.
    end: usize,
    /// The memory for them.
    _held: Held,
}

impl FileScan {
    pub(super) fn new(file: Arc<SpanFile>, open: Arc<OpenFile>, first_row_group: usize) -> Self {
        let contents = Contents::of_open(&file, &open);
        Self {
            file,
            open,
            contents,
            row_group: first_row_group,
            first_row: 0,
            current: None,
            traces: None,
            ids: None,
            tries: 0,
        }
    }

    /// The next rows, perhaps none; `None` at the end of the file. What can't be read is left out, as [`Reach`] has it: where
    /// damage is met, what of the file can be read is read from where the scan was.
    pub(super) fn step(&mut self, scan: &Scan) -> StatementResult<Option<RecordBatch>> {
        loop {
            let error = match self.step_once(scan) {
                Ok(batch) => return Ok(batch),
                Err(ScanError::Statement(error)) => return Err(error),
                Err(ScanError::File(error)) => error,
            };
            // Also over several steps, of which the first one only begins: what fails for good must not begin again and again.
            self.tries += 1;
            let rows = if self.row_group < self.open.row_groups() { self.open.rows_of(self.row_group) } else { 0 };
            let (part, spans) = (Part::RowGroup(self.row_group), (rows - self.first_row.min(rows)) as u64);
            match scan.reach.again(&self.file, Some(&self.open), part, spans, error, self.tries) {
                Some(open) => (self.open, self.traces, self.current, self.ids) = (open, None, None, None),
                None => break,
            }
        }
        self.next_row_group(scan);
        Ok(Some(RecordBatch::new_empty(scan.schema.clone())))
    }

    fn step_once(&mut self, scan: &Scan) -> ScanResult<Option<RecordBatch>> {
        if self.row_group >= self.open.row_groups() {
            return Ok(None);
        }
        let nothing = || RecordBatch::new_empty(scan.schema.clone());
        let Some(mut wanted) = self.current.take() else {
            self.current = self.begin(scan)?;
            if self.current.is_none() {
                self.next_row_group(scan);
            }
            return Ok(Some(nothing()));
        };
        let batch = match &mut wanted.reading {
            Reading::Columns(columns) => self.next_columns(&wanted.rows, columns, scan)?,
            Reading::Spans(read) => self.next_spans(&wanted.rows, read, scan)?,
        };
        match batch {
            Some(_) => self.current = Some(wanted),
            None => self.next_row_group(scan),
        }
        Ok(Some(batch.unwrap_or_else(nothing)))
    }

    fn next_row_group(&mut self, scan: &Scan) {
        self.row_group += scan.partitions;
        (self.first_row, self.current, self.ids, self.tries) = (0, None, None, 0);
    }

    /// Decides which rows of a row group are wanted, and begins to read them.
    fn begin(&mut self, scan: &Scan) -> ScanResult<Option<Wanted>> {
        let range = |column: &str| self.open.int_range(self.row_group, column);
        let ranges = Ranges { start_time: range("start_time"), duration_nanos: range("duration_nanos") };
        if !scan.predicate.may_hold(&ranges) {
            return Ok(None);
        }
        scan.reach.count_damage(&self.file, &self.open, Part::RowGroup(self.row_group));
        let of_traces = scan.predicate.traces.as_ref().map(|traces| self.rows_of_traces(traces)).transpose()?;
        let row_group = self.rows(scan);
        let mut rows = row_group.readable();
        if let Some(of_traces) = of_traces {
            rows = &rows & &of_traces;
        }
        if self.first_row > 0 {
            rows = &rows & &BooleanBuffer::collect_bool(rows.len(), |row| row >= self.first_row);
        }
        if rows.count_set_bits() == 0 {
            return Ok(None);
        }
        scan.report.count_row_group();
        rows = holding_all(scan, &row_group, &ranges, rows)?;
        if rows.count_set_bits() == 0 {
            return Ok(None);
        }
        let reading = if scan.in_columns() {
            let stored = Sources::of(&scan.columns, self.open.layout(), &self.contents).names();
            let names: Vec<&str> = stored.iter().map(String::as_str).collect();
            let together = rows_together(&self.open, self.row_group, &names, scan.rows_per_step);
            Reading::Columns(Box::new(row_group.read(&names, &ReadRows::exactly(&rows), together)?))
        } else {
            Reading::Spans(None)
        };
        Ok(Some(Wanted { rows, reading }))
    }

    fn rows<'s>(&'s self, scan: &'s Scan) -> RowGroup<'s> {
        let (bounds, number) = (scan.watch.bounds(), self.row_group);
        RowGroup { bounds, open: &self.open, contents: &self.contents, number }
    }

    fn rows_of_traces(&mut self, traces: &[TraceId]) -> Result<BooleanBuffer> {
        if self.traces.is_none() {
            let mut found = Vec::new();
            for &trace in traces.iter().filter(|&&trace| may_contain(&self.file, trace)) {
                found.extend(self.open.find_trace(trace)?);
            }
            self.traces = Some(found);
        }
        let rows = self.open.rows_of(self.row_group);
        let mut wanted = BooleanBufferBuilder::new(rows);
        wanted.append_n(rows, false);
        let here = self.traces.iter().flatten().filter(|(row_group, _)| *row_group == self.row_group);
        here.flat_map(|(_, rows)| rows.clone()).for_each(|row| wanted.set_bit(row, true));
        Ok(wanted.finish())
    }

    fn next_columns(
        &mut self,
        wanted: &BooleanBuffer,
        columns: &mut Columns,
        scan: &Scan,
    ) -> ScanResult<Option<RecordBatch>> {
        let Some(batch) = columns.next().transpose()? else { return Ok(None) };
        let sources = Sources::of(&scan.columns, self.open.layout(), &self.contents);
        let made = sources.made_from(&batch, scan.watch.bounds())?.collect::<Result<Vec<_>>>()?;
        let given = scan.batch(made, batch.num_rows())?;
        // If reading fails from here on these rows don't come again.
        if let Some(last) = batch.num_rows().checked_sub(1) {
            let left = wanted.slice(self.first_row, wanted.len() - self.first_row);
            self.first_row += left.set_indices().nth(last).map_or(left.len(), |row| row + 1);
        }
        Ok(Some(given))
    }

    fn next_spans(
        &mut self,
        wanted: &BooleanBuffer,
        read: &mut Option<Box<ReadSpans>>,
        scan: &Scan,
    ) -> ScanResult<Option<RecordBatch>> {
        if scan.needs_ids() && self.ids.is_none() {
            self.ids = Some(self.rows(scan).own_ids()?);
        }
        if read.is_none() {
            let stored = stored_names(&needed_columns(scan), self.open.layout(), &self.contents);
            let names: Vec<&str> = stored.iter().map(String::as_str).collect();
            let rows = rows_together(&self.open, self.row_group, &names, scan.rows_per_step);
            let window = self.first_row..wanted.len().min(self.first_row + rows);
            if window.is_empty() {
                return Ok(None);
            }
            let inside = wanted.slice(window.start, window.len());
            let inside: Vec<usize> = inside.set_indices().map(|at| window.start + at).collect();
            let (Some(&first), Some(&last)) = (inside.first(), inside.last()) else {
                self.first_row = window.end;
                return Ok(Some(RecordBatch::new_empty(scan.schema.clone())));
            };
            let (spans, held) = self.rows(scan).spans(first..last + 1, Some(&stored))?;
            *read =
                Some(Box::new(ReadSpans { spans, first, wanted: inside.into_iter(), end: window.end, _held: held }));
        }
        let Some(spans) = read else { return Ok(None) };
        let waiting = spans.wanted.as_slice().iter().map(|row| row - spans.first);
        let fitting = scan.long_texts.spans_that_fit(scan.table, &spans.spans, waiting, STEP_BYTES_MAX);
        let given: Vec<usize> = spans.wanted.by_ref().take(fitting).map(|row| row - spans.first).collect();
        // What was read is given: if reading had failed these rows would come again.
        self.first_row = spans.wanted.as_slice().first().copied().unwrap_or(spans.end);
        let ids = self.ids.as_ref().map_or(IdsOf::Batch, |(ids, _)| IdsOf::File(ids, spans.first));
        let mut rows = SpanRows::new(scan.table, &spans.spans, ids, given.into_iter());
        let undecided =
            |condition: &&Condition| !condition.columns.iter().all(|column| is_columnar(column, scan.table));
        rows.retain(scan.predicate.conditions.iter().filter(undecided))?;
        let batch = scan.batch_of(&rows)?;
        if spans.wanted.as_slice().is_empty() {
            *read = None;
        }
        Ok(Some(batch))
    }
}

/// The rows of some for which all conditions on columns of a file hold. Those that look at attributes without columns of their
/// own come last, together: the attributes are read once for conditions on one key each, and once for those on several.
fn holding_all(
    scan: &Scan,
    row_group: &RowGroup<'_>,
    ranges: &Ranges,
    mut rows: BooleanBuffer,
) -> ScanResult<BooleanBuffer> {
    let (layout, contents) = (row_group.open.layout(), row_group.contents);
    let columnar = |condition: &&Condition| condition.columns.iter().all(|column| is_columnar(column, scan.table));
    let needs_rest = |condition: &&Condition| {
        condition.columns.iter().any(|column| column.stored_field().needs_rest(contents, layout))
    };
    let conditions = scan.predicate.conditions.iter().filter(columnar);
    let (waiting, others): (Vec<_>, Vec<_>) = conditions.partition(needs_rest);
    let (on_one_key, on_several): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(|condition| condition.columns.len() == 1);
    for condition in others {
        // A range of time mostly has whole files in it.
        if condition.holds_throughout(ranges) {
            continue;
        }
        rows = holding(&[condition], scan, row_group, &rows)?;
        if rows.count_set_bits() == 0 {
            return Ok(rows);
        }
    }
    let mut held = row_group.bounds.hold();
    let mut begun = Vec::new();
    for condition in on_one_key {
        for column in &condition.columns {
            let test = ColumnTest { condition, column, watch: &scan.watch };
            begun.push(row_group.begin(column.stored_field(), test, &rows, &mut held)?);
        }
    }
    row_group.decide_together(&mut begun, &mut held)?;
    rows = begun.iter().fold(rows, |left, condition| &left & &condition.rows());
    if on_several.is_empty() || rows.count_set_bits() == 0 {
        return Ok(rows);
    }
    holding(&on_several, scan, row_group, &rows)
}

/// The rows of some for which conditions on columns of a file hold; one on a single column is decided by the values of that.
fn holding(
    conditions: &[&Condition],
    scan: &Scan,
    row_group: &RowGroup<'_>,
    among: &BooleanBuffer,
) -> ScanResult<BooleanBuffer> {
    if let [condition] = conditions
        && let [column] = condition.columns.as_slice()
    {
        let test = ColumnTest { condition, column, watch: &scan.watch };
        return row_group.holding(column.stored_field(), &test, among);
    }
    let columns = conditions.iter().flat_map(|condition| &condition.columns);
    let sources = Sources::of(columns, row_group.open.layout(), row_group.contents);
    let stored = sources.names();
    let names: Vec<&str> = stored.iter().map(String::as_str).collect();
    row_group.holding_in_batches(&names, among, |batch| {
        let mut made = sources.made_from(batch, scan.watch.bounds())?;
        let mut left = BooleanBuffer::new_set(batch.num_rows());
        for condition in conditions {
            if left.count_set_bits() == 0 {
                break;
            }
            scan.watch.check()?;
            let columns = made.by_ref().take(condition.columns.len()).collect::<Result<Vec<_>>>()?;
            left = &left & &condition.holds(columns, batch.num_rows())?;
        }
        Ok(left)
    })
}

impl Scan {
    /// Whether rows can be given without making whole spans of them.
    fn in_columns(&self) -> bool {
        let mut needed =
            self.columns.iter().chain(self.predicate.conditions.iter().flat_map(|condition| &condition.columns));
        self.table == crate::tables::Table::Spans && needed.all(|column| is_columnar(column, self.table))
    }
}

/// Columns of a table that have to be read: those that are wanted, and those that filters look at.
fn needed_columns(scan: &Scan) -> Vec<Column> {
    let mut needed = scan.columns.clone();
    needed.extend(scan.predicate.conditions.iter().flat_map(|condition| condition.columns.iter().cloned()));
    match scan.table {
        crate::tables::Table::Spans => {}
        crate::tables::Table::Events => needed.push(Column::EventTime),
        crate::tables::Table::Links => needed.push(Column::LinkedSpanId),
    }
    needed
}

/// How many rows are read together: fewer where they take much memory.
fn rows_together(open: &OpenFile, row_group: usize, columns: &[&str], rows_max: usize) -> usize {
    (STEP_BYTES_MAX / row_bytes(open, row_group, Some(columns))).clamp(1, rows_max)
}
