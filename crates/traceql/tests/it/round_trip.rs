//! Property: every tree the parser could have built survives printing and parsing.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tracehouse_traceql::{
    AggregateFunction, ArithmeticOp, Attribute, AttributeScope, ComparisonOp, FieldExpr, Hint, Intrinsic, Kind,
    LogicalOp, MetricsExpr, MetricsFunction, Pipeline, Query, QueryExpr, Relation, ScalarExpr, SecondStage,
    SourceRange, SpansetExpr, SpansetOp, Stage, Static, Status, StructuralMode, parse, validate,
};

const AT: SourceRange = SourceRange { start: 0, end: 0 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn trees_survive_printing(query in query()) {
        let printed = query.to_string();
        match parse(&printed) {
            Ok(again) => prop_assert_eq!(again, query, "{}", printed),
            Err(error) => prop_assert!(false, "{}", error.render(&printed)),
        }
    }

    /// Whatever it says, validation says it without panicking, in one line, about a place in the query.
    #[test]
    fn any_tree_can_be_validated(query in query()) {
        let printed = query.to_string();
        let parsed = parse(&printed).expect("printed queries parse");
        if let Err(error) = validate(&parsed) {
            prop_assert!(printed.get(error.at.bytes()).is_some());
            prop_assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn any_text_is_refused_or_read_politely(text in "[ -~µ\n]{0,60}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.render(&text).contains("error: "));
        }
    }
}

fn query() -> BoxedStrategy<Query> {
    let expr = prop_oneof![
        3 => pipeline().prop_map(QueryExpr::Spans),
        2 => metrics().prop_map(QueryExpr::Metrics),
    ];
    (expr, vec(hint(), 0..3)).prop_map(|(expr, hints)| Query { expr, hints }).boxed()
}

fn hint() -> BoxedStrategy<Hint> {
    ("[a-z_][a-z0-9_]{0,8}", scalar_static()).prop_map(|(key, value)| Hint { key, value, at: AT }).boxed()
}

fn pipeline() -> BoxedStrategy<Pipeline> {
    let later = prop_oneof![
        3 => spanset().prop_map(Stage::Spanset),
        3 => scalar_filter(),
        1 => field_expr().prop_map(|field| Stage::By { field, at: AT }),
        1 => Just(Stage::Coalesce { at: AT }),
        1 => vec(plain_field(), 1..4).prop_map(|fields| Stage::Select { fields, at: AT }),
    ];
    let first = prop_oneof![
        5 => spanset().prop_map(Stage::Spanset),
        1 => scalar_filter(),
        1 => field_expr().prop_map(|field| Stage::By { field, at: AT }),
    ];
    (first, vec(later, 0..3))
        .prop_map(|(first, mut stages)| {
            stages.insert(0, first);
            Pipeline { stages }
        })
        .boxed()
}

fn spanset() -> BoxedStrategy<SpansetExpr> {
    let filter = option::of(field_expr()).prop_map(|condition| SpansetExpr::Filter { condition, at: AT });
    filter
        .prop_recursive(3, 12, 2, |inner| {
            let stages = vec(inner.clone().prop_map(Stage::Spanset), 2..4);
            prop_oneof![
                3 => (spanset_op(), inner.clone(), inner).prop_map(|(op, left, right)| SpansetExpr::Combine {
                    op,
                    left: Box::new(left),
                    right: Box::new(right),
                    at: AT,
                }),
                1 => stages.prop_map(|stages| SpansetExpr::Pipeline { pipeline: Pipeline { stages }, at: AT }),
                1 => scalar_filter().prop_map(|stage| SpansetExpr::Pipeline {
                    pipeline: Pipeline { stages: vec![stage] },
                    at: AT,
                }),
            ]
        })
        .boxed()
}

fn spanset_op() -> BoxedStrategy<SpansetOp> {
    let relation =
        select(vec![Relation::Child, Relation::Descendant, Relation::Parent, Relation::Ancestor, Relation::Sibling]);
    let mode = select(vec![StructuralMode::Related, StructuralMode::NotRelated, StructuralMode::Union]);
    prop_oneof![
        Just(SpansetOp::And),
        Just(SpansetOp::Or),
        (relation, mode).prop_map(|(relation, mode)| SpansetOp::Structural { relation, mode }),
    ]
    .boxed()
}

fn scalar_filter() -> BoxedStrategy<Stage> {
    (ordering_op(), scalar(), scalar())
        .prop_map(|(op, left, right)| Stage::ScalarFilter { op, left, right, at: AT })
        .boxed()
}

fn scalar() -> BoxedStrategy<ScalarExpr> {
    let leaf = prop_oneof![
        number().prop_map(|value| ScalarExpr::Literal { value, at: AT }),
        aggregate().prop_map(|function| ScalarExpr::Aggregate { function, at: AT }),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let stage =
            option::of(field_expr()).prop_map(|condition| Stage::Spanset(SpansetExpr::Filter { condition, at: AT }));
        prop_oneof![
            (arithmetic_op(), inner.clone(), inner.clone()).prop_map(|(op, left, right)| ScalarExpr::Arithmetic {
                op,
                left: Box::new(left),
                right: Box::new(right),
                at: AT,
            }),
            inner.clone().prop_map(|operand| ScalarExpr::Negate { operand: Box::new(operand), at: AT }),
            (vec(stage, 1..3), inner).prop_map(|(stages, scalar)| ScalarExpr::Pipeline {
                pipeline: Pipeline { stages },
                scalar: Box::new(scalar),
                at: AT,
            }),
        ]
    })
    .boxed()
}

fn aggregate() -> BoxedStrategy<AggregateFunction> {
    prop_oneof![
        Just(AggregateFunction::Count),
        field_expr().prop_map(AggregateFunction::Min),
        field_expr().prop_map(AggregateFunction::Max),
        field_expr().prop_map(AggregateFunction::Sum),
        field_expr().prop_map(AggregateFunction::Avg),
    ]
    .boxed()
}

/// A whole metrics query: never a bare number.
fn metrics() -> BoxedStrategy<MetricsExpr> {
    let series = (pipeline(), metrics_function(), vec(plain_field(), 0..3))
        .prop_map(|(spans, function, by)| MetricsExpr::Series { spans, function, by, at: AT });
    series
        .prop_recursive(3, 6, 2, |inner| {
            let operator =
                select(vec![ArithmeticOp::Add, ArithmeticOp::Subtract, ArithmeticOp::Multiply, ArithmeticOp::Divide]);
            let literal = number().prop_map(|value| MetricsExpr::Literal { value, at: AT });
            let sides = prop_oneof![
                (inner.clone(), inner.clone()),
                (inner.clone(), literal.clone()),
                (literal, inner.clone()),
            ];
            prop_oneof![
                (inner, second_stage()).prop_map(|(input, stage)| MetricsExpr::Then {
                    input: Box::new(input),
                    stage,
                    at: AT,
                }),
                (operator, sides).prop_map(|(op, (left, right))| MetricsExpr::Arithmetic {
                    op,
                    left: Box::new(left),
                    right: Box::new(right),
                    at: AT,
                }),
            ]
        })
        .boxed()
}

fn second_stage() -> BoxedStrategy<SecondStage> {
    prop_oneof![
        any::<i64>().prop_map(SecondStage::TopK),
        any::<i64>().prop_map(SecondStage::BottomK),
        (ordering_op(), number()).prop_map(|(op, value)| SecondStage::Filter { op, value }),
    ]
    .boxed()
}

fn metrics_function() -> BoxedStrategy<MetricsFunction> {
    let compare = (option::of(field_expr()), option::of((any::<i64>(), option::of(any::<(i64, i64)>()))));
    prop_oneof![
        Just(MetricsFunction::Rate),
        Just(MetricsFunction::CountOverTime),
        plain_field().prop_map(MetricsFunction::SumOverTime),
        plain_field().prop_map(MetricsFunction::MinOverTime),
        plain_field().prop_map(MetricsFunction::MaxOverTime),
        plain_field().prop_map(MetricsFunction::AvgOverTime),
        plain_field().prop_map(MetricsFunction::HistogramOverTime),
        (plain_field(), vec(finite_float(), 1..4))
            .prop_map(|(field, quantiles)| MetricsFunction::QuantileOverTime { field, quantiles }),
        compare.prop_map(|(selection, options)| MetricsFunction::Compare {
            selection,
            top: options.map(|(top, _)| top),
            window: options.and_then(|(_, window)| window),
        }),
    ]
    .boxed()
}

fn field_expr() -> BoxedStrategy<FieldExpr> {
    let leaf = prop_oneof![
        3 => plain_field(),
        2 => scalar_static().prop_map(|value| FieldExpr::Literal { value, at: AT }),
        1 => array().prop_map(|value| FieldExpr::Literal { value, at: AT }),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let pair = || (inner.clone().prop_map(Box::new), inner.clone().prop_map(Box::new));
        prop_oneof![
            (select(vec![LogicalOp::And, LogicalOp::Or]), inner.clone(), inner.clone())
                .prop_map(|(op, left, right)| FieldExpr::logical(op, left, right)),
            (comparison_op(), pair()).prop_map(|(op, (left, right))| FieldExpr::Compare { op, left, right, at: AT }),
            (arithmetic_op(), pair()).prop_map(|(op, (left, right))| FieldExpr::Arithmetic { op, left, right, at: AT }),
            inner.clone().prop_map(|operand| FieldExpr::Not { operand: Box::new(operand), at: AT }),
            inner.prop_map(|operand| FieldExpr::Negate { operand: Box::new(operand), at: AT }),
        ]
    })
    .boxed()
}

fn plain_field() -> BoxedStrategy<FieldExpr> {
    let scope = select(vec![
        AttributeScope::Any,
        AttributeScope::Span,
        AttributeScope::Resource,
        AttributeScope::Event,
        AttributeScope::Link,
        AttributeScope::Instrumentation,
    ]);
    let name = prop_oneof![
        4 => "[a-z][a-z0-9_.-]{0,12}",
        1 => "(span|resource|5)\\.[a-z]{1,3}",
        1 => any::<String>().prop_filter("a name", |name| !name.is_empty()),
    ];
    let attribute = (any::<bool>(), scope, name).prop_map(|(of_parent, scope, name)| FieldExpr::Attribute {
        attribute: Attribute { of_parent, scope, name },
        at: AT,
    });
    let intrinsic =
        select(Intrinsic::all().collect::<Vec<_>>()).prop_map(|intrinsic| FieldExpr::Intrinsic { intrinsic, at: AT });
    prop_oneof![2 => attribute, 1 => intrinsic].boxed()
}

fn scalar_static() -> BoxedStrategy<Static> {
    prop_oneof![4 => value(), 1 => Just(Static::Nil)].boxed()
}

fn array() -> BoxedStrategy<Static> {
    vec(value(), 1..4).prop_map(Static::Array).boxed()
}

fn value() -> BoxedStrategy<Static> {
    let status = select(vec![Status::Ok, Status::Error, Status::Unset]);
    let kind =
        select(vec![Kind::Unspecified, Kind::Internal, Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer]);
    prop_oneof![
        2 => any::<String>().prop_map(Static::String),
        2 => number(),
        1 => any::<bool>().prop_map(Static::Bool),
        1 => status.prop_map(Static::Status),
        1 => kind.prop_map(Static::Kind),
    ]
    .boxed()
}

fn number() -> BoxedStrategy<Static> {
    let whole = || prop_oneof![any::<i64>(), -100i64..100, Just(i64::MIN), Just(i64::MAX)];
    prop_oneof![
        whole().prop_map(Static::Int),
        whole().prop_map(Static::Duration),
        finite_float().prop_map(Static::Float),
    ]
    .boxed()
}

fn finite_float() -> BoxedStrategy<f64> {
    prop_oneof![any::<f64>().prop_filter("finite", |value| value.is_finite()), -10.0..10.0f64, Just(-0.0)].boxed()
}

fn comparison_op() -> BoxedStrategy<ComparisonOp> {
    prop_oneof![5 => ordering_op(), 1 => Just(ComparisonOp::Matches), 1 => Just(ComparisonOp::NotMatches)].boxed()
}

fn ordering_op() -> BoxedStrategy<ComparisonOp> {
    select(vec![
        ComparisonOp::Equal,
        ComparisonOp::NotEqual,
        ComparisonOp::Less,
        ComparisonOp::LessEqual,
        ComparisonOp::Greater,
        ComparisonOp::GreaterEqual,
    ])
    .boxed()
}

fn arithmetic_op() -> BoxedStrategy<ArithmeticOp> {
    select(vec![
        ArithmeticOp::Add,
        ArithmeticOp::Subtract,
        ArithmeticOp::Multiply,
        ArithmeticOp::Divide,
        ArithmeticOp::Modulo,
        ArithmeticOp::Power,
    ])
    .boxed()
}
