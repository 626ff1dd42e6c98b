//! Columns of a table from a batch of spans: of what is in memory, and of files where a column needs whole spans.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringViewBuilder, TimestampNanosecondArray};
use datafusion::common::Result;
use tracehouse_model::{AnyValue, AttributeLists, SpanBatch, SpanId, StringCode, StringTable, Threshold, kind, status};

use super::values::{ValueBuilder, hex_column, text_column};
use crate::plan::Condition;
use crate::tables::{AttributeColumn, AttributeScope, Column, Table};

/// Rows of a table: each is a span, or one of the events or links of a span.
pub(super) struct SpanRows<'a> {
    table: Table,
    spans: &'a SpanBatch,
    /// Row of the span, and place of the event or link among all of the batch (for spans the row again).
    rows: Vec<(usize, usize)>,
}

impl<'a> SpanRows<'a> {
    pub(super) fn new(table: Table, spans: &'a SpanBatch, span_rows: impl Iterator<Item = usize>) -> Self {
        let rows = match table {
            Table::Spans => span_rows.map(|row| (row, row)).collect(),
            Table::Events => span_rows.flat_map(|row| spans.event_range(row).map(move |item| (row, item))).collect(),
            Table::Links => span_rows.flat_map(|row| spans.link_range(row).map(move |item| (row, item))).collect(),
        };
        Self { table, spans, rows }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Keeps the rows for which all conditions hold.
    pub(super) fn retain<'c>(&mut self, conditions: impl IntoIterator<Item = &'c Condition>) -> Result<()> {
        for condition in conditions {
            if self.rows.is_empty() {
                break;
            }
            let columns = condition.columns.iter().map(|column| self.column(column)).collect();
            let holds = condition.holds(columns, self.rows.len())?;
            if holds.count_set_bits() < self.rows.len() {
                self.rows = holds.set_indices().map(|at| self.rows[at]).collect();
            }
        }
        Ok(())
    }

    pub(super) fn column(&self, column: &Column) -> ArrayRef {
        let spans = self.spans;
        let rows = || self.rows.iter().map(|&(row, _)| row);
        let items = || self.rows.iter().map(|&(_, item)| item);
        let times = |times: Vec<i64>| Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"));
        let texts = |codes: &mut dyn Iterator<Item = StringCode>, empty_is_null| {
            text_column(codes.map(|code| spans.strings.get(code)), empty_is_null)
        };
        let thresholds = || rows().map(|row| Threshold::new(spans.sampling_threshold[row]));
        match column {
            Column::TraceId => hex_column(rows().map(|row| spans.trace_id[row].0.as_slice())),
            Column::SpanId => hex_column(rows().map(|row| spans.span_id[row].0.as_slice())),
            Column::ParentSpanId => parent_column(rows().map(|row| spans.parent_span_id[row])),
            Column::StartTime => times(rows().map(|row| spans.start_unix_nanos[row]).collect()),
            Column::DurationNanos => {
                Arc::new(Int64Array::from_iter_values(rows().map(|row| spans.duration_nanos[row])))
            }
            Column::Name | Column::SpanName => texts(&mut rows().map(|row| spans.name[row]), false),
            Column::Kind => text_column(rows().map(|row| kind::name(spans.kind[row])), false),
            Column::Status => text_column(rows().map(|row| status::name(spans.status_code[row])), false),
            Column::StatusMessage => texts(&mut rows().map(|row| spans.status_message[row]), true),
            Column::TraceState => texts(&mut rows().map(|row| spans.trace_state[row]), true),
            Column::ScopeName => texts(&mut rows().map(|row| spans.scopes.name[spans.scope[row] as usize]), true),
            Column::ScopeVersion => texts(&mut rows().map(|row| spans.scopes.version[spans.scope[row] as usize]), true),
            Column::ServiceName => self.attribute(&AttributeColumn::service_name()),
            Column::Weight => weights(thresholds()),
            Column::Probability => probabilities(thresholds()),
            Column::Attributes => json_column(self.own_attributes(), items(), &spans.strings),
            Column::ResourceAttributes => {
                json_column(&spans.resources.attributes, rows().map(|row| spans.resource[row] as usize), &spans.strings)
            }
            Column::EventTime => times(items().map(|item| spans.events.time_unix_nanos[item]).collect()),
            Column::EventName => texts(&mut items().map(|item| spans.events.name[item]), false),
            Column::LinkedTraceId => hex_column(items().map(|item| spans.links.trace_id[item].0.as_slice())),
            Column::LinkedSpanId => hex_column(items().map(|item| spans.links.span_id[item].0.as_slice())),
            Column::LinkedTraceState => texts(&mut items().map(|item| spans.links.trace_state[item]), true),
            Column::Attribute(attribute) => self.attribute(attribute),
        }
    }

    /// The attributes of what a row of the table is.
    fn own_attributes(&self) -> &'a AttributeLists {
        match self.table {
            Table::Spans => &self.spans.attributes,
            Table::Events => &self.spans.events.attributes,
            Table::Links => &self.spans.links.attributes,
        }
    }

    fn attribute(&self, column: &AttributeColumn) -> ArrayRef {
        let spans = self.spans;
        let mut values = ValueBuilder::new(column.value_type);
        let key = spans.strings.find(column.key.as_bytes());
        let own = self.own_attributes();
        for &(row, item) in &self.rows {
            let own_value = key.filter(|_| column.scope != AttributeScope::Resource).and_then(|key| own.get(item, key));
            let resource = spans.resource[row] as usize;
            let inherited = key
                .filter(|_| column.scope != AttributeScope::Span)
                .and_then(|key| spans.resources.attributes.get(resource, key));
            let pushed = own_value.is_some_and(|value| values.push_attribute(value, &spans.strings))
                || inherited.is_some_and(|value| values.push_attribute(value, &spans.strings));
            if !pushed {
                values.push_null();
            }
        }
        values.finish()
    }
}

/// Parents as text; null for a root.
pub(super) fn parent_column(parents: impl Iterator<Item = SpanId>) -> ArrayRef {
    let mut builder = StringViewBuilder::new();
    for parent in parents {
        if parent.is_none() {
            builder.append_null();
        } else {
            builder.append_value(parent.to_string());
        }
    }
    Arc::new(builder.finish())
}

/// For how many spans each stands: 1 where that is unknown.
pub(super) fn weights(thresholds: impl Iterator<Item = Option<Threshold>>) -> ArrayRef {
    let counts = thresholds.map(|threshold| threshold.map_or(1.0, Threshold::adjusted_count));
    Arc::new(Float64Array::from_iter_values(counts))
}

pub(super) fn probabilities(thresholds: impl Iterator<Item = Option<Threshold>>) -> ArrayRef {
    Arc::new(thresholds.map(|threshold| threshold.map(Threshold::probability)).collect::<Float64Array>())
}

/// Attributes as JSON objects, keys in order. Owners that follow each other are often the same, as resources are.
fn json_column(lists: &AttributeLists, owners: impl Iterator<Item = usize>, strings: &StringTable) -> ArrayRef {
    let mut builder = StringViewBuilder::new();
    let mut last: Option<(usize, String)> = None;
    for owner in owners {
        let json = match last.take() {
            Some((same, json)) if same == owner => json,
            _ => {
                let mut entries: Vec<(String, AnyValue)> =
                    lists.of(owner).map(|(key, value)| (strings.get(key).to_owned(), value.resolve(strings))).collect();
                entries.sort_by(|left, right| left.0.cmp(&right.0));
                AnyValue::KeyValueList(entries).to_canonical_json()
            }
        };
        builder.append_value(&json);
        last = Some((owner, json));
    }
    Arc::new(builder.finish())
}
