//! Turns the conditions of a search into one expression that can be evaluated for a span.

use regex::Regex;
use tracehouse_traceql::{
    ArithmeticOp, Attribute, AttributeScope, ComparisonOp, FieldExpr, Intrinsic, Kind, LogicalOp, SourceRange, Static,
    Status, compile_pattern,
};

use crate::error::QueryError;
use crate::request::{Condition, Operator, Scope, SearchRequest};

/// An expression over the fields of one span, ready to run: patterns are compiled, keys numbered.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Compare { op: ComparisonOp, left: Box<Node>, right: Box<Node> },
    Matches { negated: bool, operand: Box<Node>, pattern: Regex },
    Arithmetic { op: ArithmeticOp, left: Box<Node>, right: Box<Node> },
    Negate(Box<Node>),
    Literal(Static),
    Attribute { of_parent: bool, scope: AttributeScope, key: usize },
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
}

impl Expression {
    pub(crate) fn of(expr: &FieldExpr) -> Result<Self, QueryError> {
        let mut compiler = Compiler::default();
        let node = compiler.node(expr)?;
        Ok(Self { node, keys: compiler.keys, text: expr.to_string(), needs_trace: compiler.needs_trace })
    }

    /// Holds for every span.
    pub(crate) fn always() -> Self {
        Self { node: Node::Literal(Static::Bool(true)), keys: Vec::new(), text: "true".to_owned(), needs_trace: false }
    }

    /// Any of several.
    pub(crate) fn any(expressions: &[&Expression]) -> Self {
        if let [only] = expressions {
            return (*only).clone();
        }
        let mut keys: Vec<String> = Vec::new();
        let mut terms = Vec::new();
        for expression in expressions {
            let mut node = expression.node.clone();
            node.shift_keys(keys.len());
            keys.extend(expression.keys.iter().cloned());
            terms.push(node);
        }
        let texts: Vec<&str> = expressions.iter().map(|expression| expression.text.as_str()).collect();
        let needs_trace = expressions.iter().any(|expression| expression.needs_trace);
        Self { node: Node::Or(terms), keys, text: texts.join(" || "), needs_trace }
    }

    /// How many conditions a span must satisfy at once; 0 for one that says nothing.
    pub(crate) fn conditions(&self) -> usize {
        self.node.conditions()
    }
}

impl Node {
    fn shift_keys(&mut self, by: usize) {
        match self {
            Node::And(terms) | Node::Or(terms) => terms.iter_mut().for_each(|term| term.shift_keys(by)),
            Node::Not(operand) | Node::Negate(operand) | Node::Matches { operand, .. } => operand.shift_keys(by),
            Node::Compare { left, right, .. } | Node::Arithmetic { left, right, .. } => {
                left.shift_keys(by);
                right.shift_keys(by);
            }
            Node::Attribute { key, .. } => *key += by,
            Node::Literal(_) | Node::Intrinsic(_) => {}
        }
    }

    fn conditions(&self) -> usize {
        match self {
            Node::And(terms) => terms.iter().map(Node::conditions).sum(),
            Node::Or(terms) => terms.iter().map(Node::conditions).min().unwrap_or(0),
            Node::Literal(_) => 0,
            _ => 1,
        }
    }
}

/// The conditions of a search, as TraceQL says them.
pub(crate) fn conditions_of(request: &SearchRequest) -> Vec<FieldExpr> {
    request.conditions.iter().map(condition_expr).collect()
}

#[derive(Default)]
struct Compiler {
    keys: Vec<String>,
    needs_trace: bool,
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
                Node::Arithmetic { op: *op, left: Box::new(self.node(left)?), right: Box::new(self.node(right)?) }
            }
            FieldExpr::Negate { operand, .. } => Node::Negate(Box::new(self.node(operand)?)),
            FieldExpr::Literal { value, .. } => Node::Literal(value.clone()),
            FieldExpr::Attribute { attribute, .. } => {
                self.needs_trace |= attribute.of_parent;
                Node::Attribute {
                    of_parent: attribute.of_parent,
                    scope: attribute.scope,
                    key: self.key(&attribute.name),
                }
            }
            FieldExpr::Intrinsic { intrinsic, .. } => {
                use Intrinsic::*;
                self.needs_trace |= matches!(
                    intrinsic,
                    ChildCount
                        | TraceDuration
                        | TraceRootName
                        | TraceRootService
                        | NestedSetLeft
                        | NestedSetRight
                        | NestedSetParent
                );
                Node::Intrinsic(*intrinsic)
            }
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
        let negated = op == ComparisonOp::NotMatches;
        let nodes = patterns
            .iter()
            .map(|pattern| {
                let pattern = compile_pattern(pattern).map_err(|error| QueryError::Invalid(error.to_string()))?;
                Ok(Node::Matches { negated, operand: Box::new(self.node(left)?), pattern })
            })
            .collect::<Result<Vec<_>, QueryError>>()?;
        Ok(match nodes.len() {
            1 => nodes.into_iter().next().expect("there is one"),
            _ if negated => Node::And(nodes),
            _ => Node::Or(nodes),
        })
    }

    /// Fields stand on the left, so that the evaluators have one case less.
    fn comparison(&mut self, op: ComparisonOp, left: &FieldExpr, right: &FieldExpr) -> Result<Node, QueryError> {
        let (op, left, right) =
            if !left.is_field() && right.is_field() { (mirrored(op), right, left) } else { (op, left, right) };
        Ok(Node::Compare { op, left: Box::new(self.node(left)?), right: Box::new(self.node(right)?) })
    }
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

const HERE: SourceRange = SourceRange { start: 0, end: 0 };

fn literal(value: Static) -> FieldExpr {
    FieldExpr::Literal { value, at: HERE }
}

fn intrinsic(intrinsic: Intrinsic) -> FieldExpr {
    FieldExpr::Intrinsic { intrinsic, at: HERE }
}

fn attribute(scope: AttributeScope, name: &str) -> FieldExpr {
    FieldExpr::Attribute { attribute: Attribute { of_parent: false, scope, name: name.to_owned() }, at: HERE }
}

fn compare(op: ComparisonOp, left: FieldExpr, right: Static) -> FieldExpr {
    FieldExpr::Compare { op, left: Box::new(left), right: Box::new(literal(right)), at: HERE }
}

fn condition_expr(condition: &Condition) -> FieldExpr {
    use ComparisonOp::{Equal, GreaterEqual, LessEqual};
    match condition {
        Condition::Service(name) => {
            compare(Equal, attribute(AttributeScope::Resource, "service.name"), Static::String(name.clone()))
        }
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
    }
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
fn attribute_condition(field: FieldExpr, operator: Operator, text: &str) -> FieldExpr {
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
        } else if let Ok(float) = text.parse::<f64>()
            && float.is_finite()
        {
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

pub(crate) fn kind_number(kind: Kind) -> u8 {
    kind as u8
}

pub(crate) fn status_number(status: Status) -> u8 {
    status as u8
}
