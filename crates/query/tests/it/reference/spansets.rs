//! Pipelines over one trace.

use std::collections::{BTreeMap, BTreeSet};

use tracehouse_model::{AnyValue, Span, TraceId};
use tracehouse_traceql::{
    AggregateFunction, FieldExpr, Pipeline, QueryExpr, Relation, ScalarExpr, SpansetExpr, SpansetOp, Stage, Static,
    StructuralMode,
};

use super::expression::{V, calculate, compare, holds, value};
use super::{SpansetResult, Trace, TraceResult};

pub(super) type Rows = BTreeSet<usize>;

#[derive(Debug, Clone)]
pub(super) struct Spanset {
    by: Vec<(String, Option<AnyValue>)>,
    pub(super) rows: Rows,
}

/// Traces of which a query leaves spans, of those that are selected.
pub(crate) fn search(spans: &[Span], query: &str, selected: &dyn Fn(&Span) -> bool) -> BTreeMap<TraceId, TraceResult> {
    let query = tracehouse_traceql::compile(query).expect("the query is right");
    let QueryExpr::Spans(pipeline) = query.expr else { panic!("a query that selects spans") };
    let mut found = BTreeMap::new();
    for (id, trace) in Trace::all(spans) {
        let spansets = run(&trace, &pipeline, selected);
        if !spansets.is_empty() {
            let keyed = |spanset: Spanset| SpansetResult {
                spans: spanset.rows.iter().map(|&row| trace.key(row)).collect(),
                by: spanset.by,
            };
            found.insert(id, spansets.into_iter().map(keyed).collect());
        }
    }
    found
}

pub(super) fn run(trace: &Trace<'_>, pipeline: &Pipeline, selected: &dyn Fn(&Span) -> bool) -> Vec<Spanset> {
    let all: Rows = (0..trace.spans.len()).collect();
    let mut spansets = stages(trace, pipeline, vec![Spanset { by: Vec::new(), rows: all.clone() }], &all);
    spansets.iter_mut().for_each(|spanset| spanset.rows.retain(|&row| selected(trace.spans[row])));
    spansets.retain(|spanset| !spanset.rows.is_empty());
    spansets
}

fn stages(trace: &Trace<'_>, pipeline: &Pipeline, begin: Vec<Spanset>, all: &Rows) -> Vec<Spanset> {
    let mut spansets = begin;
    for stage in &pipeline.stages {
        spansets = match stage {
            Stage::Spanset(expr) => spansets
                .into_iter()
                .map(|spanset| Spanset { rows: select(trace, expr, &spanset.rows, all), by: spanset.by })
                .collect(),
            Stage::ScalarFilter { op, left, right, .. } => spansets
                .into_iter()
                .filter(|spanset| {
                    let (left, right) =
                        (scalar(trace, left, &spanset.rows, all), scalar(trace, right, &spanset.rows, all));
                    compare(*op, &left, &right)
                })
                .collect(),
            Stage::By { field, .. } => spansets.iter().flat_map(|spanset| split(trace, field, spanset)).collect(),
            Stage::Coalesce { .. } => vec![Spanset { by: Vec::new(), rows: united(&spansets) }],
            Stage::Select { .. } => spansets,
        };
        spansets.retain(|spanset| !spanset.rows.is_empty());
    }
    spansets
}

pub(super) fn united(spansets: &[Spanset]) -> Rows {
    spansets.iter().flat_map(|spanset| spanset.rows.iter().copied()).collect()
}

fn split(trace: &Trace<'_>, field: &FieldExpr, spanset: &Spanset) -> Vec<Spanset> {
    let mut groups: Vec<(Option<AnyValue>, Rows)> = Vec::new();
    for &row in &spanset.rows {
        let shown = value(trace, row, field).shown();
        match groups.iter_mut().find(|(known, _)| *known == shown) {
            Some((_, rows)) => drop(rows.insert(row)),
            None => groups.push((shown, Rows::from([row]))),
        }
    }
    groups
        .into_iter()
        .map(|(shown, rows)| Spanset { by: spanset.by.iter().cloned().chain([(field.label(), shown)]).collect(), rows })
        .collect()
}

fn select(trace: &Trace<'_>, expr: &SpansetExpr, from: &Rows, all: &Rows) -> Rows {
    match expr {
        SpansetExpr::Filter { condition, .. } => from
            .iter()
            .copied()
            .filter(|&row| condition.as_ref().is_none_or(|condition| holds(trace, row, condition)))
            .collect(),
        SpansetExpr::Pipeline { pipeline, .. } => {
            united(&stages(trace, pipeline, vec![Spanset { by: Vec::new(), rows: from.clone() }], all))
        }
        SpansetExpr::Combine { op, left, right, .. } => {
            let (left, right) = (select(trace, left, from, all), select(trace, right, from, all));
            match op {
                SpansetOp::And if left.is_empty() || right.is_empty() => Rows::new(),
                SpansetOp::And | SpansetOp::Or => left.union(&right).copied().collect(),
                SpansetOp::Structural { relation, mode } => {
                    let related = |one: usize, other: usize| stands(trace, *relation, one, other);
                    let of_right = |row: &usize| left.iter().any(|&one| related(one, *row));
                    let of_left = |row: &usize| right.iter().any(|&other| related(*row, other));
                    match mode {
                        StructuralMode::Related => right.iter().copied().filter(of_right).collect(),
                        StructuralMode::NotRelated => right.iter().copied().filter(|row| !of_right(row)).collect(),
                        StructuralMode::Union => {
                            right.iter().copied().filter(of_right).chain(left.iter().copied().filter(of_left)).collect()
                        }
                    }
                }
            }
        }
    }
}

/// Whether `right` is to `left` what the relation says.
fn stands(trace: &Trace<'_>, relation: Relation, left: usize, right: usize) -> bool {
    match relation {
        Relation::Child => trace.parent[right] == Some(left),
        Relation::Descendant => trace.ancestors(right).contains(&left),
        Relation::Parent => trace.parent[left] == Some(right),
        Relation::Ancestor => trace.ancestors(left).contains(&right),
        Relation::Sibling => {
            let named = |row: usize| Some(trace.spans[row].parent_span_id).filter(|id| !id.is_none());
            left != right
                && match (trace.parent[left], trace.parent[right]) {
                    (None, None) => named(left).is_some() && named(left) == named(right),
                    (one, other) => one == other,
                }
        }
    }
}

fn scalar(trace: &Trace<'_>, expr: &ScalarExpr, rows: &Rows, all: &Rows) -> V {
    match expr {
        ScalarExpr::Literal { value, .. } => match value {
            Static::Int(int) | Static::Duration(int) => V::Number(*int as f64),
            Static::Float(number) => V::Number(*number),
            other => panic!("{other:?} is no number"),
        },
        ScalarExpr::Aggregate { function, .. } => aggregate(trace, function, rows),
        ScalarExpr::Arithmetic { op, left, right, .. } => {
            calculate(*op, &scalar(trace, left, rows, all), &scalar(trace, right, rows, all))
        }
        ScalarExpr::Negate { operand, .. } => {
            scalar(trace, operand, rows, all).number().map_or(V::Missing, |number| V::Number(-number))
        }
        ScalarExpr::Pipeline { pipeline, scalar: inner, .. } => {
            let own = stages(trace, pipeline, vec![Spanset { by: Vec::new(), rows: all.clone() }], all);
            scalar(trace, inner, &united(&own), all)
        }
    }
}

fn aggregate(trace: &Trace<'_>, function: &AggregateFunction, rows: &Rows) -> V {
    let numbers = |field: &FieldExpr| -> Vec<f64> {
        rows.iter().flat_map(|&row| value(trace, row, field).numbers()).filter(|number| !number.is_nan()).collect()
    };
    let of = |field: &FieldExpr, compute: &dyn Fn(&[f64]) -> f64| {
        let numbers = numbers(field);
        if numbers.is_empty() { V::Missing } else { V::Number(compute(&numbers)) }
    };
    match function {
        AggregateFunction::Count => V::Number(rows.len() as f64),
        AggregateFunction::Min(field) => of(field, &|numbers| numbers.iter().copied().fold(f64::NAN, f64::min)),
        AggregateFunction::Max(field) => of(field, &|numbers| numbers.iter().copied().fold(f64::NAN, f64::max)),
        AggregateFunction::Sum(field) => of(field, &|numbers| numbers.iter().sum()),
        AggregateFunction::Avg(field) => of(field, &|numbers| numbers.iter().sum::<f64>() / numbers.len() as f64),
    }
}
