//! How the spans of a trace hang together: the one definition that storage and answers go by.
//!
//! A span stands beneath the span whose id it names. Where several spans of a trace have one id, this is not enough. In Zipkin's model
//! (Brave, Envoy) the two sides of a call share an id: the *caller's half* (a client or a producer) and the *callee's half* (a server or a
//! consumer). Then, whatever the halves name as their parent:
//!
//! - a callee's half stands beneath the caller's half, so that no span stands beneath itself;
//! - what names their id stands beneath the callee's half, the deeper one, as Jaeger and Tempo have it.
//!
//! Of several callers' halves the first counts, and so of several callees' halves, which are siblings: the one that begins first, then the longest.
//! Spans that share an id and are no halves of a call (an SDK that uses an id twice) stand where they say; what names their id stands beneath the first of
//! them. Nothing but what the spans say decides: not the order in which they came, nor where they lie.

use std::cmp::Reverse;

use crate::batch::SpanBatch;
use crate::hashing::{SeededEntry, SeededMap};
use crate::ids::SpanId;
use crate::kind;
use crate::span::Span;

/// Where a span stands in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentRow {
    /// It names no parent.
    Root,
    /// Beneath the span of this row.
    Row(u32),
    /// It names a parent that is not here.
    Missing,
}

/// What places a span among those of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placing {
    pub span_id: SpanId,
    /// The parent that the span names.
    pub parent_span_id: SpanId,
    pub kind: u8,
    pub start_unix_nanos: i64,
    pub duration_nanos: i64,
}

/// Which span of those under one id comes first.
pub type PlacingRank = (bool, i64, Reverse<i64>, u8, SpanId);

impl Placing {
    /// Whether this is the side of a call from which it goes out.
    pub fn is_caller(&self) -> bool {
        is_caller(self.kind)
    }

    /// Whether this is the side of a call at which it arrives.
    pub fn is_callee(&self) -> bool {
        is_callee(self.kind)
    }

    /// Callers before others, then the earliest, then the longest.
    pub fn rank(&self) -> PlacingRank {
        (!self.is_caller(), self.start_unix_nanos, Reverse(self.duration_nanos), self.kind, self.parent_span_id)
    }
}

/// Whether spans of a kind are the side of a call from which it goes out.
pub fn is_caller(kind: u8) -> bool {
    matches!(kind, kind::CLIENT | kind::PRODUCER)
}

/// Whether spans of a kind are the side of a call at which it arrives.
pub fn is_callee(kind: u8) -> bool {
    matches!(kind, kind::SERVER | kind::CONSUMER)
}

impl Span {
    /// What places the span in its trace.
    pub fn placing(&self) -> Placing {
        Placing {
            span_id: self.span_id,
            parent_span_id: self.parent_span_id,
            kind: self.kind,
            start_unix_nanos: self.start_unix_nanos,
            duration_nanos: self.duration_nanos,
        }
    }
}

impl SpanBatch {
    /// What places a span in its trace.
    #[inline]
    pub fn placing(&self, row: usize) -> Placing {
        Placing {
            span_id: self.span_id[row],
            parent_span_id: self.parent_span_id[row],
            kind: self.kind[row],
            start_unix_nanos: self.start_unix_nanos[row],
            duration_nanos: self.duration_nanos[row],
        }
    }
}

/// The id that the next of several spans gets that share one, where each needs its own.
pub fn derived_span_id(id: SpanId) -> SpanId {
    // Odd, so that the steps come by every number before one comes again; and far from the ids of senders that count.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let next = id.as_u64().wrapping_add(STEP);
    SpanId(if next == 0 { STEP } else { next }.to_be_bytes())
}

/// Up to so many spans are searched one by one, which is quicker than a table.
const SEARCHED_MAX: usize = 24;

/// Places the spans of one trace after the other; its tables are used again.
#[derive(Default)]
pub struct Placer {
    /// The row under which what names an id stands. Empty if the trace has few spans and no id twice.
    heads: SeededMap<u64, u32>,
    /// The caller's half of each callee's half.
    callers: SeededMap<u32, u32>,
    /// Of ids that several spans have, these, first to last.
    sharing: SeededMap<u64, Vec<u32>>,
}

impl Placer {
    /// The parents of the spans of one trace. `parents`: which each names. `placing`: what places a span, asked for only of those that
    /// share an id: in most traces nothing but ids is looked at.
    pub fn place(
        &mut self,
        ids: &[SpanId],
        parents: &[SpanId],
        placing: impl Fn(usize) -> Placing,
        mut put: impl FnMut(ParentRow),
    ) {
        self.read(ids, &placing);
        for (row, &parent) in parents.iter().enumerate() {
            put(self.parent_of(row, parent, ids));
        }
    }

    /// For each id that several spans of the trace placed last have, their rows, first to last.
    pub fn sharing(&self) -> impl Iterator<Item = &[u32]> {
        self.sharing.values().map(Vec::as_slice)
    }

    fn read(&mut self, ids: &[SpanId], placing: &impl Fn(usize) -> Placing) {
        if !self.heads.is_empty() {
            self.heads.clear();
        }
        if !self.sharing.is_empty() {
            self.callers.clear();
            self.sharing.clear();
        }
        let is_twice = |(row, id): (usize, &SpanId)| ids[..row].contains(id);
        if ids.len() > SEARCHED_MAX || ids.iter().enumerate().any(is_twice) {
            self.index(ids);
        }
        if !self.sharing.is_empty() {
            self.find_halves(placing);
        }
    }

    /// Finds the row of each id, and the ids that several spans have.
    fn index(&mut self, ids: &[SpanId]) {
        self.heads.reserve(ids.len());
        for (row, id) in (0u32..).zip(ids) {
            match self.heads.entry(id.as_u64()) {
                SeededEntry::Vacant(entry) => {
                    entry.insert(row);
                }
                SeededEntry::Occupied(entry) => {
                    self.sharing.entry(id.as_u64()).or_insert_with(|| vec![*entry.get()]).push(row);
                }
            }
        }
    }

    fn find_halves(&mut self, placing: &impl Fn(usize) -> Placing) {
        for (&id, rows) in &mut self.sharing {
            rows.sort_by_cached_key(|&row| (placing(row as usize).rank(), row));
            let of_kind =
                |wanted: fn(u8) -> bool| rows.iter().copied().filter(move |&row| wanted(placing(row as usize).kind));
            let head = of_kind(is_callee).next().unwrap_or(rows[0]);
            self.heads.insert(id, head);
            if let Some(caller) = of_kind(is_caller).next() {
                self.callers.extend(of_kind(is_callee).map(|callee| (callee, caller)));
            }
        }
    }

    #[inline]
    fn parent_of(&self, row: usize, parent: SpanId, ids: &[SpanId]) -> ParentRow {
        if !self.callers.is_empty()
            && let Some(&caller) = self.callers.get(&(row as u32))
        {
            return ParentRow::Row(caller);
        }
        if parent.is_none() {
            return ParentRow::Root;
        }
        if parent == ids[row] {
            return self.beside(row, parent);
        }
        let found = if self.heads.is_empty() {
            ids.iter().position(|&id| id == parent).map(|found| found as u32)
        } else {
            self.heads.get(&parent.as_u64()).copied()
        };
        found.map_or(ParentRow::Missing, ParentRow::Row)
    }

    /// The place of a span that names its own id: beneath the first that shares it, if that is another.
    fn beside(&self, row: usize, id: SpanId) -> ParentRow {
        let first = self.sharing.get(&id.as_u64()).and_then(|rows| rows.first()).copied();
        first.filter(|&first| first as usize != row).map_or(ParentRow::Missing, ParentRow::Row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ParentRow::{Missing, Root, Row};
    use super::*;
    use crate::kind::{CLIENT, CONSUMER, INTERNAL, PRODUCER, SERVER};

    fn id(number: u64) -> SpanId {
        SpanId(number.to_be_bytes())
    }

    /// Parent 0 is none. Each lasts a hundred.
    fn span(number: u64, parent: u64, kind: u8, start_unix_nanos: i64) -> Placing {
        Placing { span_id: id(number), parent_span_id: id(parent), kind, start_unix_nanos, duration_nanos: 100 }
    }

    fn placed(placer: &mut Placer, spans: &[Placing]) -> Vec<ParentRow> {
        let mut parents = Vec::new();
        let ids: Vec<SpanId> = spans.iter().map(|span| span.span_id).collect();
        let named: Vec<SpanId> = spans.iter().map(|span| span.parent_span_id).collect();
        placer.place(&ids, &named, |row| spans[row], |parent| parents.push(parent));
        parents
    }

    /// The same, slow: what the head of this module says, rule by rule.
    fn slowly_placed(spans: &[Placing]) -> Vec<ParentRow> {
        let first = |wanted: &dyn Fn(&Placing) -> bool| {
            let rows = (0..spans.len()).filter(|&row| wanted(&spans[row]));
            rows.min_by_key(|&row| (spans[row].rank(), row)).map(|row| row as u32)
        };
        let head = |id: SpanId| {
            first(&|span| span.span_id == id && span.is_callee()).or_else(|| first(&|span| span.span_id == id))
        };
        let place = |(row, span): (usize, &Placing)| {
            let caller = first(&|other| other.span_id == span.span_id && other.is_caller());
            let named = span.parent_span_id;
            let found = match caller {
                Some(caller) if span.is_callee() => Some(caller),
                _ if named.is_none() => return Root,
                _ if named == span.span_id => first(&|other| other.span_id == named),
                _ => head(named),
            };
            found.filter(|&found| found as usize != row).map_or(Missing, Row)
        };
        spans.iter().enumerate().map(place).collect()
    }

    #[test]
    fn halves_of_a_call_stand_beneath_each_other() {
        type Case<'a> = (&'a str, &'a [Placing], &'a [ParentRow]);
        let cases: &[Case<'_>] = &[
            (
                "the server names the client's parent",
                &[span(1, 0, SERVER, 0), span(2, 1, CLIENT, 10), span(2, 1, SERVER, 20), span(3, 2, INTERNAL, 30)],
                &[Root, Row(0), Row(1), Row(2)],
            ),
            ("the server names itself", &[span(2, 2, SERVER, 20), span(2, 0, CLIENT, 10)], &[Row(1), Root]),
            ("neither names a parent", &[span(2, 0, SERVER, 0), span(2, 0, CLIENT, 10)], &[Row(1), Root]),
            ("a message", &[span(2, 0, CONSUMER, 0), span(2, 0, PRODUCER, 10)], &[Row(1), Root]),
            (
                "a server in between names the other half as its parent, by another id",
                &[span(2, 0, CLIENT, 0), span(3, 2, INTERNAL, 5), span(2, 3, SERVER, 10)],
                &[Root, Row(2), Row(0)],
            ),
            (
                "three halves",
                &[span(2, 0, SERVER, 30), span(2, 0, CLIENT, 10), span(2, 0, SERVER, 20), span(3, 2, INTERNAL, 40)],
                &[Row(1), Root, Row(1), Row(2)],
            ),
            (
                "two clients",
                &[span(2, 1, CLIENT, 30), span(2, 0, CLIENT, 10), span(2, 0, SERVER, 20), span(1, 0, INTERNAL, 0)],
                &[Row(3), Root, Row(1), Root],
            ),
            (
                "no halves of a call",
                &[span(2, 1, INTERNAL, 30), span(2, 0, INTERNAL, 10), span(3, 2, INTERNAL, 40), span(1, 0, SERVER, 0)],
                &[Row(3), Root, Row(1), Root],
            ),
            ("the client's half is missing", &[span(1, 0, CLIENT, 0), span(2, 1, SERVER, 10)], &[Root, Row(0)]),
            ("alone, it names itself", &[span(2, 2, SERVER, 10)], &[Missing]),
            ("both name themselves", &[span(2, 2, CLIENT, 0), span(2, 2, SERVER, 10)], &[Missing, Row(0)]),
            ("both name themselves, no call", &[span(2, 2, INTERNAL, 9), span(2, 2, INTERNAL, 1)], &[Row(1), Missing]),
        ];
        let mut placer = Placer::default();
        for (what, spans, expected) in cases {
            assert_eq!(placed(&mut placer, spans), *expected, "{what}");
            assert_eq!(slowly_placed(spans), *expected, "{what}, slowly");
            // Further spans make the trace one of those that are looked up in tables.
            let more = (0..SEARCHED_MAX as u64).map(|number| span(100 + number, 0, INTERNAL, 1000));
            let many: Vec<Placing> = spans.iter().copied().chain(more).collect();
            assert_eq!(placed(&mut placer, &many)[..spans.len()], **expected, "{what}, among many");
        }
    }

    fn spans() -> impl Strategy<Value = Vec<Placing>> {
        let of_ids = |ids: u64| (1..=ids, 0..=ids, 0u8..6, 0i64..4, 0i64..3);
        let one = prop_oneof![of_ids(4), of_ids(40)].prop_map(|(number, parent, kind, start, duration_nanos)| {
            Placing { duration_nanos, ..span(number, parent, kind, start) }
        });
        prop::collection::vec(one, 0..60)
    }

    proptest! {
        /// One placer is used again and again: what is left of a trace must not matter to the next.
        #[test]
        fn places_are_those_of_the_slow_reading(traces in prop::collection::vec(spans(), 1..4)) {
            let mut placer = Placer::default();
            for spans in &traces {
                prop_assert_eq!(placed(&mut placer, spans), slowly_placed(spans));
            }
        }

        /// In whichever order spans come, they stand beneath the same spans, as far as these differ in what places them.
        #[test]
        fn the_order_of_arrival_does_not_matter(spans in spans(), seed in any::<u64>()) {
            let mut order: Vec<usize> = (0..spans.len()).collect();
            order.sort_by_key(|&row| (row as u64 + 1).wrapping_mul(seed | 1));
            let shuffled: Vec<Placing> = order.iter().map(|&row| spans[row]).collect();
            let mut placer = Placer::default();
            let (parents, of_shuffled) = (placed(&mut placer, &spans), placed(&mut placer, &shuffled));
            let beneath = |spans: &[Placing], parent: ParentRow| match parent {
                Row(row) => Ok(spans[row as usize]),
                other => Err(other),
            };
            for (at, &row) in order.iter().enumerate() {
                let is_same = |other: &Placing| *other == spans[row];
                if spans.iter().filter(|other| is_same(other)).count() == 1 {
                    prop_assert_eq!(beneath(&shuffled, of_shuffled[at]), beneath(&spans, parents[row]));
                }
            }
        }

        /// Where the ids and the parents named make no circle, and halves of a call differ, the places make none.
        #[test]
        fn sharing_ids_makes_no_circle(
            parents in prop::collection::vec((0u64..8, prop::option::of(0i64..50), 0i64..50), 1..8),
        ) {
            let mut spans = Vec::new();
            for (number, (parent, callee, start)) in (1u64..).zip(&parents) {
                // Each names one that came before it.
                let parent = parent % number;
                spans.push(span(number, parent, CLIENT, *start));
                spans.extend(callee.map(|start| span(number, if start % 2 == 0 { parent } else { number }, SERVER, start)));
            }
            let placed = placed(&mut Placer::default(), &spans);
            for row in 0..spans.len() {
                let (mut at, mut steps) = (row, 0);
                while let Row(parent) = placed[at] {
                    (at, steps) = (parent as usize, steps + 1);
                    prop_assert!(steps <= spans.len(), "a circle");
                }
                prop_assert_eq!(placed[at], Root);
            }
        }
    }
}
