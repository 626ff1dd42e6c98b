//! What is read: proven by counting files and row groups, not by trust.

use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId};
use tracehouse_sql::SqlLimits;

use crate::shop::{BEGIN, Layout, Shop, TRACE_INTERVAL, put, trace_id};

/// How many files and row groups a statement looks at span by span, of the files there are.
async fn read(shop: &Shop, query: &str) -> (usize, usize) {
    let answer = shop.ask(query).await;
    assert!(answer.complete, "{query}");
    assert_eq!(answer.scanned.spans_hot, 0, "all spans are in files");
    (answer.scanned.files, answer.scanned.row_groups)
}

#[tokio::test]
async fn filters_keep_files_closed() {
    let (shop, spans) = Shop::filled(Layout::Files).await;
    let (files, row_groups) = read(&shop, "SELECT count(name) FROM spans").await;
    assert!(files > 2 && row_groups >= files, "{files} files and {row_groups} row groups");

    // One trace is in one file; an id that is nobody's in (almost) none.
    let trace = trace_id(40);
    let (_, looked_at) = read(&shop, &format!("SELECT name FROM spans WHERE trace_id = '{trace}'")).await;
    assert_eq!(looked_at, 1, "a trace's id");
    let capitals = trace.to_string().to_uppercase();
    let (_, looked_at) = read(&shop, &format!("SELECT name FROM spans WHERE '{capitals}' = trace_id")).await;
    assert_eq!(looked_at, 1, "a trace's id in capital digits");
    let (_, looked_at) =
        read(&shop, "SELECT name FROM spans WHERE trace_id = '00000000000000000000000000000001'").await;
    assert_eq!(looked_at, 0, "an unknown trace's id");
    let (_, looked_at) = read(&shop, "SELECT name FROM spans WHERE trace_id = 'not an id'").await;
    assert_eq!(looked_at, 0, "no id at all");

    // A minute is in one file, or on the border of two.
    let from = BEGIN + 70 * TRACE_INTERVAL;
    let to = from + TRACE_INTERVAL;
    let minute = format!("start_time >= to_timestamp_nanos({from}) AND start_time < to_timestamp_nanos({to})");
    let (_, looked_at) = read(&shop, &format!("SELECT name FROM spans WHERE {minute}")).await;
    assert!((1..=2).contains(&looked_at), "a minute: {looked_at} row groups");
    let (_, looked_at) = read(&shop, &format!("SELECT name FROM events WHERE {minute}")).await;
    assert!((1..=2).contains(&looked_at), "a minute of events: {looked_at} row groups");

    for nothing in [
        "service_name = 'nobody'",
        "service_name LIKE 'nobody%'",
        "name IN ('no operation', 'nor this')",
        "attr('no.such.key') = 'x'",
        "attr('no.such.key') LIKE '%x%'",
        "resource_attr('http.route') IS NOT NULL",
        "duration_nanos > 1000000000",
    ] {
        let (_, looked_at) = read(&shop, &format!("SELECT name FROM spans WHERE {nothing}")).await;
        assert_eq!(looked_at, 0, "{nothing}");
    }

    // A rare attribute: only files that have it.
    let holders: std::collections::BTreeSet<i64> = spans
        .iter()
        .filter(|span| span.attributes.iter().any(|(key, _)| key == "rare.key"))
        .map(|span| span.start_unix_nanos / (60 * TRACE_INTERVAL))
        .collect();
    let (_, looked_at) = read(&shop, "SELECT name FROM spans WHERE attr('rare.key') = 'needle'").await;
    assert!(looked_at <= holders.len(), "{looked_at} row groups for {} hours", holders.len());
}

#[tokio::test]
async fn a_limit_stops_early() {
    let (shop, _) = Shop::filled(Layout::Files).await;
    let answer = shop.ask("SELECT name FROM spans LIMIT 1").await;
    assert_eq!(answer.rows, 1);
    let (_, all) = read(&shop, "SELECT name FROM spans").await;
    assert!(answer.scanned.row_groups < all, "{} of {all} row groups", answer.scanned.row_groups);
}

/// Attributes are read as columns wherever a call of `attr` stands; else they would be looked up in texts of JSON.
#[tokio::test]
async fn calls_of_attr_become_columns() {
    let (shop, _) = Shop::filled(Layout::Files).await;
    for query in [
        "SELECT attr('http.route') FROM spans",
        "SELECT attr('http.route'), count(*) FROM spans GROUP BY 1 ORDER BY 2 DESC",
        "SELECT count(*) FROM spans WHERE attr('http.route') = 'x'",
        "SELECT upper(attr('http.route')) AS route, attr_int('http.status') + 1 FROM spans AS s WHERE s.name = 'SELECT'",
        "SELECT max(duration_nanos) FROM spans GROUP BY attr('http.route'), attr('code') HAVING attr('code') <> 'x'",
        "WITH w AS (SELECT * FROM spans) SELECT attr('http.route') FROM w ORDER BY attr('code')",
        "SELECT a.attr('http.route') FROM spans a JOIN spans b ON a.trace_id = b.trace_id WHERE b.attr('code') = 'x'",
        "SELECT name FROM spans ORDER BY attr('http.route') LIMIT 3",
        "SELECT attr('http.route') FROM spans UNION ALL SELECT resource_attr('k8s.pod.name') FROM spans",
    ] {
        let plan = shop.rows(&format!("EXPLAIN {query}")).await.join("\n");
        let physical = plan.split("physical_plan").nth(1).expect("an explanation has a physical plan");
        let scans: Vec<&str> = physical.lines().filter(|line| line.contains("SpansExec")).collect();
        assert!(!scans.is_empty(), "{plan}");
        for scan in scans {
            let columns = scan.split("columns=[").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or(scan);
            let in_json = columns.split(", ").any(|column| column == "attributes" || column == "resource_attributes");
            assert!(!in_json, "{query} reads {columns}:\n{plan}");
        }
    }
}

const KEYS: u64 = 60;

/// Spans with lists under many keys: these have no columns of their own.
async fn with_many_keys() -> Shop {
    let shop = Shop::open(SqlLimits::default()).await;
    let mut batch = SpanBatch::new();
    let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
    for number in 0..3_000 {
        for key in (0..3).map(|nth| (number + nth) % KEYS) {
            let list = AnyValue::Array(vec![AnyValue::Int(number as i64 % 7)]);
            put(&mut batch.strings, &mut batch.attributes, &format!("key.{key}"), &list);
        }
        batch.finish_span(SpanFields {
            trace_id: trace_id(number + 1),
            span_id: SpanId((number + 1).to_be_bytes()),
            start_unix_nanos: BEGIN + number as i64,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    shop.append(batch).await;
    shop.store.flush().await.expect("flushes");
    shop
}

/// Bytes read by a statement, and its answer, which is a number.
async fn bytes_and_count(shop: &Shop, query: &str) -> (u64, u64) {
    let answer = shop.ask(query).await;
    let rows = crate::shop::rows_of(&answer);
    (answer.scanned.bytes, rows[0].parse().unwrap_or_else(|error| panic!("{query}: {rows:?}: {error}")))
}

#[tokio::test]
async fn attributes_are_read_once_for_any_number_of_keys() {
    let shop = with_many_keys().await;
    let each = |keys: u64, operator: &str, condition: &dyn Fn(u64) -> String| {
        (0..keys).map(condition).collect::<Vec<_>>().join(operator)
    };
    let count = |condition: &str| format!("SELECT count(*) FROM spans WHERE {condition}");
    let (of_one, found) = bytes_and_count(&shop, &count("attr('key.0') = '[3]'")).await;
    assert!(of_one > 0 && found > 0, "{of_one} bytes, {found} rows");

    let any = each(KEYS, " OR ", &|key| format!("attr('key.{key}') = '[3]'"));
    let (of_any, found_any) = bytes_and_count(&shop, &count(&any)).await;
    assert_eq!((of_any, found_any), (of_one, (0..3_000).filter(|number| number % 7 == 3).count() as u64));

    let all = each(KEYS, " AND ", &|key| format!("(attr('key.{key}') IS DISTINCT FROM '[3]')"));
    assert_eq!(bytes_and_count(&shop, &count(&all)).await, (of_one, 3_000 - found_any));

    // Once for conditions on one key each, once for those on several.
    let pairs = each(KEYS / 2, " AND ", &|key| {
        format!("(attr('key.{}') IS NULL OR attr('key.{}') <> '[3]')", 2 * key, 2 * key + 1)
    });
    let (of_pairs, _) = bytes_and_count(&shop, &count(&pairs)).await;
    assert_eq!(of_pairs, of_one);
    let (of_both, _) = bytes_and_count(&shop, &count(&format!("{pairs} AND {all}"))).await;
    assert!(of_both <= 2 * of_one, "{of_both} bytes");

    let columns = each(KEYS, ", ", &|key| format!("count(attr('key.{key}'))"));
    let answer = shop.ask(&format!("SELECT {columns} FROM spans")).await;
    assert_eq!(answer.scanned.bytes, of_one);
    let counts: Vec<&str> = vec!["150"; KEYS as usize];
    assert_eq!(crate::shop::rows_of(&answer), [counts.join(" | ")]);
}

/// Where all rows of a row group are inside of a range, their starts and durations are not read; where some are, they are.
#[tokio::test]
async fn ranges_that_hold_throughout_are_not_looked_at() {
    let (shop, spans) = Shop::filled(Layout::Files).await;
    let bytes = async |condition: &str| {
        bytes_and_count(&shop, &format!("SELECT count(*) FROM spans WHERE status = 'error'{condition}")).await
    };
    let (plain, errors) = bytes("").await;
    for wide in [
        "start_time >= to_timestamp_nanos(0)",
        "start_time < to_timestamp_nanos(9000000000000000000) AND duration_nanos >= -1",
        "duration_nanos < 1e300 AND to_timestamp_nanos(0) < start_time",
    ] {
        assert_eq!(bytes(&format!(" AND {wide}")).await, (plain, errors), "{wide}");
    }
    let starts: Vec<i64> = spans.iter().map(|span| span.start_unix_nanos).collect();
    let longest = spans.iter().map(|span| span.duration_nanos).max().expect("spans");
    let (first, last) = (starts.iter().min().expect("spans"), starts.iter().max().expect("spans"));
    for step in 0..8 {
        let moment = first + (last - first) / 7 * step;
        for (op, is_inside) in [
            ("<", (|start, moment| start < moment) as fn(i64, i64) -> bool),
            ("<=", |start, moment| start <= moment),
            (">", |start, moment| start > moment),
            (">=", |start, moment| start >= moment),
            ("=", |start, moment| start == moment),
            ("!=", |start, moment| start != moment),
        ] {
            let query = format!("SELECT count(*) FROM spans WHERE start_time {op} to_timestamp_nanos({moment})");
            let expected = starts.iter().filter(|start| is_inside(**start, moment)).count() as u64;
            assert_eq!(bytes_and_count(&shop, &query).await.1, expected, "{query}");
        }
        let limit = longest / 7 * step;
        let query =
            format!("SELECT count(*) FROM spans WHERE duration_nanos <> {limit} AND duration_nanos >= {limit}.0");
        let expected = spans.iter().filter(|span| span.duration_nanos > limit).count() as u64;
        assert_eq!(bytes_and_count(&shop, &query).await.1, expected, "{query}");
    }
}
