//! What a copy of a span is: the one definition that storage and answers go by.
//!
//! A sender that got no answer sends its spans again, and a mesh may deliver one twice. A copy has the trace id, span id,
//! kind, start *and content* of the span it repeats. Another span under the same ids (an SDK that reuses ids, two services that
//! share one) is no copy: it is kept.

use std::hash::{BuildHasher, Hash, Hasher};

use crate::attributes::{AttributeLists, AttributeValue};
use crate::batch::SpanBatch;
use crate::hashing::SeededState;
use crate::strings::{StringCode, StringTable};

/// What two copies in one trace have in common at least. Two spans with different keys are no copies; two with the same
/// need [`SpanBatch::is_copy`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CopyKey {
    pub span_id: u64,
    pub start_unix_nanos: i64,
    pub kind: u8,
}

impl SpanBatch {
    /// The key of a span among those of its trace.
    #[inline]
    pub fn copy_key(&self, row: usize) -> CopyKey {
        CopyKey {
            span_id: self.span_id[row].as_u64(),
            start_unix_nanos: self.start_unix_nanos[row],
            kind: self.kind[row],
        }
    }

    /// Whether a span and one of another batch are copies of one another. Attributes are maps: their order is no content.
    pub fn is_copy(&self, row: usize, other: &SpanBatch, other_row: usize) -> bool {
        self.trace_id[row] == other.trace_id[other_row]
            && self.copy_key(row) == other.copy_key(other_row)
            && self.same_fields(row, other, other_row)
            && self.same_owners(row, other, other_row)
            && self.same_events(row, other, other_row)
            && self.same_links(row, other, other_row)
    }

    fn same_fields(&self, row: usize, other: &SpanBatch, other_row: usize) -> bool {
        let same_text = |left: StringCode, right: StringCode| self.strings.bytes(left) == other.strings.bytes(right);
        self.parent_span_id[row] == other.parent_span_id[other_row]
            && self.duration_nanos[row] == other.duration_nanos[other_row]
            && same_text(self.name[row], other.name[other_row])
            && self.status_code[row] == other.status_code[other_row]
            && same_text(self.status_message[row], other.status_message[other_row])
            && same_text(self.trace_state[row], other.trace_state[other_row])
            && self.flags[row] == other.flags[other_row]
            && self.sampling_threshold[row] == other.sampling_threshold[other_row]
            && self.dropped_attributes[row] == other.dropped_attributes[other_row]
            && self.dropped_events[row] == other.dropped_events[other_row]
            && self.dropped_links[row] == other.dropped_links[other_row]
            && same_attributes((&self.attributes, row, &self.strings), (&other.attributes, other_row, &other.strings))
    }

    /// Resource and scope.
    fn same_owners(&self, row: usize, other: &SpanBatch, other_row: usize) -> bool {
        let same_text = |left: StringCode, right: StringCode| self.strings.bytes(left) == other.strings.bytes(right);
        let (resource, scope) = (self.resource[row] as usize, self.scope[row] as usize);
        let (other_resource, other_scope) = (other.resource[other_row] as usize, other.scope[other_row] as usize);
        let (resources, other_resources) = (&self.resources, &other.resources);
        let (scopes, other_scopes) = (&self.scopes, &other.scopes);
        same_text(resources.schema_url[resource], other_resources.schema_url[other_resource])
            && resources.dropped_attributes[resource] == other_resources.dropped_attributes[other_resource]
            && same_attributes(
                (&resources.attributes, resource, &self.strings),
                (&other_resources.attributes, other_resource, &other.strings),
            )
            && same_text(scopes.name[scope], other_scopes.name[other_scope])
            && same_text(scopes.version[scope], other_scopes.version[other_scope])
            && same_text(scopes.schema_url[scope], other_scopes.schema_url[other_scope])
            && scopes.dropped_attributes[scope] == other_scopes.dropped_attributes[other_scope]
            && same_attributes(
                (&scopes.attributes, scope, &self.strings),
                (&other_scopes.attributes, other_scope, &other.strings),
            )
    }

    fn same_events(&self, row: usize, other: &SpanBatch, other_row: usize) -> bool {
        let (mine, theirs) = (self.event_range(row), other.event_range(other_row));
        mine.len() == theirs.len()
            && mine.zip(theirs).all(|(event, other_event)| {
                let (events, other_events) = (&self.events, &other.events);
                events.time_unix_nanos[event] == other_events.time_unix_nanos[other_event]
                    && self.strings.bytes(events.name[event]) == other.strings.bytes(other_events.name[other_event])
                    && events.dropped_attributes[event] == other_events.dropped_attributes[other_event]
                    && same_attributes(
                        (&events.attributes, event, &self.strings),
                        (&other_events.attributes, other_event, &other.strings),
                    )
            })
    }

    fn same_links(&self, row: usize, other: &SpanBatch, other_row: usize) -> bool {
        let (mine, theirs) = (self.link_range(row), other.link_range(other_row));
        mine.len() == theirs.len()
            && mine.zip(theirs).all(|(link, other_link)| {
                let (links, other_links) = (&self.links, &other.links);
                links.trace_id[link] == other_links.trace_id[other_link]
                    && links.span_id[link] == other_links.span_id[other_link]
                    && self.strings.bytes(links.trace_state[link])
                        == other.strings.bytes(other_links.trace_state[other_link])
                    && links.flags[link] == other_links.flags[other_link]
                    && links.dropped_attributes[link] == other_links.dropped_attributes[other_link]
                    && same_attributes(
                        (&links.attributes, link, &self.strings),
                        (&other_links.attributes, other_link, &other.strings),
                    )
            })
    }
}

/// Hashes what [`SpanBatch::is_copy`] compares: copies have the same hash, in whichever batch they are.
///
/// Seeded, so that nobody can choose spans whose hashes meet.
#[derive(Clone, Default)]
pub struct ContentHasher(SeededState);

impl ContentHasher {
    /// The hash of a span, its ids included.
    pub fn hash(&self, spans: &SpanBatch, row: usize) -> u64 {
        let mut hasher = self.0.build_hasher();
        let text = |code: StringCode| spans.strings.bytes(code);
        (spans.trace_id[row], spans.copy_key(row)).hash(&mut hasher);
        (spans.parent_span_id[row], spans.duration_nanos[row], text(spans.name[row])).hash(&mut hasher);
        (spans.status_code[row], text(spans.status_message[row])).hash(&mut hasher);
        (text(spans.trace_state[row]), spans.flags[row], spans.sampling_threshold[row]).hash(&mut hasher);
        (spans.dropped_attributes[row], spans.dropped_events[row], spans.dropped_links[row]).hash(&mut hasher);
        self.attributes((&spans.attributes, row, &spans.strings)).hash(&mut hasher);
        self.hash_owners(spans, row, &mut hasher);
        for event in spans.event_range(row) {
            let events = &spans.events;
            (events.time_unix_nanos[event], text(events.name[event]), events.dropped_attributes[event])
                .hash(&mut hasher);
            self.attributes((&events.attributes, event, &spans.strings)).hash(&mut hasher);
        }
        for link in spans.link_range(row) {
            let links = &spans.links;
            (links.trace_id[link], links.span_id[link], text(links.trace_state[link])).hash(&mut hasher);
            (links.flags[link], links.dropped_attributes[link]).hash(&mut hasher);
            self.attributes((&links.attributes, link, &spans.strings)).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn hash_owners(&self, spans: &SpanBatch, row: usize, hasher: &mut impl Hasher) {
        let text = |code: StringCode| spans.strings.bytes(code);
        let (resource, scope) = (spans.resource[row] as usize, spans.scope[row] as usize);
        let (resources, scopes) = (&spans.resources, &spans.scopes);
        (text(resources.schema_url[resource]), resources.dropped_attributes[resource]).hash(hasher);
        self.attributes((&resources.attributes, resource, &spans.strings)).hash(hasher);
        (text(scopes.name[scope]), text(scopes.version[scope])).hash(hasher);
        (text(scopes.schema_url[scope]), scopes.dropped_attributes[scope]).hash(hasher);
        self.attributes((&scopes.attributes, scope, &spans.strings)).hash(hasher);
    }

    /// Of attributes in any order: their number, and the sum of the hashes of each.
    fn attributes(&self, (lists, owner, strings): OwnedAttributes<'_>) -> (usize, u64) {
        use AttributeValue::{Bytes, Json, String};
        let each = lists.of(owner).map(|(key, value)| match value {
            String(code) | Bytes(code) | Json(code) => {
                self.0.hash_one((strings.bytes(key), value.tag(), strings.bytes(code)))
            }
            _ => self.0.hash_one((strings.bytes(key), value.tag(), value.payload())),
        });
        (lists.count(owner), each.fold(0, u64::wrapping_add))
    }
}

/// Lists, the owner among them, and the texts.
type OwnedAttributes<'a> = (&'a AttributeLists, usize, &'a StringTable);

fn same_attributes(left: OwnedAttributes<'_>, right: OwnedAttributes<'_>) -> bool {
    let (lists, owner, strings) = left;
    let (other_lists, other_owner, other_strings) = right;
    if lists.count(owner) != other_lists.count(other_owner) {
        return false;
    }
    let same = |(key, value): (StringCode, AttributeValue), (other_key, other_value): (StringCode, AttributeValue)| {
        strings.bytes(key) == other_strings.bytes(other_key)
            && same_value((value, strings), (other_value, other_strings))
    };
    // The usual case: a copy has its attributes in the same order.
    if lists.of(owner).zip(other_lists.of(other_owner)).all(|(one, other)| same(one, other)) {
        return true;
    }
    let sorted = |lists: &AttributeLists, owner: usize, strings: &StringTable| {
        let mut entries: Vec<_> = lists.of(owner).collect();
        entries.sort_by(|left, right| strings.bytes(left.0).cmp(strings.bytes(right.0)));
        entries
    };
    let entries = sorted(lists, owner, strings);
    let other_entries = sorted(other_lists, other_owner, other_strings);
    entries.into_iter().zip(other_entries).all(|(one, other)| same(one, other))
}

fn same_value(left: (AttributeValue, &StringTable), right: (AttributeValue, &StringTable)) -> bool {
    use AttributeValue::{Bytes, Json, String};
    match (left.0, right.0) {
        (String(one), String(other)) | (Bytes(one), Bytes(other)) | (Json(one), Json(other)) => {
            left.1.bytes(one) == right.1.bytes(other)
        }
        (one, other) => one.tag() == other.tag() && one.payload() == other.payload(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ValueTag;
    use crate::{SpanFields, SpanId, TraceId};

    /// One span with attributes in the given order, and a name.
    fn span(name: &str, attributes: &[(&str, AttributeValue)], texts: &[&str]) -> SpanBatch {
        let mut batch = SpanBatch::new();
        for text in texts {
            batch.strings.intern_str(text);
        }
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        for (key, value) in attributes {
            let key = batch.strings.intern_str(key);
            batch.attributes.push(key, *value);
        }
        let name = batch.strings.intern_str(name);
        let ids = (TraceId([1; 16]), SpanId([2; 8]));
        batch.finish_span(SpanFields {
            trace_id: ids.0,
            span_id: ids.1,
            start_unix_nanos: 5,
            name,
            resource,
            scope,
            ..SpanFields::default()
        });
        batch
    }

    /// A span that has everything, with one thing changed.
    fn changed(change: impl FnOnce(&mut SpanBatch)) -> SpanBatch {
        let mut batch = SpanBatch::new();
        let [one, two, other] = ["one", "two", "other"].map(|text| batch.strings.intern_str(text));
        batch.resources.attributes.push(one, AttributeValue::String(two));
        let resource = batch.finish_resource(0, one);
        batch.scopes.attributes.push(one, AttributeValue::Bool(true));
        let scope = batch.finish_scope(one, two, 0, two);
        batch.attributes.push(one, AttributeValue::Int(1));
        batch.events.attributes.push(two, AttributeValue::Double(1.0));
        batch.finish_event(6, one, 0);
        batch.links.attributes.push(two, AttributeValue::Empty);
        batch.finish_link(TraceId([3; 16]), SpanId([4; 8]), two, 0, 0);
        let (trace_id, span_id) = (TraceId([1; 16]), SpanId([2; 8]));
        batch.finish_span(SpanFields { trace_id, span_id, name: other, resource, scope, ..SpanFields::default() });
        change(&mut batch);
        batch
    }

    #[test]
    fn whatever_differs_makes_another_span() {
        let original = changed(|_| {});
        let hasher = ContentHasher::default();
        let changes: &[fn(&mut SpanBatch)] = &[
            |batch| batch.trace_id[0] = TraceId([9; 16]),
            |batch| batch.span_id[0] = SpanId([9; 8]),
            |batch| batch.parent_span_id[0] = SpanId([9; 8]),
            |batch| batch.start_unix_nanos[0] += 1,
            |batch| batch.duration_nanos[0] += 1,
            |batch| batch.name[0] -= 1,
            |batch| batch.kind[0] += 1,
            |batch| batch.status_code[0] += 1,
            |batch| batch.status_message[0] += 1,
            |batch| batch.trace_state[0] += 1,
            |batch| batch.flags[0] += 1,
            |batch| batch.sampling_threshold[0] -= 1,
            |batch| batch.dropped_attributes[0] += 1,
            |batch| batch.dropped_events[0] += 1,
            |batch| batch.dropped_links[0] += 1,
            |batch| batch.attributes.payloads[0] += 1,
            |batch| batch.attributes.keys[0] += 1,
            |batch| batch.attributes.tags[0] = ValueTag::Double as u8,
            |batch| batch.events.time_unix_nanos[0] += 1,
            |batch| batch.events.name[0] += 1,
            |batch| batch.events.dropped_attributes[0] += 1,
            |batch| batch.events.attributes.payloads[0] += 1,
            |batch| batch.links.trace_id[0] = TraceId([9; 16]),
            |batch| batch.links.span_id[0] = SpanId([9; 8]),
            |batch| batch.links.trace_state[0] -= 1,
            |batch| batch.links.flags[0] += 1,
            |batch| batch.links.dropped_attributes[0] += 1,
            |batch| batch.links.attributes.tags[0] = ValueTag::Int as u8,
            |batch| batch.resources.schema_url[0] += 1,
            |batch| batch.resources.dropped_attributes[0] += 1,
            |batch| batch.resources.attributes.payloads[0] += 1,
            |batch| batch.scopes.name[0] += 1,
            |batch| batch.scopes.version[0] += 1,
            |batch| batch.scopes.schema_url[0] += 1,
            |batch| batch.scopes.dropped_attributes[0] += 1,
            |batch| batch.scopes.attributes.payloads[0] -= 1,
        ];
        assert!(changed(|_| {}).is_copy(0, &original, 0));
        for (number, change) in changes.iter().enumerate() {
            let other = changed(change);
            assert!(!other.is_copy(0, &original, 0), "change {number}");
            assert_ne!(hasher.hash(&other, 0), hasher.hash(&original, 0), "change {number}");
        }
    }

    #[test]
    fn a_copy_has_the_same_content_in_any_order_and_numbering() {
        let (one, two) = (AttributeValue::Int(1), AttributeValue::Int(2));
        let original = span("buy", &[("a", one), ("b", two)], &[]);
        let reordered = span("buy", &[("b", two), ("a", one)], &["other", "numbers"]);
        assert!(original.is_copy(0, &reordered, 0));
        let hasher = ContentHasher::default();
        assert_eq!(hasher.hash(&original, 0), hasher.hash(&reordered, 0));
        for different in [
            span("sell", &[("a", one), ("b", two)], &[]),
            span("buy", &[("a", one)], &[]),
            span("buy", &[("a", one), ("c", two)], &[]),
            span("buy", &[("a", one), ("b", AttributeValue::Double(2.0))], &[]),
            span("buy", &[("a", one), ("b", AttributeValue::Int(3))], &[]),
        ] {
            assert!(!original.is_copy(0, &different, 0));
        }
    }
}
