//! Gathers from whole traces, for pipelines that no span alone decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use parquet::errors::ParquetError;
use rustc_hash::FxHashSet;
use tracehouse_model::TraceId;
use tracehouse_store::{OpenFile, ReadError, Snapshot, SpanFile};

use super::columns::gather_rows;
use super::gather::Gathered;
use super::measure::Cell;
use super::series::{Run, SeriesPlan, row_groups};
use super::{Met, Steps};
use crate::assemble::assemble_many;
use crate::bounds::Bounds;
use crate::candidates::{Candidates, Scan};
use crate::column_eval::columns_of;
use crate::compile::Expression;
use crate::error::QueryError;
use crate::evaluate::{Evaluation, union_of};
use crate::row_eval::{RowExpression, TraceFacts};

/// Traces that one thread puts together at once.
pub(super) const TRACES_AT_ONCE: usize = 2048;
/// Most spans that are read of one trace, for each row group it lies in.
pub(super) const SPANS_PER_TRACE_MAX: usize = 250_000;

pub(super) fn gather<C: Cell>(
    run: &Run<'_>,
    files: &[&Arc<SpanFile>],
    met: &mut Met,
) -> Result<Gathered<C>, QueryError> {
    let traces = candidates(run.series, run.steps, run.snapshot, run.bounds, files, met)?;
    let portions: Vec<&[TraceId]> = traces.chunks(TRACES_AT_ONCE).collect();
    let (next, done, omitted) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(0u64));
    let all: Mutex<Vec<Gathered<C>>> = Mutex::default();
    let work = || -> Result<(), ReadError> {
        let mut own = Gathered::new(run.steps, run.series.exemplars_max);
        while let Some(portion) = portions.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !run.bounds.exceeded())
        {
            let found = assemble_many(run.snapshot, portion, SPANS_PER_TRACE_MAX, |open| Some(columns(run, open)))?;
            for tree in &found.trees {
                let facts = TraceFacts::of(&found.spans, tree);
                let spansets =
                    Evaluation::new(&found.spans, tree, &facts).run(&run.series.plan.stages, &run.steps.range);
                let rows = union_of(&spansets).into_iter().map(|row| row as usize);
                let bind = |field| RowExpression::new(field, &found.spans, Some(&facts));
                gather_rows(run, &found.spans, rows, bind, &mut own);
                *omitted.lock() += tree.omitted;
            }
            done.fetch_add(portion.len(), Ordering::Relaxed);
        }
        all.lock().push(own);
        Ok(())
    };
    run.bounds.on_threads(portions.len(), work, || ReadError {
        path: String::new(),
        source: ParquetError::General("a part of the query panicked".into()),
    })?;
    let (done, total, omitted) = (done.into_inner(), traces.len(), omitted.into_inner());
    if done < total {
        let seconds = run.bounds.time_max.as_secs_f64();
        met.partial(|| format!("stopped after {seconds:.1} s: {done} of {total} traces looked at"));
    }
    if omitted > 0 {
        met.partial(|| format!("{omitted} spans of very large traces were not looked at"));
    }
    let mut gathered = Gathered::new(run.steps, run.series.exemplars_max);
    all.into_inner().into_iter().for_each(|own| gathered.merge(own));
    Ok(gathered)
}

/// Traces that may leave spans, sorted.
pub(super) fn candidates(
    series: &SeriesPlan,
    steps: &Steps,
    snapshot: &Snapshot,
    bounds: &Bounds<'_>,
    files: &[&Arc<SpanFile>],
    met: &mut Met,
) -> Result<Vec<TraceId>, QueryError> {
    let driver = series.plan.drivers().map_or_else(Expression::always, |drivers| Expression::any(&drivers));
    let scan = Scan { filter: &driver, start: steps.range.clone(), bounds };
    let mut in_memory = Candidates::default();
    snapshot.hot.iter().for_each(|hot| scan.look_at_memory(&hot.spans, &mut in_memory));
    let mut traces: FxHashSet<TraceId> = in_memory.take_newer_than(i64::MIN).into_iter().collect();
    let pieces = row_groups(files, met)?;
    let (found, done) = (Mutex::new(&mut traces), AtomicUsize::new(0));
    let looked = bounds.side_by_side(pieces.len(), |piece| {
        let piece = &pieces[piece];
        let matches = scan.look_at_row_group(piece.file, &piece.open, piece.row_group)?;
        found.lock().extend(matches.into_iter().map(|(trace, _)| trace));
        done.fetch_add(1, Ordering::Relaxed);
        Ok(0u64)
    });
    looked.map_err(|source| ReadError { path: "spans of the time range".into(), source })?;
    let (done, total) = (done.into_inner(), pieces.len());
    if done < total {
        let seconds = bounds.time_max.as_secs_f64();
        met.partial(|| format!("stopped after {seconds:.1} s: {done} of {total} row groups read"));
    }
    let mut traces: Vec<TraceId> = traces.into_iter().collect();
    traces.sort_unstable();
    Ok(traces)
}

fn columns(run: &Run<'_>, open: &OpenFile) -> Vec<String> {
    let by = run.series.by.iter().map(|field| &field.expression);
    let mut columns: FxHashSet<String> =
        ["name", "kind", "resource.service.name", "sampling_threshold"].map(str::to_owned).into_iter().collect();
    for expression in run.series.plan.expressions().into_iter().chain(by).chain(run.field) {
        columns.extend(columns_of(expression, open.layout()));
    }
    if open.layout().resource_column("service.name").is_none() {
        columns.insert("resource_attributes".to_owned());
    }
    columns.into_iter().collect()
}
