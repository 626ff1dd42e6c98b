//! Gathers from whole traces, for pipelines that no span alone decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustc_hash::FxHashSet;
use tracehouse_model::TraceId;
use tracehouse_store::{OpenFile, Snapshot, SpanFile};

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

pub(super) fn gather<C: Cell>(
    run: &Run<'_>,
    files: &[&Arc<SpanFile>],
    met: &mut Met,
) -> Result<Gathered<C>, QueryError> {
    let traces = candidates(run.series, run.steps, run.snapshot, run.bounds, files, met)?;
    let portions: Vec<&[TraceId]> = traces.chunks(TRACES_AT_ONCE).collect();
    let omitted = AtomicU64::new(0);
    let begin = || Gathered::new(run.steps, run.series.exemplars_max, run.bounds.cell_bytes_max());
    let (all, done) = run.bounds.gather(portions.len(), begin, |portion, own| {
        let columns = |open: &OpenFile| Some(columns(run, open));
        assemble_many(run.snapshot, portions[portion], run.bounds, columns, |found| {
            for tree in &found.trees {
                let facts = TraceFacts::of(&found.spans, tree);
                let spansets =
                    Evaluation::new(&found.spans, tree, &facts).run(&run.series.plan.stages, &run.steps.range);
                let rows = union_of(&spansets).into_iter().map(|row| row as usize);
                let bind = |field| RowExpression::new(field, &found.spans, Some(&facts));
                gather_rows(run, &found.spans, rows, bind, own);
                omitted.fetch_add(tree.omitted, Ordering::Relaxed);
            }
        })
    })?;
    if done < portions.len() {
        met.partial(|| run.bounds.stopped(done, portions.len(), "portions of traces looked at"));
    }
    met.omitted(omitted.into_inner());
    let mut gathered = begin();
    all.into_iter().for_each(|own| gathered.merge(own));
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
    let mut traces = in_memory.take_newer_than(i64::MIN);
    let count = AtomicUsize::new(traces.len());
    let pieces = row_groups(files, met)?;
    let (found, done) = bounds.gather(pieces.len(), Vec::new, |piece, own: &mut Vec<TraceId>| {
        let piece = &pieces[piece];
        let matches = scan.look_at_row_group(piece.file, &piece.open, piece.row_group);
        let before = own.len();
        own.extend(matches.map_err(|source| piece.file.read_error(source))?.into_iter().map(|(trace, _)| trace));
        let count = own.len() - before + count.fetch_add(own.len() - before, Ordering::Relaxed);
        // They are gathered once more below.
        bounds.hold_candidates(2 * count * size_of::<TraceId>());
        Ok(())
    })?;
    if done < pieces.len() {
        met.partial(|| bounds.stopped(done, pieces.len(), "row groups read"));
    }
    found.into_iter().for_each(|found| traces.extend(found));
    traces.sort_unstable();
    traces.dedup();
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
