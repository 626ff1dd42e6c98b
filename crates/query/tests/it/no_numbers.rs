//! Values that are no number.

use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId, TenantId};
use tracehouse_query::MetricsRequest;

use crate::shop::{NOON, Shop, put, trace_id};

const SECOND: i64 = 1_000_000_000;

/// In the first second one that is no number alone, in the second among numbers.
fn spans() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    for (number, (second, value)) in (1..).zip([(0, f64::NAN), (1, f64::NAN), (1, 1.0), (1, 2.0)]) {
        put(&mut batch.strings, &mut batch.attributes, "value", &AnyValue::Double(value));
        let start_unix_nanos = NOON + second * SECOND;
        let ids =
            SpanFields { trace_id: trace_id(number), span_id: SpanId(number.to_be_bytes()), ..SpanFields::default() };
        batch.finish_span(SpanFields { start_unix_nanos, resource, scope, ..ids });
    }
    batch
}

async fn series_of(shop: &Shop, function: &str) -> Vec<Vec<Option<f64>>> {
    let request = MetricsRequest {
        start_unix_nanos: NOON,
        end_unix_nanos: NOON + 2 * SECOND,
        step_nanos: Some(SECOND),
        traceql: format!("{{ }} | {function}"),
        ..MetricsRequest::default()
    };
    let answer = shop.engine.metrics(&TenantId::default(), request).await.expect("an answer");
    answer.series.into_iter().map(|series| series.values).collect()
}

/// Before, quantiles of them ended with a panic while they were in memory, and sums were others than from files.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_number_is_not_measured() {
    let shop = Shop::open().await;
    shop.append(spans()).await;
    let functions = [
        ("sum_over_time(span.value)", Some(3.0)),
        ("avg_over_time(span.value)", Some(1.5)),
        ("min_over_time(span.value)", Some(1.0)),
        ("max_over_time(span.value)", Some(2.0)),
        ("quantile_over_time(span.value, 0.5)", None),
        ("histogram_over_time(span.value)", None),
    ];
    let mut in_memory = Vec::new();
    for (function, expected) in functions {
        let series = series_of(&shop, function).await;
        if expected.is_some() {
            assert_eq!(series, [[None, expected]], "{function}");
        }
        in_memory.push(series);
    }
    shop.store.flush().await.expect("the flush succeeds");
    for ((function, _), in_memory) in functions.into_iter().zip(in_memory) {
        assert_eq!(series_of(&shop, function).await, in_memory, "{function}");
    }
}
