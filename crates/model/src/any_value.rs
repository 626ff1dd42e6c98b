use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// An attribute's value of any OTLP type, with its content.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyValue {
    Empty,
    String(String),
    Int(i64),
    Double(f64),
    Bool(bool),
    Bytes(Vec<u8>),
    Array(Vec<AnyValue>),
    KeyValueList(Vec<(String, AnyValue)>),
}

#[derive(Debug, thiserror::Error)]
#[error("not the canonical JSON of an attribute value")]
pub struct CanonicalJsonError(#[source] serde_json::Error);

impl AnyValue {
    /// The names of the types in answers of the native API.
    pub const TYPE_NAMES: [&str; 8] = ["empty", "string", "int", "double", "bool", "bytes", "array", "kvlist"];

    /// One of [`Self::TYPE_NAMES`].
    pub fn type_name(&self) -> &'static str {
        Self::TYPE_NAMES[match self {
            AnyValue::Empty => 0,
            AnyValue::String(_) => 1,
            AnyValue::Int(_) => 2,
            AnyValue::Double(_) => 3,
            AnyValue::Bool(_) => 4,
            AnyValue::Bytes(_) => 5,
            AnyValue::Array(_) => 6,
            AnyValue::KeyValueList(_) => 7,
        }]
    }

    /// JSON that any engine can read and from which the value comes back exactly: an integer has no point, a double
    /// always has one (or an exponent); what JSON lacks is an object with one `$` key: `{"$bytes":"base64"}`,
    /// `{"$double":"NaN"}`. A `$` at the start of a real key is doubled.
    pub fn to_canonical_json(&self) -> String {
        let mut out = String::new();
        self.write_canonical_json(&mut out);
        out
    }

    pub fn write_canonical_json(&self, out: &mut String) {
        match self {
            AnyValue::Empty => out.push_str("null"),
            AnyValue::String(text) => Self::write_json_string(text, out),
            AnyValue::Int(value) => out.push_str(&value.to_string()),
            AnyValue::Double(value) => write_double(*value, out),
            AnyValue::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            AnyValue::Bytes(bytes) => {
                out.push_str("{\"$bytes\":\"");
                STANDARD.encode_string(bytes, out);
                out.push_str("\"}");
            }
            AnyValue::Array(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    value.write_canonical_json(out);
                }
                out.push(']');
            }
            AnyValue::KeyValueList(entries) => {
                out.push('{');
                for (at, (key, value)) in entries.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    let escaped = if key.starts_with('$') { format!("${key}") } else { key.clone() };
                    Self::write_json_string(&escaped, out);
                    out.push(':');
                    value.write_canonical_json(out);
                }
                out.push('}');
            }
        }
    }

    /// The canonical JSON of a string.
    pub fn write_json_string(text: &str, out: &mut String) {
        out.push_str(&Value::from(text).to_string());
    }

    /// The inverse of [`AnyValue::to_canonical_json`].
    pub fn from_canonical_json(text: &str) -> Result<Self, CanonicalJsonError> {
        serde_json::from_str::<Ordered>(text).map(|ordered| ordered.0).map_err(CanonicalJsonError)
    }
}

/// A number as every text form has it: the shortest digits that are read as the same number, with an exponent where JavaScript and Go's
/// JSON write one (ECMA-262, `Number::toString`), so that no text is hundreds of digits long; and the names of protobuf's JSON mapping
/// (`Infinity`, `-Infinity`, `NaN`) for what no digits say.
pub fn double_text(value: f64) -> String {
    const PLAIN: std::ops::Range<f64> = 1e-6..1e21;
    match value {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        value if value == 0.0 || value.is_nan() || PLAIN.contains(&value.abs()) => value.to_string(),
        value if value.abs() < 1.0 => format!("{value:e}"),
        value => format!("{value:e}").replace('e', "e+"),
    }
}

/// What [`double_text`] wrote. `None` for what else Rust reads as a number, such as `inf`.
pub fn parse_double(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    (value.is_finite() || double_text(value) == text).then_some(value)
}

fn write_double(value: f64, out: &mut String) {
    if value.is_finite() {
        // `Debug` always writes a point or an exponent, and digits that read back as the same number.
        out.push_str(&format!("{value:?}"));
    } else {
        out.push_str(&format!("{{\"$double\":\"{}\"}}", double_text(value)));
    }
}

/// Deserialises with the order of keys kept, which `serde_json::Value` without its map feature would lose.
struct Ordered(AnyValue);

impl<'de> serde::Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrderedVisitor)
    }
}

struct OrderedVisitor;

impl<'de> serde::de::Visitor<'de> for OrderedVisitor {
    type Value = Ordered;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an attribute value")
    }

    fn visit_unit<E>(self) -> Result<Ordered, E> {
        Ok(Ordered(AnyValue::Empty))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Ordered, E> {
        Ok(Ordered(AnyValue::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Ordered, E> {
        Ok(Ordered(AnyValue::Int(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Ordered, E> {
        Ok(Ordered(i64::try_from(value).map_or(AnyValue::Double(value as f64), AnyValue::Int)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Ordered, E> {
        Ok(Ordered(AnyValue::Double(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Ordered, E> {
        Ok(Ordered(AnyValue::String(value.to_owned())))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut access: A) -> Result<Ordered, A::Error> {
        let mut values = Vec::new();
        while let Some(Ordered(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(Ordered(AnyValue::Array(values)))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut access: A) -> Result<Ordered, A::Error> {
        let mut entries: Vec<(String, AnyValue)> = Vec::new();
        while let Some((key, Ordered(value))) = access.next_entry::<String, Ordered>()? {
            match (key.as_str(), &value) {
                ("$bytes", AnyValue::String(text)) => {
                    let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
                    return Ok(Ordered(AnyValue::Bytes(bytes)));
                }
                ("$double", AnyValue::String(text)) => {
                    let double = match text.as_str() {
                        "Infinity" => f64::INFINITY,
                        "-Infinity" => f64::NEG_INFINITY,
                        _ => f64::NAN,
                    };
                    return Ok(Ordered(AnyValue::Double(double)));
                }
                _ => {}
            }
            let unescaped = key.strip_prefix('$').map(str::to_owned).unwrap_or(key);
            entries.push((unescaped, value));
        }
        Ok(Ordered(AnyValue::KeyValueList(entries)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_comes_back() {
        let value = AnyValue::KeyValueList(vec![
            ("$x".into(), AnyValue::Int(i64::MIN)),
            ("a".into(), AnyValue::Array(vec![AnyValue::Double(5.0), AnyValue::Empty, AnyValue::Bool(true)])),
            ("b".into(), AnyValue::Bytes(vec![0, 255])),
            ("c".into(), AnyValue::Double(f64::NEG_INFINITY)),
            ("d".into(), AnyValue::String("line\n\"quoted\" \u{1}".into())),
            ("e".into(), AnyValue::Double(1e300)),
        ]);
        let text = value.to_canonical_json();
        assert_eq!(AnyValue::from_canonical_json(&text).expect("canonical"), value, "{text}");
    }
}
