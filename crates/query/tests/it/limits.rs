//! What queries may use: less of it changes how an answer is made, or makes it partial and says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracehouse_memory::{in_use_bytes, peak_bytes, restart_peak};
use tracehouse_model::{AnyValue, Clock, ManualClock, Span, SpanBatch, SpanFields, SpanId, TenantId};
use tracehouse_query::{
    MetricsAnswer, MetricsRequest, Order, OrderKey, QueryEngine, QueryLimits, SearchAnswer, SearchRequest,
};

use crate::shop::{NOON, Shop, many_spans, put, trace_id};

const TRACES: u64 = 200;
const SEARCH: &str = "{ name = \"GET /\" } >> { duration > 100ms }";
const OVER_TRACES: &str = "{ name = \"GET /\" } >> { duration > 100ms } | count_over_time() by (resource.service.name)";
const OVER_COLUMNS: &str = "{ duration > 100ms } | count_over_time() by (resource.service.name)";
const COMPARE: &str = "{ name = \"GET /\" } >> { duration > 100ms } | compare({ status = error })";

/// Spans in memory and in files.
async fn shop() -> (Shop, Vec<Span>) {
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(TRACES, 11);
    let half = batches.len() / 2;
    for (number, batch) in batches.into_iter().enumerate() {
        if number == half {
            shop.store.flush().await.expect("flushes");
        }
        shop.append(batch).await;
    }
    (shop, spans)
}

struct Limited(Arc<QueryEngine>);

impl Limited {
    fn new(shop: &Shop, limits: QueryLimits) -> Self {
        let clock = Arc::new(ManualClock::at_unix_nanos(NOON));
        Self(QueryEngine::new(shop.store.clone(), QueryLimits { threads_per_search: 1, ..limits }, clock))
    }

    async fn search(&self, traceql: &str) -> SearchAnswer {
        let traceql = Some(traceql.to_owned());
        let request = SearchRequest { traceql, limit: 1000, spans_per_spanset: 1000, ..SearchRequest::default() };
        self.0.search(&TenantId::default(), request).await.expect("a valid search")
    }

    async fn metrics(&self, traceql: &str) -> MetricsAnswer {
        let request = MetricsRequest {
            traceql: traceql.to_owned(),
            start_unix_nanos: NOON - 1,
            end_unix_nanos: NOON + 3_600_000_000_000,
            ..MetricsRequest::default()
        };
        self.0.metrics(&TenantId::default(), request).await.expect("a valid query")
    }
}

/// Memory for some two hundred spans at once.
const LITTLE: usize = 1 << 20;

#[tokio::test]
async fn little_memory_takes_more_portions() {
    let (shop, _) = shop().await;
    let (plenty, little) = (
        Limited::new(&shop, QueryLimits::default()),
        Limited::new(&shop, QueryLimits { memory_bytes_max: LITTLE, ..QueryLimits::default() }),
    );
    let (one, other) = (plenty.search(SEARCH).await, little.search(SEARCH).await);
    assert_eq!((one.partial_reason, other.partial_reason), (None, None));
    let shown = |answer: Vec<tracehouse_query::TraceSummary>| {
        answer.into_iter().map(|trace| (trace.trace_id, trace.span_count, trace.spansets)).collect::<Vec<_>>()
    };
    let one = shown(one.traces);
    assert!(one.len() > 20, "only {} traces", one.len());
    assert_eq!(one, shown(other.traces));
    for engine in [&plenty, &little] {
        let request = SearchRequest { traceql: Some(SEARCH.to_owned()), limit: 3, ..SearchRequest::default() };
        let longest = Order { key: OrderKey::Duration, descending: true };
        let ranked = SearchRequest { order: Some(longest), ..request.clone() };
        let found = engine.0.search(&TenantId::default(), ranked).await.expect("a valid search");
        assert_eq!((found.traces_matched, found.partial_reason), (Some(one.len() as u64), None));
        let count = engine.0.count(&TenantId::default(), request).await.expect("a valid search");
        assert_eq!((count.traces, count.partial_reason), (one.len() as u64, None));
    }
    for query in [OVER_TRACES, OVER_COLUMNS, COMPARE] {
        let (one, other) = (plenty.metrics(query).await, little.metrics(query).await);
        assert!(!one.series.is_empty(), "{query}");
        assert_eq!((one.series, one.partial_reason), (other.series, other.partial_reason), "{query}");
    }
}

#[tokio::test]
async fn too_little_memory_is_said() {
    let (shop, _) = shop().await;
    let tiny = Limited::new(&shop, QueryLimits { memory_bytes_max: 2048, ..QueryLimits::default() });
    for query in [OVER_TRACES, COMPARE] {
        let reason = tiny.metrics(query).await.partial_reason.expect("not everything was looked at");
        assert!(reason.contains("at 2048 B of memory: ") && reason.contains(" of "), "{query}: {reason}");
    }
    let reason = tiny.search(SEARCH).await.partial_reason.expect("not everything was looked at");
    assert!(reason.contains("of memory"), "{reason}");
    let by_time = "{ } | rate() by (span:id)";
    let small = Limited::new(&shop, QueryLimits { memory_bytes_max: 128 << 10, ..QueryLimits::default() });
    let reason = small.metrics(by_time).await.partial_reason.expect("too many series");
    assert!(reason.contains("too many series"), "{reason}");
}

#[tokio::test]
async fn too_many_points_are_said() {
    let (shop, spans) = shop().await;
    let bounded = Limited::new(&shop, QueryLimits { memory_bytes_max: 1 << 20, ..QueryLimits::default() });
    let every_second = |traceql: &str| MetricsRequest {
        traceql: traceql.to_owned(),
        start_unix_nanos: NOON,
        end_unix_nanos: NOON + 3600 * 1_000_000_000,
        step_nanos: Some(1_000_000_000),
        ..MetricsRequest::default()
    };
    for (query, what) in [
        ("{ } | rate() by (span:id)", format!(" of {} series: ", spans.len())),
        ("{ } | quantile_over_time(duration, .5, .9, .99) by (name)", " of 4 series: ".to_owned()),
        ("{ } | compare({ status = error })", " of more attributes: ".to_owned()),
    ] {
        let answer = bounded.0.metrics(&TenantId::default(), every_second(query)).await.expect("a valid query");
        let reason = answer.partial_reason.expect("there are too many points");
        assert!(reason.contains(&what), "{query}: {reason}");
        assert!(!answer.series.is_empty(), "{query}");
        let points: usize = answer.series.iter().map(|series| series.values.len()).sum();
        assert!(points < (1 << 20) / 8, "{query}: {points}");
    }
}

#[tokio::test]
async fn a_giant_trace_is_cut() {
    let shop = Shop::open().await;
    let mut batch = SpanBatch::new();
    put(&mut batch.strings, &mut batch.resources.attributes, "service.name", &AnyValue::String("big".into()));
    let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
    const SPANS: u64 = 5000;
    for number in 0..SPANS {
        batch.finish_span(tracehouse_model::SpanFields {
            trace_id: trace_id(1),
            span_id: tracehouse_model::SpanId((number + 1).to_be_bytes()),
            start_unix_nanos: NOON + number as i64,
            resource,
            scope,
            ..Default::default()
        });
    }
    shop.append(batch).await;
    for in_file in [false, true] {
        if in_file {
            shop.store.flush().await.expect("flushes");
        }
        let little = Limited::new(&shop, QueryLimits { memory_bytes_max: LITTLE, ..QueryLimits::default() });
        let query = "{ } | by(resource.service.name) | count() > 1";
        let found = little.search(query).await;
        let reason = found.partial_reason.expect("the trace is cut");
        let (omitted, rest) = reason.split_once(' ').expect("a number of spans");
        assert!(rest.starts_with(&format!("of {SPANS} spans of very large traces")), "{reason}");
        let omitted: u64 = omitted.parse().expect("a number");
        assert!((1..SPANS).contains(&omitted), "{omitted}");
        let metrics = little.metrics(&format!("{query} | count_over_time()")).await;
        assert_eq!(metrics.series[0].values, [Some((SPANS - omitted) as f64)]);
        assert!(
            metrics.partial_reason.is_some_and(|reason| reason.starts_with(&format!("{omitted} of {SPANS} spans")))
        );
    }
}

#[tokio::test]
async fn a_bound_of_bytes_is_said() {
    let (shop, _) = shop().await;
    shop.store.flush().await.expect("flushes");
    let bounded = Limited::new(&shop, QueryLimits { scanned_bytes_max: 100, ..QueryLimits::default() });
    for query in [OVER_TRACES, OVER_COLUMNS, COMPARE] {
        let answer = bounded.metrics(query).await;
        let reason = answer.partial_reason.expect("not everything was read");
        assert!(reason.contains("after reading 100 B: ") && reason.contains(" of "), "{query}: {reason}");
        assert!(answer.inspected.bytes > 100);
    }
    let found = bounded.search(SEARCH).await;
    assert!(found.partial_reason.is_some_and(|reason| reason.contains("after reading 100 B: ")));
    // What is counted is what the columns of the query take, not what the files do.
    let all = Limited::new(&shop, QueryLimits::default());
    let (narrow, wide) = (all.metrics(OVER_COLUMNS).await.inspected.bytes, all.metrics(COMPARE).await.inspected.bytes);
    let stored = shop.store.status(&TenantId::default()).bytes_stored;
    assert!(0 < narrow && narrow < wide && narrow < stored, "{narrow} {wide} {stored}");
}

/// Each look at it takes a millisecond.
#[derive(Default)]
struct CountingClock(AtomicU64);

impl Clock for CountingClock {
    fn now_unix_nanos(&self) -> i64 {
        NOON
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Hundreds of conditions, each of which reads columns, over one row group: the time is over in the middle of it.
#[tokio::test]
async fn a_bound_of_time_is_met_within_a_row_group() {
    let (shop, _) = shop().await;
    shop.store.flush().await.expect("flushes");
    let conditions: Vec<String> = (0..400).map(|key| format!(".http.route = \"/never/{key}\"")).collect();
    let wide = format!("{{ {} }}", conditions.join(" || "));
    let negated = format!("{{ !({}) }}", conditions.join(" || "));
    let limits = QueryLimits { threads_per_search: 1, time_max: Duration::from_millis(100), ..QueryLimits::default() };
    for query in [wide, negated] {
        let clock = Arc::new(CountingClock::default());
        let engine = QueryEngine::new(shop.store.clone(), limits.clone(), clock.clone());
        let request = SearchRequest { traceql: Some(query), limit: 1000, ..SearchRequest::default() };
        let answer = engine.search(&TenantId::default(), request).await.expect("a valid search");
        assert!(answer.partial_reason.is_some() && answer.traces.is_empty(), "{:?}", answer.partial_reason);
        let looks = clock.0.load(Ordering::Relaxed);
        assert!(looks < 600, "it goes on after its time: {looks} looks at the clock");
    }
}

/// A few hundred spans, each with a list: what is calculated of two of them is as much as of many spans.
#[tokio::test]
async fn a_bound_of_time_is_met_within_a_calculation() {
    let shop = Shop::open().await;
    let mut batch = SpanBatch::new();
    let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
    for number in 1..=400u64 {
        let list = AnyValue::Array((0..100).map(AnyValue::Int).collect());
        put(&mut batch.strings, &mut batch.attributes, "list", &list);
        let name = batch.strings.intern_str("span");
        let ids = SpanFields {
            trace_id: trace_id(number),
            span_id: SpanId(number.to_be_bytes()),
            name,
            ..SpanFields::default()
        };
        batch.finish_span(SpanFields { start_unix_nanos: NOON, resource, scope, ..ids });
    }
    shop.append(batch).await;
    let limits = QueryLimits { threads_per_search: 1, time_max: Duration::from_millis(100), ..QueryLimits::default() };
    let literals = (1000..1900).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    for stored in [false, true] {
        if stored {
            shop.store.flush().await.expect("flushes");
        }
        for condition in
            [".list * .list + .list = -3", "!(.list * .list + .list = -3)", &format!(".list = [{literals}]")]
        {
            let clock = Arc::new(CountingClock::default());
            let engine = QueryEngine::new(shop.store.clone(), limits.clone(), clock.clone());
            let traceql = format!("{{ {condition} }}");
            let request = SearchRequest { traceql: Some(traceql.clone()), limit: 1000, ..SearchRequest::default() };
            let answer = engine.search(&TenantId::default(), request).await.expect("a valid search");
            let reason = answer.partial_reason.unwrap_or_default();
            assert!(reason.contains("stopped after 0.1 s: 0 of "), "stored: {stored}: {traceql}: {reason}");
            let looks = clock.0.load(Ordering::Relaxed);
            assert!(looks < 300, "it goes on after its time: {looks} looks at the clock");
            let series =
                Limited(QueryEngine::new(shop.store.clone(), limits.clone(), Arc::new(CountingClock::default())));
            let answer = series.metrics(&format!("{traceql} | count_over_time() by (.list)")).await;
            assert!(answer.partial_reason.is_some(), "stored: {stored}: {traceql}");
        }
    }
}

/// What is calculated of fields with many values is no more than some tens of thousands, however often it is calculated with again.
#[tokio::test]
async fn calculations_do_not_multiply() {
    let shop = Shop::open().await;
    let mut batch = SpanBatch::new();
    let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
    let list = AnyValue::Array((0..50).map(AnyValue::Int).collect());
    put(&mut batch.strings, &mut batch.attributes, "l", &list);
    for event in 0..20 {
        put(&mut batch.strings, &mut batch.events.attributes, "a", &AnyValue::Int(event));
        let name = batch.strings.intern_str("event");
        batch.finish_event(NOON + event, name, 0);
    }
    let name = batch.strings.intern_str("span");
    let ids = SpanFields { trace_id: trace_id(1), span_id: SpanId([1; 8]), name, ..SpanFields::default() };
    batch.finish_span(SpanFields { start_unix_nanos: NOON, resource, scope, ..ids });
    shop.append(batch).await;
    for terms in [["event.a", ".l"].repeat(5), [".l"].repeat(45), ["event.a"].repeat(20)] {
        restart_peak();
        let before = in_use_bytes();
        let found =
            Limited::new(&shop, QueryLimits::default()).search(&format!("{{ {} < 0 }}", terms.join(" + "))).await;
        assert!(found.traces.is_empty() && found.partial_reason.is_none(), "{terms:?}: {:?}", found.partial_reason);
        let peak = peak_bytes().saturating_sub(before);
        assert!(peak < 64 << 20, "{terms:?}: {} MiB", peak >> 20);
    }
}
