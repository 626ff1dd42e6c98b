//! Builds columns of attribute values and of ids.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringViewBuilder};
use tracehouse_model::{AnyValue, AttributeValue, StringTable, double_text};

use crate::limits::without_signs;
use crate::tables::AttributeType;

/// A column of values of one type; what is not of the type is null.
pub(crate) enum ValueBuilder {
    Text(StringViewBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
}

impl ValueBuilder {
    pub(crate) fn new(value_type: AttributeType) -> Self {
        match value_type {
            AttributeType::Text => Self::Text(StringViewBuilder::new()),
            AttributeType::Int => Self::Int(Int64Builder::new()),
            AttributeType::Float => Self::Float(Float64Builder::new()),
            AttributeType::Bool => Self::Bool(BooleanBuilder::new()),
        }
    }

    /// Appends the first value, or null if it is of another type or there is none.
    pub(crate) fn push_first(&mut self, mut candidates: impl Iterator<Item = AnyValue>) {
        let first = candidates.find(|value| *value != AnyValue::Empty);
        if !first.is_some_and(|value| self.push_any(&value)) {
            self.push_null();
        }
    }

    /// Appends a value if it is of the type; false if it is not.
    pub(super) fn push_attribute(&mut self, value: AttributeValue, strings: &StringTable) -> bool {
        match (&mut *self, value) {
            (Self::Text(builder), AttributeValue::String(code)) => builder.append_value(strings.get(code)),
            (_, AttributeValue::String(_) | AttributeValue::Empty) => return false,
            (_, value) => return self.push_any(&value.resolve(strings)),
        }
        true
    }

    pub(super) fn push_any(&mut self, value: &AnyValue) -> bool {
        match (self, value) {
            (_, AnyValue::Empty) => return false,
            (Self::Text(builder), AnyValue::String(text)) => builder.append_value(text),
            (Self::Text(builder), AnyValue::Double(value)) => {
                builder.append_value(double_text(without_sign_of_zero(*value)))
            }
            (Self::Text(builder), other) => builder.append_value(other.to_canonical_json()),
            (Self::Int(builder), AnyValue::Int(value)) => builder.append_value(*value),
            (Self::Float(builder), AnyValue::Int(value)) => builder.append_value(*value as f64),
            (Self::Float(builder), AnyValue::Double(value)) => builder.append_value(*value),
            (Self::Bool(builder), AnyValue::Bool(value)) => builder.append_value(*value),
            _ => return false,
        }
        true
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Text(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Bool(builder) => builder.append_null(),
        }
    }

    pub(crate) fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Int(mut builder) => Arc::new(builder.finish()),
            Self::Float(mut builder) => without_signs(&(Arc::new(builder.finish()) as ArrayRef)),
            Self::Bool(mut builder) => Arc::new(builder.finish()),
        }
    }
}

/// Ids as lowercase hexadecimal digits; null where there is none.
pub(super) fn hex_column<'a>(ids: impl Iterator<Item = Option<&'a [u8]>>) -> ArrayRef {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut builder = StringViewBuilder::new();
    let mut text = String::with_capacity(32);
    for id in ids {
        let Some(id) = id else {
            builder.append_null();
            continue;
        };
        text.clear();
        for &byte in id {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        builder.append_value(&text);
    }
    Arc::new(builder.finish())
}

/// Texts, of which the empty ones may mean *none*.
pub(super) fn text_column<'a>(texts: impl Iterator<Item = &'a str>, empty_is_null: bool) -> ArrayRef {
    let mut builder = StringViewBuilder::new();
    for text in texts {
        if empty_is_null && text.is_empty() {
            builder.append_null();
        } else {
            builder.append_value(text);
        }
    }
    Arc::new(builder.finish())
}

/// There is one zero. Both signs of it and 0 make 0.
fn without_sign_of_zero(number: f64) -> f64 {
    number + 0.0
}
