//! Values of attributes and other fields for completion.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use parquet::errors::ParquetError;
use tracehouse_model::{AnyValue, double_text};
use tracehouse_scan::{Bounds, Contents, Field, ReadRows, RowGroup, Window, contents_of};
use tracehouse_spanfile::{FileContents, NameList, OpenFile};
use tracehouse_traceql::{Attribute, FieldExpr};

use crate::compile::attribute_scope;
use crate::error::QueryError;
use crate::known_values::{Asked, KnownValues};
use crate::metrics::{MetricsPlan, metrics};
use crate::names::{all_lists, hot_in_range};
use crate::plan::counts_by;
use crate::question::Question;
use crate::request::{AttributeValueSeen, Listing, MetricsRequest, Scope};
use crate::services::{SERVICE_NAME, names_services_otherwise};

type Result<T, E = ParquetError> = std::result::Result<T, E>;

/// Longer values help nobody to choose.
const VALUE_BYTES_MAX: usize = 256;

/// What is listed of the values of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Of a list each of its values.
    All,
    /// What is a text as a whole.
    Texts,
}

/// Values of a field on the spans that satisfy conditions: the groups of a count.
pub(crate) fn field_values(
    question: Question<'_>,
    field: &str,
    conditions: &[FieldExpr],
    range: &Range<i64>,
    kept: Kept,
    limit: usize,
) -> Result<Listing<AttributeValueSeen>, QueryError> {
    let groups = groups_of(question, field, conditions, range)?;
    let mut values = Values::new(limit);
    let of_groups = groups.items.into_iter().flatten().flatten();
    let kept = of_groups.filter(|value| kept == Kept::All || matches!(value, AnyValue::String(_)));
    kept.for_each(|value| values.add(value));
    let complete = groups.partial_reason.is_none();
    Ok(Listing { partial_reason: groups.partial_reason, ..values.listing(question, complete) })
}

/// The values of fields, one list for each combination that occurs on spans that satisfy conditions.
pub(crate) fn groups_of(
    question: Question<'_>,
    fields: &str,
    conditions: &[FieldExpr],
    range: &Range<i64>,
) -> Result<Listing<Vec<Option<AnyValue>>>, QueryError> {
    let request =
        MetricsRequest { start_unix_nanos: range.start, end_unix_nanos: range.end, ..MetricsRequest::default() };
    let answer = metrics(question, &MetricsPlan::of(counts_by(fields, conditions.to_vec())?, &request)?);
    let values = answer.series.into_iter().map(|series| series.labels.into_iter().map(|(_, value)| value).collect());
    let partial_reason = answer.partial_reason;
    Ok(Listing { items: values.collect(), complete: partial_reason.is_none(), partial_reason })
}

/// An attribute as TraceQL names it.
pub(crate) fn field_of(scope: Scope, key: &str) -> String {
    let scope = attribute_scope(scope);
    Attribute { scope, name: key.to_owned(), of_parent: false }.to_string()
}

/// Values of an attribute of spans, resources or scopes, whatever the spans are, from memory and files from the newest back.
pub(crate) fn attribute_values(
    question: Question<'_>,
    range: &Range<i64>,
    scope: Scope,
    key: &str,
    limit: usize,
    known: &KnownValues,
) -> Listing<AttributeValueSeen> {
    let Question { snapshot, bounds, .. } = question;
    let mut values = Values::new(limit);
    for hot in hot_in_range(question, range).rev() {
        let spans = &hot.spans;
        let Some(code) = spans.strings.find(key.as_bytes()) else { continue };
        for (place, lists) in all_lists(spans) {
            let asked = place == scope || (scope == Scope::Either && matches!(place, Scope::Span | Scope::Resource));
            if asked {
                for owner in 0..lists.owners() {
                    if let Some(value) = lists.get(owner, code) {
                        values.add(value.resolve(&spans.strings));
                    }
                }
            }
        }
    }
    let mut complete = true;
    let window = Window::starting(range.clone());
    for file in snapshot.files.iter().filter(|file| window.may_select_of(file)) {
        if values.full() || bounds.exceeded() {
            complete = false;
            break;
        }
        let contents = contents_of(file);
        if !stored_field(scope, key).is_some_and(|field| field.may_occur(&contents)) {
            continue;
        }
        if let Some(listed) = contents.known().filter(|listed| lists_values(listed, scope, key)) {
            listed.services.keys().for_each(|name| values.add_text("string", name));
            continue;
        }
        let asked = Asked::Attribute(scope, key.to_owned());
        let of_file = known.of_file(question, file, asked, |open, values| {
            each_value_of_file(open, &contents, (scope, key), bounds, |value| {
                values.add(value);
                !values.full()
            })
        });
        complete &= of_file.complete;
        of_file.values.iter().for_each(|(value_type, value)| values.add_text(value_type, value));
    }
    values.listing(question, complete)
}

/// Whether the list of services of a file has all values of an attribute, so that it need not be read.
fn lists_values(listed: &FileContents, scope: Scope, key: &str) -> bool {
    let is_of_resources = match scope {
        Scope::Resource => true,
        Scope::Either => !listed.may_have(NameList::SpanKeys, key),
        _ => false,
    };
    key == SERVICE_NAME
        && is_of_resources
        && listed.lists_all(NameList::Services)
        && !names_services_otherwise(listed)
        // This may be an empty name, or none.
        && !listed.services.contains_key("")
}

/// Distinct values with their types, up to a limit.
pub(crate) struct Values {
    /// Type and text.
    seen: BTreeSet<(&'static str, String)>,
    limit: usize,
    has_too_long: bool,
}

impl Values {
    pub(crate) fn new(limit: usize) -> Self {
        Self { seen: BTreeSet::new(), limit, has_too_long: false }
    }

    /// Whether further ones are not taken.
    pub(crate) fn full(&self) -> bool {
        self.seen.len() > self.limit
    }

    /// Whether all that were given are there.
    pub(crate) fn has_all(&self) -> bool {
        !self.full() && !self.has_too_long
    }

    pub(crate) fn into_seen(self) -> Vec<(&'static str, String)> {
        self.seen.into_iter().collect()
    }

    /// Conditions hold for a list if they do for any of its values, so each of them is listed.
    fn add(&mut self, value: AnyValue) {
        let shown = match &value {
            AnyValue::String(text) => return self.add_text(value.type_name(), text),
            AnyValue::Int(value) => value.to_string(),
            // There is one zero: of either sign, and 0, it makes 0.
            AnyValue::Double(value) => double_text(*value + 0.0),
            AnyValue::Bool(value) => value.to_string(),
            AnyValue::Array(_) => {
                let AnyValue::Array(items) = value else { return };
                return items.into_iter().for_each(|item| self.add(item));
            }
            AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::KeyValueList(_) => return,
        };
        self.add_text(value.type_name(), &shown);
    }

    pub(crate) fn add_text(&mut self, value_type: &'static str, shown: &str) {
        let is_too_long = shown.len() > VALUE_BYTES_MAX;
        self.has_too_long |= is_too_long;
        if !self.full() && !is_too_long {
            self.seen.insert((value_type, shown.to_owned()));
        }
    }

    fn listing(self, question: Question<'_>, complete: bool) -> Listing<AttributeValueSeen> {
        let partial_reason = question.reach.partial_reason();
        let complete = complete && self.has_all() && partial_reason.is_none();
        let items = self.seen.into_iter().map(|(value_type, value)| AttributeValueSeen { value_type, value });
        Listing { items: items.take(self.limit).collect(), complete, partial_reason }
    }
}

/// What is asked for as files hold it; `None` for what stands inside lists, where the groups of a count find it.
fn stored_field(scope: Scope, key: &str) -> Option<Field<'_>> {
    crate::column_eval::field_of(attribute_scope(scope), key)
}

/// Shows the values of an attribute in a file, most of them once in each row group, until the function says that it has enough.
pub(crate) fn each_value_of_file(
    open: &OpenFile,
    contents: &Contents,
    (scope, key): (Scope, &str),
    bounds: &Bounds,
    mut look: impl FnMut(AnyValue) -> bool,
) -> Result<()> {
    let places = stored_field(scope, key).map(|field| field.places(contents, open.layout())).unwrap_or_default();
    for place in places {
        for row_group in 0..open.row_groups() {
            let row_group = RowGroup { bounds, open, contents, number: row_group };
            for batch in row_group.read(&[&place.column], &ReadRows::exactly(&row_group.readable()), usize::MAX)? {
                // Every value of a dictionary that we write is used by some row.
                let goes_on = each_value(place.values(batch?.column(0))?.values, &mut look);
                if !goes_on || bounds.exceeded() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Shows values until the function says that it has enough: then false.
fn each_value(values: tracehouse_scan::Values, look: &mut impl FnMut(AnyValue) -> bool) -> bool {
    let array = match values {
        tracehouse_scan::Values::Any(values) => return values.iter().flatten().all(|value| look(value.clone())),
        tracehouse_scan::Values::Typed(array) => array,
    };
    let mut of_text = |text: &str| look(AnyValue::String(text.to_owned()));
    if let Some(texts) = array.as_string_opt::<i32>() {
        texts.iter().flatten().all(of_text)
    } else if let Some(texts) = array.as_string_view_opt() {
        texts.iter().flatten().all(&mut of_text)
    } else if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
        let distinct: BTreeSet<i64> = ints.iter().flatten().collect();
        distinct.into_iter().all(|value| look(AnyValue::Int(value)))
    } else if let Some(doubles) = array.as_primitive_opt::<Float64Type>() {
        doubles.iter().flatten().all(|value| look(AnyValue::Double(value)))
    } else if let Some(bools) = array.as_boolean_opt() {
        bools.iter().flatten().all(|value| look(AnyValue::Bool(value)))
    } else {
        true
    }
}
