//! The values that fields have together, as the groups of a count.

use std::ops::Range;

use tracehouse_model::AnyValue;
use tracehouse_traceql::{Attribute, FieldExpr};

use crate::conditions::attribute_scope;
use crate::error::QueryError;
use crate::metrics::{MetricsPlan, metrics};
use crate::plan::counts_by;
use crate::question::Question;
use crate::request::{AttributeValueSeen, Listing, MetricsRequest, Scope};
use crate::seen_values::Values;

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
