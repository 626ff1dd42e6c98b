//! Conditions that are decided together: they say what each says alone, and columns of attributes are read once for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::BooleanArray;
use arrow::buffer::BooleanBuffer;
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{AttributeValue, SpanBatch, SpanFields, SpanId, TraceId};
use tracehouse_scan::{Bounds, Contents, Field, Owner, Pool, RowGroup, Test, Values, contents_of, open};
use tracehouse_spanfile::{OpenFile, Projection};
use tracehouse_store::Snapshot;

use crate::conditions::{CONDITIONS, EITHER, FIELDS, InColumns, OneByOne, SPAN, as_text, spans, value_of};
use crate::stored::{NOON, Stored};

fn opened(snapshot: &Snapshot) -> (Arc<OpenFile>, Contents) {
    let [file] = &snapshot.files[..] else { panic!("there is one file") };
    (open(file).expect("it can be opened"), contents_of(file))
}

/// Every row, few rows, and few for a column of maps alone.
fn some_rows(rows: usize) -> [BooleanBuffer; 3] {
    [1, 300, 9].map(|nth| BooleanBuffer::collect_bool(rows, |row| row % nth == 0))
}

fn decided_together<T: Test<Error = ParquetError>>(
    row_group: RowGroup<'_>,
    conditions: impl Iterator<Item = (Field<'static>, T, BooleanBuffer)>,
) -> Vec<BooleanBuffer> {
    let mut held = row_group.bounds.hold();
    let mut begun: Vec<_> = conditions
        .map(|(field, test, among)| row_group.begin(field, test, &among, &mut held).expect("it begins"))
        .collect();
    row_group.decide_together(&mut begun, &mut held).expect("they are decided");
    assert!(begun.iter().all(|condition| !condition.waits()), "nothing is left open");
    begun.iter().map(|condition| condition.rows()).collect()
}

#[tokio::test]
async fn conditions_say_together_what_a_loop_over_the_spans_says() {
    let stored = Stored::of(spans()).await;
    let (snapshot, pool) = (stored.snapshot(), Pool::new(64 << 20));
    let (bounds, _) = stored.bounds(&pool);
    let (opened, known) = opened(&snapshot);
    let mut rows_held = 0;
    for (contents, number) in [&known, &Contents::UNKNOWN]
        .into_iter()
        .flat_map(|contents| (0..opened.row_groups()).map(move |number| (contents, number)))
    {
        let row_group = RowGroup { bounds: &bounds, open: &opened, contents, number };
        let batch = opened.read_rows(number, 0..row_group.rows(), Projection::All).expect("they can be read");
        let amongst = some_rows(row_group.rows());
        let all = || {
            let conditions = FIELDS.iter().flat_map(|field| CONDITIONS.map(|known| (*field, known)));
            conditions.enumerate().map(|(at, condition)| (condition, amongst[at % amongst.len()].clone()))
        };
        let one_by_one = all().map(|((field, (_, holds)), among)| (field, OneByOne(holds), among));
        let in_columns = all().map(|((field, (_, holds)), among)| (field, InColumns(holds), among));
        let found = decided_together(row_group, one_by_one).into_iter().zip(decided_together(row_group, in_columns));
        for (((field, (what, holds)), among), (one_by_one, in_columns)) in all().zip(found) {
            let expected = BooleanBuffer::collect_bool(row_group.rows(), |row| {
                let value = value_of(&batch.span(row), field);
                among.value(row) && holds(value.as_ref().map(as_text).as_deref())
            });
            assert_eq!(one_by_one, expected, "{field:?} {what}");
            assert_eq!(in_columns, expected, "{field:?} {what}");
            rows_held += expected.count_set_bits();
        }
    }
    assert!(rows_held > 1_000, "conditions hold for some rows: {rows_held}");
    assert_eq!(pool.bytes_taken(), 0, "what was read for them goes back");
}

const KEYS: usize = 60;
/// So many that they are read in several batches.
const SPANS: u64 = 10_000;

/// Keys of which each span has a few.
fn key(number: usize) -> &'static str {
    Box::leak(format!("key.{number}").into_boxed_str())
}

/// Spans with keys that have no columns: lists never have one.
fn with_many_keys() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
    for number in 0..SPANS {
        for nth in 0..3 {
            let key = batch.strings.intern_str(&format!("key.{}", (number as usize + nth) % KEYS));
            let list = batch.strings.intern_str(&format!("[{}]", number % 7));
            batch.attributes.push(key, AttributeValue::Json(list));
        }
        batch.finish_span(SpanFields {
            trace_id: TraceId(u128::from(number + 1).to_be_bytes()),
            span_id: SpanId((number + 1).to_be_bytes()),
            start_unix_nanos: NOON + number as i64,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// Bytes read by a question about so many keys, and the rows for which one of its conditions holds.
fn ask(stored: &Stored, snapshot: &Snapshot, keys: usize) -> (u64, usize) {
    let (bounds, _) = stored.bounds(&Pool::new(64 << 20));
    let (opened, contents) = opened(snapshot);
    let row_group = RowGroup { bounds: &bounds, open: &opened, contents: &contents, number: 0 };
    let test = || OneByOne(|value| value == Some("[3]"));
    let every = row_group.readable();
    let all = (0..keys).map(|number| (Field::Attribute(EITHER, key(number)), test(), every.clone()));
    let found = decided_together(row_group, all);
    (bounds.scanned_bytes(), found.iter().map(BooleanBuffer::count_set_bits).sum())
}

#[tokio::test]
async fn a_column_of_attributes_is_read_once_for_any_number_of_keys() {
    let stored = Stored::of(with_many_keys()).await;
    let snapshot = stored.snapshot();
    let (of_one, held_of_one) = ask(&stored, &snapshot, 1);
    let (of_all, held_of_all) = ask(&stored, &snapshot, KEYS);
    assert!(held_of_one > 0 && held_of_all > 10 * held_of_one, "{held_of_one} and {held_of_all} rows");
    assert!(of_one > 0);
    assert_eq!(of_all, of_one, "bytes read for {KEYS} keys, and for one");
}

/// Ends the question once it is asked for values.
struct Ending<'a> {
    cancelled: &'a AtomicBool,
    asked: &'a AtomicUsize,
}

impl Test for Ending<'_> {
    type Error = ParquetError;

    fn of(&self, values: Values) -> Result<BooleanArray> {
        let Values::Any(values) = values else { panic!("no key has a column") };
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.cancelled.store(true, Ordering::Relaxed);
        Ok(BooleanArray::from(vec![true; values.len()]))
    }

    fn of_none(&self) -> Result<bool> {
        Ok(false)
    }
}

#[tokio::test]
async fn who_goes_away_within_a_row_group_ends_its_question_there() {
    let stored = Stored::of(with_many_keys()).await;
    let snapshot = stored.snapshot();
    let (bounds, cancelled) = stored.bounds(&Pool::new(64 << 20));
    let (opened, contents) = opened(&snapshot);
    let row_group = RowGroup { bounds: &bounds, open: &opened, contents: &contents, number: 0 };
    let asked = AtomicUsize::new(0);
    let mut held = bounds.hold();
    let mut begun: Vec<_> = (0..KEYS)
        .map(|number| {
            let test = Ending { cancelled: &cancelled, asked: &asked };
            row_group.begin(Field::Attribute(SPAN, key(number)), test, &row_group.readable(), &mut held)
        })
        .collect::<Result<_>>()
        .expect("they begin");
    row_group.decide_together(&mut begun, &mut held).expect("it ends without an error");
    assert_eq!(asked.load(Ordering::Relaxed), 1, "the next condition finds that nobody waits");
}

#[tokio::test]
async fn what_is_kept_of_attributes_comes_out_of_the_pool() {
    let stored = Stored::of(with_many_keys()).await;
    let (snapshot, pool) = (stored.snapshot(), Pool::new(8 << 20));
    let (bounds, _) = stored.bounds(&pool);
    let (opened, contents) = opened(&snapshot);
    let row_group = RowGroup { bounds: &bounds, open: &opened, contents: &contents, number: 0 };
    let most = |bounds: &Bounds, pool: &Pool| {
        let mut held = bounds.hold();
        let test = Watching(pool, AtomicUsize::new(0));
        let field = Field::Attribute(&[Owner::Span], key(0));
        let mut begun = [row_group.begin(field, &test, &row_group.readable(), &mut held).expect("it begins")];
        row_group.decide_together(&mut begun, &mut held).expect("there is room");
        test.1.load(Ordering::Relaxed)
    };
    let taken = most(&bounds, &pool);
    assert!(taken > 0, "while a condition looks at values they are counted");
    assert_eq!(pool.bytes_taken(), 0, "and go back");
    let small = Pool::new(taken / 2);
    let (bounds, _) = stored.bounds(&small);
    let row_group = RowGroup { bounds: &bounds, open: &opened, contents: &contents, number: 0 };
    let test = OneByOne(|_| true);
    let field = Field::Attribute(SPAN, key(0));
    assert!(row_group.holding(field, &test, &row_group.readable()).is_err(), "without room it ends");
    assert!(bounds.exceeded());
}

/// Notes the most that is taken of a pool while it is asked.
struct Watching<'a>(&'a Pool, AtomicUsize);

impl Test for Watching<'_> {
    type Error = ParquetError;

    fn of(&self, values: Values) -> Result<BooleanArray> {
        let Values::Any(values) = values else { panic!("no key has a column") };
        self.1.fetch_max(self.0.bytes_taken(), Ordering::Relaxed);
        Ok(BooleanArray::from(vec![true; values.len()]))
    }

    fn of_none(&self) -> Result<bool> {
        Ok(false)
    }
}
