//! What is computed from finished series: the best of them, comparisons, arithmetic.

use tracehouse_model::AnyValue;
use tracehouse_traceql::{ArithmeticOp, ComparisonOp, SecondStage};

use crate::request::{Exemplar, Series};
use crate::value::{Value, calculate, compare, number};

pub(super) enum Operand {
    Series(Vec<Series>),
    Literal(f64),
}

/// Labels as one text, to sort and join by.
pub(crate) fn label_key(labels: &[(String, Option<AnyValue>)]) -> String {
    let mut sorted: Vec<_> = labels.iter().collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    let mut key = String::new();
    for (name, value) in sorted {
        key.push_str(name);
        key.push('\u{1}');
        if let Some(value) = value {
            value.write_canonical_json(&mut key);
        }
        key.push('\u{2}');
    }
    key
}

pub(super) fn second_stage(mut series: Vec<Series>, stage: &SecondStage) -> Vec<Series> {
    match stage {
        SecondStage::TopK(count) => keep_best(&mut series, *count, |left, right| right.total_cmp(&left)),
        SecondStage::BottomK(count) => keep_best(&mut series, *count, |left, right| left.total_cmp(&right)),
        SecondStage::Filter { op, value } => keep_points(&mut series, *op, seconds(value)),
    }
    series.retain(has_values);
    series
}

/// A literal beside series: durations are in seconds there.
pub(super) fn seconds(literal: &tracehouse_traceql::Static) -> f64 {
    let value = number(literal);
    if matches!(literal, tracehouse_traceql::Static::Duration(_)) { value / 1e9 } else { value }
}

/// Keeps in each step the points of the `count` first series; of equals those with the first labels.
fn keep_best(series: &mut [Series], count: i64, order: impl Fn(f64, f64) -> std::cmp::Ordering) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    series.sort_by_cached_key(|series| label_key(&series.labels));
    let steps = series.first().map_or(0, |series| series.values.len());
    for step in 0..steps {
        let mut ranked: Vec<(usize, f64)> =
            series.iter().enumerate().filter_map(|(at, series)| Some((at, series.values[step]?))).collect();
        ranked.sort_by(|left, right| order(left.1, right.1));
        for (at, _) in ranked.into_iter().skip(count) {
            series[at].values[step] = None;
        }
    }
}

fn keep_points(series: &mut [Series], op: ComparisonOp, limit: f64) {
    for value in series.iter_mut().flat_map(|series| &mut series.values) {
        *value = value.filter(|value| compare(op, &Value::Float(*value), &Value::Float(limit)));
    }
}

/// Point by point. Series of two queries belong together if their labels are equal; a query that is not grouped goes with
/// every series of the other.
pub(super) fn arithmetic(op: ArithmeticOp, left: Operand, right: Operand) -> Operand {
    let calculated =
        |left: Option<f64>, right: Option<f64>| calculate(op, &Value::Float(left?), &Value::Float(right?)).as_float();
    match (left, right) {
        (Operand::Series(left), Operand::Series(right)) if is_ungrouped(&right) => {
            let other = &right[0].values;
            Operand::Series(mapped(left, |step, value| calculated(value, other[step])))
        }
        (Operand::Series(left), Operand::Series(right)) if is_ungrouped(&left) => {
            let other = &left[0].values;
            Operand::Series(mapped(right, |step, value| calculated(other[step], value)))
        }
        (Operand::Series(mut left), Operand::Series(right)) => {
            let mut by_labels: std::collections::HashMap<String, Series> =
                right.into_iter().map(|series| (label_key(&series.labels), series)).collect();
            left.retain_mut(|series| {
                let Some(other) = by_labels.remove(&label_key(&series.labels)) else { return false };
                for (value, other_value) in series.values.iter_mut().zip(other.values) {
                    *value = calculated(*value, other_value);
                }
                for exemplar in other.exemplars {
                    let is_same =
                        |known: &Exemplar| (known.trace_id, known.span_id) == (exemplar.trace_id, exemplar.span_id);
                    if !series.exemplars.iter().any(is_same) {
                        series.exemplars.push(exemplar);
                    }
                }
                has_values(series)
            });
            Operand::Series(left)
        }
        (Operand::Series(series), Operand::Literal(literal)) => {
            Operand::Series(mapped(series, |_, value| calculated(value, Some(literal))))
        }
        (Operand::Literal(literal), Operand::Series(series)) => {
            Operand::Series(mapped(series, |_, value| calculated(Some(literal), value)))
        }
        (Operand::Literal(left), Operand::Literal(right)) => {
            Operand::Literal(calculated(Some(left), Some(right)).unwrap_or(f64::NAN))
        }
    }
}

fn is_ungrouped(series: &[Series]) -> bool {
    matches!(series, [only] if only.labels.is_empty())
}

/// Changes each point, given its step.
fn mapped(mut series: Vec<Series>, change: impl Fn(usize, Option<f64>) -> Option<f64>) -> Vec<Series> {
    for series in &mut series {
        series.values.iter_mut().enumerate().for_each(|(step, value)| *value = change(step, *value));
    }
    series.retain(has_values);
    series
}

/// Whether a series has a value in any step.
fn has_values(series: &Series) -> bool {
    series.values.iter().any(Option::is_some)
}
