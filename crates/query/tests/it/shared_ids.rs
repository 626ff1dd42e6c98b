//! Spans that share an id, as the two sides of a call do in Zipkin's model: wherever they lie, they hang together in one way.

use tracehouse_model::{SpanBatch, SpanFields, SpanId, TenantId, kind};
use tracehouse_query::{MetricsRequest, ParentRow, SearchRequest, TraceDetail};

use crate::shop::{NOON, Shop, trace_id};

const HOUR: i64 = 3_600_000_000_000;

/// A span as (name, id, parent, kind, start); parent 0 is none.
type Given = (&'static str, u64, u64, u8, i64);

fn batch(spans: &[Given]) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    for &(name, id, parent, kind, start) in spans {
        let name = batch.strings.intern_str(name);
        batch.finish_span(SpanFields {
            trace_id: trace_id(1),
            span_id: SpanId(id.to_be_bytes()),
            parent_span_id: SpanId(parent.to_be_bytes()),
            start_unix_nanos: NOON + start,
            duration_nanos: 10,
            name,
            kind,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// Each span with the name of the one it stands beneath, in the order of the tree.
async fn shape(shop: &Shop, detail: TraceDetail) -> Vec<(String, String)> {
    let trace = shop.engine.trace(&TenantId::default(), trace_id(1), 100, detail).await.expect("reads");
    let trace = trace.expect("the trace is there");
    let name = |row: usize| trace.spans.strings.get(trace.spans.name[row]).to_owned();
    let above = |parent: &ParentRow| match parent {
        ParentRow::Root => "-".to_owned(),
        ParentRow::Missing => "?".to_owned(),
        ParentRow::Row(row) => name(*row as usize),
    };
    trace.parent.iter().enumerate().map(|(row, parent)| (name(row), above(parent))).collect()
}

/// The names of the spans that a query selects.
async fn selected(shop: &Shop, query: &str) -> Vec<String> {
    let request = SearchRequest {
        traceql: Some(query.to_owned()),
        limit: 10,
        spans_per_spanset: 100,
        ..SearchRequest::default()
    };
    let found = shop.engine.search(&TenantId::default(), request).await.expect("reads");
    let spansets = found.traces.into_iter().flat_map(|trace| trace.spansets);
    let mut names: Vec<String> = spansets.flat_map(|spanset| spanset.spans).map(|span| span.name).collect();
    names.sort_unstable();
    names
}

/// A call from the page: both halves under id 2, what the server's half names differs; work beneath it.
fn call(named_by_server: u64, hours_between: i64) -> Vec<Given> {
    vec![
        ("page", 1, 0, kind::SERVER, 0),
        ("call", 2, 1, kind::CLIENT, 10),
        ("answer", 2, named_by_server, kind::SERVER, 20 + hours_between * HOUR),
        ("work", 3, 2, kind::INTERNAL, 30 + hours_between * HOUR),
    ]
}

const TREE: [(&str, &str); 4] = [("page", "-"), ("call", "page"), ("answer", "call"), ("work", "answer")];

/// What structure says of the call, each with the spans it selects.
const QUERIES: [(&str, &[&str]); 22] = [
    ("{ kind = client } > { kind = server }", &["answer"]),
    ("{ kind = server } > { kind = client }", &["call"]),
    ("{ kind = client } >> { }", &["answer", "work"]),
    ("{ kind = client } > { name = `work` }", &[]),
    ("{ name = `answer` } > { }", &["work"]),
    ("{ kind = server } < { name = `work` }", &[]),
    ("{ name = `work` } < { kind = server }", &["answer"]),
    ("{ name = `answer` } < { }", &["call"]),
    ("{ name = `work` } << { }", &["answer", "call", "page"]),
    ("{ name = `call` } ~ { }", &[]),
    ("{ } ~ { }", &[]),
    ("{ kind = client } !> { }", &["call", "page", "work"]),
    ("{ kind = client } &> { kind = server }", &["answer", "call"]),
    ("{ span:childCount = 0 }", &["work"]),
    ("{ span:childCount = 1 }", &["answer", "call", "page"]),
    ("{ nestedSetParent < 0 }", &["page"]),
    ("{ nestedSetParent = 2 }", &["answer"]),
    ("{ nestedSetLeft = 3 }", &["answer"]),
    ("{ parent = nil }", &["page"]),
    ("{ parent != nil }", &["answer", "call", "work"]),
    ("{ span:parentID = `0000000000000002` }", &["answer", "work"]),
    ("{ !(span:parentID = `0000000000000001`) && kind = server }", &["answer", "page"]),
];

async fn check(shop: &Shop, what: &str) {
    let tree: Vec<(String, String)> = TREE.map(|(name, above)| (name.to_owned(), above.to_owned())).to_vec();
    for detail in [TraceDetail::Whole, TraceDetail::Outline, TraceDetail::OutlineWithTargets] {
        assert_eq!(shape(shop, detail).await, tree, "{what}, {detail:?}");
    }
    for (query, expected) in QUERIES {
        assert_eq!(selected(shop, query).await, expected, "{what}, {query}");
    }
}

/// How many spans each query counts, from columns alone.
async fn check_counts(shop: &Shop, what: &str) {
    for (query, expected) in [
        ("{ nestedSetParent < 0 } | count_over_time()", 1.0),
        ("{ parent != nil && kind = server } | count_over_time()", 1.0),
        ("{ span:parentID = `0000000000000002` } | count_over_time()", 2.0),
        ("{ kind = server && span:parentID = `0000000000000001` } | count_over_time()", 0.0),
    ] {
        let request = MetricsRequest {
            traceql: query.to_owned(),
            start_unix_nanos: NOON - HOUR,
            end_unix_nanos: NOON + 3 * HOUR,
            ..MetricsRequest::default()
        };
        let answer = shop.engine.metrics(&TenantId::default(), request).await.expect("reads");
        let values = answer.series.iter().flat_map(|series| &series.values);
        assert_eq!(values.flatten().sum::<f64>(), expected, "{what}, {query}");
    }
}

/// In memory, in files, merged; together, one after the other, either first; in one hour and in two.
#[tokio::test(flavor = "multi_thread")]
async fn halves_hang_together_wherever_they_lie() {
    for (named_by_server, hours_between) in [(1, 0), (0, 0), (2, 0), (99, 0), (1, 2), (0, 2)] {
        let spans = call(named_by_server, hours_between);
        for first in [[0usize, 1, 2, 3].as_slice(), &[1], &[2], &[3, 2], &[0, 2]] {
            let what = format!("names {named_by_server}, {hours_between} h between, {first:?} first");
            let of = |wanted: bool| -> Vec<Given> {
                (0..spans.len()).filter(|at| first.contains(at) == wanted).map(|at| spans[at]).collect()
            };
            let shop = Shop::open().await;
            shop.append(batch(&of(true))).await;
            if of(false).is_empty() {
                check(&shop, &format!("{what}, in memory")).await;
                check_counts(&shop, &format!("{what}, in memory")).await;
            }
            shop.store.flush().await.expect("flushes");
            shop.append(batch(&of(false))).await;
            check(&shop, &format!("{what}, half in memory")).await;
            shop.store.flush().await.expect("flushes");
            check(&shop, &format!("{what}, in files")).await;
            shop.store.compact().await.expect("merges");
            check(&shop, &format!("{what}, merged")).await;
            if hours_between == 0 {
                check_counts(&shop, &format!("{what}, merged")).await;
            }
        }
    }
}

/// A half alone stands where it says, and moves once the other half comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_alone_stands_where_it_says() {
    let shop = Shop::open().await;
    let spans = call(1, 0);
    shop.append(batch(&[spans[0], spans[2], spans[3]])).await;
    let expected = [("page", "-"), ("answer", "page"), ("work", "answer")];
    let expected = expected.map(|(name, above)| (name.to_owned(), above.to_owned())).to_vec();
    for _ in 0..2 {
        assert_eq!(shape(&shop, TraceDetail::Whole).await, expected);
        assert_eq!(selected(&shop, "{ span:parentID = `0000000000000001` }").await, ["answer"]);
        shop.store.flush().await.expect("flushes");
    }
    shop.append(batch(&[spans[1]])).await;
    check(&shop, "the other half came").await;
}

/// Whoever asks for one span by an id that several share gets the one that keeps it, wherever they lie.
#[tokio::test(flavor = "multi_thread")]
async fn one_span_by_a_shared_id_is_the_callers_half() {
    // The server's clock is behind.
    let (client, server) = (("call", 2, 0, kind::CLIENT, 10), ("answer", 2, 0, kind::SERVER, 0));
    for (first, second) in [(client, server), (server, client)] {
        let shop = Shop::open().await;
        shop.append(batch(&[first])).await;
        shop.store.flush().await.expect("flushes");
        shop.append(batch(&[second])).await;
        for _ in 0..2 {
            let id = SpanId(2u64.to_be_bytes());
            let found = shop.engine.span(&TenantId::default(), trace_id(1), id).await.expect("reads");
            assert_eq!(found.expect("it is there").name, "call");
            shop.store.flush().await.expect("flushes");
        }
    }
}
