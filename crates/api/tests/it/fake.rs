use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use parking_lot::Mutex;
use tracehouse_api::{AdminError, Answers, Stored};
use tracehouse_model::{
    AnyValue, AttributeValue, Caller, Marks, Span, SpanBatch, SpanFields, SpanId, TenantId, Threshold, TraceId, kind,
    status,
};
use tracehouse_query::{
    Among, Arrivals, AttributeKey, AttributeValueSeen, Exemplar, Explanation, Inspected, Listing, MatchedSpan,
    MatchedSpanset, MetricsAnswer, MetricsRequest, Operation, ParentRow, QueryError, Reservation, Scope, SearchAnswer,
    SearchRequest, Series, ServiceCount, ShownValue, Trace, TraceCount, TraceDetail, TraceSummary, Weighting,
};
use tracehouse_sql::{Scanned, SqlAnswer, SqlError, SqlRequest};
use tracehouse_store::{CompactReport, FlushReport};
use tracehouse_traceql::FieldExpr;

pub(crate) const TRACE: &str = "5b8efff798038103d269b633813fc60c";
pub(crate) const TRACE_ID: TraceId =
    TraceId([0x5b, 0x8e, 0xff, 0xf7, 0x98, 0x03, 0x81, 0x03, 0xd2, 0x69, 0xb6, 0x33, 0x81, 0x3f, 0xc6, 0x0c]);
pub(crate) const START: i64 = 1_769_860_800_000_000_000;

/// Knows one trace of the default tenant and remembers what it was asked.
#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) searches: Mutex<Vec<SearchRequest>>,
    pub(crate) metrics: Mutex<Vec<MetricsRequest>>,
    pub(crate) asked: Mutex<Vec<String>>,
    /// Among which spans names were asked for.
    pub(crate) among: Mutex<Vec<Among>>,
    pub(crate) busy: bool,
    pub(crate) not_ready: bool,
    pub(crate) partial: bool,
    /// By tenant.
    pub(crate) saved_queries: Mutex<BTreeMap<TenantId, String>>,
    /// Questions for metrics wait for ever.
    pub(crate) never_answers: bool,
    /// How many questions for metrics are waited for.
    pub(crate) running: AtomicUsize,
    /// More traces that a search finds, as far as its limit goes.
    pub(crate) more_traces: usize,
    /// More spans in the trace, children of the root.
    pub(crate) more_spans: usize,
}

/// Counts while it is there.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn count(running: &'a AtomicUsize) -> Self {
        running.fetch_add(1, Ordering::SeqCst);
        Self(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    fn listing<T>(&self, items: Vec<T>) -> Listing<T> {
        Listing { items, complete: !self.partial, partial_reason: None }
    }

    fn texts(&self, items: &[&str]) -> Listing<String> {
        self.listing(items.iter().map(|item| (*item).to_owned()).collect())
    }
}

#[async_trait]
impl Answers for Fake {
    async fn trace(
        &self,
        caller: &Caller,
        id: TraceId,
        spans_max: usize,
        _: TraceDetail,
    ) -> Result<Option<Trace>, QueryError> {
        self.asked.lock().push(format!("trace {} {id} {spans_max}", caller.tenants()));
        if self.busy {
            return Err(QueryError::Busy { running: 8 });
        }
        let known = id == TRACE_ID && caller.tenants().to_string() == TenantId::DEFAULT;
        Ok(known.then(|| trace(self.more_spans, spans_max)))
    }

    async fn span(&self, _: &Caller, id: TraceId, span: SpanId) -> Result<Option<Span>, QueryError> {
        let trace = trace(0, usize::MAX);
        let row = trace.spans.span_id.iter().position(|known| *known == span);
        Ok(row.filter(|_| id == TRACE_ID).map(|row| trace.spans.span(row)))
    }

    async fn search(&self, _: &Caller, request: SearchRequest) -> Result<SearchAnswer, QueryError> {
        if request.traceql.as_deref() == Some("{") {
            return Err(QueryError::Invalid("at 1: expected a condition or `}`".to_owned()));
        }
        let traces = vec![summary(); (1 + self.more_traces).min(request.limit)];
        self.searches.lock().push(request);
        let partial_reason = self.partial.then(|| "2 of 3 files were read".to_owned());
        let inspected = Inspected { spans: 1000, files: 2, files_total: 3, bytes: 1234 };
        let traces_matched = Some(1 + self.more_traces as u64);
        Ok(SearchAnswer { traces, traces_matched, inspected, partial_reason, ..SearchAnswer::default() })
    }

    async fn count(&self, _: &Caller, request: SearchRequest) -> Result<TraceCount, QueryError> {
        self.searches.lock().push(request);
        let partial_reason = self.partial.then(|| "2 of 3 files were read".to_owned());
        let inspected = Inspected { spans: 1000, files: 2, files_total: 3, bytes: 1234 };
        Ok(TraceCount { traces: 1 + self.more_traces as u64, inspected, partial_reason })
    }

    async fn arrivals(
        &self,
        caller: &Caller,
        request: SearchRequest,
        after: Option<u64>,
    ) -> Result<Arrivals, QueryError> {
        let limit = request.limit;
        let found = self.search(caller, request).await?;
        let traces = if after.is_some() { found.traces } else { Vec::new() };
        let traces_begun = after.map_or(0, |_| 1 + self.more_traces as u64);
        assert!(traces.len() <= limit);
        let position = after.unwrap_or(100) + 7;
        Ok(Arrivals {
            found: SearchAnswer { traces, traces_matched: Some(traces_begun), ..found },
            traces_begun,
            spans_arrived: 12,
            position,
        })
    }

    /// Two series over the steps that were asked for; the second has nothing in its first step.
    async fn metrics(&self, _: &Caller, request: MetricsRequest) -> Result<MetricsAnswer, QueryError> {
        if request.traceql == "{" {
            return Err(QueryError::Invalid("at 1: expected a condition or `}`".to_owned()));
        }
        let _running = Running::count(&self.running);
        if self.never_answers {
            std::future::pending::<()>().await;
        }
        let range = request.end_unix_nanos - request.start_unix_nanos;
        let step = request.step_nanos.unwrap_or(range);
        let steps = usize::try_from((range + step - 1) / step).expect("a sensible range");
        let label = |value: &str| ("resource.service.name".to_owned(), Some(AnyValue::String(value.to_owned())));
        let exemplar = Exemplar {
            trace_id: TRACE_ID,
            span_id: SpanId([2; 8]),
            start_unix_nanos: request.start_unix_nanos + 1000,
            value: 0.002,
            fields: vec![ShownValue {
                field: "name".to_owned(),
                value: AnyValue::String("GET /cart".to_owned()),
                matched: None,
            }],
        };
        let first = Series {
            labels: vec![label("cart")],
            values: (0..steps).map(|step| Some(step as f64 + 0.5)).collect(),
            exemplars: vec![exemplar],
        };
        let second = Series {
            labels: vec![("resource.service.name".to_owned(), None)],
            values: (0..steps).map(|step| (step > 0).then_some(1.0)).collect(),
            exemplars: Vec::new(),
        };
        let answer = MetricsAnswer {
            start_unix_nanos: request.start_unix_nanos,
            step_nanos: step,
            steps,
            series: vec![first, second],
            inspected: Inspected { spans: 1000, files: 2, files_total: 3, bytes: 1234 },
            weighting: Weighting { spans: 900, spans_of_unknown_probability: 100 },
            partial_reason: self.partial.then(|| "2 of 3 files were read".to_owned()),
            ..MetricsAnswer::default()
        };
        self.metrics.lock().push(request);
        Ok(answer)
    }

    async fn explain(&self, _: &Caller, traceql: &str, range: std::ops::Range<i64>) -> Result<Explanation, QueryError> {
        self.asked.lock().push(format!("explain {traceql} {range:?}"));
        Ok(Explanation {
            plan: vec!["rate".to_owned(), "  scan".to_owned()],
            files_total: 3,
            files_to_read: 2,
            spans_in_memory: 10,
            spans_in_files: 990,
        })
    }

    async fn services(&self, caller: &Caller, among: &Among) -> Result<Listing<String>, QueryError> {
        if self.busy {
            return Err(QueryError::Busy { running: 8 });
        }
        assert!(caller.tenants().to_string() != "panic", "as the test wants it");
        self.asked.lock().push(format!("services {}", caller.tenants()));
        self.among.lock().push(among.clone());
        Ok(self.texts(&["cart", "gateway"]))
    }

    async fn operations(
        &self,
        _: &Caller,
        service: Option<&str>,
        among: &Among,
    ) -> Result<Listing<String>, QueryError> {
        self.among.lock().push(among.clone());
        self.asked.lock().push(format!("operations {service:?}"));
        Ok(self.texts(&["GET /", "GET /cart"]))
    }

    async fn operations_by_kind(
        &self,
        _: &Caller,
        service: Option<&str>,
        _: &Among,
    ) -> Result<Listing<Operation>, QueryError> {
        self.asked.lock().push(format!("operations by kind {service:?}"));
        let operation = |(name, kind): (&str, u8)| Operation { name: name.to_owned(), kind };
        let all = [("GET /", kind::CLIENT), ("GET /", kind::SERVER), ("GET /cart", kind::UNSPECIFIED)];
        Ok(self.listing(all.map(operation).to_vec()))
    }

    async fn attribute_keys(
        &self,
        _: &Caller,
        scope: Option<Scope>,
        among: &Among,
    ) -> Result<Listing<AttributeKey>, QueryError> {
        self.among.lock().push(among.clone());
        let all = [(Scope::Resource, "service.name"), (Scope::Span, "http.route"), (Scope::Span, "retries")];
        let wanted = all.into_iter().filter(|(known, _)| scope.is_none_or(|scope| scope == *known));
        Ok(self.listing(wanted.map(|(scope, key)| AttributeKey { scope, key: key.to_owned() }).collect()))
    }

    async fn attribute_values(
        &self,
        caller: &Caller,
        scope: Scope,
        key: &str,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError> {
        if self.busy {
            return Err(QueryError::Busy { running: 8 });
        }
        self.among.lock().push(among.clone());
        let asked = format!("values {scope:?} {key} {limit}");
        let of_others = |name: &String| name != "default";
        let of =
            Some(caller.tenants().to_string()).filter(of_others).map_or_else(String::new, |name| format!(" of {name}"));
        self.asked.lock().push(asked + &of);
        let seen = |value_type, value: &str| AttributeValueSeen { value_type, value: value.to_owned() };
        match key {
            "kind" | "nothing.of.kind" => return Ok(self.listing(Vec::new())),
            "ratio" => return Ok(self.listing(vec![seen("double", "2.5")])),
            "service.name" => return Ok(self.listing(vec![seen("string", "cart"), seen("string", "gateway")])),
            _ => {}
        }
        Ok(self.listing(vec![seen("string", "/cart"), seen("int", "3"), seen("string", "3")]))
    }

    async fn field_values(
        &self,
        _: &Caller,
        field: &FieldExpr,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError> {
        self.among.lock().push(among.clone());
        self.asked.lock().push(format!("values of {field} {limit}"));
        Ok(self.listing(vec![AttributeValueSeen { value_type: "string", value: format!("a {field}") }]))
    }

    /// One row for a statement of the default tenant, cut as the limit says.
    async fn sql(&self, caller: &Caller, request: SqlRequest) -> Result<SqlAnswer, SqlError> {
        self.asked.lock().push(format!("sql {} {} {}", caller.tenants(), request.query, request.rows_max));
        let schema = self.sql_schema(caller, &request.query).await?;
        let service: ArrayRef = Arc::new(StringArray::from(vec!["cart"]));
        let spans: ArrayRef = Arc::new(Int64Array::from(vec![3]));
        let batch = RecordBatch::try_new(schema.clone(), vec![service, spans]).expect("columns of the schema");
        let partial_reason = self.partial.then(|| "1 of at least 2 rows".to_owned());
        Ok(SqlAnswer {
            schema,
            batches: vec![batch],
            rows: 1,
            complete: !self.partial,
            partial_reason,
            scanned: Scanned::default(),
            elapsed: Duration::from_nanos(5),
            memory: Reservation::default(),
        })
    }

    async fn sql_schema(&self, _: &Caller, query: &str) -> Result<SchemaRef, SqlError> {
        if self.busy {
            return Err(SqlError::Busy { running: 8 });
        }
        if !query.starts_with("SELECT") {
            return Err(SqlError::Invalid("line 1, column 1: only questions".to_owned()));
        }
        let columns = [("service", DataType::Utf8), ("spans", DataType::Int64)];
        let fields: Vec<Field> =
            columns.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect();
        Ok(Arc::new(Schema::new(fields)))
    }

    async fn flush(&self) -> Result<FlushReport, AdminError> {
        Ok(FlushReport { spans: 5, files: 1, bytes: 400, duplicates: 2, tenants_left: 0 })
    }

    async fn compact(&self) -> Result<CompactReport, AdminError> {
        if self.not_ready {
            return Err(AdminError("the disk is full".to_owned()));
        }
        Ok(CompactReport { merges: 1, files_before: 2, files_after: 1, ..CompactReport::default() })
    }

    async fn saved_queries(&self, tenant: &TenantId) -> Result<Option<String>, AdminError> {
        let saved = self.saved_queries.lock().get(tenant).cloned();
        // Whoever asks at the same time has the same answer.
        tokio::task::yield_now().await;
        Ok(saved)
    }

    async fn save_queries(&self, tenant: &TenantId, queries: String) -> Result<(), AdminError> {
        if self.not_ready {
            return Err(AdminError("the disk is full".to_owned()));
        }
        self.saved_queries.lock().insert(tenant.clone(), queries);
        Ok(())
    }

    async fn trust_clock(&self) -> Result<(), AdminError> {
        if self.not_ready { Err(AdminError("the disk is full".to_owned())) } else { Ok(()) }
    }

    fn troubles(&self, _: Option<&TenantId>) -> Vec<String> {
        if self.not_ready { vec!["1 stored file is missing".to_owned()] } else { Vec::new() }
    }

    fn stored(&self, _: &TenantId) -> Stored {
        Stored { spans_hot: 1, spans_stored: 2, files: 3, bytes_stored: 4 }
    }

    fn ready(&self) -> Result<(), String> {
        if self.not_ready { Err("the log is being read".to_owned()) } else { Ok(()) }
    }
}

fn summary() -> TraceSummary {
    TraceSummary {
        tenant: None,
        trace_id: TRACE_ID,
        root_service_name: "gateway".to_owned(),
        root_span_name: "GET /".to_owned(),
        root_target: None,
        root_missing: false,
        start_unix_nanos: START,
        duration_nanos: 5_000_000,
        span_count: 3,
        error_count: 1,
        orphan_count: 1,
        services: vec![
            ServiceCount { name: "cart".to_owned(), span_count: 2, error_count: 1 },
            ServiceCount { name: "gateway".to_owned(), span_count: 1, error_count: 0 },
        ],
        matched_count: 2,
        newest_match_unix_nanos: START,
        spansets: vec![MatchedSpanset {
            by: Vec::new(),
            aggregates: vec![("count()".to_owned(), AnyValue::Int(2))],
            matched_count: 2,
            spans: vec![MatchedSpan {
                span_id: SpanId([2; 8]),
                name: "GET /cart".to_owned(),
                service_name: "cart".to_owned(),
                start_unix_nanos: START + 1000,
                duration_nanos: 2_000_000,
                status_code: status::ERROR,
                target: None,
                fields: vec![ShownValue {
                    field: "span.http.route".to_owned(),
                    value: AnyValue::String("/cart".to_owned()),
                    matched: None,
                }],
            }],
        }],
    }
}

/// A root, a child with all there is on a span, and a span whose parent is missing.
fn trace(more_spans: usize, spans_max: usize) -> Trace {
    let mut spans = SpanBatch::new();
    let gateway = resource(&mut spans, "gateway");
    let cart = resource(&mut spans, "cart");
    // The same resource once more, as from another request.
    let cart_again = resource(&mut spans, "cart");
    let (name, version) = (spans.strings.intern_str("shop"), spans.strings.intern_str("1.2"));
    let schema_url = spans.strings.intern_str("https://example.org/schema");
    let key = spans.strings.intern_str("scope.key");
    spans.scopes.attributes.push(key, AttributeValue::Bool(true));
    let scope = spans.finish_scope(name, version, 4, schema_url);

    let root = SpanFields {
        span_id: SpanId([1; 8]),
        kind: kind::SERVER,
        resource: gateway,
        scope,
        ..span("GET /", &mut spans)
    };
    spans.finish_span(SpanFields { duration_nanos: 5_000_000, ..root });
    full_span(&mut spans, SpanFields { resource: cart, scope, ..root });
    let name = spans.strings.intern_str("orphan");
    spans.finish_span(SpanFields {
        span_id: SpanId([3; 8]),
        parent_span_id: SpanId([9; 8]),
        start_unix_nanos: START + 3000,
        duration_nanos: 10,
        name,
        resource: cart_again,
        kind: kind::INTERNAL,
        ..root
    });
    for more in 0..more_spans as u64 {
        spans.finish_span(SpanFields {
            span_id: SpanId((more + 100).to_be_bytes()),
            parent_span_id: root.span_id,
            ..root
        });
    }
    let span_count = spans.len() as u64;
    let mut shown = SpanBatch::new();
    shown.append_rows(&spans, 0..spans.len().min(spans_max));
    let mut parent = vec![ParentRow::Root, ParentRow::Row(0), ParentRow::Missing];
    parent.resize(spans.len(), ParentRow::Row(0));
    parent.truncate(shown.len());
    Trace {
        tenants: Vec::new(),
        trace_id: TRACE_ID,
        spans: shown,
        parent,
        start_unix_nanos: START,
        duration_nanos: 5_000_000,
        root: Some(0),
        error_count: 1,
        duplicates: 1,
        span_count,
        partial_reason: None,
        memory: Reservation::default(),
    }
}

fn resource(spans: &mut SpanBatch, service: &str) -> u32 {
    let key = spans.strings.intern_str("service.name");
    let value = spans.strings.intern_str(service);
    spans.resources.attributes.push(key, AttributeValue::String(value));
    let schema_url = spans.strings.intern_str("https://example.org/resource");
    spans.finish_resource(7, schema_url)
}

fn span(name: &str, spans: &mut SpanBatch) -> SpanFields {
    let name = spans.strings.intern_str(name);
    SpanFields { trace_id: TRACE_ID, start_unix_nanos: START, name, ..SpanFields::default() }
}

pub(crate) fn values() -> Vec<(&'static str, AnyValue)> {
    let nested = AnyValue::KeyValueList(vec![
        ("deep".to_owned(), AnyValue::Int(i64::MAX)),
        ("bytes".to_owned(), AnyValue::Bytes(vec![1, 2, 3])),
    ]);
    vec![
        ("string", AnyValue::String("/cart \"quoted\"\n".to_owned())),
        ("text.empty", AnyValue::String(String::new())),
        ("int", AnyValue::Int(9_007_199_254_740_993)),
        ("double", AnyValue::Double(5.0)),
        ("nan", AnyValue::Double(f64::NEG_INFINITY)),
        ("bool", AnyValue::Bool(false)),
        ("bytes", AnyValue::Bytes(vec![0, 255])),
        ("empty", AnyValue::Empty),
        ("array", AnyValue::Array(vec![AnyValue::String("a".to_owned()), AnyValue::Double(0.5), AnyValue::Empty])),
        ("kvlist", nested),
    ]
}

/// Pushes all kinds of values for the owner that is being built.
fn push_values(spans: &mut SpanBatch, push: impl Fn(&mut SpanBatch, u32, AttributeValue)) {
    for (key, value) in values() {
        let key = spans.strings.intern_str(key);
        let value = match value {
            AnyValue::Empty => AttributeValue::Empty,
            AnyValue::String(text) => AttributeValue::String(spans.strings.intern_str(&text)),
            AnyValue::Int(value) => AttributeValue::Int(value),
            AnyValue::Double(value) => AttributeValue::Double(value),
            AnyValue::Bool(value) => AttributeValue::Bool(value),
            AnyValue::Bytes(bytes) => AttributeValue::Bytes(spans.strings.intern(&bytes)),
            nested => AttributeValue::Json(spans.strings.intern_str(&nested.to_canonical_json())),
        };
        push(spans, key, value);
    }
}

fn full_span(spans: &mut SpanBatch, fields: SpanFields) {
    push_values(spans, |spans, key, value| {
        spans.attributes.push(key, value);
    });
    push_values(spans, |spans, key, value| {
        spans.events.attributes.push(key, value);
    });
    let exception = spans.strings.intern_str("exception");
    spans.finish_event(START + 1500, exception, 11);
    push_values(spans, |spans, key, value| {
        spans.links.attributes.push(key, value);
    });
    let trace_state = spans.strings.intern_str("ot=th:8");
    spans.finish_link(TraceId([7; 16]), SpanId([8; 8]), trace_state, 257, 12);
    let name = spans.strings.intern_str("GET /cart");
    let status_message = spans.strings.intern_str("out of stock");
    spans.finish_span(SpanFields {
        span_id: SpanId([2; 8]),
        parent_span_id: SpanId([1; 8]),
        start_unix_nanos: START + 1000,
        duration_nanos: 2_000_000,
        name,
        kind: kind::CLIENT,
        status_code: status::ERROR,
        status_message,
        trace_state,
        flags: 769,
        sampling_threshold: Threshold::parse("8"),
        marks: Marks::VALUE_CUT,
        dropped_attributes: 1,
        dropped_events: 2,
        dropped_links: 3,
        ..fields
    });
}
