//! Gathers from the columns of a row group at a time.

use std::ops::Deref;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{SeededMap, SeededSet, SpanBatch, Threshold, kind, status};
use tracehouse_scan::{Columns, Held, Part, Piece, ReadRows, RowGroup, is_over, no_room};
use tracehouse_spanfile::{NumberedColumn, OpenFile, Projection, StringForm};
use tracehouse_store::SpanFile;
use tracehouse_traceql::Intrinsic;

use super::gather::{Candidate, FloatBits, Gathered, GroupValue, NO_GROUP, Place, sorted};
use super::measure::Cell;
use super::series_plan::{Run, is_duration};
use super::steps::Steps;
use crate::candidates::SpanFinder;
use crate::column_eval::{columns_of, field_of};
use crate::compile::{Expression, Node};
use crate::halves::HotCallers;
use crate::plan::NamedField;
use crate::question::Question;
use crate::request::{Exemplar, ShownValue};
use crate::row_eval::RowExpression;

/// Rows that are turned into spans at once where columns don't do.
const ROWS_PER_BLOCK: usize = 4096;
/// Combinations of group values are looked up in a table if there are at most so many.
const TABLE_MAX: usize = 1 << 18;

/// What a wanted row takes while its row group is gathered, in lists of starts, weights, values, series and the like; and for
/// each field that is grouped by.
const BYTES_PER_ROW: usize = 64;
const BYTES_PER_ROW_AND_FIELD: usize = 16;

/// Something that was read, and the memory for it.
pub(super) struct Kept<T> {
    value: T,
    held: Held,
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Some rows of a row group, to read columns of.
pub(super) struct Rows<'a> {
    row_group: RowGroup<'a>,
    wanted: BooleanBuffer,
    /// Whether columns are read for the wanted rows alone.
    sparse: bool,
    /// The wanted rows; empty if it is all of them.
    positions: Vec<u32>,
    count: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(row_group: RowGroup<'a>, wanted: BooleanBuffer) -> Self {
        let count = wanted.count_set_bits();
        let positions =
            if count == wanted.len() { Vec::new() } else { wanted.set_indices().map(|row| row as u32).collect() };
        Self { row_group, sparse: matches!(ReadRows::among(&wanted, &[]), ReadRows::Some(_)), positions, count, wanted }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether columns are read for the wanted rows alone, as they are few.
    pub(super) fn are_few(&self) -> bool {
        self.sparse
    }

    /// All rows of the row group.
    pub(super) fn all(self) -> Self {
        Self::new(self.row_group, BooleanBuffer::new_set(self.wanted.len()))
    }

    /// What belongs to each wanted row, for each row of the row group.
    pub(super) fn spread<T: Copy>(&self, of_wanted: Vec<T>, of_others: T) -> Vec<T> {
        if self.positions.is_empty() {
            return of_wanted;
        }
        let mut spread = vec![of_others; self.wanted.len()];
        self.positions.iter().zip(of_wanted).for_each(|(row, value)| spread[*row as usize] = value);
        spread
    }

    pub(super) fn row_group(&self) -> RowGroup<'a> {
        self.row_group
    }

    /// The place in the row group of one of the rows.
    fn position(&self, number: usize) -> u32 {
        self.positions.get(number).copied().unwrap_or(number as u32)
    }

    /// A column; which of its entries belong to the rows is told by [`Rows::pick`].
    pub(super) fn column(&self, name: &str) -> Result<Kept<ArrayRef>> {
        let (RowGroup { bounds, open, number, .. }, selection) = (self.row_group, self.read_rows().selection());
        let reading = bounds.scan(open, number, &[name], selection, StringForm::Dictionary)?;
        match reading.only_batch()? {
            Some((batch, held)) if batch.num_columns() == 1 => Ok(Kept { value: batch.column(0).clone(), held }),
            _ => Err(ParquetError::General(format!("column {name} has not as many rows as its row group"))),
        }
    }

    /// A column of maps, batch by batch.
    pub(super) fn batches(&self, name: &str) -> Result<Columns> {
        self.row_group.read(&[name], &self.read_rows(), usize::MAX)
    }

    fn read_rows(&self) -> ReadRows<'_> {
        if self.sparse { ReadRows::Some(&self.wanted) } else { ReadRows::All(self.wanted.len()) }
    }

    /// Memory for some work on the rows.
    pub(super) fn hold(&self, bytes: usize) -> Result<Held> {
        self.row_group.bounds.held(bytes).map_err(no_room)
    }

    /// Calls a function with the place of each row in an array that [`Rows::column`] gave.
    #[inline]
    pub(super) fn pick(&self, mut take: impl FnMut(usize)) {
        if self.sparse || self.positions.is_empty() {
            (0..self.count).for_each(take);
        } else {
            self.positions.iter().for_each(|row| take(*row as usize));
        }
    }

    /// A column of all rows as the numbers of its values, if the file numbers them.
    pub(super) fn numbered(&self, column: &str) -> Result<Option<Kept<NumberedColumn>>> {
        let held = self.row_group.hold_all(&[column])?;
        Ok(self.row_group.open.numbered(self.row_group.number, column)?.map(|value| Kept { value, held }))
    }

    /// The rows of the row group that have a value in a column; `None`: all have.
    pub(super) fn present(&self, column: &str) -> Result<Option<BooleanBuffer>> {
        let _held = self.row_group.hold_all(&[column])?;
        self.row_group.open.present(self.row_group.number, column)
    }

    /// The text that all rows have in a column, if the file says so.
    pub(super) fn only_text(&self, column: &str) -> Option<&str> {
        self.row_group.open.only_text(self.row_group.number, column)
    }

    /// Smallest and largest value of a column of integers, if the file says.
    pub(super) fn int_range(&self, column: &str) -> Option<(i64, i64)> {
        self.row_group.open.int_range(self.row_group.number, column)
    }

    /// The rows as spans, block by block, with the places of the wanted ones in each.
    fn blocks(&self, columns: &[String], mut look: impl FnMut(&SpanBatch, &[usize]) -> Result<()>) -> Result<()> {
        self.row_group.each_block(&self.wanted, Some(columns), ROWS_PER_BLOCK, |spans, _, inside| {
            look(spans, inside).map(|()| true)
        })
    }
}

/// The values of a field by which spans are grouped: for each row the number of one.
pub(super) struct Codes {
    /// Empty if all rows have the first value.
    codes: Vec<u32>,
    pub(super) values: Vec<GroupValue>,
    /// For the values.
    _held: Option<Held>,
}

impl Codes {
    fn constant(value: GroupValue) -> Self {
        Self { codes: Vec::new(), values: vec![value], _held: None }
    }

    #[inline]
    pub(super) fn code(&self, row: usize) -> u32 {
        self.codes.get(row).copied().unwrap_or(0)
    }
}

/// Numbers values as they come.
#[derive(Default)]
struct Interner {
    numbers: SeededMap<GroupValue, u32>,
    codes: Vec<u32>,
}

impl Interner {
    fn push(&mut self, value: GroupValue) {
        let next = self.numbers.len() as u32;
        self.codes.push(*self.numbers.entry(value).or_insert(next));
    }

    fn finish(self, held: Option<Held>) -> Codes {
        let mut values: Vec<(GroupValue, u32)> = self.numbers.into_iter().collect();
        values.sort_unstable_by_key(|(_, number)| *number);
        Codes { codes: self.codes, values: values.into_iter().map(|(value, _)| value).collect(), _held: held }
    }
}

pub(super) fn gather_row_group<C: Cell>(
    run: &Run<'_>,
    finder: &SpanFinder<'_>,
    piece: &Piece<'_>,
    gathered: &mut Gathered<C>,
) -> Result<()> {
    let row_group = piece.rows(run.question.bounds);
    gather_of_row_group(run, piece.number, row_group, finder.matching_rows(row_group)?, gathered)
}

/// Gathers from some rows of a file of this number.
pub(super) fn gather_of_row_group<C: Cell>(
    run: &Run<'_>,
    file: u32,
    row_group: RowGroup<'_>,
    wanted: BooleanBuffer,
    gathered: &mut Gathered<C>,
) -> Result<()> {
    let rows = Rows::new(row_group, wanted);
    if rows.count() == 0 {
        return Ok(());
    }
    let _lists = rows.hold(rows.count() * (BYTES_PER_ROW + BYTES_PER_ROW_AND_FIELD * run.series.by.len()))?;
    let times = Times::read(&rows, run.steps, gathered.wants_exemplars())?;
    let weights = weights(&rows)?;
    let fields = Fields::read(run, &rows)?;
    if run.question.bounds.exceeded() {
        // Some of the rows may not have been looked at.
        return Ok(());
    }
    let unknown = weights.as_ref().map_or(rows.count(), |weights| weights.unknown);
    gathered.count(rows.count() as u64, unknown as u64);
    let mut table = GroupTable::new(&fields.by);
    let add = |number: usize, group: u32, gathered: &mut Gathered<C>| {
        let row = fields.row_of(number);
        let value = fields.values.get(number).copied().unwrap_or(0.0);
        let step = times.step(row, run.steps);
        let weight = weights.as_ref().map_or(1.0, |weights| weights.of_rows[row]);
        gathered.add(group, step, value, weight);
        if gathered.wants_exemplars() {
            let (row_group, row_in_group) = (row_group.number as u32, rows.position(row));
            gathered.offer(group, times.starts[row], value, Place::Stored { file, row_group, row: row_in_group });
        }
    };
    // Spans without the field, or with something in it that is no number, don't count.
    let measured =
        (0..fields.count(&rows)).filter(|&number| fields.values.get(number).is_none_or(|value| !value.is_nan()));
    if C::LARGE && !fields.by.is_empty() {
        let mut groups: Vec<(u32, u32)> = Vec::with_capacity(fields.count(&rows));
        groups
            .extend(measured.map(|number| (table.of_row(&fields.by, fields.row_of(number), gathered), number as u32)));
        for (group, number) in sorted_by_group(&groups) {
            add(number as usize, group, gathered);
        }
    } else {
        for number in measured {
            let group = table.of_row(&fields.by, fields.row_of(number), gathered);
            add(number, group, gathered);
        }
    }
    Ok(())
}

/// Numbers with their series, in the order of series: a counting sort.
fn sorted_by_group(groups: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let largest = groups.iter().map(|(group, _)| *group).filter(|group| *group != NO_GROUP).max().unwrap_or(0) as usize;
    // What has no series comes last.
    let place = |group: u32| (group as usize).min(largest + 1);
    let mut begins = vec![0usize; largest + 3];
    groups.iter().for_each(|(group, _)| begins[place(*group) + 1] += 1);
    (1..begins.len()).for_each(|at| begins[at] += begins[at - 1]);
    let mut sorted = vec![(0, 0); groups.len()];
    for &(group, row) in groups {
        let at = &mut begins[place(group)];
        sorted[*at] = (group, row);
        *at += 1;
    }
    sorted
}

/// The number of the series for each combination of values in a row group.
struct GroupTable {
    table: Vec<u32>,
    others: SeededMap<Vec<u32>, u32>,
}

const NOT_LOOKED_UP: u32 = u32::MAX - 1;

impl GroupTable {
    fn new(by: &[Codes]) -> Self {
        let combinations = by.iter().try_fold(1usize, |product, codes| product.checked_mul(codes.values.len()));
        let table = match combinations {
            Some(combinations) if combinations <= TABLE_MAX => vec![NOT_LOOKED_UP; combinations],
            _ => Vec::new(),
        };
        Self { table, others: SeededMap::default() }
    }

    #[inline]
    fn of_row<C: Cell>(&mut self, by: &[Codes], row: usize, gathered: &mut Gathered<C>) -> u32 {
        if self.table.is_empty() {
            let codes: Vec<u32> = by.iter().map(|codes| codes.code(row)).collect();
            return *self.others.entry(codes).or_insert_with_key(|codes| group_of(by, codes, gathered));
        }
        let combination = by.iter().fold(0, |at, codes| at * codes.values.len() + codes.code(row) as usize);
        let group = self.table[combination];
        if group != NOT_LOOKED_UP {
            return group;
        }
        let codes: Vec<u32> = by.iter().map(|codes| codes.code(row)).collect();
        let group = group_of(by, &codes, gathered);
        self.table[combination] = group;
        group
    }
}

fn group_of<C: Cell>(by: &[Codes], codes: &[u32], gathered: &mut Gathered<C>) -> u32 {
    let key: Vec<GroupValue> = by.iter().zip(codes).map(|(field, code)| field.values[*code as usize].clone()).collect();
    gathered.group(&key)
}

/// When rows begin, as far as a series must know it.
struct Times {
    /// The step in which all of them begin; of no meaning if each start is known.
    only_step: u32,
    /// Empty if nobody needs them.
    starts: Vec<i64>,
}

impl Times {
    /// Small files and long steps are common: rows of which the file says that all begin in one step are not asked for more.
    fn read(rows: &Rows<'_>, steps: &Steps, each_is_needed: bool) -> Result<Self> {
        let range = rows.int_range("start_time").filter(|_| !each_is_needed);
        match range.and_then(|(first, last)| steps.only_step(first, last)) {
            Some(only_step) => Ok(Self { only_step, starts: Vec::new() }),
            None => Ok(Self { only_step: 0, starts: starts(rows)? }),
        }
    }

    #[inline]
    fn step(&self, row: usize, steps: &Steps) -> u32 {
        self.starts.get(row).map_or(self.only_step, |start| steps.of_start(*start))
    }
}

pub(super) fn starts(rows: &Rows<'_>) -> Result<Vec<i64>> {
    let column = rows.column("start_time")?;
    let column = column.as_primitive::<TimestampNanosecondType>().values();
    let mut starts = Vec::with_capacity(rows.count());
    rows.pick(|row| starts.push(column[row]));
    Ok(starts)
}

pub(super) struct Weights {
    pub(super) of_rows: Vec<f64>,
    /// Rows without a probability.
    pub(super) unknown: usize,
}

/// For how many spans each row stands; `None`: nothing is known of any of them, each stands for itself.
pub(super) fn weights(rows: &Rows<'_>) -> Result<Option<Weights>> {
    const COLUMN: &str = "sampling_threshold";
    if rows.int_range(COLUMN).is_none() {
        return Ok(None);
    }
    let column = rows.column(COLUMN)?;
    let column = column.as_primitive::<Int64Type>();
    let mut weights = Weights { of_rows: Vec::with_capacity(rows.count()), unknown: 0 };
    rows.pick(|row| {
        let threshold = column.is_valid(row).then(|| Threshold::new(column.value(row) as u64)).flatten();
        weights.unknown += usize::from(threshold.is_none());
        weights.of_rows.push(threshold.map_or(1.0, Threshold::adjusted_count));
    });
    Ok(Some(weights))
}

/// What is grouped by and what is measured, for the rows of a row group.
struct Fields {
    by: Vec<Codes>,
    /// NaN where there is no number; empty if nothing is measured.
    values: Vec<f64>,
    /// The row of each value; empty if each row has one.
    rows_of_values: Vec<u32>,
    /// For what rows with several values have more than others.
    _held: Held,
}

impl Fields {
    fn read(run: &Run<'_>, rows: &Rows<'_>) -> Result<Self> {
        let by: Vec<&Expression> = run.series.by.iter().map(|field| &field.expression).collect();
        let mut codes: Vec<Option<Codes>> =
            by.iter().map(|field| codes_from_column(field, rows)).collect::<Result<_>>()?;
        let mut values = match run.field {
            None => Some(Vec::new()),
            Some(field) => numbers_from_column(field, rows)?,
        };
        // What no column holds by itself is worked out from spans.
        let mut slow: Vec<(usize, Interner)> = Vec::new();
        slow.extend((0..by.len()).filter(|&at| codes[at].is_none()).map(|at| (at, Interner::default())));
        let slow_field = run.field.filter(|_| values.is_none());
        let (mut rows_of_values, mut held) = (Vec::new(), rows.hold(0)?);
        if !slow.is_empty() || slow_field.is_some() {
            let expressions = slow.iter().map(|(at, _)| by[*at]).chain(slow_field);
            let columns: SeededSet<String> =
                expressions.flat_map(|field| columns_of(field, rows.row_group.open.layout())).collect();
            let (mut numbers, mut row) = (Vec::with_capacity(rows.count()), 0);
            let bounds = rows.row_group.bounds;
            rows.blocks(&Vec::from_iter(columns), |spans, inside| {
                for (at, interner) in &mut slow {
                    let field = RowExpression::new(by[*at], spans, None);
                    inside.iter().for_each(|&row| interner.push(GroupValue::of(&field.value_of(row))));
                }
                let Some(field) = slow_field else { return Ok(()) };
                let field = RowExpression::new(field, spans, None);
                let before = numbers.len();
                for &inside in inside {
                    field.value_of(inside).each_number(&mut |number| {
                        if !number.is_nan() {
                            numbers.push(number);
                            rows_of_values.push(row);
                        }
                    });
                    row += 1;
                }
                let more = (numbers.len() - before).saturating_sub(inside.len());
                bounds.take(&mut held, more * BYTES_PER_ROW).map_err(no_room)
            })?;
            slow.into_iter().for_each(|(at, interner)| codes[at] = Some(interner.finish(None)));
            values = values.or(Some(numbers));
        }
        // Without a number there is nothing to measure; an empty list says that nothing is to be.
        let nothing = slow_field.is_some() && rows_of_values.is_empty();
        let values = if nothing { vec![f64::NAN; rows.count()] } else { values.unwrap_or_default() };
        Ok(Self { by: codes.into_iter().flatten().collect(), values, rows_of_values, _held: held })
    }

    /// How many numbers are measured; rows if nothing is.
    fn count(&self, rows: &Rows<'_>) -> usize {
        if self.rows_of_values.is_empty() { rows.count() } else { self.rows_of_values.len() }
    }

    /// The row of a number.
    #[inline]
    fn row_of(&self, number: usize) -> usize {
        self.rows_of_values.get(number).map_or(number, |row| *row as usize)
    }
}

/// The column that alone holds a field: `Some(None)` if no span of the file has the field.
fn column_of_field(field: &Expression, row_group: RowGroup<'_>) -> Option<Option<String>> {
    match &field.node {
        Node::Intrinsic(Intrinsic::Name) => Some(Some("name".to_owned())),
        Node::Intrinsic(Intrinsic::Status) => Some(Some("status".to_owned())),
        Node::Intrinsic(Intrinsic::Kind) => Some(Some("kind".to_owned())),
        Node::Intrinsic(Intrinsic::Duration) => Some(Some("duration_nanos".to_owned())),
        Node::Attribute { of_parent: false, scope, key } => {
            field_of(*scope, &field.keys[*key])?.only_column(row_group.contents, row_group.open.layout())
        }
        _ => None,
    }
}

fn codes_from_column(field: &Expression, rows: &Rows<'_>) -> Result<Option<Codes>> {
    let Some(column) = column_of_field(field, rows.row_group) else { return Ok(None) };
    let Some(column) = column else { return Ok(Some(Codes::constant(GroupValue::Nil))) };
    let of_text = |text: &str| match &field.node {
        Node::Intrinsic(Intrinsic::Status) => status::from_name(text).map_or(GroupValue::Nil, GroupValue::Status),
        Node::Intrinsic(Intrinsic::Kind) => kind::from_name(text).map_or(GroupValue::Nil, GroupValue::Kind),
        _ => GroupValue::String(text.into()),
    };
    Ok(Some(codes_of_array(rows.column(&column)?, rows, of_text)))
}

/// Numbers the values of a column that was read for some rows.
pub(super) fn codes_of_array(array: Kept<ArrayRef>, rows: &Rows<'_>, of_text: impl Fn(&str) -> GroupValue) -> Codes {
    // The values take about as much as the array, which goes.
    let Kept { value: array, held } = array;
    if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() {
        let texts = dictionary.values().as_string::<i32>();
        let nil = texts.len() as u32;
        let mut values: Vec<GroupValue> = (0..texts.len()).map(|at| of_text(texts.value(at))).collect();
        values.push(GroupValue::Nil);
        let (keys, nulls) = (dictionary.keys().values(), dictionary.keys().nulls());
        let mut codes = Vec::with_capacity(rows.count());
        match nulls {
            None => rows.pick(|row| codes.push(keys[row] as u32)),
            Some(nulls) => rows.pick(|row| codes.push(if nulls.is_valid(row) { keys[row] as u32 } else { nil })),
        }
        return Codes { codes, values, _held: Some(held) };
    }
    let mut interner = Interner::default();
    rows.pick(|row| {
        interner.push(if array.is_null(row) {
            GroupValue::Nil
        } else if let Some(texts) = array.as_string_view_opt() {
            of_text(texts.value(row))
        } else if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
            GroupValue::Int(ints.value(row))
        } else if let Some(doubles) = array.as_primitive_opt::<Float64Type>() {
            GroupValue::Float(FloatBits::of(doubles.value(row)))
        } else if let Some(bools) = array.as_boolean_opt() {
            GroupValue::Bool(bools.value(row))
        } else {
            GroupValue::Nil
        });
    });
    interner.finish(Some(held))
}

fn numbers_from_column(field: &Expression, rows: &Rows<'_>) -> Result<Option<Vec<f64>>> {
    let Some(column) = column_of_field(field, rows.row_group) else { return Ok(None) };
    let Some(column) = column else { return Ok(Some(vec![f64::NAN; rows.count()])) };
    let array = rows.column(&column)?;
    let mut numbers = Vec::with_capacity(rows.count());
    if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
        match ints.nulls() {
            None => rows.pick(|row| numbers.push(ints.value(row) as f64)),
            Some(nulls) => {
                rows.pick(|row| numbers.push(if nulls.is_valid(row) { ints.value(row) as f64 } else { f64::NAN }));
            }
        }
    } else if let Some(doubles) = array.as_primitive_opt::<Float64Type>() {
        rows.pick(|row| numbers.push(if doubles.is_valid(row) { doubles.value(row) } else { f64::NAN }));
    } else {
        numbers.resize(rows.count(), f64::NAN);
    }
    Ok(Some(numbers))
}

/// Gathers from the spans in memory.
pub(super) fn gather_memory<C: Cell>(run: &Run<'_>, filter: &Expression, gathered: &mut Gathered<C>) {
    let hot_batches = &run.question.snapshot.hot;
    let callers = HotCallers::for_expressions(hot_batches, &[filter]);
    for (batch, hot) in (0..).zip(hot_batches.iter()) {
        if run.question.bounds.exceeded() {
            return;
        }
        let spans = &hot.spans;
        let is_half = |row: usize| callers.as_ref().is_some_and(|callers| callers.has_half(spans, row));
        let filter = RowExpression::new(filter, spans, None).with_halves(&is_half);
        let rows =
            (0..spans.len()).filter(|&row| run.steps.range.contains(&spans.start_unix_nanos[row]) && filter.holds(row));
        let place = |row: usize| Place::Hot { batch, row: row as u32 };
        gather_rows(run, spans, rows, place, |field| RowExpression::new(field, spans, None), gathered);
    }
}

/// Gathers from rows of a batch, with expressions bound to it.
pub(super) fn gather_rows<'e, C: Cell>(
    run: &Run<'e>,
    spans: &SpanBatch,
    rows: impl Iterator<Item = usize>,
    place: impl Fn(usize) -> Place,
    bind: impl Fn(&'e Expression) -> RowExpression<'e>,
    gathered: &mut Gathered<C>,
) {
    let by: Vec<RowExpression<'_>> = run.series.by.iter().map(|field| bind(&field.expression)).collect();
    let field = run.field.map(&bind);
    let mut key: Vec<GroupValue> = Vec::new();
    for row in rows {
        let threshold = Threshold::new(spans.sampling_threshold[row]);
        gathered.count(1, u64::from(threshold.is_none()));
        key.clear();
        key.extend(by.iter().map(|field| GroupValue::of(&field.value_of(row))));
        let mut add = |value: f64| {
            if value.is_nan() {
                return;
            }
            let group = gathered.group(&key);
            let start = spans.start_unix_nanos[row];
            gathered.add(group, run.steps.of_start(start), value, threshold.map_or(1.0, Threshold::adjusted_count));
            if gathered.wants_exemplars() {
                let value = if run.field.is_some() { value } else { spans.duration_nanos[row] as f64 };
                gathered.offer(group, start, value, place(row));
            }
        };
        let value = field.as_ref().map(|field| field.value_of(row));
        if is_over() {
            // What was ended in the middle says nothing.
            return;
        }
        match value {
            None => add(0.0),
            Some(value) => value.each_number(&mut add),
        }
    }
}

/// Looks up which spans the chosen candidates are. One that can't be read any more is no example.
pub(super) fn exemplars(
    run: &Run<'_>,
    files: &[&Arc<SpanFile>],
    candidates: &[Candidate],
    held: &mut Held,
) -> Vec<Exemplar> {
    let Question { snapshot, bounds, reach } = run.question;
    let scale = if run.field.is_none_or(is_duration) { 1e-9 } else { 1.0 };
    let mut found = Vec::new();
    for Candidate { start_unix_nanos, value, place, .. } in sorted(candidates.to_vec()) {
        let mut exemplar = match place {
            Place::Known { trace_id, span_id } => {
                Exemplar { trace_id, span_id, start_unix_nanos, value, fields: Vec::new() }
            }
            Place::Hot { batch, row } => exemplar(run, &snapshot.hot[batch as usize].spans, row as usize, value),
            Place::Stored { .. } if bounds.exceeded() => continue,
            Place::Stored { file, row_group, row } => {
                let (file, row_group, row) = (files[file as usize], row_group as usize, row as usize);
                let read = |open: &Arc<OpenFile>| span_at(run, open, row_group, row);
                let Some(spans) = reach.attempt(file, Part::RowGroup(row_group), 1, read) else { continue };
                exemplar(run, &spans, 0, value)
            }
        };
        exemplar.value *= scale;
        let bytes = exemplar.fields.iter().map(ShownValue::bytes).sum();
        if bounds.take(held, bytes).is_err() {
            break;
        }
        found.push(exemplar);
    }
    found
}

/// One row of a file, with the columns that exemplars show.
fn span_at(run: &Run<'_>, open: &OpenFile, row_group: usize, row: usize) -> Result<SpanBatch> {
    let shown = run.series.shown.iter().flat_map(|field| columns_of(&field.expression, open.layout()));
    let columns: Vec<String> = shown.collect::<SeededSet<_>>().into_iter().collect();
    open.read_rows(row_group, row..row + 1, Projection::Only(&columns))
}

/// A count has no value of its own: the duration stands for it.
fn exemplar(run: &Run<'_>, spans: &SpanBatch, row: usize, value: f64) -> Exemplar {
    let field = |field: &NamedField| {
        let value = RowExpression::new(&field.expression, spans, None).value_of(row).to_any()?;
        Some(ShownValue { field: field.name.clone(), value, matched: None })
    };
    Exemplar {
        trace_id: spans.trace_id[row],
        span_id: spans.span_id[row],
        start_unix_nanos: spans.start_unix_nanos[row],
        value: if run.field.is_some() { value } else { spans.duration_nanos[row] as f64 },
        fields: run.series.shown.iter().filter_map(field).collect(),
    }
}
