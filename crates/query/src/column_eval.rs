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
use tracehouse_scan::{Contents, Field, Held, Owner, RowGroup, Test, Undecided, Values, Window, may_contain, may_hold};
use tracehouse_spanfile::{Layout, NameList};
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
                    if condition.waits() {
                        deciding.waiting.push(condition);
                        return Ok(Partly::Waits(deciding.waiting.len() - 1));
                    }
                    exact(condition.rows())
                }
                None => match traces_of(node) {
                    Some(traces) => exact(among & &self.rows_of(&traces)?),
                    None => self.parent_mask(node, among)?,
                },
            },
        }))
    }

    /// Of terms that all must hold. Those that wait for attributes without columns of their own come last: these are the most to
    /// read, and are read for the rows that are left.
    fn ask_own_columns_of_all<'s>(
        &'s self,
        terms: &'s [Node],
        among: &BooleanBuffer,
        deciding: &mut Deciding<'s>,
    ) -> Result<Partly> {
        let mut ordered = ordered_by_cost(terms);
        ordered.sort_by_key(|term| self.may_wait(term));
        let (mut left, mut others) = (exact(among.clone()), Vec::new());
        for term in ordered {
            if left.rows.count_set_bits() == 0 {
                return Ok(Partly::Known(left));
            }
            match self.ask_own_columns(term, &left.rows, deciding)? {
                Partly::Known(mask) => left = left.narrowed(&mask),
                other => others.push(other),
            }
        }
        Ok(if others.is_empty() { Partly::Known(left) } else { Partly::And(left, others) })
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
