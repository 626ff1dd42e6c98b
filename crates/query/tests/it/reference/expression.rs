//! Expressions over one span.

use tracehouse_model::{AnyValue, Span, SpanId, TraceId, kind, status};
use tracehouse_traceql::{
    ArithmeticOp, Attribute, AttributeScope, ComparisonOp, FieldExpr, Intrinsic, LogicalOp, Static, compile_pattern,
};

use super::Trace;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum V {
    Missing,
    Nil,
    Text(String),
    Number(f64),
    Int(i64),
    Bool(bool),
    Status(u8),
    Kind(u8),
    /// With its digits.
    Id(u128, usize),
    List(Vec<V>),
    /// Of events and links, each by itself.
    Each(Vec<V>),
    Other,
}

impl V {
    fn of(value: &AnyValue) -> V {
        match value {
            AnyValue::Empty => V::Missing,
            AnyValue::String(text) => V::Text(text.clone()),
            AnyValue::Int(int) => V::Int(*int),
            AnyValue::Double(double) => V::Number(*double),
            AnyValue::Bool(truth) => V::Bool(*truth),
            AnyValue::Array(values) => V::List(values.iter().map(V::of).collect()),
            AnyValue::Bytes(_) | AnyValue::KeyValueList(_) => V::Other,
        }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            V::Int(int) => Some(*int as f64),
            V::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// What is measured of it: of several values each.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        match self {
            V::List(values) | V::Each(values) => values.iter().flat_map(V::numbers).collect(),
            value => value.number().into_iter().collect(),
        }
    }

    /// As answers show it.
    pub(crate) fn shown(&self) -> Option<AnyValue> {
        match self {
            V::Missing | V::Nil | V::Other => None,
            V::Text(text) => Some(AnyValue::String(text.clone())),
            V::Number(number) => Some(AnyValue::Double(*number)),
            V::Int(int) => Some(AnyValue::Int(*int)),
            V::Bool(truth) => Some(AnyValue::Bool(*truth)),
            V::Status(code) => Some(AnyValue::String(["unset", "ok", "error"][*code as usize].into())),
            V::Kind(code) => {
                let names = ["unspecified", "internal", "server", "client", "producer", "consumer"];
                Some(AnyValue::String(names[*code as usize].into()))
            }
            V::Id(number, digits) => Some(AnyValue::String(format!("{number:0digits$x}"))),
            V::Each(values) if values.len() == 1 => values[0].shown(),
            V::List(values) | V::Each(values) => Some(AnyValue::Array(values.iter().filter_map(V::shown).collect())),
        }
    }
}

fn find(attributes: &[(String, AnyValue)], key: &str) -> V {
    attributes.iter().find(|(known, _)| known == key).map_or(V::Missing, |(_, value)| V::of(value))
}

fn each(values: Vec<V>) -> V {
    let values: Vec<V> = values.into_iter().filter(|value| *value != V::Missing).collect();
    if values.is_empty() { V::Missing } else { V::Each(values) }
}

fn trace_id(id: TraceId) -> V {
    V::Id(id.as_u128(), 32)
}

fn span_id(id: SpanId) -> V {
    V::Id(id.as_u64().into(), 16)
}

fn read_id(text: &str, digits: usize) -> Option<u128> {
    let number = u128::from_str_radix(text, 16).ok()?;
    (text.len() <= digits && !text.starts_with('+')).then_some(number)
}

fn attribute(span: &Span, attribute: &Attribute) -> V {
    let key = &attribute.name;
    match attribute.scope {
        AttributeScope::Any => match find(&span.attributes, key) {
            V::Missing => find(&span.resource_attributes, key),
            own => own,
        },
        AttributeScope::Span => find(&span.attributes, key),
        AttributeScope::Resource => find(&span.resource_attributes, key),
        AttributeScope::Instrumentation => find(&span.scope_attributes, key),
        AttributeScope::Event => each(span.events.iter().map(|event| find(&event.attributes, key)).collect()),
        AttributeScope::Link => each(span.links.iter().map(|link| find(&link.attributes, key)).collect()),
    }
}

fn intrinsic(trace: &Trace<'_>, row: usize, intrinsic: Intrinsic) -> V {
    let span = trace.spans[row];
    let root = trace.root().map(|root| trace.spans[root]);
    match intrinsic {
        Intrinsic::Name => V::Text(span.name.clone()),
        Intrinsic::Duration => V::Int(span.duration_nanos),
        Intrinsic::Status => V::Status(span.status_code),
        Intrinsic::StatusMessage => V::Text(span.status_message.clone()),
        Intrinsic::Kind => V::Kind(span.kind),
        Intrinsic::SpanId => span_id(span.span_id),
        Intrinsic::ParentId if trace.parent_id(row).is_none() => V::Missing,
        Intrinsic::ParentId => span_id(trace.parent_id(row)),
        Intrinsic::ChildCount => V::Int(trace.parent.iter().filter(|parent| **parent == Some(row)).count() as i64),
        Intrinsic::TraceId => trace_id(span.trace_id),
        Intrinsic::TraceDuration => {
            let start = trace.spans.iter().map(|span| span.start_unix_nanos).min().unwrap_or(0);
            let end = trace.spans.iter().map(|span| span.start_unix_nanos + span.duration_nanos).max().unwrap_or(0);
            V::Int(end - start)
        }
        Intrinsic::TraceRootName => V::Text(root.map(|root| root.name.clone()).unwrap_or_default()),
        Intrinsic::TraceRootService => V::Text(root.map(|root| root.service_name.clone()).unwrap_or_default()),
        Intrinsic::EventName => each(span.events.iter().map(|event| V::Text(event.name.clone())).collect()),
        Intrinsic::EventTimeSinceStart => {
            each(span.events.iter().map(|event| V::Int(event.time_unix_nanos - span.start_unix_nanos)).collect())
        }
        Intrinsic::LinkTraceId => each(span.links.iter().map(|link| trace_id(link.trace_id)).collect()),
        Intrinsic::LinkSpanId => each(span.links.iter().map(|link| span_id(link.span_id)).collect()),
        Intrinsic::InstrumentationName => V::Text(span.scope_name.clone()),
        Intrinsic::InstrumentationVersion => V::Text(span.scope_version.clone()),
        Intrinsic::NestedSetLeft => V::Int(trace.nested_set[row].0),
        Intrinsic::NestedSetRight => V::Int(trace.nested_set[row].1),
        Intrinsic::NestedSetParent => match trace.parent[row] {
            Some(parent) => V::Int(trace.nested_set[parent].0),
            None if trace.spans[row].parent_span_id.is_none() => V::Int(-1),
            None => V::Int(0),
        },
        Intrinsic::Parent if trace.parent_id(row).is_none() => V::Missing,
        Intrinsic::Parent => V::Other,
    }
}

fn literal(value: &Static) -> V {
    match value {
        Static::String(text) => V::Text(text.clone()),
        Static::Int(int) | Static::Duration(int) => V::Int(*int),
        Static::Float(number) => V::Number(*number),
        Static::Bool(truth) => V::Bool(*truth),
        Static::Nil => V::Nil,
        Static::Status(code) => V::Status(*code as u8),
        Static::Kind(code) => V::Kind(*code as u8),
        Static::Array(values) => V::List(values.iter().map(literal).collect()),
    }
}

pub(crate) fn value(trace: &Trace<'_>, row: usize, expr: &FieldExpr) -> V {
    match expr {
        FieldExpr::Literal { value, .. } => literal(value),
        FieldExpr::Attribute { attribute: wanted, .. } => {
            let row = if wanted.of_parent { trace.parent[row] } else { Some(row) };
            row.map_or(V::Missing, |row| attribute(trace.spans[row], wanted))
        }
        FieldExpr::Intrinsic { intrinsic: wanted, .. } => intrinsic(trace, row, *wanted),
        FieldExpr::Arithmetic { op, left, right, .. } => {
            let (dividend, divisor) = (value(trace, row, left), value(trace, row, right));
            let as_float = |value: &V| value.number().map_or(V::Missing, V::Number);
            match *op == ArithmeticOp::Divide && (is_duration(left) || is_duration(right)) {
                true => calculate(*op, &map(&dividend, &as_float), &divisor),
                false => calculate(*op, &dividend, &divisor),
            }
        }
        FieldExpr::Negate { operand, .. } => map(&value(trace, row, operand), &|value| match value {
            V::Int(int) => int.checked_neg().map_or(V::Missing, V::Int),
            V::Number(number) => V::Number(-number),
            _ => V::Missing,
        }),
        condition => V::Bool(holds(trace, row, condition)),
    }
}

/// Of many values each by itself.
fn map(value: &V, of_one: &dyn Fn(&V) -> V) -> V {
    let of_all = |values: &[V]| -> Vec<V> {
        let each = values.iter().map(|value| map(value, of_one)).filter(|value| *value != V::Missing);
        each.flat_map(|value| if let V::Each(inner) = value { inner } else { vec![value] }).collect()
    };
    match value {
        V::Each(values) => Some(of_all(values)).filter(|all| !all.is_empty()).map_or(V::Missing, V::Each),
        V::List(values) => Some(of_all(values)).filter(|all| !all.is_empty()).map_or(V::Missing, V::List),
        one => of_one(one),
    }
}

fn is_duration(expr: &FieldExpr) -> bool {
    match expr {
        FieldExpr::Literal { value, .. } => matches!(value, Static::Duration(_)),
        FieldExpr::Intrinsic { intrinsic, .. } => {
            matches!(intrinsic, Intrinsic::Duration | Intrinsic::TraceDuration | Intrinsic::EventTimeSinceStart)
        }
        FieldExpr::Negate { operand, .. } => is_duration(operand),
        FieldExpr::Arithmetic { left, right, .. } => is_duration(left) || is_duration(right),
        _ => false,
    }
}

pub(crate) fn calculate(op: ArithmeticOp, left: &V, right: &V) -> V {
    // Fields of events and links before arrays, so that an array in an event stays one of its values.
    match (left, right) {
        (V::Each(_), _) => map(left, &|left| calculate(op, left, right)),
        (_, V::Each(_)) => map(right, &|right| calculate(op, left, right)),
        (V::List(_), _) => map(left, &|left| calculate(op, left, right)),
        (_, V::List(_)) => map(right, &|right| calculate(op, left, right)),
        _ => calculate_single(op, left, right),
    }
}

fn calculate_single(op: ArithmeticOp, left: &V, right: &V) -> V {
    if let (V::Int(left), V::Int(right)) = (left, right) {
        let (left, right) = (i128::from(*left), i128::from(*right));
        let exact = match op {
            ArithmeticOp::Add => Some(left + right),
            ArithmeticOp::Subtract => Some(left - right),
            ArithmeticOp::Multiply => Some(left * right),
            ArithmeticOp::Divide => left.checked_div(right),
            ArithmeticOp::Modulo => left.checked_rem(right),
            ArithmeticOp::Power => u32::try_from(right).ok().and_then(|power| left.checked_pow(power)),
        };
        if let Some(exact) = exact.and_then(|exact| i64::try_from(exact).ok()) {
            return V::Int(exact);
        }
    }
    let (Some(left), Some(right)) = (left.number(), right.number()) else { return V::Missing };
    let result = match op {
        ArithmeticOp::Add => left + right,
        ArithmeticOp::Subtract => left - right,
        ArithmeticOp::Multiply => left * right,
        ArithmeticOp::Divide => left / right,
        ArithmeticOp::Modulo => left % right,
        ArithmeticOp::Power => left.powf(right),
    };
    if right == 0.0 && matches!(op, ArithmeticOp::Divide | ArithmeticOp::Modulo) {
        return V::Missing;
    }
    let has_result = if left.is_finite() && right.is_finite() { result.is_finite() } else { !result.is_nan() };
    if has_result { V::Number(result) } else { V::Missing }
}

pub(crate) fn holds(trace: &Trace<'_>, row: usize, expr: &FieldExpr) -> bool {
    match expr {
        FieldExpr::Logical { op: LogicalOp::And, terms, .. } => terms.iter().all(|term| holds(trace, row, term)),
        FieldExpr::Logical { op: LogicalOp::Or, terms, .. } => terms.iter().any(|term| holds(trace, row, term)),
        FieldExpr::Not { operand, .. } => !holds(trace, row, operand),
        FieldExpr::Compare { op, left, right, .. } => compare(*op, &value(trace, row, left), &value(trace, row, right)),
        other => value(trace, row, other) == V::Bool(true),
    }
}

pub(crate) fn compare(op: ComparisonOp, left: &V, right: &V) -> bool {
    let negative = matches!(op, ComparisonOp::NotEqual | ComparisonOp::NotMatches);
    match (left, right) {
        (V::Missing | V::Nil, V::Nil) => op == ComparisonOp::Equal,
        (_, V::Nil) | (V::Nil, _) => op == ComparisonOp::NotEqual,
        (V::Missing, _) | (_, V::Missing) => false,
        (V::Each(values), other) => values.iter().any(|value| compare(op, value, other)),
        (other, V::Each(values)) => values.iter().any(|value| compare(op, other, value)),
        (V::List(values), other) if negative => {
            !values.is_empty() && values.iter().all(|value| compare(op, value, other))
        }
        (V::List(values), other) => values.iter().any(|value| compare(op, value, other)),
        (other, V::List(values)) if negative => {
            !values.is_empty() && values.iter().all(|value| compare(op, other, value))
        }
        (other, V::List(values)) => values.iter().any(|value| compare(op, other, value)),
        (V::Id(number, digits), V::Text(pattern)) if op.is_pattern() => {
            compare(op, &V::Text(format!("{number:0digits$x}")), &V::Text(pattern.clone()))
        }
        (V::Id(left, _), V::Id(right, _)) => ordered(op, left.cmp(right)),
        (V::Id(id, digits), V::Text(text)) => read_id(text, *digits).is_some_and(|number| ordered(op, id.cmp(&number))),
        (V::Text(text), V::Id(id, digits)) => read_id(text, *digits).is_some_and(|number| ordered(op, number.cmp(id))),
        (V::Text(text), V::Text(pattern)) if op.is_pattern() => {
            compile_pattern(pattern).expect("queries are checked").is_match(text) != negative
        }
        (V::Text(left), V::Text(right)) => ordered(op, left.as_bytes().cmp(right.as_bytes())),
        (V::Int(left), V::Int(right)) => ordered(op, left.cmp(right)),
        (V::Bool(left), V::Bool(right)) => equal(op, left == right),
        (V::Status(left), V::Status(right)) | (V::Kind(left), V::Kind(right)) => equal(op, left == right),
        _ => match (left.number(), right.number()) {
            (Some(left), Some(right)) => match left.partial_cmp(&right) {
                Some(order) => ordered(op, order),
                None => op == ComparisonOp::NotEqual,
            },
            _ => false,
        },
    }
}

fn equal(op: ComparisonOp, equal: bool) -> bool {
    match op {
        ComparisonOp::Equal => equal,
        ComparisonOp::NotEqual => !equal,
        _ => false,
    }
}

fn ordered(op: ComparisonOp, order: std::cmp::Ordering) -> bool {
    match op {
        ComparisonOp::Equal => order.is_eq(),
        ComparisonOp::NotEqual => order.is_ne(),
        ComparisonOp::Less => order.is_lt(),
        ComparisonOp::LessEqual => order.is_le(),
        ComparisonOp::Greater => order.is_gt(),
        ComparisonOp::GreaterEqual => order.is_ge(),
        ComparisonOp::Matches | ComparisonOp::NotMatches => false,
    }
}

#[test]
fn names_of_codes() {
    assert_eq!(V::Status(status::ERROR).shown(), Some(AnyValue::String("error".into())));
    assert_eq!(V::Kind(kind::CONSUMER).shown(), Some(AnyValue::String("consumer".into())));
}
