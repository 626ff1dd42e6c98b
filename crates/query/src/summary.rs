//! The line of a trace in a list.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tracehouse_model::{AnyValue, ParentRow, SeededSet, SpanBatch, status};
use tracehouse_spanfile::OpenFile;

use crate::assemble::TraceTree;
use crate::column_eval::columns_of;
use crate::compile::Expression;
use crate::evaluate::Spanset;
use crate::plan::{Plan, ShownField};
use crate::request::{MatchedSpan, MatchedSpanset, SearchRequest, ServiceCount, ShownValue, TraceSummary};
use crate::row_eval::{RowExpression, TraceFacts};
use crate::services::columns_of_services;
use crate::shown::{columns_of_conditions, inexact};
use crate::value::Value;
use crate::whole_traces::Left;

/// What the line of a trace in a list is made from.
const SUMMARY_COLUMNS: [&str; 3] = ["name", "kind", "status"];

/// Makes the lines of the traces that a search finds.
#[derive(Clone, Copy)]
pub(crate) struct Summaries<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) request: &'a SearchRequest,
}

impl Summaries<'_> {
    /// What is to be read of a file.
    pub(crate) fn columns(&self, open: &OpenFile) -> Vec<String> {
        let shown = self.plan.shown.iter().map(|shown| &shown.field.expression);
        let mut columns: SeededSet<String> =
            SUMMARY_COLUMNS.into_iter().chain(columns_of_services(open)).map(str::to_owned).collect();
        for expression in self.plan.expressions().into_iter().chain(shown) {
            columns.extend(columns_of(expression, open.layout()));
        }
        columns.extend(columns_of_conditions(inexact(&self.request.conditions), open.layout()));
        columns.into_iter().collect()
    }

    /// Whether the search finds a trace of which this is left.
    pub(crate) fn include(&self, left: &Left<'_>) -> bool {
        let SearchRequest { trace_duration_nanos_min: min, trace_duration_nanos_max: max, .. } = self.request;
        let duration = left.tree.duration_nanos;
        !left.spansets.is_empty() && min.is_none_or(|min| duration >= min) && max.is_none_or(|max| duration <= max)
    }

    /// Whether a span that drives the plan does not show by itself that its trace is found: what drives it may let too much
    /// through, as for parents, which are known once the trace is put together.
    pub(crate) fn need_whole_traces(&self) -> bool {
        let SearchRequest { trace_duration_nanos_min: min, trace_duration_nanos_max: max, .. } = self.request;
        let is_driver = |filter: &Expression| {
            !filter.needs_trace && !filter.mentions_parent && filter.text == self.plan.drivers.span.text
        };
        !self.plan.single_filter().is_some_and(is_driver) || min.is_some() || max.is_some()
    }

    /// The line, if the search finds the trace.
    pub(crate) fn of(&self, left: &Left<'_>) -> Option<TraceSummary> {
        if !self.include(left) {
            return None;
        }
        let matched = left.rows();
        let Left { spans, tree, facts, spansets } = left;
        let newest = matched.iter().map(|&row| spans.start_unix_nanos[row as usize]).max()?;
        let shown = spansets.iter().map(|spanset| self.matched(spans, facts, spanset.clone()));
        let spansets: Vec<MatchedSpanset> = shown.collect();
        Some(TraceSummary {
            matched_count: matched.len() as u64,
            newest_match_unix_nanos: newest,
            spansets,
            ..summarize(spans, tree)
        })
    }

    fn matched(&self, spans: &SpanBatch, facts: &TraceFacts<'_>, spanset: Spanset) -> MatchedSpanset {
        let matched_count = spanset.rows.len() as u64;
        let mut rows = spanset.rows;
        rows.sort_by_key(|&row| (spans.start_unix_nanos[row as usize], spans.span_id[row as usize]));
        rows.truncate(self.request.spans_per_spanset);
        let shown: Vec<BoundField<'_>> =
            self.plan.shown.iter().map(|field| BoundField::new(field, spans, facts)).collect();
        let span = |row: u32| {
            let row = row as usize;
            MatchedSpan {
                span_id: spans.span_id[row],
                name: spans.strings.get(spans.name[row]).to_owned(),
                service_name: spans.shown_service(spans.resource[row] as usize).into_owned(),
                start_unix_nanos: spans.start_unix_nanos[row],
                duration_nanos: spans.duration_nanos[row],
                status_code: spans.status_code[row],
                target: None,
                fields: shown.iter().filter_map(|field| field.value(row)).collect(),
            }
        };
        MatchedSpanset {
            by: spanset.by,
            aggregates: spanset.aggregates,
            matched_count,
            spans: rows.into_iter().map(span).collect(),
        }
    }
}

/// A field that goes with each span, bound to the spans of a trace.
struct BoundField<'a> {
    name: &'a str,
    field: RowExpression<'a>,
    conditions: Vec<RowExpression<'a>>,
}

impl<'a> BoundField<'a> {
    fn new(shown: &'a ShownField, spans: &'a SpanBatch, facts: &'a TraceFacts<'a>) -> Self {
        let bind = |expression| RowExpression::new(expression, spans, Some(facts));
        let conditions = shown.conditions.iter().map(bind).collect();
        Self { name: &shown.field.name, field: bind(&shown.field.expression), conditions }
    }

    fn value(&self, row: usize) -> Option<ShownValue> {
        let value = self.field.value_of(row);
        let shown = value.to_any()?;
        let matched = if matches!(shown, AnyValue::Array(_)) { self.matched(value, row) } else { None };
        Some(ShownValue { field: self.name.to_owned(), value: shown, matched })
    }

    /// Of several values those that satisfy a condition, unless that are all or none.
    fn matched(&self, value: Value<'_>, row: usize) -> Option<Vec<AnyValue>> {
        let singles = value.into_singles();
        let holds = |single: &&Value<'_>| self.conditions.iter().any(|condition| condition.holds_of(single, row));
        let matched: Vec<&Value<'_>> = singles.iter().filter(holds).collect();
        let is_choice = !matched.is_empty() && matched.len() < singles.len();
        is_choice.then(|| matched.into_iter().filter_map(Value::to_any).collect())
    }
}

/// About what the line of a trace takes in memory.
pub(crate) fn bytes_of(summary: &TraceSummary) -> usize {
    let of_span = |span: &MatchedSpan| {
        let fields = span.fields.iter().map(ShownValue::bytes).sum::<usize>();
        size_of::<MatchedSpan>() + span.name.len() + span.service_name.len() + fields
    };
    let of_spanset = |spanset: &MatchedSpanset| {
        let by = spanset.by.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, value_bytes) + 64);
        let aggregates = spanset.aggregates.iter().map(|(name, value)| name.len() + value_bytes(value) + 64);
        let spans = spanset.spans.iter().map(of_span);
        size_of::<MatchedSpanset>() + by.chain(aggregates).chain(spans).sum::<usize>()
    };
    let services = summary.services.iter().map(|service| size_of::<ServiceCount>() + service.name.len());
    let names = summary.root_service_name.len() + summary.root_span_name.len();
    size_of::<TraceSummary>() + names + services.chain(summary.spansets.iter().map(of_spanset)).sum::<usize>()
}

impl ShownValue {
    /// About what it takes in memory, while it is copied once.
    pub(crate) fn bytes(&self) -> usize {
        let matched = self.matched.iter().flatten().map(|value| value_bytes(value) + size_of::<AnyValue>());
        self.field.len() + value_bytes(&self.value) + matched.sum::<usize>() + 2 * size_of::<Self>()
    }
}

fn value_bytes(value: &AnyValue) -> usize {
    match value {
        AnyValue::String(text) => text.len(),
        AnyValue::Bytes(bytes) => bytes.len(),
        AnyValue::Array(items) => items.iter().map(|item| value_bytes(item) + size_of::<AnyValue>()).sum(),
        AnyValue::KeyValueList(entries) => {
            entries.iter().map(|(key, value)| key.len() + value_bytes(value) + 2 * size_of::<AnyValue>()).sum()
        }
        AnyValue::Empty | AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Double(_) => 0,
    }
}

/// What the line says of the trace, whatever was asked for.
fn summarize(spans: &SpanBatch, tree: &TraceTree) -> TraceSummary {
    let mut services: BTreeMap<Cow<'_, str>, (u64, u64)> = BTreeMap::new();
    for row in tree.rows.clone() {
        let counts = services.entry(spans.shown_service(spans.resource[row] as usize)).or_default();
        counts.0 += 1;
        counts.1 += u64::from(spans.status_code[row] == status::ERROR);
    }
    let mut services: Vec<ServiceCount> = services
        .into_iter()
        .map(|(name, (span_count, error_count))| ServiceCount { name: name.into_owned(), span_count, error_count })
        .collect();
    services.sort_by_key(|service| std::cmp::Reverse(service.span_count));
    let first = first_of(spans, tree);
    TraceSummary {
        tenant: None,
        trace_id: tree.trace_id,
        root_service_name: spans.shown_service(spans.resource[first] as usize).into_owned(),
        root_span_name: spans.strings.get(spans.name[first]).to_owned(),
        root_target: None,
        root_missing: !tree.parent.contains(&ParentRow::Root),
        start_unix_nanos: tree.start_unix_nanos,
        duration_nanos: tree.duration_nanos,
        span_count: tree.rows.len() as u64 + tree.omitted,
        error_count: tree.error_count,
        orphan_count: tree.parent.iter().filter(|parent| **parent == ParentRow::Missing).count() as u64,
        services,
        matched_count: 0,
        newest_match_unix_nanos: i64::MIN,
        spansets: Vec::new(),
    }
}

/// The row of the root, or of the earliest span if that is missing.
pub(crate) fn first_of(spans: &SpanBatch, tree: &TraceTree) -> usize {
    let earliest = || tree.rows.clone().min_by_key(|&row| spans.start_unix_nanos[row]).unwrap_or(tree.rows.start);
    tree.root.map_or_else(earliest, |row| tree.rows.start + row as usize)
}
