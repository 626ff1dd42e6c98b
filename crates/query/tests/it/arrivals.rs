//! What comes is found as it comes, each time once, however it went on: compared with a look at every span that came.

use std::collections::BTreeSet;

use tracehouse_model::{Span, SpanBatch, TenantId, Tenants, TraceId, status};
use tracehouse_query::{Arrivals, SearchRequest};

use crate::shop::{Shop, many_spans};

type Holds = fn(&Span) -> bool;

/// Queries where a span decides by itself; and others, of which a trace is found when any of its spans comes.
const QUERIES: [(&str, Option<Holds>); 6] = [
    ("{ }", Some(|_| true)),
    (
        "{ status = error && duration > 100ms }",
        Some(|span| span.status_code == status::ERROR && span.duration_nanos > 100_000_000),
    ),
    (
        r#"{ span.code = "x" }"#,
        Some(|span| span.attributes.iter().any(|(key, value)| key == "code" && value.to_canonical_json() == r#""x""#)),
    ),
    ("{ status = error } >> { kind = client }", None),
    ("{ } | count() > 4", None),
    ("{ parent.status = error }", None),
];

fn request(query: &str, limit: usize) -> SearchRequest {
    SearchRequest { traceql: Some(query.to_owned()), limit, spans_per_spanset: 3, ..SearchRequest::default() }
}

async fn look(shop: &Shop, query: &str, limit: usize, after: Option<u64>) -> Arrivals {
    let tenants = Tenants::from(TenantId::default());
    shop.engine.of(&tenants).arrivals(request(query, limit), after).await.expect("an answer")
}

fn ids(arrivals: &Arrivals) -> BTreeSet<TraceId> {
    arrivals.found.traces.iter().map(|trace| trace.trace_id).collect()
}

async fn found_by_search(shop: &Shop, query: &str) -> BTreeSet<TraceId> {
    let answer = shop.engine.search(&TenantId::default(), request(query, 1500)).await.expect("an answer");
    answer.traces.into_iter().map(|trace| trace.trace_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_is_found_once() {
    let shop = Shop::open().await;
    let (batches, _) = many_spans(200, 11);
    let mut positions = [None; QUERIES.len()];
    let mut came_before: [BTreeSet<TraceId>; QUERIES.len()] = Default::default();
    for (number, position) in positions.iter_mut().enumerate() {
        let first = look(&shop, QUERIES[number].0, 1000, None).await;
        assert!(first.found.traces.is_empty() && first.found.partial_reason.is_none());
        *position = Some(first.position);
    }
    for (round, batch) in batches.iter().enumerate() {
        // Traces come in parts: small batches, which are joined in memory.
        let parts = if round % 2 == 0 { 1 } else { 70 };
        let mut came: Vec<Vec<Span>> = Vec::new();
        for rows in (0..batch.len()).collect::<Vec<_>>().chunks(batch.len().div_ceil(parts)) {
            let mut part = SpanBatch::new();
            part.append_rows(batch, rows.iter().copied());
            came.push((0..part.len()).map(|row| part.span(row)).collect());
            shop.append(part).await;
            if round == 3 && came.len() == 30 {
                shop.store.flush().await.expect("is written");
            }
        }
        let came: Vec<Span> = came.into_iter().flatten().collect();
        for (number, (query, holds)) in QUERIES.into_iter().enumerate() {
            let expected: BTreeSet<TraceId> = match holds {
                Some(holds) => came.iter().filter(|span| holds(span)).map(|span| span.trace_id).collect(),
                None => {
                    let all = found_by_search(&shop, query).await;
                    came.iter().map(|span| span.trace_id).filter(|id| all.contains(id)).collect()
                }
            };
            let arrivals = look(&shop, query, 1000, positions[number]).await;
            assert_eq!(ids(&arrivals), expected, "{query}, round {round}");
            assert_eq!(arrivals.found.traces_matched, Some(expected.len() as u64), "{query}");
            assert_eq!((arrivals.spans_arrived, arrivals.found.partial_reason), (came.len() as u64, None));
            // A trace begins once, however many of its spans come later; some stand in files by then.
            let begun = came_before[number].len();
            came_before[number].extend(&expected);
            if round < 3 {
                assert_eq!(arrivals.traces_begun as usize, came_before[number].len() - begun, "{query}");
            }
            // Of more than the limit, those of which a span came last: the last in this batch.
            let last = look(&shop, query, 3, positions[number]).await;
            assert_eq!(last.found.traces_matched, Some(expected.len() as u64), "{query}");
            assert_eq!(last.found.traces.len(), expected.len().min(3));
            let in_order = came.iter().rev().map(|span| span.trace_id).find(|id| expected.contains(id));
            if holds.is_none() {
                assert_eq!(last.found.traces.first().map(|trace| trace.trace_id), in_order, "{query}");
            }
            positions[number] = Some(arrivals.position);
            assert!(look(&shop, query, 1000, positions[number]).await.found.traces.is_empty(), "it comes once");
        }
    }
}

/// A start reads the log again, and what was seen before it is not shown anew; a position of another store is none.
#[tokio::test(flavor = "multi_thread")]
async fn positions_outlast_a_start() {
    let shop = Shop::open().await;
    let (batches, _) = many_spans(80, 12);
    shop.append(batches[0].clone()).await;
    let seen = look(&shop, "{ }", 10, Some(0)).await;
    assert_eq!(seen.spans_arrived, batches[0].len() as u64);
    let shop = shop.restart().await;
    let none = look(&shop, "{ }", 10, Some(seen.position)).await;
    assert_eq!((none.spans_arrived, &none.found.partial_reason), (0, &None));
    shop.append(batches[1].clone()).await;
    let next = look(&shop, "{ }", 10, Some(none.position)).await;
    assert_eq!((next.spans_arrived, &next.found.partial_reason), (batches[1].len() as u64, &None));
    // What stands in files since before the start can't be told of any more.
    let reason = look(&shop, "{ }", 10, Some(0)).await.found.partial_reason.expect("a reason");
    assert!(reason.contains("a search finds them"), "{reason}");
    let ahead = look(&shop, "{ }", 10, Some(u64::MAX)).await;
    assert_eq!((ahead.position, ahead.found.traces.len()), (next.position, 0));
    assert!(ahead.found.partial_reason.is_some_and(|reason| reason.contains("of another store")));
}
