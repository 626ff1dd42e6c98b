//! The shape of trees where it matters to whoever walks them.

use tracehouse_traceql::{
    Attribute, AttributeScope, ComparisonOp, FieldExpr, Intrinsic, LogicalOp, Query, QueryExpr, SourceRange,
    SpansetExpr, Stage, Static, parse,
};

fn condition(query: &str) -> FieldExpr {
    let parsed = parse(query).unwrap_or_else(|error| panic!("{}", error.render(query)));
    let QueryExpr::Spans(pipeline) = parsed.expr else { panic!("not a search") };
    let [Stage::Spanset(SpansetExpr::Filter { condition: Some(condition), .. })] = pipeline.stages.as_slice() else {
        panic!("not one condition")
    };
    condition.clone()
}

#[test]
fn chains_are_flat_and_left_to_right() {
    let FieldExpr::Logical { op: LogicalOp::And, terms, .. } = condition("{ .a && (.b && .c) && .d }") else {
        panic!("a conjunction");
    };
    assert_eq!(terms.len(), 4);

    let FieldExpr::Logical { op: LogicalOp::And, terms, .. } = condition("{ .a || .b && .c }") else {
        panic!("`&&` was read last");
    };
    assert!(matches!(terms[0], FieldExpr::Logical { op: LogicalOp::Or, .. }));
}

#[test]
fn fields_and_values() {
    let FieldExpr::Compare { op: ComparisonOp::Greater, left, right, .. } = condition("{ duration > 1.5ms }") else {
        panic!("a comparison");
    };
    assert!(matches!(*left, FieldExpr::Intrinsic { intrinsic: Intrinsic::Duration, .. }));
    assert!(matches!(*right, FieldExpr::Literal { value: Static::Duration(1_500_000), .. }));

    let cases = [
        ("{ .a }", false, AttributeScope::Any, "a"),
        ("{ span.http.status_code }", false, AttributeScope::Span, "http.status_code"),
        ("{ resource.\"a b\" }", false, AttributeScope::Resource, "a b"),
        ("{ parent.a }", true, AttributeScope::Any, "a"),
        ("{ parent.resource.a }", true, AttributeScope::Resource, "a"),
        ("{ parent.\"resource.a\" }", true, AttributeScope::Any, "resource.a"),
        ("{ event.is-from/x*2 }", false, AttributeScope::Event, "is-from/x*2"),
    ];
    for (query, of_parent, scope, name) in cases {
        let FieldExpr::Attribute { attribute, .. } = condition(query) else { panic!("an attribute") };
        assert_eq!(attribute, Attribute { of_parent, scope, name: name.to_owned() }, "{query}");
    }
}

#[test]
fn layout_does_not_matter_to_equality() {
    let parsed: Vec<Query> = ["{.a=1&&name=`x`}", "{ .a = 1 && // note\n span:name = \"x\" }"]
        .iter()
        .map(|query| parse(query).expect("a valid query"))
        .collect();
    assert_eq!(parsed[0], parsed[1]);
}

#[test]
fn ranges_point_into_the_query() {
    let query = "{ .a = 1 && ( duration > 2s ) }";
    let FieldExpr::Logical { terms, at, .. } = condition(query) else { panic!("a conjunction") };
    let shown = |at: SourceRange| &query[at.bytes()];
    assert_eq!(shown(at), ".a = 1 && ( duration > 2s )");
    assert_eq!(shown(terms[1].at()), "( duration > 2s )");
}

#[test]
fn the_last_hint_counts() {
    let parsed = parse("{ } with(a = 1, a = 2s)").expect("a valid query");
    assert_eq!(parsed.hint("a"), Some(&Static::Duration(2_000_000_000)));
    assert_eq!(parsed.hint("b"), None);
}

/// Answers name fields as Tempo's do, and what they name it can be asked for again.
#[test]
fn labels() {
    let table = [
        ("childCount", "span:childCount"),
        ("span:childCount", "span:childCount"),
        ("span:duration", "duration"),
        ("trace:rootService", "rootServiceName"),
        ("event:name", "event:name"),
        (".a.b", ".a.b"),
        ("resource.\"service.name\"", "resource.service.name"),
        ("parent.service.name", "parent.service.name"),
        ("parent.\"service.name\"", "parent.service.name"),
        ("parent.resource.service.name", "parent.resource.service.name"),
        ("parent.\"resource.service.name\"", "parent.\"resource.service.name\""),
        ("span.größe@1", "span.größe@1"),
        ("span.\"a key\"", "span.\"a key\""),
        ("span.\"a=\\\"b\\\\\"", "span.\"a=\\\"b\\\\\""),
        ("(span:duration - -(trace:duration) + .\"a\")", "duration - -traceDuration + .a"),
    ];
    for (field, label) in table {
        let field = condition(&format!("{{ {field} = nil }}"));
        let FieldExpr::Compare { left: field, .. } = field else { panic!("a comparison") };
        assert_eq!(field.label(), label);
        let FieldExpr::Compare { left: again, .. } = condition(&format!("{{ {label} = nil }}")) else {
            panic!("a comparison")
        };
        assert_eq!(again.to_string(), field.to_string(), "{label}");
    }
}
