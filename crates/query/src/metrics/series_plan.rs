//! A metrics function as it is compiled, and what it is computed with.

use tracehouse_traceql::{FieldExpr, Intrinsic, MetricsFunction, Pipeline};

use super::measure::Measure;
use super::steps::{Exemplars, Steps};
use crate::candidates::SpanFinder;
use crate::compile::{Expression, Node};
use crate::error::QueryError;
use crate::plan::{NamedField, Plan, SpansetNode, mentioned_fields};
use crate::question::Question;
use crate::structure::structure_of;
use crate::whole_traces::WholeTraces;

/// Values shown of each attribute unless the query says otherwise.
const TOP_DEFAULT: usize = 10;
/// A metrics function with the spans it takes.
#[derive(Debug)]
pub(crate) struct SeriesPlan {
    pub(crate) plan: Plan,
    pub(crate) function: FunctionPlan,
    pub(crate) by: Vec<NamedField>,
    pub(crate) exemplars: Exemplars,
    /// What exemplars show of their spans.
    pub(crate) shown: Vec<NamedField>,
}

#[derive(Debug)]
pub(crate) enum FunctionPlan {
    Measure { measure: Measure, per_second: bool, field: Option<Expression> },
    Compare(ComparePlan),
}

impl SeriesPlan {
    pub(crate) fn of(
        spans: Pipeline,
        function: &MetricsFunction,
        by: &[FieldExpr],
        exemplars: Exemplars,
    ) -> Result<Self, QueryError> {
        let shown = if exemplars.of_series_max > 0 { mentioned_fields(&spans, function, by)? } else { Vec::new() };
        let field = function.field().map(Expression::of).transpose()?;
        let measured = |measure, field| FunctionPlan::Measure { measure, per_second: false, field };
        let function = match function {
            MetricsFunction::Rate => FunctionPlan::Measure { measure: Measure::Count, per_second: true, field },
            MetricsFunction::CountOverTime => measured(Measure::Count, field),
            MetricsFunction::SumOverTime(_) => measured(Measure::Sum, field),
            MetricsFunction::MinOverTime(_) => measured(Measure::Min, field),
            MetricsFunction::MaxOverTime(_) => measured(Measure::Max, field),
            MetricsFunction::AvgOverTime(_) => measured(Measure::Average, field),
            MetricsFunction::HistogramOverTime(_) => measured(Measure::Histogram { per_octave: 1 }, field),
            MetricsFunction::QuantileOverTime { quantiles, .. } => {
                measured(Measure::Quantiles(each_once(quantiles)), field)
            }
            MetricsFunction::Compare { selection, top, window } => {
                FunctionPlan::Compare(ComparePlan::of(selection.as_ref(), *top, *window)?)
            }
        };
        Ok(Self {
            plan: Plan::of(spans, Vec::new())?,
            function,
            by: by.iter().map(NamedField::of).collect::<Result<_, _>>()?,
            exemplars,
            shown,
        })
    }

    /// A histogram has so many buckets for each power of two.
    pub(crate) fn with_buckets(mut self, wanted: i32) -> Self {
        if let FunctionPlan::Measure { measure: Measure::Histogram { per_octave }, .. } = &mut self.function {
            *per_octave = wanted;
        }
        self
    }

    /// The condition on single spans, if each span can be judged by itself.
    pub(crate) fn spans_alone(&self) -> Option<&Expression> {
        let filter = self.plan.single_filter().filter(|filter| !filter.needs_trace)?;
        self.needs_spans_alone().then_some(filter)
    }

    /// Finds the spans that drive the pipeline.
    pub(super) fn finder<'a>(&'a self, steps: &Steps, question: Question<'a>) -> SpanFinder<'a> {
        WholeTraces::of_plan(&self.plan, steps.window(), question).finder
    }

    /// The pipeline, if it is one of relations between spans, and what is measured of those that it leaves is told by each alone.
    pub(crate) fn structure(&self) -> Option<&SpansetNode> {
        structure_of(&self.plan.stages).filter(|_| self.needs_spans_alone())
    }

    /// Whether what is measured and grouped by is told by each span alone.
    fn needs_spans_alone(&self) -> bool {
        let of_function = match &self.function {
            FunctionPlan::Measure { field, .. } => field.as_ref(),
            FunctionPlan::Compare(compare) => Some(&compare.selection),
        };
        let mut others = self.by.iter().map(|field| &field.expression).chain(of_function);
        others.all(|expression| !expression.needs_trace)
    }
}

#[derive(Debug)]
pub(crate) struct ComparePlan {
    pub(super) selection: Expression,
    pub(super) top: usize,
    pub(super) window: Option<(i64, i64)>,
}

impl ComparePlan {
    pub(super) fn of(
        selection: Option<&FieldExpr>,
        top: Option<i64>,
        window: Option<(i64, i64)>,
    ) -> Result<Self, QueryError> {
        Ok(Self {
            selection: selection.map_or_else(|| Ok(Expression::always()), Expression::of)?,
            top: top.and_then(|top| usize::try_from(top).ok()).unwrap_or(TOP_DEFAULT),
            window,
        })
    }

    pub(super) fn in_window(&self, start: i64) -> bool {
        self.window.is_none_or(|(from, until)| (from..until).contains(&start))
    }
}

/// Durations are nanoseconds inside and seconds in answers.
pub(super) fn is_duration(field: &Expression) -> bool {
    let durations = [Intrinsic::Duration, Intrinsic::TraceDuration, Intrinsic::EventTimeSinceStart];
    matches!(&field.node, Node::Intrinsic(intrinsic) if durations.contains(intrinsic))
}

/// One function while it is computed.
pub(super) struct Run<'a> {
    pub(super) series: &'a SeriesPlan,
    pub(super) steps: &'a Steps,
    pub(super) question: Question<'a>,
    /// What is measured.
    pub(super) field: Option<&'a Expression>,
}

/// A quantile that is asked for twice is one line.
fn each_once(quantiles: &[f64]) -> Vec<f64> {
    quantiles
        .iter()
        .enumerate()
        .filter(|(at, quantile)| !quantiles[..*at].contains(quantile))
        .map(|(_, q)| *q)
        .collect()
}
