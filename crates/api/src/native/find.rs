//! Looks for a text in the spans of a trace. Each distinct string is looked at once, then codes are compared.

use tracehouse_model::{AttributeLists, AttributeValue, SpanBatch, StringCode};

/// The rows of spans with a name, service, status message, id, event name, or attribute key or value (of the span, its
/// resource, scope, events or links) that contains `text`, in any case.
pub(crate) fn rows_with(spans: &SpanBatch, text: &str) -> Vec<u32> {
    let text = text.to_lowercase();
    let search = Search { spans, strings: strings_with(spans, &text), text };
    let resources: Vec<bool> = owners(&spans.resources.attributes).map(|at| search.in_resource(at)).collect();
    let scopes: Vec<bool> = owners(&spans.scopes.attributes).map(|at| search.in_scope(at)).collect();
    let matches = |row: usize| {
        resources[spans.resource[row] as usize] || scopes[spans.scope[row] as usize] || search.in_span(row)
    };
    (0..spans.len()).filter(|row| matches(*row)).map(|row| row as u32).collect()
}

fn owners(lists: &AttributeLists) -> std::ops::Range<usize> {
    0..lists.owners()
}

/// For each string code whether the string contains the text, which is in lower case.
fn strings_with(spans: &SpanBatch, text: &str) -> Vec<bool> {
    let mut lower = String::new();
    let contains = |string: &[u8]| {
        let Ok(string) = std::str::from_utf8(string) else {
            return false;
        };
        lower.clear();
        if string.is_ascii() {
            lower.push_str(string);
            lower.make_ascii_lowercase();
        } else {
            lower.push_str(&string.to_lowercase());
        }
        lower.contains(text)
    };
    spans.strings.iter().map(contains).collect()
}

struct Search<'a> {
    spans: &'a SpanBatch,
    strings: Vec<bool>,
    text: String,
}

impl Search<'_> {
    fn string(&self, code: StringCode) -> bool {
        self.strings[code as usize]
    }

    fn in_span(&self, row: usize) -> bool {
        let spans = self.spans;
        self.string(spans.name[row])
            || self.string(spans.status_message[row])
            || self.in_attributes(&spans.attributes, row)
            || self.in_id(&spans.span_id[row].0)
            || spans.event_range(row).any(|event| {
                self.string(spans.events.name[event]) || self.in_attributes(&spans.events.attributes, event)
            })
            || spans.link_range(row).any(|link| self.in_link(link))
    }

    fn in_link(&self, link: usize) -> bool {
        let links = &self.spans.links;
        self.in_id(&links.trace_id[link].0)
            || self.in_id(&links.span_id[link].0)
            || self.in_attributes(&links.attributes, link)
    }

    fn in_resource(&self, resource: usize) -> bool {
        self.string(self.spans.resources.service_name[resource])
            || self.in_attributes(&self.spans.resources.attributes, resource)
    }

    fn in_scope(&self, scope: usize) -> bool {
        let scopes = &self.spans.scopes;
        self.string(scopes.name[scope]) || self.in_attributes(&scopes.attributes, scope)
    }

    fn in_attributes(&self, lists: &AttributeLists, owner: usize) -> bool {
        lists.of(owner).any(|(key, value)| self.string(key) || self.in_value(value))
    }

    fn in_value(&self, value: AttributeValue) -> bool {
        match value {
            AttributeValue::Empty | AttributeValue::Bytes(_) => false,
            AttributeValue::String(code) | AttributeValue::Json(code) => self.string(code),
            AttributeValue::Bool(value) => if value { "true" } else { "false" }.contains(&self.text),
            // A number is written out only if the text could be part of one.
            AttributeValue::Int(value) => self.could_be_number() && value.to_string().contains(&self.text),
            AttributeValue::Double(value) => self.could_be_number() && value.to_string().contains(&self.text),
        }
    }

    fn could_be_number(&self) -> bool {
        self.text.len() <= 24 && self.text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.'))
    }

    fn in_id(&self, id: &[u8]) -> bool {
        // An id is looked for by what people copy of it, not by two digits that are in every id.
        const DIGITS_MIN: usize = 4;
        self.text.len() >= DIGITS_MIN
            && self.text.len() <= 2 * id.len()
            && self.text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && hex::encode(id).contains(&self.text)
    }
}
