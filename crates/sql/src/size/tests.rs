//! What is refused, what is not, and what is counted.

use super::*;

fn check(text: &str) -> Result<(), SqlError> {
    let mut parser = DFParserBuilder::new(text).build().expect("a parser");
    check_size(&parser.parse_statement().unwrap_or_else(|error| panic!("{text}: {error}")))
}

fn amount(text: &str) -> (u64, u64, u64) {
    let mut parser = DFParserBuilder::new(text).build().expect("a parser");
    let statement = parser.parse_statement().expect("a statement");
    let query = query_of(&statement).expect("a query");
    let sizes = Sizes { traces: traces().expect("the view is right"), arguments_max: arguments_max(query) };
    let amount = sizes.query(query, &Scope::default(), None).expect("small").amount;
    (amount.relations, amount.expressions, amount.fields)
}

#[test]
fn what_is_named_counts_as_often() {
    // Relations: one for each table, query, join, union and alias.
    assert_eq!(amount("SELECT 1"), (1, 1, 1));
    assert_eq!(amount("SELECT name, kind FROM spans"), (2, 2, 17 + 2));
    assert_eq!(amount("SELECT * FROM spans"), (2, 17, 2 * 17));
    assert_eq!(amount("SELECT a.name FROM spans a, events b"), (6, 1, 2 * 17 + 2 * 9 + 26 + 1));
    let one = amount("WITH a AS (SELECT name FROM spans) SELECT name FROM a");
    let two = amount("WITH a AS (SELECT name FROM spans) SELECT name FROM a UNION ALL SELECT name FROM a");
    assert_eq!((one.0, two.0), (2 + 2 + 1 + 1, 2 + 2 * (2 + 1 + 1) + 1));
    let view = amount("SELECT trace_id FROM traces");
    assert!(view.0 > 3 && view.1 > 30, "{view:?}");
}

#[test]
fn ordinary_statements_are_planned() {
    let in_list: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    let unions = vec!["SELECT name, kind FROM spans WHERE status = 'error'"; 300].join(" UNION ALL ");
    let joins: String = (1..20).map(|at| format!(" JOIN spans AS s{at} USING (trace_id)")).collect();
    for statement in [
        "SELECT * FROM traces AS a JOIN traces AS b ON a.root_name = b.root_name WHERE a.spans BETWEEN 1 AND 5",
        "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r WHERE x < 100) SELECT * FROM r",
        "SELECT service_name, kind, status, count(*) FROM spans GROUP BY CUBE (service_name, kind, status)",
        "SELECT sum(duration_nanos) OVER w, max(name) OVER w FROM spans WINDOW w AS (PARTITION BY kind ORDER BY start_time)",
        "SELECT name FROM spans s WHERE EXISTS (SELECT 1 FROM events e WHERE e.span_id = s.span_id AND s.kind = 'server')",
        &format!("SELECT count(*) FROM spans WHERE duration_nanos IN ({})", in_list.join(", ")),
        &unions,
        &format!("SELECT s.name FROM spans AS s{joins} WHERE s.kind = 'server'"),
    ] {
        check(statement).unwrap_or_else(|error| panic!("{statement:.200}: {error}"));
    }
}
