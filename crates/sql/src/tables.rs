//! The tables and their columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};

use crate::ids::IdKind;

/// Names of the tables.
pub const TABLES: [&str; 4] = ["spans", "traces", "events", "links"];

/// The columns that hold attributes as a text of JSON.
pub(crate) const ATTRIBUTES: &str = "attributes";
pub(crate) const RESOURCE_ATTRIBUTES: &str = "resource_attributes";

/// The tables that are scans; `traces` is a view over `spans`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    Spans,
    Events,
    Links,
}

impl Table {
    pub(crate) const ALL: [Table; 3] = [Table::Spans, Table::Events, Table::Links];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Spans => "spans",
            Table::Events => "events",
            Table::Links => "links",
        }
    }

    pub(crate) fn columns(self) -> Vec<Column> {
        use Column::*;
        match self {
            Table::Spans => vec![
                TraceId,
                SpanId,
                ParentSpanId,
                StartTime,
                DurationNanos,
                Name,
                Kind,
                Status,
                StatusMessage,
                TraceState,
                ServiceName,
                ScopeName,
                ScopeVersion,
                Weight,
                Probability,
                Attributes,
                ResourceAttributes,
            ],
            Table::Events => vec![
                TraceId,
                SpanId,
                StartTime,
                ServiceName,
                SpanName,
                EventTime,
                EventName,
                Attributes,
                ResourceAttributes,
            ],
            Table::Links => vec![
                TraceId,
                SpanId,
                StartTime,
                ServiceName,
                SpanName,
                LinkedTraceId,
                LinkedSpanId,
                LinkedTraceState,
                Attributes,
                ResourceAttributes,
            ],
        }
    }
}

/// A column of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Column {
    TraceId,
    SpanId,
    ParentSpanId,
    StartTime,
    DurationNanos,
    Name,
    Kind,
    Status,
    StatusMessage,
    TraceState,
    ServiceName,
    ScopeName,
    ScopeVersion,
    Weight,
    Probability,
    Attributes,
    ResourceAttributes,
    /// The span's name, in tables where `name` is another's.
    SpanName,
    EventTime,
    EventName,
    LinkedTraceId,
    LinkedSpanId,
    LinkedTraceState,
    /// Not in the table's schema: what a call of `attr` and its like becomes.
    Attribute(AttributeColumn),
}

impl Column {
    pub(crate) fn name(&self) -> String {
        match self {
            Column::Attribute(attribute) => attribute.name(),
            named => named.schema_name().unwrap_or_default().to_owned(),
        }
    }

    /// The name of a column that is in the schema of a table.
    pub(crate) fn schema_name(&self) -> Option<&'static str> {
        Some(match self {
            Column::TraceId => "trace_id",
            Column::SpanId => "span_id",
            Column::ParentSpanId => "parent_span_id",
            Column::StartTime => "start_time",
            Column::DurationNanos => "duration_nanos",
            Column::Name | Column::EventName => "name",
            Column::Kind => "kind",
            Column::Status => "status",
            Column::StatusMessage => "status_message",
            Column::TraceState => "trace_state",
            Column::ServiceName => "service_name",
            Column::ScopeName => "scope_name",
            Column::ScopeVersion => "scope_version",
            Column::Weight => "weight",
            Column::Probability => "probability",
            Column::Attributes => ATTRIBUTES,
            Column::ResourceAttributes => RESOURCE_ATTRIBUTES,
            Column::SpanName => "span_name",
            Column::EventTime => "time",
            Column::LinkedTraceId => "linked_trace_id",
            Column::LinkedSpanId => "linked_span_id",
            Column::LinkedTraceState => "linked_trace_state",
            Column::Attribute(_) => return None,
        })
    }

    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Column::StartTime | Column::EventTime => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            Column::DurationNanos => DataType::Int64,
            Column::Weight | Column::Probability => DataType::Float64,
            Column::Attribute(attribute) => attribute.value_type.data_type(),
            _ => DataType::Utf8View,
        }
    }

    pub(crate) fn field(&self) -> Field {
        use Column::*;
        let required = matches!(
            self,
            TraceId | SpanId | StartTime | DurationNanos | Weight | EventTime | LinkedTraceId | LinkedSpanId
        );
        Field::new(self.name(), self.data_type(), !required)
    }

    /// Whose ids it holds, by its name.
    pub(crate) fn id_kind(name: &str) -> Option<IdKind> {
        use Column::*;
        let is_named = |column: &Column| column.schema_name() == Some(name);
        let of = |kind, columns: &[Column]| columns.iter().any(is_named).then_some(kind);
        of(IdKind::Trace, &[TraceId, LinkedTraceId]).or(of(IdKind::Span, &[SpanId, ParentSpanId, LinkedSpanId]))
    }
}

/// The value of one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AttributeColumn {
    pub(crate) scope: AttributeScope,
    pub(crate) value_type: AttributeType,
    pub(crate) key: Arc<str>,
}

impl AttributeColumn {
    /// The key of the attribute that the column `service_name` is.
    pub(crate) const SERVICE_NAME: &str = "service.name";

    /// What the column `service_name` is.
    pub(crate) fn service_name() -> Self {
        Self { scope: AttributeScope::Resource, value_type: AttributeType::Text, key: Self::SERVICE_NAME.into() }
    }

    fn name(&self) -> String {
        let scope = match self.scope {
            AttributeScope::Any => "attr",
            AttributeScope::Span => "span_attr",
            AttributeScope::Resource => "resource_attr",
        };
        let value_type = match self.value_type {
            AttributeType::Text => "",
            AttributeType::Int => "_int",
            AttributeType::Float => "_float",
            AttributeType::Bool => "_bool",
        };
        format!("{scope}{value_type}:{}", self.key)
    }
}

/// Whose attributes are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AttributeScope {
    /// The span's (in `events` the event's, in `links` the link's), else the resource's.
    Any,
    Span,
    Resource,
}

/// As what a value is given; values that are not of the type are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AttributeType {
    /// Any value: texts as they are, all else as JSON.
    Text,
    Int,
    /// Whole numbers as well.
    Float,
    Bool,
}

impl AttributeType {
    pub(crate) fn data_type(self) -> DataType {
        match self {
            AttributeType::Text => DataType::Utf8View,
            AttributeType::Int => DataType::Int64,
            AttributeType::Float => DataType::Float64,
            AttributeType::Bool => DataType::Boolean,
        }
    }
}

/// `traces`: one row for each trace, from all of its spans that are stored.
pub(crate) const TRACES_VIEW: &str = "\
SELECT trace_id, root_service, root_name, start_time, end_nanos - CAST(start_time AS BIGINT) AS duration_nanos, \
    spans, errors, services \
FROM ( \
    SELECT trace_id, \
        first_value(service_name ORDER BY start_time) FILTER (WHERE parent_span_id IS NULL) AS root_service, \
        first_value(name ORDER BY start_time) FILTER (WHERE parent_span_id IS NULL) AS root_name, \
        min(start_time) AS start_time, \
        max(CAST(start_time AS BIGINT) + duration_nanos) AS end_nanos, \
        count(*) AS spans, \
        count(*) FILTER (WHERE status = 'error') AS errors, \
        array_sort(array_agg(DISTINCT service_name) FILTER (WHERE service_name IS NOT NULL)) AS services \
    FROM spans GROUP BY trace_id \
)";
