//! How OTLP's JSON writes single values: ids in hexadecimal, 64-bit integers as strings, enums as integers, bytes in
//! Base64. Where protobuf's own JSON mapping allows more (numbers for strings and the reverse, names of enums, `null`
//! for the default), that is read as well.
//!
//! Source: OTLP specification, "JSON Protobuf Encoding"; <https://protobuf.dev/programming-guides/json/>.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A message that is read from an object, field by field.
pub(super) trait Message<'de> {
    /// Reads the value of the field; of an unknown one too, with [`ignore`].
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Reads an object into a message; `null` leaves it as it is.
pub(super) struct Object<'m, M>(pub(super) &'m mut M);

impl<'de, M: Message<'de>> DeserializeSeed<'de> for Object<'_, M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, M: Message<'de>> Visitor<'de> for Object<'_, M> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            self.0.field(&name, &mut map)?;
        }
        Ok(())
    }
}

/// What becomes of the elements of a list.
pub(super) trait Elements<'de> {
    fn element<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error>;
}

/// Reads a list; `null` is an empty one.
pub(super) struct List<'e, E>(pub(super) &'e mut E);

impl<'de, E: Elements<'de>> DeserializeSeed<'de> for List<'_, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, E: Elements<'de>> Visitor<'de> for List<'_, E> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_unit<Err>(self) -> Result<(), Err> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Element(self.0))?.is_some() {}
        Ok(())
    }
}

struct Element<'e, E>(&'e mut E);

impl<'de, E: Elements<'de>> DeserializeSeed<'de> for Element<'_, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.element(deserializer)
    }
}

/// Passes over the value of a field.
pub(super) fn ignore<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// A type of single values: what becomes of each JSON form it may have.
pub(super) trait Scalar<'de>: Default {
    const EXPECTED: &'static str;

    fn from_text(text: Cow<'de, str>) -> Option<Self>;

    fn from_integer(_value: i128) -> Option<Self> {
        None
    }

    fn from_float(_value: f64) -> Option<Self> {
        None
    }
}

struct ScalarVisitor<S>(PhantomData<S>);

impl<'de, S: Scalar<'de>> ScalarVisitor<S> {
    fn check<E: Error>(value: Option<S>, found: impl fmt::Display) -> Result<S, E> {
        value.ok_or_else(|| E::custom(format_args!("{found} is not {}", S::EXPECTED)))
    }
}

impl<'de, S: Scalar<'de>> Visitor<'de> for ScalarVisitor<S> {
    type Value = S;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(S::EXPECTED)
    }

    fn visit_unit<E>(self) -> Result<S, E> {
        Ok(S::default())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<S, E> {
        Self::check(S::from_text(Cow::Borrowed(text)), "this string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<S, E> {
        Self::check(S::from_text(Cow::Owned(text.to_owned())), "this string")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<S, E> {
        Self::check(S::from_integer(value.into()), value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<S, E> {
        Self::check(S::from_integer(value.into()), value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<S, E> {
        Self::check(S::from_float(value), value)
    }
}

macro_rules! deserialize_scalar {
    ($($scalar:ty),*) => {$(
        impl<'de> Deserialize<'de> for $scalar {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(ScalarVisitor(PhantomData))
            }
        }
    )*};
}

deserialize_scalar!(Text<'de>, Integer<u64>, Integer<i64>, Integer<u32>, Double, Id, Base64, SpanKind, StatusCode);

/// A string, not copied if it has no escapes.
#[derive(Default)]
pub(super) struct Text<'de>(pub(super) Cow<'de, str>);

impl<'de> Scalar<'de> for Text<'de> {
    const EXPECTED: &'static str = "a string";

    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(text))
    }
}

/// An integer as a number or in a string.
#[derive(Default)]
pub(super) struct Integer<T>(pub(super) T);

impl<'de, T: TryFrom<i128> + Default> Scalar<'de> for Integer<T> {
    const EXPECTED: &'static str = "an integer in the range of its field, or a string with one";

    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        match text.parse() {
            Ok(value) => Self::from_integer(value),
            Err(_) => Self::from_float(text.parse().ok()?),
        }
    }

    fn from_integer(value: i128) -> Option<Self> {
        T::try_from(value).ok().map(Self)
    }

    fn from_float(value: f64) -> Option<Self> {
        // Beyond this neighbours are more than one apart, and which integer was meant is not known.
        const EXACT_MAX: f64 = (1u64 << 53) as f64;
        let exact = value.fract() == 0.0 && value.abs() <= EXACT_MAX;
        if exact { Self::from_integer(value as i128) } else { None }
    }
}

/// A number, or one of `"NaN"`, `"Infinity"`, `"-Infinity"`, or a string with a number.
#[derive(Default)]
pub(super) struct Double(pub(super) f64);

impl<'de> Scalar<'de> for Double {
    const EXPECTED: &'static str = "a number, \"NaN\", \"Infinity\" or \"-Infinity\"";

    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    fn from_integer(value: i128) -> Option<Self> {
        Some(Self(value as f64))
    }

    fn from_float(value: f64) -> Option<Self> {
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

    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        let mut id = Id { length: text.len() / 2, ..Id::default() };
        let decoded = id.bytes.get_mut(..id.length).map(|bytes| hex::decode_to_slice(text.as_bytes(), bytes));
        Some(if matches!(decoded, Some(Ok(()))) { id } else { Id::WRONG })
    }
}

/// Bytes in Base64, of the standard or the URL alphabet, padded or not.
#[derive(Default)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl<'de> Scalar<'de> for Base64 {
    const EXPECTED: &'static str = "a string in Base64";

    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        const CONFIG: GeneralPurposeConfig =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
        const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);
        STANDARD.decode(text.as_bytes()).or_else(|_| URL_SAFE.decode(text.as_bytes())).ok().map(Self)
    }
}

/// What stands for the name of an enum's value that OTLP does not know.
const UNKNOWN_ENUM: i32 = -1;

/// The number of an enum's value, or its name in lower case after a prefix.
fn enum_from_text(text: &str, prefix: &str, from_name: fn(&str) -> Option<u8>) -> i32 {
    let by_number = text.parse().ok();
    let by_name = || from_name(&text.strip_prefix(prefix)?.to_ascii_lowercase()).map(i32::from);
    by_number.or_else(by_name).unwrap_or(UNKNOWN_ENUM)
}

fn enum_from_integer(value: i128) -> i32 {
    i32::try_from(value).unwrap_or(UNKNOWN_ENUM)
}

/// `2` or `"SPAN_KIND_SERVER"`.
#[derive(Default)]
pub(super) struct SpanKind(pub(super) i32);

impl<'de> Scalar<'de> for SpanKind {
    const EXPECTED: &'static str = "the number of a span kind";

    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(enum_from_text(&text, "SPAN_KIND_", tracehouse_model::kind::from_name)))
    }

    fn from_integer(value: i128) -> Option<Self> {
        Some(Self(enum_from_integer(value)))
    }
}

/// `2` or `"STATUS_CODE_ERROR"`.
#[derive(Default)]
pub(super) struct StatusCode(pub(super) i32);

impl<'de> Scalar<'de> for StatusCode {
    const EXPECTED: &'static str = "the number of a status code";

    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(enum_from_text(&text, "STATUS_CODE_", tracehouse_model::status::from_name)))
    }

    fn from_integer(value: i128) -> Option<Self> {
        Some(Self(enum_from_integer(value)))
    }
}
