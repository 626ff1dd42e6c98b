//! The shapes of the native API's answers. Moments are nanoseconds since 1970 as decimal strings, which JavaScript's
//! numbers can't hold; durations are nanoseconds as numbers.

use serde::Serialize;
use serde_json::value::RawValue;
use tracehouse_query::Inspected;
use utoipa::ToSchema;

use super::terms::{AttributeScope, Mark, SpanKind, StatusCode, ValueType};

#[derive(Serialize, ToSchema)]
pub(crate) struct ServicesAnswer {
    pub(crate) services: Vec<ServiceName>,
    /// False if there are more services than are kept track of.
    pub(crate) complete: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ServiceName {
    #[schema(example = "cart")]
    pub(crate) name: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct OperationsAnswer {
    /// Span names, in alphabetical order.
    #[schema(example = json!(["GET /cart"]))]
    pub(crate) operations: Vec<String>,
    pub(crate) complete: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AttributeKeysAnswer {
    pub(crate) keys: Vec<AttributeKeyAnswer>,
    pub(crate) complete: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AttributeKeyAnswer {
    pub(crate) scope: AttributeScope,
    #[schema(example = "http.route")]
    pub(crate) key: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AttributeValuesAnswer {
    pub(crate) values: Vec<AttributeValueAnswer>,
    /// False if there are more values than `limit`.
    pub(crate) complete: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AttributeValueAnswer {
    #[serde(rename = "type")]
    pub(crate) value_type: ValueType,
    /// The value as text, whatever its type.
    #[schema(example = "/cart")]
    pub(crate) value: String,
}

/// Traces with a span that meets all conditions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SearchAnswerBody {
    pub(crate) traces: Vec<TraceSummaryAnswer>,
    /// How many traces match, among those that were looked at; null if the newest were found without looking at the others.
    pub(crate) traces_matched: Option<u64>,
    /// Whether everything that could matter was looked at.
    pub(crate) complete: bool,
    /// Why not, with `N of M`.
    pub(crate) partial_reason: Option<String>,
    pub(crate) inspected: InspectedAnswer,
    pub(crate) elapsed_nanos: u64,
}

/// Traces of which matching spans came, those of which one came last first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TailAnswer {
    pub(crate) traces: Vec<TraceSummaryAnswer>,
    /// Of how many traces matching spans came; `traces` are the last of them, as many as the limit allows.
    pub(crate) traces_matched: u64,
    /// For how many of them these were the first, as far as memory tells.
    pub(crate) traces_begun: u64,
    /// Spans that came, whether they match or not.
    pub(crate) spans_arrived: u64,
    /// What to ask with next time: `after`.
    pub(crate) position: String,
    /// Whether everything that came was looked at.
    pub(crate) complete: bool,
    /// Why not.
    pub(crate) partial_reason: Option<String>,
    pub(crate) elapsed_nanos: u64,
}

/// How many traces have a span that meets all conditions.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TraceCountAnswer {
    /// Among those that were looked at.
    pub(crate) traces: u64,
    /// Whether everything that could matter was looked at.
    pub(crate) complete: bool,
    /// Why not, with `N of M`.
    pub(crate) partial_reason: Option<String>,
    pub(crate) inspected: InspectedAnswer,
    pub(crate) elapsed_nanos: u64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InspectedAnswer {
    pub(crate) spans: u64,
    pub(crate) files: u64,
    /// Files whose time range overlaps the search's.
    pub(crate) files_total: u64,
    pub(crate) bytes: u64,
}

impl From<Inspected> for InspectedAnswer {
    fn from(inspected: Inspected) -> Self {
        let Inspected { spans, files, files_total, bytes } = inspected;
        Self { spans, files, files_total, bytes }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TraceSummaryAnswer {
    #[schema(example = "5b8efff798038103d269b633813fc60c")]
    pub(crate) trace_id: String,
    /// Whose spans these are; absent if one tenant was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// Of the root span; of the earliest span if the root is missing.
    pub(crate) root_service_name: String,
    pub(crate) root_span_name: String,
    /// What the span is about beside its name: the route or host, table or topic; absent if that is not known, its name says it already,
    /// or nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) root_target: Option<String>,
    #[schema(example = "1769860800000000000")]
    pub(crate) start_time_unix_nano: String,
    pub(crate) duration_nanos: i64,
    pub(crate) span_count: u64,
    pub(crate) error_count: u64,
    pub(crate) root_missing: bool,
    /// The one with most spans first.
    pub(crate) services: Vec<ServiceShare>,
    /// How many spans meet the conditions.
    pub(crate) matched_count: u64,
    /// One, or with TraceQL's `by()` one for each of its values.
    pub(crate) spansets: Vec<SpansetAnswer>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SpansetAnswer {
    /// What the spans share because the query says `by()`.
    pub(crate) by: Vec<AttributeAnswer>,
    /// What the query compared of them, such as `count()` or `avg(duration)`; durations as texts.
    pub(crate) aggregates: Vec<AttributeAnswer>,
    pub(crate) matched_count: u64,
    /// The first ones by start; `spans` in the request says how many.
    pub(crate) spans: Vec<MatchedSpanAnswer>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceShare {
    pub(crate) name: String,
    pub(crate) span_count: u64,
    pub(crate) error_count: u64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MatchedSpanAnswer {
    #[schema(example = "eee19b7ec3c1b174")]
    pub(crate) span_id: String,
    pub(crate) name: String,
    pub(crate) service_name: String,
    pub(crate) start_time_unix_nano: String,
    pub(crate) duration_nanos: i64,
    pub(crate) status: StatusCode,
    /// As `rootTarget`, of this span.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    /// What the query's `select()` asked for and what its conditions mention, where the span has it.
    pub(crate) fields: Vec<AttributeAnswer>,
}

/// A trace as columns: each array of `spans` has one entry for each returned span, parents before children and
/// siblings by start.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "documents what compact_trace.rs writes by hand")]
pub(crate) struct CompactTrace {
    pub(crate) trace_id: String,
    /// Spans that the trace has.
    pub(crate) span_count: u64,
    /// Spans in this answer.
    pub(crate) returned: u64,
    pub(crate) complete: bool,
    pub(crate) partial_reason: Option<String>,
    pub(crate) start_time_unix_nano: String,
    pub(crate) duration_nanos: i64,
    pub(crate) root_service_name: String,
    pub(crate) root_span_name: String,
    pub(crate) error_count: u64,
    /// Redelivered copies of spans, which are left out.
    pub(crate) duplicates: u64,
    /// What `spans.service` points into.
    pub(crate) services: Vec<String>,
    /// What `spans.name` points into.
    pub(crate) names: Vec<String>,
    /// What `spans.target` points into; absent if there are none, or nobody asked for them.
    pub(crate) targets: Option<Vec<String>>,
    /// What `spans.tenant` points into; absent if one tenant was asked.
    pub(crate) tenants: Option<Vec<String>>,
    pub(crate) spans: CompactSpans,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "documents what compact_trace.rs writes by hand")]
pub(crate) struct CompactSpans {
    pub(crate) id: Vec<String>,
    /// Index of the parent; -1 for a root, -2 if the parent is missing from the trace.
    pub(crate) parent: Vec<i64>,
    /// The ids of missing parents, else empty texts; absent if no parent is missing.
    pub(crate) parent_id: Option<Vec<String>>,
    /// Nanoseconds after the start of the trace.
    pub(crate) start: Vec<i64>,
    /// Nanoseconds.
    pub(crate) duration: Vec<i64>,
    pub(crate) service: Vec<u32>,
    pub(crate) name: Vec<u32>,
    /// What the span is about beside its name: the route or host, table or topic; -1 if that is not known, or its name says it already.
    pub(crate) target: Option<Vec<i64>>,
    /// Absent if one tenant was asked.
    pub(crate) tenant: Option<Vec<u32>>,
    /// As OTLP numbers them: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub(crate) kind: Vec<u8>,
    /// 0 unset, 1 ok, 2 error.
    pub(crate) status: Vec<u8>,
    /// How many events.
    pub(crate) events: Vec<u32>,
    /// How many links.
    pub(crate) links: Vec<u32>,
    /// 1 if an event is an exception.
    pub(crate) exception: Vec<u8>,
}

/// Spans in which a text was found.
#[derive(Serialize, ToSchema)]
pub(crate) struct FindAnswer {
    /// Positions in the arrays of the trace.
    pub(crate) indices: Vec<u32>,
    pub(crate) total: u64,
}

/// One span with all that was sent of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SpanAnswer {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    /// Empty for a root.
    pub(crate) parent_span_id: String,
    pub(crate) name: String,
    pub(crate) service_name: String,
    pub(crate) kind: SpanKind,
    pub(crate) status: StatusOfSpan,
    pub(crate) start_time_unix_nano: String,
    pub(crate) duration_nanos: i64,
    pub(crate) attributes: Vec<AttributeAnswer>,
    pub(crate) resource: ResourceAnswer,
    pub(crate) scope: ScopeAnswer,
    pub(crate) events: Vec<EventAnswer>,
    pub(crate) links: Vec<LinkAnswer>,
    pub(crate) trace_state: String,
    pub(crate) flags: u32,
    pub(crate) dropped_attributes_count: u32,
    pub(crate) dropped_events_count: u32,
    pub(crate) dropped_links_count: u32,
    /// For how many spans this one stands after sampling; null if that is not known.
    pub(crate) adjusted_count: Option<f64>,
    pub(crate) marks: Vec<Mark>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct StatusOfSpan {
    pub(crate) code: StatusCode,
    pub(crate) message: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct AttributeAnswer {
    pub(crate) key: String,
    #[serde(rename = "type")]
    pub(crate) value_type: ValueType,
    /// An int is a decimal string, bytes are base64, a double that is not finite is its name; arrays and kvlists are
    /// JSON arrays and objects.
    #[schema(value_type = Object)]
    pub(crate) value: Box<RawValue>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceAnswer {
    pub(crate) attributes: Vec<AttributeAnswer>,
    pub(crate) schema_url: String,
    pub(crate) dropped_attributes_count: u32,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScopeAnswer {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) attributes: Vec<AttributeAnswer>,
    pub(crate) schema_url: String,
    pub(crate) dropped_attributes_count: u32,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventAnswer {
    pub(crate) time_unix_nano: String,
    pub(crate) name: String,
    pub(crate) attributes: Vec<AttributeAnswer>,
    pub(crate) dropped_attributes_count: u32,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkAnswer {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) trace_state: String,
    pub(crate) flags: u32,
    pub(crate) attributes: Vec<AttributeAnswer>,
    pub(crate) dropped_attributes_count: u32,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerStatus {
    pub(crate) version: &'static str,
    pub(crate) tenant: String,
    /// Spans of the tenant in files.
    pub(crate) spans_stored: u64,
    /// Spans of the tenant in memory, not yet in a file.
    pub(crate) spans_hot: u64,
    pub(crate) files: u64,
    pub(crate) bytes_stored: u64,
    pub(crate) uptime_nanos: u64,
    /// Over the last seconds, between questions for this status.
    pub(crate) ingest_spans_per_second: f64,
    /// What is wrong with the store and does not go away by itself, and what to do about it.
    pub(crate) troubles: Vec<String>,
}

/// What is still wrong after the clock was confirmed.
#[derive(Serialize, ToSchema)]
pub(crate) struct TrustClockAnswer {
    pub(crate) troubles: Vec<String>,
}

/// What a flush wrote.
#[derive(Serialize, ToSchema)]
pub(crate) struct FlushAnswer {
    pub(crate) spans: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Redelivered spans that were left out.
    pub(crate) duplicates: u64,
}

/// What a compaction merged.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CompactionAnswer {
    pub(crate) merges: u64,
    pub(crate) files_before: u64,
    pub(crate) files_after: u64,
    pub(crate) spans: u64,
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
    /// Redelivered spans that were left out.
    pub(crate) duplicates: u64,
}
