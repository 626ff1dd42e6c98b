//! Types of field expressions.

use super::{ValueType, type_error, unquoted};
use crate::PATTERNS_MAX;
use crate::error::{ErrorKind, ParseError, quote};
use crate::field::{ArithmeticOp, ComparisonOp, FieldExpr};
use crate::literal::Static;
use crate::pattern::compile_pattern;
use crate::source::SourceRange;

#[derive(Default)]
pub(super) struct Checker {
    /// Regular expressions seen so far: each costs memory when the query runs.
    patterns: usize,
}

impl Checker {
    pub(super) fn expression(&mut self, expr: &FieldExpr) -> Result<ValueType, ParseError> {
        match expr {
            FieldExpr::Literal { value, at } => self.literal(value, *at),
            FieldExpr::Attribute { .. } => Ok(ValueType::Any),
            FieldExpr::Intrinsic { intrinsic, .. } => Ok(intrinsic.value_type()),
            FieldExpr::Logical { op, terms, .. } => {
                for term in terms {
                    self.boolean(term, op.symbol())?;
                }
                Ok(ValueType::Bool)
            }
            FieldExpr::Not { operand, .. } => {
                self.boolean(operand, "!")?;
                Ok(ValueType::Bool)
            }
            FieldExpr::Negate { operand, .. } => {
                let operand = self.number(operand, "-")?;
                Ok(if operand == ValueType::Any { ValueType::Number } else { operand })
            }
            FieldExpr::Arithmetic { op, left, right, .. } => {
                let left = self.number(left, op.symbol())?;
                let right = self.number(right, op.symbol())?;
                Ok(arithmetic_type(*op, left, right))
            }
            FieldExpr::Compare { op, left, right, at } => {
                self.comparison(*op, left, right, *at)?;
                Ok(ValueType::Bool)
            }
        }
    }

    fn literal(&mut self, value: &Static, at: SourceRange) -> Result<ValueType, ParseError> {
        if let Static::Array(elements) = value {
            let types = || elements.iter().map(Static::value_type);
            let uniform = types().all(ValueType::is_number) || types().all(|each| Some(each) == types().next());
            if !uniform {
                return Err(type_error(at, format!("{} mixes types that never compare", quote(&value.to_string()))));
            }
        }
        Ok(value.value_type())
    }

    fn boolean(&mut self, expr: &FieldExpr, operator: &str) -> Result<(), ParseError> {
        let found = self.expression(expr)?;
        if found.may_be_bool() {
            return Ok(());
        }
        let problem = format!("`{operator}` needs conditions, but {} is {found}", quote(&expr.to_string()));
        Err(type_error(expr.at(), problem).suggest("compare it with something"))
    }

    fn number(&mut self, expr: &FieldExpr, operator: &str) -> Result<ValueType, ParseError> {
        let found = self.expression(expr)?;
        if found.may_be_number() {
            return Ok(found);
        }
        Err(type_error(expr.at(), format!("`{operator}` needs numbers, but {} is {found}", quote(&expr.to_string()))))
    }

    fn comparison(
        &mut self,
        op: ComparisonOp,
        left: &FieldExpr,
        right: &FieldExpr,
        at: SourceRange,
    ) -> Result<(), ParseError> {
        let left_type = self.expression(left)?;
        let right_type = self.expression(right)?;
        if op.is_pattern() {
            return self.pattern_match(op, left, left_type, right);
        }
        if left_type == ValueType::Array {
            return Err(type_error(left.at(), "an array stands on the right of a comparison"));
        }
        if let FieldExpr::Literal { value: Static::Array(elements), .. } = right {
            if !op.is_equality() {
                return Err(type_error(at, format!("`{}` does not work with arrays", op.symbol()))
                    .suggest("arrays go with `=`, `!=`, `=~` and `!~`"));
            }
            return elements.iter().try_for_each(|element| {
                comparable(op, left_type, element.value_type()).map_err(|why| mismatch(op, left, right, at, &why))
            });
        }
        comparable(op, left_type, right_type).map_err(|why| mismatch(op, left, right, at, &why))
    }

    fn pattern_match(
        &mut self,
        op: ComparisonOp,
        left: &FieldExpr,
        left_type: ValueType,
        right: &FieldExpr,
    ) -> Result<(), ParseError> {
        if !matches!(left_type, ValueType::String | ValueType::Any) {
            let problem = format!("`{}` matches strings, but {} is {left_type}", op.symbol(), quote(&left.to_string()));
            return Err(type_error(left.at(), problem));
        }
        let FieldExpr::Literal { value, at } = right else {
            let problem = format!("`{}` needs a regular expression written out as a string", op.symbol());
            return Err(type_error(right.at(), problem));
        };
        match value {
            Static::String(pattern) => self.pattern(pattern, *at),
            Static::Array(elements) => elements.iter().try_for_each(|element| match element {
                Static::String(pattern) => self.pattern(pattern, *at),
                other => Err(not_a_pattern(op, other, *at)),
            }),
            other => Err(not_a_pattern(op, other, *at)),
        }
    }

    fn pattern(&mut self, pattern: &str, at: SourceRange) -> Result<(), ParseError> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            let problem = format!("the query has more than {PATTERNS_MAX} regular expressions");
            return Err(ParseError::new(ErrorKind::Limit, at, problem).suggest("join them with `|` into one"));
        }
        match compile_pattern(pattern) {
            Ok(_) => Ok(()),
            Err(error) => Err(ParseError::new(ErrorKind::Pattern, at, error.to_string()).found(pattern)),
        }
    }
}

fn not_a_pattern(op: ComparisonOp, found: &Static, at: SourceRange) -> ParseError {
    let problem = format!(
        "`{}` needs a regular expression, but {} is {}",
        op.symbol(),
        quote(&found.to_string()),
        found.value_type()
    );
    type_error(at, problem)
}

/// Durations win over floats, floats over integers; with an attribute in it, it is some number.
fn arithmetic_type(op: ArithmeticOp, left: ValueType, right: ValueType) -> ValueType {
    let either = |wanted| left == wanted || right == wanted;
    if either(ValueType::Any) || either(ValueType::Number) {
        ValueType::Number
    } else if left == ValueType::Duration && right == ValueType::Duration && op == ArithmeticOp::Divide {
        ValueType::Float
    } else if either(ValueType::Duration) {
        ValueType::Duration
    } else if either(ValueType::Float) {
        ValueType::Float
    } else {
        ValueType::Int
    }
}

/// Whether the comparison can ever hold; the error says why not.
fn comparable(op: ComparisonOp, left: ValueType, right: ValueType) -> Result<(), String> {
    let unordered = |each: ValueType| {
        matches!(each, ValueType::Bool | ValueType::Status | ValueType::Kind | ValueType::Nil | ValueType::Span)
    };
    for each in [left, right] {
        if unordered(each) && !op.is_equality() {
            return Err(format!("{each} can only be tested with `=` and `!=`"));
        }
    }
    if left == ValueType::Nil || right == ValueType::Nil {
        return Ok(());
    }
    if left == ValueType::Span || right == ValueType::Span {
        return Err("a span can only be compared with nil".to_owned());
    }
    let unknown = left == ValueType::Any || right == ValueType::Any;
    if unknown || left == right || (left.is_number() && right.is_number()) {
        return Ok(());
    }
    Err(format!("{left} never compares with {right}"))
}

fn mismatch(op: ComparisonOp, left: &FieldExpr, right: &FieldExpr, at: SourceRange, why: &str) -> ParseError {
    let whole = format!("{left} {} {right}", op.symbol());
    type_error(at, format!("{} makes no sense: {why}", quote(&whole))).suggest_option(repair(left, right))
}

fn repair(left: &FieldExpr, right: &FieldExpr) -> Option<String> {
    let (FieldExpr::Intrinsic { intrinsic, .. }, FieldExpr::Literal { value, .. }) = (left, right) else {
        return None;
    };
    match (intrinsic.value_type(), value) {
        (wanted @ (ValueType::Status | ValueType::Kind), Static::String(text)) => {
            unquoted(text, wanted).or_else(|| words_of(wanted))
        }
        (ValueType::Duration, Static::String(text)) => {
            let is_number = text.starts_with(|first: char| first.is_ascii_digit());
            is_number.then(|| format!("write the duration without quotes, such as `{intrinsic} > 200ms`"))
        }
        (wanted @ (ValueType::Status | ValueType::Kind), _) => words_of(wanted),
        (ValueType::String, other) => Some(format!("write `\"{other}\"`")),
        _ => None,
    }
}

fn words_of(wanted: ValueType) -> Option<String> {
    match wanted {
        ValueType::Status => Some("a status is `ok`, `error` or `unset`".to_owned()),
        ValueType::Kind => {
            Some("a kind is `server`, `client`, `internal`, `producer`, `consumer` or `unspecified`".to_owned())
        }
        _ => None,
    }
}
