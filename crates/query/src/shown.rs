//! Conditions that ask for what an interface shows of a span: a text, wherever it stands and whatever it is the text of.
//!
//! No expression says that a list or bytes are shown as a text. So each condition gives an expression that lets too much
//! through, never too little, as tight as what is known of a file allows ([`narrowed`]); where that is not enough it is
//! decided span by span ([`holds`]).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracehouse_model::{AnyValue, AttributeLists, AttributeValue, SpanBatch};
use tracehouse_scan::Contents;
use tracehouse_spanfile::Layout;

use crate::column_eval::{columns_of, columns_of_attribute};
use crate::compile::Expression;
use crate::conditions::{attribute_scope, condition_expr, narrowed};
use crate::request::{Condition, Scope, SearchRequest, TextField};
use crate::row_eval::RowExpression;

/// What the files of a search are looked through for.
pub(crate) enum Driver<'a> {
    /// The plan's own driver is as good as any.
    AsPlanned,
    /// No span of the file satisfies the conditions.
    Nothing,
    /// This, and the conditions for which it lets too much through.
    Tighter(Expression, &'a [Condition]),
}

impl<'a> Driver<'a> {
    /// For a file in which this occurs.
    pub(crate) fn of(request: &'a SearchRequest, contents: &Contents) -> Self {
        let all = narrowed(&Condition::All(request.conditions.clone()), contents);
        let Some(expr) = all.expr else { return Self::Nothing };
        match Expression::of(&expr) {
            Ok(filter) => Self::Tighter(filter, if all.exact { &[] } else { &request.conditions }),
            Err(_) => Self::AsPlanned,
        }
    }
}

/// The conditions, if expressions let too much through for one of them.
pub(crate) fn inexact(conditions: &[Condition]) -> &[Condition] {
    let is_exact = conditions.iter().all(|condition| narrowed(condition, &Contents::UNKNOWN).exact);
    if is_exact { &[] } else { conditions }
}

/// Whether what occurs in a file decides which of its spans may satisfy one of the conditions.
pub(crate) fn depend_on_contents(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| match condition {
        Condition::ShownAs { .. } | Condition::Has { .. } => true,
        Condition::Any(terms) | Condition::All(terms) => depend_on_contents(terms),
        _ => false,
    })
}

/// The columns of a file that hold what conditions look at, beside ids and times.
pub(crate) fn columns_of_conditions(conditions: &[Condition], layout: &Layout) -> Vec<String> {
    let of_condition = |condition: &Condition| match condition {
        Condition::Any(terms) | Condition::All(terms) => columns_of_conditions(terms, layout),
        Condition::Not(term) => columns_of_conditions(std::slice::from_ref(&**term), layout),
        Condition::ShownAs { scope, key, .. } | Condition::Has { scope, key } => {
            columns_of_attribute(attribute_scope(*scope), key, layout)
        }
        Condition::Text { field: TextField::TraceState, .. } => vec!["trace_state".to_owned()],
        other => Expression::of(&condition_expr(other)).map_or_else(|_| Vec::new(), |expr| columns_of(&expr, layout)),
    };
    let mut columns: Vec<String> = conditions.iter().flat_map(of_condition).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

pub(crate) fn all_hold(conditions: &[Condition], spans: &SpanBatch, row: usize) -> bool {
    conditions.iter().all(|condition| holds(condition, spans, row))
}

/// Whether a span satisfies a condition.
fn holds(condition: &Condition, spans: &SpanBatch, row: usize) -> bool {
    match condition {
        Condition::Any(terms) => terms.iter().any(|term| holds(term, spans, row)),
        Condition::All(terms) => all_hold(terms, spans, row),
        Condition::Not(term) => !holds(term, spans, row),
        Condition::ShownAs { scope, key, text } => {
            any_value(spans, row, *scope, key, |value| is_shown_as(&value.resolve(&spans.strings), text))
        }
        Condition::Has { scope, key } => any_value(spans, row, *scope, key, |_| true),
        Condition::Text { field, text } => {
            let is = |code: u32| spans.strings.get(code) == text;
            let scope = spans.scope[row] as usize;
            match field {
                TextField::StatusMessage => is(spans.status_message[row]),
                TextField::ScopeName => is(spans.scopes.name[scope]),
                TextField::ScopeVersion => is(spans.scopes.version[scope]),
                TextField::TraceState => is(spans.trace_state[row]),
                TextField::EventName => spans.event_range(row).any(|event| is(spans.events.name[event])),
            }
        }
        Condition::Status(code) => spans.status_code[row] == *code,
        Condition::Kind(kind) => spans.kind[row] == *kind,
        other => Expression::of(&condition_expr(other))
            .is_ok_and(|expression| RowExpression::new(&expression, spans, None).holds(row)),
    }
}

fn any_value(spans: &SpanBatch, row: usize, scope: Scope, key: &str, fits: impl Fn(AttributeValue) -> bool) -> bool {
    let Some(key) = spans.strings.find(key.as_bytes()) else { return false };
    let of = |lists: &AttributeLists, owner: usize| lists.get(owner, key).is_some_and(&fits);
    let of_span = || of(&spans.attributes, row);
    let of_resource = || of(&spans.resources.attributes, spans.resource[row] as usize);
    match scope {
        Scope::Either => of_span() || of_resource(),
        Scope::Span => of_span(),
        Scope::Resource => of_resource(),
        Scope::Instrumentation => of(&spans.scopes.attributes, spans.scope[row] as usize),
        Scope::Event => spans.event_range(row).any(|event| of(&spans.events.attributes, event)),
        Scope::Link => spans.link_range(row).any(|link| of(&spans.links.attributes, link)),
    }
}

fn is_shown_as(value: &AnyValue, text: &str) -> bool {
    match value {
        AnyValue::Empty => text.is_empty(),
        AnyValue::String(value) => value == text,
        AnyValue::Int(value) => match text.parse::<i64>() {
            Ok(asked) => asked == *value,
            Err(_) => text.parse::<f64>().is_ok_and(|asked| asked == *value as f64),
        },
        AnyValue::Double(value) => {
            text.parse::<f64>().is_ok_and(|asked| asked == *value || (asked.is_nan() && value.is_nan()))
        }
        AnyValue::Bool(value) => text == if *value { "true" } else { "false" },
        AnyValue::Bytes(bytes) => STANDARD.decode(text).is_ok_and(|asked| asked == *bytes),
        AnyValue::Array(items) => is_json(value, text) || items.iter().any(|item| is_shown_as(item, text)),
        AnyValue::KeyValueList(_) => is_json(value, text),
    }
}

/// However it is spaced.
fn is_json(value: &AnyValue, text: &str) -> bool {
    text.starts_with(['[', '{'])
        && (value.to_canonical_json() == text || AnyValue::from_canonical_json(text).is_ok_and(|asked| asked == *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_texts_that_show_them() {
        let list = || AnyValue::Array(vec![AnyValue::Int(1), AnyValue::String("b".to_owned())]);
        let table = [
            (AnyValue::Empty, "", true),
            (AnyValue::String("a".to_owned()), "a", true),
            (AnyValue::String("1".to_owned()), "1", true),
            (AnyValue::String("1".to_owned()), "1.0", false),
            (AnyValue::Int(1), "1", true),
            (AnyValue::Int(1), "1.0", true),
            (AnyValue::Int(9_007_199_254_740_993), "9007199254740993", true),
            (AnyValue::Int(9_007_199_254_740_993), "9007199254740992", false),
            (AnyValue::Double(72.5), "72.5", true),
            (AnyValue::Double(1e300), "1e+300", true),
            (AnyValue::Double(f64::NEG_INFINITY), "-Infinity", true),
            (AnyValue::Double(f64::NEG_INFINITY), "Infinity", false),
            (AnyValue::Double(f64::NAN), "NaN", true),
            (AnyValue::Bool(true), "true", true),
            (AnyValue::Bool(true), "1", false),
            (AnyValue::Bytes(vec![0, 0, 48, 57]), "AAAwOQ==", true),
            (AnyValue::Bytes(vec![0, 0, 48, 57]), "AAAwOQ", false),
            (list(), r#"[1,"b"]"#, true),
            (list(), r#"[1, "b"]"#, true),
            (list(), "b", true),
            (list(), "1", true),
            (list(), r#"["b",1]"#, false),
            (AnyValue::KeyValueList(vec![("a".to_owned(), list())]), r#"{"a":[1,"b"]}"#, true),
            (AnyValue::KeyValueList(vec![("a".to_owned(), list())]), "b", false),
        ];
        for (value, text, expected) in table {
            assert_eq!(is_shown_as(&value, text), expected, "{value:?} {text}");
        }
    }
}
