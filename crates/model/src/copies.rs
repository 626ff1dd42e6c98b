//! What a copy of a span is: the one definition that storage and answers go by.
//!
//! A sender that got no answer sends its spans again, and a mesh may deliver one twice. A copy has the trace id, span id,
//! kind, start *and content* of the span it repeats. Another span under the same ids (an SDK that reuses ids, two services that
//! share one) is no copy: it is kept.

use crate::attributes::{AttributeLists, AttributeValue};
use crate::batch::SpanBatch;
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
            && same_attributes(
                (&resources.attributes, resource, &self.strings),
                (&other_resources.attributes, other_resource, &other.strings),
            )
            && same_text(scopes.name[scope], other_scopes.name[other_scope])
            && same_text(scopes.version[scope], other_scopes.version[other_scope])
            && same_text(scopes.schema_url[scope], other_scopes.schema_url[other_scope])
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
                    && same_attributes(
                        (&links.attributes, link, &self.strings),
                        (&other_links.attributes, other_link, &other.strings),
                    )
            })
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

    #[test]
    fn a_copy_has_the_same_content_in_any_order_and_numbering() {
        let (one, two) = (AttributeValue::Int(1), AttributeValue::Int(2));
        let original = span("buy", &[("a", one), ("b", two)], &[]);
        assert!(original.is_copy(0, &span("buy", &[("b", two), ("a", one)], &["other", "numbers"]), 0));
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
