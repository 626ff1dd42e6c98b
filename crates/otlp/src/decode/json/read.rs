//! How OTLP's JSON writes messages and single values: ids in hexadecimal, 64-bit integers as strings, enums as integers,
//! bytes in Base64. Where protobuf's own JSON mapping allows more (numbers for strings of digits and the reverse, integers
//! with a fraction of zero or an exponent, names of enums, `null` for the default), that is read as well.
//!
//! Source: OTLP specification, "JSON Protobuf Encoding"; <https://protobuf.dev/programming-guides/json/>.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::decimal;
use super::reader::{Fatal, Reader, Token};
use crate::decode::decoded::Fault;

/// What was read, unless the value is none that its field can have; it is passed over then, and reading goes on.
pub(super) type Read<T> = Result<Result<T, Wrong>, Fatal>;

/// A value that its field can't have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrong {
    pub(super) found: &'static str,
    pub(super) expected: &'static str,
}

impl Wrong {
    pub(super) fn in_field(self, field: &'static str) -> Fault {
        Fault { field, found: self.found, expected: self.expected }
    }
}

/// The first wrong value in a message.
#[derive(Default)]
pub(super) struct Faults(pub(super) Option<Fault>);

impl Faults {
    /// The value of a field; of a wrong one the default.
    #[inline]
    pub(super) fn take<T: Default>(&mut self, field: &'static str, read: Result<T, Wrong>) -> T {
        read.unwrap_or_else(|wrong| {
            self.0.get_or_insert(wrong.in_field(field));
            T::default()
        })
    }
}

/// A message that is read from an object, field by field.
pub(super) trait Message<'de> {
    /// Reads the value of the field; an unknown one is passed over.
    fn field(&mut self, name: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal>;
}

/// Reads an object into a message; `null` leaves it as it is.
#[inline]
pub(super) fn object<'de>(reader: &mut Reader<'de>, message: &mut impl Message<'de>) -> Read<()> {
    match reader.peek()? {
        b'{' => reader.members(|reader, name| message.field(name, reader)).map(Ok),
        b'n' => reader.is_null().map(|_| Ok(())),
        _ => pass_over(reader, "an object").map(Err),
    }
}

/// Reads a list, element by element; `null` is an empty one.
#[inline]
pub(super) fn list<'de>(
    reader: &mut Reader<'de>,
    element: impl FnMut(&mut Reader<'de>) -> Result<(), Fatal>,
) -> Read<()> {
    match reader.peek()? {
        b'[' => reader.elements(element).map(Ok),
        b'n' => reader.is_null().map(|_| Ok(())),
        _ => pass_over(reader, "an array").map(Err),
    }
}

#[cold]
fn pass_over(reader: &mut Reader<'_>, expected: &'static str) -> Result<Wrong, Fatal> {
    let found = kind_of(&reader.token()?);
    Ok(Wrong { found, expected })
}

fn kind_of(token: &Token<'_>) -> &'static str {
    match token {
        Token::Null => "null",
        Token::Bool(_) => "true or false",
        Token::Text(_) => "a string",
        Token::Number(_) => "a number",
        Token::Other(kind) => kind,
    }
}

/// A type of single values: what becomes of each form in JSON that it may have.
pub(super) trait Scalar<'de>: Default {
    const EXPECTED: &'static str;

    fn from_text(text: Cow<'de, [u8]>) -> Option<Self>;

    fn from_number(_number: &[u8]) -> Option<Self> {
        None
    }

    fn from_bool(_value: bool) -> Option<Self> {
        None
    }
}

/// Reads a single value; `null` is the default.
#[inline]
pub(super) fn scalar<'de, S: Scalar<'de>>(reader: &mut Reader<'de>) -> Read<S> {
    let token = reader.token()?;
    let (found, value) = match token {
        Token::Text(text) => ("a string", S::from_text(text)),
        Token::Number(number) => ("a number", S::from_number(number)),
        Token::Bool(value) => ("true or false", S::from_bool(value)),
        Token::Null => return Ok(Ok(S::default())),
        Token::Other(kind) => (kind, None),
    };
    Ok(value.ok_or(Wrong { found, expected: S::EXPECTED }))
}

/// Reads a single value, or `null`.
pub(super) fn optional<'de, S: Scalar<'de>>(reader: &mut Reader<'de>) -> Read<Option<S>> {
    if reader.is_null()? {
        return Ok(Ok(None));
    }
    scalar(reader).map(|read| read.map(Some))
}

/// A string, not copied if it has no escapes; not UTF-8 for certain.
#[derive(Default)]
pub(super) struct Text<'de>(pub(super) Cow<'de, [u8]>);

impl<'de> Scalar<'de> for Text<'de> {
    const EXPECTED: &'static str = "a string";

    #[inline]
    fn from_text(text: Cow<'de, [u8]>) -> Option<Self> {
        Some(Self(text))
    }
}

/// An integer as a number or in a string.
#[derive(Default)]
pub(super) struct Integer<T>(pub(super) T);

impl<'de, T: TryFrom<i128> + Default> Scalar<'de> for Integer<T> {
    const EXPECTED: &'static str = "an integer in the range of its field";

    #[inline]
    fn from_text(text: Cow<'de, [u8]>) -> Option<Self> {
        Self::from_number(&text)
    }

    #[inline]
    fn from_number(number: &[u8]) -> Option<Self> {
        T::try_from(decimal::integer(number)?).ok().map(Self)
    }
}

/// A number, or one of `"NaN"`, `"Infinity"`, `"-Infinity"`, or a string with a number.
#[derive(Default)]
pub(super) struct Double(pub(super) f64);

impl<'de> Scalar<'de> for Double {
    const EXPECTED: &'static str = "a number in the range of a double, \"NaN\", \"Infinity\" or \"-Infinity\"";

    fn from_text(text: Cow<'de, [u8]>) -> Option<Self> {
        Self::from_number(&text)
    }

    fn from_number(number: &[u8]) -> Option<Self> {
        decimal::double(number).map(Self)
    }
}

/// `true` or `false`, also in a string.
#[derive(Default)]
pub(super) struct Bool(pub(super) bool);

impl<'de> Scalar<'de> for Bool {
    const EXPECTED: &'static str = "true or false";

    fn from_text(text: Cow<'de, [u8]>) -> Option<Self> {
        match &*text {
            b"true" => Some(Self(true)),
            b"false" => Some(Self(false)),
            _ => None,
        }
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(Self(value))
    }
}

/// A trace or span id in hexadecimal digits of either case.
#[derive(Default, Clone, Copy)]
pub(super) struct Id {
    bytes: [u8; 16],
    length: usize,
}

impl Id {
    /// What stands for digits that are no id at all: as long as no id is, so that only the one span is refused.
    const WRONG: Id = Id { bytes: [0; 16], length: 1 };

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<'de> Scalar<'de> for Id {
    const EXPECTED: &'static str = "a string of hexadecimal digits";

    fn from_text(text: Cow<'de, [u8]>) -> Option<Self> {
        let mut id = Id { length: text.len() / 2, ..Id::default() };
        let decoded = id.bytes.get_mut(..id.length).map(|bytes| hex::decode_to_slice(&*text, bytes));
        Some(if matches!(decoded, Some(Ok(()))) { id } else { Id::WRONG })
    }
}

/// Bytes in Base64, of the standard or the URL alphabet, padded or not.
#[derive(Default)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl<'de> Scalar<'de> for Base64 {
    const EXPECTED: &'static str = "a string in Base64";

    fn from_text(text: Cow<'de, [u8]>) -> Option<Self> {
        const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            // What the last digit holds beyond the last byte is nothing to lose an attribute for.
            .with_decode_allow_trailing_bits(true);
        const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
        const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
        STANDARD.decode(&*text).or_else(|_| URL_SAFE.decode(&*text)).ok().map(Self)
    }
}

/// What stands for the number or name of an enum's value that OTLP does not know.
const UNKNOWN_ENUM: i32 = -1;

/// The number of an enum's value, or its name in lower case after a prefix.
fn enum_from_text(text: &[u8], prefix: &str, from_name: fn(&str) -> Option<u8>) -> Option<i32> {
    if decimal::double(text).is_some() {
        return enum_from_number(text);
    }
    // Later versions may have further names, but they begin alike.
    let name = std::str::from_utf8(text).ok()?.strip_prefix(prefix)?;
    Some(from_name(&name.to_ascii_lowercase()).map_or(UNKNOWN_ENUM, i32::from))
}

fn enum_from_number(number: &[u8]) -> Option<i32> {
    decimal::integer(number).map(|value| i32::try_from(value).unwrap_or(UNKNOWN_ENUM))
}

/// `2` or `"SPAN_KIND_SERVER"`.
#[derive(Default)]
pub(super) struct SpanKind(pub(super) i32);

impl<'de> Scalar<'de> for SpanKind {
    const EXPECTED: &'static str = "the number or name of a span kind";

    fn from_text(text: Cow<'de, [u8]>) -> Option<Self> {
        enum_from_text(&text, "SPAN_KIND_", tracehouse_model::kind::from_name).map(Self)
    }

    fn from_number(number: &[u8]) -> Option<Self> {
        enum_from_number(number).map(Self)
    }
}

/// `2` or `"STATUS_CODE_ERROR"`.
#[derive(Default)]
pub(super) struct StatusCode(pub(super) i32);

impl<'de> Scalar<'de> for StatusCode {
    const EXPECTED: &'static str = "the number or name of a status code";

    fn from_text(text: Cow<'de, [u8]>) -> Option<Self> {
        enum_from_text(&text, "STATUS_CODE_", tracehouse_model::status::from_name).map(Self)
    }

    fn from_number(number: &[u8]) -> Option<Self> {
        enum_from_number(number).map(Self)
    }
}
