//! One metrics function over the spans that a pipeline selects.

use std::sync::Arc;

use tracehouse_model::AnyValue;
use tracehouse_scan::{Done, contents_of, each_row_group};
use tracehouse_store::SpanFile;
use tracehouse_traceql::{FieldExpr, Intrinsic, MetricsFunction, Pipeline};

use super::compare::ComparePlan;
use super::gather::{Candidate, Gathered, GroupKey};
use super::measure::{
    Cell, Count, DistributionCell, Largest, Lines, Measure, Room, Smallest, Sum, histogram_lines, quantile_lines,
};
use super::quantiles::PowerHistogram;
use super::{Exemplars, Met, Steps, columns, traces};
use crate::candidates::Scan;
use crate::column_eval::file_may_match;
use crate::compile::{Expression, Node};
use crate::error::QueryError;
use crate::plan::{NamedField, Plan, mentioned_fields};
use crate::question::Question;
use crate::request::Series;
use crate::shares::{cell_bytes_max, points_max, too_many_points};

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
            MetricsFunction::HistogramOverTime(_) => measured(Measure::Histogram, field),
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

    /// The condition on single spans, if each span can be judged by itself.
    pub(crate) fn spans_alone(&self) -> Option<&Expression> {
        let filter = self.plan.single_filter().filter(|filter| !filter.needs_trace)?;
        let of_function = match &self.function {
            FunctionPlan::Measure { field, .. } => field.as_ref(),
            FunctionPlan::Compare(compare) => Some(&compare.selection),
        };
        let mut others = self.by.iter().map(|field| &field.expression).chain(of_function);
        others.all(|expression| !expression.needs_trace).then_some(filter)
    }

    pub(super) fn run(&self, steps: &Steps, question: Question<'_>, met: &mut Met) -> Vec<Series> {
        let (measure, per_second, field) = match &self.function {
            FunctionPlan::Compare(compare) => return compare.run(self, steps, question, met),
            FunctionPlan::Measure { measure, per_second, field } => (measure, *per_second, field.as_ref()),
        };
        let run = Run { series: self, steps, question, field };
        let scale = if field.is_some_and(is_duration) { 1e-9 } else { 1.0 };
        match measure {
            Measure::Count => {
                let unit = if per_second { 1.0 / steps.seconds() } else { 1.0 };
                run.finish(met, |cells: &mut [Count], lines| line_of(cells, lines, |cell| Some(cell.0 * unit)))
            }
            Measure::Sum => run.finish(met, |cells: &mut [Sum], lines| {
                line_of(cells, lines, |cell| (cell.weight > 0.0).then_some(cell.sum * scale));
            }),
            Measure::Average => run.finish(met, |cells: &mut [Sum], lines| {
                line_of(cells, lines, |cell| (cell.weight > 0.0).then(|| cell.sum / cell.weight * scale));
            }),
            Measure::Min => run.finish(met, |cells: &mut [Smallest], lines| {
                line_of(cells, lines, |cell| cell.0.map(|value| value * scale));
            }),
            Measure::Max => run.finish(met, |cells: &mut [Largest], lines| {
                line_of(cells, lines, |cell| cell.0.map(|value| value * scale));
            }),
            Measure::Histogram => {
                run.finish(met, |cells: &mut [PowerHistogram], lines| histogram_lines(cells, scale, lines))
            }
            Measure::Quantiles(quantiles) => {
                run.finish(met, |cells: &mut [DistributionCell], lines| quantile_lines(cells, quantiles, scale, lines))
            }
        }
    }
}

/// One line with a value for each step.
fn line_of<C>(cells: &[C], lines: &mut Lines<'_>, value: impl Fn(&C) -> Option<f64>) {
    lines.push(cells.len(), None, || cells.iter().map(value).collect());
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

impl Run<'_> {
    /// Gathers and makes series; `lines` turns the cells of one series into its lines.
    fn finish<C: Cell>(&self, met: &mut Met, lines: impl Fn(&mut [C], &mut Lines<'_>)) -> Vec<Series> {
        let files = matching_files(self.series, self.steps, self.question, met);
        let mut gathered = match self.series.spans_alone() {
            Some(filter) => self.gather_from_columns(filter, &files, met),
            None => traces::gather::<C>(self, &files, met),
        };
        met.weighting.spans += gathered.spans;
        met.weighting.spans_of_unknown_probability += gathered.spans_of_unknown_probability;
        if gathered.left_out > 0 {
            let (left_out, all) = (gathered.left_out, gathered.spans);
            met.partial(|| {
                format!(
                    "too many series: at least {left_out} of {all} spans are left out, as there is no room for what is \
                     gathered of them; choose a longer step, group by fewer fields or narrow the query"
                )
            });
        }
        if C::ZERO_OF_NOTHING && self.series.by.is_empty() {
            // No spans are a count of 0, not an unknown one.
            gathered.group(&[]);
        }
        let total = gathered.series();
        let exemplars_max = self.series.exemplars.of_each(total);
        let bounds = self.question.bounds;
        let mut made: Vec<Series> = Vec::new();
        for (number, (key, mut cells, candidates)) in gathered.into_groups().enumerate() {
            if bounds.cancelled() {
                break;
            }
            let labels = self.labels(&key);
            let texts = key.iter().map(|value| value.heap_bytes() + LABEL_BYTES).sum::<usize>();
            let mut room = Lines::new(&mut met.held, texts * COPIES_OF_LABELS);
            lines(&mut cells, &mut room);
            let room_for_all = made.len() * self.steps.count <= points_max(bounds);
            let Some(lines) = room.finish().filter(|_| room_for_all) else {
                met.partial(|| too_many_points(bounds, number, total, "series"));
                break;
            };
            let exemplars = columns::exemplars(self, &files, &spread(candidates, exemplars_max), &mut met.held);
            for (number, (extra, values)) in lines.into_iter().enumerate() {
                let mut labels = labels.clone();
                labels.extend(extra.map(|(name, value)| (name, Some(AnyValue::Double(value)))));
                // Lines of one series have the same spans behind them: the first one shows them.
                let exemplars = if number == 0 { exemplars.clone() } else { Vec::new() };
                made.push(Series { labels, values, exemplars });
            }
        }
        made
    }

    fn labels(&self, key: &GroupKey) -> Vec<(String, Option<AnyValue>)> {
        self.series.by.iter().zip(key.iter()).map(|(field, value)| (field.name.clone(), value.to_any())).collect()
    }

    /// An empty start for one thread.
    pub(super) fn begin<C: Cell>(&self) -> Gathered<C> {
        let bounds = self.question.bounds;
        let room = Room::new(bounds.hold(), cell_bytes_max(bounds));
        Gathered::new(self.steps, self.series.exemplars.of_series_max, room)
    }

    fn gather_from_columns<C: Cell>(
        &self,
        filter: &Expression,
        files: &[&Arc<SpanFile>],
        met: &mut Met,
    ) -> Gathered<C> {
        let Question { bounds, reach, .. } = self.question;
        let scan = Scan { filter, exactly: &[], window: self.steps.window(), bounds };
        let mut gathered = self.begin();
        columns::gather_memory(self, filter, &mut gathered);
        let (all, done) = each_row_group(
            bounds,
            reach,
            files,
            || self.begin(),
            |piece, own| columns::gather_row_group(self, &scan, piece, own),
        );
        met.read(self.question, done, files.len());
        all.into_iter().for_each(|own| gathered.merge(own));
        gathered
    }
}

/// What a label takes beside its text, and how often it is copied: into the answer, and to sort and join by.
const LABEL_BYTES: usize = 64;
const COPIES_OF_LABELS: usize = 3;

impl Met {
    /// Counts what was read of the files of one function.
    pub(super) fn read(&mut self, question: Question<'_>, done: Done, files: usize) {
        self.inspected.spans += done.rows;
        self.inspected.files += (done.files as u64).saturating_sub(question.reach.files_lost() as u64);
        if !done.all {
            self.partial(|| question.bounds.stopped(done.files, files, "files read"));
        }
    }
}

/// Files in the range of time in which the spans may be.
pub(super) fn matching_files<'s>(
    series: &SeriesPlan,
    steps: &Steps,
    question: Question<'s>,
    met: &mut Met,
) -> Vec<&'s Arc<SpanFile>> {
    let driver = &series.plan.drivers.span;
    let scan = Scan { filter: driver, exactly: &[], window: steps.window(), bounds: question.bounds };
    let files = scan.files(question.snapshot);
    met.inspected.files_total += files.len() as u64;
    met.inspected.spans += question.snapshot.hot.iter().map(|hot| hot.spans.len() as u64).sum::<u64>();
    let may_match = |file: &&Arc<SpanFile>| {
        // What comes after the end of the time is not read either.
        question.bounds.exceeded() || file_may_match(driver, file, &contents_of(file))
    };
    let (may_match, ruled_out): (Vec<_>, Vec<_>) = files.into_iter().partition(may_match);
    met.inspected.files += ruled_out.len() as u64;
    may_match
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

/// At most so many of them, at even distances.
fn spread(candidates: Vec<Candidate>, most: usize) -> Vec<Candidate> {
    let count = most.min(candidates.len());
    (0..count).map(|at| candidates[at * candidates.len() / count]).collect()
}

/// Exemplars in the order of time.
pub(super) fn sorted(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by_key(|candidate| (candidate.start_unix_nanos, candidate.place));
    candidates
}
