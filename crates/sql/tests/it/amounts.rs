//! Statements that could take the server down by what they make of little: refused, or ended before it is made.

use arrow::array::AsArray;
use tracehouse_sql::{SqlError, SqlLimits};

use crate::shop::{Layout, Shop, many_spans, rows_of};

/// Each level makes `b` by an expression over that of the level below: as many as let it grow a thousandfold, and no more than
/// can be planned where each is written out in those above.
fn nested(expression: &str, innermost: &str) -> String {
    let named = expression.split(|character: char| !character.is_alphanumeric()).filter(|word| *word == "b").count();
    let levels = match named {
        1 => 30,
        2 => 10,
        _ => 7,
    };
    let tables = (1..=levels).map(|level| format!(", t{level} AS (SELECT {expression} AS b FROM t{})", level - 1));
    format!("WITH t0 AS ({innermost}){} SELECT max(length(b)) FROM t{levels}", tables.collect::<String>())
}

#[tokio::test]
async fn functions_that_may_need_too_much_are_left_out() {
    let (shop, _) = Shop::filled(Layout::Hot).await;
    for call in [
        "repeat('x', 1000000000)",
        "REPEAT(name, 1000000000)",
        "\"repeat\"(name, 1000000000)",
        "lpad(name, 2000000000, 'x')",
        "rpad(name, 2000000000, 'x')",
        "array_repeat(name, 1000000000)",
        "list_repeat(name, 1000000000)",
        "array_resize([1], 1000000000)",
        "list_resize([1], 1000000000)",
        "range(1000000000)",
        "array_length(generate_series(1, 1000000000))",
        "unnest(range(1, 1000000000))",
        "levenshtein(attributes, attributes)",
        "arrow_cast(NULL, 'FixedSizeBinary(2000000000)')",
        "arrow_try_cast(NULL, 'FixedSizeBinary(2000000000)')",
        "count(*) FILTER (WHERE length(repeat(name, 100)) > 1)",
    ] {
        match shop.try_ask(&format!("SELECT {call} FROM spans"), 10).await {
            Err(SqlError::Invalid(detail)) => assert!(detail.contains("it is left out here"), "{call}: {detail}"),
            other => panic!("{call}: {other:?}"),
        }
    }
    for statement in [
        "SELECT array_transform([1, 2], x -> x + 1)",
        "SELECT CAST(NULL AS BIGINT[1000000000])",
        "SELECT NULL::TEXT[1000000000][]",
    ] {
        let refused = shop.try_ask(statement, 10).await;
        assert!(matches!(refused, Err(SqlError::Invalid(_))), "{statement}: {refused:?}");
    }
    // In FROM they are given batch by batch.
    assert_eq!(shop.rows("SELECT count(*) FROM generate_series(1, 1000000)").await, ["1000000"]);
    assert_eq!(shop.rows("SELECT count(*) FROM range(0, 10)").await, ["10"]);
}

#[tokio::test]
async fn what_functions_make_is_bounded() {
    let (shop, _) = Shop::filled(Layout::Hot).await;
    let long_text = "x".repeat(2_000);
    let mut statements = Vec::new();
    // One row may become larger than each of many.
    let constants = [format!("SELECT '{}' AS b", "x".repeat(20_000)), format!("SELECT '{long_text}' AS b FROM spans")];
    for innermost in ["SELECT string_agg(attributes, ',') AS b FROM spans", &constants[0], &constants[1]] {
        for expression in [
            "b || b",
            "concat(b, b)",
            "concat_ws('', b, b)",
            "concat_ws(b, b, b)",
            "replace(concat(b, 'a'), 'a', 'aaaa')",
            "regexp_replace(b, '(.*)', '\\1\\1')",
            "regexp_replace(b, '', 'xxx', 'g')",
            "overlay(b PLACING b FROM 1 FOR 0)",
            "array_to_string([b, b], '')",
            "array_to_string(['', '', ''], b)",
            "array_to_string(array_replace_all(['x', 'x'], 'x', b), '')",
            "array_to_string(array_concat([b], [b]), '')",
            "array_to_string([b] || [b], '')",
            "array_to_string(array_append([b], b), '')",
            "encode(CAST(b AS BYTEA), 'hex')",
        ] {
            statements.push(nested(expression, innermost));
        }
    }
    for expression in ["b || b", "array_concat(b, b)", "flatten([b, b])"] {
        let lists = nested(expression, "SELECT array_agg(attributes) AS b FROM spans");
        statements.push(lists.replace("length(b)", "array_length(b)"));
    }
    let many = vec!["a"; 2_000].join(", ");
    let long = "SELECT string_agg(attributes || value, '') AS a FROM spans, generate_series(1, 10)";
    statements.push(format!("SELECT max(array_to_string([{many}], ',')) FROM ({long})"));
    statements.push(format!("SELECT max(concat({many})) FROM ({long})"));
    let often = "SELECT attributes || value AS a FROM spans, generate_series(1, 10000)";
    statements.push(format!("SELECT max(replace(a, '\"', '{long_text}')) FROM ({often})"));
    let list = "SELECT array_agg(value) AS l FROM generate_series(1, 20000)";
    statements.push(format!("SELECT array_has_all(l, l) FROM ({list})"));
    statements.push(format!("SELECT l @> array_reverse(l) FROM ({list})"));
    for statement in statements {
        let ended = shop.try_ask(&statement, 10).await;
        let shown: String = statement.chars().take(200).collect();
        assert!(matches!(ended, Err(SqlError::Memory { .. })), "{shown}: {ended:?}");
    }
}

/// They give a part of a list, for which they make copies of all of it.
#[tokio::test]
async fn lists_that_are_compared_within_are_bounded() {
    let (shop, _) = Shop::filled(Layout::Hot).await;
    let long = "SELECT array_agg(attributes || value) AS l FROM spans, generate_series(1, 2000)";
    for call in ["array_distinct(l)", "array_except(l, [''])", "array_intersect(l, [''])", "array_sort(l)"] {
        let ended = shop.try_ask(&format!("SELECT array_length({call}) FROM ({long})"), 10).await;
        let expected = format!("{} would take more", call.split('(').next().unwrap_or_default());
        assert!(
            matches!(&ended, Err(SqlError::Memory { detail, .. }) if detail.contains(&expected)),
            "{call}: {ended:?}"
        );
    }
    let sorted = shop.rows("SELECT array_sort(array_distinct([2, 1, 2])), array_except([1, 2], [2])").await;
    assert_eq!(sorted, ["[1, 2] | [1]"]);
}

#[tokio::test]
async fn what_operators_make_is_bounded() {
    let (shop, _) = Shop::filled(Layout::Hot).await;
    let long = "(SELECT string_agg(attributes, ',') AS s FROM spans)";
    for statement in [
        format!("SELECT count(a.s || b.name) FROM {long} AS a CROSS JOIN spans AS b"),
        format!("SELECT count(a.s || b.name) FROM {long} AS a JOIN spans AS b ON a.s > b.name"),
        format!("SELECT count(a.s) FROM (SELECT s, 'SELECT' AS name FROM {long}) AS a JOIN spans AS b USING (name)"),
        format!("SELECT name || {long} FROM spans"),
        format!("SELECT name, {long} FROM spans"),
        "SELECT count(b.name) FROM (SELECT array_agg(value) AS l FROM generate_series(1, 100000)) AS a, spans AS b \
         WHERE array_length(l) > length(b.name)"
            .to_owned(),
        format!(
            "SELECT count(s), count(e) FROM (SELECT s, unnest(l) AS e FROM {long} AS a, \
             (SELECT array_agg(value) AS l FROM generate_series(1, 2000)) AS b)"
        ),
    ] {
        let ended = shop.try_ask(&statement, 10).await;
        assert!(matches!(ended, Err(SqlError::Memory { .. })), "{statement}: {ended:?}");
    }
    let columns: Vec<String> = (0..1_500).map(|number| format!("name AS c{number}")).collect();
    let wide = format!("SELECT {} FROM spans", columns.join(", "));
    let refused = shop.try_ask(&wide, 10).await;
    assert!(matches!(&refused, Err(SqlError::Invalid(detail)) if detail.contains("columns")), "{refused:?}");
}

#[tokio::test]
async fn what_gathers_rows_takes_memory_from_the_pool() {
    let limits = SqlLimits { memory_bytes_max: 10_000, ..SqlLimits::default() };
    let shop = Shop::open(limits).await;
    for batch in many_spans(150).0 {
        shop.append(batch).await;
    }
    for statement in [
        "SELECT array_agg(value) FROM generate_series(1, 100000)",
        "SELECT array_agg(DISTINCT value) FROM generate_series(1, 100000)",
        "SELECT array_agg(value ORDER BY value % 7) FROM generate_series(1, 100000)",
        "SELECT string_agg(CAST(value AS TEXT), ',') FROM generate_series(1, 100000)",
        "SELECT value % 7, array_agg(value) FROM generate_series(1, 100000) GROUP BY 1",
        "SELECT value % 7, string_agg(CAST(value AS TEXT), ',') FROM generate_series(1, 100000) GROUP BY 1",
        "SELECT median(value) FROM generate_series(1, 100000)",
        "SELECT count(DISTINCT value) FROM generate_series(1, 100000)",
        "SELECT span_id FROM spans ORDER BY duration_nanos",
        "SELECT span_id, count(*) OVER () FROM spans",
        "SELECT max(name) OVER () FROM spans",
        "SELECT count(*) FROM spans AS a JOIN spans AS b ON a.span_id = b.span_id",
        "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT r.x + 1 FROM r, generate_series(1, 4)) SELECT count(*) FROM r",
    ] {
        let ended = shop.try_ask(statement, 10).await;
        assert!(matches!(ended, Err(SqlError::Memory { .. })), "{statement}: {ended:?}");
    }
}

#[tokio::test]
async fn windows_that_gather_values_are_refused() {
    let (shop, spans) = Shop::filled(Layout::Hot).await;
    for call in [
        "array_agg(name) OVER ()",
        "array_agg(name) OVER (ORDER BY start_time)",
        "string_agg(name, ',') OVER ()",
        "median(duration_nanos) OVER ()",
        "approx_distinct(name) OVER ()",
        "approx_percentile_cont(duration_nanos, 0.5) OVER ()",
        "percentile_cont(duration_nanos, 0.5) OVER ()",
        "count(DISTINCT name) OVER ()",
        "sum(DISTINCT duration_nanos) OVER (PARTITION BY kind)",
        "1 + length(string_agg(name, ',') OVER w)",
    ] {
        let window = if call.ends_with("w)") { " WINDOW w AS ()" } else { "" };
        for statement in [
            format!("SELECT {call} FROM spans{window}"),
            format!("SELECT * FROM (SELECT {call} AS w FROM spans{window}) WHERE w IS NOT NULL"),
            format!("SELECT name FROM spans WHERE name IN (SELECT CAST({call} AS TEXT) FROM spans{window})"),
        ] {
            match shop.try_ask(&statement, 10).await {
                Err(SqlError::Invalid(detail)) => assert!(detail.contains("can't be called with OVER"), "{detail}"),
                other => panic!("{statement}: {other:?}"),
            }
        }
    }
    for call in [
        "row_number() OVER (ORDER BY start_time)",
        "rank() OVER (PARTITION BY kind ORDER BY duration_nanos)",
        "ntile(4) OVER (ORDER BY duration_nanos)",
        "lag(name) OVER (PARTITION BY trace_id ORDER BY start_time)",
        "lead(attributes, 2) OVER (ORDER BY start_time)",
        "first_value(name) OVER (PARTITION BY trace_id ORDER BY start_time)",
        "nth_value(name, 2) OVER (ORDER BY start_time)",
        "count(*) OVER ()",
        "sum(duration_nanos) OVER (ORDER BY start_time ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)",
        "avg(duration_nanos) OVER (PARTITION BY kind)",
        "max(name) OVER (PARTITION BY kind)",
        "min(start_time) OVER ()",
        "stddev(duration_nanos) OVER ()",
        "bool_or(status = 'error') OVER (PARTITION BY trace_id)",
    ] {
        let rows = shop.rows(&format!("SELECT {call} FROM spans")).await;
        assert_eq!(rows.len(), spans.len(), "{call}");
    }
}

/// The bounds change nothing else.
#[tokio::test]
async fn bounded_functions_and_operators_give_what_they_gave() {
    let (shop, spans) = Shop::filled(Layout::Hot).await;
    for (expression, expected) in [
        ("'a' || 'b' || 'c'", "abc"),
        ("'a' || NULL", "-"),
        ("'a' || 1", "a1"),
        ("1.5 || 'a'", "1.5a"),
        ("concat('a', NULL, 'b')", "ab"),
        ("concat('a', 1, true)", "a1true"),
        ("concat_ws('-', 'a', NULL, 'b')", "a-b"),
        ("replace('abcabc', 'b', 'xx')", "axxcaxxc"),
        ("regexp_replace('abcabc', '(b)', '<\\1>', 'g')", "a<b>ca<b>c"),
        ("regexp_replace('abc', 'b', 'x')", "axc"),
        ("regexp_match('abc', '(a)(b)')", "[a, b]"),
        ("translate('abc', 'ab', 'xy')", "xyc"),
        ("overlay('abcd' PLACING 'x' FROM 2 FOR 2)", "axd"),
        ("to_char(to_timestamp_nanos(0), '%Y-%m')", "1970-01"),
        ("[1, 2] || [3]", "[1, 2, 3]"),
        ("[1] || 2", "[1, 2]"),
        ("1 || [2]", "[1, 2]"),
        ("[1, 2] @> [1]", "true"),
        ("[1] <@ [1, 2]", "true"),
        ("[]", "[]"),
        ("['a', NULL]", "[a, -]"),
        ("array_has_any([1, 2], [2, 3])", "true"),
        ("array_append([1], 2)", "[1, 2]"),
        ("array_concat([1], [2], [3])", "[1, 2, 3]"),
        ("array_union([1], [1, 2])", "[1, 2]"),
        ("array_replace_all([1, 2, 1], 1, 9)", "[9, 2, 9]"),
        ("array_to_string([1, NULL, 3], ',', '?')", "1,?,3"),
        ("string_to_array('a,b', ',')", "[a, b]"),
        ("MAP {'a': 1, 'b': 2}['b']", "2"),
        ("array_length(string_to_array(array_to_string([1, 2], ','), ','))", "2"),
    ] {
        assert_eq!(shop.rows(&format!("SELECT {expression}")).await, [expected], "{expression}");
        let distinct = shop.rows(&format!("SELECT DISTINCT {expression} FROM spans")).await;
        assert_eq!(distinct, [expected], "{expression} of spans");
    }
    let answer = shop.ask("SELECT name || 'x', concat(name, kind), [kind] FROM spans").await;
    let names: Vec<&str> = answer.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["spans.name || Utf8(\"x\")", "concat(spans.name,spans.kind)", "make_array(spans.kind)"]);

    // What could be too much is made part by part, and is not.
    let long_text = "x".repeat(4_000);
    let kept = format!(
        "SELECT count(*) FROM spans WHERE regexp_replace(attributes, 'no-such', '{long_text}', 'g') = attributes"
    );
    assert_eq!(shop.rows(&kept).await, [spans.len().to_string()]);
    let split = "SELECT array_to_string(string_to_array(span_id || name, 'E'), 'E') = span_id || name, count(*) FROM spans GROUP BY 1";
    assert_eq!(shop.rows(split).await, [format!("true | {}", spans.len())]);
}

#[tokio::test]
async fn no_answer_is_longer_than_its_limit() {
    for bytes_max in [1_000, 5_000, 20_000] {
        let shop = Shop::open(SqlLimits { answer_bytes_max: bytes_max, ..SqlLimits::default() }).await;
        for batch in many_spans(150).0 {
            shop.append(batch).await;
        }
        let answer = shop.try_ask("SELECT attributes FROM spans", 100_000).await.expect("answers");
        assert!(!answer.complete && answer.rows > 0, "{:?}", answer.partial_reason);
        let bytes: usize =
            answer.batches.iter().map(|batch| batch.column(0).as_string::<i32>().value_data().len()).sum();
        assert!(bytes <= bytes_max && bytes > bytes_max / 8, "{bytes} of {bytes_max}");
        let one_row = shop.try_ask("SELECT string_agg(attributes, ',') FROM spans", 10).await;
        assert!(matches!(one_row, Err(SqlError::Memory { .. })), "{one_row:?}");
    }
}

#[tokio::test]
async fn times_that_are_none_are_errors() {
    let (shop, _) = Shop::filled(Layout::Hot).await;
    for expression in [
        "from_unixtime(9223372036854775807)",
        "[from_unixtime(9223372036854775807)]",
        "struct(from_unixtime(9223372036854775807))",
        "from_unixtime(9223372036854775807 - length(name))",
        "from_unixtime(1, 'Nowhere/At_all')",
        "to_timestamp_seconds(9223372036854775807)",
    ] {
        let failed = shop.try_ask(&format!("SELECT {expression} FROM spans"), 10).await;
        assert!(matches!(failed, Err(SqlError::Invalid(_))), "{expression}: {failed:?}");
    }
    let answer = shop.ask("SELECT from_unixtime(1700000000), CAST('2024-01-31' AS DATE), INTERVAL '1 hour'").await;
    assert!(rows_of(&answer)[0].starts_with("2023-11-14T22:13:20 | 2024-01-31"), "{:?}", rows_of(&answer));
}

/// Each join puts together the batches of one side, and with them their buffers: without copying, the list of buffers of a
/// batch was as long as the product of the numbers of batches of all joins below.
#[tokio::test]
async fn many_joins_do_not_multiply_buffers() {
    let shop = Shop::open(SqlLimits { memory_bytes_max: 2 << 30, ..SqlLimits::default() }).await;
    let (batches, spans) = many_spans(JOINED_TRACES);
    for batch in batches {
        shop.append(batch).await;
    }
    let joins: String =
        (2..7).map(|number| format!(" JOIN spans AS s{number} ON s{number}.span_id = s1.span_id")).collect();
    let names: Vec<String> = (1..7).map(|number| format!("count(s{number}.trace_id)")).collect();
    let counted = shop.rows(&format!("SELECT {} FROM spans AS s1{joins}", names.join(" + "))).await;
    assert_eq!(counted, [(6 * spans.len()).to_string()]);
}

const JOINED_TRACES: u64 = 4_000;
