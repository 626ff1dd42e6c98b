//! A slow and obvious evaluation of TraceQL over spans one by one, to compare the engine with. It follows the header of
//! the `traceql` crate, not the engine.

mod expression;
mod metrics;
mod spansets;

use std::collections::{BTreeMap, BTreeSet};

use tracehouse_model::{AnyValue, Span, SpanId, TraceId, kind};

pub(crate) use metrics::{ReferenceSeries, Steps, metrics, same};
pub(crate) use spansets::search;

/// Identifies a span within its trace: a client and a server may share an id.
pub(crate) type SpanKey = (SpanId, u8);

/// What a search leaves of one trace.
pub(crate) type TraceResult = Vec<SpansetResult>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SpansetResult {
    pub(crate) by: Vec<(String, Option<AnyValue>)>,
    pub(crate) spans: BTreeSet<SpanKey>,
}

/// Where the span stands that is above a child: the other half of a call that shares its id, else the deepest span with the id that it names.
fn parent_of(spans: &[&Span], child: usize) -> Option<usize> {
    const CALLERS: [u8; 2] = [kind::CLIENT, kind::PRODUCER];
    const CALLEES: [u8; 2] = [kind::SERVER, kind::CONSUMER];
    let first = |id: SpanId, kinds: &[u8]| {
        let rows = (0..spans.len()).filter(|&row| spans[row].span_id == id && kinds.contains(&spans[row].kind));
        rows.min_by_key(|&row| (spans[row].start_unix_nanos, -spans[row].duration_nanos))
    };
    let Span { span_id, parent_span_id: named, kind, .. } = *spans[child];
    if CALLEES.contains(&kind)
        && let Some(caller) = first(span_id, &CALLERS)
    {
        return Some(caller);
    }
    let deepest =
        first(named, &CALLEES).or_else(|| first(named, &CALLERS)).or_else(|| first(named, &[0, kind::INTERNAL]));
    deepest.filter(|_| !named.is_none())
}

/// One trace with its spans, each once.
pub(crate) struct Trace<'a> {
    pub(crate) spans: Vec<&'a Span>,
    /// For each span the place of its parent, if it is there.
    pub(crate) parent: Vec<Option<usize>>,
    nested_set: Vec<(i64, i64)>,
}

impl<'a> Trace<'a> {
    pub(crate) fn all(spans: &'a [Span]) -> BTreeMap<TraceId, Trace<'a>> {
        let mut by_trace: BTreeMap<TraceId, Vec<&Span>> = BTreeMap::new();
        for span in spans {
            let others = by_trace.entry(span.trace_id).or_default();
            if !others.iter().any(|known| (known.span_id, known.kind) == (span.span_id, span.kind)) {
                others.push(span);
            }
        }
        by_trace.into_iter().map(|(id, spans)| (id, Trace::of(spans))).collect()
    }

    fn of(spans: Vec<&'a Span>) -> Self {
        let parent = (0..spans.len()).map(|child| parent_of(&spans, child)).collect();
        let mut trace = Self { spans, parent, nested_set: Vec::new() };
        trace.number();
        trace
    }

    /// Siblings stand by start, then the longest first, then by id; roots before fragments.
    fn in_order(&self, mut rows: Vec<usize>) -> Vec<usize> {
        rows.sort_by_key(|&row| {
            let span = self.spans[row];
            (span.start_unix_nanos, -span.duration_nanos, span.span_id, span.kind)
        });
        rows
    }

    fn number(&mut self) {
        let tops = (0..self.spans.len()).filter(|&row| self.parent[row].is_none()).collect();
        let mut tops = self.in_order(tops);
        tops.sort_by_key(|&row| !self.spans[row].parent_span_id.is_none());
        self.nested_set = vec![(0, 0); self.spans.len()];
        let mut next = 1;
        for top in tops {
            self.number_below(top, &mut next);
        }
    }

    fn number_below(&mut self, row: usize, next: &mut i64) {
        self.nested_set[row].0 = *next;
        *next += 1;
        let children = (0..self.spans.len()).filter(|&child| self.parent[child] == Some(row)).collect();
        for child in self.in_order(children) {
            self.number_below(child, next);
        }
        self.nested_set[row].1 = *next;
        *next += 1;
    }

    /// The id of the span that stands above, or of the one that is missing.
    fn parent_id(&self, row: usize) -> SpanId {
        self.parent[row].map_or(self.spans[row].parent_span_id, |parent| self.spans[parent].span_id)
    }

    pub(crate) fn root(&self) -> Option<usize> {
        let roots = (0..self.spans.len()).filter(|&row| self.parent_id(row).is_none()).collect();
        self.in_order(roots).first().copied()
    }

    pub(crate) fn ancestors(&self, row: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut at = row;
        while let Some(parent) = self.parent[at] {
            found.push(parent);
            at = parent;
        }
        found
    }

    pub(crate) fn key(&self, row: usize) -> SpanKey {
        (self.spans[row].span_id, self.spans[row].kind)
    }
}
