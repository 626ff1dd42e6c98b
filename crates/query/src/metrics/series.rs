//! One metrics function over the spans that a pipeline selects.

use std::sync::Arc;

use tracehouse_model::AnyValue;
use tracehouse_scan::each_row_group;
use tracehouse_store::SpanFile;

use super::gather::{Candidate, Gathered, GroupKey};
use super::measure::{
    Cell, Count, DistributionCell, Largest, Lines, Measure, Smallest, Sum, histogram_lines, quantile_lines,
};
use super::quantiles::Histogram;
use super::room::Room;
use super::series_plan::{FunctionPlan, Run, SeriesPlan, is_duration};
use super::steps::Steps;
use super::{columns, structured, traces};
use crate::candidates::SpanFinder;
use crate::compile::Expression;
use crate::met::{Met, matching_files};
use crate::question::Question;
use crate::request::Series;
use crate::shares::{cell_bytes_max, points_max, too_many_points};

impl SeriesPlan {
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
            Measure::Histogram { per_octave } => {
                run.finish(met, |cells: &mut [Histogram], lines| histogram_lines(cells, *per_octave, scale, lines))
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

impl Run<'_> {
    /// Gathers and makes series; `lines` turns the cells of one series into its lines.
    fn finish<C: Cell>(&self, met: &mut Met, lines: impl Fn(&mut [C], &mut Lines<'_>)) -> Vec<Series> {
        let files = matching_files(&self.series.finder(self.steps, self.question), self.question, met);
        let mut gathered = match self.series.spans_alone() {
            Some(filter) => self.gather_from_columns(filter, &files, met),
            None => match structured::gather::<C>(self, &files, met) {
                Some(gathered) => gathered,
                None => traces::gather::<C>(self, &files, met),
            },
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
        let finder = SpanFinder { filter, exactly: &[], window: self.steps.window(), bounds };
        let mut gathered = self.begin();
        columns::gather_memory(self, filter, &mut gathered);
        let (all, done) = each_row_group(
            bounds,
            reach,
            files,
            || self.begin(),
            |piece, own| columns::gather_row_group(self, &finder, piece, own),
        );
        met.read(self.question, done, files.len());
        all.into_iter().for_each(|own| gathered.merge(own));
        gathered
    }
}

/// What a label takes beside its text, and how often it is copied: into the answer, and to sort and join by.
const LABEL_BYTES: usize = 64;
const COPIES_OF_LABELS: usize = 3;

/// At most so many of them, at even distances.
fn spread(candidates: Vec<Candidate>, most: usize) -> Vec<Candidate> {
    let count = most.min(candidates.len());
    (0..count).map(|at| candidates[at * candidates.len() / count]).collect()
}
