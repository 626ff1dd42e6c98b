//! JSON written straight into a byte buffer, for answers with very many values.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use tracehouse_model::double_text;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A number that may be infinite or none at all, for which JSON has no word: those are the texts `Infinity`, `-Infinity` and
/// `NaN`, as in protobuf's JSON mapping.
#[derive(Clone, Copy)]
pub(crate) struct Double(pub(crate) f64);

impl Serialize for Double {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.serialize_str(&double_text(self.0))
        }
    }
}

impl PartialSchema for Double {
    fn schema() -> RefOr<Schema> {
        let names = ["Infinity", "-Infinity", "NaN"];
        let text = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
        OneOfBuilder::new().item(ObjectBuilder::new().schema_type(Type::Number)).item(text).into()
    }
}

impl ToSchema for Double {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Double")
    }
}

/// Writes any value; for texts, numbers and small structures.
pub(crate) fn write(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("writing plain data to memory can't fail");
}

/// Writes `"name":`, with a comma before it unless it is the first of its object. `name` needs no escapes.
pub(crate) fn key(out: &mut Vec<u8>, name: &str) {
    if out.last().is_some_and(|last| *last != b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

pub(crate) fn field(out: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    key(out, name);
    write(out, value);
}

/// Writes `[a,b,…]`, each item by `write_item`.
pub(crate) fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write_item: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_item(out, item);
    }
    out.push(b']');
}

/// Writes an integer. Most columns hold small ones, which are one byte.
pub(crate) fn integer(out: &mut Vec<u8>, value: i64) {
    if (0..10).contains(&value) {
        out.push(b'0' + value as u8);
        return;
    }
    if value < 0 {
        out.push(b'-');
    }
    const DIGITS_MAX: usize = 20;
    let mut digits = [0; DIGITS_MAX];
    let mut begin = DIGITS_MAX;
    let mut rest = value.unsigned_abs();
    while rest > 0 {
        begin -= 1;
        digits[begin] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[begin..]);
}

/// Writes bytes as a JSON string of hexadecimal digits.
pub(crate) fn hex<const BYTES: usize>(out: &mut Vec<u8>, bytes: [u8; BYTES]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for value in [0, 9, 10, -1, -10, 1_769_860_800_000_000_000, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            integer(&mut out, value);
            assert_eq!(String::from_utf8(out).expect("ASCII"), value.to_string());
        }
    }

    #[test]
    fn hexadecimal() {
        let mut out = Vec::new();
        hex(&mut out, [0, 0x1f, 0xff]);
        assert_eq!(out, b"\"001fff\"");
    }
}
