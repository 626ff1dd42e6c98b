//! The attribute of a span hides that of its resource, whatever the types of the two are and whatever type is asked for.

use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId};
use tracehouse_sql::SqlLimits;

use crate::shop::{BEGIN, Shop, put, trace_id};

fn values() -> Vec<Option<AnyValue>> {
    vec![
        None,
        Some(AnyValue::String("text".into())),
        Some(AnyValue::Int(5)),
        Some(AnyValue::Double(1.5)),
        Some(AnyValue::Bool(true)),
        Some(AnyValue::Array(vec![AnyValue::Int(5), AnyValue::String("text".into())])),
    ]
}

/// The value of a span and that of its resource.
type Pair = (Option<AnyValue>, Option<AnyValue>);

/// A span for each pair of values, of itself and of its resource, in an order that mixes them; so often that a file gives the key a
/// column of its own, and a few more of one type.
fn spans(copies: u64, of_one_type: u64) -> (SpanBatch, Vec<Pair>) {
    let (mut batch, mut pairs) = (SpanBatch::new(), Vec::new());
    let scope = batch.finish_scope(0, 0, 0, 0);
    let mixed = (0..copies)
        .flat_map(|_| values().into_iter().flat_map(|own| values().into_iter().map(move |of| (own.clone(), of))));
    let alike = (0..of_one_type).map(|_| (Some(AnyValue::Int(7)), Some(AnyValue::Int(9))));
    for (number, (own, of_resource)) in (1..).zip(mixed.chain(alike)) {
        if let Some(value) = &of_resource {
            put(&mut batch.strings, &mut batch.resources.attributes, "k", value);
        }
        let resource = batch.finish_resource(0, 0);
        if let Some(value) = &own {
            put(&mut batch.strings, &mut batch.attributes, "k", value);
        }
        batch.finish_span(SpanFields {
            trace_id: trace_id(number),
            span_id: SpanId(number.to_be_bytes()),
            start_unix_nanos: BEGIN + number as i64,
            resource,
            scope,
            ..SpanFields::default()
        });
        pairs.push((own, of_resource));
    }
    (batch, pairs)
}

/// What the functions `attr_int`, `attr_float` and `attr_bool` give.
fn typed(value: Option<&AnyValue>) -> [String; 3] {
    let none = || "-".to_owned();
    match value {
        Some(AnyValue::Int(value)) => [value.to_string(), format!("{value}.0"), none()],
        Some(AnyValue::Double(value)) => [none(), value.to_string(), none()],
        Some(AnyValue::Bool(value)) => [none(), none(), value.to_string()],
        _ => [none(), none(), none()],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_another_type_hides_the_resources() {
    for (copies, of_one_type) in [(1, 0), (3, 2_000)] {
        let shop = Shop::open(SqlLimits::default()).await;
        let (batch, pairs) = spans(copies, of_one_type);
        shop.append(batch).await;
        let expected: Vec<[String; 3]> =
            pairs.iter().map(|(own, of_resource)| typed(own.as_ref().or(of_resource.as_ref()))).collect();
        for stage in ["in memory", "stored", "merged"] {
            match stage {
                "stored" => drop(shop.store.flush().await.expect("flushes")),
                "merged" => drop(shop.store.compact().await.expect("merges")),
                _ => {}
            }
            let rows =
                shop.rows("SELECT attr_int('k'), attr_float('k'), attr_bool('k') FROM spans ORDER BY start_time").await;
            assert_eq!(rows, expected.iter().map(|row| row.join(" | ")).collect::<Vec<_>>(), "{stage}");
            // Read as whole spans, and out of the attributes' JSON.
            let whole = "SELECT attr_int('k'), attr_float('k'), attr_bool('k') FROM \
                         (SELECT *, attributes AS own FROM spans LIMIT 100000) ORDER BY start_time";
            assert_eq!(shop.rows(whole).await, rows, "{stage}");
            for (number, (function, value)) in
                [("attr_int", "5"), ("attr_float", "5.0"), ("attr_float", "1.5"), ("attr_bool", "true")]
                    .iter()
                    .enumerate()
            {
                let place = [0, 1, 1, 2][number];
                let count =
                    |holds: &dyn Fn(&str) -> bool| expected.iter().filter(|row| holds(&row[place])).count().to_string();
                for (condition, wanted) in [
                    (format!("{function}('k') = {value}"), count(&|found| found == *value)),
                    (format!("{function}('k') IS NULL"), count(&|found| found == "-")),
                    (format!("{function}('k') <> {value}"), count(&|found| found != "-" && found != *value)),
                    (
                        format!("{function}('k') IS DISTINCT FROM {value} AND attr('k') IS NOT NULL"),
                        pairs
                            .iter()
                            .zip(&expected)
                            .filter(|((own, of_resource), row)| {
                                row[place] != *value && (own.is_some() || of_resource.is_some())
                            })
                            .count()
                            .to_string(),
                    ),
                ] {
                    let query = format!("SELECT count(*) FROM spans WHERE {condition}");
                    assert_eq!(shop.rows(&query).await, [wanted], "{query} {stage}");
                }
            }
        }
    }
}
