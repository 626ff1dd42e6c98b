use serde::Serialize;
use tracehouse_model::{AnyValue, ParentRow, SpanBatch, SpanId, TenantId, TraceId};
use tracehouse_scan::{Reservation, Window};
use tracehouse_traceql::Meaning;

/// What a search asks for. All conditions must hold for one and the same span.
#[derive(Clone, Debug, Default)]
pub struct SearchRequest {
    pub conditions: Vec<Condition>,
    /// A TraceQL query that selects spans; its spans must satisfy the conditions as well.
    pub traceql: Option<String>,
    /// The range `start_unix_nanos..end_unix_nanos`; `None` is unbounded.
    pub start_unix_nanos: Option<i64>,
    pub end_unix_nanos: Option<i64>,
    /// Which spans the range selects.
    pub selects: Selects,
    /// Which traces to return if there are more than the limit, and in which order; `None`: those with the newest matching spans, which are
    /// found without a look at the others, by their starts, newest first.
    pub order: Option<Order>,
    /// How many traces to return at most.
    pub limit: usize,
    /// How many matching spans to return of each spanset at most.
    pub spans_per_spanset: usize,
    /// Whether the answer tells what spans are about beside their names; more is read for that.
    pub targets: bool,
    /// Only traces whose duration as a whole is in this range, in nanoseconds.
    pub trace_duration_nanos_min: Option<i64>,
    pub trace_duration_nanos_max: Option<i64>,
}

impl SearchRequest {
    pub(crate) fn window(&self) -> Window {
        let range = self.start_unix_nanos.unwrap_or(i64::MIN)..self.end_unix_nanos.unwrap_or(i64::MAX);
        match self.selects {
            Selects::Starting => Window::starting(range),
            Selects::Overlapping => Window::overlapping(range),
        }
    }
}

/// An order of traces, for which all that match are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub key: OrderKey,
    pub descending: bool,
}

/// What traces are ordered by: each as a whole, also where only some of its spans match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKey {
    Start,
    /// Service of the root, then its name.
    Root,
    Duration,
    Spans,
    Errors,
}

/// Which spans a range of times selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selects {
    /// Those that begin in it.
    #[default]
    Starting,
    /// Those of which any moment lies in it.
    Overlapping,
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
    /// An attribute whose value is shown as this text: a text, a number that reads the same, a truth value, the base64 of bytes,
    /// the JSON of a list or map; or a list with such a value. An attribute without a value is shown as the empty text.
    ShownAs {
        scope: Scope,
        key: String,
        text: String,
    },
    /// An attribute is there, whatever its value.
    Has {
        scope: Scope,
        key: String,
    },
    /// A field of the span, of its scope or of one of its events is this text.
    Text {
        field: TextField,
        text: String,
    },
    /// At least one of these holds.
    Any(Vec<Condition>),
    /// All of these hold.
    All(Vec<Condition>),
    Not(Box<Condition>),
}

/// A field whose values are texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextField {
    StatusMessage,
    ScopeName,
    ScopeVersion,
    TraceState,
    /// Of any of the events.
    EventName,
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

/// What a search found, in the order that was asked for, ties newest trace first, then by trace id.
#[derive(Clone, Debug, Default)]
pub struct SearchAnswer {
    pub traces: Vec<TraceSummary>,
    /// How many traces match, among those that were looked at; `None` if the search ended when it had the newest.
    pub traces_matched: Option<u64>,
    pub inspected: Inspected,
    /// `None` if everything in the time range was looked at, or as much as the limit needed; else why not, with `N of M`.
    pub partial_reason: Option<String>,
    /// For the traces. To be kept until the answer was sent.
    pub memory: Reservation,
}

/// Traces that were found as spans of theirs came, those of which one came last first.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// `traces_matched`: also those that are more than the limit.
    pub found: SearchAnswer,
    /// Of those, how many had no matching span before, among those in memory.
    pub traces_begun: u64,
    /// Spans that came, whether they match or not.
    pub spans_arrived: u64,
    /// From where to go on.
    pub position: u64,
}

/// How many traces a search would find without a limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceCount {
    /// Among those that were looked at.
    pub traces: u64,
    pub inspected: Inspected,
    /// As in [`SearchAnswer`].
    pub partial_reason: Option<String>,
}

/// How much was looked at to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Inspected {
    pub spans: u64,
    pub files: u64,
    /// Files whose time range overlaps the query's.
    pub files_total: u64,
    pub bytes: u64,
}

impl Inspected {
    pub(crate) fn add(&mut self, other: Self) {
        self.spans += other.spans;
        self.files += other.files;
        self.files_total += other.files_total;
        self.bytes += other.bytes;
    }
}

#[derive(Clone, Debug)]
pub struct TraceSummary {
    pub trace_id: TraceId,
    /// Whose spans these are, if several tenants were asked.
    pub tenant: Option<TenantId>,
    /// Of the root span; of the earliest span if the root is missing.
    pub root_service_name: String,
    pub root_span_name: String,
    /// What it is about beside its name ([`crate::Targets`]); `None` also if nobody asked.
    pub root_target: Option<String>,
    pub root_missing: bool,
    pub start_unix_nanos: i64,
    pub duration_nanos: i64,
    pub span_count: u64,
    pub error_count: u64,
    /// Spans that name a parent that is not here.
    pub orphan_count: u64,
    /// By span count, largest first.
    pub services: Vec<ServiceCount>,
    /// Matching spans in all spansets.
    pub matched_count: u64,
    /// When the newest of them begins: a limit takes the traces where this is newest.
    pub newest_match_unix_nanos: i64,
    /// At least one; several if the query says `by()`.
    pub spansets: Vec<MatchedSpanset>,
}

/// The matching spans of a trace, or those of them that share the values of a `by()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatchedSpanset {
    /// What the spans share: the printed field and its value, `None` where the spans have none.
    pub by: Vec<(String, Option<AnyValue>)>,
    /// What the query compared of them, such as `count()` or `avg(duration)`; durations as texts.
    pub aggregates: Vec<(String, AnyValue)>,
    pub matched_count: u64,
    /// By start, as many as were asked for.
    pub spans: Vec<MatchedSpan>,
}

/// What a metrics query asks for.
#[derive(Clone, Debug, Default)]
pub struct MetricsRequest {
    /// A TraceQL query that computes time series.
    pub traceql: String,
    /// Spans that begin in `start_unix_nanos..end_unix_nanos` count.
    pub start_unix_nanos: i64,
    pub end_unix_nanos: i64,
    /// Length of a time step in nanoseconds. `None`: one step, the whole range.
    pub step_nanos: Option<i64>,
    /// Most exemplars of each series.
    pub exemplars_max: usize,
    /// Most exemplars of all series together, which share them evenly. Each costs the reading of a row.
    pub exemplars_in_all_max: Option<usize>,
    /// How fine histograms are.
    pub histogram: HistogramBuckets,
}

/// Where the buckets of histograms end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HistogramBuckets {
    /// With powers of two.
    #[default]
    PowersOfTwo,
    /// Twice as many: with powers of the square root of two.
    Halves,
    /// Four times as many: with powers of the fourth root of two, each 19 % above the one before.
    Quarters,
}

impl HistogramBuckets {
    pub(crate) fn per_octave(self) -> i32 {
        match self {
            Self::PowersOfTwo => 1,
            Self::Halves => 2,
            Self::Quarters => 4,
        }
    }
}

/// Time series that share their steps. Step `i` covers the spans that begin in
/// `start_unix_nanos + i * step_nanos .. start_unix_nanos + (i + 1) * step_nanos`, cut to the range of the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsAnswer {
    /// A multiple of the step, at or before the start of the request; the start of the request itself if there is one step.
    pub start_unix_nanos: i64,
    pub step_nanos: i64,
    pub steps: usize,
    /// What the query says of its series.
    pub meaning: Meaning,
    /// By labels.
    pub series: Vec<Series>,
    pub inspected: Inspected,
    pub weighting: Weighting,
    /// As in [`SearchAnswer`].
    pub partial_reason: Option<String>,
    /// For the series. To be kept until the answer was sent.
    pub memory: Reservation,
}

/// One time series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Printed field (or `p` for a quantile, `__bucket` for a histogram, `__meta_type` for `compare`) and value; `None` is nil.
    pub labels: Vec<(String, Option<AnyValue>)>,
    /// One for each step. `None`: nothing was there to compute from. Counts and rates are 0 then.
    pub values: Vec<Option<f64>>,
    pub exemplars: Vec<Exemplar>,
}

/// A span that contributed to a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub start_unix_nanos: i64,
    /// Of the field that is measured; the duration in seconds for counts and rates.
    pub value: f64,
    /// What the query mentions of the span, as far as that can be told of a span without its trace.
    pub fields: Vec<ShownValue>,
}

/// Spans count as often as their sampling probability says: `1 / probability`, from `tracestate`'s `ot=th:`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Weighting {
    /// Spans that were counted, each once.
    pub spans: u64,
    /// Those of them without a probability: they weigh 1.
    pub spans_of_unknown_probability: u64,
}

/// How a query would run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// One step of the plan per line, indented by depth.
    pub plan: Vec<String>,
    /// Files in the time range, and those of them that the catalogue can't rule out.
    pub files_total: u64,
    pub files_to_read: u64,
    pub spans_in_memory: u64,
    pub spans_in_files: u64,
}

#[derive(Clone, Debug)]
pub struct ServiceCount {
    pub name: String,
    pub span_count: u64,
    pub error_count: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MatchedSpan {
    pub span_id: SpanId,
    pub name: String,
    pub service_name: String,
    pub start_unix_nanos: i64,
    pub duration_nanos: i64,
    pub status_code: u8,
    /// What it is about beside its name ([`crate::Targets`]); `None` also if nobody asked.
    pub target: Option<String>,
    /// What the query's `select()` asked for, and fields that its conditions mention, in the order of the query. Left out where the
    /// span has none.
    pub fields: Vec<ShownValue>,
}

/// A field of a span in an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownValue {
    /// As TraceQL writes it, with an intrinsic's short name.
    pub field: String,
    /// All values of the field.
    pub value: AnyValue,
    /// Those that satisfy the query's conditions, if there are others beside them.
    pub matched: Option<Vec<AnyValue>>,
}

/// How much of each span of a trace is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceDetail {
    /// All that belongs to it, to be written down.
    Whole,
    /// The same, only to be looked at: no text is made of it.
    Texts,
    /// Ids, times, name, kind, status, service, and its events and links: what a picture of the trace is drawn from.
    Outline,
    /// The same, and what calls are about: [`crate::Targets`].
    OutlineWithTargets,
}

impl TraceDetail {
    /// Whether only a part of what belongs to spans is read, and written.
    pub(crate) fn is_outline(self) -> bool {
        matches!(self, Self::Outline | Self::OutlineWithTargets)
    }
}

/// One trace, assembled: from memory and files, deduplicated, as a tree in pre-order. It has no spans if those that there
/// are, or may be, could not be read: `partial_reason` says why.
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
    /// Whose spans these are, if several tenants were asked: then each resource names its own under [`TENANT_KEY`](crate::TENANT_KEY).
    pub tenants: Vec<TenantId>,
    /// For the spans, and for a text of them. To be kept until the answer was sent.
    pub memory: Reservation,
}

/// Among which spans names and values are looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Among {
    /// Spans that begin in `start_unix_nanos..end_unix_nanos`; `None` is unbounded. Without conditions this goes by whole
    /// files and batches in memory.
    pub start_unix_nanos: Option<i64>,
    pub end_unix_nanos: Option<i64>,
    /// A TraceQL query, which may be unfinished: its conditions as far as they are certain.
    pub traceql: Option<String>,
    /// Spans of the service that answers show under this name.
    pub service: Option<String>,
}

/// A name of spans, and a kind that spans of the name have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    pub name: String,
    pub kind: u8,
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
    /// False if there are more than were asked for or kept, or if some could not be read.
    pub complete: bool,
    /// Why some could not be looked for, with `N of M`.
    pub partial_reason: Option<String>,
}

/// One value that an attribute takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttributeValueSeen {
    /// `string`, `int`, `double`, `bool`, or for intrinsics `keyword`, `duration`.
    pub value_type: &'static str,
    pub value: String,
}
