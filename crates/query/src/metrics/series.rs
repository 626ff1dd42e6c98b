//! One metrics function over the spans that a pipeline selects.

use std::sync::Arc;

use tracehouse_model::AnyValue;
use tracehouse_store::{Snapshot, SpanFile};
use tracehouse_traceql::{FieldExpr, Intrinsic, MetricsFunction, Pipeline};

use super::compare::ComparePlan;
use super::gather::{Candidate, Gathered, GroupKey};
use super::measure::{Cell, Count, Largest, Line, Measure, Smallest, Sum, histogram_lines, quantile_lines};
use super::quantiles::{Distribution, PowerHistogram};
use super::{Exemplars, Met, Steps, columns, traces};
use crate::bounds::Bounds;
use crate::candidates::Scan;
use crate::column_eval::file_may_match;
use crate::compile::{Expression, Node};
use crate::error::QueryError;
use crate::plan::{NamedField, Plan};
use crate::request::Series;

/// A metrics function with the spans it takes.
#[derive(Debug)]
pub(crate) struct SeriesPlan {
    pub(crate) plan: Plan,
    pub(crate) function: FunctionPlan,
    pub(crate) by: Vec<NamedField>,
    pub(crate) exemplars: Exemplars,
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
                measured(Measure::Quantiles(quantiles.clone()), field)
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

    pub(super) fn run(
        &self,
        steps: &Steps,
        snapshot: &Snapshot,
        bounds: &Bounds<'_>,
        met: &mut Met,
    ) -> Result<Vec<Series>, QueryError> {
        let (measure, per_second, field) = match &self.function {
            FunctionPlan::Compare(compare) => return compare.run(self, steps, snapshot, bounds, met),
            FunctionPlan::Measure { measure, per_second, field } => (measure, *per_second, field.as_ref()),
        };
        let run = Run { series: self, steps, snapshot, bounds, field };
        let scale = if field.is_some_and(is_duration) { 1e-9 } else { 1.0 };
        let plain = |values: Vec<Option<f64>>| vec![(None, values)];
        match measure {
            Measure::Count => {
                let unit = if per_second { 1.0 / steps.seconds() } else { 1.0 };
                run.finish::<Count>(met, |cells| plain(cells.iter().map(|cell| Some(cell.0 * unit)).collect()))
            }
            Measure::Sum => run.finish::<Sum>(met, |cells| {
                plain(cells.iter().map(|cell| (cell.weight > 0.0).then_some(cell.sum * scale)).collect())
            }),
            Measure::Average => run.finish::<Sum>(met, |cells| {
                let average = |cell: &Sum| (cell.weight > 0.0).then(|| cell.sum / cell.weight * scale);
                plain(cells.iter().map(average).collect())
            }),
            Measure::Min => run.finish::<Smallest>(met, |cells| {
                plain(cells.iter().map(|cell| cell.0.map(|value| value * scale)).collect())
            }),
            Measure::Max => run.finish::<Largest>(met, |cells| {
                plain(cells.iter().map(|cell| cell.0.map(|value| value * scale)).collect())
            }),
            Measure::Histogram => run.finish::<PowerHistogram>(met, |cells| histogram_lines(cells, scale)),
            Measure::Quantiles(quantiles) => {
                run.finish::<Distribution>(met, |cells| quantile_lines(cells, quantiles, scale))
            }
        }
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
    pub(super) snapshot: &'a Snapshot,
    pub(super) bounds: &'a Bounds<'a>,
    /// What is measured.
    pub(super) field: Option<&'a Expression>,
}

impl Run<'_> {
    /// Gathers and makes series; `lines` turns the cells of one series into its lines.
    fn finish<C: Cell>(&self, met: &mut Met, lines: impl Fn(&mut [C]) -> Vec<Line>) -> Result<Vec<Series>, QueryError> {
        let files = matching_files(self.series, self.steps, self.snapshot, self.bounds, met);
        let mut gathered = match self.series.spans_alone() {
            Some(filter) => self.gather_from_columns(filter, &files, met)?,
            None => traces::gather::<C>(self, &files, met)?,
        };
        met.weighting.spans += gathered.spans;
        met.weighting.spans_of_unknown_probability += gathered.spans_of_unknown_probability;
        if gathered.left_out > 0 {
            let left_out = gathered.left_out;
            met.partial(|| {
                format!("too many series: {left_out} spans of further ones are left out; group by fewer fields or narrow the query")
            });
        }
        if C::ZERO_OF_NOTHING && self.series.by.is_empty() {
            // No spans are a count of 0, not an unknown one.
            gathered.group(&[]);
        }
        let total = gathered.series();
        let exemplars_max = self.series.exemplars.of_each(total);
        let mut made: Vec<Series> = Vec::new();
        for (number, (key, mut cells, candidates)) in gathered.into_groups().enumerate() {
            if self.bounds.cancelled() {
                break;
            }
            if made.len() * self.steps.count > self.bounds.points_max() {
                met.partial(|| self.bounds.too_many_points(number, total, "series"));
                break;
            }
            let exemplars = columns::exemplars(self, &files, &spread(candidates, exemplars_max))?;
            let labels = self.labels(&key);
            for (number, (extra, values)) in lines(&mut cells).into_iter().enumerate() {
                let mut labels = labels.clone();
                labels.extend(extra.map(|(name, value)| (name, Some(AnyValue::Double(value)))));
                // Lines of one series have the same spans behind them: the first one shows them.
                let exemplars = if number == 0 { exemplars.clone() } else { Vec::new() };
                made.push(Series { labels, values, exemplars });
            }
        }
        Ok(made)
    }

    fn labels(&self, key: &GroupKey) -> Vec<(String, Option<AnyValue>)> {
        self.series.by.iter().zip(key.iter()).map(|(field, value)| (field.name.clone(), value.to_any())).collect()
    }

    fn gather_from_columns<C: Cell>(
        &self,
        filter: &Expression,
        files: &[&Arc<SpanFile>],
        met: &mut Met,
    ) -> Result<Gathered<C>, QueryError> {
        let scan = Scan { filter, start: self.steps.range.clone(), bounds: self.bounds };
        let begin = || Gathered::new(self.steps, self.series.exemplars.of_series_max, self.bounds.cell_bytes_max());
        let mut gathered = begin();
        columns::gather_memory(self, filter, &mut gathered);
        let pieces = row_groups(files, met)?;
        let (all, done) = self.bounds.gather(pieces.len(), begin, |piece, own| {
            let piece = &pieces[piece];
            columns::gather_row_group(self, &scan, piece, own).map_err(|source| piece.file.read_error(source))
        })?;
        if done < pieces.len() {
            met.partial(|| self.bounds.stopped(done, pieces.len(), "row groups read"));
        }
        all.into_iter().for_each(|own| gathered.merge(own));
        Ok(gathered)
    }
}

/// A row group to be read.
pub(super) struct Piece<'a> {
    /// Number among the files that are read.
    pub(super) number: u32,
    pub(super) file: &'a Arc<SpanFile>,
    pub(super) open: Arc<tracehouse_store::OpenFile>,
    pub(super) row_group: usize,
}

/// The row groups of files. A file that can't be opened is left out, and the answer says so.
pub(super) fn row_groups<'a>(files: &[&'a Arc<SpanFile>], met: &mut Met) -> Result<Vec<Piece<'a>>, QueryError> {
    let mut pieces = Vec::new();
    let mut failed = 0;
    for (number, file) in (0..).zip(files) {
        match file.open() {
            Ok(open) => {
                for row_group in 0..open.row_groups() {
                    met.inspected.spans += open.rows_of(row_group) as u64;
                    pieces.push(Piece { number, file, open: open.clone(), row_group });
                }
                met.inspected.files += 1;
            }
            Err(error) => {
                tracing::error!(path = error.path, error = %error.source, "a file could not be read");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        let total = files.len();
        met.partial(|| format!("{failed} of {total} files could not be read"));
    }
    Ok(pieces)
}

/// Files in the range of time that the catalogue can't rule out.
pub(super) fn matching_files<'s>(
    series: &SeriesPlan,
    steps: &Steps,
    snapshot: &'s Snapshot,
    bounds: &Bounds<'_>,
    met: &mut Met,
) -> Vec<&'s Arc<SpanFile>> {
    let driver = &series.plan.drivers.span;
    let scan = Scan { filter: driver, start: steps.range.clone(), bounds };
    let files = scan.files(snapshot);
    met.inspected.files_total += files.len() as u64;
    met.inspected.spans += snapshot.hot.iter().map(|hot| hot.spans.len() as u64).sum::<u64>();
    let (may_match, ruled_out): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file_may_match(driver, &file.contents));
    met.inspected.files += ruled_out.len() as u64;
    may_match
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
