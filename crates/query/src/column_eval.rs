//! Evaluates an expression over the rows of a file, column by column.
//!
//! Each part of the expression gives a mask over the rows of a row group. What a single field decides is left to
//! [`RowGroup`], which asks back here for values alone. Later conditions of an `&&` look only at the rows that are left. First
//! comes what columns of single fields say; then attributes without columns of their own are read once, for all conditions that
//! wait for them. What can't be decided from columns holds for every row and makes the mask inexact: its rows have to be looked at
//! one by one.

use std::borrow::Cow;
use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Float64Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{TraceId, kind, status};
use tracehouse_scan::{
    Contents, Field, Held, Owner, Prepared, RowGroup, Test, Undecided, Values, Window, may_contain, may_hold,
};
use tracehouse_spanfile::{ColumnType, Layout, NameList};
use tracehouse_store::SpanFile;
use tracehouse_traceql::{AttributeScope, ComparisonOp, Intrinsic, Static};

use crate::compile::{Expression, Node, traces_of};
use crate::mask::{Mask, Partly, exact, unknown};
use crate::value::{Value, compare, matches_pattern, ordering_satisfies};

/// A filter over one row group of a file.
pub(crate) struct ColumnFilter<'a> {
    pub(crate) filter: &'a Expression,
    pub(crate) row_group: RowGroup<'a>,
    /// Only spans that it selects.
    pub(crate) window: &'a Window,
}

/// The conditions of an expression that wait for attributes without columns of their own.
struct Deciding<'a> {
    waiting: Vec<Undecided<'a, FieldTest<'a>>>,
    /// What they take.
    held: Held,
}

impl<'a> Deciding<'a> {
    fn known_or_waits(&mut self, condition: Undecided<'a, FieldTest<'a>>) -> Partly {
        if !condition.waits() {
            return Partly::Known(exact(condition.rows()));
        }
        self.waiting.push(condition);
        Partly::Waits(self.waiting.len() - 1)
    }
}

/// Of terms that all must hold, one.
enum Term<'a> {
    /// Conditions on fields of which any must hold, and of which is known what the values of the columns say.
    AnyOf(Vec<Prepared<'a, FieldTest<'a>>>),
    Other(&'a Node),
}

impl Term<'_> {
    fn may_hold(&self) -> bool {
        match self {
            Term::AnyOf(conditions) => conditions.iter().any(Prepared::may_hold),
            Term::Other(_) => true,
        }
    }

    /// The rows for which it may hold, if that is known without a look at rows.
    fn within(&self) -> Option<BooleanBuffer> {
        let Term::AnyOf(conditions) = self else { return None };
        let mut possible = conditions.iter().filter(|condition| condition.may_hold());
        let first = possible.next()?.within()?;
        possible.try_fold(first, |all, condition| Some(&all | &condition.within()?))
    }
}

/// Of so many conditions the values are looked at before any row is: what is known of each is kept until it is decided.
const AHEAD_MAX: usize = 16;

/// What must hold for the value of a field.
#[derive(Clone, Copy)]
enum Check<'a> {
    Compare(ComparisonOp, &'a Static),
    Matches(&'a regex::Regex, bool),
    /// It stands alone as a condition.
    IsTrue,
}

/// A condition on one field that columns hold.
#[derive(Clone)]
struct FieldTest<'a> {
    check: Check<'a>,
    /// What a text in the column is as a value.
    value_of: fn(&str) -> Value<'_>,
    /// The value of a span for which the column has none.
    missing: Value<'static>,
}

fn plain_text(text: &str) -> Value<'_> {
    Value::String(Cow::Borrowed(text))
}

fn kind_of(text: &str) -> Value<'_> {
    kind::from_name(text).map_or(Value::Missing, Value::Kind)
}

fn status_of(text: &str) -> Value<'_> {
    status::from_name(text).map_or(Value::Missing, Value::Status)
}

/// The field and the test that a part of an expression is, if one field decides it.
fn field_test<'e>(node: &'e Node, filter: &'e Expression) -> Option<(Field<'e>, FieldTest<'e>)> {
    let (operand, check) = match node {
        Node::Compare { op, left, right } => match &**right {
            Node::Literal(literal) => (&**left, Check::Compare(*op, literal)),
            _ => return None,
        },
        Node::Matches { negated, operand, pattern } => (&**operand, Check::Matches(pattern, *negated)),
        _ => (node, Check::IsTrue),
    };
    let test = FieldTest { check, value_of: plain_text, missing: Value::Missing };
    // They always have a value, if only an empty one.
    let of_text = FieldTest { missing: Value::String(Cow::Borrowed("")), ..test.clone() };
    Some(match operand {
        Node::Attribute { of_parent: false, scope, key } => (field_of(*scope, &filter.keys[*key])?, test),
        Node::Intrinsic(Intrinsic::Name) => (Field::Column("name"), test),
        Node::Intrinsic(Intrinsic::StatusMessage) => (Field::Column("status_message"), of_text),
        Node::Intrinsic(Intrinsic::InstrumentationName) => (Field::Column("scope_name"), of_text),
        Node::Intrinsic(Intrinsic::InstrumentationVersion) => (Field::Column("scope_version"), of_text),
        Node::Intrinsic(Intrinsic::Kind) => (Field::Column("kind"), FieldTest { value_of: kind_of, ..test }),
        Node::Intrinsic(Intrinsic::Status) => (Field::Column("status"), FieldTest { value_of: status_of, ..test }),
        Node::Intrinsic(Intrinsic::Duration) => (Field::Column("duration_nanos"), test),
        _ => return None,
    })
}

/// An attribute as files hold it; `None` if it stands inside lists.
pub(crate) fn field_of(scope: AttributeScope, key: &str) -> Option<Field<'_>> {
    let owners: &[Owner] = match scope {
        AttributeScope::Span => &[Owner::Span],
        AttributeScope::Resource => &[Owner::Resource],
        AttributeScope::Any => &[Owner::Span, Owner::Resource],
        AttributeScope::Instrumentation => &[Owner::Scope],
        AttributeScope::Event | AttributeScope::Link => return None,
    };
    Some(Field::Attribute(owners, key))
}

impl FieldTest<'_> {
    fn holds(&self, value: &Value<'_>) -> bool {
        match self.check {
            Check::Compare(op, literal) => compare(op, value, &Value::of_literal(literal)),
            Check::Matches(pattern, negated) => matches_pattern(value, pattern, negated),
            Check::IsTrue => value.is_true(),
        }
    }

    fn of_ints(&self, values: &[i64]) -> BooleanBuffer {
        if let Check::Compare(op, Static::Int(literal) | Static::Duration(literal)) = self.check {
            // The usual case, without a value for each row.
            let [less, equal, greater] =
                [Ordering::Less, Ordering::Equal, Ordering::Greater].map(|ordering| ordering_satisfies(op, ordering));
            return BooleanBuffer::collect_bool(values.len(), |row| {
                let value = values[row];
                (value < *literal && less) | (value == *literal && equal) | (value > *literal && greater)
            });
        }
        BooleanBuffer::collect_bool(values.len(), |row| self.holds(&Value::Int(values[row])))
    }

    fn of_array(&self, array: &ArrayRef) -> BooleanBuffer {
        let of_text = |text: &str| self.holds(&(self.value_of)(text));
        if let Some(texts) = array.as_string_opt::<i32>() {
            BooleanBuffer::collect_bool(texts.len(), |row| texts.is_valid(row) && of_text(texts.value(row)))
        } else if let Some(texts) = array.as_string_view_opt() {
            BooleanBuffer::collect_bool(texts.len(), |row| texts.is_valid(row) && of_text(texts.value(row)))
        } else if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
            self.of_ints(ints.values())
        } else if let Some(doubles) = array.as_primitive_opt::<Float64Type>() {
            BooleanBuffer::collect_bool(doubles.len(), |row| self.holds(&Value::Float(doubles.value(row))))
        } else if let Some(bools) = array.as_boolean_opt() {
            BooleanBuffer::collect_bool(bools.len(), |row| self.holds(&Value::Bool(bools.value(row))))
        } else if self.holds(&Value::Other) {
            BooleanBuffer::new_set(array.len())
        } else {
            BooleanBuffer::new_unset(array.len())
        }
    }
}

impl Test for FieldTest<'_> {
    type Error = ParquetError;

    fn of(&self, values: Values) -> Result<BooleanArray> {
        Ok(match values {
            Values::Typed(array) => BooleanArray::new(self.of_array(&array), array.logical_nulls()),
            Values::Any(values) => {
                values.iter().map(|value| value.as_ref().map(|value| self.holds(&Value::of_any_ref(value)))).collect()
            }
        })
    }

    fn of_none(&self) -> Result<bool> {
        Ok(self.holds(&self.missing))
    }

    fn only_text(&self) -> Option<&str> {
        match self.check {
            Check::Compare(ComparisonOp::Equal, Static::String(text)) => Some(text),
            _ => None,
        }
    }

    fn may_hold_within(&self, least: i64, greatest: i64) -> bool {
        let Check::Compare(op, Static::Int(literal) | Static::Duration(literal)) = self.check else { return true };
        let nearest = (*literal).max(least).min(greatest);
        [least, nearest, greatest].iter().any(|value| ordering_satisfies(op, value.cmp(literal)))
    }

    fn may_hold_for(&self, of_values: ColumnType) -> bool {
        // No comparison holds for a value of another type. Texts in columns of names are not values of their own.
        let Check::Compare(_, literal) = self.check else { return true };
        match literal {
            Static::String(_) => of_values == ColumnType::String,
            Static::Int(_) | Static::Float(_) | Static::Duration(_) => {
                matches!(of_values, ColumnType::Int | ColumnType::Double)
            }
            Static::Bool(_) => of_values == ColumnType::Bool,
            _ => true,
        }
    }
}

/// Whether spans of a file may satisfy a filter, from what is known of what occurs in it.
pub(crate) fn file_may_match(filter: &Expression, file: &SpanFile, contents: &Contents) -> bool {
    may_match(&filter.node, filter, contents) && may_hold_traces(filter, file)
}

fn may_hold_traces(filter: &Expression, file: &SpanFile) -> bool {
    let Some(traces) = &filter.traces else { return true };
    // Who reads the file finds out why it can't be read.
    traces.iter().any(|&trace| may_contain(file, trace))
}

fn may_match(node: &Node, filter: &Expression, contents: &Contents) -> bool {
    match node {
        Node::And(terms) => terms.iter().all(|term| may_match(term, filter, contents)),
        Node::Or(terms) => terms.iter().any(|term| may_match(term, filter, contents)),
        _ => match field_test(node, filter) {
            Some((field, test)) => may_hold(field, &test, contents),
            None => nested_may_match(node, filter, contents).unwrap_or(true),
        },
    }
}

/// Whether a file may have the attribute of events or links that a condition needs; `None` if it is no such condition.
fn nested_may_match(node: &Node, filter: &Expression, contents: &Contents) -> Option<bool> {
    let operand = match node {
        Node::Compare { op: ComparisonOp::Equal, right, .. } if matches!(**right, Node::Literal(Static::Nil)) => {
            return None;
        }
        Node::Compare { left, right, .. } if matches!(**right, Node::Literal(_)) => left,
        Node::Matches { operand, .. } => operand,
        _ => return None,
    };
    let Node::Attribute { of_parent: false, scope, key } = &**operand else { return None };
    let list = match scope {
        AttributeScope::Event => NameList::EventKeys,
        AttributeScope::Link => NameList::LinkKeys,
        _ => return None,
    };
    contents.known().map(|known| known.may_have(list, &filter.keys[*key]))
}

/// The columns of a file that hold what a filter looks at, beside ids and times.
pub(crate) fn columns_of(filter: &Expression, layout: &Layout) -> Vec<String> {
    let mut columns = Vec::new();
    collect_columns(&filter.node, filter, layout, &mut columns);
    columns.sort_unstable();
    columns.dedup();
    columns
}

fn collect_columns(node: &Node, filter: &Expression, layout: &Layout, columns: &mut Vec<String>) {
    let mut inner = |node: &Node| collect_columns(node, filter, layout, columns);
    match node {
        Node::And(terms) | Node::Or(terms) => terms.iter().for_each(inner),
        Node::Not(operand) | Node::Negate(operand) | Node::Float(operand) | Node::Matches { operand, .. } => {
            inner(operand);
        }
        Node::Compare { left, right, .. } | Node::Arithmetic { left, right, .. } => {
            inner(left);
            inner(right);
        }
        Node::Literal(_) => {}
        Node::Attribute { scope, key, .. } => columns.extend(columns_of_attribute(*scope, &filter.keys[*key], layout)),
        Node::Intrinsic(intrinsic) => {
            let name = match intrinsic {
                Intrinsic::Name => "name",
                Intrinsic::Status => "status",
                Intrinsic::StatusMessage => "status_message",
                Intrinsic::Kind => "kind",
                Intrinsic::EventName | Intrinsic::EventTimeSinceStart => "events",
                Intrinsic::LinkTraceId | Intrinsic::LinkSpanId => "links",
                Intrinsic::InstrumentationName => "scope_name",
                Intrinsic::InstrumentationVersion => "scope_version",
                // Ids and times, which are always read, and what is worked out from the trace.
                _ => return,
            };
            columns.push(name.to_owned());
        }
    }
}

/// The columns of a file in which an attribute may stand.
pub(crate) fn columns_of_attribute(scope: AttributeScope, key: &str, layout: &Layout) -> Vec<String> {
    match field_of(scope, key) {
        Some(field) => field.places(&Contents::UNKNOWN, layout).into_iter().map(|place| place.column).collect(),
        None if scope == AttributeScope::Event => vec!["events".to_owned()],
        None => vec!["links".to_owned()],
    }
}

impl ColumnFilter<'_> {
    /// The rows for which the filter may hold.
    pub(crate) fn run(&self) -> Result<Mask> {
        if let Some(traces) = &self.filter.traces
            && self.rows_of(traces)?.count_set_bits() == 0
        {
            return Ok(exact(BooleanBuffer::new_unset(self.row_group.rows())));
        }
        let within = self.row_group.selected_by(self.window)?;
        if within.count_set_bits() == 0 {
            return Ok(exact(within));
        }
        let mut deciding = Deciding { waiting: Vec::new(), held: self.row_group.bounds.hold() };
        let known = self.ask_own_columns(&self.filter.node, &within, &mut deciding)?;
        let Deciding { mut waiting, mut held } = deciding;
        self.row_group.decide_together(&mut waiting, &mut held)?;
        let mask = known.mask(&waiting);
        // Parts that were not looked at any more say nothing.
        let nothing = || exact(BooleanBuffer::new_unset(within.len()));
        Ok(if self.row_group.bounds.out_of_time() { nothing() } else { mask })
    }

    /// What columns that hold nothing else say about a part of the expression, for the rows of `among`.
    fn ask_own_columns<'s>(
        &'s self,
        node: &'s Node,
        among: &BooleanBuffer,
        deciding: &mut Deciding<'s>,
    ) -> Result<Partly> {
        // An expression may have hundreds of parts, each of which reads columns.
        if self.row_group.bounds.out_of_time() {
            return Ok(Partly::Known(unknown(among)));
        }
        Ok(Partly::Known(match node {
            Node::And(terms) => return self.ask_own_columns_of_all(terms, among, deciding),
            Node::Or(terms) => {
                let (mut any, mut others) = (exact(BooleanBuffer::new_unset(among.len())), Vec::new());
                for term in terms {
                    match self.ask_own_columns(term, among, deciding)? {
                        Partly::Known(mask) => any = any.or(&mask),
                        other => others.push(other),
                    }
                }
                return Ok(if others.is_empty() { Partly::Known(any) } else { Partly::Or(any, others) });
            }
            Node::Not(operand) => match self.ask_own_columns(operand, among, deciding)? {
                Partly::Known(mask) => mask.not(among),
                other => return Ok(Partly::Not(among.clone(), Box::new(other))),
            },
            Node::Literal(Static::Bool(true)) => exact(among.clone()),
            Node::Literal(_) => exact(BooleanBuffer::new_unset(among.len())),
            _ => match field_test(node, self.filter) {
                Some((field, test)) => {
                    let condition = self.row_group.begin(field, test, among, &mut deciding.held)?;
                    return Ok(deciding.known_or_waits(condition));
                }
                None => match traces_of(node) {
                    Some(traces) => exact(among & &self.rows_of(&traces)?),
                    None => self.parent_mask(node, among)?,
                },
            },
        }))
    }

    /// Of terms that all must hold. First comes what the values of their columns tell, before any row is read: which term holds for none, and
    /// which leaves the fewest rows for the others. Those that wait for attributes without columns of their own come last: these are the
    /// most to read, and are read for the rows that are left.
    fn ask_own_columns_of_all<'s>(
        &'s self,
        terms: &'s [Node],
        among: &BooleanBuffer,
        deciding: &mut Deciding<'s>,
    ) -> Result<Partly> {
        let mut nodes: Vec<(usize, &Node)> = ordered_by_cost(terms).into_iter().enumerate().collect();
        // What the index says of a column costs nothing.
        nodes.sort_by_cached_key(|(_, node)| self.dictionary_bytes(node));
        let mut ahead = AHEAD_MAX;
        let mut ordered = Vec::new();
        for (by_cost, node) in nodes {
            let term = self.look_ahead(node, &mut ahead)?;
            if !term.may_hold() {
                return Ok(Partly::Known(exact(BooleanBuffer::new_unset(among.len()))));
            }
            ordered.push((self.may_wait(node), self.rank(&term), by_cost, term));
        }
        ordered.sort_by(|left, right| left.0.cmp(&right.0).then(left.1.total_cmp(&right.1)).then(left.2.cmp(&right.2)));
        let within = ordered.iter().filter_map(|(.., term)| term.within());
        let within = within.fold(among.clone(), |left, rows| &left & &rows);
        let (mut left, mut others) = (exact(within), Vec::new());
        for (.., term) in ordered {
            if left.rows.count_set_bits() == 0 {
                return Ok(Partly::Known(left));
            }
            match self.ask_term(term, &left.rows, deciding)? {
                Partly::Known(mask) => left = left.narrowed(&mask),
                other => others.push(other),
            }
        }
        Ok(if others.is_empty() { Partly::Known(left) } else { Partly::And(left, others) })
    }

    /// Looks at the values of the columns of a term ahead of their rows, if it is worth it. `ahead`: of how many conditions that may still be
    /// done.
    fn look_ahead<'s>(&'s self, node: &'s Node, ahead: &mut usize) -> Result<Term<'s>> {
        let conditions = match node {
            Node::Or(terms) => terms.as_slice(),
            other => std::slice::from_ref(other),
        };
        let of_fields = conditions.iter().map(|node| match node {
            Node::Compare { .. } => field_test(node, self.filter),
            _ => None,
        });
        let Some(of_fields) = of_fields.collect::<Option<Vec<_>>>().filter(|found| found.len() <= *ahead) else {
            return Ok(Term::Other(node));
        };
        *ahead -= of_fields.len();
        let prepared = of_fields.into_iter().map(|(field, test)| self.row_group.prepare(field, test));
        Ok(Term::AnyOf(prepared.collect::<Result<_>>()?))
    }

    /// How much the dictionaries take of the columns that a part of the expression looks at.
    fn dictionary_bytes(&self, node: &Node) -> usize {
        let RowGroup { open, number, .. } = self.row_group;
        let mut columns = Vec::new();
        collect_columns(node, self.filter, open.layout(), &mut columns);
        columns.iter().map(|column| open.dictionary_bytes(number, column)).sum()
    }

    /// What is done first of terms that all must hold: bytes to read for each row that is ruled out.
    fn rank(&self, term: &Term<'_>) -> f64 {
        let Term::AnyOf(conditions) = term else { return f64::INFINITY };
        let share: f64 = conditions.iter().map(Prepared::share).sum();
        let possible = conditions.iter().filter(|condition| condition.may_hold());
        let mut columns: Vec<&str> = possible.flat_map(|condition| condition.columns()).collect();
        columns.sort_unstable();
        columns.dedup();
        let RowGroup { open, number, .. } = self.row_group;
        open.bytes_of(number, Some(&columns)) as f64 / (1.0 - share).max(f64::MIN_POSITIVE)
    }

    fn ask_term<'s>(&'s self, term: Term<'s>, among: &BooleanBuffer, deciding: &mut Deciding<'s>) -> Result<Partly> {
        let conditions = match term {
            Term::AnyOf(conditions) => conditions,
            Term::Other(node) => return self.ask_own_columns(node, among, deciding),
        };
        let (mut any, mut others) = (exact(BooleanBuffer::new_unset(among.len())), Vec::new());
        for condition in conditions.into_iter().filter(Prepared::may_hold) {
            if self.row_group.bounds.out_of_time() {
                return Ok(Partly::Known(unknown(among)));
            }
            let condition = self.row_group.begin_prepared(condition, among, &mut deciding.held)?;
            match deciding.known_or_waits(condition) {
                Partly::Known(mask) => any = any.or(&mask),
                other => others.push(other),
            }
        }
        Ok(if others.is_empty() { Partly::Known(any) } else { Partly::Or(any, others) })
    }

    /// Whether a part of the expression may look at attributes that have no column of their own.
    fn may_wait(&self, node: &Node) -> bool {
        match node {
            Node::And(terms) | Node::Or(terms) => terms.iter().any(|term| self.may_wait(term)),
            Node::Not(operand) => self.may_wait(operand),
            _ => field_test(node, self.filter)
                .is_some_and(|(field, _)| field.needs_rest(self.row_group.contents, self.row_group.open.layout())),
        }
    }

    /// The rows of traces, which stand together.
    fn rows_of(&self, traces: &[TraceId]) -> Result<BooleanBuffer> {
        let RowGroup { open, number, .. } = self.row_group;
        let mut held = BooleanBufferBuilder::new(self.row_group.rows());
        held.append_n(self.row_group.rows(), false);
        for &trace in traces {
            for row in open.rows_of_trace(number, trace)?.into_iter().flatten() {
                held.set_bit(row, true);
            }
        }
        Ok(held.finish())
    }

    /// Whether spans are roots (`parent = nil`), or are not. All else that gets here has to be looked at span by span.
    fn parent_mask(&self, node: &Node, among: &BooleanBuffer) -> Result<Mask> {
        let Node::Compare { op, left, right } = node else { return Ok(unknown(among)) };
        let is_parent = matches!(**left, Node::Intrinsic(Intrinsic::ParentId | Intrinsic::Parent));
        let Node::Literal(Static::Nil) = **right else { return Ok(unknown(among)) };
        if !is_parent || !matches!(op, ComparisonOp::Equal | ComparisonOp::NotEqual) {
            return Ok(unknown(among));
        }
        let check = Check::Compare(ComparisonOp::Equal, &Static::Nil);
        let absent = FieldTest { check, value_of: plain_text, missing: Value::Missing };
        // A parent is told by its distance where it stands in the same row group, else by its id.
        let near = self.row_group.holding(Field::Column("parent_offset"), &absent, among)?;
        let roots = self.row_group.holding(Field::Column("parent_span_id"), &absent, &near)?;
        Ok(exact(if *op == ComparisonOp::Equal { roots } else { among & &!&roots }))
    }
}

/// Conditions that are cheap and select little come first.
fn ordered_by_cost(terms: &[Node]) -> Vec<&Node> {
    let cost = |node: &Node| match node {
        Node::Compare { op, left, .. } => {
            let field = match &**left {
                Node::Attribute { scope: AttributeScope::Resource, .. } => 0,
                Node::Intrinsic(Intrinsic::Name | Intrinsic::Status | Intrinsic::Kind) => 1,
                Node::Attribute { .. } => 2,
                Node::Intrinsic(Intrinsic::Duration) => 3,
                _ => 9,
            };
            field + if *op == ComparisonOp::Equal { 0 } else { 3 }
        }
        Node::Matches { .. } => 6,
        Node::And(_) | Node::Or(_) | Node::Not(_) => 7,
        _ => 10,
    };
    let mut ordered: Vec<&Node> = terms.iter().collect();
    ordered.sort_by_key(|node| cost(node));
    ordered
}
