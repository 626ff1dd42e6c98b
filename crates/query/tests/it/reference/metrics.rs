//! Time series, span by span.

use std::collections::BTreeMap;
use std::ops::Range;

use tracehouse_model::{AnyValue, Span, Threshold};
use tracehouse_traceql::{FieldExpr, Intrinsic, MetricsExpr, MetricsFunction, QueryExpr, SecondStage, Static};

use super::Trace;
use super::expression::{V, calculate, compare, holds, value};
use super::spansets::{run, united};

#[derive(Debug, Clone)]
pub(crate) struct Steps {
    pub(crate) range: Range<i64>,
    pub(crate) step: Option<i64>,
}

impl Steps {
    fn length(&self) -> i64 {
        self.step.unwrap_or(self.range.end - self.range.start)
    }

    pub(crate) fn first(&self) -> i64 {
        self.step.map_or(self.range.start, |step| self.range.start.div_euclid(step) * step)
    }

    fn count(&self) -> usize {
        (0..).take_while(|at| self.first() + at * self.length() < self.range.end).count()
    }

    fn of(&self, span: &Span) -> usize {
        ((span.start_unix_nanos - self.first()) / self.length()) as usize
    }
}

type Labels = Vec<(String, Option<AnyValue>)>;

#[derive(Debug, Clone)]
pub(crate) struct ReferenceSeries {
    pub(crate) labels: Labels,
    pub(crate) values: Vec<Option<f64>>,
}

enum Operand {
    Series(Vec<ReferenceSeries>),
    Literal(f64),
}

/// One span that counts, in its trace.
struct Counted<'t, 's> {
    trace: &'t Trace<'s>,
    row: usize,
    step: usize,
    weight: f64,
}

impl Counted<'_, '_> {
    fn value(&self, field: &FieldExpr) -> V {
        value(self.trace, self.row, field)
    }
}

pub(crate) fn metrics(spans: &[Span], query: &str, steps: &Steps) -> Vec<ReferenceSeries> {
    let query = tracehouse_traceql::compile(query).expect("the query is right");
    let QueryExpr::Metrics(expr) = query.expr else { panic!("a query that computes series") };
    match compute(spans, &expr, steps) {
        Operand::Series(series) => series,
        Operand::Literal(_) => Vec::new(),
    }
}

fn number(literal: &Static) -> f64 {
    match literal {
        Static::Int(int) => *int as f64,
        Static::Duration(nanos) => *nanos as f64,
        Static::Float(number) => *number,
        other => panic!("{other:?} is no number"),
    }
}

fn seconds(literal: &Static) -> f64 {
    if let Static::Duration(nanos) = literal { *nanos as f64 / 1e9 } else { number(literal) }
}

fn compute(spans: &[Span], expr: &MetricsExpr, steps: &Steps) -> Operand {
    match expr {
        MetricsExpr::Literal { value, .. } => Operand::Literal(seconds(value)),
        MetricsExpr::Series { spans: pipeline, function, by, .. } => {
            let traces = Trace::all(spans);
            let mut counted = Vec::new();
            for trace in traces.values() {
                for row in united(&run(trace, pipeline, &|span| steps.range.contains(&span.start_unix_nanos))) {
                    let weight = trace.spans[row].sampling_threshold.map_or(1.0, Threshold::adjusted_count);
                    counted.push(Counted { trace, row, step: steps.of(trace.spans[row]), weight });
                }
            }
            Operand::Series(match function {
                MetricsFunction::Compare { selection, top, window } => {
                    differences(&counted, selection.as_ref(), *top, *window, steps)
                }
                _ => aggregated(&counted, function, by, steps),
            })
        }
        MetricsExpr::Then { input, stage, .. } => match compute(spans, input, steps) {
            Operand::Series(series) => Operand::Series(then(series, stage)),
            literal => literal,
        },
        MetricsExpr::Arithmetic { op, left, right, .. } => {
            let calculated =
                |left: Option<f64>, right: Option<f64>| calculate(*op, &V::Number(left?), &V::Number(right?)).number();
            let (left, right) = (compute(spans, left, steps), compute(spans, right, steps));
            let mut result = match (left, right) {
                (Operand::Literal(left), Operand::Literal(right)) => {
                    return Operand::Literal(calculated(Some(left), Some(right)).unwrap_or(f64::NAN));
                }
                (Operand::Series(left), Operand::Literal(right)) => {
                    mapped(left, |value| calculated(value, Some(right)))
                }
                (Operand::Literal(left), Operand::Series(right)) => {
                    mapped(right, |value| calculated(Some(left), value))
                }
                (Operand::Series(left), Operand::Series(right)) => {
                    let for_all = |side: &[ReferenceSeries]| side.len() == 1 && side[0].labels.is_empty();
                    let (left_for_all, right_for_all) = (for_all(&left), for_all(&right));
                    let mut joined = Vec::new();
                    for one in &left {
                        for other in &right {
                            if left_for_all || right_for_all || same(&other.labels, &one.labels) {
                                let labels = if left_for_all { other.labels.clone() } else { one.labels.clone() };
                                let values = one.values.iter().zip(&other.values);
                                let values = values.map(|(left, right)| calculated(*left, *right)).collect();
                                joined.push(ReferenceSeries { labels, values });
                            }
                        }
                    }
                    joined
                }
            };
            result.retain(|series| series.values.iter().any(Option::is_some));
            Operand::Series(result)
        }
    }
}

/// Labels are equal in any order.
pub(crate) fn same(one: &Labels, other: &Labels) -> bool {
    one.len() == other.len() && one.iter().all(|label| other.contains(label))
}

fn mapped(mut series: Vec<ReferenceSeries>, change: impl Fn(Option<f64>) -> Option<f64>) -> Vec<ReferenceSeries> {
    for series in &mut series {
        series.values.iter_mut().for_each(|value| *value = change(*value));
    }
    series
}

fn then(mut series: Vec<ReferenceSeries>, stage: &SecondStage) -> Vec<ReferenceSeries> {
    let steps = series.first().map_or(0, |series| series.values.len());
    match stage {
        SecondStage::TopK(count) | SecondStage::BottomK(count) => {
            let sign = if matches!(stage, SecondStage::TopK(_)) { 1.0 } else { -1.0 };
            for step in 0..steps {
                let values: Vec<Option<f64>> = series.iter().map(|series| series.values[step]).collect();
                for (at, one) in series.iter_mut().enumerate() {
                    let better = |other: &Option<f64>| match (other, values[at]) {
                        (Some(other), Some(own)) => sign * other > sign * own,
                        _ => false,
                    };
                    if values.iter().filter(|other| better(other)).count() as i64 >= *count {
                        one.values[step] = None;
                    }
                }
            }
        }
        SecondStage::Filter { op, value } => {
            let limit = seconds(value);
            for value in series.iter_mut().flat_map(|series| &mut series.values) {
                *value = value.filter(|value| compare(*op, &V::Number(*value), &V::Number(limit)));
            }
        }
    }
    series.retain(|series| series.values.iter().any(Option::is_some));
    series
}

fn is_duration(field: &FieldExpr) -> bool {
    let durations = [Intrinsic::Duration, Intrinsic::TraceDuration, Intrinsic::EventTimeSinceStart];
    matches!(field, FieldExpr::Intrinsic { intrinsic, .. } if durations.contains(intrinsic))
}

/// From the values of a step with their weights.
type Compute<'a> = &'a dyn Fn(&[(f64, f64)]) -> Option<f64>;
/// A value and its weights in each step.
type Sums = (AnyValue, Vec<f64>);

fn aggregated(
    counted: &[Counted<'_, '_>],
    function: &MetricsFunction,
    by: &[FieldExpr],
    steps: &Steps,
) -> Vec<ReferenceSeries> {
    let mut groups: Vec<(Labels, Vec<&Counted<'_, '_>>)> = Vec::new();
    for span in counted {
        // Spans without the field have no part in anything.
        if function.field().is_some_and(|field| span.value(field).numbers().is_empty()) {
            continue;
        }
        let labels: Labels = by.iter().map(|field| (field.label(), span.value(field).shown())).collect();
        match groups.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, spans)) => spans.push(span),
            None => groups.push((labels, vec![span])),
        }
    }
    let counts = matches!(function, MetricsFunction::Rate | MetricsFunction::CountOverTime);
    if counts && by.is_empty() && groups.is_empty() {
        groups.push((Vec::new(), Vec::new()));
    }
    let mut series = Vec::new();
    for (labels, spans) in groups {
        let scale = if function.field().is_some_and(is_duration) { 1e-9 } else { 1.0 };
        // For each step the values with their weights.
        let mut values: Vec<Vec<(f64, f64)>> = vec![Vec::new(); steps.count()];
        for span in &spans {
            let of_span = function.field().map_or(vec![1.0], |field| span.value(field).numbers());
            values[span.step].extend(of_span.into_iter().map(|value| (value, span.weight)));
        }
        let mut add = |label: Option<(String, f64)>, compute: Compute<'_>| {
            let mut labels = labels.clone();
            labels.extend(label.map(|(name, value)| (name, Some(AnyValue::Double(value)))));
            series.push(ReferenceSeries { labels, values: values.iter().map(|values| compute(values)).collect() });
        };
        let weight = |values: &[(f64, f64)]| values.iter().map(|(_, weight)| weight).sum::<f64>();
        let sum = |values: &[(f64, f64)]| values.iter().map(|(value, weight)| value * weight).sum::<f64>();
        let some = |values: &[(f64, f64)], result: f64| (!values.is_empty()).then_some(result * scale);
        let smallest = |values: &[(f64, f64)]| values.iter().map(|(value, _)| *value).fold(f64::NAN, f64::min);
        let largest = |values: &[(f64, f64)]| values.iter().map(|(value, _)| *value).fold(f64::NAN, f64::max);
        match function {
            MetricsFunction::Rate => {
                let seconds = steps.length() as f64 / 1e9;
                add(None, &|values| Some(weight(values) / seconds));
            }
            MetricsFunction::CountOverTime => add(None, &|values| Some(weight(values))),
            MetricsFunction::SumOverTime(_) => add(None, &|values| some(values, sum(values))),
            MetricsFunction::AvgOverTime(_) => add(None, &|values| some(values, sum(values) / weight(values))),
            MetricsFunction::MinOverTime(_) => add(None, &|values| some(values, smallest(values))),
            MetricsFunction::MaxOverTime(_) => add(None, &|values| some(values, largest(values))),
            MetricsFunction::QuantileOverTime { quantiles, .. } => {
                for quantile in quantiles {
                    add(Some(("p".into(), *quantile)), &|values| {
                        let mut sorted = values.to_vec();
                        sorted.sort_by(|left, right| left.0.total_cmp(&right.0));
                        let wanted = quantile * weight(values) * (1.0 - 1e-9);
                        let mut passed = 0.0;
                        let reached = sorted.iter().find(|(_, weight)| {
                            passed += weight;
                            passed >= wanted
                        });
                        reached.or(sorted.last()).map(|(value, _)| value * scale)
                    });
                }
            }
            MetricsFunction::HistogramOverTime(_) => {
                let bucket = |value: f64| {
                    if value <= 0.0 {
                        0.0
                    } else {
                        (-1074..).map(|power| 2f64.powi(power)).find(|bound| *bound >= value).expect("some bound")
                    }
                };
                let mut bounds: Vec<f64> = values.iter().flatten().map(|(value, _)| bucket(*value)).collect();
                bounds.sort_by(f64::total_cmp);
                bounds.dedup();
                for bound in bounds {
                    add(Some(("__bucket".into(), bound * scale)), &|values| {
                        let inside: Vec<(f64, f64)> =
                            values.iter().copied().filter(|(value, _)| bucket(*value) == bound).collect();
                        (!inside.is_empty()).then(|| weight(&inside))
                    });
                }
            }
            MetricsFunction::Compare { .. } => panic!("computed elsewhere"),
        }
    }
    series
}

fn differences(
    counted: &[Counted<'_, '_>],
    selection: Option<&FieldExpr>,
    top: Option<i64>,
    window: Option<(i64, i64)>,
    steps: &Steps,
) -> Vec<ReferenceSeries> {
    // By meta type, key and value (as text): the value and its weights in each step.
    let mut sums: BTreeMap<(&str, String), BTreeMap<String, Sums>> = BTreeMap::new();
    for span in counted {
        let own = span.trace.spans[span.row];
        let selected = selection.is_none_or(|selection| holds(span.trace, span.row, selection))
            && window.is_none_or(|(from, until)| (from..until).contains(&own.start_unix_nanos));
        let meta = if selected { "selection" } else { "baseline" };
        let text = |text: &str| AnyValue::String(text.to_owned());
        let statuses = ["unset", "ok", "error"];
        let kinds = ["unspecified", "internal", "server", "client", "producer", "consumer"];
        let mut attributes = vec![
            ("name".to_owned(), text(&own.name)),
            ("kind".to_owned(), text(kinds[own.kind as usize])),
            ("status".to_owned(), text(statuses[own.status_code as usize])),
        ];
        if !own.status_message.is_empty() {
            attributes.push(("statusMessage".to_owned(), text(&own.status_message)));
        }
        attributes.extend(own.attributes.iter().map(|(key, value)| (format!("span.{key}"), value.clone())));
        attributes
            .extend(own.resource_attributes.iter().map(|(key, value)| (format!("resource.{key}"), value.clone())));
        for (key, value) in attributes {
            use AnyValue::{Bool, Double, Int, String};
            if !matches!(value, String(_) | Int(_) | Double(_) | Bool(_)) {
                continue;
            }
            let of_key = sums.entry((meta, key)).or_default();
            let entry = of_key.entry(value.to_canonical_json()).or_insert_with(|| (value, vec![0.0; steps.count()]));
            entry.1[span.step] += span.weight;
        }
    }
    let top = top.map_or(10, |top| top as usize);
    let mut series = Vec::new();
    for ((meta, key), values) in sums {
        let mut totals = vec![0.0; steps.count()];
        values.values().for_each(|(_, sums)| totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum));
        let meta_label = |meta: String| ("__meta_type".to_owned(), Some(AnyValue::String(meta)));
        let all = |sums: &[f64]| sums.iter().copied().map(Some).collect();
        series.push(ReferenceSeries {
            labels: vec![meta_label(format!("{meta}_total")), (key.clone(), None)],
            values: all(&totals),
        });
        // All that are as frequent as the last one shown: which of equals are shown is left open.
        let total = |sums: &[f64]| sums.iter().sum::<f64>();
        let mut ranked: Vec<f64> = values.values().map(|(_, sums)| total(sums)).collect();
        ranked.sort_by(|left, right| right.total_cmp(left));
        let least = ranked.get(top - 1).copied().unwrap_or(0.0);
        for (value, sums) in values.into_values().filter(|(_, sums)| total(sums) >= least) {
            let labels = vec![meta_label(meta.to_owned()), (key.clone(), Some(value))];
            series.push(ReferenceSeries { labels, values: all(&sums) });
        }
    }
    series
}
