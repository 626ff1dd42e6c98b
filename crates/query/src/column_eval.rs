//! Evaluates an expression over the rows of a file, column by column.
//!
//! Each part of the expression gives a mask over the rows of a row group. Conditions on dictionary columns are decided
//! once for each distinct value. Later conditions of an `&&` read only the rows that are left, if they are few. What can't
//! be decided from columns holds for every row and makes the mask inexact: its rows have to be looked at one by one.

use std::borrow::Cow;
use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, MapArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{AnyValue, kind, status};
use tracehouse_scan::{
    Bounds, Contents, Owner, ReadRows, column_name, column_of_key, columns_of_key, key_types, own_column, read_column,
    readable, rest_column,
};
use tracehouse_store::{DistinctValues, FileContents, Layout, NameList, OpenFile};
use tracehouse_traceql::{AttributeScope, ComparisonOp, Intrinsic, Static};

use crate::compile::{Expression, Node};
use crate::value::{Value, compare, matches_pattern, ordering_satisfies};

/// Which rows of a row group an expression may hold for.
#[derive(Clone)]
pub(crate) struct Mask {
    pub(crate) rows: BooleanBuffer,
    /// Whether it holds for every one of them.
    pub(crate) exact: bool,
}

/// A filter over one row group of a file.
pub(crate) struct ColumnFilter<'a> {
    pub(crate) filter: &'a Expression,
    pub(crate) file: &'a OpenFile,
    pub(crate) contents: &'a Contents,
    pub(crate) row_group: usize,
    /// Only spans that begin in this range, in nanoseconds.
    pub(crate) start: std::ops::Range<i64>,
    pub(crate) bounds: &'a Bounds,
}

/// A test of one value against a constant.
#[derive(Clone, Copy)]
enum Test<'a> {
    Compare(ComparisonOp, &'a Static),
    Matches(&'a regex::Regex, bool),
}

impl Test<'_> {
    fn holds(&self, value: &Value<'_>) -> bool {
        match self {
            Test::Compare(op, literal) => compare(*op, value, &Value::of_literal(literal)),
            Test::Matches(pattern, negated) => matches_pattern(value, pattern, *negated),
        }
    }

    fn holds_text(&self, text: &str) -> bool {
        self.holds(&Value::String(Cow::Borrowed(text)))
    }
}

/// Whether spans of a file may satisfy a filter, from what is known of what occurs in it.
pub(crate) fn file_may_match(filter: &Expression, contents: &Contents) -> bool {
    may_match(&filter.node, filter, contents)
}

fn may_match(node: &Node, filter: &Expression, contents: &Contents) -> bool {
    let Some(known) = contents.known() else { return true };
    match node {
        Node::And(terms) => terms.iter().all(|term| may_match(term, filter, contents)),
        Node::Or(terms) => terms.iter().any(|term| may_match(term, filter, contents)),
        Node::Compare { op, left, right } => match (&**left, &**right) {
            (Node::Attribute { of_parent: false, scope, key }, Node::Literal(Static::Nil)) => {
                *op == ComparisonOp::Equal || attribute_may_match(*scope, &filter.keys[*key], contents)
            }
            (_, Node::Literal(Static::Nil)) => true,
            (Node::Attribute { of_parent: false, scope, key }, Node::Literal(literal)) => {
                attribute_may_match(*scope, &filter.keys[*key], contents)
                    && service_may_match(*scope, &filter.keys[*key], *op, literal, known)
            }
            (Node::Intrinsic(Intrinsic::Name), Node::Literal(Static::String(name))) if *op == ComparisonOp::Equal => {
                !known.lists_all(NameList::Operations)
                    || known.services.values().any(|names| names.binary_search(name).is_ok())
            }
            _ => true,
        },
        Node::Matches { operand, .. } => match &**operand {
            Node::Attribute { of_parent: false, scope, key } => {
                attribute_may_match(*scope, &filter.keys[*key], contents)
            }
            _ => true,
        },
        _ => true,
    }
}

fn service_may_match(
    scope: AttributeScope,
    key: &str,
    op: ComparisonOp,
    literal: &Static,
    contents: &FileContents,
) -> bool {
    let Static::String(service) = literal else { return true };
    let asks_service = key == "service.name" && scope == AttributeScope::Resource && op == ComparisonOp::Equal;
    !asks_service || contents.may_have(NameList::Services, service)
}

fn attribute_may_match(scope: AttributeScope, key: &str, contents: &Contents) -> bool {
    let may_occur = |owner| key_types(owner, key, contents).may_occur;
    let Some(known) = contents.known() else { return true };
    match scope {
        AttributeScope::Span => may_occur(Owner::Span),
        AttributeScope::Resource => may_occur(Owner::Resource),
        AttributeScope::Any => may_occur(Owner::Span) || may_occur(Owner::Resource),
        AttributeScope::Event => known.may_have(NameList::EventKeys, key),
        AttributeScope::Link => known.may_have(NameList::LinkKeys, key),
        AttributeScope::Instrumentation => known.may_have(NameList::ScopeKeys, key),
    }
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
    match scope {
        AttributeScope::Span => columns_of_key(Owner::Span, key, layout),
        AttributeScope::Resource => columns_of_key(Owner::Resource, key, layout),
        AttributeScope::Any => {
            [columns_of_key(Owner::Span, key, layout), columns_of_key(Owner::Resource, key, layout)].concat()
        }
        AttributeScope::Instrumentation => vec!["scope_attributes".to_owned()],
        AttributeScope::Event => vec!["events".to_owned()],
        AttributeScope::Link => vec!["links".to_owned()],
    }
}

/// The column that alone holds an attribute of spans or resources: `Some(None)` if no span of the file has it, `None` if it
/// takes more than one column.
pub(crate) fn column_of_attribute(
    scope: AttributeScope,
    key: &str,
    contents: &Contents,
    layout: &Layout,
) -> Option<Option<String>> {
    match scope {
        AttributeScope::Span => column_of_key(Owner::Span, key, contents, layout),
        AttributeScope::Resource => column_of_key(Owner::Resource, key, contents, layout),
        _ => None,
    }
}

impl ColumnFilter<'_> {
    /// The rows for which the filter may hold.
    pub(crate) fn run(&self) -> Result<Mask> {
        let rows = self.file.rows_of(self.row_group);
        let all = readable(self.file, self.row_group).unwrap_or_else(|| BooleanBuffer::new_set(rows));
        let within = self.start_mask(&all)?;
        if within.count_set_bits() == 0 {
            return Ok(Mask { rows: within, exact: true });
        }
        self.mask(&self.filter.node, &within)
    }

    fn start_mask(&self, among: &BooleanBuffer) -> Result<BooleanBuffer> {
        let inside = |(min, max): (i64, i64)| self.start.contains(&min) && self.start.contains(&max);
        if self.file.int_range(self.row_group, "start_time").is_some_and(inside) {
            return Ok(among.clone());
        }
        self.column_mask("start_time", among, |array| {
            let values = array.as_primitive::<TimestampNanosecondType>();
            Ok(BooleanBuffer::collect_bool(values.len(), |row| self.start.contains(&values.value(row))))
        })
    }

    /// The rows of `among` for which a part of the expression may hold.
    fn mask(&self, node: &Node, among: &BooleanBuffer) -> Result<Mask> {
        match node {
            Node::And(terms) => {
                let mut left = Mask { rows: among.clone(), exact: true };
                for term in ordered_by_cost(terms) {
                    if left.rows.count_set_bits() == 0 {
                        break;
                    }
                    let narrowed = self.mask(term, &left.rows)?;
                    left = Mask { rows: narrowed.rows, exact: left.exact && narrowed.exact };
                }
                Ok(left)
            }
            Node::Or(terms) => {
                let mut any = Mask { rows: BooleanBuffer::new_unset(among.len()), exact: true };
                for term in terms {
                    let held = self.mask(term, among)?;
                    any = Mask { rows: &any.rows | &held.rows, exact: any.exact && held.exact };
                }
                Ok(any)
            }
            Node::Not(operand) => {
                let held = self.mask(operand, among)?;
                if !held.exact {
                    return Ok(unknown(among));
                }
                Ok(Mask { rows: among & &!&held.rows, exact: true })
            }
            Node::Compare { op, left, right } => match (&**left, &**right) {
                (field, Node::Literal(Static::Nil)) => self.test_absence(field, *op, among),
                (field, Node::Literal(literal)) => self.test(field, Test::Compare(*op, literal), among),
                _ => Ok(unknown(among)),
            },
            Node::Matches { negated, operand, pattern } => self.test(operand, Test::Matches(pattern, *negated), among),
            Node::Attribute { .. } => self.test(node, Test::Compare(ComparisonOp::Equal, &Static::Bool(true)), among),
            Node::Literal(Static::Bool(true)) => Ok(Mask { rows: among.clone(), exact: true }),
            Node::Literal(_) => Ok(Mask { rows: BooleanBuffer::new_unset(among.len()), exact: true }),
            Node::Arithmetic { .. } | Node::Negate(_) | Node::Float(_) | Node::Intrinsic(_) => Ok(unknown(among)),
        }
    }

    fn test(&self, field: &Node, test: Test<'_>, among: &BooleanBuffer) -> Result<Mask> {
        match field {
            Node::Intrinsic(intrinsic) => self.test_intrinsic(*intrinsic, test, among),
            Node::Attribute { of_parent: false, scope, key } => {
                let key = self.filter.keys[*key].as_str();
                match scope {
                    AttributeScope::Span => {
                        Ok(exact(self.test_attribute(Owner::Span, key, test, among, Need::Holds)?.holds))
                    }
                    AttributeScope::Resource => {
                        Ok(exact(self.test_attribute(Owner::Resource, key, test, among, Need::Holds)?.holds))
                    }
                    AttributeScope::Any => {
                        let inheritable = key_types(Owner::Resource, key, self.contents).may_occur;
                        let need = if inheritable { Need::HoldsAndPresent } else { Need::Holds };
                        let own = self.test_attribute(Owner::Span, key, test, among, need)?;
                        if !inheritable {
                            return Ok(exact(own.holds));
                        }
                        let without = among & &!&own.present;
                        if without.count_set_bits() == 0 {
                            return Ok(exact(own.holds));
                        }
                        let inherited = self.test_attribute(Owner::Resource, key, test, &without, Need::Holds)?;
                        Ok(exact(&own.holds | &inherited.holds))
                    }
                    AttributeScope::Instrumentation => {
                        Ok(exact(self.test_map("scope_attributes", key, test, among)?.holds))
                    }
                    AttributeScope::Event | AttributeScope::Link => Ok(unknown(among)),
                }
            }
            _ => Ok(unknown(among)),
        }
    }

    fn test_intrinsic(&self, intrinsic: Intrinsic, test: Test<'_>, among: &BooleanBuffer) -> Result<Mask> {
        let keyword = |name: &str, read: &dyn Fn(&str) -> Value<'static>| {
            let rows = self.column_mask(name, among, |array| test_texts(array, |text| test.holds(&read(text))))?;
            Ok(exact(rows))
        };
        match intrinsic {
            Intrinsic::Name => Ok(exact(self.text_column("name", test, among)?)),
            Intrinsic::StatusMessage => {
                let empty = test.holds_text("");
                let rows = self.column_mask("status_message", among, |array| {
                    let held = test_texts(array, |text| test.holds_text(text))?;
                    Ok(if empty { &held | &absent(array) } else { held })
                })?;
                Ok(exact(rows))
            }
            Intrinsic::InstrumentationName => Ok(exact(self.text_column("scope_name", test, among)?)),
            Intrinsic::InstrumentationVersion => Ok(exact(self.text_column("scope_version", test, among)?)),
            Intrinsic::Kind => keyword("kind", &|text| kind::from_name(text).map_or(Value::Missing, Value::Kind)),
            Intrinsic::Status => {
                keyword("status", &|text| status::from_name(text).map_or(Value::Missing, Value::Status))
            }
            Intrinsic::Duration => {
                let rows = self.column_mask("duration_nanos", among, |array| {
                    let values = array.as_primitive::<Int64Type>();
                    Ok(test_ints(values.values(), test))
                })?;
                Ok(exact(rows))
            }
            _ => Ok(unknown(among)),
        }
    }

    /// Whether a field is not there (`= nil`), or is (`!= nil`).
    fn test_absence(&self, field: &Node, op: ComparisonOp, among: &BooleanBuffer) -> Result<Mask> {
        let absent = match (field, op) {
            (Node::Intrinsic(Intrinsic::ParentId | Intrinsic::Parent), _) => {
                // A parent is told by its distance where it stands in the same row group, else by its id.
                let rows = self.column_mask("parent_offset", among, |array| Ok(absent(array)))?;
                exact(self.column_mask("parent_span_id", &rows, |array| Ok(absent(array)))?)
            }
            (Node::Attribute { .. }, ComparisonOp::Equal | ComparisonOp::NotEqual) => {
                let present = self.test(field, Test::Compare(ComparisonOp::NotEqual, &Static::Nil), among)?;
                Mask { rows: among & &!&present.rows, exact: present.exact }
            }
            _ => return Ok(unknown(among)),
        };
        Ok(match op {
            _ if !absent.exact => unknown(among),
            ComparisonOp::Equal => absent,
            _ => exact(among & &!&absent.rows),
        })
    }

    fn text_column(&self, name: &str, test: Test<'_>, among: &BooleanBuffer) -> Result<BooleanBuffer> {
        if self.no_value_holds(name, test)? {
            return Ok(BooleanBuffer::new_unset(among.len()));
        }
        self.column_mask(name, among, |array| test_texts(array, |text| test.holds_text(text)))
    }

    /// Whether the file says what values a column has, and none of them satisfies a test.
    fn no_value_holds(&self, column_name: &str, test: Test<'_>) -> Result<bool> {
        Ok(match self.file.distinct_values(self.row_group, column_name)? {
            Some(DistinctValues::Texts(texts)) => !texts.iter().any(|text| test.holds_text(text)),
            Some(DistinctValues::Ints(ints)) => !ints.iter().any(|int| test.holds(&Value::Int(*int))),
            None => match (test, self.file.int_range(self.row_group, column_name)) {
                (Test::Compare(ComparisonOp::Equal, Static::Int(wanted) | Static::Duration(wanted)), Some(range)) => {
                    *wanted < range.0 || *wanted > range.1
                }
                _ => false,
            },
        })
    }

    fn test_attribute(
        &self,
        owner: Owner,
        key: &str,
        test: Test<'_>,
        among: &BooleanBuffer,
        need: Need,
    ) -> Result<Tested> {
        let (types, column) = (key_types(owner, key, self.contents), own_column(owner, key, self.file.layout()));
        let mut tested = Tested::none(among.len());
        if !types.may_occur {
            return Ok(tested);
        }
        let name = column_name(owner, key);
        if column.is_some() && (need == Need::HoldsAndPresent || !self.no_value_holds(&name, test)?) {
            tested = self.tested(&name, among, |array| Ok((test_typed(array, test)?, !&absent(array))))?;
        }
        if column.is_none() || types.only != column {
            let rest = self.test_map(rest_column(owner), key, test, among)?;
            tested = Tested { holds: &tested.holds | &rest.holds, present: &tested.present | &rest.present };
        }
        tested.holds = &tested.holds & among;
        Ok(tested)
    }

    /// Attributes without a column of their own.
    fn test_map(&self, map_name: &str, key: &str, test: Test<'_>, among: &BooleanBuffer) -> Result<Tested> {
        let mut tested = self.tested(map_name, among, |array| match array.as_map_opt() {
            Some(map) => test_map_entries(map, key, test),
            None => test_json_texts(array, key, test),
        })?;
        tested.holds = &tested.holds & among;
        Ok(tested)
    }

    fn column_mask(
        &self,
        name: &str,
        among: &BooleanBuffer,
        test: impl Fn(&ArrayRef) -> Result<BooleanBuffer>,
    ) -> Result<BooleanBuffer> {
        let tested = self.tested(name, among, |array| {
            let held = test(array)?;
            Ok((held.clone(), held))
        })?;
        Ok(&tested.holds & among)
    }

    /// Reads a column, of all rows or only of those in question if they are few, and tests it. A test says which values
    /// hold and which rows have one.
    fn tested(
        &self,
        name: &str,
        among: &BooleanBuffer,
        test: impl Fn(&ArrayRef) -> Result<(BooleanBuffer, BooleanBuffer)>,
    ) -> Result<Tested> {
        let rows = ReadRows::among(among);
        let nested = name == rest_column(Owner::Span);
        let mut batches: Vec<(BooleanBuffer, BooleanBuffer)> = Vec::new();
        read_column(self.bounds, self.file, self.row_group, name, &rows, nested, |array| {
            batches.push(test(array)?);
            Ok(())
        })?;
        let (holds, present): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        Ok(Tested { holds: rows.scatter(&joined(holds)), present: rows.scatter(&joined(present)) })
    }
}

/// Masks over one batch after the other as one.
fn joined(mut masks: Vec<BooleanBuffer>) -> BooleanBuffer {
    if masks.len() == 1 {
        return masks.swap_remove(0);
    }
    let mut all = BooleanBufferBuilder::new(masks.iter().map(BooleanBuffer::len).sum());
    masks.iter().for_each(|mask| all.append_buffer(mask));
    all.finish()
}

/// What a test of an attribute is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Holds,
    /// Also which rows have the attribute at all, whatever its value.
    HoldsAndPresent,
}

/// For which rows a test of an attribute holds, and which rows have the attribute at all.
struct Tested {
    holds: BooleanBuffer,
    present: BooleanBuffer,
}

impl Tested {
    fn none(rows: usize) -> Self {
        Self { holds: BooleanBuffer::new_unset(rows), present: BooleanBuffer::new_unset(rows) }
    }
}

fn exact(rows: BooleanBuffer) -> Mask {
    Mask { rows, exact: true }
}

fn unknown(among: &BooleanBuffer) -> Mask {
    Mask { rows: among.clone(), exact: false }
}

fn absent(array: &ArrayRef) -> BooleanBuffer {
    match array.nulls() {
        Some(nulls) => !nulls.inner(),
        None => BooleanBuffer::new_unset(array.len()),
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

fn test_texts(array: &ArrayRef, holds: impl Fn(&str) -> bool) -> Result<BooleanBuffer> {
    if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() {
        let values = dictionary.values().as_string::<i32>();
        let held: Vec<bool> = (0..values.len()).map(|at| values.is_valid(at) && holds(values.value(at))).collect();
        if !held.contains(&true) {
            return Ok(BooleanBuffer::new_unset(array.len()));
        }
        let keys = dictionary.keys();
        let raw = keys.values();
        let mask = BooleanBuffer::collect_bool(raw.len(), |row| held.get(raw[row] as usize).copied().unwrap_or(false));
        return Ok(match keys.nulls() {
            Some(nulls) => &mask & nulls.inner(),
            None => mask,
        });
    }
    let views = array.as_string_view_opt().ok_or_else(|| ParquetError::General("not a column of strings".into()))?;
    Ok(BooleanBuffer::collect_bool(views.len(), |row| views.is_valid(row) && holds(views.value(row))))
}

fn test_typed(array: &ArrayRef, test: Test<'_>) -> Result<BooleanBuffer> {
    let held = if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
        test_ints(ints.values(), test)
    } else if let Some(doubles) = array.as_primitive_opt::<Float64Type>() {
        BooleanBuffer::collect_bool(doubles.len(), |row| test.holds(&Value::Float(doubles.value(row))))
    } else if let Some(bools) = array.as_boolean_opt() {
        BooleanBuffer::collect_bool(bools.len(), |row| test.holds(&Value::Bool(bools.value(row))))
    } else {
        return test_texts(array, |text| test.holds_text(text));
    };
    Ok(match array.nulls() {
        Some(nulls) => &held & nulls.inner(),
        None => held,
    })
}

fn test_ints(values: &[i64], test: Test<'_>) -> BooleanBuffer {
    if let Test::Compare(op, Static::Int(literal) | Static::Duration(literal)) = test {
        // The usual case, without a value for each row.
        let [less, equal, greater] =
            [Ordering::Less, Ordering::Equal, Ordering::Greater].map(|ordering| ordering_satisfies(op, ordering));
        return BooleanBuffer::collect_bool(values.len(), |row| {
            let value = values[row];
            (value < *literal && less) | (value == *literal && equal) | (value > *literal && greater)
        });
    }
    BooleanBuffer::collect_bool(values.len(), |row| test.holds(&Value::Int(values[row])))
}

/// For which rows the map's entry of a key satisfies a test, and which rows have an entry of that key.
fn test_map_entries(map: &MapArray, key: &str, test: Test<'_>) -> Result<(BooleanBuffer, BooleanBuffer)> {
    let (keys, values) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
    let mut held = BooleanBufferBuilder::new(map.len());
    let mut found = BooleanBufferBuilder::new(map.len());
    for window in map.value_offsets().windows(2) {
        let entry = (window[0] as usize..window[1] as usize).find(|&at| keys.value(at) == key);
        let value = match entry {
            Some(at) => AnyValue::from_canonical_json(values.value(at))
                .map(Value::of_any)
                .map_err(|error| ParquetError::External(Box::new(error)))?,
            None => Value::Missing,
        };
        held.append(!value.is_missing() && test.holds(&value));
        found.append(!value.is_missing());
    }
    Ok((held.finish(), found.finish()))
}

/// The same for attributes that stand in one text, as those of resources and scopes do.
fn test_json_texts(array: &ArrayRef, key: &str, test: Test<'_>) -> Result<(BooleanBuffer, BooleanBuffer)> {
    let value = |text: &str| match AnyValue::from_canonical_json(text) {
        Ok(AnyValue::KeyValueList(entries)) => entries
            .into_iter()
            .find(|(known, _)| known == key)
            .map_or(Value::Missing, |(_, value)| Value::of_any(value)),
        _ => Value::Missing,
    };
    let held = test_texts(array, |text| {
        let value = value(text);
        !value.is_missing() && test.holds(&value)
    })?;
    let found = test_texts(array, |text| !value(text).is_missing())?;
    Ok((held, found))
}
