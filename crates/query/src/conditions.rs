//! The conditions of a search as expressions, as tight as what is known of a file allows.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracehouse_model::{UNKNOWN_SERVICE, parse_double};
use tracehouse_scan::Contents;
use tracehouse_spanfile::NameList;
use tracehouse_traceql::{AttributeScope, ComparisonOp, FieldExpr, Intrinsic, Kind, LogicalOp, Static, Status};

use crate::compile::{HERE, attribute, compare, intrinsic, truth};
use crate::request::{Condition, Operator, Scope, SearchRequest, TextField};

/// The conditions of a search, as TraceQL says them; what it can't say is let through.
pub(crate) fn conditions_of(request: &SearchRequest) -> Vec<FieldExpr> {
    request.conditions.iter().map(condition_expr).collect()
}

pub(crate) fn condition_expr(condition: &Condition) -> FieldExpr {
    use ComparisonOp::{Equal, GreaterEqual, LessEqual};
    match condition {
        Condition::Service(name) => service_condition(name),
        Condition::Operation(name) => compare(Equal, intrinsic(Intrinsic::Name), Static::String(name.clone())),
        Condition::Kind(kind) => compare(Equal, intrinsic(Intrinsic::Kind), Static::Kind(kind_literal(*kind))),
        Condition::Status(code) => compare(Equal, intrinsic(Intrinsic::Status), Static::Status(status_literal(*code))),
        Condition::DurationMin(nanos) => {
            compare(GreaterEqual, intrinsic(Intrinsic::Duration), Static::Duration(*nanos))
        }
        Condition::DurationMax(nanos) => compare(LessEqual, intrinsic(Intrinsic::Duration), Static::Duration(*nanos)),
        Condition::Attribute { scope, key, operator, value } => {
            attribute_condition(attribute(attribute_scope(*scope), key), *operator, value)
        }
        Condition::ShownAs { .. }
        | Condition::Has { .. }
        | Condition::Text { .. }
        | Condition::Any(_)
        | Condition::All(_)
        | Condition::Not(_) => narrowed(condition, &Contents::UNKNOWN).expr.unwrap_or_else(|| truth(false)),
    }
}

/// What an expression can say of a condition.
pub(crate) struct Narrowed {
    /// Each span that satisfies the condition satisfies this; `None`: no span does.
    pub(crate) expr: Option<FieldExpr>,
    /// Whether it is so the other way round too.
    pub(crate) exact: bool,
}

impl Narrowed {
    const NOTHING: Self = Self { expr: None, exact: true };

    fn exactly(expr: FieldExpr) -> Self {
        Self { expr: Some(expr), exact: true }
    }

    fn at_most(expr: FieldExpr) -> Self {
        Self { expr: Some(expr), exact: false }
    }
}

/// A condition for the spans of a file, given what occurs in it.
pub(crate) fn narrowed(condition: &Condition, contents: &Contents) -> Narrowed {
    match condition {
        Condition::Any(terms) => {
            let terms: Vec<Narrowed> = terms.iter().map(|term| narrowed(term, contents)).collect();
            let exact = terms.iter().all(|term| term.exact);
            Narrowed { expr: joined(LogicalOp::Or, terms.into_iter().filter_map(|term| term.expr)), exact }
        }
        Condition::All(terms) => {
            let terms: Vec<Narrowed> = terms.iter().map(|term| narrowed(term, contents)).collect();
            if terms.iter().any(|term| term.expr.is_none()) {
                return Narrowed::NOTHING;
            }
            let exact = terms.iter().all(|term| term.exact);
            Narrowed { expr: joined(LogicalOp::And, terms.into_iter().filter_map(|term| term.expr)), exact }
        }
        Condition::Not(_) | Condition::Text { field: TextField::TraceState, .. } => Narrowed::at_most(truth(true)),
        Condition::Text { field, text } => Narrowed::exactly(text_expr(*field, text)),
        Condition::ShownAs { scope: Scope::Either, key, text } => {
            let of = |scope| Condition::ShownAs { scope, key: key.clone(), text: text.clone() };
            narrowed(&Condition::Any(vec![of(Scope::Span), of(Scope::Resource)]), contents)
        }
        Condition::ShownAs { scope, key, text } => {
            let field = attribute(attribute_scope(*scope), key);
            let plain = attribute_condition(field.clone(), Operator::Equal, text);
            match Occurrence::of(*scope, key, contents) {
                Occurrence::Nowhere => Narrowed::NOTHING,
                Occurrence::Plain if !is_no_finite_number(text) => Narrowed::exactly(plain),
                _ if !may_show_other(text) => Narrowed::exactly(plain),
                // To an expression an attribute without a value is not there.
                _ if text.is_empty() => Narrowed::at_most(truth(true)),
                _ => Narrowed::at_most(compare(ComparisonOp::NotEqual, field, Static::Nil)),
            }
        }
        Condition::Has { scope: Scope::Either, key } => {
            let of = |scope| Condition::Has { scope, key: key.clone() };
            narrowed(&Condition::Any(vec![of(Scope::Span), of(Scope::Resource)]), contents)
        }
        Condition::Has { scope, key } => match Occurrence::of(*scope, key, contents) {
            Occurrence::Nowhere => Narrowed::NOTHING,
            Occurrence::Plain => {
                let field = attribute(attribute_scope(*scope), key);
                Narrowed::exactly(compare(ComparisonOp::NotEqual, field, Static::Nil))
            }
            Occurrence::Anything => Narrowed::at_most(truth(true)),
        },
        other => Narrowed::exactly(condition_expr(other)),
    }
}

fn joined(op: LogicalOp, terms: impl Iterator<Item = FieldExpr>) -> Option<FieldExpr> {
    let mut terms: Vec<FieldExpr> = terms.collect();
    match (terms.len(), op) {
        (0, LogicalOp::And) => Some(truth(true)),
        (0, LogicalOp::Or) => None,
        (1, _) => terms.pop(),
        _ => Some(FieldExpr::Logical { op, terms, at: HERE }),
    }
}

fn text_expr(field: TextField, text: &str) -> FieldExpr {
    let field = match field {
        TextField::StatusMessage => Intrinsic::StatusMessage,
        TextField::ScopeName => Intrinsic::InstrumentationName,
        TextField::ScopeVersion => Intrinsic::InstrumentationVersion,
        TextField::EventName => Intrinsic::EventName,
        TextField::TraceState => return truth(true),
    };
    compare(ComparisonOp::Equal, intrinsic(field), Static::String(text.to_owned()))
}

/// As what a key occurs in a file.
#[derive(Clone, Copy, PartialEq)]
enum Occurrence {
    Nowhere,
    /// Only with texts, numbers and truth values.
    Plain,
    Anything,
}

impl Occurrence {
    fn of(scope: Scope, key: &str, contents: &Contents) -> Self {
        let list = match scope {
            Scope::Either | Scope::Span => NameList::SpanKeys,
            Scope::Resource => NameList::ResourceKeys,
            Scope::Instrumentation => NameList::ScopeKeys,
            Scope::Event => NameList::EventKeys,
            Scope::Link => NameList::LinkKeys,
        };
        let Some(known) = contents.known() else { return Self::Anything };
        if !known.may_have(list, key) {
            return Self::Nowhere;
        }
        let counts = match list {
            NameList::SpanKeys => &known.span_keys,
            NameList::ResourceKeys => &known.resource_keys,
            // Files count types only of these.
            _ => return Self::Anything,
        };
        let mut of_key = counts.iter().filter(|count| count.key == key);
        let is_plain = known.lists_all(list) && of_key.all(|count| count.value_type.is_some());
        if is_plain { Self::Plain } else { Self::Anything }
    }
}

/// Infinite, or not a number: literals don't say these.
fn is_no_finite_number(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|number| !number.is_finite())
}

/// Whether a value that is compared with no literal may be shown as this: bytes, a list, a map, none, or no finite number.
fn may_show_other(text: &str) -> bool {
    text.is_empty() || text.starts_with(['[', '{']) || is_no_finite_number(text) || STANDARD.decode(text).is_ok()
}

/// The spans whose service answers show under a name, and those that have it in a list among others.
fn service_condition(name: &str) -> FieldExpr {
    let field = || attribute(AttributeScope::Resource, "service.name");
    let text = || compare(ComparisonOp::Equal, field(), Static::String(name.to_owned()));
    if name == UNKNOWN_SERVICE {
        return FieldExpr::logical(LogicalOp::Or, text(), no_service_name());
    }
    attribute_condition(field(), Operator::Equal, name)
}

/// The spans whose service has no name to be shown under: neither a text nor a number nor a truth value.
pub(crate) fn no_service_name() -> FieldExpr {
    use ComparisonOp::{Equal, Greater, LessEqual, Matches};
    let field = || attribute(AttributeScope::Resource, "service.name");
    let named = [
        compare(Matches, field(), Static::String("(?s).+".to_owned())),
        compare(LessEqual, field(), Static::Int(0)),
        compare(Greater, field(), Static::Int(0)),
        compare(Equal, field(), Static::Bool(true)),
        compare(Equal, field(), Static::Bool(false)),
    ];
    let any = FieldExpr::Logical { op: LogicalOp::Or, terms: named.to_vec(), at: HERE };
    FieldExpr::Not { operand: Box::new(any), at: HERE }
}

pub(crate) fn attribute_scope(scope: Scope) -> AttributeScope {
    match scope {
        Scope::Either => AttributeScope::Any,
        Scope::Span => AttributeScope::Span,
        Scope::Resource => AttributeScope::Resource,
        Scope::Instrumentation => AttributeScope::Instrumentation,
        Scope::Event => AttributeScope::Event,
        Scope::Link => AttributeScope::Link,
    }
}

/// A text that reads as a number or a truth value is compared as that too: a person who fills in a form does not say
/// which type they mean.
pub(crate) fn attribute_condition(field: FieldExpr, operator: Operator, text: &str) -> FieldExpr {
    let op = match operator {
        Operator::Equal => ComparisonOp::Equal,
        Operator::NotEqual => ComparisonOp::NotEqual,
        Operator::Less => ComparisonOp::Less,
        Operator::LessOrEqual => ComparisonOp::LessEqual,
        Operator::Greater => ComparisonOp::Greater,
        Operator::GreaterOrEqual => ComparisonOp::GreaterEqual,
        Operator::Matches => ComparisonOp::Matches,
        Operator::NotMatches => ComparisonOp::NotMatches,
    };
    let mut readings = vec![Static::String(text.to_owned())];
    if !op.is_pattern() {
        if let Ok(int) = text.parse() {
            readings.push(Static::Int(int));
        } else if let Some(float) = parse_double(text) {
            readings.push(Static::Float(float));
        }
        if op.is_equality()
            && let Ok(truth) = text.parse()
        {
            readings.push(Static::Bool(truth));
        }
    }
    // A value has one type, so at most one reading compares with it, and the others are false: any of them decides,
    // for `!=` too.
    let mut terms: Vec<FieldExpr> = readings.into_iter().map(|value| compare(op, field.clone(), value)).collect();
    if terms.len() == 1 {
        return terms.remove(0);
    }
    FieldExpr::Logical { op: LogicalOp::Or, terms, at: HERE }
}

fn kind_literal(kind: u8) -> Kind {
    [Kind::Unspecified, Kind::Internal, Kind::Server, Kind::Client, Kind::Producer, Kind::Consumer]
        .get(usize::from(kind))
        .copied()
        .unwrap_or(Kind::Unspecified)
}

fn status_literal(code: u8) -> Status {
    [Status::Unset, Status::Ok, Status::Error].get(usize::from(code)).copied().unwrap_or(Status::Unset)
}
