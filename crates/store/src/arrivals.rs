//! What came lately, for whoever follows what comes: all batches in memory, and the newest of those that left it for files, so that
//! who looks every second misses nothing that a flush takes meanwhile.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tracehouse_model::TenantId;

use crate::hot_batch::HotBatch;
use crate::hot_batches::HotBatches;

/// What left memory is kept up to so many bytes, of all tenants together: what comes in a second or two at full speed.
const LEFT_BYTES_MAX: usize = 16 << 20;

/// What came to a tenant between two positions of the log.
#[derive(Default)]
pub struct Arrived {
    /// In order of arrival, each with the rows that came then.
    pub batches: Vec<(Arc<HotBatch>, Range<usize>)>,
    /// More may have come then: it went to files before anybody looked.
    pub may_be_more: bool,
}

/// Batches that were written to files lately.
#[derive(Default)]
pub(crate) struct LeftMemory {
    /// By their last numbers in the log, ascending.
    batches: Vec<(TenantId, Arc<HotBatch>)>,
    /// Of each tenant, up to which number of the log nothing is known any more.
    forgotten_up_to: BTreeMap<TenantId, u64>,
    /// The same of all tenants: what was in files before this process began.
    begun_at: u64,
}

impl LeftMemory {
    pub(crate) fn begin(&mut self, sequence: u64) {
        self.begun_at = sequence;
    }

    pub(crate) fn add(&mut self, left: Vec<(TenantId, Arc<HotBatch>)>) {
        self.batches.extend(left);
        self.batches.sort_by_key(|(_, batch)| batch.last_sequence);
        let mut bytes = 0;
        let kept = self.batches.iter().rev().take_while(|(_, batch)| {
            bytes += batch.bytes;
            bytes <= LEFT_BYTES_MAX
        });
        let forgotten = self.batches.len() - kept.count();
        for (tenant, batch) in self.batches.drain(..forgotten) {
            let up_to = self.forgotten_up_to.entry(tenant).or_default();
            *up_to = batch.last_sequence.max(*up_to);
        }
    }

    /// What came to a tenant after a number of the log, up to another: of what left memory, and of what is `hot`.
    pub(crate) fn arrived(&self, tenant: &TenantId, hot: &HotBatches, after: u64, up_to: u64) -> Arrived {
        let left = self.batches.iter().filter(|(of, _)| of == tenant).map(|(_, batch)| batch);
        let is_wanted = |batch: &&Arc<HotBatch>| batch.last_sequence > after && batch.first_sequence <= up_to;
        let with_rows = |batch: &Arc<HotBatch>| (batch.clone(), batch.rows_of(after, up_to));
        // What is hot is in order of arrival, and of very much only the end is new.
        let mut batches: Vec<_> =
            hot.iter().rev().take_while(|batch| batch.last_sequence > after).filter(is_wanted).map(with_rows).collect();
        batches.extend(left.filter(is_wanted).map(with_rows));
        batches.retain(|(_, rows)| !rows.is_empty());
        batches.sort_by_key(|(batch, _)| batch.last_sequence);
        let forgotten_up_to = self.forgotten_up_to.get(tenant).copied().unwrap_or(0).max(self.begun_at);
        Arrived { batches, may_be_more: after < forgotten_up_to.min(up_to) }
    }
}

#[cfg(test)]
mod tests {
    use tracehouse_model::{SpanBatch, SpanFields, TraceId};

    use super::*;
    use crate::hot_batches::Newest;

    fn spans(names: &[String]) -> SpanBatch {
        let mut spans = SpanBatch::new();
        let resource = spans.finish_resource(0, 0);
        let scope = spans.finish_scope(0, 0, 0, 0);
        for name in names {
            let name = spans.strings.intern_str(name);
            spans.finish_span(SpanFields {
                trace_id: TraceId([1; 16]),
                name,
                resource,
                scope,
                ..SpanFields::default()
            });
        }
        spans
    }

    /// Names tell the number in the log with which a span came, and its place there.
    fn names(sequence: u64, count: usize) -> Vec<String> {
        (0..count).map(|place| format!("{sequence}.{place}")).collect()
    }

    fn found(arrived: &Arrived) -> Vec<String> {
        let rows = arrived
            .batches
            .iter()
            .flat_map(|(batch, rows)| rows.clone().map(|row| batch.spans.strings.get(batch.spans.name[row])));
        rows.map(str::to_owned).collect()
    }

    /// However batches were joined, had copies taken out, and went to files.
    #[test]
    fn each_span_comes_once_whenever_one_looks() {
        let tenant = TenantId::default();
        let (mut hot, mut left) = (HotBatches::default(), LeftMemory::default());
        let (mut looked_at, mut seen, mut expected) = (0, Vec::new(), Vec::new());
        for sequence in 1..=400 {
            let count = [3, 1, 500, 2, 1][sequence as usize % 5];
            let sent = names(sequence, count);
            hot.push(Newest::new(HotBatch::new(spans(&sent), sequence, sequence)), 0);
            expected.extend(sent);
            if sequence % 7 == 0 {
                let arrived = left.arrived(&tenant, &hot, looked_at, sequence);
                assert!(!arrived.may_be_more);
                seen.extend(found(&arrived));
                looked_at = sequence;
            }
            if sequence % 11 == 0 {
                // A copy is taken out of what was seen already, and the batch goes on.
                let batch = hot[hot.len() - 1].clone();
                if batch.last_sequence <= looked_at && batch.spans.len() > 1 {
                    hot.replace(&batch, &Arc::new(batch.only(1..batch.spans.len())));
                }
            }
            if sequence % 50 == 0 {
                left.add(hot.iter().map(|batch| (tenant.clone(), batch.clone())).collect());
                hot = HotBatches::default();
            }
        }
        seen.extend(found(&left.arrived(&tenant, &hot, looked_at, 400)));
        assert_eq!(seen, expected);
        assert!(left.arrived(&TenantId::new("other").expect("a name"), &hot, 0, 0).batches.is_empty());
    }

    #[test]
    fn what_is_forgotten_is_told() {
        let tenant = TenantId::default();
        let (hot, mut left) = (HotBatches::default(), LeftMemory::default());
        for sequence in 1..=2_000 {
            left.add(vec![(tenant.clone(), Arc::new(HotBatch::new(spans(&names(sequence, 500)), sequence, sequence)))]);
        }
        let bytes: usize = left.batches.iter().map(|(_, batch)| batch.bytes).sum();
        assert!(bytes <= LEFT_BYTES_MAX && bytes > LEFT_BYTES_MAX / 2);
        let first = left.batches[0].1.first_sequence;
        assert!(first > 1);
        let look = |after| left.arrived(&tenant, &hot, after, 2_000);
        assert!(look(first - 2).may_be_more && !look(first - 1).may_be_more);
        assert_eq!(look(first - 1).batches.len() as u64, 2_001 - first);
        left.begin(1_999);
        assert!(left.arrived(&tenant, &hot, 1_998, 2_000).may_be_more);
        assert!(!left.arrived(&tenant, &hot, 1_999, 2_000).may_be_more);
    }
}
