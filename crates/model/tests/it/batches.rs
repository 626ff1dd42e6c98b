use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tracehouse_model::{AttributeValue, Span, SpanBatch, SpanFields};

use crate::spans::{assert_same_span, attributes, batch_of, give_owners, spans};

/// The spans of a batch, of few resources and scopes.
pub(crate) fn batches() -> impl Strategy<Value = Vec<Span>> {
    (vec(spans(), 0..20), vec(attributes(), 1..4), vec(attributes(), 1..4)).prop_map(
        |(mut spans, resources, scopes)| {
            give_owners(&mut spans, &resources, &scopes);
            spans
        },
    )
}

pub(crate) fn assert_same_rows(batch: &SpanBatch, spans: &[Span]) {
    assert_eq!(batch.len(), spans.len());
    spans.iter().enumerate().for_each(|(row, span)| assert_same_span("row", &batch.span(row), span));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_holds_what_was_pushed(spans in batches()) {
        let mut batch = batch_of(&spans);
        assert_same_rows(&batch, &spans);
        batch.seal();
        assert_same_rows(&batch, &spans);
    }

    #[test]
    fn appended_rows_are_the_rows(
        mut spans in batches(),
        other_spans in batches(),
        picks in vec(any::<Index>(), 0..30),
        (seal, seal_other) in any::<(bool, bool)>(),
    ) {
        let (mut batch, mut other) = (batch_of(&spans), batch_of(&other_spans));
        if seal {
            batch.seal();
        }
        if seal_other {
            other.seal();
        }
        batch.append(&other);
        spans.extend(other_spans.iter().cloned());
        assert_same_rows(&batch, &spans);
        // In any order, some more than once, some not at all.
        let rows: Vec<usize> = picks.iter().filter(|_| !other.is_empty()).map(|pick| pick.index(other.len())).collect();
        batch.append_rows(&other, rows.iter().copied());
        spans.extend(rows.iter().map(|&row| other_spans[row].clone()));
        assert_same_rows(&batch, &spans);
        // What an appended batch is made of is consistent: it can be written and read.
        let mut encoded = Vec::new();
        batch.into_exact().encode(&mut encoded);
        assert_same_rows(&SpanBatch::decode(&encoded).expect("decodes"), &spans);
    }

    #[test]
    fn a_discarded_span_leaves_nothing_behind(spans in batches(), discarded in batches()) {
        let mut batch = batch_of(&spans);
        for span in &discarded {
            // As far as a receiver came before it found the span wrong.
            let key = batch.strings.intern_str("discarded");
            for event in &span.events {
                batch.events.attributes.push(key, AttributeValue::Int(1));
                batch.finish_event(event.time_unix_nanos, key, 0);
            }
            for link in &span.links {
                batch.links.attributes.push(key, AttributeValue::Int(1));
                batch.finish_link(link.trace_id, link.span_id, key, 0, 0);
            }
            batch.events.attributes.push(key, AttributeValue::Int(2));
            batch.attributes.push(key, AttributeValue::Bool(true));
            batch.discard_span();
        }
        assert_same_rows(&batch, &spans);
        if !spans.is_empty() {
            batch.finish_span(SpanFields::default());
            let last = batch.span(spans.len());
            prop_assert_eq!((last.attributes.len(), last.events.len(), last.links.len()), (0, 0, 0));
        }
    }
}
