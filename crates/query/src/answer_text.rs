//! About how long the text of an answer will be, before it is written.
//!
//! Interfaces write traces as JSON or protobuf of their own shapes. The longest of them (OTLP as JSON) is what is guessed.

use tracehouse_model::{AttributeLists, AttributeValue, SpanBatch, StringCode};

use crate::request::TraceDetail;
use crate::target::Targets;

/// What a span, an event or link, and an attribute take beside their texts.
const SPAN_BYTES: usize = 560;
const EVENT_BYTES: usize = 160;
const ATTRIBUTE_BYTES: usize = 56;
/// A span of an outline: numbers and ids in columns.
const OUTLINE_BYTES: usize = 110;
/// That it has a target, and a target beside its text.
const TARGET_NUMBER_BYTES: usize = 8;
const TARGET_BYTES: usize = 96;

pub(crate) struct TextEstimate<'a> {
    spans: &'a SpanBatch,
    detail: TraceDetail,
    /// How long each string is as JSON; 0 if that has not been worked out. One too many, so that it is never 0.
    lengths: Vec<u32>,
    /// Whether a string was met: an outline has each once.
    met: Vec<bool>,
    targets: Targets<'a>,
}

impl<'a> TextEstimate<'a> {
    pub(crate) fn new(spans: &'a SpanBatch, detail: TraceDetail) -> Self {
        let strings = spans.strings.len();
        Self { spans, detail, lengths: vec![0; strings], met: vec![false; strings], targets: Targets::new(spans) }
    }

    /// About how many bytes the text of a span has.
    pub(crate) fn bytes_of(&mut self, row: usize) -> usize {
        let spans = self.spans;
        if self.detail.is_outline() {
            let names = [spans.name[row], spans.service_name(row)];
            let names = names.into_iter().map(|code| self.first_time(code)).sum::<usize>();
            let target = if self.detail == TraceDetail::Outline { 0 } else { self.target(row) };
            return OUTLINE_BYTES + names + target;
        }
        let texts = [spans.name[row], spans.status_message[row], spans.trace_state[row]];
        let mut bytes = SPAN_BYTES + texts.into_iter().map(|code| self.text(code)).sum::<usize>();
        bytes += self.attributes(&spans.attributes, row);
        for event in spans.event_range(row) {
            bytes +=
                EVENT_BYTES + self.text(spans.events.name[event]) + self.attributes(&spans.events.attributes, event);
        }
        for link in spans.link_range(row) {
            bytes += EVENT_BYTES + self.attributes(&spans.links.attributes, link);
        }
        bytes
    }

    fn attributes(&mut self, lists: &AttributeLists, owner: usize) -> usize {
        let of_value = |own: &mut Self, value| match value {
            AttributeValue::String(code) => own.text(code),
            // Quotes inside are escaped, or it becomes a tree of values.
            AttributeValue::Json(code) => 3 * own.text(code),
            AttributeValue::Bytes(code) => own.text(code).max(2 * own.spans.strings.bytes(code).len()),
            AttributeValue::Empty | AttributeValue::Bool(_) | AttributeValue::Int(_) | AttributeValue::Double(_) => 24,
        };
        lists.of(owner).map(|(key, value)| ATTRIBUTE_BYTES + self.text(key) + of_value(self, value)).sum()
    }

    fn target(&mut self, row: usize) -> usize {
        let met = self.targets.texts().len();
        let number = self.targets.number(row);
        let texts = &self.targets.texts()[met..];
        let of_number = number.map_or(0, |_| TARGET_NUMBER_BYTES);
        of_number + texts.iter().map(|text| TARGET_BYTES + text.len() + json_bytes(text.as_bytes())).sum::<usize>()
    }

    fn first_time(&mut self, code: StringCode) -> usize {
        if std::mem::replace(&mut self.met[code as usize], true) { 0 } else { self.text(code) }
    }

    /// How long a text is as JSON, escapes included.
    fn text(&mut self, code: StringCode) -> usize {
        let known = &mut self.lengths[code as usize];
        if *known == 0 {
            *known = 1 + json_bytes(self.spans.strings.bytes(code)) as u32;
        }
        *known as usize
    }
}

fn json_bytes(text: &[u8]) -> usize {
    let of_byte = |byte: &u8| match byte {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.iter().map(of_byte).sum()
}
