use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tracehouse_model::{AnyValue, SpanBatch};

use crate::batches::{assert_same_rows, batches};
use crate::spans::{batch_of, values};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_comes_back_from_its_encoding(spans in batches(), sealed in any::<bool>()) {
        let mut batch = batch_of(&spans);
        if sealed {
            batch.seal();
        }
        let mut encoded = vec![0xab];
        batch.into_exact().encode(&mut encoded);
        let decoded = SpanBatch::decode(&encoded[1..]).expect("decodes");
        assert_same_rows(&decoded, &spans);
        let mut again = vec![0xab];
        decoded.into_exact().encode(&mut again);
        prop_assert_eq!(encoded, again);
    }

    #[test]
    fn damaged_encodings_never_panic(spans in batches(), damages in vec(damages(), 1..5)) {
        let mut encoded = Vec::new();
        batch_of(&spans).into_exact().encode(&mut encoded);
        for damage in damages {
            damage.apply(&mut encoded);
        }
        // What decodes all the same must be safe to use.
        let Ok(decoded) = SpanBatch::decode(&encoded) else { return Ok(()) };
        (0..decoded.len()).for_each(|row| drop(decoded.span(row)));
        let mut copy = SpanBatch::new();
        copy.append(&decoded);
        prop_assert_eq!(copy.len(), decoded.len());
    }

    #[test]
    fn noise_never_panics(noise in vec(any::<u8>(), 0..300)) {
        let _ = SpanBatch::decode(&noise);
        let _ = SpanBatch::decode(&[&[1], noise.as_slice()].concat());
    }

    #[test]
    fn a_value_comes_back_from_its_canonical_json(value in values()) {
        let json = value.to_canonical_json();
        let back = AnyValue::from_canonical_json(&json).expect("canonical");
        // NaN is unlike itself but prints alike.
        prop_assert_eq!(format!("{:?}", &back), format!("{:?}", &value), "{}", json);
        prop_assert_eq!(back.to_canonical_json(), json);
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// Four bytes, as lengths and codes have.
    Number(Index, u32),
}

fn damages() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (any::<Index>(), 1usize..9).prop_map(|(at, bytes)| Damage::Remove(at, bytes)),
        2 => (any::<Index>(), prop_oneof![any::<u32>(), 0u32..300, Just(u32::MAX), Just(1 << 28)])
            .prop_map(|(at, number)| Damage::Number(at, number)),
    ]
}

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Damage::Flip(at, bits) => *at.get_mut(bytes) ^= bits,
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Insert(at, inserted) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, inserted);
            }
            Damage::Remove(at, count) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Damage::Number(at, number) => {
                let at = at.index(bytes.len());
                bytes.iter_mut().skip(at).zip(number.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
        }
    }
}
