//! Scans one file, row group by row group: first which rows satisfy the filters, then the columns of those rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions};
use arrow::array::{StringViewArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Int32Type, Schema};
use datafusion::common::Result as StatementResult;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{SpanBatch, SpanId, TraceId};
use tracehouse_scan::{Part, contents_of, may_contain, row_bytes};
use tracehouse_store::{Batches, ColumnType, FileContents, NameList, OpenFile, Projection, SpanFile, StringForm};

use super::sources::{is_columnar, made_from, may_occur, stored_columns, without_dictionary};
use super::spans::{SpanRows, parent_column};
use super::{ROWS_PER_STEP, STEP_BYTES_MAX, Scan, ScanError};
use crate::plan::{Condition, Ranges};
use crate::tables::Column;

/// With at most this share of the rows left, the columns of a further condition are read only for them.
const SPARSE_SHARE: usize = 8;

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
    let Some(contents) = contents.known() else { return Ok(true) };
    for condition in &predicate.conditions {
        let absent = |column: &Column| {
            matches!(column, Column::Attribute(attribute)
                if is_columnar(column, scan.table) && !may_occur(attribute, contents))
        };
        if !condition.columns.is_empty() && condition.columns.iter().all(absent) && !condition.holds_for_null()? {
            return Ok(false);
        }
        if let Some(known) = known_values(condition, contents) {
            let rows = known.len();
            // What fails for a value that no row may have is no reason to fail the statement.
            let none = condition.holds(vec![known], rows).is_ok_and(|holds| holds.count_set_bits() == 0);
            if none {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// All values that the one column of a condition has in a file, if they are known.
fn known_values(condition: &Condition, contents: &FileContents) -> Option<ArrayRef> {
    let [column] = condition.columns.as_slice() else { return None };
    match column {
        Column::ServiceName if contents.lists_all(NameList::Services) => {
            // Only services whose name is a text are listed.
            let only_texts = contents.lists_all(NameList::ResourceKeys)
                && contents
                    .resource_keys
                    .iter()
                    .all(|known| known.key != "service.name" || known.value_type == Some(ColumnType::String));
            let names = contents.services.keys().map(|name| Some(name.as_str()));
            only_texts.then(|| Arc::new(names.chain([Some(""), None]).collect::<StringViewArray>()) as ArrayRef)
        }
        Column::Name | Column::SpanName if contents.lists_all(NameList::Operations) => {
            let names = contents.services.values().flatten().map(|name| Some(name.as_str()));
            Some(Arc::new(names.collect::<StringViewArray>()))
        }
        _ => None,
    }
}

/// The part of a file that one partition reads.
pub(super) struct FileScan {
    file: Arc<SpanFile>,
    open: Arc<OpenFile>,
    /// Names that occur in it; nothing is known if they can't be read.
    contents: Arc<FileContents>,
    /// The row group that is read, or the next one.
    row_group: usize,
    /// Rows of it before this one were given.
    first_row: usize,
    current: Option<RowGroup>,
    /// Where the wanted traces stand, once it has been looked up: row group and rows.
    traces: Option<Vec<(usize, Range<usize>)>>,
}

/// A row group of which some rows are wanted.
struct RowGroup {
    number: usize,
    rows: usize,
    /// `None`: all of them.
    wanted: Option<BooleanBuffer>,
    parents: Option<Vec<SpanId>>,
    reading: Reading,
}

enum Reading {
    /// Column by column. With the numbers of the rows, if parents are wanted.
    Columns { reader: Option<Batches>, row_numbers: Vec<usize>, rows_done: usize },
    /// As whole spans, from this row on, after those that were read already.
    Spans { next_row: usize, read: Option<Box<ReadSpans>> },
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
}

impl FileScan {
    pub(super) fn new(file: Arc<SpanFile>, open: Arc<OpenFile>, first_row_group: usize) -> Self {
        let contents = file.contents().unwrap_or_default();
        Self { file, open, contents, row_group: first_row_group, first_row: 0, current: None, traces: None }
    }

    /// The next rows, perhaps none; `None` at the end of the file. What can't be read is left out, as [`Reach`] has it: if the
    /// file turns out to be damaged, what of it can be read is read from where the scan was.
    pub(super) fn step(&mut self, scan: &Scan) -> StatementResult<Option<RecordBatch>> {
        let error = match self.step_once(scan) {
            Ok(batch) => return Ok(batch),
            Err(ScanError::Statement(error)) => return Err(error),
            Err(ScanError::File(error)) => error,
        };
        let rows = if self.row_group < self.open.row_groups() { self.open.rows_of(self.row_group) } else { 0 };
        let (part, spans) = (Part::RowGroup(self.row_group), (rows - self.first_row.min(rows)) as u64);
        if let Some(open) = scan.reach.again(&self.file, part, spans, &error) {
            (self.open, self.traces, self.current) = (open, None, None);
            match self.step_once(scan) {
                Ok(batch) => return Ok(batch),
                Err(ScanError::Statement(error)) => return Err(error),
                Err(ScanError::File(error)) => scan.reach.leave_out(&self.file, part, spans, error),
            }
        }
        self.next_row_group(scan);
        Ok(Some(RecordBatch::new_empty(scan.schema.clone())))
    }

    fn step_once(&mut self, scan: &Scan) -> std::result::Result<Option<RecordBatch>, ScanError> {
        let nothing = || RecordBatch::new_empty(scan.schema.clone());
        if let Some(row_group) = &mut self.current {
            let batch = match row_group.reading {
                Reading::Columns { .. } => next_columns(row_group, &self.open, &self.contents, scan)?,
                Reading::Spans { .. } => next_spans(row_group, &self.open, &self.contents, scan)?,
            };
            match batch {
                Some(batch) => {
                    self.first_row = row_group.rows_given();
                    return Ok(Some(batch));
                }
                None => self.next_row_group(scan),
            }
            return Ok(Some(nothing()));
        }
        if self.row_group >= self.open.row_groups() {
            return Ok(None);
        }
        self.current = self.begin(self.row_group, scan)?;
        if self.current.is_none() {
            self.next_row_group(scan);
        }
        Ok(Some(nothing()))
    }

    fn next_row_group(&mut self, scan: &Scan) {
        self.row_group += scan.partitions;
        (self.first_row, self.current) = (0, None);
    }

    /// Decides which rows of a row group are wanted, and begins to read them.
    fn begin(&mut self, number: usize, scan: &Scan) -> std::result::Result<Option<RowGroup>, ScanError> {
        let range = |column: &str| self.open.int_range(number, column);
        let ranges = Ranges { start_time: range("start_time"), duration_nanos: range("duration_nanos") };
        if !scan.predicate.may_hold(&ranges) {
            return Ok(None);
        }
        let rows = self.open.rows_of(number);
        let reading = Reading::Spans { next_row: self.first_row, read: None };
        let wanted = self.rows_left(number, rows);
        let mut row_group = RowGroup { number, rows, wanted, parents: None, reading };
        scan.reach.count_damage(&self.file, &self.open, Part::RowGroup(number));
        if let Some(traces) = &scan.predicate.traces {
            let of_traces = self.rows_of_traces(traces, number, rows)?;
            let wanted = row_group.wanted.map_or_else(|| of_traces.clone(), |wanted| &wanted & &of_traces);
            if wanted.count_set_bits() == 0 {
                return Ok(None);
            }
            row_group.wanted = Some(wanted);
        }
        scan.report.count_row_group();
        let columnar = |condition: &&Condition| condition.columns.iter().all(|column| is_columnar(column, scan.table));
        for condition in scan.predicate.conditions.iter().filter(columnar) {
            row_group.decide(condition, &self.open, &self.contents)?;
            if row_group.wanted.as_ref().is_some_and(|wanted| wanted.count_set_bits() == 0) {
                return Ok(None);
            }
        }
        if scan.in_columns() {
            row_group.begin_columns(&self.open, &self.contents, scan)?;
        }
        Ok(Some(row_group))
    }

    /// The rows of a row group that can be read and were not given yet; `None`: all.
    fn rows_left(&self, number: usize, rows: usize) -> Option<BooleanBuffer> {
        let not_given = |rows: usize| BooleanBuffer::collect_bool(rows, |row| row >= self.first_row);
        match (self.open.readable(number), self.first_row) {
            (None, 0) => None,
            (None, _) => Some(not_given(rows)),
            (Some(readable), 0) => Some(readable.clone()),
            (Some(readable), _) => Some(readable & &not_given(rows)),
        }
    }

    fn rows_of_traces(&mut self, traces: &[TraceId], number: usize, rows: usize) -> Result<BooleanBuffer> {
        if self.traces.is_none() {
            let mut found = Vec::new();
            for &trace in traces.iter().filter(|&&trace| may_contain(&self.file, trace)) {
                found.extend(self.open.find_trace(trace)?);
            }
            self.traces = Some(found);
        }
        let mut wanted = BooleanBufferBuilder::new(rows);
        wanted.append_n(rows, false);
        let here = self.traces.iter().flatten().filter(|(row_group, _)| *row_group == number);
        here.flat_map(|(_, rows)| rows.clone()).for_each(|row| wanted.set_bit(row, true));
        Ok(wanted.finish())
    }
}

impl Scan {
    /// Whether rows can be given without making whole spans of them.
    fn in_columns(&self) -> bool {
        let mut needed =
            self.columns.iter().chain(self.predicate.conditions.iter().flat_map(|condition| &condition.columns));
        self.table == crate::tables::Table::Spans && needed.all(|column| is_columnar(column, self.table))
    }
}

impl RowGroup {
    fn wanted_rows(&self) -> usize {
        self.wanted.as_ref().map_or(self.rows, BooleanBuffer::count_set_bits)
    }

    /// Rows before this one were given.
    fn rows_given(&self) -> usize {
        match &self.reading {
            Reading::Spans { next_row, .. } => *next_row,
            Reading::Columns { rows_done, .. } => match &self.wanted {
                None => *rows_done,
                Some(wanted) => {
                    rows_done.checked_sub(1).and_then(|last| wanted.set_indices().nth(last)).map_or(0, |row| row + 1)
                }
            },
        }
    }

    fn selection(&self) -> Option<RowSelection> {
        let wanted = self.wanted.as_ref()?;
        Some(RowSelection::from_filters(&[BooleanArray::new(wanted.clone(), None)]))
    }

    /// Takes away the rows for which a condition does not hold.
    fn decide(
        &mut self,
        condition: &Condition,
        open: &OpenFile,
        contents: &FileContents,
    ) -> std::result::Result<(), ScanError> {
        self.read_parents_for(&condition.columns, open)?;
        let sparse = self.wanted_rows() <= self.rows / SPARSE_SHARE;
        let selection = if sparse { self.selection() } else { None };
        let row_numbers: Vec<usize> = match &self.wanted {
            Some(wanted) if sparse => wanted.set_indices().collect(),
            _ => (0..self.rows).collect(),
        };
        let mut holds = BooleanBufferBuilder::new(row_numbers.len());
        let stored = stored_names(&condition.columns, open, contents);
        if stored.is_empty() {
            let batch = rows_without_columns(row_numbers.len())?;
            holds.append_buffer(&self.evaluate(condition, &batch, &row_numbers, open, contents)?);
        } else {
            let names: Vec<&str> = stored.iter().map(String::as_str).collect();
            let rows = rows_together(open, self.number, &names, ROWS_PER_STEP);
            for batch in open.scan(self.number, &names, selection, StringForm::Dictionary, rows)? {
                let batch = batch.map_err(ParquetError::from)?;
                let numbers = row_numbers.get(holds.len()..holds.len() + batch.num_rows()).ok_or_else(wrong_rows)?;
                let held = self.evaluate(condition, &batch, numbers, open, contents)?;
                holds.append_buffer(&held);
            }
        }
        let holds = holds.finish();
        if holds.len() != row_numbers.len() {
            return Err(wrong_rows().into());
        }
        self.wanted = Some(match &self.wanted {
            Some(_) if sparse => {
                let mut wanted = BooleanBufferBuilder::new(self.rows);
                wanted.append_n(self.rows, false);
                holds.set_indices().for_each(|at| wanted.set_bit(row_numbers[at], true));
                wanted.finish()
            }
            Some(wanted) => wanted & &holds,
            None => holds,
        });
        Ok(())
    }

    /// For which rows of a batch a condition holds. On a dictionary column it is decided once for each distinct value.
    fn evaluate(
        &self,
        condition: &Condition,
        batch: &RecordBatch,
        row_numbers: &[usize],
        open: &OpenFile,
        contents: &FileContents,
    ) -> std::result::Result<BooleanBuffer, ScanError> {
        let columns = condition.columns.iter().map(|column| self.column(column, batch, row_numbers, open, contents));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        if let [only] = columns.as_slice()
            && let Some(dictionary) = only.as_dictionary_opt::<Int32Type>()
            && dictionary.values().len() < dictionary.len()
        {
            let values = without_dictionary(dictionary.values().clone())?;
            let null = values.len();
            let values = concat(&[&values, &new_null_array(&DataType::Utf8View, 1)]).map_err(ParquetError::from)?;
            let holds = condition.holds(vec![values], null + 1)?;
            let keys = dictionary.keys();
            let value_of = |row| if keys.is_valid(row) { keys.value(row) as usize } else { null };
            return Ok(BooleanBuffer::collect_bool(keys.len(), |row| holds.value(value_of(row))));
        }
        let columns = columns.into_iter().map(without_dictionary).collect::<Result<Vec<_>>>()?;
        Ok(condition.holds(columns, batch.num_rows())?)
    }

    fn column(
        &self,
        column: &Column,
        batch: &RecordBatch,
        row_numbers: &[usize],
        open: &OpenFile,
        contents: &FileContents,
    ) -> Result<ArrayRef> {
        match (column, &self.parents) {
            (Column::ParentSpanId, Some(parents)) => {
                Ok(parent_column(row_numbers.iter().map(|&row| parents.get(row).copied().unwrap_or(SpanId::NONE))))
            }
            _ => made_from(column, batch, open.layout(), contents),
        }
    }

    fn read_parents_for(&mut self, columns: &[Column], open: &OpenFile) -> Result<()> {
        if self.parents.is_none() && columns.contains(&Column::ParentSpanId) {
            self.parents = Some(open.parents(self.number)?);
        }
        Ok(())
    }

    fn begin_columns(&mut self, open: &OpenFile, contents: &FileContents, scan: &Scan) -> Result<()> {
        self.read_parents_for(&scan.columns, open)?;
        let row_numbers = match &self.wanted {
            _ if !scan.columns.contains(&Column::ParentSpanId) => Vec::new(),
            Some(wanted) => wanted.set_indices().collect(),
            None => (0..self.rows).collect(),
        };
        let stored = stored_names(&scan.columns, open, contents);
        let names: Vec<&str> = stored.iter().map(String::as_str).collect();
        let rows = rows_together(open, self.number, &names, scan.rows_per_step);
        let read = || open.scan(self.number, &names, self.selection(), StringForm::Dictionary, rows);
        let reader = if names.is_empty() { None } else { Some(read()?) };
        self.reading = Reading::Columns { reader, row_numbers, rows_done: 0 };
        Ok(())
    }
}

fn next_columns(
    row_group: &mut RowGroup,
    open: &OpenFile,
    contents: &FileContents,
    scan: &Scan,
) -> std::result::Result<Option<RecordBatch>, ScanError> {
    let rows_left = row_group.wanted_rows();
    let Reading::Columns { reader, row_numbers, rows_done } = &mut row_group.reading else { return Ok(None) };
    let batch = match reader {
        Some(reader) => reader.next().transpose().map_err(ParquetError::from)?,
        None => {
            let rows = (rows_left - *rows_done).min(scan.rows_per_step);
            if rows > 0 { Some(rows_without_columns(rows)?) } else { None }
        }
    };
    let Some(batch) = batch else { return Ok(None) };
    let rows = *rows_done..*rows_done + batch.num_rows();
    *rows_done = rows.end;
    let numbers = row_numbers.get(rows).unwrap_or_default().to_vec();
    let column = |column| without_dictionary(row_group.column(column, &batch, &numbers, open, contents)?);
    let columns = scan.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok(Some(scan.batch(columns, batch.num_rows())?))
}

fn next_spans(
    row_group: &mut RowGroup,
    open: &OpenFile,
    contents: &FileContents,
    scan: &Scan,
) -> std::result::Result<Option<RecordBatch>, ScanError> {
    let Reading::Spans { next_row, read } = &mut row_group.reading else { return Ok(None) };
    if read.is_none() {
        let stored = stored_names(&needed_columns(scan), open, contents);
        let names: Vec<&str> = stored.iter().map(String::as_str).collect();
        let rows = rows_together(open, row_group.number, &names, scan.rows_per_step);
        let window = *next_row..row_group.rows.min(*next_row + rows);
        if window.is_empty() {
            return Ok(None);
        }
        let wanted: Vec<usize> = match &row_group.wanted {
            Some(wanted) => {
                wanted.slice(window.start, window.len()).set_indices().map(|at| window.start + at).collect()
            }
            None => window.clone().collect(),
        };
        let (Some(&first), Some(&last)) = (wanted.first(), wanted.last()) else {
            *next_row = window.end;
            return Ok(Some(RecordBatch::new_empty(scan.schema.clone())));
        };
        let spans = open.read_rows(row_group.number, first..last + 1, Projection::Only(&stored))?;
        *read = Some(Box::new(ReadSpans { spans, first, wanted: wanted.into_iter(), end: window.end }));
    }
    let Some(spans) = read else { return Ok(None) };
    let waiting = spans.wanted.as_slice().iter().map(|row| row - spans.first);
    let fitting = scan.long_texts.spans_that_fit(scan.table, &spans.spans, waiting, STEP_BYTES_MAX);
    let given: Vec<usize> = spans.wanted.by_ref().take(fitting).map(|row| row - spans.first).collect();
    // What was read is given: if reading had failed these rows would come again.
    *next_row = spans.wanted.as_slice().first().copied().unwrap_or(spans.end);
    let mut rows = SpanRows::new(scan.table, &spans.spans, given.into_iter());
    let undecided = |condition: &&Condition| !condition.columns.iter().all(|column| is_columnar(column, scan.table));
    rows.retain(scan.predicate.conditions.iter().filter(undecided))?;
    let batch = scan.batch_of(&rows)?;
    if spans.wanted.as_slice().is_empty() {
        *read = None;
    }
    Ok(Some(batch))
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

/// Names of the stored columns that columns of a table need in a file.
fn stored_names(columns: &[Column], open: &OpenFile, contents: &FileContents) -> Vec<String> {
    let mut names: Vec<String> =
        columns.iter().flat_map(|column| stored_columns(column, open.layout(), contents)).collect();
    names.sort();
    names.dedup();
    names
}

/// How many rows are read together: fewer where they take much memory.
fn rows_together(open: &OpenFile, row_group: usize, columns: &[&str], rows_max: usize) -> usize {
    (STEP_BYTES_MAX / row_bytes(open, row_group, Some(columns))).clamp(1, rows_max)
}

fn rows_without_columns(rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?)
}

fn wrong_rows() -> ParquetError {
    ParquetError::General("the file has other numbers of rows than its footer says".into())
}
