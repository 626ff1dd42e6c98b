//! Expressions over the fields of one span: what stands between the braces of `{ … }`.

use crate::intrinsic::Intrinsic;
use crate::literal::Static;
use crate::source::SourceRange;
use crate::types::ValueType;

/// An expression evaluated for one span.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldExpr {
    /// `a && b && …` or `a || b || …`. At least two terms, and no term is a `Logical` of the same operator:
    /// both operators are associative, so chains are kept flat. That makes conjuncts easy to push down and keeps
    /// a chain of thousands of terms shallow.
    Logical {
        op: LogicalOp,
        terms: Vec<FieldExpr>,
        at: SourceRange,
    },
    Not {
        operand: Box<FieldExpr>,
        at: SourceRange,
    },
    Compare {
        op: ComparisonOp,
        left: Box<FieldExpr>,
        right: Box<FieldExpr>,
        at: SourceRange,
    },
    Arithmetic {
        op: ArithmeticOp,
        left: Box<FieldExpr>,
        right: Box<FieldExpr>,
        at: SourceRange,
    },
    Negate {
        operand: Box<FieldExpr>,
        at: SourceRange,
    },
    Literal {
        value: Static,
        at: SourceRange,
    },
    Attribute {
        attribute: Attribute,
        at: SourceRange,
    },
    Intrinsic {
        intrinsic: Intrinsic,
        at: SourceRange,
    },
}

/// A named value somebody attached to the span, its resource, an event, a link or the instrumentation scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attribute {
    /// Look at the parent span instead of the span itself (`parent.…`).
    pub of_parent: bool,
    pub scope: AttributeScope,
    /// The key; never empty.
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttributeScope {
    /// `.name`: the span's own attribute, else the resource's.
    Any,
    Span,
    Resource,
    Event,
    Link,
    Instrumentation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogicalOp {
    And,
    Or,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ComparisonOp {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// `=~`, anchored at both ends.
    Matches,
    /// `!~`
    NotMatches,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArithmeticOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    /// Right-associative, and binds tighter than unary minus: `-2 ^ 2` is `-(2 ^ 2)`.
    Power,
}

/// A field that stands in no text.
impl From<Intrinsic> for FieldExpr {
    fn from(intrinsic: Intrinsic) -> Self {
        Self::Intrinsic { intrinsic, at: SourceRange { start: 0, end: 0 } }
    }
}

/// A field that stands in no text.
impl From<Attribute> for FieldExpr {
    fn from(attribute: Attribute) -> Self {
        Self::Attribute { attribute, at: SourceRange { start: 0, end: 0 } }
    }
}

impl FieldExpr {
    /// Joins two expressions and keeps chains of one operator flat.
    pub fn logical(op: LogicalOp, left: FieldExpr, right: FieldExpr) -> FieldExpr {
        let at = left.at().to(right.at());
        let mut terms = Vec::with_capacity(2);
        for side in [left, right] {
            match side {
                FieldExpr::Logical { op: inner, terms: inner_terms, .. } if inner == op => {
                    if terms.is_empty() {
                        terms = inner_terms;
                    } else {
                        terms.extend(inner_terms);
                    }
                }
                other => terms.push(other),
            }
        }
        FieldExpr::Logical { op, terms, at }
    }

    pub fn at(&self) -> SourceRange {
        match self {
            FieldExpr::Logical { at, .. }
            | FieldExpr::Not { at, .. }
            | FieldExpr::Compare { at, .. }
            | FieldExpr::Arithmetic { at, .. }
            | FieldExpr::Negate { at, .. }
            | FieldExpr::Literal { at, .. }
            | FieldExpr::Attribute { at, .. }
            | FieldExpr::Intrinsic { at, .. } => *at,
        }
    }

    /// The expressions directly inside this one.
    pub fn children(&self) -> impl Iterator<Item = &FieldExpr> {
        let (first, second, rest): (Option<&FieldExpr>, Option<&FieldExpr>, &[FieldExpr]) = match self {
            FieldExpr::Logical { terms, .. } => (None, None, terms),
            FieldExpr::Compare { left, right, .. } | FieldExpr::Arithmetic { left, right, .. } => {
                (Some(left), Some(right), &[])
            }
            FieldExpr::Not { operand, .. } | FieldExpr::Negate { operand, .. } => (Some(operand), None, &[]),
            FieldExpr::Literal { .. } | FieldExpr::Attribute { .. } | FieldExpr::Intrinsic { .. } => (None, None, &[]),
        };
        first.into_iter().chain(second).chain(rest)
    }

    /// Whether the value can differ from span to span.
    pub fn references_span(&self) -> bool {
        self.is_field() || self.children().any(FieldExpr::references_span)
    }

    /// Whether it calculates with durations whatever the span is.
    pub fn is_duration(&self) -> bool {
        match self {
            FieldExpr::Literal { value, .. } => value.value_type() == ValueType::Duration,
            FieldExpr::Intrinsic { intrinsic, .. } => intrinsic.value_type() == ValueType::Duration,
            FieldExpr::Negate { operand, .. } => operand.is_duration(),
            FieldExpr::Arithmetic { left, right, .. } => left.is_duration() || right.is_duration(),
            _ => false,
        }
    }

    /// How answers name the field, as Tempo's do: as printed, but intrinsics by their short names, and attributes in quotes only
    /// if they must be.
    pub fn label(&self) -> String {
        format!("{self:#}")
    }

    /// Whether it is a bare attribute or intrinsic.
    pub fn is_field(&self) -> bool {
        matches!(self, FieldExpr::Attribute { .. } | FieldExpr::Intrinsic { .. })
    }

    /// The same expression, said to come from `at`: parentheses belong to what they enclose when errors point at it.
    pub(crate) fn with_range(mut self, range: SourceRange) -> FieldExpr {
        match &mut self {
            FieldExpr::Logical { at, .. }
            | FieldExpr::Not { at, .. }
            | FieldExpr::Compare { at, .. }
            | FieldExpr::Arithmetic { at, .. }
            | FieldExpr::Negate { at, .. }
            | FieldExpr::Literal { at, .. }
            | FieldExpr::Attribute { at, .. }
            | FieldExpr::Intrinsic { at, .. } => *at = range,
        }
        self
    }
}

impl AttributeScope {
    /// What is written before the dot.
    pub fn prefix(self) -> &'static str {
        match self {
            AttributeScope::Any => "",
            AttributeScope::Span => "span",
            AttributeScope::Resource => "resource",
            AttributeScope::Event => "event",
            AttributeScope::Link => "link",
            AttributeScope::Instrumentation => "instrumentation",
        }
    }

    pub(crate) const NAMED: [AttributeScope; 5] = [
        AttributeScope::Span,
        AttributeScope::Resource,
        AttributeScope::Event,
        AttributeScope::Link,
        AttributeScope::Instrumentation,
    ];

    pub(crate) fn from_prefix(word: &str) -> Option<AttributeScope> {
        Self::NAMED.into_iter().find(|scope| scope.prefix() == word)
    }
}

impl LogicalOp {
    pub fn symbol(self) -> &'static str {
        match self {
            LogicalOp::And => "&&",
            LogicalOp::Or => "||",
        }
    }
}

impl ComparisonOp {
    pub fn symbol(self) -> &'static str {
        match self {
            ComparisonOp::Equal => "=",
            ComparisonOp::NotEqual => "!=",
            ComparisonOp::Less => "<",
            ComparisonOp::LessEqual => "<=",
            ComparisonOp::Greater => ">",
            ComparisonOp::GreaterEqual => ">=",
            ComparisonOp::Matches => "=~",
            ComparisonOp::NotMatches => "!~",
        }
    }

    /// `=~` and `!~`.
    pub fn is_pattern(self) -> bool {
        matches!(self, ComparisonOp::Matches | ComparisonOp::NotMatches)
    }

    /// `=` and `!=`.
    pub fn is_equality(self) -> bool {
        matches!(self, ComparisonOp::Equal | ComparisonOp::NotEqual)
    }
}

impl ArithmeticOp {
    pub fn symbol(self) -> &'static str {
        match self {
            ArithmeticOp::Add => "+",
            ArithmeticOp::Subtract => "-",
            ArithmeticOp::Multiply => "*",
            ArithmeticOp::Divide => "/",
            ArithmeticOp::Modulo => "%",
            ArithmeticOp::Power => "^",
        }
    }

    /// `None` if the result is no integer or too large.
    pub fn of_ints(self, left: i64, right: i64) -> Option<i64> {
        match self {
            ArithmeticOp::Add => left.checked_add(right),
            ArithmeticOp::Subtract => left.checked_sub(right),
            ArithmeticOp::Multiply => left.checked_mul(right),
            ArithmeticOp::Divide => left.checked_div(right),
            ArithmeticOp::Modulo => left.checked_rem(right),
            ArithmeticOp::Power => u32::try_from(right).ok().and_then(|power| left.checked_pow(power)),
        }
    }

    pub fn of_floats(self, left: f64, right: f64) -> f64 {
        match self {
            ArithmeticOp::Add => left + right,
            ArithmeticOp::Subtract => left - right,
            ArithmeticOp::Multiply => left * right,
            ArithmeticOp::Divide => left / right,
            ArithmeticOp::Modulo => left % right,
            ArithmeticOp::Power => left.powf(right),
        }
    }
}
