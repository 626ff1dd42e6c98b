//! Time series from spans: TraceQL's metrics functions.
//!
//! A query whose spans are selected by a condition on each span alone is computed from columns, row group by row group
//! ([`columns`]); any other one from whole traces ([`traces`]). Either way each thread gathers [`Gathered`] cells, one for
//! each series and step, which are merged at the end.

mod batch_counts;
mod columns;
mod combine;
mod compare;
mod gather;
mod measure;
mod quantiles;
mod series;
mod tally;
mod traces;

use std::ops::Range;

use tracehouse_scan::{Held, Reservation, Window};
use tracehouse_traceql::{MetricsExpr, Query, QueryExpr};

use crate::assemble::Omitted;
use crate::error::QueryError;
use crate::question::Question;
use crate::request::{Inspected, MetricsAnswer, MetricsRequest, Series, Weighting};

pub(crate) use combine::label_key;
pub(crate) use series::SeriesPlan;

/// Most points of a series.
const STEPS_MAX: i64 = 11_000;

/// The steps of time that all series of an answer share.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Steps {
    /// Begin of the first step.
    pub(crate) first: i64,
    /// Nanoseconds.
    pub(crate) length: i64,
    pub(crate) count: usize,
    /// Spans that begin here count.
    pub(crate) range: Range<i64>,
}

impl Steps {
    pub(crate) fn window(&self) -> Window {
        Window::starting(self.range.clone())
    }

    pub(crate) fn of(request: &MetricsRequest) -> Result<Self, QueryError> {
        let range = request.start_unix_nanos..request.end_unix_nanos;
        let Some(total) = range.end.checked_sub(range.start).filter(|total| *total > 0) else {
            return Err(QueryError::Invalid("the time range is empty or too long: start must be before end".into()));
        };
        let Some(length) = request.step_nanos else {
            return Ok(Self { first: range.start, length: total, count: 1, range });
        };
        if length <= 0 {
            return Err(QueryError::Invalid("the step must be longer than nothing, such as 15s".into()));
        }
        let first = range.start.div_euclid(length).saturating_mul(length);
        let count = range.end.saturating_sub(first).saturating_add(length - 1) / length;
        if count > STEPS_MAX {
            return Err(QueryError::Invalid(format!(
                "the range has {count} steps; at most {STEPS_MAX} are computed: choose a longer step or a shorter range"
            )));
        }
        Ok(Self { first, length, count: count as usize, range })
    }

    /// The step of a moment in the range.
    #[inline]
    pub(crate) fn of_start(&self, start_unix_nanos: i64) -> u32 {
        if self.count == 1 { 0 } else { ((start_unix_nanos - self.first) / self.length) as u32 }
    }

    /// The step in which all begins that begins between two moments; `None` if that may be several, or outside of the range.
    pub(crate) fn only_step(&self, first: i64, last: i64) -> Option<u32> {
        // Spans outside of the range were left out before.
        if self.count == 1 {
            return Some(0);
        }
        let inside = self.range.contains(&first) && self.range.contains(&last);
        (inside && self.of_start(first) == self.of_start(last)).then(|| self.of_start(first))
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.length as f64 / 1e9
    }
}

/// How many spans are shown as examples of what is behind a series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exemplars {
    pub(crate) of_series_max: usize,
    in_all_max: usize,
}

impl Exemplars {
    pub(crate) const NONE: Self = Self { of_series_max: 0, in_all_max: 0 };

    fn of(request: &MetricsRequest) -> Self {
        let in_all_max = request.exemplars_in_all_max.unwrap_or(usize::MAX);
        Self { of_series_max: request.exemplars_max.min(in_all_max), in_all_max }
    }

    /// How many each of so many series may have.
    fn of_each(self, series: usize) -> usize {
        self.in_all_max.div_ceil(series.max(1)).min(self.of_series_max)
    }
}

/// A compiled metrics query.
#[derive(Debug)]
pub(crate) struct MetricsPlan {
    pub(crate) root: MetricsNode,
    pub(crate) steps: Steps,
}

#[derive(Debug)]
pub(crate) enum MetricsNode {
    Series(Box<SeriesPlan>),
    Then { input: Box<MetricsNode>, stage: tracehouse_traceql::SecondStage },
    Arithmetic { op: tracehouse_traceql::ArithmeticOp, left: Box<MetricsNode>, right: Box<MetricsNode> },
    Literal(f64),
}

impl MetricsPlan {
    pub(crate) fn of(query: Query, request: &MetricsRequest) -> Result<Self, QueryError> {
        let steps = Steps::of(request)?;
        let QueryExpr::Metrics(expr) = query.expr else {
            let advice = "the query selects spans; to compute time series add a function such as `| rate()`";
            return Err(QueryError::Invalid(advice.into()));
        };
        Ok(Self { root: node(expr, Exemplars::of(request))?, steps })
    }
}

fn node(expr: MetricsExpr, exemplars: Exemplars) -> Result<MetricsNode, QueryError> {
    Ok(match expr {
        MetricsExpr::Series { spans, function, by, .. } => {
            MetricsNode::Series(Box::new(SeriesPlan::of(spans, &function, &by, exemplars)?))
        }
        MetricsExpr::Then { input, stage, .. } => {
            MetricsNode::Then { input: Box::new(node(*input, exemplars)?), stage }
        }
        MetricsExpr::Arithmetic { op, left, right, .. } => MetricsNode::Arithmetic {
            op,
            left: Box::new(node(*left, exemplars)?),
            right: Box::new(node(*right, exemplars)?),
        },
        MetricsExpr::Literal { value, .. } => MetricsNode::Literal(combine::seconds(&value)),
    })
}

/// What the computation of several series met.
pub(crate) struct Met {
    inspected: Inspected,
    weighting: Weighting,
    partial: Option<String>,
    /// What the series of the answer take.
    held: Held,
}

impl Met {
    fn omitted(&mut self, omitted: Omitted) {
        if let Some(words) = omitted.in_words() {
            self.partial(|| words);
        }
    }

    /// The first reason counts.
    fn partial(&mut self, reason: impl FnOnce() -> String) {
        self.partial.get_or_insert_with(reason);
    }
}

pub(crate) fn metrics(question: Question<'_>, plan: &MetricsPlan) -> MetricsAnswer {
    let Question { bounds, reach, .. } = question;
    let (inspected, weighting) = (Inspected::default(), Weighting::default());
    let mut met = Met { inspected, weighting, partial: None, held: bounds.hold() };
    let mut series = match run(&plan.root, &plan.steps, question, &mut met) {
        combine::Operand::Series(series) => series,
        combine::Operand::Literal(_) => Vec::new(),
    };
    series.sort_by_cached_key(|series| label_key(&series.labels));
    if bounds.exceeded() {
        let (read, total) = (met.inspected.files as usize, met.inspected.files_total as usize);
        met.partial(|| bounds.stopped(read, total, "files read"));
    }
    let reasons: Vec<String> = reach.partial_reason().into_iter().chain(met.partial).collect();
    MetricsAnswer {
        start_unix_nanos: plan.steps.first,
        step_nanos: plan.steps.length,
        steps: plan.steps.count,
        series,
        inspected: Inspected { bytes: bounds.scanned_bytes(), ..met.inspected },
        weighting: met.weighting,
        partial_reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        memory: Reservation::of(met.held),
    }
}

fn run(node: &MetricsNode, steps: &Steps, question: Question<'_>, met: &mut Met) -> combine::Operand {
    match node {
        MetricsNode::Series(plan) => combine::Operand::Series(plan.run(steps, question, met)),
        MetricsNode::Then { input, stage } => match run(input, steps, question, met) {
            combine::Operand::Series(series) => combine::Operand::Series(combine::second_stage(series, stage)),
            literal => literal,
        },
        MetricsNode::Arithmetic { op, left, right } => {
            let left = run(left, steps, question, met);
            let right = run(right, steps, question, met);
            combine::arithmetic(*op, left, right)
        }
        MetricsNode::Literal(value) => combine::Operand::Literal(*value),
    }
}

/// Whether a series has a value in any step.
fn has_values(series: &Series) -> bool {
    series.values.iter().any(Option::is_some)
}
