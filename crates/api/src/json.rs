//! JSON written straight into a byte buffer, for answers with very many values.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use tracehouse_model::double_text;
pub(crate) use tracehouse_otlp::json_writer::{array, field, key, write};
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
