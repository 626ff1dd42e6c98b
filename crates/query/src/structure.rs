//! Pipelines of conditions and relations between spans, from the columns of rows that hold whole traces.
//!
//! A file stores of each span how many rows away its parent stands. So a relation is worked out for all rows of a row group at
//! once, from the rows on its two sides, without putting traces together. What that can't tell (circles of parents, parents that are
//! too far away to be stored so) is named, and is left to [`crate::evaluate`].

use std::ops::Range;

use arrow::array::{Array, Int32Array};
use arrow::buffer::BooleanBuffer;
use parquet::errors::Result;
use tracehouse_spanfile::PARENT_OFFSET_MAX;
use tracehouse_traceql::{Relation, SpansetOp, StructuralMode};

use crate::compile::Expression;
use crate::evaluate::inverse;
use crate::plan::{PlanStage, SpansetNode};

/// So many conditions at most, so that it fits into a number which of them hold.
pub(crate) const CONDITIONS_MAX: usize = 31;

/// The pipeline, if it is made of relations between spans of which each can be judged by itself.
pub(crate) fn structure_of(stages: &[PlanStage]) -> Option<&SpansetNode> {
    match stages {
        [PlanStage::Spanset(node @ SpansetNode::Combine { .. })] => {
            conditions(node).is_some_and(|conditions| conditions <= CONDITIONS_MAX).then_some(node)
        }
        _ => None,
    }
}

/// How many conditions there are; `None` if something else is among them.
fn conditions(node: &SpansetNode) -> Option<usize> {
    match node {
        SpansetNode::Filter(expression) => (!expression.needs_trace).then_some(1),
        // Siblings may stand beneath a parent that is not there.
        SpansetNode::Combine { op: SpansetOp::Structural { relation: Relation::Sibling, .. }, .. } => None,
        SpansetNode::Combine { left, right, .. } => Some(conditions(left)? + conditions(right)?),
        SpansetNode::Pipeline(_) => None,
    }
}

/// Which of some rows stand above which.
pub(crate) struct Kin {
    /// The first row of each trace.
    begins: Vec<u32>,
    /// Of each row that of its parent, or [`NO_PARENT`].
    parents: Vec<u32>,
}

pub(crate) const NO_PARENT: u32 = u32::MAX;

/// The parent of each row, by how many rows before it that stands.
pub(crate) fn parents_by_offsets(offsets: &Int32Array) -> Vec<u32> {
    let rows = offsets.len();
    let above = |row: usize| {
        let parent = (row as i64).checked_sub(i64::from(offsets.value(row)))?;
        u32::try_from(parent).ok().filter(|parent| (*parent as usize) < rows)
    };
    (0..rows).map(|row| if offsets.is_valid(row) { above(row).unwrap_or(NO_PARENT) } else { NO_PARENT }).collect()
}

impl Kin {
    /// What it takes for each row.
    pub(crate) const BYTES_PER_ROW: usize = 3 * size_of::<u32>();

    /// Of rows that stand trace by trace. Gives the traces, too, whose trees this does not tell.
    pub(crate) fn of(begins: Vec<u32>, parents: Vec<u32>) -> (Self, Vec<Range<usize>>) {
        let kin = Self { begins, parents };
        let mut reached = Vec::new();
        let is_untold =
            |trace: &Range<usize>| trace.len() > PARENT_OFFSET_MAX || has_circle(&kin.parents, trace, &mut reached);
        let untold = kin.traces().filter(is_untold).collect();
        (kin, untold)
    }

    /// The rows of each trace.
    fn traces(&self) -> impl Iterator<Item = Range<usize>> {
        let ends = self.begins.iter().skip(1).copied().chain([self.parents.len() as u32]);
        self.begins.iter().zip(ends).map(|(&begin, end)| begin as usize..end as usize)
    }

    fn parent(&self, row: usize) -> Option<usize> {
        Some(self.parents[row]).filter(|parent| *parent != NO_PARENT).map(|parent| parent as usize)
    }

    /// The rows that a pipeline leaves. `rows_of`: those that satisfy a condition, asked for always in one order.
    pub(crate) fn left_by<'n>(
        &self,
        node: &'n SpansetNode,
        rows_of: &mut impl FnMut(&'n Expression) -> Result<BooleanBuffer>,
    ) -> Result<BooleanBuffer> {
        match node {
            SpansetNode::Filter(expression) => rows_of(expression),
            SpansetNode::Combine { op, left, right } => {
                let (left, right) = (self.left_by(left, rows_of)?, self.left_by(right, rows_of)?);
                Ok(match op {
                    SpansetOp::Or => &left | &right,
                    SpansetOp::And => self.of_traces_with_both(&left, &right),
                    SpansetOp::Structural { relation, mode } => match mode {
                        StructuralMode::Related => &right & &self.standing(*relation, &left),
                        StructuralMode::NotRelated => &right & &!&self.standing(*relation, &left),
                        StructuralMode::Union => {
                            let of_right = &right & &self.standing(*relation, &left);
                            let of_left = &left & &self.standing(inverse(*relation), &right);
                            &of_left | &of_right
                        }
                    },
                })
            }
            SpansetNode::Pipeline(_) => unreachable!("is no structure"),
        }
    }

    fn of_traces_with_both(&self, left: &BooleanBuffer, right: &BooleanBuffer) -> BooleanBuffer {
        let either = left | right;
        let mut kept = vec![false; either.len()];
        for trace in self.traces() {
            if any_of(left, &trace) && any_of(right, &trace) {
                trace.filter(|row| either.value(*row)).for_each(|row| kept[row] = true);
            }
        }
        BooleanBuffer::from(kept)
    }

    /// The rows that stand in a relation to one of some.
    fn standing(&self, relation: Relation, to: &BooleanBuffer) -> BooleanBuffer {
        let rows = self.parents.len();
        let mut stands = vec![false; rows];
        match relation {
            Relation::Child => {
                return BooleanBuffer::collect_bool(rows, |row| {
                    self.parent(row).is_some_and(|parent| to.value(parent))
                });
            }
            Relation::Descendant => {
                // Most parents stand before their children, and are decided when those are met.
                let (mut decided, mut below) = (vec![false; rows], Vec::new());
                for row in 0..rows {
                    let mut at = row;
                    let found = loop {
                        match self.parent(at) {
                            _ if decided[at] => break stands[at],
                            None => break false,
                            Some(parent) if to.value(parent) => break true,
                            Some(parent) => {
                                // In a circle, what comes of this does not count.
                                decided[at] = true;
                                below.push(at);
                                at = parent;
                            }
                        }
                    };
                    decided[at] = true;
                    stands[at] = found;
                    below.drain(..).for_each(|row| stands[row] = found);
                }
            }
            Relation::Parent => {
                to.set_indices().filter_map(|row| self.parent(row)).for_each(|parent| stands[parent] = true);
            }
            Relation::Ancestor => {
                for row in to.set_indices() {
                    let mut at = row;
                    while let Some(parent) = self.parent(at).filter(|parent| !stands[*parent]) {
                        stands[parent] = true;
                        at = parent;
                    }
                }
            }
            Relation::Sibling => unreachable!("is no structure"),
        }
        BooleanBuffer::from(stands)
    }
}

pub(crate) fn any_of(rows: &BooleanBuffer, range: &Range<usize>) -> bool {
    range.clone().any(|row| rows.value(row))
}

/// Whether spans of a trace stand above themselves. `reached`: room for marks.
fn has_circle(parents: &[u32], trace: &Range<usize>, reached: &mut Vec<u32>) -> bool {
    // Where all parents stand before their children there is none.
    let leads_on = |row: usize| parents[row] != NO_PARENT && parents[row] as usize >= row;
    if !trace.clone().any(leads_on) {
        return false;
    }
    // From which row each was reached.
    reached.clear();
    reached.resize(trace.len(), NO_PARENT);
    for from in trace.clone() {
        let mut at = from;
        while reached[at - trace.start] == NO_PARENT {
            reached[at - trace.start] = from as u32;
            match parents[at] as usize {
                parent if trace.contains(&parent) => at = parent,
                _ => break,
            }
            if reached[at - trace.start] == from as u32 {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use tracehouse_model::{Randomness, SystemRandomness};

    use super::*;

    const TRACES: usize = 40;
    const ROWS: usize = 6;

    /// All above a row, nearest first; `None` if they are without end.
    fn above(parents: &[Option<usize>], row: usize) -> Option<Vec<usize>> {
        let mut all = Vec::new();
        let mut at = row;
        while let Some(parent) = parents[at] {
            all.push(parent);
            at = parent;
            if all.len() > ROWS {
                return None;
            }
        }
        Some(all)
    }

    #[test]
    fn relations_are_those_that_walks_upwards_find() {
        let random = SystemRandomness::from_seed(5);
        let below = |limit: usize| (random.next_u64() % limit as u64) as usize;
        let mut circles = 0;
        for _ in 0..50 {
            // Before it, after it, itself, or none.
            let parents: Vec<Option<usize>> = (0..TRACES * ROWS)
                .map(|row| (below(3) > 0).then(|| if below(4) == 0 { below(ROWS) } else { below(row % ROWS + 1) }))
                .enumerate()
                .map(|(row, parent)| parent.map(|parent| row / ROWS * ROWS + parent))
                .collect();
            let offsets = parents.iter().enumerate().map(|(row, parent)| parent.map(|up| row as i32 - up as i32));
            let begins = (0..TRACES).map(|trace| (trace * ROWS) as u32);
            let (kin, untold) = Kin::of(begins.collect(), parents_by_offsets(&offsets.collect()));
            let to = BooleanBuffer::collect_bool(parents.len(), |_| below(3) == 0);
            let stands = [Relation::Child, Relation::Descendant, Relation::Parent, Relation::Ancestor]
                .map(|relation| kin.standing(relation, &to));
            for rows in kin.traces() {
                let walks: Vec<Option<Vec<usize>>> = rows.clone().map(|row| above(&parents, row)).collect();
                let has_circle = walks.iter().any(Option::is_none);
                assert_eq!(untold.contains(&rows), has_circle, "{rows:?} of {parents:?}");
                circles += usize::from(has_circle);
                if has_circle {
                    continue;
                }
                let above = |row: usize| walks[row - rows.start].as_deref().unwrap_or_default();
                for row in rows.clone() {
                    let is = |row: &usize| to.value(*row);
                    let below = || rows.clone().filter(|other| above(*other).contains(&row));
                    let expected = [
                        parents[row].as_ref().is_some_and(is),
                        above(row).iter().any(is),
                        rows.clone().any(|child| parents[child] == Some(row) && is(&child)),
                        below().any(|row| is(&row)),
                    ];
                    assert_eq!(stands.each_ref().map(|rows| rows.value(row)), expected, "row {row} of {parents:?}");
                }
            }
        }
        assert!(circles > 100, "only {circles} traces with circles");
    }
}
