//! Somebody may look at whole traces before a merge writes them, and have some left out, as sampling of what is stored does.
//!
//! A trace's spans come from the files that are merged, from those of the same tenant and about the same time, of any tier, and
//! from memory. What can't be seen whole is kept: a trace that may have spans in a file that can't be read, and one too large to
//! be held. A merge without a decider reads nothing more, and does as if there were none.
//!
//! What comes in after the merge began is not seen. Who waits for late spans keeps a trace as long as its spans are young.

use std::sync::Arc;

use tracehouse_model::{SpanBatch, TenantId, TraceId};
use tracehouse_spanfile::{ROWS_PER_ROW_GROUP, TraceFilter};

use crate::decider::{Decider, WholeTrace};
use crate::error::{ReadError, chain};
use crate::hot_batches::HotBatches;
use crate::shared::Shared;
use crate::span_file::SpanFile;

/// A trace with more spans in the files that are merged, or in one of the others, is kept.
pub(crate) const DECIDED_SPANS_MAX: usize = ROWS_PER_ROW_GROUP;

/// What a merge knows of the spans that it does not merge.
pub(crate) struct Deciding<'a> {
    decider: &'a dyn Decider,
    tenant: TenantId,
    others: Vec<Other>,
    hot: HotBatches,
}

struct Other {
    file: Arc<SpanFile>,
    filter: Arc<TraceFilter>,
}

impl<'a> Deciding<'a> {
    /// `None`: all traces are kept, as nobody decides, or as some can't be seen whole.
    pub(crate) fn about(shared: &'a Shared, inputs: &[Arc<SpanFile>]) -> Option<Self> {
        let decider = shared.config.decider.as_deref()?;
        let tenant = inputs.first()?.record.tenant.clone();
        let reach = i64::try_from(decider.reach().as_nanos()).unwrap_or(i64::MAX);
        let begin = inputs.iter().map(|file| file.record.start_min).min()?.saturating_sub(reach);
        let end = inputs.iter().map(|file| file.record.start_max).max()?.saturating_add(reach);
        let snapshot = shared.state.snapshot(&tenant);
        if let Some(file) = snapshot.unreadable.iter().find(|file| file.start_min <= end && file.start_max >= begin) {
            tracing::debug!(path = file.path, "a file can't be read, so a merge leaves no traces out");
            return None;
        }
        let is_merged = |file: &SpanFile| inputs.iter().any(|input| input.record.id == file.record.id);
        let is_near = |file: &SpanFile| file.record.start_min <= end && file.record.start_max >= begin;
        let mut others = Vec::new();
        for file in snapshot.files.iter().filter(|file| is_near(file) && !is_merged(file)) {
            match file.filter() {
                Ok(filter) => others.push(Other { file: file.clone(), filter }),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a merge leaves no traces out, as a file can't be read");
                    return None;
                }
            }
        }
        Some(Self { decider, tenant, others, hot: snapshot.hot })
    }

    /// Whether the spans of a trace in the merged files are kept.
    pub(crate) fn keeps(&self, trace: TraceId, merged: &[(&SpanBatch, usize)]) -> bool {
        let further = match self.read_others(trace) {
            Ok(Some(further)) => further,
            Ok(None) => return true,
            Err(error) => {
                tracing::debug!(error = chain(&error), "a trace is kept, as a file can't be read");
                return true;
            }
        };
        let mut spans = merged.to_vec();
        let hot = self.hot.holding(&[trace]).into_iter().map(|(_, batch)| &batch.spans);
        for batch in further.iter().chain(hot) {
            let rows = (0..batch.len()).filter(|row| batch.trace_id[*row] == trace);
            spans.extend(rows.map(|row| (batch, row)));
        }
        self.decider.keeps(&WholeTrace { tenant: &self.tenant, id: trace, spans: &spans })
    }

    /// The trace's spans in other files; `None`: they can't be told, or are too many.
    fn read_others(&self, trace: TraceId) -> Result<Option<Vec<SpanBatch>>, ReadError> {
        let mut found = Vec::new();
        for Other { file, .. } in self.others.iter().filter(|other| other.filter.may_contain(trace)) {
            if file.damaged_spans() > 0 || file.is_suspected() {
                return Ok(None);
            }
            let read = file.open()?.read_trace(trace, DECIDED_SPANS_MAX).map_err(|source| file.read_error(source))?;
            match read {
                Some(spans) if spans.len() >= DECIDED_SPANS_MAX => return Ok(None),
                read => found.extend(read),
            }
        }
        Ok(Some(found))
    }
}
