//! The batches of a tenant that are in memory, with an index of the traces inside.
//!
//! There are thousands of them at times. Who asks for a trace must neither look at each nor copy a list of all, so the older ones
//! stand in groups that never change, each with one table of its traces ([`TraceTable`]). The newest have a list each until they
//! are enough for a group. A copy of the whole is a reference to each group and to each of the newest, and the index goes with it.

use std::ops::Index;
use std::sync::Arc;

use tracehouse_model::{SeededSet, TraceId};

use crate::hot_batch::HotBatch;
use crate::trace_table::{GROUP_BATCHES, TraceTable, fingerprint, fingerprints};

/// So many small batches in a row are made one: each costs a few kilobytes beside its spans.
const SMALL_BATCHES_MAX: usize = 32;
const SMALL_BATCH_SPANS: usize = 256;
/// A group is made when so many batches are in none; its oldest go into it. What may yet be joined stays.
const UNGROUPED_MAX: usize = GROUP_BATCHES + SMALL_BATCHES_MAX;
/// From so many traces on they are looked up in a table, instead of one by one.
const MANY_TRACES: usize = 8;

/// Batches in order of arrival.
#[derive(Clone, Default)]
pub struct HotBatches {
    groups: Vec<Arc<Group>>,
    newest: Vec<Arc<Newest>>,
}

/// Batches that follow each other. Some may be gone, or have fewer spans, since the table was made.
#[derive(Clone)]
struct Group {
    traces: Arc<TraceTable>,
    /// With the number of each in the table, ascending.
    batches: Vec<(u8, Arc<HotBatch>)>,
}

/// A batch that is in no group yet.
#[derive(Clone)]
pub(crate) struct Newest {
    batch: Arc<HotBatch>,
    /// Fingerprints of its traces, in no order.
    traces: Arc<[u32]>,
}

impl Newest {
    pub(crate) fn new(batch: HotBatch) -> Self {
        let traces = fingerprints(&batch.spans).into();
        Self { batch: Arc::new(batch), traces }
    }

    pub(crate) fn batch(&self) -> &Arc<HotBatch> {
        &self.batch
    }
}

impl HotBatches {
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.batches.len()).sum::<usize>() + self.newest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.newest.is_empty()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<HotBatch>> + Clone {
        let grouped = self.groups.iter().flat_map(|group| group.batches.iter().map(|(_, batch)| batch));
        grouped.chain(self.newest.iter().map(|newest| &newest.batch))
    }

    /// Whether a batch may hold spans of a trace; wrong for few traces of which there are none.
    pub fn may_hold(&self, trace: TraceId) -> bool {
        let wanted = fingerprint(trace);
        self.newest.iter().any(|newest| newest.traces.contains(&wanted))
            || self.groups.iter().any(|group| group.holding(&[wanted]).next().is_some())
    }

    /// The batches that may hold spans of some traces, each with its number among all; of others few.
    pub fn holding(&self, traces: &[TraceId]) -> Vec<(usize, &Arc<HotBatch>)> {
        let wanted: Vec<u32> = traces.iter().map(|&trace| fingerprint(trace)).collect();
        let (mut found, mut before) = (Vec::new(), 0);
        for group in &self.groups {
            found.extend(group.holding(&wanted).map(|(place, batch)| (before + place, batch)));
            before += group.batches.len();
        }
        let table: SeededSet<u32> =
            if wanted.len() < MANY_TRACES { SeededSet::default() } else { wanted.iter().copied().collect() };
        let is_wanted = |newest: &Newest| {
            if table.is_empty() {
                wanted.iter().any(|trace| newest.traces.contains(trace))
            } else {
                newest.traces.iter().any(|trace| table.contains(trace))
            }
        };
        let newest = self.newest.iter().enumerate().filter(|(_, newest)| is_wanted(newest));
        found.extend(newest.map(|(place, newest)| (before + place, &newest.batch)));
        found
    }

    /// Adds a batch, and joins small ones that came last, but none up to a number of the log. Returns by how many bytes memory grew
    /// less than by what was added.
    pub(crate) fn push(&mut self, added: Newest, keep_up_to: u64) -> usize {
        self.newest.push(Arc::new(added));
        let saved = self.join_small(keep_up_to);
        if self.newest.len() >= UNGROUPED_MAX {
            let oldest: Vec<Arc<Newest>> = self.newest.drain(..GROUP_BATCHES).collect();
            self.groups.push(Arc::new(Group::of(&oldest)));
        }
        saved
    }

    fn join_small(&mut self, keep_up_to: u64) -> usize {
        let is_small = |newest: &&Arc<Newest>| {
            newest.batch.spans.len() < SMALL_BATCH_SPANS && newest.batch.first_sequence() > keep_up_to
        };
        let small = self.newest.iter().rev().take_while(is_small).count();
        if small < SMALL_BATCHES_MAX {
            return 0;
        }
        let parts = self.newest.split_off(self.newest.len() - small);
        let Some(joined) = HotBatch::joined(parts.iter().map(|part| &*part.batch)) else { return 0 };
        let joined = Newest::new(joined);
        if parts.iter().all(|part| part.batch.is_without_copies()) {
            joined.batch.set_without_copies();
        }
        let before: usize = parts.iter().map(|part| part.batch.bytes).sum();
        let saved = before.saturating_sub(joined.batch.bytes);
        self.newest.push(Arc::new(joined));
        saved
    }

    /// Puts a batch, of which some spans were taken out, in its own place; false if it is no longer there.
    pub(crate) fn replace(&mut self, old: &Arc<HotBatch>, new: &Arc<HotBatch>) -> bool {
        // What the index says of the old one is enough for the new one.
        if let Some(newest) = self.newest.iter_mut().find(|newest| Arc::ptr_eq(&newest.batch, old)) {
            *newest = Arc::new(Newest { batch: new.clone(), traces: newest.traces.clone() });
            return true;
        }
        for group in &mut self.groups {
            if let Some(place) = group.batches.iter().position(|(_, batch)| Arc::ptr_eq(batch, old)) {
                Arc::make_mut(group).batches[place].1 = new.clone();
                return true;
            }
        }
        false
    }

    /// Keeps some of the batches.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&HotBatch) -> bool) {
        for group in &mut self.groups {
            if !group.batches.iter().all(|(_, batch)| is_kept(batch)) {
                Arc::make_mut(group).batches.retain(|(_, batch)| is_kept(batch));
            }
        }
        self.groups.retain(|group| !group.batches.is_empty());
        self.newest.retain(|newest| is_kept(&newest.batch));
    }
}

impl Index<usize> for HotBatches {
    type Output = Arc<HotBatch>;

    fn index(&self, number: usize) -> &Arc<HotBatch> {
        let mut number = number;
        for group in &self.groups {
            match group.batches.get(number) {
                Some((_, batch)) => return batch,
                None => number -= group.batches.len(),
            }
        }
        &self.newest[number].batch
    }
}

impl Group {
    fn of(batches: &[Arc<Newest>]) -> Self {
        let traces: Vec<&[u32]> = batches.iter().map(|newest| &*newest.traces).collect();
        let batches = (0..).zip(batches).map(|(number, newest)| (number, newest.batch.clone())).collect();
        Self { traces: Arc::new(TraceTable::of(&traces)), batches }
    }

    /// The batches that may hold some traces, with their places.
    fn holding(&self, wanted: &[u32]) -> impl Iterator<Item = (usize, &Arc<HotBatch>)> {
        let numbers = wanted.iter().fold(0u64, |numbers, &trace| numbers | self.traces.batches_of(trace));
        let holds = move |(_, (number, _)): &(usize, &(u8, Arc<HotBatch>))| (numbers >> number) & 1 == 1;
        let batches = if numbers == 0 { &[] } else { &*self.batches };
        batches.iter().enumerate().filter(holds).map(|(place, (_, batch))| (place, batch))
    }
}

#[cfg(test)]
mod tests {
    use tracehouse_model::{Randomness, SpanBatch, SpanFields, SystemRandomness};

    use super::*;

    const TRACES: u64 = 500;

    fn trace(number: u64) -> TraceId {
        TraceId(u128::from(number).to_be_bytes())
    }

    fn batch_of(traces: impl IntoIterator<Item = u64>, sequence: u64) -> HotBatch {
        let mut spans = SpanBatch::new();
        let attributes = spans.finish_resource(0, 0);
        let scope = spans.finish_scope(0, 0, 0, 0);
        for number in traces {
            let fields = SpanFields { trace_id: trace(number), resource: attributes, scope, ..SpanFields::default() };
            spans.finish_span(fields);
        }
        HotBatch::new(spans, sequence, sequence)
    }

    fn sequences(hot: &HotBatches) -> Vec<(u64, u64)> {
        hot.iter().map(|batch| (batch.first_sequence(), batch.last_sequence)).collect()
    }

    /// What the index says must be what a look at every batch says, and nothing else of the list may differ.
    fn check(hot: &HotBatches, wanted: &[TraceId]) {
        let all: Vec<&Arc<HotBatch>> = hot.iter().collect();
        assert_eq!(hot.len(), all.len());
        assert_eq!(hot.is_empty(), all.is_empty());
        assert!(all.iter().enumerate().all(|(number, batch)| Arc::ptr_eq(batch, &hot[number])));
        assert!(sequences(hot).is_sorted_by(|one, next| one.1 < next.0), "in order of arrival");
        let holding = hot.holding(wanted);
        assert!(holding.is_sorted_by_key(|(number, _)| *number));
        assert!(holding.iter().all(|(number, batch)| Arc::ptr_eq(batch, all[*number])));
        for (number, batch) in all.iter().enumerate() {
            let holds = batch.spans.trace_id.iter().any(|id| wanted.contains(id));
            assert!(!holds || holding.iter().any(|(found, _)| *found == number), "batch {number} is denied");
        }
        for &trace in wanted {
            let holds = all.iter().any(|batch| batch.spans.trace_id.contains(&trace));
            assert!(!holds || hot.may_hold(trace), "{trace:?} is denied");
        }
    }

    #[test]
    fn the_index_agrees_with_a_look_at_every_batch_whatever_is_done() {
        let random = SystemRandomness::from_seed(7);
        let below = |end: u64| random.next_u64() % end;
        let (mut hot, mut before) = (HotBatches::default(), Vec::new());
        for sequence in 1..=3000 {
            let spans = if below(3) == 0 { below(8) } else { 256 + below(64) };
            let traces: Vec<u64> = (0..spans).map(|_| below(TRACES)).collect();
            hot.push(Newest::new(batch_of(traces, sequence)), sequence.saturating_sub(40));
            match below(40) {
                // Copies are taken out of a batch.
                0..10 => {
                    let old = hot[below(hot.len() as u64) as usize].clone();
                    let new = Arc::new(old.only((0..old.spans.len()).filter(|row| row % 3 > 0)));
                    assert!(hot.replace(&old, &new));
                    assert!(!hot.replace(&old, &new), "it is no longer there");
                }
                // What was in memory when a flush began is in files.
                10 => hot.retain(|batch| batch.last_sequence > sequence - below(300).min(sequence)),
                // A question holds on to what it saw.
                11 | 12 => before.push((hot.clone(), sequences(&hot))),
                _ => {}
            }
            if sequence % 50 == 0 {
                let few: Vec<TraceId> = (0..3).map(|_| trace(below(2 * TRACES))).collect();
                let many: Vec<TraceId> = (0..40).map(|_| trace(below(2 * TRACES))).collect();
                check(&hot, &few);
                check(&hot, &many);
                for (snapshot, held) in &before {
                    assert_eq!(sequences(snapshot), *held);
                    check(snapshot, &few);
                }
                before.truncate(2);
            }
        }
        assert!(hot.groups.len() > 2 && hot.newest.len() < UNGROUPED_MAX, "both kinds were looked at");
    }

    #[test]
    fn a_trace_is_looked_for_in_few_batches_that_do_not_have_it() {
        let mut hot = HotBatches::default();
        for sequence in 1..=2000 {
            hot.push(Newest::new(batch_of(sequence * 1000..sequence * 1000 + 256, sequence)), 0);
        }
        let found: usize = (1..=2000).map(|number| hot.holding(&[trace(number * 1000 + 7)]).len()).sum();
        assert!((2000..2010).contains(&found), "{found} batches for 2000 traces");
        let absent = (1..=2000).filter(|number| hot.may_hold(trace(number * 1000 + 999))).count();
        assert!(absent < 10, "{absent} of 2000 traces are taken for such that are there");
    }
}
