//! Attributes and their values in JSON.

use std::borrow::Cow;

use tracehouse_model::AnyValue;

use super::go_on;
use super::read::{Base64, Bool, Double, Faults, Integer, Message, Read, Scalar, Text, list, object, optional, scalar};
use super::reader::{Fatal, Reader};
use crate::decode::builder::{BatchBuilder, Owner, RawValue};
use crate::decode::nested::Room;

/// Reads a list of `KeyValue` that goes to one owner. One with a wrong value is left out.
#[inline]
pub(super) fn read_attributes(reader: &mut Reader<'_>, builder: &mut BatchBuilder<'_>, owner: Owner) -> Read<()> {
    list(reader, |reader| read_attribute(reader, builder, owner))
}

fn read_attribute(reader: &mut Reader<'_>, builder: &mut BatchBuilder<'_>, owner: Owner) -> Result<(), Fatal> {
    if !builder.admit_attribute(owner) {
        go_on(builder)?;
        return reader.skip();
    }
    let limits = builder.limits();
    let mut room = Room::new(limits.attribute_value_bytes_max);
    let mut faults = Faults::default();
    let mut read = KeyValue::new(limits.value_depth_max, &mut room, &mut faults);
    let shape = object(reader, &mut read)?;
    let KeyValue { key, value, .. } = read;
    faults.take("it", shape);
    if let Some(fault) = &faults.0 {
        builder.leave_out_wrong_attribute(owner, &key.0, fault);
        return go_on(builder);
    }
    match value {
        Value::Scalar(value) => builder.attribute(owner, &key.0, value.raw()),
        Value::Nested(value) => builder.nested_attribute(owner, &key.0, Some(value), &room),
        Value::TooDeep => builder.nested_attribute(owner, &key.0, None, &room),
    }
    Ok(())
}

enum Value<'de> {
    Scalar(ScalarValue<'de>),
    Nested(AnyValue),
    TooDeep,
}

enum ScalarValue<'de> {
    Empty,
    /// Not UTF-8 for certain.
    String(Cow<'de, [u8]>),
    Int(i64),
    Double(f64),
    Bool(bool),
    Bytes(Vec<u8>),
}

impl ScalarValue<'_> {
    fn raw(&self) -> RawValue<'_> {
        match self {
            Self::Empty => RawValue::Empty,
            Self::String(text) => RawValue::String(text),
            Self::Int(value) => RawValue::Int(*value),
            Self::Double(value) => RawValue::Double(*value),
            Self::Bool(value) => RawValue::Bool(*value),
            Self::Bytes(bytes) => RawValue::Bytes(bytes),
        }
    }

    fn content_bytes(&self) -> usize {
        match self {
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

struct KeyValue<'de, 'r> {
    key: Text<'de>,
    value: Value<'de>,
    depth_left: usize,
    room: &'r mut Room,
    /// Of the whole attribute.
    faults: &'r mut Faults,
}

impl<'r> KeyValue<'_, 'r> {
    fn new(depth_left: usize, room: &'r mut Room, faults: &'r mut Faults) -> Self {
        Self { key: Text::default(), value: Value::Scalar(ScalarValue::Empty), depth_left, room, faults }
    }
}

impl<'de> Message<'de> for KeyValue<'de, '_> {
    fn field(&mut self, name: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        match name {
            b"key" => self.key = self.faults.take("key", scalar(reader)?),
            b"value" => {
                let shape = object(reader, &mut self.any_value())?;
                self.faults.take("value", shape);
            }
            _ => reader.skip()?,
        }
        Ok(())
    }
}

impl<'de> KeyValue<'de, '_> {
    /// What reads the value.
    fn any_value(&mut self) -> AnyValueMessage<'_, 'de> {
        let Self { value, depth_left, room, faults, .. } = self;
        AnyValueMessage { value, depth_left: *depth_left, room, faults }
    }
}

struct AnyValueMessage<'v, 'de> {
    value: &'v mut Value<'de>,
    depth_left: usize,
    room: &'v mut Room,
    faults: &'v mut Faults,
}

impl<'de> Message<'de> for AnyValueMessage<'_, 'de> {
    fn field(&mut self, name: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        match name {
            b"stringValue" | b"string_value" => {
                self.scalar(reader, "stringValue", |value: Text<'de>| ScalarValue::String(value.0))
            }
            b"intValue" | b"int_value" => {
                self.scalar(reader, "intValue", |value: Integer<i64>| ScalarValue::Int(value.0))
            }
            b"doubleValue" | b"double_value" => {
                self.scalar(reader, "doubleValue", |value: Double| ScalarValue::Double(value.0))
            }
            b"boolValue" | b"bool_value" => self.scalar(reader, "boolValue", |value: Bool| ScalarValue::Bool(value.0)),
            b"bytesValue" | b"bytes_value" => {
                self.scalar(reader, "bytesValue", |value: Base64| ScalarValue::Bytes(value.0))
            }
            b"arrayValue" | b"array_value" => self.nested(reader, "arrayValue", true),
            b"kvlistValue" | b"kvlist_value" => self.nested(reader, "kvlistValue", false),
            _ => reader.skip(),
        }
    }
}

impl<'de> AnyValueMessage<'_, 'de> {
    /// `null` means that this alternative is not the one chosen.
    #[inline]
    fn scalar<S: Scalar<'de>>(
        &mut self,
        reader: &mut Reader<'de>,
        field: &'static str,
        to_value: impl FnOnce(S) -> ScalarValue<'de>,
    ) -> Result<(), Fatal> {
        if let Some(scalar) = self.faults.take(field, optional(reader)?) {
            *self.value = Value::Scalar(to_value(scalar));
        }
        Ok(())
    }

    fn nested(&mut self, reader: &mut Reader<'de>, field: &'static str, is_array: bool) -> Result<(), Fatal> {
        if reader.is_null()? {
            return Ok(());
        }
        let Some(depth_left) = self.depth_left.checked_sub(1) else {
            *self.value = Value::TooDeep;
            return reader.skip();
        };
        let (values, entries) = (Vec::new(), Vec::new());
        let (room, faults) = (&mut *self.room, &mut *self.faults);
        let mut read = NestedMessage { is_array, values, entries, depth_left, room, faults, too_deep: false };
        let shape = object(reader, &mut read)?;
        read.faults.take(field, shape);
        *self.value = match read {
            NestedMessage { too_deep: true, .. } => Value::TooDeep,
            NestedMessage { is_array: true, values, .. } => Value::Nested(AnyValue::Array(values)),
            NestedMessage { entries, .. } => Value::Nested(AnyValue::KeyValueList(entries)),
        };
        Ok(())
    }
}

/// `ArrayValue` or `KeyValueList`, which both have the one field `values`.
struct NestedMessage<'r> {
    is_array: bool,
    values: Vec<AnyValue>,
    entries: Vec<(String, AnyValue)>,
    depth_left: usize,
    room: &'r mut Room,
    faults: &'r mut Faults,
    too_deep: bool,
}

impl<'de> Message<'de> for NestedMessage<'_> {
    fn field(&mut self, name: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        if name != b"values" {
            return reader.skip();
        }
        let read = list(reader, |reader| self.element(reader))?;
        self.faults.take("values", read);
        Ok(())
    }
}

impl NestedMessage<'_> {
    fn element(&mut self, reader: &mut Reader<'_>) -> Result<(), Fatal> {
        if self.room.cut || self.too_deep {
            return reader.skip();
        }
        let mut read = KeyValue::new(self.depth_left, self.room, self.faults);
        let shape = if self.is_array { object(reader, &mut read.any_value())? } else { object(reader, &mut read)? };
        let KeyValue { key, value, .. } = read;
        self.faults.take("an element of values", shape);
        let content_bytes = match &value {
            Value::Scalar(scalar) => scalar.content_bytes(),
            _ => 0,
        };
        // A nested element has taken room for what it holds: what it could keep stays.
        let is_nested = matches!(value, Value::Nested(_));
        if !self.room.take(key.0.len() + content_bytes) && !is_nested {
            return Ok(());
        }
        let value = match value {
            Value::Scalar(scalar) => scalar.raw().to_owned(self.room),
            Value::Nested(value) => value,
            Value::TooDeep => {
                self.too_deep = true;
                return Ok(());
            }
        };
        if self.is_array {
            self.values.push(value);
        } else {
            let key = self.room.text(&key.0);
            self.entries.push((key, value));
        }
        Ok(())
    }
}
