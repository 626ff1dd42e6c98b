//! Under which name answers show a service.

use std::borrow::Cow;

use crate::any_value::{AnyValue, double_text};
use crate::batch::SpanBatch;
use crate::span::Span;

/// The service of spans that name none, as OpenTelemetry calls it.
pub const UNKNOWN_SERVICE: &str = "unknown_service";

impl SpanBatch {
    /// The name under which answers show the service of a resource, and by which its spans are found: `service.name`; a number
    /// or truth value as a text; of a list the first that has a name, also in a list within it; [`UNKNOWN_SERVICE`] where it is
    /// missing, empty or something else. Languages that ask for the attribute itself go by [`SpanBatch::service_name`].
    pub fn shown_service(&self, resource: usize) -> Cow<'_, str> {
        let name = self.resources.service_name[resource];
        if name != 0 {
            return Cow::Borrowed(self.strings.get(name));
        }
        let key = self.strings.find(b"service.name");
        let value = key.and_then(|key| self.resources.attributes.get(resource, key));
        shown_service_of(value.map(|value| value.resolve(&self.strings)).as_ref())
    }

    /// Gives every resource the name that answers show, for batches that are made for an answer.
    pub fn name_services(&mut self) {
        for resource in 0..self.resources.service_name.len() {
            if self.resources.service_name[resource] == 0 {
                let shown = self.shown_service(resource).into_owned();
                self.resources.service_name[resource] = self.strings.intern_str(&shown);
            }
        }
    }
}

impl Span {
    /// As [`SpanBatch::shown_service`].
    pub fn shown_service(&self) -> Cow<'_, str> {
        if !self.service_name.is_empty() {
            return Cow::Borrowed(&self.service_name);
        }
        let named = self.resource_attributes.iter().find(|(key, _)| key == "service.name");
        shown_service_of(named.map(|(_, value)| value))
    }
}

/// The name of a service of which this is the `service.name`, as [`SpanBatch::shown_service`] gives it.
pub fn shown_service_of(value: Option<&AnyValue>) -> Cow<'static, str> {
    value.and_then(name_in).map_or(Cow::Borrowed(UNKNOWN_SERVICE), Cow::Owned)
}

/// As conditions find it: no number is like [`f64::NAN`], and one of a list is enough.
fn name_in(value: &AnyValue) -> Option<String> {
    match value {
        AnyValue::String(text) => (!text.is_empty()).then(|| text.clone()),
        AnyValue::Int(value) => Some(value.to_string()),
        AnyValue::Double(value) => (!value.is_nan()).then(|| double_text(*value)),
        AnyValue::Bool(value) => Some(value.to_string()),
        AnyValue::Array(items) => items.iter().find_map(name_in),
        AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::KeyValueList(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::AttributeValue;

    #[test]
    fn every_service_has_a_name() {
        let text = |text: &str| Some(AnyValue::String(text.to_owned()));
        let table = [
            (text("cart"), "cart"),
            (text(""), UNKNOWN_SERVICE),
            (None, UNKNOWN_SERVICE),
            (Some(AnyValue::Empty), UNKNOWN_SERVICE),
            (Some(AnyValue::Int(42)), "42"),
            (Some(AnyValue::Double(1.5)), "1.5"),
            (Some(AnyValue::Double(f64::NAN)), UNKNOWN_SERVICE),
            (Some(AnyValue::Double(f64::NEG_INFINITY)), "-Infinity"),
            (Some(AnyValue::Double(1e300)), "1e+300"),
            (Some(AnyValue::Array(vec![AnyValue::Double(f64::NAN), AnyValue::String("l".to_owned())])), "l"),
            (Some(AnyValue::Array(vec![AnyValue::String(String::new())])), UNKNOWN_SERVICE),
            (Some(AnyValue::Array(vec![AnyValue::Array(vec![AnyValue::Empty, AnyValue::Int(7)])])), "7"),
            (Some(AnyValue::Bool(true)), "true"),
            (Some(AnyValue::Bytes(vec![1])), UNKNOWN_SERVICE),
        ];
        for (value, expected) in table {
            let mut spans = SpanBatch::new();
            let key = spans.strings.intern_str("service.name");
            let stored = value.clone().map(|value| match value {
                AnyValue::Empty => AttributeValue::Empty,
                AnyValue::String(text) => AttributeValue::String(spans.strings.intern_str(&text)),
                AnyValue::Int(value) => AttributeValue::Int(value),
                AnyValue::Double(value) => AttributeValue::Double(value),
                AnyValue::Bool(value) => AttributeValue::Bool(value),
                AnyValue::Bytes(bytes) => AttributeValue::Bytes(spans.strings.intern(&bytes)),
                nested => AttributeValue::Json(spans.strings.intern_str(&nested.to_canonical_json())),
            });
            if let Some(stored) = stored {
                spans.resources.attributes.push(key, stored);
            }
            let resource = spans.finish_resource(0, 0) as usize;
            assert_eq!(spans.shown_service(resource), expected, "{value:?}");
            spans.name_services();
            assert_eq!(spans.strings.get(spans.resources.service_name[resource]), expected, "{value:?}");
        }
    }
}
