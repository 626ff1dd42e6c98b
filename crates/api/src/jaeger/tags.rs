//! Which fields of a span are tags, used both ways: for what answers show, and for what searches look for.
//!
//! Whatever tag of a span, of its process or of a log an answer shows, in whichever of the interfaces, finds the span when it is
//! asked for. As in Jaeger, attributes of scopes and links are looked through too.

use tracehouse_model::{AnyValue, SpanBatch, kind, status};
use tracehouse_query::{Condition, Scope, TextField};

/// A field of a span that is shown as a tag.
pub(super) struct FieldTag {
    pub(super) key: &'static str,
    /// What is shown of a span, instead of an attribute with the key.
    pub(super) value: fn(&SpanBatch, usize) -> Option<AnyValue>,
    /// What holds for the spans that show this text; `None`: none does.
    condition: fn(&str) -> Option<Condition>,
}

pub(super) const FIELD_TAGS: [FieldTag; 7] = [
    FieldTag {
        key: "otel.scope.name",
        value: |spans, row| text(spans, spans.scopes.name[spans.scope[row] as usize]),
        condition: |asked| text_condition(TextField::ScopeName, asked),
    },
    FieldTag {
        key: "otel.scope.version",
        value: |spans, row| text(spans, spans.scopes.version[spans.scope[row] as usize]),
        condition: |asked| text_condition(TextField::ScopeVersion, asked),
    },
    FieldTag {
        key: "span.kind",
        value: |spans, row| {
            let known = Some(spans.kind[row]).filter(|known| *known != kind::UNSPECIFIED)?;
            Some(AnyValue::String(kind::name(known).to_owned()))
        },
        condition: |asked| kind::from_name(asked).filter(|known| *known != kind::UNSPECIFIED).map(Condition::Kind),
    },
    FieldTag {
        key: "otel.status_description",
        value: |spans, row| text(spans, spans.status_message[row]),
        condition: |asked| text_condition(TextField::StatusMessage, asked),
    },
    FieldTag {
        key: "w3c.tracestate",
        value: |spans, row| text(spans, spans.trace_state[row]),
        condition: |asked| text_condition(TextField::TraceState, asked),
    },
    FieldTag {
        key: "otel.status_code",
        value: |spans, row| match spans.status_code[row] {
            status::ERROR => Some(AnyValue::String("ERROR".to_owned())),
            status::OK => Some(AnyValue::String("OK".to_owned())),
            _ => None,
        },
        condition: |asked| match asked {
            "ERROR" => Some(Condition::Status(status::ERROR)),
            "OK" => Some(Condition::Status(status::OK)),
            _ => None,
        },
    },
    FieldTag {
        key: "error",
        value: |spans, row| (spans.status_code[row] == status::ERROR).then_some(AnyValue::Bool(true)),
        condition: |asked| (asked == "true").then_some(Condition::Status(status::ERROR)),
    },
];

/// The field of a log that is the name of the event.
pub(super) const EVENT_NAME: &str = "event";

fn text(spans: &SpanBatch, code: u32) -> Option<AnyValue> {
    let text = spans.strings.get(code);
    (!text.is_empty()).then(|| AnyValue::String(text.to_owned()))
}

fn text_condition(field: TextField, asked: &str) -> Option<Condition> {
    (!asked.is_empty()).then(|| Condition::Text { field, text: asked.to_owned() })
}

/// What holds for the spans of which answers show a tag.
pub(super) fn tag_condition(key: &str, asked: &str) -> Condition {
    const PLACES: [Scope; 5] = [Scope::Span, Scope::Resource, Scope::Instrumentation, Scope::Event, Scope::Link];
    let of_attributes = PLACES.map(|scope| Condition::ShownAs { scope, key: key.to_owned(), text: asked.to_owned() });
    let of_fields = FIELD_TAGS.iter().filter(|field| field.key == key).filter_map(|field| (field.condition)(asked));
    let of_events = (key == EVENT_NAME).then(|| text_condition(TextField::EventName, asked)).flatten();
    Condition::Any(of_fields.chain(of_events).chain(of_attributes).collect())
}
