//! Counts the values of the spans of a batch, each by slot. Texts are told apart by their codes, so that a span costs none.

use tracehouse_model::{AttributeValue, SeededMap, SpanBatch, StringCode, Threshold};

use super::counts::Counts;
use super::gather::{FloatBits, GroupValue};

pub(super) struct BatchCounts<'a> {
    spans: &'a SpanBatch,
    /// Weights by field, value and slot.
    values: SeededMap<(Field, Coded, u32), f64>,
    /// Weights by resource and slot: what a resource says is counted once for all of its spans.
    resources: SeededMap<(u32, u32), f64>,
    counted: u64,
    unknown: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Field {
    Name,
    Kind,
    Status,
    StatusMessage,
    Span(StringCode),
}

/// A value that can be counted, as the batch has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Coded {
    String(StringCode),
    Int(i64),
    Float(FloatBits),
    Bool(bool),
}

impl Coded {
    /// Texts, numbers and truth values are counted.
    fn of(value: AttributeValue) -> Option<Self> {
        match value {
            AttributeValue::String(code) => Some(Coded::String(code)),
            AttributeValue::Int(value) => Some(Coded::Int(value)),
            AttributeValue::Double(value) => Some(Coded::Float(FloatBits::of(value))),
            AttributeValue::Bool(value) => Some(Coded::Bool(value)),
            AttributeValue::Empty | AttributeValue::Bytes(_) | AttributeValue::Json(_) => None,
        }
    }

    fn value(self, spans: &SpanBatch) -> GroupValue {
        match self {
            Coded::String(code) => GroupValue::String(spans.strings.get(code).into()),
            Coded::Int(value) => GroupValue::Int(value),
            Coded::Float(bits) => GroupValue::Float(bits),
            Coded::Bool(value) => GroupValue::Bool(value),
        }
    }
}

impl<'a> BatchCounts<'a> {
    pub(super) fn new(spans: &'a SpanBatch) -> Self {
        let (values, resources) = (SeededMap::default(), SeededMap::default());
        Self { spans, values, resources, counted: 0, unknown: 0 }
    }

    pub(super) fn add(&mut self, row: usize, slot: u32) {
        let spans = self.spans;
        let threshold = Threshold::new(spans.sampling_threshold[row]);
        let weight = threshold.map_or(1.0, Threshold::adjusted_count);
        self.counted += 1;
        self.unknown += u64::from(threshold.is_none());
        let mut count = |field, value| *self.values.entry((field, value, slot)).or_default() += weight;
        count(Field::Name, Coded::String(spans.name[row]));
        count(Field::Kind, Coded::Int(spans.kind[row].into()));
        count(Field::Status, Coded::Int(spans.status_code[row].into()));
        if spans.status_message[row] != 0 {
            count(Field::StatusMessage, Coded::String(spans.status_message[row]));
        }
        for (key, value) in spans.attributes.of(row) {
            if let Some(value) = Coded::of(value) {
                count(Field::Span(key), value);
            }
        }
        *self.resources.entry((spans.resource[row], slot)).or_default() += weight;
    }

    pub(super) fn finish(self, counts: &mut Counts) {
        let spans = self.spans;
        counts.spans += self.counted;
        counts.unknown += self.unknown;
        let mut labels: SeededMap<StringCode, String> = SeededMap::default();
        for ((field, value, slot), weight) in self.values {
            let coded = || value.value(spans);
            let (label, value) = match (field, value) {
                (Field::Name, _) => ("name", coded()),
                (Field::Kind, Coded::Int(kind)) => ("kind", GroupValue::Kind(kind as u8)),
                (Field::Status, Coded::Int(status)) => ("status", GroupValue::Status(status as u8)),
                (Field::Kind | Field::Status, _) => continue,
                (Field::StatusMessage, _) => ("statusMessage", coded()),
                (Field::Span(key), _) => {
                    let label = || format!("span.{}", spans.strings.get(key));
                    (labels.entry(key).or_insert_with(label).as_str(), coded())
                }
            };
            counts.add(label, value, slot as usize, &[weight]);
        }
        for ((resource, slot), weight) in self.resources {
            for (key, value) in spans.resources.attributes.of(resource as usize) {
                if let Some(value) = Coded::of(value) {
                    let label = format!("resource.{}", spans.strings.get(key));
                    counts.add(&label, value.value(spans), slot as usize, &[weight]);
                }
            }
        }
    }
}
