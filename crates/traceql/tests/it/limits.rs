//! Hostile queries end in an error, soon and without exhausting the stack.

use tracehouse_traceql::{
    DEPTH_MAX, ErrorKind, PATTERNS_MAX, QUANTILES_MAX, QUERY_BYTES_MAX, STAGES_MAX, compile, parse,
};

fn error_kind(query: &str) -> Option<ErrorKind> {
    compile(query).err().map(|error| error.kind)
}

#[test]
fn a_query_may_be_just_so_long() {
    let filled = |length: usize| format!("{{ .a = \"{}\" }}", "x".repeat(length - "{ .a = \"\" }".len()));
    assert_eq!(error_kind(&filled(QUERY_BYTES_MAX)), None);
    assert_eq!(error_kind(&filled(QUERY_BYTES_MAX + 1)), Some(ErrorKind::Limit));
}

#[test]
fn nesting_is_bounded() {
    let around = |open: &str, middle: &str, close: &str, times: usize| {
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    for times in [500, 5_000] {
        let hostile = [
            format!("{{ {} }}", around("(", ".a", ")", times)),
            format!("{{ {}.a }}", "!".repeat(times)),
            format!("{{ 1 = {}.a }}", "-".repeat(times)),
            format!("{{ .a = 1{} }}", " + 1".repeat(times)),
            format!("{{ .a = 1{} }}", " ^ 1".repeat(times)),
            format!("{{ .a{} }}", " && .b || .c".repeat(times)),
            format!("{{ }}{}", " && { }".repeat(times)),
            format!("{{ }}{}", " >> { }".repeat(times)),
            around("(", "{ }", ")", times),
            format!("{} | count() > 1{}", around("(", "{ }", "", times), ") | count() > 1".repeat(times)),
            format!("{}1 < count()", "-".repeat(times)),
            format!("{{ }} | rate(){}", " | topk(1)".repeat(times)),
            format!("{{ }} | rate(){}", " > 1".repeat(times)),
            "(".repeat(times),
            "{".repeat(times),
            "[".repeat(times),
        ];
        for query in hostile {
            let shown: String = query.chars().take(60).collect();
            assert!(matches!(error_kind(&query), Some(ErrorKind::Limit | ErrorKind::Syntax)), "{shown}");
        }
    }
}

#[test]
fn stages_and_quantiles_are_counted() {
    let stages = |count: usize| format!("{{ }}{}", " | by(name)".repeat(count));
    let quantiles = |count: usize| format!("{{ }} | quantile_over_time(duration{})", ", .5".repeat(count));
    let table = [
        (stages(STAGES_MAX), None),
        (stages(STAGES_MAX + 1), Some(ErrorKind::Limit)),
        (format!("{} | rate()", stages(STAGES_MAX)), None),
        (format!("({}) >> {{ }}", stages(STAGES_MAX + 1)), Some(ErrorKind::Limit)),
        (quantiles(QUANTILES_MAX), None),
        (quantiles(QUANTILES_MAX + 1), Some(ErrorKind::Limit)),
    ];
    for (query, expected) in table {
        assert_eq!(error_kind(&query), expected, "{query}");
    }
}

#[test]
fn the_deepest_tree_survives_printing() {
    for open in ["!(", "-(1 ^ ", "(1 * (2 - "] {
        let per_level = open.matches(['!', '-', '^', '*']).count();
        let closes = open.matches('(').count();
        let times = (DEPTH_MAX - 3) / per_level;
        let query = format!("{{ 1 = {}.a{} }}", open.repeat(times), ")".repeat(times * closes));
        let parsed = parse(&query).unwrap_or_else(|error| panic!("{open}: {error}"));
        assert_eq!(parse(&parsed.to_string()).as_ref(), Ok(&parsed));
    }
}

#[test]
fn long_chains_of_one_operator_are_fine() {
    for operator in ["&&", "||"] {
        let chain = vec![".a = 1"; 5_000].join(operator);
        let query = format!("{{ {chain} }}");
        let parsed = parse(&query).expect("a flat chain");
        assert_eq!(parse(&parsed.to_string()).as_ref(), Ok(&parsed));
    }
    let stages = "{ }".to_owned() + &" | { .a = 1 }".repeat(4_000);
    assert!(parse(&stages).is_ok());
}

#[test]
fn regular_expressions_are_bounded() {
    assert_eq!(error_kind(r#"{ .a =~ "(\\w{400}){400}" }"#), Some(ErrorKind::Pattern));
    let many = vec![".a =~ \"b\""; PATTERNS_MAX + 1].join(" || ");
    assert_eq!(error_kind(&format!("{{ {many} }}")), Some(ErrorKind::Limit));
    let nested = format!("{{ .a =~ \"{}{}\" }}", "(".repeat(500), ")".repeat(500));
    assert_eq!(error_kind(&nested), Some(ErrorKind::Pattern));
}
