//! Assembling traces: trees, fragments, copies, circles.

use std::collections::BTreeSet;

use tracehouse_model::{AnyValue, Span, SpanBatch, SpanFields, SpanId, TenantId, kind};
use tracehouse_query::{ParentRow, SearchRequest, Targets, Trace, TraceDetail};

use crate::shop::{NOON, Shop, many_spans, put, trace_id};

/// Spans given as (id, parent, start); parent 0 is none.
fn batch(spans: &[(u64, u64, i64)]) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    for &(id, parent, start) in spans {
        batch.finish_span(SpanFields {
            trace_id: trace_id(1),
            span_id: SpanId(id.to_be_bytes()),
            parent_span_id: SpanId(parent.to_be_bytes()),
            start_unix_nanos: NOON + start,
            duration_nanos: 10,
            kind: kind::INTERNAL,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

async fn assemble(shop: &Shop, most: usize) -> Trace {
    let trace = shop.engine.trace(&TenantId::default(), trace_id(1), most, TraceDetail::Whole).await.expect("reads");
    trace.expect("the trace is there")
}

fn shape(trace: &Trace) -> Vec<(u64, ParentRow)> {
    trace.spans.span_id.iter().map(|id| id.as_u64()).zip(trace.parent.iter().copied()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_stand_in_pre_order_wherever_their_spans_lie() {
    use ParentRow::{Missing, Root, Row};
    type Case<'a> = (&'a str, &'a [(u64, u64, i64)], &'a [(u64, ParentRow)]);
    let cases: &[Case<'_>] = &[
        ("one root", &[(1, 0, 0)], &[(1, Root)]),
        (
            "siblings by start, whatever the order of arrival",
            &[(3, 1, 20), (2, 1, 10), (1, 0, 0), (4, 2, 11)],
            &[(1, Root), (2, Row(0)), (4, Row(1)), (3, Row(0))],
        ),
        (
            "a fragment comes after the root",
            &[(5, 9, -5), (1, 0, 0), (6, 5, 1)],
            &[(1, Root), (5, Missing), (6, Row(1))],
        ),
        ("two roots", &[(2, 0, 5), (1, 0, 0)], &[(1, Root), (2, Root)]),
        ("copies are left out", &[(1, 0, 0), (2, 1, 1), (2, 1, 1), (1, 0, 0)], &[(1, Root), (2, Row(0))]),
        ("a circle is opened at its earliest span", &[(1, 2, 0), (2, 1, 1)], &[(1, Missing), (2, Row(0))]),
        (
            "what stands beneath a circle stays there, also if it begins first",
            &[(4, 3, -9), (3, 1, -5), (1, 2, 0), (2, 1, 1), (8, 9, 3), (9, 8, 2), (7, 7, 4)],
            &[(7, Missing), (1, Missing), (3, Row(1)), (4, Row(2)), (2, Row(1)), (9, Missing), (8, Row(5))],
        ),
    ];
    for (what, spans, expected) in cases {
        let shop = Shop::open().await;
        let (early, late) = spans.split_at(spans.len() / 2);
        shop.append(batch(early)).await;
        shop.store.flush().await.expect("flushes");
        shop.append(batch(late)).await;
        assert_eq!(shape(&assemble(&shop, 100).await), *expected, "{what}, half in memory");
        shop.store.flush().await.expect("flushes");
        shop.store.compact().await.expect("merges");
        assert_eq!(shape(&assemble(&shop, 100).await), *expected, "{what}, merged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_trace_says_how_much_there_is() {
    let shop = Shop::open().await;
    let spans: Vec<_> = (0..50).map(|number| (number + 1, u64::from(number > 0), number as i64)).collect();
    shop.append(batch(&spans)).await;
    for _ in 0..2 {
        let trace = assemble(&shop, 20).await;
        assert_eq!((trace.spans.len(), trace.span_count), (20, 50));
        assert!(trace.partial_reason.is_some_and(|reason| reason.contains("20 of 50")));
        shop.store.flush().await.expect("flushes");
    }
}

/// A span that is stored and was sent again just now is one, in traces and in lists of traces, whichever columns they read.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_again_comes_once() {
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(60, 14);
    for batch in &batches {
        shop.append(batch.clone()).await;
    }
    shop.store.flush().await.expect("flushes");
    for batch in batches.into_iter().rev() {
        shop.append(batch).await;
    }
    let tenant = TenantId::default();
    let request = SearchRequest { traceql: Some("{ }".into()), limit: 100, ..SearchRequest::default() };
    let found = shop.engine.search(&tenant, request).await.expect("reads").traces;
    assert_eq!(found.len(), 60);
    for listed in found {
        let sent = spans.iter().filter(|span| span.trace_id == listed.trace_id).count() as u64;
        assert_eq!((listed.span_count, listed.matched_count), (sent, sent), "listed");
        for detail in [TraceDetail::Whole, TraceDetail::Outline] {
            let trace = shop.engine.trace(&tenant, listed.trace_id, 1000, detail).await.expect("reads");
            let trace = trace.expect("it is there");
            assert_eq!((trace.spans.len() as u64, trace.span_count), (sent, sent), "{detail:?}");
        }
    }
}

/// Spans of the same ids, kind and start that differ in what a list of traces or an outline does not read.
fn others_under_the_same_ids(flags: std::ops::Range<u32>) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    for flags in flags {
        batch.finish_span(SpanFields {
            trace_id: trace_id(1),
            span_id: SpanId([7; 8]),
            start_unix_nanos: NOON,
            kind: kind::INTERNAL,
            flags,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// They are no copies of one another, wherever they lie and whatever is read of them; what is sent again is one.
#[tokio::test(flavor = "multi_thread")]
async fn others_under_the_same_ids_are_kept() {
    let shop = Shop::open().await;
    let tenant = TenantId::default();
    let check = async |expected: usize, what: &str| {
        for detail in [TraceDetail::Outline, TraceDetail::Whole] {
            let trace = shop.engine.trace(&tenant, trace_id(1), 1000, detail).await.expect("reads").expect("is there");
            assert_eq!((trace.spans.len(), trace.span_count), (expected, expected as u64), "{what}, {detail:?}");
        }
        let query = format!("{{ }} | count() = {expected}");
        let request = SearchRequest { traceql: Some(query), limit: 100, ..SearchRequest::default() };
        let found = shop.engine.search(&tenant, request).await.expect("reads").traces;
        let counts: Vec<u64> = found.iter().map(|trace| trace.span_count).collect();
        assert_eq!(counts, [expected as u64], "{what}, listed");
    };
    shop.append(others_under_the_same_ids(0..5)).await;
    check(5, "in memory").await;
    shop.store.flush().await.expect("flushes");
    check(5, "in a file").await;
    shop.append(others_under_the_same_ids(3..8)).await;
    check(8, "in memory and in a file").await;
    shop.store.flush().await.expect("flushes");
    check(8, "in two files").await;
    shop.append(others_under_the_same_ids(0..9)).await;
    check(9, "in two files and in memory").await;
    shop.store.compact().await.expect("merges");
    check(9, "merged").await;
}

/// Pages mark spans that have an exception, and count events and links, from the outline.
#[tokio::test(flavor = "multi_thread")]
async fn an_outline_names_events_and_counts_links_as_the_whole_does() {
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(60, 15);
    for batch in batches {
        shop.append(batch).await;
    }
    let traces: BTreeSet<_> = spans.iter().map(|span| span.trace_id).collect();
    let listed = |trace: &Trace| {
        let rows = (0..trace.spans.len()).map(|row| trace.spans.span(row));
        let of_span = |span: Span| {
            let names: Vec<String> = span.events.into_iter().map(|event| event.name).collect();
            (span.span_id, span.name, span.kind, span.status_code, names, span.links.len())
        };
        rows.map(of_span).collect::<Vec<_>>()
    };
    let check = async |what: &str| {
        let mut events = 0;
        for id in &traces {
            let read = async |detail| {
                let trace = shop.engine.trace(&TenantId::default(), *id, 1000, detail).await;
                listed(&trace.expect("reads").expect("is there"))
            };
            let whole = read(TraceDetail::Whole).await;
            for detail in [TraceDetail::Outline, TraceDetail::OutlineWithTargets] {
                assert_eq!(read(detail).await, whole, "{what}, {detail:?}");
            }
            events += whole.iter().map(|span| span.4.len()).sum::<usize>();
        }
        assert!(events > 0, "there are events");
    };
    check("in memory").await;
    shop.store.flush().await.expect("flushes");
    check("in a file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_span_comes_back_whole() {
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(60, 14);
    for batch in batches {
        shop.append(batch).await;
    }
    shop.store.flush().await.expect("flushes");
    for span in &spans {
        let found = shop.engine.span(&TenantId::default(), span.trace_id, span.span_id).await.expect("reads");
        let mut found = found.expect("the span is there");
        let mut sent = span.clone();
        for attributes in [&mut found.attributes, &mut sent.attributes] {
            attributes.sort_by(|left, right| left.0.cmp(&right.0));
        }
        for attributes in [&mut found.resource_attributes, &mut sent.resource_attributes] {
            attributes.sort_by(|left, right| left.0.cmp(&right.0));
        }
        assert_eq!(found, sent);
    }
    let absent =
        shop.engine.trace(&TenantId::default(), trace_id(999_999), 10, TraceDetail::Whole).await.expect("reads");
    assert!(absent.is_none());
    let other = tracehouse_model::TenantId::new("other").expect("a tenant");
    assert!(
        shop.engine.trace(&other, spans[0].trace_id, 10, TraceDetail::Whole).await.expect("reads").is_none(),
        "tenants are apart"
    );
}

/// A call of an address, with a key that many spans have or with one that few have, which files keep apart.
fn call(number: u8, key: &str, address: &str) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
    put(&mut batch.strings, &mut batch.attributes, key, &AnyValue::String(address.into()));
    let name = batch.strings.intern_str("GET");
    batch.finish_span(SpanFields {
        trace_id: trace_id(1 << 40),
        span_id: SpanId([number; 8]),
        start_unix_nanos: NOON + i64::from(number),
        kind: kind::CLIENT,
        name,
        resource,
        scope,
        ..SpanFields::default()
    });
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_span_is_about_is_told_wherever_it_lies() {
    let shop = Shop::open().await;
    let check = async |expected: &[&str], what: &str| {
        for detail in [TraceDetail::OutlineWithTargets, TraceDetail::Whole] {
            let trace = shop.engine.trace(&TenantId::default(), trace_id(1 << 40), 1000, detail).await;
            let spans = trace.expect("reads").expect("is there").spans;
            let mut targets = Targets::new(&spans);
            let numbers: Vec<u32> = (0..spans.len()).filter_map(|row| targets.number(row)).collect();
            let shown: Vec<&str> = numbers.iter().map(|number| targets.texts()[*number as usize].as_str()).collect();
            assert_eq!(shown, expected, "{what}, {detail:?}");
        }
    };
    let fill = async |seed: u64| {
        for batch in many_spans(100, seed).0 {
            shop.append(batch).await;
        }
    };
    fill(1).await;
    shop.append(call(1, "http.route", "/cart")).await;
    shop.append(call(2, "peer.service", "ledger")).await;
    check(&["/cart", "ledger"], "in memory").await;
    shop.store.flush().await.expect("flushes");
    check(&["/cart", "ledger"], "in a file").await;
    fill(2).await;
    shop.append(call(3, "url.full", "http://me:secret@ads/show?who=me")).await;
    check(&["/cart", "ledger", "ads/show"], "in memory and in a file").await;
    shop.store.flush().await.expect("flushes");
    check(&["/cart", "ledger", "ads/show"], "in two files").await;
    shop.store.compact().await.expect("merges");
    check(&["/cart", "ledger", "ads/show"], "merged").await;
}
