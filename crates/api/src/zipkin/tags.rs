//! Which fields of a span are tags, used both ways: for what answers show, and for what searches look for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracehouse_model::{AnyValue, SpanBatch, double_text, status};
use tracehouse_query::{Condition, Scope, TextField};

/// A field of a span that is shown as a tag.
pub(super) struct FieldTag {
    pub(super) key: &'static str,
    /// What is shown of a span, instead of an attribute with the key.
    pub(super) text: fn(&SpanBatch, usize) -> Option<String>,
    /// What holds for the spans that show this text; `None`: none does.
    condition: fn(&str) -> Option<Condition>,
    /// What holds for the spans that show any text.
    any: fn() -> Condition,
}

/// Zipkin goes by the presence of this tag; its own libraries never leave it empty.
const ERROR_WITHOUT_MESSAGE: &str = "true";

pub(super) const FIELD_TAGS: [FieldTag; 5] = [
    FieldTag {
        key: "otel.scope.name",
        text: |spans, row| text(spans, spans.scopes.name[spans.scope[row] as usize]),
        condition: |asked| text_condition(TextField::ScopeName, asked),
        any: || has_text(TextField::ScopeName),
    },
    FieldTag {
        key: "otel.scope.version",
        text: |spans, row| text(spans, spans.scopes.version[spans.scope[row] as usize]),
        condition: |asked| text_condition(TextField::ScopeVersion, asked),
        any: || has_text(TextField::ScopeVersion),
    },
    FieldTag {
        key: "w3c.tracestate",
        text: |spans, row| text(spans, spans.trace_state[row]),
        condition: |asked| text_condition(TextField::TraceState, asked),
        any: || has_text(TextField::TraceState),
    },
    FieldTag {
        key: "otel.status_code",
        text: |spans, row| match spans.status_code[row] {
            status::ERROR => Some("ERROR".to_owned()),
            status::OK => Some("OK".to_owned()),
            _ => None,
        },
        condition: |asked| match asked {
            "ERROR" => Some(Condition::Status(status::ERROR)),
            "OK" => Some(Condition::Status(status::OK)),
            _ => None,
        },
        any: || Condition::Any(vec![Condition::Status(status::ERROR), Condition::Status(status::OK)]),
    },
    FieldTag {
        key: "error",
        text: |spans, row| {
            let message = spans.strings.get(spans.status_message[row]);
            let shown = if message.is_empty() { ERROR_WITHOUT_MESSAGE } else { message };
            (spans.status_code[row] == status::ERROR).then(|| shown.to_owned())
        },
        condition: |asked| {
            let message = |text: &str| Condition::Text { field: TextField::StatusMessage, text: text.to_owned() };
            let mut messages = vec![message(asked)];
            if asked == ERROR_WITHOUT_MESSAGE {
                messages.push(message(""));
            }
            Some(Condition::All(vec![Condition::Status(status::ERROR), Condition::Any(messages)]))
        },
        any: || Condition::Status(status::ERROR),
    },
];

fn text(spans: &SpanBatch, code: u32) -> Option<String> {
    let text = spans.strings.get(code);
    (!text.is_empty()).then(|| text.to_owned())
}

fn text_condition(field: TextField, asked: &str) -> Option<Condition> {
    (!asked.is_empty()).then(|| Condition::Text { field, text: asked.to_owned() })
}

fn has_text(field: TextField) -> Condition {
    Condition::Not(Box::new(Condition::Text { field, text: String::new() }))
}

/// Where the attributes stand that answers show, as tags or within annotations.
const PLACES: [Scope; 3] = [Scope::Span, Scope::Resource, Scope::Event];

/// What holds for the spans of which answers show a tag.
pub(super) fn tag_condition(key: &str, asked: &str) -> Condition {
    let of_attributes = PLACES.map(|scope| Condition::ShownAs { scope, key: key.to_owned(), text: asked.to_owned() });
    let of_fields = FIELD_TAGS.iter().filter(|field| field.key == key).filter_map(|field| (field.condition)(asked));
    Condition::Any(of_fields.chain(of_attributes).collect())
}

/// What holds for the spans of which answers show an annotation with this value, or a tag with this key.
pub(super) fn present_condition(term: &str) -> Condition {
    let annotation = annotation_condition(term)
        .unwrap_or_else(|| Condition::Text { field: TextField::EventName, text: term.to_owned() });
    let of_fields = FIELD_TAGS.iter().filter(|field| field.key == term).map(|field| (field.any)());
    let of_attributes = [Scope::Span, Scope::Resource].map(|scope| Condition::Has { scope, key: term.to_owned() });
    Condition::Any([annotation].into_iter().chain(of_fields).chain(of_attributes).collect())
}

/// An annotation that shows the attributes of an event: `{"NAME":{"KEY":VALUE,…}}`.
pub(super) fn annotation_condition(value: &str) -> Option<Condition> {
    let AnyValue::KeyValueList(named) = AnyValue::from_canonical_json(value).ok()? else { return None };
    let [(name, AnyValue::KeyValueList(fields))] = named.as_slice() else { return None };
    let shown = |(key, value): &(String, AnyValue)| Condition::ShownAs {
        scope: Scope::Event,
        key: key.clone(),
        text: shown_text(value),
    };
    let of_name = Condition::Text { field: TextField::EventName, text: name.clone() };
    Some(Condition::All([of_name].into_iter().chain(fields.iter().map(shown)).collect()))
}

/// A value as a tag shows it.
pub(super) fn shown_text(value: &AnyValue) -> String {
    match value {
        AnyValue::Empty => String::new(),
        AnyValue::String(text) => text.clone(),
        AnyValue::Int(value) => value.to_string(),
        AnyValue::Double(value) => double_text(*value),
        AnyValue::Bool(value) => value.to_string(),
        AnyValue::Bytes(bytes) => STANDARD.encode(bytes),
        nested => nested.to_canonical_json(),
    }
}
