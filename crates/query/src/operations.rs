//! Names of spans with the kinds that spans of the name have: the groups of a count.

use std::ops::Range;

use tracehouse_model::{AnyValue, kind};

use crate::compile::condition_expr;
use crate::error::QueryError;
use crate::metrics::{MetricsPlan, metrics};
use crate::plan::counts_by;
use crate::question::Question;
use crate::request::{Condition, Listing, MetricsRequest, Operation};

pub(crate) fn operations_by_kind(
    question: Question<'_>,
    range: &Range<i64>,
    service: Option<&str>,
) -> Result<Listing<Operation>, QueryError> {
    let conditions = service.map(|service| condition_expr(&Condition::Service(service.to_owned())));
    let request =
        MetricsRequest { start_unix_nanos: range.start, end_unix_nanos: range.end, ..MetricsRequest::default() };
    let answer =
        metrics(question, &MetricsPlan::of(counts_by("name, kind", conditions.into_iter().collect())?, &request)?);
    let operation = |labels: Vec<(String, Option<AnyValue>)>| {
        let mut texts = labels.into_iter().map(|(_, value)| match value {
            Some(AnyValue::String(text)) => text,
            _ => String::new(),
        });
        let name = texts.next().filter(|name| !name.is_empty())?;
        Some(Operation { name, kind: kind::from_name(&texts.next()?)? })
    };
    let mut items: Vec<Operation> = answer.series.into_iter().filter_map(|series| operation(series.labels)).collect();
    items.sort_unstable();
    let partial_reason = answer.partial_reason;
    Ok(Listing { items, complete: partial_reason.is_none(), partial_reason })
}
