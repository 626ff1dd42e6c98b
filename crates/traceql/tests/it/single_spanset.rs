//! `Query::as_single_spanset`: what a simple engine can execute, and what it is told about the rest.

use tracehouse_traceql::parse;

#[test]
fn one_filter_is_found() {
    let cases = [
        ("{ }", None),
        ("({})", None),
        ("{ .a = 1 }", Some(".a = 1")),
        ("({ .a = 1 }) with(most_recent = true)", Some(".a = 1")),
    ];
    for (query, condition) in cases {
        let parsed = parse(query).expect("a valid query");
        let found = parsed.as_single_spanset().expect("a single spanset").map(ToString::to_string);
        assert_eq!(found.as_deref(), condition, "{query}");
    }
}

#[test]
fn everything_else_is_named_with_its_place() {
    let cases = [
        ("{ } | rate()", "a metrics query", "rate()"),
        ("{ .a } >> { .b }", "combining spansets with `>>`", "{ .a } >> { .b }"),
        ("{ } | { .b }", "more than one filter in a pipeline", "{ .b }"),
        ("{ } | count() > 2", "filtering by an aggregate", "count() > 2"),
        ("{ } | by(name)", "`by()`", "by(name)"),
        ("{ } | coalesce()", "`coalesce()`", "coalesce()"),
        ("{ } | select(.a, .b)", "`select()`", "select(.a, .b)"),
        ("({ } | by(name))", "a nested pipeline", "({ } | by(name))"),
    ];
    for (query, what, place) in cases {
        let parsed = parse(query).expect("a valid query");
        let unsupported = parsed.as_single_spanset().expect_err("not a single spanset");
        assert_eq!(unsupported.what, what, "{query}");
        assert_eq!(&query[unsupported.at.bytes()], place, "{query}");
        assert_eq!(unsupported.to_string(), format!("{what} is not supported here"));
    }
}
