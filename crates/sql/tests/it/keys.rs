//! What rows are ordered or divided by may be anything that is calculated.

use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId};
use tracehouse_sql::SqlLimits;

use crate::shop::{BEGIN, Shop, put, trace_id};

/// Spans with names of one to six letters, and an attribute `i` of -2 to 3.
fn spans() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    for number in 1..=6u64 {
        put(&mut batch.strings, &mut batch.attributes, "i", &AnyValue::Int(number as i64 - 3));
        put(&mut batch.strings, &mut batch.attributes, "big", &AnyValue::Int((1 << 53) + number as i64 - 3));
        put(&mut batch.strings, &mut batch.attributes, "least", &AnyValue::Int(i64::MIN + number as i64 - 1));
        put(&mut batch.strings, &mut batch.attributes, "nan", &AnyValue::Double(f64::NAN));
        put(
            &mut batch.strings,
            &mut batch.attributes,
            "zero",
            &AnyValue::Double(if number % 2 == 0 { -0.0 } else { 0.0 }),
        );
        let name = batch.strings.intern_str(&"abcdef"[..number as usize]);
        batch.finish_span(SpanFields {
            trace_id: trace_id(number),
            span_id: SpanId(number.to_be_bytes()),
            start_unix_nanos: BEGIN + number as i64,
            duration_nanos: number as i64,
            name,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_ordered_and_divided_by_what_is_calculated() {
    let cases: &[(&str, &[&str])] = &[
        ("SELECT name FROM spans ORDER BY length(name) > 3 DESC, name LIMIT 2", &["abcd", "abcde"]),
        ("SELECT name FROM spans ORDER BY (duration_nanos + 1) > 6 DESC LIMIT 1", &["abcdef"]),
        ("SELECT name FROM spans ORDER BY seconds(duration_nanos) > 0.000000005 DESC, span_id LIMIT 1", &["abcdef"]),
        ("SELECT name FROM spans ORDER BY CASE WHEN length(name) > 5 THEN 0 ELSE 1 END, name LIMIT 1", &["abcdef"]),
        (
            "SELECT name, count(*) FROM spans GROUP BY name ORDER BY length(name) > 5 DESC, name LIMIT 2",
            &["abcdef | 1", "a | 1"],
        ),
        (
            "SELECT name, rank() OVER (ORDER BY (duration_nanos / 1) > 5 DESC) AS place FROM spans ORDER BY place, name LIMIT 2",
            &["abcdef | 1", "a | 2"],
        ),
        (
            "SELECT name, count(*) OVER (PARTITION BY attr_int('i') > 0) AS n FROM spans ORDER BY name LIMIT 1",
            &["a | 3"],
        ),
        (
            "SELECT name, count(*) OVER (PARTITION BY abs(attr_int('i'))) AS n FROM spans ORDER BY name LIMIT 2",
            &["a | 2", "ab | 2"],
        ),
        (
            "SELECT count(*) OVER (PARTITION BY coalesce(attr_int('i'), 0) > 0 ORDER BY name) FROM spans ORDER BY 1 LIMIT 2",
            &["1", "1"],
        ),
        (
            "SELECT name, count(*) OVER (PARTITION BY CASE WHEN attr_int('i') BETWEEN 0 AND 3 THEN 1 ELSE 0 END) FROM spans \
             ORDER BY attr_int('i') < 3, name LIMIT 1",
            &["abcdef | 4"],
        ),
        (
            "SELECT array_agg(name ORDER BY length(name) > 4 DESC, name) FROM spans WHERE length(name) > 3",
            &["[abcde, abcdef, abcd]"],
        ),
        ("SELECT first_value(name ORDER BY attr_int('i') * 2 > 5 DESC) AS f FROM spans", &["abcdef"]),
        // The whole row, and no column beside.
        (
            "SELECT * FROM (SELECT name, duration_nanos FROM spans) ORDER BY duration_nanos % 2 = 0, name LIMIT 1",
            &["a | 1"],
        ),
        (
            "SELECT s.name FROM spans s JOIN spans t ON s.span_id = t.span_id ORDER BY length(t.name) > 3 DESC, s.name LIMIT 1",
            &["abcd"],
        ),
        ("SELECT name FROM spans UNION ALL SELECT 'x' ORDER BY length(name) > 5 DESC LIMIT 1", &["abcdef"]),
        ("SELECT DISTINCT attr_int('i') FROM spans ORDER BY attr_int('i') LIMIT 2", &["-2", "-1"]),
        (
            "SELECT DISTINCT upper(name), length(name) FROM spans ORDER BY length(name) DESC, upper(name) LIMIT 1",
            &["ABCDEF | 6"],
        ),
        ("SELECT DISTINCT length(name) > 3 AS long FROM spans ORDER BY length(name) > 3", &["false", "true"]),
        // Integers beyond 2^53 are told apart from their neighbours.
        ("SELECT count(*) FROM spans WHERE attr_int('big') > 9007199254740992.0", &["3"]),
        ("SELECT count(*) FROM spans WHERE 9007199254740992.5 <= attr_int('big') OR attr_int('i') = 0.5", &["3"]),
        ("SELECT count(*) FROM spans WHERE attr_int('big') = 9007199254740993.0", &["1"]),
        ("SELECT count(*) FROM spans WHERE attr_int('big') IN (9007199254740993.0, 0.5)", &["1"]),
        ("SELECT count(*) FROM spans WHERE attr_int('big') = 9.007199254740993e15", &["1"]),
        ("SELECT count(*) FROM spans WHERE attr_int('big') IN (9007199254740993000e-3, 1e300)", &["1"]),
        // Beyond all integers, where the nearest double is the least of them.
        ("SELECT count(*) FROM spans WHERE attr_int('least') = -9223372036854775808", &["1"]),
        ("SELECT count(*) FROM spans WHERE attr_int('least') = -9223372036854775809", &["0"]),
        ("SELECT count(*) FROM spans WHERE attr_int('least') <= -9223372036854775809", &["0"]),
        ("SELECT count(*) FROM spans WHERE attr_int('least') IN (-9223372036854775809, 5)", &["0"]),
        ("SELECT count(*) FROM spans WHERE attr_int('least') > -9223372036854775809", &["6"]),
        ("SELECT count(*) FROM spans WHERE attr_int('least') < 9223372036854775808", &["6"]),
        // Literals that need more than a double beside others that do not.
        (
            "SELECT count(*) FROM spans WHERE attr_int('big') IN (9.007199254740993e15, 9007199254740994.5, 1e18, 9.007199254740992e15)",
            &["2"],
        ),
        ("SELECT count(*) FROM spans WHERE attr_int('big') NOT IN (9007199254740992.5, 1e300)", &["6"]),
        (
            "SELECT count(*) FROM spans WHERE CASE attr_int('big') WHEN 9.007199254740993e15 THEN 1 WHEN 9.007199254740994e15 \
             THEN 2 WHEN 1e300 THEN 3 END = 2",
            &["1"],
        ),
        ("SELECT count(*) FROM spans WHERE attr_int('big') = 9007199254740993.00000000000000000001", &["0"]),
        ("SELECT count(*) FROM spans WHERE attr_int('big') > 9007199254740993.00000000000000000001", &["2"]),
        ("SELECT count(*) FROM spans WHERE attr_int('i') = 1.00000000000000000001", &["0"]),
        (
            "SELECT count(*) FROM spans WHERE attr_int('i') >= 1.99999999999999999999 AND attr_int('i') < 3.00000000000000000001",
            &["2"],
        ),
        (
            "SELECT count(*) FROM spans WHERE attr_int('big') IS NOT DISTINCT FROM 9.007199254740993e15 AND name <> 'x'",
            &["1"],
        ),
        (
            "SELECT count(*) FROM spans WHERE attr_int('big') IS NOT DISTINCT FROM 9007199254740992.5 AND name <> 'x'",
            &["0"],
        ),
        (
            "SELECT count(*) FROM spans WHERE attr_int('least') IS DISTINCT FROM -9223372036854775809 AND name <> 'x'",
            &["6"],
        ),
        ("SELECT count(*) FROM spans WHERE attr_float('nan') IN (9007199254740993.0, 1e300)", &["0"]),
        ("SELECT count(*) FROM spans WHERE attr_int('big') BETWEEN 9007199254740992.5 AND 9007199254740994.5", &["2"]),
        ("SELECT count(*) FROM spans WHERE CASE attr_int('big') WHEN 9007199254740993.0 THEN true END", &["1"]),
        ("SELECT count(*) FROM spans WHERE attr_float('nan') > 9007199254740993.0", &["6"]),
        (
            "SELECT count(*) FROM spans WHERE attr_float('nan') BETWEEN -9007199254740993.0 AND 123456789012345678.5",
            &["0"],
        ),
        ("SELECT count(*) FROM spans WHERE attr_int('i') IS DISTINCT FROM 1 AND attr_int('i') > 0", &["2"]),
        (
            "SELECT count(*) FROM spans WHERE name IS NOT DISTINCT FROM 'a' OR name = 'ab' AND true OR name = 'abc'",
            &["3"],
        ),
        ("SELECT count(*) FROM spans WHERE attr_int('i') BETWEEN -0.5 AND 1.5", &["2"]),
        ("SELECT count(*) FROM spans WHERE attr_int('i') NOT BETWEEN 1e300 AND 1", &["6"]),
        ("SELECT count(*) FROM spans WHERE attr_int('i') IN (0.5, 1.0)", &["1"]),
        ("SELECT count(*) FROM spans WHERE attr_int('i') NOT IN (0.5)", &["6"]),
        ("SELECT count(*) FROM spans WHERE attr_int('none') NOT IN (0.5)", &["0"]),
        ("SELECT count(*) FROM spans WHERE attr_int('i') IS DISTINCT FROM 0.5", &["6"]),
        ("SELECT sum(CASE attr_int('i') WHEN 0.5 THEN 10 WHEN 1.0 THEN 1 ELSE 0 END) FROM spans", &["1"]),
        ("SELECT count(*) FROM spans WHERE (attr_int('none') != 0.5) IS NULL", &["6"]),
        // What is calculated is calculated once.
        ("SELECT count(*) FROM spans WHERE CAST(random() * 10 AS BIGINT) = 0.5", &["0"]),
        // Names that were given on the way do not hide what is calculated.
        ("SELECT name FROM spans ORDER BY length(name) > 3.5 DESC, name LIMIT 1", &["abcd"]),
        ("SELECT name FROM spans ORDER BY (duration_nanos + 1) > 6.5 DESC LIMIT 1", &["abcdef"]),
        (
            "SELECT name, rank() OVER (ORDER BY length(name) > 3.5) AS place FROM spans ORDER BY name DESC LIMIT 1",
            &["abcdef | 4"],
        ),
        (
            "SELECT array_to_string(array_agg(name ORDER BY length(name) > 4, name) FILTER (WHERE duration_nanos > 0.5), ',') \
             FROM spans",
            &["a,ab,abc,abcd,abcde,abcdef"],
        ),
        (
            "SELECT count(*) FILTER (WHERE trace_id != 'abc') OVER (PARTITION BY length(name) > 3) FROM spans LIMIT 1",
            &["3"],
        ),
        ("SELECT DISTINCT ON (length(name) > 3) name FROM spans ORDER BY length(name) > 3, name", &["a", "abcd"]),
        ("SELECT name AS __key_0 FROM spans ORDER BY length(name) > 3, name LIMIT 1", &["a"]),
        // What is ordered by is what is aggregated.
        (
            "SELECT string_agg(DISTINCT upper(trim(name)), ',' ORDER BY upper(trim(name))) FROM spans",
            &["A,AB,ABC,ABCD,ABCDE,ABCDEF"],
        ),
        (
            "SELECT array_to_string(array_agg(DISTINCT attr_int('i') + 1 ORDER BY attr_int('i') + 1), ',') FROM spans",
            &["-1,0,1,2,3,4"],
        ),
        // One zero, as a text too.
        ("SELECT attr('zero'), count(*) FROM spans GROUP BY 1", &["0 | 6"]),
        ("SELECT count(*) FROM spans WHERE attr('zero') = '0'", &["6"]),
    ];
    check(cases).await;
}

/// The size of a plan grows with that of its text, whatever is compared with what.
#[tokio::test(flavor = "multi_thread")]
async fn comparisons_inside_comparisons_are_no_burden() {
    let nested =
        |what: &str, depth: usize| (0..depth).fold("1".to_owned(), |inner, _| format!("({inner} {what})::int"));
    let shop = Shop::open(SqlLimits::default()).await;
    for (what, expected) in [("= 1.5", "0"), ("!= 1.5", "1"), ("IS DISTINCT FROM 1.5", "1"), ("IN (0.5, 1.5)", "0")] {
        assert_eq!(shop.rows(&format!("SELECT {}", nested(what, 40))).await, [expected], "{what}");
    }
}

/// DataFusion's rules lose calls of `attr` on their way out of conditions of joins.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_of_joins_calculate_with_attributes() {
    let cases: [(&str, &[&str]); 7] = [
        ("SELECT count(*) FROM spans a JOIN spans b ON upper(a.attr('i')) = b.attr('i')", &["6"]),
        ("SELECT count(*) FROM spans a JOIN spans b ON a.attr_int('i') + 1 = b.attr_int('i')", &["5"]),
        ("SELECT count(*) FROM spans a LEFT JOIN spans b ON abs(a.attr_int('i')) = abs(b.attr_int('i'))", &["10"]),
        (
            "SELECT count(*) FROM spans a JOIN spans b ON coalesce(a.attr('none'), '') = coalesce(b.attr('none'), '')",
            &["36"],
        ),
        ("SELECT count(*) FROM spans a JOIN spans b ON (a.attr_int('i') > 0) = (b.attr_int('i') > 0)", &["18"]),
        // Where a scalar subquery looks for an attribute of the row outside, both are worked out before.
        (
            "WITH s AS (SELECT name, duration_nanos, attr_int('i') AS i FROM spans) SELECT count(*) FROM s \
             WHERE s.duration_nanos > (SELECT count(*) FROM s AS p WHERE p.i = s.i)",
            &["5"],
        ),
        (
            "WITH s AS (SELECT name, attr_int('i') AS i FROM spans) \
             SELECT name, (SELECT max(p.i) FROM s AS p WHERE p.i = s.i) AS most FROM s ORDER BY name LIMIT 2",
            &["a | -2", "ab | -1"],
        ),
    ];
    check(&cases).await;
    let shop = Shop::open(SqlLimits::default()).await;
    let correlated = "SELECT count(*) FROM spans s WHERE s.duration_nanos > \
                      (SELECT count(*) FROM spans p WHERE p.attr('i') = s.attr('i'))";
    let explained = "EXPLAIN SELECT count(*) FROM spans a JOIN spans b ON upper(a.attr('i')) = b.attr('i')";
    let explained = shop.rows(explained).await.join(" ");
    assert!(explained.contains("physical_plan") && explained.contains("JoinExec"), "{explained}");
    let refused = shop.try_ask(correlated, 10).await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("work both out before: WITH s AS ("), "{refused}");
}

/// The same rows of spans in memory and, flushed, of those in a file.
async fn check(cases: &[(&str, &[&str])]) {
    let shop = Shop::open(SqlLimits::default()).await;
    shop.append(spans()).await;
    for stored in [false, true] {
        if stored {
            shop.store.flush().await.expect("flushes");
        }
        for (query, expected) in cases {
            assert_eq!(shop.rows(query).await, *expected, "{query} stored: {stored}");
        }
    }
}
