//! Columns of a table from a batch of spans: of what is in memory, and of files where a column needs whole spans.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringViewBuilder, TimestampNanosecondArray};
use datafusion::common::Result;
use tracehouse_model::{
    AnyValue, AttributeLists, AttributeValue, SpanBatch, SpanId, StringCode, StringTable, Threshold, kind, status,
};

use super::own_ids::IdsOf;
use super::values::{ValueBuilder, hex_column, text_column};
use crate::plan::Condition;
use crate::tables::{AttributeColumn, AttributeScope, Column, Table};

/// Rows of a table: each is a span, or one of the events or links of a span.
pub(super) struct SpanRows<'a> {
    table: Table,
    spans: &'a SpanBatch,
    ids: IdsOf<'a>,
    /// Row of the span, and place of the event or link among all of the batch (for spans the row again).
    rows: Vec<(usize, usize)>,
}

impl<'a> SpanRows<'a> {
    pub(super) fn new(
        table: Table,
        spans: &'a SpanBatch,
        ids: IdsOf<'a>,
        span_rows: impl Iterator<Item = usize>,
    ) -> Self {
        let rows = match table {
            Table::Spans => span_rows.map(|row| (row, row)).collect(),
            Table::Events => span_rows.flat_map(|row| spans.event_range(row).map(move |item| (row, item))).collect(),
            Table::Links => span_rows.flat_map(|row| spans.link_range(row).map(move |item| (row, item))).collect(),
        };
        Self { table, spans, ids, rows }
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
            Column::TraceId => hex_column(rows().map(|row| Some(spans.trace_id[row].0.as_slice()))),
            Column::SpanId => {
                let ids: Vec<SpanId> = rows().map(|row| self.ids.of(spans, row).0).collect();
                hex_column(ids.iter().map(|id| Some(id.0.as_slice())))
            }
            Column::ParentSpanId => {
                let parents: Vec<SpanId> = rows().map(|row| self.ids.of(spans, row).1).collect();
                hex_column(parents.iter().map(|id| (!id.is_none()).then_some(id.0.as_slice())))
            }
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
            Column::LinkedTraceId => hex_column(items().map(|item| Some(spans.links.trace_id[item].0.as_slice()))),
            Column::LinkedSpanId => hex_column(items().map(|item| Some(spans.links.span_id[item].0.as_slice()))),
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
            // A value of another type hides the resource's all the same.
            let own_value = own_value.filter(|value| !matches!(value, AttributeValue::Empty));
            let value = own_value.or(inherited);
            if !value.is_some_and(|value| values.push_attribute(value, &spans.strings)) {
                values.push_null();
            }
        }
        values.finish()
    }
}

/// What columns make of the texts of a span: attributes are the only ones that may be long, and they are written out for each
/// row, however many spans share them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LongTexts {
    own: usize,
    resource: usize,
}

impl LongTexts {
    /// How often the attributes of a row are written out, at most.
    pub(super) fn of<'c>(columns: impl Iterator<Item = &'c Column>) -> Self {
        let mut texts = Self { own: 0, resource: 0 };
        // Values of different keys are together no longer than all of them.
        let (mut own_values, mut resource_values) = (false, false);
        for column in columns {
            match column {
                Column::Attributes => texts.own += 1,
                Column::ResourceAttributes => texts.resource += 1,
                Column::Attribute(attribute) => {
                    own_values |= attribute.scope != AttributeScope::Resource;
                    resource_values |= attribute.scope != AttributeScope::Span;
                }
                _ => {}
            }
        }
        Self { own: texts.own + usize::from(own_values), resource: texts.resource + usize::from(resource_values) }
    }

    /// How many of the first spans have rows of no more bytes; at least one.
    pub(super) fn spans_that_fit(
        &self,
        table: Table,
        spans: &SpanBatch,
        mut rows: impl ExactSizeIterator<Item = usize>,
        bytes_max: usize,
    ) -> usize {
        let all = rows.len();
        if self.own + self.resource == 0 {
            return all;
        }
        let mut bytes = 0;
        let beyond = rows.position(|row| {
            bytes += self.bytes_of(table, spans, row);
            bytes > bytes_max
        });
        beyond.map_or(all, |fitting| fitting.max(1))
    }

    fn bytes_of(&self, table: Table, spans: &SpanBatch, row: usize) -> usize {
        let (own, items) = match table {
            Table::Spans => (bytes_of_lists(&spans.attributes, row..row + 1, &spans.strings), 1),
            Table::Events => {
                let items = spans.event_range(row);
                (bytes_of_lists(&spans.events.attributes, items.clone(), &spans.strings), items.len())
            }
            Table::Links => {
                let items = spans.link_range(row);
                (bytes_of_lists(&spans.links.attributes, items.clone(), &spans.strings), items.len())
            }
        };
        if self.resource == 0 {
            return self.own * own;
        }
        let resource = spans.resource[row] as usize;
        let inherited = bytes_of_lists(&spans.resources.attributes, resource..resource + 1, &spans.strings);
        self.own * own + self.resource * items * inherited
    }
}

fn bytes_of_lists(lists: &AttributeLists, owners: std::ops::Range<usize>, strings: &StringTable) -> usize {
    let text = |value: AttributeValue| match value {
        AttributeValue::String(code) | AttributeValue::Bytes(code) | AttributeValue::Json(code) => {
            strings.bytes(code).len()
        }
        _ => 0,
    };
    owners.flat_map(|owner| lists.of(owner)).map(|(key, value)| strings.bytes(key).len() + text(value)).sum()
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
