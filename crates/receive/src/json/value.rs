//! Attributes and their values in JSON.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess};
use tracehouse_model::AnyValue;

use super::go_on;
use super::read::{Base64, Double, Elements, Integer, List, Message, Object, Text, ignore};
use crate::builder::{BatchBuilder, Owner, RawValue};
use crate::nested::Room;

/// A list of `KeyValue` that goes to one owner.
pub(super) struct Attributes<'b, 'l> {
    pub(super) builder: &'b mut BatchBuilder<'l>,
    pub(super) owner: Owner,
}

impl<'de> Elements<'de> for Attributes<'_, '_> {
    fn element<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        if !self.builder.admit_attribute(self.owner) {
            go_on(self.builder)?;
            return IgnoredAny::deserialize(deserializer).map(drop);
        }
        let limits = self.builder.limits();
        let mut room = Room::new(limits.attribute_value_bytes_max);
        let mut read = KeyValue::new(limits.value_depth_max, &mut room);
        Object(&mut read).deserialize(deserializer)?;
        let KeyValue { key, value, .. } = read;
        match value {
            Value::Scalar(value) => self.builder.attribute(self.owner, key.0.as_bytes(), value.raw()),
            Value::Nested(value) => self.builder.nested_attribute(self.owner, key.0.as_bytes(), Some(value), &room),
            Value::TooDeep => self.builder.nested_attribute(self.owner, key.0.as_bytes(), None, &room),
        }
        Ok(())
    }
}

enum Value<'de> {
    Scalar(ScalarValue<'de>),
    Nested(AnyValue),
    TooDeep,
}

enum ScalarValue<'de> {
    Empty,
    String(Cow<'de, str>),
    Int(i64),
    Double(f64),
    Bool(bool),
    Bytes(Vec<u8>),
}

impl ScalarValue<'_> {
    fn raw(&self) -> RawValue<'_> {
        match self {
            Self::Empty => RawValue::Empty,
            Self::String(text) => RawValue::String(text.as_bytes()),
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
}

impl<'r> KeyValue<'_, 'r> {
    fn new(depth_left: usize, room: &'r mut Room) -> Self {
        Self { key: Text::default(), value: Value::Scalar(ScalarValue::Empty), depth_left, room }
    }
}

impl<'de> Message<'de> for KeyValue<'de, '_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "key" => self.key = map.next_value()?,
            "value" => {
                let mut read = AnyValueMessage { value: &mut self.value, depth_left: self.depth_left, room: self.room };
                map.next_value_seed(Object(&mut read))?;
            }
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct AnyValueMessage<'v, 'de> {
    value: &'v mut Value<'de>,
    depth_left: usize,
    room: &'v mut Room,
}

impl<'de> Message<'de> for AnyValueMessage<'_, 'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        // `null` means that this alternative is not the one chosen.
        let scalar = match name {
            "stringValue" | "string_value" => {
                map.next_value::<Option<Text<'de>>>()?.map(|it| ScalarValue::String(it.0))
            }
            "intValue" | "int_value" => map.next_value::<Option<Integer<i64>>>()?.map(|it| ScalarValue::Int(it.0)),
            "doubleValue" | "double_value" => map.next_value::<Option<Double>>()?.map(|it| ScalarValue::Double(it.0)),
            "boolValue" | "bool_value" => map.next_value::<Option<bool>>()?.map(ScalarValue::Bool),
            "bytesValue" | "bytes_value" => map.next_value::<Option<Base64>>()?.map(|it| ScalarValue::Bytes(it.0)),
            "arrayValue" | "array_value" => return self.nested(map, true),
            "kvlistValue" | "kvlist_value" => return self.nested(map, false),
            _ => return ignore(map),
        };
        if let Some(scalar) = scalar {
            *self.value = Value::Scalar(scalar);
        }
        Ok(())
    }
}

impl AnyValueMessage<'_, '_> {
    fn nested<'de, A: MapAccess<'de>>(&mut self, map: &mut A, is_array: bool) -> Result<(), A::Error> {
        let Some(depth_left) = self.depth_left.checked_sub(1) else {
            *self.value = Value::TooDeep;
            return ignore(map);
        };
        let (values, entries) = (Vec::new(), Vec::new());
        let mut read =
            NestedMessage { is_array, values, entries, depth_left, room: self.room, present: false, too_deep: false };
        map.next_value_seed(MarkPresent(&mut read))?;
        if read.present {
            *self.value = match read {
                NestedMessage { too_deep: true, .. } => Value::TooDeep,
                NestedMessage { is_array: true, values, .. } => Value::Nested(AnyValue::Array(values)),
                NestedMessage { entries, .. } => Value::Nested(AnyValue::KeyValueList(entries)),
            };
        }
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
    present: bool,
    too_deep: bool,
}

/// Reads an object and notes that it was not `null`.
struct MarkPresent<'m, 'r>(&'m mut NestedMessage<'r>);

impl<'de> DeserializeSeed<'de> for MarkPresent<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> serde::de::Visitor<'de> for MarkPresent<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.present = true;
        Object(self.0).deserialize(deserializer)
    }
}

impl<'de> Message<'de> for NestedMessage<'_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if name == "values" { map.next_value_seed(List(self)) } else { ignore(map) }
    }
}

impl<'de> Elements<'de> for NestedMessage<'_> {
    fn element<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        if self.room.cut || self.too_deep {
            return IgnoredAny::deserialize(deserializer).map(drop);
        }
        let mut read = KeyValue::new(self.depth_left, self.room);
        if self.is_array {
            let mut value = AnyValueMessage { value: &mut read.value, depth_left: self.depth_left, room: read.room };
            Object(&mut value).deserialize(deserializer)?;
        } else {
            Object(&mut read).deserialize(deserializer)?;
        }
        let KeyValue { key, value, .. } = read;
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
            self.entries.push((key.0.into_owned(), value));
        }
        Ok(())
    }
}
