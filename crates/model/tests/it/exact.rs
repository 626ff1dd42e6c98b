use proptest::collection::vec;
use proptest::prelude::*;
use tracehouse_model::{AttributeValue, SpanBatch, SpanFields};

use crate::batches::{assert_same_rows, batches};
use crate::spans::batch_of;

/// Stands in everything that no span keeps.
const SECRET: &str = "s3cret-of-nobody";

/// What a receiver leaves behind in a batch that it builds.
#[derive(Debug, Clone, Copy)]
enum Leftover {
    RefusedSpan,
    ReplacedValue,
    Name,
    Resource,
    Scope,
    EventOfRefusedSpan,
}

impl Leftover {
    const ALL: [Self; 6] =
        [Self::RefusedSpan, Self::ReplacedValue, Self::Name, Self::Resource, Self::Scope, Self::EventOfRefusedSpan];

    fn leave(self, batch: &mut SpanBatch, number: usize) {
        let secret = batch.strings.intern_str(&format!("{SECRET} {number}"));
        match self {
            Self::RefusedSpan => {
                batch.attributes.push(secret, AttributeValue::String(secret));
                batch.discard_span();
            }
            Self::EventOfRefusedSpan => {
                batch.events.attributes.push(secret, AttributeValue::Json(secret));
                batch.finish_event(1, secret, 0);
                batch.discard_span();
            }
            Self::ReplacedValue => {
                batch.attributes.push(0, AttributeValue::Bytes(secret));
                batch.attributes.push(0, AttributeValue::Int(1));
                batch.discard_span();
            }
            Self::Name => {}
            Self::Resource => {
                batch.resources.attributes.push(secret, AttributeValue::String(secret));
                batch.finish_resource(0, secret);
            }
            Self::Scope => {
                batch.scopes.attributes.push(secret, AttributeValue::String(secret));
                batch.finish_scope(secret, secret, 0, secret);
            }
        }
    }
}

fn holds_secret(encoded: &[u8]) -> bool {
    encoded.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_no_span_uses_is_not_written(
        spans in batches(),
        leftovers in vec(proptest::sample::select(&Leftover::ALL[..]), 1..6),
        seal in any::<bool>(),
    ) {
        let mut batch = batch_of(&spans);
        leftovers.iter().enumerate().for_each(|(number, leftover)| leftover.leave(&mut batch, number));
        if seal {
            batch.seal();
        }
        let exact = batch.into_exact();
        let mut encoded = Vec::new();
        exact.encode(&mut encoded);
        prop_assert!(!holds_secret(&encoded));
        prop_assert!(!exact.spans().strings.iter().any(holds_secret));
        assert_same_rows(exact.spans(), &spans);
        assert_same_rows(&SpanBatch::decode(&encoded).expect("decodes"), &spans);
    }

    #[test]
    fn a_batch_of_which_everything_is_used_is_not_copied(spans in batches()) {
        // Appended rows bring along what they use and no more.
        let mut batch = SpanBatch::new();
        batch.append(&batch_of(&spans));
        let address = batch.trace_id.as_ptr();
        prop_assert_eq!(batch.into_exact().spans().trace_id.as_ptr(), address);
    }
}

/// A resource without a service name costs no copy: its key is looked for and not added.
#[test]
fn the_key_of_the_service_is_not_added() {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    batch.finish_span(SpanFields { resource, scope, ..SpanFields::default() });
    assert_eq!(batch.strings.len(), 1);
    let address = batch.trace_id.as_ptr();
    assert_eq!(batch.into_exact().spans().trace_id.as_ptr(), address);
}
