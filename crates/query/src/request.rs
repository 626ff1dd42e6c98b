use serde::Serialize;
use tracehouse_model::{SpanBatch, SpanId, TraceId};

/// What a search asks for. All conditions must hold for one and the same span.
#[derive(Clone, Debug, Default)]
pub struct SearchRequest {
    pub conditions: Vec<Condition>,
    /// A TraceQL query of a single spanset, which must hold as well.
    pub traceql: Option<String>,
    /// A span matches if it begins in `start_unix_nanos..end_unix_nanos`; `None` is unbounded.
    pub start_unix_nanos: Option<i64>,
    pub end_unix_nanos: Option<i64>,
    /// How many traces to return at most.
    pub limit: usize,
    /// How many matching spans to return of each trace at most.
    pub spans_per_trace: usize,
    /// Only traces whose duration as a whole is in this range, in nanoseconds.
    pub trace_duration_nanos_min: Option<i64>,
    pub trace_duration_nanos_max: Option<i64>,
}

/// One condition on a span.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Service(String),
    Operation(String),
    Kind(u8),
    Status(u8),
    /// Inclusive bounds, in nanoseconds.
    DurationMin(i64),
    DurationMax(i64),
    Attribute {
        scope: Scope,
        key: String,
        operator: Operator,
        value: String,
    },
}

/// Where an attribute is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The span's attributes, then its resource's.
    Either,
    Span,
    Resource,
    Instrumentation,
    Event,
    Link,
}

/// How an attribute is compared with the text of a condition. A text that reads as a number or a truth value also
/// matches attributes of that type; `Less` and its like compare numbers as numbers and texts as texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Matches,
    NotMatches,
}

/// What a search found, newest trace first, ties by trace id.
#[derive(Clone, Debug, Default)]
pub struct SearchAnswer {
    pub traces: Vec<TraceSummary>,
    pub inspected: Inspected,
    /// `None` if everything in the time range was looked at, or as much as the limit needed; else why not, with `N of M`.
    pub partial_reason: Option<String>,
}

/// How much was looked at to answer.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Inspected {
    pub spans: u64,
    pub files: u64,
    /// Files whose time range overlaps the query's.
    pub files_total: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub struct TraceSummary {
    pub trace_id: TraceId,
    /// Of the root span; of the earliest span if the root is missing.
    pub root_service_name: String,
    pub root_span_name: String,
    pub root_missing: bool,
    pub start_unix_nanos: i64,
    pub duration_nanos: i64,
    pub span_count: u64,
    pub error_count: u64,
    /// By span count, largest first.
    pub services: Vec<ServiceCount>,
    pub matched_count: u64,
    pub matched: Vec<MatchedSpan>,
}

#[derive(Clone, Debug)]
pub struct ServiceCount {
    pub name: String,
    pub span_count: u64,
    pub error_count: u64,
}

#[derive(Clone, Debug)]
pub struct MatchedSpan {
    pub span_id: SpanId,
    pub name: String,
    pub service_name: String,
    pub start_unix_nanos: i64,
    pub duration_nanos: i64,
    pub status_code: u8,
}

/// One trace, assembled: from memory and files, deduplicated, as a tree in pre-order.
#[derive(Clone)]
pub struct Trace {
    pub trace_id: TraceId,
    /// The spans; row `i` of the batch is span `i` of the trace, parents before children, siblings by start.
    pub spans: SpanBatch,
    /// For each span the row of its parent.
    pub parent: Vec<ParentRow>,
    pub start_unix_nanos: i64,
    pub duration_nanos: i64,
    /// Row of the root span, if the trace has one.
    pub root: Option<u32>,
    pub error_count: u64,
    /// How many redelivered copies of spans were left out.
    pub duplicates: u64,
    /// Spans of the trace that exist; larger than `spans.len()` if the limit cut it.
    pub span_count: u64,
    /// `None` if the trace is whole as far as is known here; else why not, with `N of M`.
    pub partial_reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentRow {
    Root,
    Row(u32),
    /// The span names a parent that is not here.
    Missing,
}

/// A key under which spans carry attributes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AttributeKey {
    pub scope: Scope,
    pub key: String,
}

/// A list of names that may have been cut at a limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing<T> {
    pub items: Vec<T>,
    /// False if there are more than were asked for or kept.
    pub complete: bool,
}

/// One value that an attribute takes.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeValueSeen {
    /// `string`, `int`, `double`, `bool`, or for intrinsics `keyword`, `duration`.
    pub value_type: &'static str,
    pub value: String,
}
