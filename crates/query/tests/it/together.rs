//! Questions about several tenants: each answers as it does alone, under its own name, and nobody else is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tracehouse_model::{AnyValue, Clock, ManualClock, SpanBatch, SpanFields, SpanId, TenantId, Tenants, kind};
use tracehouse_query::{
    Among, MetricsRequest, Order, OrderKey, ParentRow, Pool, QueryEngine, QueryError, QueryLimits, Scope,
    SearchRequest, Series, TENANT_KEY, Trace, TraceDetail,
};

use crate::corpus::Layout;
use crate::shop::{NOON, Shop, many_spans, put, trace_id};

const LAYOUTS: [Layout; 2] = [Layout::Memory, Layout::Files];
const DETAILS: [TraceDetail; 4] =
    [TraceDetail::Whole, TraceDetail::Texts, TraceDetail::Outline, TraceDetail::OutlineWithTargets];

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a name")
}

fn tenants(names: &str) -> Tenants {
    Tenants::in_header([names.as_bytes()]).expect("names").expect("some are named")
}

/// A span of the trace with this number, as (id, parent, start); parent 0 is none.
type Given = (u64, u64, u64, i64);

/// Spans of a service that says `tenant` of itself.
fn batch(service: &str, spans: &[Given]) -> SpanBatch {
    let mut batch = SpanBatch::new();
    for (key, value) in [("service.name", service), (TENANT_KEY, "as the sender says")] {
        put(&mut batch.strings, &mut batch.resources.attributes, key, &AnyValue::String(value.to_owned()));
    }
    let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
    for &(trace, id, parent, start) in spans {
        let route = AnyValue::String(format!("/{service}/{id}"));
        put(&mut batch.strings, &mut batch.attributes, "http.route", &route);
        let name = batch.strings.intern_str(&format!("{service} {id}"));
        batch.finish_span(SpanFields {
            trace_id: trace_id(trace),
            span_id: SpanId(id.to_be_bytes()),
            parent_span_id: SpanId(parent.to_be_bytes()),
            start_unix_nanos: NOON + start,
            duration_nanos: 10,
            name,
            kind: kind::INTERNAL,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

async fn shop(of_tenants: &[(&str, SpanBatch)], layout: Layout) -> Shop {
    let shop = Shop::open().await;
    for (name, batch) in of_tenants {
        shop.store.append(tenant(name), batch.clone()).await.expect("there is room");
    }
    if layout == Layout::Files {
        shop.store.flush().await.expect("flushes");
    }
    shop
}

/// Halves of one trace in two tenants, which know each other's spans as parents; a third tenant has a part of it too.
async fn halves(layout: Layout) -> Shop {
    let a = batch("front", &[(1, 1, 0, 0), (1, 3, 2, 20), (7, 70, 0, 50)]);
    let b = batch("back", &[(1, 2, 1, 10), (1, 4, 3, 30)]);
    let c = batch("secret", &[(1, 9, 1, 15), (8, 80, 0, 60)]);
    shop(&[("a", a), ("b", b), ("c", c)], layout).await
}

async fn read(shop: &Shop, names: &str, most: usize, detail: TraceDetail) -> Trace {
    let found = shop.engine.of(&tenants(names)).trace(trace_id(1), most, detail).await;
    found.expect("reads").expect("the trace is there")
}

/// Each span with its parent and its tenant.
fn shape(trace: &Trace) -> Vec<(u64, ParentRow, String)> {
    let of_row = |row: usize| {
        let attributes = trace.spans.resolve(&trace.spans.resources.attributes, trace.spans.resource[row] as usize);
        let mut named = attributes.into_iter().filter(|(key, _)| key == TENANT_KEY);
        let only = named.next().map_or_else(String::new, |(_, value)| value.to_canonical_json());
        assert_eq!(named.next(), None, "the key is there once");
        (trace.spans.span_id[row].as_u64(), trace.parent[row], only.trim_matches('"').to_owned())
    };
    (0..trace.spans.len()).map(of_row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_of_two_tenants_is_one_tree() {
    use ParentRow::{Missing, Root, Row};
    let whole = [(1, Root, "a"), (2, Row(0), "b"), (3, Row(1), "a"), (4, Row(2), "b")];
    let of_b = [(2, Missing, "b"), (4, Missing, "b")];
    let expected = |rows: &[(u64, ParentRow, &str)]| -> Vec<(u64, ParentRow, String)> {
        rows.iter().map(|(id, parent, tenant)| (*id, *parent, (*tenant).to_owned())).collect()
    };
    for layout in LAYOUTS {
        let shop = halves(layout).await;
        for detail in DETAILS {
            for names in ["a|b", "b|a", "a|b|nobody"] {
                let trace = read(&shop, names, 100, detail).await;
                assert_eq!(shape(&trace), expected(&whole), "{names} {detail:?} {layout:?}");
                assert_eq!((trace.span_count, trace.partial_reason), (4, None), "{names}");
                assert_eq!((trace.start_unix_nanos, trace.duration_nanos, trace.root), (NOON, 40, Some(0)));
            }
            let alone = read(&shop, "b|nobody", 100, detail).await;
            assert_eq!(shape(&alone), expected(&of_b), "{detail:?} {layout:?}");
        }
        // One tenant alone is asked as ever: what the sender says stays.
        let alone = read(&shop, "b|b", 100, TraceDetail::Whole).await;
        assert_eq!(alone.tenants, []);
        assert!(shape(&alone).iter().all(|(_, _, says)| says == "as the sender says"), "{:?}", shape(&alone));
        let engine = shop.engine.of(&tenants("b|c")).trace(trace_id(7), 100, TraceDetail::Whole).await;
        assert!(engine.expect("an answer").is_none(), "only a has it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_tenants_hold_of_one_span_is_shown_twice() {
    let sent = || batch("front", &[(1, 1, 0, 0), (1, 2, 1, 5)]);
    for layout in LAYOUTS {
        let shop = shop(&[("a", sent()), ("b", sent())], layout).await;
        for detail in DETAILS {
            let trace = read(&shop, "a|b", 100, detail).await;
            let all: BTreeSet<(u64, String)> = shape(&trace).into_iter().map(|(id, _, of)| (id, of)).collect();
            assert_eq!((trace.spans.len(), all.len(), trace.duplicates), (4, 4, 0), "{detail:?} {layout:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_trace_of_two_tenants_says_how_much_there_is() {
    let shop = halves(Layout::Files).await;
    let trace = read(&shop, "a|b", 3, TraceDetail::Whole).await;
    let ids: Vec<u64> = shape(&trace).iter().map(|(id, ..)| *id).collect();
    assert_eq!((ids, trace.span_count), (vec![1, 2, 3], 4), "the first of the tree, whosever they are");
    assert_eq!(trace.partial_reason.as_deref(), Some("3 of 4 spans: the limit of this request"));

    let small = QueryLimits { answer_bytes_max: 1000, ..QueryLimits::default() };
    let engine = QueryEngine::new(shop.store.clone(), small, Arc::new(ManualClock::at_unix_nanos(NOON)));
    let (names, id) = (tenants("a|b"), trace_id(1));
    let trace = engine.of(&names).trace(id, 100, TraceDetail::Whole).await.expect("reads").expect("it is there");
    assert!(trace.spans.len() < 4, "{}", trace.spans.len());
    let reason = trace.partial_reason.expect("not all are shown");
    assert!(reason.contains("tenant a: 1 of 2 spans"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_of_two_tenants_holds_the_memory_that_it_takes() {
    const SPANS: u64 = 4000;
    let spans: Vec<Given> = (1..=SPANS).map(|id| (1, id, u64::from(id > 1), id as i64)).collect();
    let (even, odd): (Vec<Given>, Vec<Given>) = spans.iter().partition(|(_, id, ..)| id % 2 == 0);
    let shop = shop(&[("a", batch("front", &odd)), ("b", batch("back", &even))], Layout::Files).await;
    let (names, clock) = (tenants("a|b"), Arc::new(ManualClock::at_unix_nanos(NOON)));
    let mut reasons = BTreeSet::new();
    for bytes_max in (4 << 20..24 << 20).step_by(1 << 20).chain([64 << 20]) {
        let pool = Pool::new(bytes_max);
        let engine = QueryEngine::with_pool(shop.store.clone(), QueryLimits::default(), pool.clone(), clock.clone());
        let trace = engine.of(&names).trace(trace_id(1), usize::MAX, TraceDetail::Whole).await;
        // There may be no room for any of it.
        let Ok(trace) = trace else { continue };
        let trace = trace.expect("it is there");
        let taken = pool.bytes_taken();
        assert!(taken >= trace.spans.memory_bytes(), "{taken} of {}", trace.spans.memory_bytes());
        assert!(taken <= bytes_max, "{taken} of {bytes_max}");
        let is_all = trace.spans.len() as u64 == SPANS;
        assert_eq!(trace.partial_reason.is_none(), is_all, "{bytes_max}: {:?}", trace.partial_reason);
        let words = trace.partial_reason.unwrap_or_else(|| "all".to_owned());
        reasons.insert(words.replace(|c: char| c.is_ascii_digit(), ""));
        drop(trace.spans);
        drop(trace.memory);
        assert_eq!(pool.bytes_taken(), 0);
    }
    let has = |words: &str| reasons.iter().any(|reason| reason.starts_with(words));
    assert!(has("all") && has(" of  tenants were asked: the memory"), "{reasons:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_is_the_one_that_keeps_its_id() {
    let of = |start: i64| batch("front", &[(1, 1, 0, start)]);
    let shop = shop(&[("a", of(5)), ("b", of(0)), ("c", of(-5))], Layout::Files).await;
    for names in ["a|b", "b|a"] {
        let names = tenants(names);
        let of_names = shop.engine.of(&names);
        let span = of_names.span(trace_id(1), SpanId(1u64.to_be_bytes())).await.expect("reads").expect("it is there");
        assert_eq!(span.start_unix_nanos, NOON);
        let says: Vec<_> = span.resource_attributes.iter().filter(|(key, _)| key == TENANT_KEY).collect();
        assert_eq!(says, [&(TENANT_KEY.to_owned(), AnyValue::String("b".to_owned()))]);
        assert!(of_names.span(trace_id(1), SpanId([9; 8])).await.expect("reads").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_find_the_newest_traces_of_all_tenants() {
    for layout in LAYOUTS {
        let shop = halves(layout).await;
        let found = async |names: &str, limit: usize| {
            let request = SearchRequest { limit, spans_per_spanset: 3, ..SearchRequest::default() };
            shop.engine.of(&tenants(names)).search(request).await.expect("an answer")
        };
        let lines = async |names: &str, limit: usize| -> Vec<(u64, String)> {
            let number = |id| if id == trace_id(1) { 1 } else { 7 };
            let all = found(names, limit).await.traces.into_iter();
            all.map(|line| (number(line.trace_id), line.tenant.map_or("none".into(), |of| of.to_string()))).collect()
        };
        let line = |number: u64, tenant: &str| (number, tenant.to_owned());
        assert_eq!(lines("a|b", 10).await, [line(7, "a"), line(1, "b"), line(1, "a")], "{layout:?}");
        assert_eq!(lines("a|b", 2).await, [line(7, "a"), line(1, "b"), line(1, "a")], "one trace is one");
        assert_eq!(lines("a|b", 1).await, [line(7, "a")]);
        assert_eq!(lines("a", 10).await, [line(7, "none"), line(1, "none")]);
        assert_eq!(lines("nobody|never", 10).await, []);
        let (a, b, both) = (found("a", 10).await, found("b", 10).await, found("a|b", 10).await);
        assert_eq!(both.inspected.spans, a.inspected.spans + b.inspected.spans);
        assert_eq!(both.inspected.files_total, a.inspected.files_total + b.inspected.files_total);
        assert_eq!(both.partial_reason, None);
        let matched = (a.traces_matched, b.traces_matched, both.traces_matched);
        assert_eq!(matched, (Some(2), Some(1), Some(3)));
        let everything = SearchRequest { limit: 1, ..SearchRequest::default() };
        let count = shop.engine.of(&tenants("a|b")).count(everything.clone()).await.expect("an answer");
        assert_eq!((count.traces, count.partial_reason), (3, None));
        let oldest = Order { key: OrderKey::Start, descending: false };
        let oldest = SearchRequest { order: Some(oldest), ..everything };
        let found = shop.engine.of(&tenants("a|b")).search(oldest).await.expect("an answer");
        let ids: Vec<_> = found.traces.iter().map(|line| line.trace_id).collect();
        assert_eq!((ids, found.traces_matched), (vec![trace_id(1); 2], Some(3)), "one trace is one");
        let wrong = SearchRequest { traceql: Some("{".into()), limit: 5, ..SearchRequest::default() };
        let error = shop.engine.of(&tenants("a|b")).search(wrong).await.expect_err("it is no query");
        assert!(matches!(error, QueryError::Invalid(_)), "{error}");
    }
}

/// Tenants with many spans of their own: `a`, `b`, and `c`, who is not asked.
async fn many(layout: Layout) -> Shop {
    let shop = Shop::open().await;
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        for batch in many_spans(120, seed).0 {
            shop.store.append(tenant(name), batch).await.expect("there is room");
        }
    }
    if layout == Layout::Files {
        shop.store.flush().await.expect("flushes");
    }
    shop
}

fn with_tenant(series: Vec<Series>, name: &str) -> impl Iterator<Item = (String, Series)> {
    let label = (TENANT_KEY.to_owned(), Some(AnyValue::String(name.to_owned())));
    series.into_iter().map(move |mut series| {
        series.labels.push(label.clone());
        (format!("{:?}", series.labels), series)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_tenants_are_those_of_each_under_its_name() {
    let queries = [
        "{ } | rate()",
        "{ } | count_over_time() by (resource.service.name, status)",
        "{ } | quantile_over_time(duration, .5, .9) by (name)",
        "{ } | histogram_over_time(duration)",
        "{ } | avg_over_time(duration) by (span.ratio) | topk(2)",
        "{ } | compare({ status = error }, 3)",
        "({ status = error } | rate()) / ({ } | rate())",
    ];
    for layout in LAYOUTS {
        let shop = many(layout).await;
        for query in queries {
            let request = || MetricsRequest {
                traceql: query.to_owned(),
                start_unix_nanos: NOON,
                end_unix_nanos: NOON + 1_000_000_000,
                step_nanos: Some(10_000_000),
                exemplars_max: 2,
                ..MetricsRequest::default()
            };
            let both = shop.engine.of(&tenants("b|a")).metrics(request()).await.expect("an answer");
            let mut expected = BTreeMap::new();
            let (mut spans, mut steps) = (0, 0);
            for name in ["a", "b"] {
                let alone = shop.engine.metrics(&tenant(name), request()).await.expect("an answer");
                spans += alone.weighting.spans;
                steps = alone.steps;
                expected.extend(with_tenant(alone.series, name));
            }
            assert!(spans > 0 && !expected.is_empty(), "{query}");
            let count = both.series.len();
            let found: BTreeMap<String, Series> =
                both.series.into_iter().map(|series| (format!("{:?}", series.labels), series)).collect();
            assert_eq!((found.len(), both.weighting.spans, both.steps), (count, spans, steps), "{query} {layout:?}");
            assert_eq!(found, expected, "{query} {layout:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_those_of_any_of_the_tenants() {
    for layout in LAYOUTS {
        let shop = halves(layout).await;
        let (names, all) = (tenants("b|a"), Among::default());
        let both = shop.engine.of(&names);
        let services = both.services(&all).await.expect("an answer");
        assert_eq!((services.items, services.complete), (vec!["back".to_owned(), "front".to_owned()], true));
        let expected = ["back 2", "back 4", "front 1", "front 3", "front 70"];
        assert_eq!(both.operations(None, &all).await.expect("an answer").items, expected);
        let by_kind = both.operations_by_kind(None, &all).await.expect("an answer");
        assert_eq!(by_kind.items.iter().map(|operation| &*operation.name).collect::<Vec<_>>(), expected);
        let keys = both.attribute_keys(Some(Scope::Span), &all).await.expect("an answer");
        assert_eq!(keys.items.iter().map(|seen| &*seen.key).collect::<Vec<_>>(), ["http.route"]);
        for limit in [10, 5, 4, 1] {
            let values = both.attribute_values(Scope::Span, "http.route", limit, &all).await.expect("an answer");
            let texts: Vec<String> = values.items.into_iter().map(|seen| seen.value).collect();
            let routes = ["/back/2", "/back/4", "/front/1", "/front/3", "/front/70"];
            assert_eq!((texts.len(), values.complete), (limit.min(5), limit >= 5), "{limit} {layout:?}");
            assert_eq!(texts, routes[..texts.len()], "{limit}");
        }
        let explained = both.explain("{ }", NOON..NOON + 100).await.expect("an answer");
        assert_eq!(explained.spans_in_memory + explained.spans_in_files, 5, "{explained:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_lacks_is_said_with_its_name() {
    let shop = halves(Layout::Files).await.restart().await;
    let of_b = shop.files().into_iter().find(|path| path.to_string_lossy().contains("tenant=b")).expect("its file");
    std::fs::remove_file(of_b).expect("it is there");
    let names = tenants("a|b");
    let both = shop.engine.of(&names);
    let said = |what: &str, reason: Option<String>| {
        let reason = reason.unwrap_or_else(|| panic!("{what}: it is not whole"));
        let once = reason.matches("tenant b: ").count() == 1 && !reason.contains("tenant a");
        assert!(once && reason.contains("could not be read"), "{reason}");
    };
    let trace = both.trace(trace_id(1), 100, TraceDetail::Whole).await.expect("reads").expect("a has a part");
    assert_eq!(trace.spans.len(), 2);
    said("a trace", trace.partial_reason);
    let request = SearchRequest { limit: 10, ..SearchRequest::default() };
    let found = both.search(request).await.expect("an answer");
    assert_eq!(found.traces.len(), 2);
    said("a search", found.partial_reason);
    let values = both.attribute_values(Scope::Span, "http.route", 10, &Among::default()).await.expect("an answer");
    assert_eq!((values.items.len(), values.complete), (3, false));
    said("names", values.partial_reason);
    // What nobody has may be in what can't be read.
    let error = both.trace(trace_id(5), 100, TraceDetail::Whole).await;
    let Err(QueryError::Unreadable(reason)) = error else { panic!("it may be in the file") };
    said("an unknown trace", Some(reason));
}

/// A clock that goes on by so much whenever it is looked at.
struct TickingClock {
    tick: Duration,
    looks: AtomicU32,
}

impl Clock for TickingClock {
    fn now_unix_nanos(&self) -> i64 {
        NOON
    }

    fn monotonic(&self) -> Duration {
        self.tick * self.looks.fetch_add(1, Ordering::Relaxed)
    }
}

/// Who waits for names waits no longer because several tenants are asked.
#[tokio::test(flavor = "multi_thread")]
async fn tenants_share_the_time_for_names() {
    let all: Vec<String> = (0..16).map(|number| format!("t{number:02}")).collect();
    let of_tenants: Vec<(&str, SpanBatch)> =
        (0..).zip(&all).map(|(number, name)| (&**name, batch(name, &[(number, 1, 0, 0)]))).collect();
    let shop = shop(&of_tenants, Layout::Files).await;
    let (tick, time_max) = (Duration::from_millis(100), Duration::from_secs(2));
    let names = tenants(&all.join("|"));
    for ask in 0..4 {
        let clock = Arc::new(TickingClock { tick, looks: AtomicU32::new(0) });
        let engine = QueryEngine::new(shop.store.clone(), QueryLimits::default(), clock.clone());
        let (asked, among) = (engine.of(&names), Among::default());
        let (reason, complete) = match ask {
            0 => asked.services(&among).await.map(|found| (found.partial_reason, found.complete)),
            1 => asked.operations(None, &among).await.map(|found| (found.partial_reason, found.complete)),
            2 => asked.attribute_keys(None, &among).await.map(|found| (found.partial_reason, found.complete)),
            _ => {
                let found = asked.attribute_values(Scope::Span, "http.route", 100, &among).await;
                found.map(|found| (found.partial_reason, found.complete))
            }
        }
        .expect("an answer");
        // One look finds the time used up, and a few more end the question.
        let took = tick * clock.looks.load(Ordering::Relaxed);
        assert!(took < time_max + 10 * tick, "{ask}: {took:?}");
        let reason = reason.expect("not all were asked");
        assert!(!complete && reason.contains("of 16 tenants were asked: the time for a query was used up"), "{reason}");
    }
}
