//! What is read: proven by counting files and row groups, not by trust.

use crate::shop::{BEGIN, Layout, Shop, TRACE_INTERVAL, trace_id};

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
