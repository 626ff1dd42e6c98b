//! Gathers from whole traces, for pipelines that no span alone decides.

use std::sync::Arc;

use tracehouse_model::{SeededSet, TraceId};
use tracehouse_spanfile::OpenFile;
use tracehouse_store::SpanFile;

use super::columns::gather_rows;
use super::gather::{Gathered, Place};
use super::measure::Cell;
use super::series_plan::Run;
use crate::column_eval::columns_of;
use crate::met::Met;
use crate::row_eval::RowExpression;
use crate::services::columns_of_services;
use crate::whereabouts::Whereabouts;
use crate::whole_traces::{Left, WholeTraces};

pub(super) fn gather<C: Cell>(run: &Run<'_>, files: &[&Arc<SpanFile>], met: &mut Met) -> Gathered<C> {
    let traces = whole_traces(run);
    let whereabouts = Whereabouts::new(run.question);
    let (candidates, _held) = traces.candidates(&whereabouts, files, met);
    gather_of(run, &whereabouts, &candidates, met)
}

/// Gathers from some traces, each with a file where it was met: by file, then by id.
pub(super) fn gather_of<C: Cell>(
    run: &Run<'_>,
    whereabouts: &Whereabouts<'_>,
    candidates: &[(u32, TraceId)],
    met: &mut Met,
) -> Gathered<C> {
    let columns = |open: &OpenFile| Some(columns(run, open));
    let look = |left: &Left<'_>, own: &mut Gathered<C>| {
        let Left { spans, facts, .. } = left;
        let rows = left.rows().into_iter().map(|row| row as usize);
        let place = |row: usize| Place::Known { trace_id: spans.trace_id[row], span_id: spans.span_id[row] };
        gather_rows(run, spans, rows, place, |field| RowExpression::new(field, spans, Some(facts)), own);
    };
    let all = whole_traces(run).gather_of(whereabouts, candidates, met, || run.begin(), columns, look);
    let mut gathered = run.begin();
    all.into_iter().for_each(|own| gathered.merge(own));
    gathered
}

fn whole_traces<'a>(run: &Run<'a>) -> WholeTraces<'a> {
    WholeTraces::of_plan(&run.series.plan, run.steps.window(), run.question)
}

fn columns(run: &Run<'_>, open: &OpenFile) -> Vec<String> {
    let by = run.series.by.iter().map(|field| &field.expression);
    let always = ["name", "kind", "sampling_threshold"].into_iter().chain(columns_of_services(open));
    let mut columns: SeededSet<String> = always.map(str::to_owned).collect();
    for expression in run.series.plan.expressions().into_iter().chain(by).chain(run.field) {
        columns.extend(columns_of(expression, open.layout()));
    }
    columns.into_iter().collect()
}
