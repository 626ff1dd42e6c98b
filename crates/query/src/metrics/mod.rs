//! Time series from spans: TraceQL's metrics functions.
//!
//! A query whose spans are selected by a condition on each span alone is computed from columns, row group by row group
//! ([`columns`]); one whose spans are selected by relations between such spans from columns as well, where a trace lies in one row
//! group, and from whole traces elsewhere ([`structured`]); any other one from whole traces ([`traces`]). Either way each thread gathers cells (`gather::Gathered`), one for
//! each series and step, which are merged at the end.
//!
//! Who calls whom for which function:
//!
//! | function | spans judged alone | whole traces | cell |
//! |---|---|---|---|
//! | `rate`, `count_over_time` | `series` → `columns` → `gather` | `series` → `traces` → `columns::gather_rows` → `gather` | `measure::Count` |
//! | `sum_…`, `avg_…`, `min_…`, `max_over_time` | the same | the same | `measure::{Sum, Smallest, Largest}` |
//! | `histogram_over_time`, `quantile_over_time` | the same | the same | `quantiles::{Histogram, Distribution}` |
//! | `compare` | `compare` → `tally` (files), `batch_counts` (memory) → `counts` | `compare` → `traces` → `batch_counts` → `counts` | `counts::Counts` |
//! | `topk`, `bottomk`, filters, arithmetic | `combine`, over the series of the others | | |
//!
//! `series_plan` is what a query was compiled to, `steps` its time, `met` what was met on the way, `room` the memory for cells.

mod batch_counts;
mod columns;
mod combine;
mod compare;
mod counts;
mod gather;
mod measure;
mod quantiles;
mod room;
mod series;
mod series_plan;
mod steps;
mod structured;
mod tally;
mod traces;

use tracehouse_scan::Reservation;
use tracehouse_traceql::{Meaning, MetricsExpr, Query, QueryExpr};

use self::steps::Steps;
use crate::error::QueryError;
use crate::met::Met;
use crate::question::Question;
use crate::request::{Inspected, MetricsAnswer, MetricsRequest};

pub(crate) use combine::label_key;
pub(crate) use series_plan::SeriesPlan;
pub(crate) use steps::Exemplars;

/// A compiled metrics query.
#[derive(Debug)]
pub(crate) struct MetricsPlan {
    pub(crate) root: MetricsNode,
    pub(crate) steps: Steps,
    meaning: Meaning,
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
        let meaning = expr.meaning();
        Ok(Self { root: node(expr, Exemplars::of(request), request.histogram.per_octave())?, steps, meaning })
    }
}

fn node(expr: MetricsExpr, exemplars: Exemplars, buckets: i32) -> Result<MetricsNode, QueryError> {
    Ok(match expr {
        MetricsExpr::Series { spans, function, by, .. } => {
            MetricsNode::Series(Box::new(SeriesPlan::of(spans, &function, &by, exemplars)?.with_buckets(buckets)))
        }
        MetricsExpr::Then { input, stage, .. } => {
            MetricsNode::Then { input: Box::new(node(*input, exemplars, buckets)?), stage }
        }
        MetricsExpr::Arithmetic { op, left, right, .. } => MetricsNode::Arithmetic {
            op,
            left: Box::new(node(*left, exemplars, buckets)?),
            right: Box::new(node(*right, exemplars, buckets)?),
        },
        MetricsExpr::Literal { value, .. } => MetricsNode::Literal(combine::seconds(&value)),
    })
}

pub(crate) fn metrics(question: Question<'_>, plan: &MetricsPlan) -> MetricsAnswer {
    let mut met = Met::nothing(question.bounds);
    let mut series = match run(&plan.root, &plan.steps, question, &mut met) {
        combine::Operand::Series(series) => series,
        combine::Operand::Literal(_) => Vec::new(),
    };
    series.sort_by_cached_key(|series| label_key(&series.labels));
    let partial_reason = met.partial_reason(question);
    MetricsAnswer {
        start_unix_nanos: plan.steps.first,
        step_nanos: plan.steps.length,
        steps: plan.steps.count,
        meaning: plan.meaning,
        series,
        inspected: Inspected { bytes: question.bounds.scanned_bytes(), ..met.inspected },
        weighting: met.weighting,
        partial_reason,
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
