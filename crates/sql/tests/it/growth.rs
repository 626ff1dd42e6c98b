//! Statements whose plan grows with every few bytes of their text: refused before they are planned, by every interface, and
//! next to nothing is allocated for them.

use tracehouse_memory::{in_use_bytes, peak_bytes, restart_peak};
use tracehouse_model::TenantId;
use tracehouse_sql::{SqlError, SqlLimits};

use crate::shop::{Layout, Shop};

/// More than a refused statement allocates: that of the store beside it, and the engine's own functions.
const REFUSAL_BYTES_MAX: usize = 64 << 20;

/// Each level is made of the one below.
fn levels(count: usize, first: &str, level: impl Fn(&str) -> String, last: &str) -> String {
    let tables = (1..=count).map(|number| format!(", t{number} AS ({})", level(&format!("t{}", number - 1))));
    format!("WITH t0 AS ({first}){} {}", tables.collect::<String>(), last.replace("LAST", &format!("t{count}")))
}

fn nested(count: usize, innermost: &str, level: impl Fn(&str) -> String) -> String {
    (0..count).fold(innermost.to_owned(), |inner, _| level(&inner))
}

/// Tables, views and subqueries that are named more than once.
fn relations_that_grow() -> Vec<String> {
    let spans = "SELECT name, trace_id, duration_nanos AS n FROM spans";
    let last = "SELECT count(*) FROM LAST";
    let double = |query: &str| {
        let query = query.to_owned();
        levels(20, spans, move |below| query.replace("BELOW", below), last)
    };
    vec![
        double("SELECT * FROM BELOW UNION ALL SELECT * FROM BELOW"),
        double("SELECT * FROM BELOW UNION SELECT * FROM BELOW"),
        double("SELECT * FROM BELOW INTERSECT SELECT * FROM BELOW"),
        double("SELECT a.* FROM BELOW AS a JOIN BELOW AS b ON a.n = b.n"),
        double("SELECT a.* FROM BELOW AS a, BELOW AS b"),
        double("SELECT a.name, a.trace_id, b.n FROM BELOW AS a NATURAL JOIN BELOW AS b"),
        double("SELECT name, trace_id, (SELECT max(n) FROM BELOW) + (SELECT min(n) FROM BELOW) AS n FROM spans"),
        double("SELECT * FROM BELOW WHERE n IN (SELECT n FROM BELOW)"),
        double("SELECT * FROM BELOW AS a WHERE EXISTS (SELECT 1 FROM BELOW AS b WHERE b.n = a.n)"),
        double("SELECT * FROM BELOW WHERE n > ALL (SELECT n FROM BELOW)"),
        double("SELECT * FROM BELOW AS a, LATERAL (SELECT count(*) AS c FROM BELOW AS b WHERE b.n = a.n) AS d"),
        double("SELECT name, trace_id, n FROM (SELECT * FROM (SELECT * FROM BELOW) UNION ALL (SELECT * FROM BELOW))"),
        double("WITH u AS (SELECT * FROM BELOW) SELECT * FROM u UNION ALL SELECT * FROM u"),
        format!("EXPLAIN {}", double("SELECT * FROM BELOW UNION ALL SELECT * FROM BELOW")),
        format!("EXPLAIN ANALYZE {}", double("SELECT * FROM BELOW UNION ALL SELECT * FROM BELOW")),
        levels(
            20,
            spans,
            |below| format!("SELECT * FROM \"{below}\" UNION ALL SELECT * FROM {}", below.to_uppercase()),
            last,
        ),
        format!("SELECT count(*) FROM {}", vec!["traces"; 700].join(" NATURAL JOIN ")),
        vec!["SELECT * FROM traces"; 350].join(" UNION ALL "),
        format!("SELECT * FROM {}", (0..150).map(|at| format!("spans AS s{at}")).collect::<Vec<_>>().join(", ")),
        format!(
            "SELECT s0.name FROM spans AS s0{}",
            (1..200).map(|at| format!(" JOIN spans AS s{at} USING (span_id)")).collect::<String>()
        ),
        levels(
            3,
            "SELECT 1 AS x",
            |below| {
                format!(
                    "WITH RECURSIVE r AS (SELECT x FROM {below} UNION ALL SELECT r.x + 1 FROM r, {below}) {}",
                    vec!["SELECT x FROM r"; 20].join(" UNION ALL ")
                )
            },
            "SELECT count(*) FROM LAST",
        ),
    ]
}

/// Expressions that are written out more than once.
fn expressions_that_grow() -> Vec<String> {
    let filtered = |level: &str| {
        let level = level.to_owned();
        let last = "SELECT b FROM LAST WHERE b = 'x'";
        levels(25, "SELECT name AS b FROM spans", move |below| level.replace("BELOW", below), last)
    };
    let numbers: Vec<String> = (0..9_000).map(|number| number.to_string()).collect();
    let numbers = numbers.join(",");
    let sum = format!("greatest({})", vec!["duration_nanos"; 2_000].join(","));
    let columns = ["name", "kind", "status", "service_name", "scope_name", "trace_state", "span_id", "trace_id"];
    let many_columns: Vec<String> = (0..16).map(|at| format!("duration_nanos + {at}")).collect();
    let rollup = format!("ROLLUP ({}, {})", columns.join(", "), many_columns.join(", "));
    vec![
        filtered("SELECT b || b AS b FROM BELOW"),
        filtered("SELECT concat(b, b) AS b FROM BELOW"),
        filtered("SELECT CASE WHEN b > 'a' THEN b ELSE b END AS b FROM (SELECT b FROM BELOW)"),
        filtered("SELECT b || b AS b FROM BELOW GROUP BY b || b"),
        filtered("SELECT b || b AS c FROM BELOW").replace(" AS c FROM t0", " AS b FROM t0").replace(" AS c", " AS b"),
        filtered("SELECT \"BELOW.b || BELOW.b\" AS b FROM (SELECT b || b FROM BELOW)"),
        levels(
            25,
            "SELECT name AS b FROM spans",
            |below| format!("SELECT struct(b, b) AS b FROM {below}"),
            "SELECT count(*) FROM LAST",
        ),
        levels(
            25,
            "SELECT name AS b FROM spans",
            |below| format!("SELECT first_value(struct(b, b)) AS b FROM {below}"),
            "SELECT count(*) FROM LAST",
        ),
        levels(
            25,
            "SELECT name FROM spans",
            |below| format!("SELECT c || c FROM {below} AS t (c)"),
            "SELECT * FROM LAST AS t (c) WHERE c = 'x'",
        ),
        format!("SELECT {} FROM spans", nested(30, "duration_nanos", |inner| format!("({inner}) BETWEEN 1 AND 2"))),
        format!("SELECT {} FROM spans", nested(30, "name", |inner| format!("coalesce({inner}, kind)"))),
        format!("SELECT {} FROM spans", nested(30, "name", |inner| format!("nvl({inner}, kind)"))),
        format!(
            "SELECT {} FROM spans",
            nested(20, "kind = 'x'", |inner| format!("CASE WHEN {inner} THEN name = 'a' ELSE name = 'b' END"))
        ),
        format!("SELECT {sum} AS x FROM spans GROUP BY x HAVING {}", vec!["x > 1"; 3_000].join(" AND ")),
        format!("SELECT {sum} AS x FROM spans GROUP BY {}", vec!["1"; 400].join(", ")),
        format!("SELECT {sum} AS x FROM spans ORDER BY {}", vec!["1"; 2_000].join(", ")),
        format!("SELECT {} FROM spans WINDOW w AS (PARTITION BY {sum})", vec!["count(*) OVER w"; 1_000].join(", ")),
        format!(
            "SELECT {} FROM spans WINDOW w AS (PARTITION BY {sum})",
            vec!["count(*) OVER (w ORDER BY name)"; 1_000].join(", ")
        ),
        format!("SELECT count(*) FROM spans GROUP BY CUBE ({})", many_columns.join(", ")),
        format!("SELECT count(*) FROM spans GROUP BY CUBE ({0}), CUBE ({0})", columns.join(", ")),
        format!("SELECT count(*) FROM spans GROUP BY {rollup}, {rollup}, {rollup}"),
        format!(
            "WITH t AS ({}) SELECT count(*) FROM t WHERE n IN ({numbers})",
            vec!["SELECT duration_nanos AS n FROM spans"; 300].join(" UNION ALL ")
        ),
        format!(
            "SELECT count(*) FROM spans AS a JOIN spans AS b USING (span_id) JOIN spans AS c USING (span_id) WHERE a.duration_nanos IN ({numbers})"
        ),
        format!(
            "SELECT {} FROM (SELECT struct({}) AS s)",
            vec!["unnest(s)"; 500].join(", "),
            vec!["1"; 5_000].join(", ")
        ),
        levels(
            40,
            "SELECT * FROM spans",
            |below| format!("SELECT *, name AS c_{below} FROM {below}"),
            "SELECT * FROM LAST JOIN LAST AS b USING (span_id)",
        )
        .replace("SELECT * FROM LAST", "SELECT * FROM spans"),
    ]
}

fn is_refusal(error: &SqlError) -> bool {
    matches!(error, SqlError::Invalid(detail) if detail.contains("too large") || detail.contains("too many"))
}

async fn refused(shop: &Shop, statement: &str) {
    let shown: String = statement.chars().take(300).collect();
    let before = in_use_bytes();
    restart_peak();
    let asked = shop.try_ask(statement, 10).await.map(|answer| answer.rows);
    assert!(matches!(&asked, Err(error) if is_refusal(error)), "{shown}: {asked:?}");
    let described = shop.engine.schema(&TenantId::default(), statement).await.map(|schema| schema.fields().len());
    assert!(matches!(&described, Err(error) if is_refusal(error)), "{shown}: {described:?}");
    let grown = peak_bytes().saturating_sub(before);
    assert!(grown < REFUSAL_BYTES_MAX, "{shown}: {grown} bytes");
}

#[tokio::test]
async fn relations_that_are_named_often_are_refused() {
    let (shop, _) = Shop::filled(Layout::Hot).await;
    for statement in relations_that_grow() {
        refused(&shop, &statement).await;
    }
    assert_eq!(shop.ask("SELECT count(*) FROM traces").await.rows, 1);
}

#[tokio::test]
async fn expressions_that_are_written_out_often_are_refused() {
    let (shop, _) = Shop::filled(Layout::Hot).await;
    for statement in expressions_that_grow() {
        refused(&shop, &statement).await;
    }
    assert_eq!(shop.ask("SELECT count(*) FROM traces").await.rows, 1);
}

/// As much as is allowed of each, and the most that one statement allocates for its plan.
#[tokio::test]
async fn plans_that_are_allowed_stay_small() {
    const PLAN_BYTES_MAX: usize = 128 << 20;
    let shop = Shop::open(SqlLimits::default()).await;
    let union = |count: usize| vec!["SELECT name, duration_nanos AS n FROM spans"; count].join(" UNION ALL ");
    let numbers = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let joins = |count: usize| {
        (1..count).map(|at| format!(" JOIN spans AS s{at} ON s{at}.span_id = s0.span_id")).collect::<String>()
    };
    for statement in [
        union(390),
        vec!["SELECT * FROM traces"; 150].join(" UNION ALL "),
        format!("WITH t AS ({}) SELECT count(*) FROM t WHERE n > 5", union(300)),
        format!("WITH t AS ({}) SELECT count(*) FROM t WHERE n IN ({})", union(10), numbers(300)),
        format!("SELECT count(*) FROM spans WHERE duration_nanos IN ({})", numbers(9_000)),
        format!("SELECT s0.name FROM spans AS s0{} WHERE s0.kind = 'x'", joins(24)),
        levels(5, &union(1), |below| format!("SELECT * FROM {below} UNION ALL SELECT * FROM {below}"), "SELECT count(*) FROM LAST"),
        levels(8, "SELECT name AS b FROM spans", |below| format!("SELECT b || b AS b FROM {below}"), "SELECT b FROM LAST WHERE b = 'x'"),
        "SELECT count(*) FROM spans GROUP BY CUBE (name, kind, status, service_name, scope_name, span_id, trace_id, trace_state)".to_owned(),
        format!("SELECT {} FROM spans", nested(10, "name", |inner| format!("coalesce({inner}, kind)"))),
    ] {
        let shown: String = statement.chars().take(200).collect();
        let before = in_use_bytes();
        restart_peak();
        let answered = shop.try_ask(&format!("EXPLAIN {statement}"), 10).await.map(|answer| answer.rows);
        assert!(answered.is_ok(), "{shown}: {answered:?}");
        let grown = peak_bytes().saturating_sub(before);
        assert!(grown < PLAN_BYTES_MAX, "{shown}: {grown} bytes");
    }
}

/// Each row becomes a group in every set. Once, all sets of a batch were gathered before anybody asked what they take.
#[tokio::test]
async fn sets_of_groups_take_little_more_than_they_may() {
    const MAY_BYTES: usize = 64 << 20;
    let shop = Shop::open(SqlLimits { memory_bytes_max: MAY_BYTES, ..SqlLimits::default() }).await;
    let columns: Vec<String> = (0..10).map(|column| format!("value + {column} AS c{column}")).collect();
    let names: Vec<String> = (0..10).map(|column| format!("c{column}")).collect();
    let (columns, names) = (columns.join(", "), names.join(", "));
    for sets in
        [format!("CUBE ({names})"), format!("ROLLUP ({names})"), format!("CUBE (c0, c1, c2, c3, c4), ROLLUP ({names})")]
    {
        let statement =
            format!("SELECT count(*) FROM (SELECT {columns} FROM generate_series(1, 1000000)) GROUP BY {sets}");
        let before = in_use_bytes();
        restart_peak();
        let ended = shop.try_ask(&statement, 10).await;
        assert!(matches!(ended, Err(SqlError::Memory { .. })), "{sets}: {ended:?}");
        // Tables are there twice while they grow.
        let grown = peak_bytes().saturating_sub(before);
        assert!(grown < 4 * MAY_BYTES, "{sets}: {grown} bytes");
    }
    // What a statement that has ended held is given back a moment later.
    let shop = Shop::open(SqlLimits { memory_bytes_max: MAY_BYTES, ..SqlLimits::default() }).await;
    let few = "SELECT count(*) FROM (SELECT value % 3 AS a, value % 5 AS b FROM generate_series(1, 20000)) GROUP BY CUBE (a, b)";
    let mut counts = shop.rows(few).await;
    counts.sort_by_key(|count| count.parse::<u64>().expect("a number"));
    let expected: Vec<u64> =
        [vec![1333; 10], vec![1334; 5], vec![4000; 5], vec![6666; 1], vec![6667; 2], vec![20000]].concat();
    assert_eq!(counts, expected.iter().map(u64::to_string).collect::<Vec<_>>());
}
