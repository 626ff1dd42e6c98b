//! What all queries hold together stays below the limit, whatever is stored and whatever is asked.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracehouse_model::{AnyValue, ManualClock, SpanBatch, SpanFields, SpanId, TenantId};
use tracehouse_query::{
    Among, MetricsAnswer, MetricsRequest, QueryEngine, QueryError, QueryLimits, Scope, SearchRequest, TraceDetail,
};

use crate::allocations::peak_of;
use crate::shop::{NOON, Shop, put, trace_id};

const MIB: usize = 1 << 20;
/// What queries hold beside what they count: pages while they are decompressed, contexts of the decompressor, footers.
const UNCOUNTED: usize = 24 * MIB;
const HOUR: i64 = 3_600_000_000_000;

fn engine(shop: &Shop, memory_bytes_max: usize) -> Arc<QueryEngine> {
    let clock = Arc::new(ManualClock::at_unix_nanos(NOON));
    let limits = QueryLimits { memory_bytes_max, threads_per_search: 2, concurrent_max: 64, ..QueryLimits::default() };
    QueryEngine::new(shop.store.clone(), limits, clock)
}

/// Spans of one trace, each with a text of its own of so many bytes.
async fn append_large_trace(shop: &Shop, spans: u64, text_bytes: usize) {
    const SPANS_PER_BATCH: u64 = 500;
    for first in (0..spans).step_by(SPANS_PER_BATCH as usize) {
        let mut batch = SpanBatch::new();
        let service = AnyValue::String("big".into());
        put(&mut batch.strings, &mut batch.resources.attributes, "service.name", &service);
        let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
        let name = batch.strings.intern_str("step");
        for number in first..(first + SPANS_PER_BATCH).min(spans) {
            let number_text = number.to_string();
            let zeros = "0".repeat(text_bytes.saturating_sub(number_text.len()));
            let text = AnyValue::String(zeros + &number_text);
            put(&mut batch.strings, &mut batch.attributes, "body", &text);
            batch.finish_span(SpanFields {
                trace_id: trace_id(1),
                span_id: SpanId((number + 1).to_be_bytes()),
                parent_span_id: if number == 0 { SpanId::NONE } else { SpanId(1u64.to_be_bytes()) },
                start_unix_nanos: NOON + number as i64,
                duration_nanos: 1000,
                name,
                resource,
                scope,
                ..SpanFields::default()
            });
        }
        shop.append(batch).await;
    }
    shop.store.flush().await.expect("flushes");
}

async fn metrics(engine: &QueryEngine, traceql: &str, step_nanos: Option<i64>, hours: i64) -> MetricsAnswer {
    let request = MetricsRequest {
        traceql: traceql.to_owned(),
        start_unix_nanos: NOON - 1,
        end_unix_nanos: NOON - 1 + hours * HOUR,
        step_nanos,
        ..MetricsRequest::default()
    };
    engine.metrics(&TenantId::default(), request).await.expect("a valid query")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_giant_trace_takes_no_more_than_the_limit_however_many_look_at_it() {
    const SPANS: u64 = 6000;
    const LIMIT: usize = 32 * MIB;
    let shop = Shop::open().await;
    append_large_trace(&shop, SPANS, 16 * 1024).await;
    let engine = engine(&shop, LIMIT);
    let (traces, peak) = peak_of(async {
        let clicks = (0..16).map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move {
                engine.trace(&TenantId::default(), trace_id(1), usize::MAX, TraceDetail::Whole).await
            })
        });
        let mut traces = Vec::new();
        for click in clicks.collect::<Vec<_>>() {
            // An answer that was sent gives its memory back.
            traces.push(click.await.expect("ends").map(|found| {
                let trace = found.expect("the trace is there");
                (trace.spans.len() as u64, trace.span_count, trace.partial_reason.clone())
            }));
        }
        traces
    })
    .await;
    assert!(peak < LIMIT + UNCOUNTED, "{} MiB", peak / MIB);
    let answered: Vec<_> = traces.into_iter().filter_map(Result::ok).collect();
    assert!(!answered.is_empty(), "somebody gets an answer");
    for (shown, all, reason) in answered {
        assert_eq!(all, SPANS);
        assert!(0 < shown && shown < all, "{shown}");
        assert!(reason.is_some_and(|reason| reason.contains(&format!("{shown} of {all} spans: "))));
    }
    let whole = engine.trace(&TenantId::default(), trace_id(1), usize::MAX, TraceDetail::Outline).await;
    let whole = whole.expect("reads").expect("the trace is there");
    assert_eq!((whole.spans.len() as u64, whole.partial_reason), (SPANS, None), "its picture needs no texts");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_cut_where_its_text_would_be_too_long() {
    const SPANS: u64 = 1000;
    let shop = Shop::open().await;
    append_large_trace(&shop, SPANS, 16 * 1024).await;
    let clock = Arc::new(ManualClock::at_unix_nanos(NOON));
    let limits = QueryLimits { answer_bytes_max: 2 * MIB, ..QueryLimits::default() };
    let engine = QueryEngine::new(shop.store.clone(), limits, clock);
    let found = engine.trace(&TenantId::default(), trace_id(1), usize::MAX, TraceDetail::Whole).await.expect("reads");
    let trace = found.expect("the trace is there");
    let shown = trace.spans.len();
    assert!((100..128).contains(&shown), "{shown}");
    assert_eq!((trace.span_count, trace.parent.len()), (SPANS, shown));
    assert!(trace.partial_reason.is_some_and(|reason| reason.contains("of 1000 spans: a larger answer")));
    assert!(trace.memory.bytes() > MIB);
    let found = engine.trace(&TenantId::default(), trace_id(1), usize::MAX, TraceDetail::Texts).await.expect("reads");
    assert_eq!(found.expect("the trace is there").spans.len() as u64, SPANS, "no text is made of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_details_of_a_span_cost_one_span() {
    let shop = Shop::open().await;
    append_large_trace(&shop, 6000, 16 * 1024).await;
    let engine = engine(&shop, 8 * MIB);
    let ask = async || {
        let found = engine.span(&TenantId::default(), trace_id(1), SpanId(3000u64.to_be_bytes())).await;
        found.expect("reads").expect("the span is there")
    };
    // The footer stays in memory.
    ask().await;
    let (span, peak) = peak_of(ask()).await;
    assert_eq!(span.attributes.len(), 1);
    assert!(peak < 8 * MIB, "{} KiB", peak / 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_texts_are_looked_at_a_few_at_a_time() {
    const LIMIT: usize = 32 * MIB;
    let shop = Shop::open().await;
    append_large_trace(&shop, 6000, 16 * 1024).await;
    let engine = engine(&shop, LIMIT);
    for query in
        ["{ span.body =~ \".*77\" } | count_over_time()", "{ span.body =~ \".*77\" && span:parentID != nil } | rate()"]
    {
        let (answer, peak) = peak_of(metrics(&engine, query, None, 1)).await;
        assert!(peak < LIMIT + UNCOUNTED, "{query}: {} MiB", peak / MIB);
        assert_eq!(answer.partial_reason, None, "{query}");
        assert_eq!(answer.weighting.spans, 60, "{query}");
    }
    // Each text is a series of its own: too many, and said.
    let (answer, peak) = peak_of(metrics(&engine, "{ } | rate() by (span.body)", None, 1)).await;
    assert!(peak < LIMIT + UNCOUNTED, "{} MiB", peak / MIB);
    assert!(answer.partial_reason.is_some());
    let (answer, peak) = peak_of(metrics(&engine, "{ } | compare({ span:duration > 1ms })", None, 1)).await;
    assert!(peak < LIMIT + UNCOUNTED, "{} MiB", peak / MIB);
    assert!(answer.partial_reason.is_some() || !answer.series.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_take_no_more_than_the_limit() {
    const LIMIT: usize = 32 * MIB;
    let shop = Shop::open().await;
    append_large_trace(&shop, 6000, 16 * 1024).await;
    let engine = engine(&shop, LIMIT);
    let request = SearchRequest {
        traceql: Some("{ } | select(span.body)".to_owned()),
        limit: 10,
        spans_per_spanset: 6000,
        ..SearchRequest::default()
    };
    let tenant = TenantId::default();
    let (answer, peak) = peak_of(engine.search(&tenant, request)).await;
    let answer = answer.expect("a valid search");
    assert!(peak < LIMIT + UNCOUNTED, "{} MiB", peak / MIB);
    assert!(answer.partial_reason.is_some_and(|reason| reason.contains("of memory") || reason.contains("very large")));
}

#[tokio::test(flavor = "multi_thread")]
async fn quantiles_of_many_series_and_steps_stay_below_the_limit() {
    const LIMIT: usize = 64 * MIB;
    const USERS: u64 = 40_000;
    let shop = Shop::open().await;
    for first in (0..USERS).step_by(5000) {
        let mut batch = SpanBatch::new();
        let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
        for user in first..first + 5000 {
            // Each user has a span at the begin and one at the end: a cell for every step between them.
            let user_id = AnyValue::String(format!("user-{}", user / 2));
            put(&mut batch.strings, &mut batch.attributes, "user.id", &user_id);
            batch.finish_span(SpanFields {
                trace_id: trace_id(user + 1),
                span_id: SpanId((user + 1).to_be_bytes()),
                start_unix_nanos: NOON + (user % 2) as i64 * (3 * HOUR - 1_000_000_000),
                duration_nanos: 1000 + user as i64,
                resource,
                scope,
                ..SpanFields::default()
            });
        }
        shop.append(batch).await;
    }
    shop.store.flush().await.expect("flushes");
    let engine = engine(&shop, LIMIT);
    let query = "{ } | quantile_over_time(duration, .5, .9, .99) by (span.user.id)";
    let (answer, peak) = peak_of(metrics(&engine, query, Some(1_000_000_000), 3)).await;
    assert!(peak < LIMIT + UNCOUNTED, "{} MiB", peak / MIB);
    let reason = answer.partial_reason.expect("there are too many");
    assert!(reason.contains("too many series") && reason.contains(" of "), "{reason}");
    assert!(!answer.series.is_empty());
    assert!(answer.memory.bytes() >= answer.series.len() * answer.steps * size_of::<Option<f64>>());
    // Side by side they share one limit.
    let (answers, peak) = peak_of(async {
        let ask = || {
            let engine = engine.clone();
            tokio::spawn(async move { metrics(&engine, query, Some(1_000_000_000), 3).await.series.len() })
        };
        let mut answers = Vec::new();
        for asked in (0..8).map(|_| ask()).collect::<Vec<_>>() {
            answers.push(asked.await.expect("ends"));
        }
        answers
    })
    .await;
    assert_eq!(answers.len(), 8);
    assert!(peak < LIMIT + 2 * UNCOUNTED, "{} MiB", peak / MIB);
}

/// Handles of the process.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_over_many_files_opens_few_at_once() {
    const FILES: u64 = 600;
    /// The store keeps files that were used recently open; a query adds one for each of its threads.
    const HANDLES_MAX: usize = 300;
    if !Path::new("/proc/self/fd").exists() {
        return;
    }
    let shop = Shop::open().await;
    // A flush writes a file for each hour, so many at once.
    for first in (0..FILES).step_by(200) {
        let mut batch = SpanBatch::new();
        let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
        for hour in first..first + 200 {
            put(&mut batch.strings, &mut batch.attributes, "user.id", &AnyValue::Int(hour as i64));
            batch.finish_span(SpanFields {
                trace_id: trace_id(hour + 1),
                span_id: SpanId((hour + 1).to_be_bytes()),
                start_unix_nanos: NOON + hour as i64 * HOUR,
                resource,
                scope,
                ..SpanFields::default()
            });
        }
        shop.append(batch).await;
        shop.store.flush().await.expect("flushes");
    }
    assert_eq!(shop.files().len() as u64, FILES);
    let before = open_files();
    let done = Arc::new(AtomicBool::new(false));
    let watch = {
        let done = done.clone();
        std::thread::spawn(move || {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(open_files());
            }
            most
        })
    };
    let engine = engine(&shop, 64 * MIB);
    for query in
        ["{ } | count_over_time()", "{ } >> { } || { } | count_over_time()", "{ } | compare({ duration > 1s })"]
    {
        let (answer, peak) = peak_of(metrics(&engine, query, None, FILES as i64)).await;
        assert_eq!(answer.partial_reason, None, "{query}");
        assert_eq!(answer.weighting.spans, FILES, "{query}");
        assert_eq!((answer.inspected.files, answer.inspected.files_total), (FILES, FILES), "{query}");
        assert!(peak < 64 * MIB + UNCOUNTED + 64 * MIB, "{query}: {} MiB", peak / MIB);
    }
    let names = engine.attribute_values(&TenantId::default(), Scope::Span, "user.id", 10_000, &Among::default()).await;
    let names = names.expect("reads");
    assert_eq!((names.items.len() as u64, names.partial_reason), (FILES, None));
    done.store(true, Ordering::Relaxed);
    let most = watch.join().expect("ends") - before.min(HANDLES_MAX);
    assert!(most < HANDLES_MAX, "{most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_that_is_larger_than_the_memory_is_refused_and_its_file_not_blamed() {
    let shop = Shop::open().await;
    append_large_trace(&shop, 1, 8 * MIB).await;
    let tenant = TenantId::default();
    let (trace, span) = (trace_id(1), SpanId(1u64.to_be_bytes()));
    for _ in 0..2 {
        let refused = engine(&shop, 8 * MIB).span(&tenant, trace, span).await;
        assert!(matches!(refused, Err(QueryError::Memory)), "{:?}", refused.map(|found| found.is_some()));
    }
    let other = engine(&shop, 8 * MIB).span(&tenant, trace, SpanId([9; 8])).await;
    assert!(matches!(other, Ok(None)), "none under this id: nothing is to be held");
    let found = engine(&shop, 64 * MIB).span(&tenant, trace, span).await.expect("there is room").expect("it is there");
    let text = found.attributes.iter().find(|(key, _)| key == "body").map(|(_, value)| value);
    assert!(matches!(text, Some(AnyValue::String(text)) if text.len() == 8 * MIB));
}
