//! Integers, decimals and times at the ends of their range: what leaves it is refused, never wrapped around or cut.

use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId};
use tracehouse_sql::{SqlError, SqlLimits};

use crate::shop::{BEGIN, Shop, put, trace_id};

/// A span of each group for each of its values.
fn spans(groups: &[(&str, &[i64])]) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    let values = groups.iter().flat_map(|(group, values)| values.iter().map(move |value| (*group, *value)));
    for (number, (group, value)) in (1..).zip(values) {
        put(&mut batch.strings, &mut batch.attributes, "group", &AnyValue::String(group.to_owned()));
        put(&mut batch.strings, &mut batch.attributes, "value", &AnyValue::Int(value));
        batch.finish_span(SpanFields {
            trace_id: trace_id(number),
            span_id: SpanId(number.to_be_bytes()),
            start_unix_nanos: BEGIN + number as i64,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

const LARGE: i64 = i64::MAX;

/// What is asked, and its rows, or a part of the error.
const CASES: &[(&str, Result<&[&str], &str>)] = &[
    (
        "SELECT sum(x) FROM (VALUES (CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0))), \
         (CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0)))) t(x)",
        Err("a sum of decimals is beyond 38 digits"),
    ),
    (
        "SELECT g, sum(x) FROM (VALUES (1, CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0))), \
         (1, CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0)))) t(g, x) GROUP BY g",
        Err("a sum of decimals is beyond 38 digits"),
    ),
    (
        "SELECT g, sum(x) FROM (VALUES (1, CAST('99999999999999999999999999999999999998' AS DECIMAL(38,0))), \
         (1, CAST('1' AS DECIMAL(38,0))), (2, NULL)) t(g, x) GROUP BY g ORDER BY g",
        Ok(&["1 | 99999999999999999999999999999999999999", "2 | -"]),
    ),
    (
        "SELECT sum(x) FROM (VALUES (CAST('1.25' AS DECIMAL(10,2))), (CAST('2.50' AS DECIMAL(10,2)))) t(x)",
        Ok(&["3.75"]),
    ),
    (
        "SELECT CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0)) + CAST('1' AS DECIMAL(38,0))",
        Err("is too large to store in a Decimal128 of precision 38"),
    ),
    (
        "SELECT x + y FROM (VALUES (CAST(5000000 AS DECIMAL(38,30)), CAST(99999999 AS DECIMAL(38,30)))) t(x, y)",
        Err("is too large to store in a Decimal128 of precision 38"),
    ),
    (
        "SELECT CAST('9999999999999999999999999999999999999999999999999999999999999999999999999999' \
         AS DECIMAL(76,0)) + CAST('1' AS DECIMAL(76,0))",
        Err("is too large to store in a Decimal256 of precision 76"),
    ),
    ("SELECT sum(x) FROM (VALUES (CAST('9' AS DECIMAL(66,0)))) t(x)", Ok(&["9"])),
    ("SELECT sum(x) FROM (VALUES (CAST('9' AS DECIMAL(70,0)))) t(x)", Err("more than 66 digits")),
    ("SELECT g, sum(x) FROM (VALUES (1, CAST('9' AS DECIMAL(76,0)))) t(g, x) GROUP BY g", Err("more than 66 digits")),
    ("SELECT sum(x) FROM (VALUES (CAST('9' AS DECIMAL(60,0))), (CAST('1' AS DECIMAL(60,0)))) t(x)", Ok(&["10"])),
    ("SELECT CAST('1.25' AS DECIMAL(10,2)) * CAST('3' AS DECIMAL(10,0)) - 1", Ok(&["2.75"])),
    ("SELECT count(*) FILTER (WHERE -x = -2), -max(-x) AS least FROM (VALUES (1), (2)) t(x)", Ok(&["1 | 1"])),
    ("SELECT var_pop(x), stddev_pop(x) FROM (VALUES (CAST('Infinity' AS DOUBLE))) t(x)", Ok(&["NaN | NaN"])),
    (
        "SELECT var_pop(x), var_samp(x) FROM (VALUES (1.0), (2.0), (4.0), (NULL)) t(x)",
        Ok(&["1.5555555555555556 | 2.3333333333333335"]),
    ),
    ("SELECT to_timestamp(CAST(1e300 AS DOUBLE))", Err("is no time")),
    ("SELECT to_timestamp(-CAST(1e300 AS DOUBLE))", Err("is no time")),
    ("SELECT CAST(to_timestamp(CAST(1.5 AS DOUBLE)) AS TEXT)", Ok(&["1970-01-01T00:00:01.500"])),
    ("SELECT sum(x) FROM (VALUES ('a')) t(x)", Err("No function matches the given name and argument types 'sum(")),
    ("SELECT sum(attr_int('value')) FROM spans WHERE attr('group') = 'fits'", Ok(&["9223372036854775807"])),
    (
        "SELECT sum(attr_int('value')) FROM spans WHERE attr('group') = 'beyond'",
        Err("a sum of integers is beyond 64 bits"),
    ),
    (
        "SELECT sum(attr_int('value')) FROM spans WHERE attr('group') = 'below'",
        Err("a sum of integers is beyond 64 bits"),
    ),
    (
        "SELECT attr('group'), sum(attr_int('value')) FROM spans WHERE attr('group') <> 'beyond' AND attr('group') <> 'below' \
         GROUP BY 1 ORDER BY 1",
        Ok(&["fits | 9223372036854775807", "small | 6"]),
    ),
    ("SELECT attr('group'), sum(attr_int('value')) FROM spans GROUP BY 1", Err("sum(CAST(")),
    ("SELECT sum(CAST(attr_int('value') AS DOUBLE)) > 1.8e19 FROM spans WHERE attr('group') = 'beyond'", Ok(&["true"])),
    ("SELECT sum(DISTINCT attr_int('value')) FROM spans WHERE attr('group') = 'small'", Ok(&["6"])),
    ("SELECT sum(DISTINCT attr_int('value')) FROM spans WHERE attr('group') = 'beyond'", Err("beyond 64 bits")),
    (
        "SELECT sum(attr_int('value')) OVER (ORDER BY start_time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM spans \
         WHERE attr('group') = 'small' ORDER BY start_time",
        Ok(&["1", "3", "5"]),
    ),
    (
        "SELECT sum(attr_int('value')) OVER (ORDER BY start_time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM spans \
         WHERE attr('group') = 'beyond'",
        Err("beyond 64 bits"),
    ),
    ("SELECT sum(attr_int('value')) FROM spans WHERE attr('group') = 'nothing'", Ok(&["-"])),
    ("SELECT max(attr_int('value')) + 1 FROM spans", Err("verflow")),
    ("SELECT attr_int('value') * 2 FROM spans WHERE attr('group') = 'beyond'", Err("verflow")),
    ("SELECT min(attr_int('value')) - 1 FROM spans", Err("verflow")),
    ("SELECT 9223372036854775807 + 1", Err("verflow")),
    ("SELECT -min(attr_int('value')) FROM spans", Err("verflow")),
    ("SELECT -x FROM (VALUES (-9223372036854775808), (1)) t(x)", Err("verflow")),
    ("SELECT -x, -(-x), - x + 1 FROM (VALUES (5), (NULL)) t(x) ORDER BY -x", Ok(&["-5 | 5 | -4", "- | - | -"])),
    ("SELECT -2.5, -(1), sum(-x) FROM (VALUES (5), (7)) t(x) GROUP BY 1 HAVING sum(-x) < 0", Ok(&["-2.5 | -1 | -12"])),
    ("SELECT count(*) FROM spans WHERE start_time > now() - interval '400 days'", Ok(&["0"])),
    ("SELECT -'a'", Err("only supports signed numeric")),
    (
        "SELECT sum(x) OVER w, avg(x) OVER w, stddev(x) OVER w FROM (VALUES (1, 1e16), (2, 1.0), (3, 2.0), (4, 3.0), (5, NULL)) t(o, x) \
         WINDOW w AS (ORDER BY o ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) ORDER BY o OFFSET 2",
        Ok(&["3.0 | 1.5 | 0.7071067811865476", "5.0 | 2.5 | 0.7071067811865476", "3.0 | 3.0 | -"]),
    ),
    (
        "SELECT count(*) OVER (ORDER BY x ROWS BETWEEN CURRENT ROW AND 18446744073709551614 FOLLOWING) FROM (VALUES (1), (2)) t(x)",
        Err("UNBOUNDED FOLLOWING"),
    ),
    ("SELECT 2 + 3 * 4 - 1, 2.5 + 1, 7 / 2", Ok(&["13 | 3.5 | 3"])),
    ("SELECT count(*) + 1 - 1 FROM spans WHERE attr_int('value') * 0 + 1 < 4 AND attr('group') = 'small'", Ok(&["3"])),
    ("SELECT sum(weight) FROM spans WHERE attr('group') = 'small'", Ok(&["3.0"])),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_64_bits_is_refused() {
    let groups: [(&str, &[i64]); 4] = [
        ("fits", &[LARGE, 1, LARGE, -LARGE, -1]),
        ("beyond", &[LARGE, LARGE - 1, 5]),
        ("below", &[i64::MIN, -1]),
        ("small", &[1, 2, 3]),
    ];
    let shop = Shop::open(SqlLimits::default()).await;
    shop.append(spans(&groups)).await;
    for stored in [false, true] {
        if stored {
            shop.store.flush().await.expect("flushes");
        }
        for (query, expected) in CASES {
            match expected {
                Ok(rows) => assert_eq!(shop.rows(query).await, *rows, "{query} stored: {stored}"),
                Err(part) => match shop.try_ask(query, 100).await {
                    Err(SqlError::Invalid(detail)) => assert!(detail.contains(part), "{query}: {detail}"),
                    answered => panic!("{query}: {answered:?}"),
                },
            }
        }
    }
}
