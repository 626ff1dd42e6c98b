//! Values while an expression is evaluated, and how they compare. The rules are those in the `traceql` crate's header.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use regex::Regex;
use tracehouse_model::{AnyValue, AttributeValue, SpanId, StringTable, TraceId};
use tracehouse_scan::may_go_on;
use tracehouse_traceql::{ArithmeticOp, ComparisonOp, Kind, Static, Status};

/// Of two fields that have many values, so many are calculated, each with each.
const CALCULATED_MAX: usize = 1 << 16;

/// A value of a field or an expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// The attribute is not there, or an operation has no result.
    Missing,
    /// The literal `nil`.
    Nil,
    String(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Status(u8),
    Kind(u8),
    Id(Id),
    /// An array.
    Many(Vec<Value<'a>>),
    /// The values of a field that a span has several times, such as the names of its events.
    Each(Vec<Value<'a>>),
    /// Something that is there but compares with nothing: bytes, a key-value list.
    Other,
}

/// The id of a trace or a span: a number, however it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    number: u128,
    digits: usize,
}

impl Id {
    pub(crate) fn of_trace(id: TraceId) -> Self {
        Self { number: id.as_u128(), digits: 32 }
    }

    pub(crate) fn of_span(id: SpanId) -> Self {
        Self { number: u128::from(id.as_u64()), digits: 16 }
    }

    /// What a text is as an id of this kind: capitals are small letters, and zeros in front may be left out.
    fn read(self, text: &str) -> Option<u128> {
        let is_id = text.len() <= self.digits && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_id.then(|| u128::from_str_radix(text, 16).ok())?
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:0digits$x}", self.number, digits = self.digits)
    }
}

impl<'a> Value<'a> {
    pub(crate) fn of_attribute(value: AttributeValue, strings: &'a StringTable) -> Self {
        match value {
            AttributeValue::String(code) => Value::String(Cow::Borrowed(strings.get(code))),
            AttributeValue::Int(value) => Value::Int(value),
            AttributeValue::Double(value) => Value::Float(value),
            AttributeValue::Bool(value) => Value::Bool(value),
            AttributeValue::Empty => Value::Missing,
            AttributeValue::Bytes(_) => Value::Other,
            AttributeValue::Json(_) => Value::of_any(value.resolve(strings)),
        }
    }

    pub(crate) fn of_any(value: AnyValue) -> Value<'static> {
        match value {
            AnyValue::Empty => Value::Missing,
            AnyValue::String(text) => Value::String(Cow::Owned(text)),
            AnyValue::Int(value) => Value::Int(value),
            AnyValue::Double(value) => Value::Float(value),
            AnyValue::Bool(value) => Value::Bool(value),
            AnyValue::Array(values) => Value::Many(values.into_iter().map(Value::of_any).collect()),
            AnyValue::Bytes(_) | AnyValue::KeyValueList(_) => Value::Other,
        }
    }

    /// The same as [`Value::of_any`], with the texts where they are.
    pub(crate) fn of_any_ref(value: &'a AnyValue) -> Self {
        match value {
            AnyValue::String(text) => Value::String(Cow::Borrowed(text)),
            AnyValue::Array(values) => Value::Many(values.iter().map(Value::of_any_ref).collect()),
            AnyValue::Empty => Value::Missing,
            AnyValue::Int(value) => Value::Int(*value),
            AnyValue::Double(value) => Value::Float(*value),
            AnyValue::Bool(value) => Value::Bool(*value),
            AnyValue::Bytes(_) | AnyValue::KeyValueList(_) => Value::Other,
        }
    }

    pub(crate) fn of_literal(literal: &'a Static) -> Self {
        match literal {
            Static::String(text) => Value::String(Cow::Borrowed(text)),
            Static::Int(value) | Static::Duration(value) => Value::Int(*value),
            Static::Float(value) => Value::Float(*value),
            Static::Bool(value) => Value::Bool(*value),
            Static::Nil => Value::Nil,
            Static::Status(status) => Value::Status(status_number(*status)),
            Static::Kind(kind) => Value::Kind(kind_number(*kind)),
            Static::Array(values) => Value::Many(values.iter().map(Value::of_literal).collect()),
        }
    }

    /// How many values it is.
    fn count(&self) -> usize {
        match self {
            Value::Each(values) | Value::Many(values) => values.iter().map(Value::count).sum::<usize>().max(1),
            _ => 1,
        }
    }

    /// The single values that it is made of.
    pub(crate) fn into_singles(self) -> Vec<Self> {
        match self {
            Value::Each(values) | Value::Many(values) => values.into_iter().flat_map(Self::into_singles).collect(),
            single => vec![single],
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Value::Missing)
    }

    /// The values of a field that a span has several times, without what is missing.
    pub(crate) fn each(values: impl IntoIterator<Item = Self>) -> Self {
        let mut each = Vec::new();
        for value in values {
            match value {
                Value::Missing => {}
                Value::Each(values) => each.extend(values),
                value => each.push(value),
            }
        }
        if each.is_empty() { Value::Missing } else { Value::Each(each) }
    }

    /// What was calculated of the values of an array.
    fn many(values: impl IntoIterator<Item = Self>) -> Self {
        match Self::each(values) {
            Value::Each(values) => Value::Many(values),
            missing => missing,
        }
    }

    /// Whether the value, standing alone as a condition, holds.
    pub(crate) fn is_true(&self) -> bool {
        matches!(self, Value::Bool(true))
    }

    pub(crate) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// Calls a function with the number, or with each of what a span has several times.
    pub(crate) fn each_number(&self, take: &mut impl FnMut(f64)) {
        self.each_single(&mut |value| value.as_float().into_iter().for_each(&mut *take));
    }

    /// Calls a function with the value, or with each of what a span has several times.
    pub(crate) fn each_single(&self, take: &mut impl FnMut(&Self)) {
        match self {
            Value::Each(values) | Value::Many(values) => values.iter().for_each(|value| value.each_single(take)),
            single => take(single),
        }
    }
}

/// Whether a comparison holds.
pub(crate) fn compare(op: ComparisonOp, left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Nil | Value::Missing, Value::Nil) => op == ComparisonOp::Equal,
        (_, Value::Nil) | (Value::Nil, _) => op == ComparisonOp::NotEqual,
        (Value::Missing, _) | (_, Value::Missing) => false,
        (Value::Each(values), _) | (_, Value::Each(values)) if !may_go_on(values.len()) => false,
        (Value::Each(values), other) => values.iter().any(|value| compare(op, value, other)),
        (other, Value::Each(values)) => values.iter().any(|value| compare(op, other, value)),
        (Value::Many(values), _) | (_, Value::Many(values)) if !may_go_on(values.len()) => false,
        (Value::Many(values), other) => many(op, values, |value| compare(op, value, other)),
        (other, Value::Many(values)) => many(op, values, |value| compare(op, other, value)),
        _ => compare_single(op, left, right),
    }
}

/// `=` and its like hold if they do for any of the values, `!=` only if for all.
fn many(op: ComparisonOp, values: &[Value<'_>], holds: impl Fn(&Value<'_>) -> bool) -> bool {
    let negative = matches!(op, ComparisonOp::NotEqual | ComparisonOp::NotMatches);
    if negative { !values.is_empty() && values.iter().all(holds) } else { values.iter().any(holds) }
}

fn compare_single(op: ComparisonOp, left: &Value<'_>, right: &Value<'_>) -> bool {
    let ordering = match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        (Value::Id(left), Value::Id(right)) => Some(left.number.cmp(&right.number)),
        // A text that is no id is of another type.
        (Value::Id(id), Value::String(text)) => id.read(text).map(|number| id.number.cmp(&number)),
        (Value::String(text), Value::Id(id)) => id.read(text).map(|number| number.cmp(&id.number)),
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => return equality(op, left == right),
        (Value::Status(left), Value::Status(right)) | (Value::Kind(left), Value::Kind(right)) => {
            return equality(op, left == right);
        }
        _ => match (left.as_float(), right.as_float()) {
            // NaN is another number than any.
            (Some(left), Some(right)) if left.is_nan() || right.is_nan() => return op == ComparisonOp::NotEqual,
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => None,
        },
    };
    ordering.is_some_and(|ordering| ordering_satisfies(op, ordering))
}

pub(crate) fn ordering_satisfies(op: ComparisonOp, ordering: Ordering) -> bool {
    match op {
        ComparisonOp::Equal => ordering.is_eq(),
        ComparisonOp::NotEqual => ordering.is_ne(),
        ComparisonOp::Less => ordering.is_lt(),
        ComparisonOp::LessEqual => ordering.is_le(),
        ComparisonOp::Greater => ordering.is_gt(),
        ComparisonOp::GreaterEqual => ordering.is_ge(),
        ComparisonOp::Matches | ComparisonOp::NotMatches => false,
    }
}

fn equality(op: ComparisonOp, equal: bool) -> bool {
    match op {
        ComparisonOp::Equal => equal,
        ComparisonOp::NotEqual => !equal,
        _ => false,
    }
}

/// Whether a pattern holds; false for whatever is not a string.
pub(crate) fn matches_pattern(value: &Value<'_>, pattern: &Regex, negated: bool) -> bool {
    match value {
        Value::String(text) => pattern.is_match(text) != negated,
        Value::Id(id) => pattern.is_match(&id.to_string()) != negated,
        Value::Each(values) | Value::Many(values) if !may_go_on(values.len()) => false,
        Value::Each(values) => values.iter().any(|value| matches_pattern(value, pattern, negated)),
        Value::Many(values) if negated => {
            !values.is_empty() && values.iter().all(|value| matches_pattern(value, pattern, true))
        }
        Value::Many(values) => values.iter().any(|value| matches_pattern(value, pattern, false)),
        _ => false,
    }
}

/// Of fields that have many values, each is calculated with; of two such fields, each with each.
pub(crate) fn calculate(op: ArithmeticOp, left: &Value<'_>, right: &Value<'_>) -> Value<'static> {
    let with = |values: &[Value<'_>], calculate: &dyn Fn(&Value<'_>) -> Value<'static>, other: &Value<'_>| {
        // Each may be several itself. The first is calculated in any case, as far as there is room in it.
        let (mut room, each) = (CALCULATED_MAX, other.count());
        let fits = |(at, value): &(usize, &Value<'_>)| {
            let made = value.count().saturating_mul(each);
            let fits = *at == 0 || made <= room;
            room = room.saturating_sub(made);
            fits
        };
        values.iter().enumerate().take_while(fits).map(|(_, value)| calculate(value)).collect::<Vec<_>>()
    };
    match (left, right) {
        (Value::Each(values) | Value::Many(values), _) | (_, Value::Each(values) | Value::Many(values))
            if !may_go_on(values.len()) =>
        {
            Value::Missing
        }
        (Value::Each(values), other) => Value::each(with(values, &|value| calculate(op, value, other), other)),
        (other, Value::Each(values)) => Value::each(with(values, &|value| calculate(op, other, value), other)),
        (Value::Many(values), other) => Value::many(with(values, &|value| calculate(op, value, other), other)),
        (other, Value::Many(values)) => Value::many(with(values, &|value| calculate(op, other, value), other)),
        _ => calculate_single(op, left, right),
    }
}

fn calculate_single(op: ArithmeticOp, left: &Value<'_>, right: &Value<'_>) -> Value<'static> {
    if let (Value::Int(left), Value::Int(right)) = (left, right)
        && let Some(exact) = op.of_ints(*left, *right)
    {
        return Value::Int(exact);
    }
    let (Some(left), Some(right)) = (left.as_float(), right.as_float()) else { return Value::Missing };
    if right == 0.0 && matches!(op, ArithmeticOp::Divide | ArithmeticOp::Modulo) {
        return Value::Missing;
    }
    let result = op.of_floats(left, right);
    // Finite numbers give no infinity: what is too large has no result.
    let was_infinite = left.is_infinite() || right.is_infinite();
    if result.is_finite() || was_infinite && !result.is_nan() { Value::Float(result) } else { Value::Missing }
}

pub(crate) fn negate(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::Int(value) => value.checked_neg().map_or(Value::Missing, Value::Int),
        Value::Float(value) => Value::Float(-value),
        Value::Each(values) => Value::each(values.iter().map(negate)),
        Value::Many(values) => Value::many(values.iter().map(negate)),
        _ => Value::Missing,
    }
}

/// A number that is calculated with as a float.
pub(crate) fn as_floats(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::Each(values) => Value::each(values.iter().map(as_floats)),
        Value::Many(values) => Value::many(values.iter().map(as_floats)),
        value => value.as_float().map_or(Value::Missing, Value::Float),
    }
}

pub(crate) fn kind_number(kind: Kind) -> u8 {
    kind as u8
}

pub(crate) fn status_number(status: Status) -> u8 {
    status as u8
}

/// A literal as a number; durations are nanoseconds.
pub(crate) fn number(literal: &Static) -> f64 {
    exact_number(literal).as_float().unwrap_or(f64::NAN)
}

pub(crate) fn exact_number(literal: &Static) -> Value<'static> {
    match literal {
        Static::Int(value) | Static::Duration(value) => Value::Int(*value),
        Static::Float(value) => Value::Float(*value),
        _ => Value::Missing,
    }
}
