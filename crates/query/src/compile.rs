//! Turns the conditions of a search into one expression that can be evaluated for a span.

use regex::Regex;
use tracehouse_model::TraceId;
use tracehouse_traceql::{
    ArithmeticOp, Attribute, AttributeScope, ComparisonOp, FieldExpr, Intrinsic, LogicalOp, Query, SourceRange, Static,
    compile_pattern,
};

use crate::error::QueryError;

/// Traces that are looked up by their ids; for more of them, all spans are looked at.
const TRACES_MAX: usize = 256;

/// An expression over the fields of one span, ready to run: patterns are compiled, keys numbered.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Compare {
        op: ComparisonOp,
        left: Box<Node>,
        right: Box<Node>,
    },
    Matches {
        negated: bool,
        operand: Box<Node>,
        pattern: Regex,
    },
    Arithmetic {
        op: ArithmeticOp,
        left: Box<Node>,
        right: Box<Node>,
    },
    /// A number that is calculated with as a float.
    Float(Box<Node>),
    Negate(Box<Node>),
    Literal(Static),
    Attribute {
        of_parent: bool,
        scope: AttributeScope,
        key: usize,
    },
    Intrinsic(Intrinsic),
}

/// A compiled expression with the attribute keys it mentions.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    pub(crate) node: Node,
    pub(crate) keys: Vec<String>,
    /// As TraceQL writes it.
    pub(crate) text: String,
    /// Whether a span alone does not decide: the expression looks at the trace or the parent.
    pub(crate) needs_trace: bool,
    /// Whether it looks at the id of the parent, which may be another than the span names.
    pub(crate) mentions_parent: bool,
    /// Of which traces the spans are for which it can hold; `None` if it doesn't say.
    pub(crate) traces: Option<Vec<TraceId>>,
}

impl Expression {
    pub(crate) fn of(expr: &FieldExpr) -> Result<Self, QueryError> {
        let mut compiler = Compiler::default();
        let node = compiler.node(expr)?;
        let (traces, needs_trace) = (traces_of(&node), needs_trace(expr));
        let mentions_parent = mentions_parent(expr);
        Ok(Self { node, keys: compiler.keys, text: expr.to_string(), needs_trace, mentions_parent, traces })
    }

    /// Holds for every span.
    pub(crate) fn always() -> Self {
        let node = Node::Literal(Static::Bool(true));
        let (keys, text) = (Vec::new(), "true".to_owned());
        Self { node, keys, text, needs_trace: false, mentions_parent: false, traces: None }
    }
}

/// The traces that an expression asks for by their ids, each once.
pub(crate) fn traces_of(node: &Node) -> Option<Vec<TraceId>> {
    let mut traces = match node {
        Node::And(terms) => terms.iter().filter_map(traces_of).min_by_key(Vec::len)?,
        Node::Or(terms) => terms.iter().map(traces_of).collect::<Option<Vec<_>>>()?.concat(),
        Node::Compare { op: ComparisonOp::Equal, left, right } => match (&**left, &**right) {
            (Node::Intrinsic(Intrinsic::TraceId), Node::Literal(literal)) => ids_of(literal),
            _ => return None,
        },
        _ => return None,
    };
    traces.sort_unstable();
    traces.dedup();
    (traces.len() <= TRACES_MAX).then_some(traces)
}

/// Texts that are no ids are equal to none.
fn ids_of(literal: &Static) -> Vec<TraceId> {
    match literal {
        Static::String(text) => text.parse().into_iter().collect(),
        Static::Array(values) => values.iter().flat_map(ids_of).collect(),
        _ => Vec::new(),
    }
}

#[derive(Default)]
struct Compiler {
    keys: Vec<String>,
}

impl Compiler {
    fn node(&mut self, expr: &FieldExpr) -> Result<Node, QueryError> {
        Ok(match expr {
            FieldExpr::Logical { op, terms, .. } => {
                let terms = terms.iter().map(|term| self.node(term)).collect::<Result<_, _>>()?;
                match op {
                    LogicalOp::And => Node::And(terms),
                    LogicalOp::Or => Node::Or(terms),
                }
            }
            FieldExpr::Not { operand, .. } => Node::Not(Box::new(self.node(operand)?)),
            FieldExpr::Compare { op, left, right, .. } if op.is_pattern() => self.pattern(*op, left, right)?,
            FieldExpr::Compare { op, left, right, .. } => self.comparison(*op, left, right)?,
            FieldExpr::Arithmetic { op, left, right, .. } => {
                // Integers divide as integers, but the share of a duration is a fraction.
                let divides_duration = *op == ArithmeticOp::Divide && (left.is_duration() || right.is_duration());
                let dividend = self.node(left)?;
                let left = if divides_duration { Node::Float(Box::new(dividend)) } else { dividend };
                Node::Arithmetic { op: *op, left: Box::new(left), right: Box::new(self.node(right)?) }
            }
            FieldExpr::Negate { operand, .. } => Node::Negate(Box::new(self.node(operand)?)),
            FieldExpr::Literal { value, .. } => Node::Literal(value.clone()),
            FieldExpr::Attribute { attribute, .. } => Node::Attribute {
                of_parent: attribute.of_parent,
                scope: attribute.scope,
                key: self.key(&attribute.name),
            },
            FieldExpr::Intrinsic { intrinsic, .. } => Node::Intrinsic(*intrinsic),
        })
    }

    fn key(&mut self, name: &str) -> usize {
        self.keys.iter().position(|known| known == name).unwrap_or_else(|| {
            self.keys.push(name.to_owned());
            self.keys.len() - 1
        })
    }

    fn pattern(&mut self, op: ComparisonOp, left: &FieldExpr, right: &FieldExpr) -> Result<Node, QueryError> {
        let patterns = match right {
            FieldExpr::Literal { value: Static::String(pattern), .. } => vec![pattern.clone()],
            FieldExpr::Literal { value: Static::Array(values), .. } => values
                .iter()
                .filter_map(|value| if let Static::String(p) = value { Some(p.clone()) } else { None })
                .collect(),
            _ => return Err(QueryError::Invalid("a regular expression must be written out as a string".into())),
        };
        let pattern = match patterns.as_slice() {
            [only] => only.clone(),
            several => several.iter().map(|pattern| format!("(?:{pattern})")).collect::<Vec<_>>().join("|"),
        };
        let pattern = compile_pattern(&pattern).map_err(|error| QueryError::Invalid(error.to_string()))?;
        let negated = op == ComparisonOp::NotMatches;
        Ok(Node::Matches { negated, operand: Box::new(self.node(left)?), pattern })
    }

    /// Fields stand on the left, so that the evaluators have one case less.
    fn comparison(&mut self, op: ComparisonOp, left: &FieldExpr, right: &FieldExpr) -> Result<Node, QueryError> {
        let (op, left, right) = field_first(op, left, right);
        if let Some(op) = asks_for_root(op, left, right) {
            let (left, right) = (Node::Intrinsic(Intrinsic::ParentId), Node::Literal(Static::Nil));
            return Ok(Node::Compare { op, left: Box::new(left), right: Box::new(right) });
        }
        Ok(Node::Compare { op, left: Box::new(self.node(left)?), right: Box::new(self.node(right)?) })
    }
}

/// Whether a span alone does not decide: the expression looks at the trace or the parent.
pub(crate) fn needs_trace(expr: &FieldExpr) -> bool {
    use Intrinsic::*;
    match expr {
        FieldExpr::Attribute { attribute, .. } => attribute.of_parent,
        FieldExpr::Intrinsic { intrinsic, .. } => matches!(
            intrinsic,
            ChildCount
                | TraceDuration
                | TraceRootName
                | TraceRootService
                | NestedSetLeft
                | NestedSetRight
                | NestedSetParent
        ),
        FieldExpr::Compare { op, left, right, .. } => {
            let (op, left, right) = field_first(*op, left, right);
            asks_for_root(op, left, right).is_none() && (needs_trace(left) || needs_trace(right))
        }
        other => other.children().any(needs_trace),
    }
}

/// Whether an expression looks at the id of the parent, which is another than the span names if the span is a half of a call whose halves share
/// an id.
pub(crate) fn mentions_parent(expr: &FieldExpr) -> bool {
    use Intrinsic::{NestedSetParent, Parent, ParentId};
    let is_parent = |intrinsic| matches!(intrinsic, ParentId | Parent | NestedSetParent);
    matches!(expr, FieldExpr::Intrinsic { intrinsic, .. } if is_parent(*intrinsic))
        || expr.children().any(mentions_parent)
}

/// Whether only spans without a parent satisfy a condition on `nestedSetParent`.
pub(crate) fn asks_for_root_spans(condition: &FieldExpr) -> bool {
    let FieldExpr::Compare { op, left, right, .. } = condition else { return false };
    let (op, left, right) = field_first(*op, left, right);
    asks_for_root(op, left, right) == Some(ComparisonOp::Equal)
}

/// `nestedSetParent < 0` and its like ask whether a span has a parent, which the span says itself: whether its parent's
/// id must be equal to `nil` or not.
fn asks_for_root(op: ComparisonOp, left: &FieldExpr, right: &FieldExpr) -> Option<ComparisonOp> {
    use ComparisonOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
    let FieldExpr::Intrinsic { intrinsic: Intrinsic::NestedSetParent, .. } = left else { return None };
    let limit = match right {
        FieldExpr::Literal { value: Static::Int(limit), .. } => *limit,
        FieldExpr::Negate { operand, .. } => match &**operand {
            FieldExpr::Literal { value: Static::Int(limit), .. } => limit.checked_neg()?,
            _ => return None,
        },
        _ => return None,
    };
    // -1 is a root, everything else is from 0 on.
    match (op, limit) {
        (Less, 0) | (LessEqual | Equal, -1) => Some(Equal),
        (GreaterEqual, 0) | (Greater | NotEqual, -1) => Some(NotEqual),
        _ => None,
    }
}

/// A field that is compared with something stands on the left.
pub(crate) fn field_first<'e>(
    op: ComparisonOp,
    left: &'e FieldExpr,
    right: &'e FieldExpr,
) -> (ComparisonOp, &'e FieldExpr, &'e FieldExpr) {
    if !left.is_field() && right.is_field() { (mirrored(op), right, left) } else { (op, left, right) }
}

fn mirrored(op: ComparisonOp) -> ComparisonOp {
    match op {
        ComparisonOp::Less => ComparisonOp::Greater,
        ComparisonOp::LessEqual => ComparisonOp::GreaterEqual,
        ComparisonOp::Greater => ComparisonOp::Less,
        ComparisonOp::GreaterEqual => ComparisonOp::LessEqual,
        other => other,
    }
}

pub(crate) const HERE: SourceRange = SourceRange { start: 0, end: 0 };

pub(crate) fn literal(value: Static) -> FieldExpr {
    FieldExpr::Literal { value, at: HERE }
}

pub(crate) fn intrinsic(intrinsic: Intrinsic) -> FieldExpr {
    intrinsic.into()
}

pub(crate) fn attribute(scope: AttributeScope, name: &str) -> FieldExpr {
    Attribute { of_parent: false, scope, name: name.to_owned() }.into()
}

pub(crate) fn compare(op: ComparisonOp, left: FieldExpr, right: Static) -> FieldExpr {
    FieldExpr::Compare { op, left: Box::new(left), right: Box::new(literal(right)), at: HERE }
}

pub(crate) fn truth(value: bool) -> FieldExpr {
    literal(Static::Bool(value))
}

/// Joins conditions that must all hold.
pub(crate) fn all_of(terms: Vec<FieldExpr>) -> Option<FieldExpr> {
    terms.into_iter().reduce(|left, right| FieldExpr::logical(LogicalOp::And, left, right))
}

/// A query as it is written.
pub(crate) fn compile(traceql: &str) -> Result<Query, QueryError> {
    tracehouse_traceql::compile(traceql).map_err(|error| QueryError::Invalid(error.render(traceql).to_string()))
}
