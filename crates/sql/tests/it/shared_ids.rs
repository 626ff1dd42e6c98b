//! Spans that share an id, as the two sides of a call do in Zipkin's model, have ids of their own, by which joins find the right ones.

use tracehouse_model::{SpanBatch, SpanFields, SpanId, derived_span_id, kind};
use tracehouse_sql::SqlLimits;

use crate::shop::{BEGIN, Shop, trace_id};

const SHARED: SpanId = SpanId([0x22; 8]);

/// A span as (service, name, id, parent, kind, start).
type Given = (&'static str, &'static str, SpanId, SpanId, u8, i64);

fn batch(spans: &[Given]) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let scope = batch.finish_scope(0, 0, 0, 0);
    let key = batch.strings.intern_str("service.name");
    for &(service, name, span_id, parent_span_id, kind, start) in spans {
        let service = batch.strings.intern_str(service);
        batch.resources.attributes.push(key, tracehouse_model::AttributeValue::String(service));
        let resource = batch.finish_resource(0, 0);
        let name = batch.strings.intern_str(name);
        batch.finish_event(BEGIN + start, name, 0);
        batch.finish_span(SpanFields {
            trace_id: trace_id(1),
            span_id,
            parent_span_id,
            start_unix_nanos: BEGIN + start,
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

/// A call that two servers answer, with work beneath the first; the second names no parent.
fn call(named_by_server: SpanId) -> [Given; 5] {
    let page = SpanId([0x11; 8]);
    [
        ("gateway", "page", page, SpanId::NONE, kind::SERVER, 0),
        ("gateway", "call", SHARED, page, kind::CLIENT, 10),
        ("cart", "answer", SHARED, named_by_server, kind::SERVER, 20),
        ("mirror", "second answer", SHARED, SpanId::NONE, kind::SERVER, 25),
        ("cart", "work", SpanId([0x33; 8]), SHARED, kind::INTERNAL, 30),
    ]
}

async fn check(shop: &Shop, what: &str) {
    let first = derived_span_id(SHARED);
    let second = derived_span_id(first);
    let cases: [(&str, Vec<String>); 6] = [
        (
            "SELECT child.name, parent.name FROM spans AS child LEFT JOIN spans AS parent \
             ON parent.trace_id = child.trace_id AND parent.span_id = child.parent_span_id ORDER BY child.start_time",
            ["page | -", "call | page", "answer | call", "second answer | call", "work | answer"]
                .map(str::to_owned)
                .to_vec(),
        ),
        (
            "WITH RECURSIVE below AS (SELECT trace_id, span_id, name AS path FROM spans WHERE parent_span_id IS NULL \
             UNION ALL SELECT s.trace_id, s.span_id, below.path || '/' || s.name FROM spans AS s \
             JOIN below ON s.trace_id = below.trace_id AND s.parent_span_id = below.span_id) \
             SELECT path FROM below ORDER BY 1",
            ["page", "page/call", "page/call/answer", "page/call/answer/work", "page/call/second answer"]
                .map(str::to_owned)
                .to_vec(),
        ),
        (
            "SELECT span_id FROM spans WHERE name LIKE '%answer' ORDER BY start_time",
            vec![first.to_string(), second.to_string()],
        ),
        // With a column for which spans are read as a whole.
        (
            "SELECT name, span_id, parent_span_id FROM spans WHERE name = 'answer' AND resource_attributes LIKE '%cart%'",
            vec![format!("answer | {first} | {SHARED}")],
        ),
        ("SELECT name FROM events WHERE span_id = '2222222222222222'", vec!["call".to_owned()]),
        ("SELECT root_service, root_name FROM traces", vec!["gateway | page".to_owned()]),
    ];
    for (query, expected) in cases {
        assert_eq!(shop.rows(query).await, expected, "{what}: {query}");
    }
    for (id, name) in [(SHARED, "call"), (first, "answer"), (second, "second answer")] {
        let found = shop.rows(&format!("SELECT name FROM spans WHERE span_id = '{id}'")).await;
        assert_eq!(found, [name], "{what}, by its id");
    }
}

#[tokio::test]
async fn halves_of_a_call_have_ids_of_their_own() {
    for named_by_server in [SpanId::NONE, SpanId([0x11; 8]), SpanId([0x99; 8])] {
        let spans = call(named_by_server);
        for together in [true, false] {
            let what = format!("names {named_by_server}, sent together: {together}");
            let shop = Shop::open(SqlLimits::default()).await;
            let parts: Vec<&[Given]> = if together { vec![&spans] } else { spans.chunks(1).collect() };
            for part in parts {
                shop.append(batch(part)).await;
            }
            check(&shop, &format!("{what}, in memory")).await;
            shop.store.flush().await.expect("flushes");
            check(&shop, &format!("{what}, in a file")).await;
        }
        // Each in a file of its own, until they are merged.
        let shop = Shop::open(SqlLimits::default()).await;
        for span in spans {
            shop.append(batch(&[span])).await;
            shop.store.flush().await.expect("flushes");
        }
        shop.store.compact().await.expect("merges");
        check(&shop, &format!("names {named_by_server}, merged")).await;
    }
}
