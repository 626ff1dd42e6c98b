//! Floating-point numbers at the ends of their range: as texts, and as minima and maxima.

use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId};
use tracehouse_sql::SqlLimits;

use crate::shop::{BEGIN, Shop, put, trace_id};

const INFINITY: f64 = f64::INFINITY;

/// A span of each group for each of its values.
fn spans(groups: &[(&str, &[f64])]) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    let values = groups.iter().flat_map(|(group, values)| values.iter().map(move |value| (*group, *value)));
    for (number, (group, value)) in (1..).zip(values) {
        put(&mut batch.strings, &mut batch.attributes, "group", &AnyValue::String(group.to_owned()));
        put(&mut batch.strings, &mut batch.attributes, "value", &AnyValue::Double(value));
        batch.finish_span(SpanFields {
            trace_id: trace_id(number),
            span_id: SpanId(number.to_be_bytes()),
            start_unix_nanos: BEGIN,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// The same rows of spans in memory and, flushed, of those in a file.
async fn check(groups: &[(&str, &[f64])], cases: &[(&str, &[&str])]) {
    let shop = Shop::open(SqlLimits::default()).await;
    shop.append(spans(groups)).await;
    for stored in [false, true] {
        if stored {
            shop.store.flush().await.expect("flushes");
        }
        for (query, expected) in cases {
            assert_eq!(shop.rows(query).await, *expected, "{query} stored: {stored}");
        }
    }
}

/// Arithmetic gives a `NaN` a sign, and spans may send one, or a zero with one.
#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_nan_and_one_zero() {
    let groups: [(&str, &[f64]); 3] =
        [("a", &[1.5, f64::NAN]), ("b", &[-f64::NAN, -INFINITY, INFINITY]), ("c", &[0.0, -0.0, 1.0])];
    let of = |what: &str, group: &str| format!("SELECT {what} FROM spans WHERE attr('group') = '{group}'");
    let value = "attr_float('value')";
    let cases: [(String, &[&str]); 21] = [
        (of(&format!("max(-{value}), min(-{value})"), "a"), &["NaN | -1.5"]),
        (of(&format!("max({value} - {value}), min({value} - {value})"), "a"), &["NaN | 0.0"]),
        (of(&format!("count(*) FILTER (WHERE -{value} = {value})"), "b"), &["1"]),
        (of(&format!("count(DISTINCT {value})"), "b"), &["3"]),
        (of(&format!("sum({value}) > 0"), "b"), &["true"]),
        (of(&format!("min({value}), max({value})"), "b"), &["-inf | NaN"]),
        (of(&format!("count(*) OVER (PARTITION BY {value}) AS n"), "c") + " ORDER BY n", &["1", "2", "2"]),
        (of(&format!("rank() OVER (ORDER BY {value}) AS n"), "c") + " ORDER BY n", &["1", "1", "3"]),
        (
            "SELECT DISTINCT v FROM (VALUES (CAST('NaN' AS DOUBLE)), (1.0), (CAST('NaN' AS DOUBLE))) t(v) ORDER BY v"
                .into(),
            &["1.0", "NaN"],
        ),
        ("SELECT -v FROM (VALUES (0.0), (1.0)) t(v) GROUP BY -v ORDER BY -v".into(), &["-1.0", "0.0"]),
        ("SELECT DISTINCT v FROM (VALUES (CAST(-0.0 AS DOUBLE)), (0.0)) t(v)".into(), &["0.0"]),
        ("SELECT v FROM (VALUES (CAST('-0' AS DOUBLE)), (1.0)) t(v) ORDER BY v".into(), &["0.0", "1.0"]),
        (of(&format!("median({value} - {value}) > 0, approx_median({value} - {value}) > 0"), "b"), &["true | true"]),
        (of(&format!("percentile_cont(0.5) WITHIN GROUP (ORDER BY {value} - {value}) > 0"), "b"), &["true"]),
        (
            of(&format!("max({value}) > 0, covar_pop({value}, {value}) > 0, corr({value}, 1.0) > 0"), "b"),
            &["true | true | -"],
        ),
        (of(&format!("regr_slope({value}, {value} + 1) > 0, regr_avgx({value}, {value}) > 0"), "b"), &["true | true"]),
        (of(&format!("percentile_cont(0) WITHIN GROUP (ORDER BY {value})"), "b"), &["-inf"]),
        (of(&format!("percentile_cont(1) WITHIN GROUP (ORDER BY {value})"), "b"), &["NaN"]),
        (
            "SELECT rank() OVER (ORDER BY CAST(v AS REAL)) FROM (VALUES (CAST('-1e-300' AS DOUBLE)), (0.0)) t(v)"
                .into(),
            &["1", "1"],
        ),
        (
            "SELECT a.v FROM (VALUES (1), (2)) a(v) WHERE EXISTS \
             (SELECT 1 FROM (VALUES (1.0)) b(w) WHERE b.w = CAST(a.v AS DOUBLE))"
                .into(),
            &["1"],
        ),
        ("SELECT v / 0 AS q FROM (VALUES (1.0), (0.0), (-1.0)) t(v) ORDER BY q".into(), &["-inf", "inf", "NaN"]),
    ];
    let cases: Vec<(&str, &[&str])> = cases.iter().map(|(query, rows)| (query.as_str(), *rows)).collect();
    check(&groups, &cases).await;
}

/// Once, what was in sets was given the name of the sets.
#[tokio::test(flavor = "multi_thread")]
async fn sets_of_groups_hold_what_is_calculated() {
    let from = "FROM (VALUES (1.0, 1), (2.0, 1), (2.0, 2)) t(v, n)";
    let cases: [(String, &[&str]); 5] = [
        (format!("SELECT -v, grouping(-v), sum(v * 2) {from} GROUP BY -v"), &["-1.0 | 0 | 2.0", "-2.0 | 0 | 8.0"]),
        (format!("SELECT v * 2, count(*) {from} GROUP BY ROLLUP (v * 2) ORDER BY 1"), &["2.0 | 1", "4.0 | 2", "- | 3"]),
        (
            format!("SELECT v * 2, -n, count(*) {from} GROUP BY CUBE (v * 2, -n) ORDER BY 1, 2"),
            &[
                "2.0 | -1 | 1",
                "2.0 | - | 1",
                "4.0 | -2 | 1",
                "4.0 | -1 | 1",
                "4.0 | - | 2",
                "- | -2 | 1",
                "- | -1 | 2",
                "- | - | 3",
            ],
        ),
        (
            format!("SELECT -v, grouping(-v), sum(-n) {from} GROUP BY GROUPING SETS ((-v), ()) ORDER BY 1"),
            &["-2.0 | 0 | -3", "-1.0 | 0 | -1", "- | 1 | -4"],
        ),
        (
            format!(
                "SELECT sqrt(v * 2) AS root, count(*) {from} GROUP BY GROUPING SETS ((sqrt(v * 2)), (n)) ORDER BY 1"
            ),
            &["1.4142135623730951 | 1", "2.0 | 2", "- | 2", "- | 1"],
        ),
    ];
    let shop = Shop::open(SqlLimits::default()).await;
    for (query, expected) in &cases {
        let mut rows = shop.rows(query).await;
        let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        rows.sort();
        expected.sort();
        assert_eq!(rows, expected, "{query}");
    }
}

/// What is no number is no time.
#[tokio::test(flavor = "multi_thread")]
async fn no_number_of_seconds_is_no_time() {
    let shop = Shop::open(SqlLimits::default()).await;
    for seconds in ["CAST('NaN' AS DOUBLE)", "CAST('inf' AS DOUBLE)", "1e300"] {
        let refused = shop.try_ask(&format!("SELECT to_timestamp({seconds})"), 10).await;
        let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("is no time"), "{seconds}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn infinite_extremes_are_infinite() {
    let groups: [(&str, &[f64]); 6] = [
        ("a", &[-INFINITY]),
        ("b", &[INFINITY, INFINITY]),
        ("c", &[f64::NAN]),
        ("d", &[1.0, f64::NAN, 2.0]),
        ("e", &[-INFINITY, 5.0, INFINITY]),
        ("f", &[f64::NAN, 2.0, 1.0]),
    ];
    let by_group =
        "SELECT attr('group'), min(attr_float('value')), max(attr_float('value')) FROM spans GROUP BY 1 ORDER BY 1";
    let rows =
        ["a | -inf | -inf", "b | inf | inf", "c | NaN | NaN", "d | 1.0 | NaN", "e | -inf | inf", "f | 1.0 | NaN"];
    let of_one = |function: &str, group: &str| {
        format!("SELECT {function}(attr_float('value')) FROM spans WHERE attr('group') = '{group}'")
    };
    let (max, min, max_of_some) = (of_one("max", "a"), of_one("min", "b"), of_one("max", "d"));
    let narrow = "SELECT max(CAST(attr_float('value') AS REAL)) FROM spans WHERE attr('group') = 'a' GROUP BY name";
    check(
        &groups,
        &[(by_group, &rows), (&max, &["-inf"]), (&min, &["inf"]), (&max_of_some, &["NaN"]), (narrow, &["-inf"])],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_those_of_other_answers() {
    let groups: [(&str, &[f64]); 8] = [
        ("1", &[1.0]),
        ("2", &[1.5]),
        ("3", &[1e300]),
        ("4", &[-1e-7]),
        ("5", &[INFINITY]),
        ("6", &[-INFINITY]),
        ("7", &[f64::NAN]),
        ("8", &[1e20]),
    ];
    let texts = ["1", "1.5", "1e+300", "-1e-7", "Infinity", "-Infinity", "NaN", "100000000000000000000"];
    let counted = |text: &'static str| (format!("SELECT count(*) FROM spans WHERE attr('value') = '{text}'"), ["1"]);
    let counts = texts.map(counted);
    let mut cases: Vec<(&str, &[&str])> = vec![
        ("SELECT attr('value') FROM spans ORDER BY attr('group')", &texts),
        // Where no scan reads the attribute for it.
        ("SELECT attr('value') FROM (SELECT * FROM spans LIMIT 10) ORDER BY attr('group')", &texts),
    ];
    cases.extend(counts.iter().map(|(query, count)| (&**query, &count[..])));
    check(&groups, &cases).await;
}
