//! What stands around braces: spansets, numbers and metrics queries, and the operators between them.
//!
//! `({ } | count()) > 2` and `({ } | by(name)) > { }` begin alike, so everything is read as an operand first, and the
//! kinds of the two operands decide what an operator means.

use super::field::comparison;
use super::pipeline::Body;
use super::{PRECEDENCE_COMPARE, PRECEDENCE_LOGICAL, PRECEDENCE_UNARY, Parser, Tall, arithmetic, right_of};
use crate::error::{ParseError, quote};
use crate::field::{ArithmeticOp, ComparisonOp};
use crate::intrinsic::Intrinsic;
use crate::literal::Static;
use crate::query::{
    AggregateFunction, MetricsExpr, Pipeline, Relation, ScalarExpr, SecondStage, SpansetExpr, SpansetOp, Stage,
    StructuralMode,
};
use crate::source::SourceRange;
use crate::suggest::{did_you_mean, nearest};
use crate::token::{Symbol, TokenKind};

pub(super) enum Operand {
    Spanset(SpansetExpr),
    Scalar(ScalarExpr),
    /// A comparison of two numbers; nothing can be joined to it.
    Filter {
        op: ComparisonOp,
        left: ScalarExpr,
        right: ScalarExpr,
        at: SourceRange,
    },
    Metrics(MetricsExpr),
}

impl Operand {
    fn at(&self) -> SourceRange {
        match self {
            Operand::Spanset(spanset) => spanset.at(),
            Operand::Scalar(scalar) => scalar.at(),
            Operand::Filter { at, .. } => *at,
            Operand::Metrics(metrics) => metrics.at(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Operand::Spanset(_) => "spans",
            Operand::Scalar(_) => "a number",
            Operand::Filter { .. } => "a comparison",
            Operand::Metrics(_) => "metrics",
        }
    }
}

impl Parser<'_> {
    pub(super) fn operand(&mut self, precedence_min: u8) -> Result<Tall<Operand>, ParseError> {
        self.enter()?;
        let mut left = self.operand_prefix()?;
        while let Some((symbol, precedence)) = self.peek_symbol().and_then(operator) {
            if precedence < precedence_min {
                break;
            }
            let operator_at = self.bump();
            let right = self.operand(right_of(precedence))?;
            let at = left.node.at().to(right.node.at());
            let height = self.above([left.height, right.height], at)?;
            left = Tall { node: combine(symbol, operator_at, left.node, right.node, at)?, height };
        }
        self.leave();
        Ok(left)
    }

    fn operand_prefix(&mut self) -> Result<Tall<Operand>, ParseError> {
        let start = self.at();
        if self.peek_symbol() != Some(Symbol::Minus) {
            return self.operand_primary();
        }
        if self.at_negative_number() {
            let value = self.literal("a number")?;
            return Ok(Tall::leaf(number_operand(value, start.to(self.last_at()))));
        }
        self.bump();
        let operand = self.operand(PRECEDENCE_UNARY)?;
        let at = start.to(operand.node.at());
        let height = self.above([operand.height], at)?;
        match operand.node {
            Operand::Scalar(scalar) => {
                Ok(Tall { node: Operand::Scalar(ScalarExpr::Negate { operand: Box::new(scalar), at }), height })
            }
            other => Err(ParseError::syntax(at, format!("`-` cannot be applied to {}", other.kind()))),
        }
    }

    fn operand_primary(&mut self) -> Result<Tall<Operand>, ParseError> {
        let start = self.at();
        match self.peek() {
            TokenKind::Symbol(Symbol::BraceOpen) => {
                let condition = self.braces()?;
                let at = start.to(self.last_at());
                let height = self.above([condition.height], at)?;
                let node = Operand::Spanset(SpansetExpr::Filter { condition: condition.node, at });
                Ok(Tall { node, height })
            }
            TokenKind::Symbol(Symbol::ParenOpen) => self.operand_parentheses(),
            TokenKind::Int(_) | TokenKind::Float(_) | TokenKind::Duration(_) => {
                let value = self.literal("a number")?;
                Ok(Tall::leaf(number_operand(value, start)))
            }
            TokenKind::Word(word) => match word.as_str() {
                "count" | "min" | "max" | "sum" | "avg" => self.aggregate(),
                "minInt" | "maxInt" => {
                    let value = self.literal("a number")?;
                    Ok(Tall::leaf(number_operand(value, start)))
                }
                _ => Err(self.no_operand()),
            },
            _ => Err(self.no_operand()),
        }
    }

    fn operand_parentheses(&mut self) -> Result<Tall<Operand>, ParseError> {
        let open = self.bump();
        let body = self.pipeline()?;
        if self.peek_symbol() != Some(Symbol::ParenClose) {
            return Err(self.after_pipeline("`|`, an operator or `)`"));
        }
        let close = self.bump();
        let at = open.to(close);
        let height = body.height;
        let node = match body.node {
            Body::Spans(mut pipeline) => match pipeline.stages.as_mut_slice() {
                // Parentheses around one spanset only group.
                [Stage::Spanset(_)] => match pipeline.stages.pop() {
                    Some(Stage::Spanset(spanset)) => return Ok(Tall { node: Operand::Spanset(spanset), height }),
                    _ => return Err(ParseError::syntax(at, "nothing in parentheses")),
                },
                _ => Operand::Spanset(SpansetExpr::Pipeline { pipeline, at }),
            },
            Body::Scalar { stages, scalar } if stages.is_empty() => {
                return Ok(Tall { node: Operand::Scalar(scalar), height });
            }
            Body::Scalar { stages, scalar } => {
                let scalar = Box::new(scalar);
                Operand::Scalar(ScalarExpr::Pipeline { pipeline: Pipeline { stages }, scalar, at })
            }
            Body::Metrics(metrics) => return Ok(Tall { node: Operand::Metrics(metrics), height }),
        };
        Ok(Tall { node, height: self.above([height], at)? })
    }

    fn aggregate(&mut self) -> Result<Tall<Operand>, ParseError> {
        let start = self.at();
        let name = self.peek_word().unwrap_or_default().to_owned();
        self.bump();
        if name == "count" {
            self.no_arguments()?;
            let at = start.to(self.last_at());
            return Ok(Tall::leaf(Operand::Scalar(ScalarExpr::Aggregate { function: AggregateFunction::Count, at })));
        }
        self.expect(Symbol::ParenOpen, "`(`")?;
        let field = self.field_expr_any()?;
        self.expect(Symbol::ParenClose, "an operator or `)`")?;
        let at = start.to(self.last_at());
        let height = self.above([field.height], at)?;
        let function = match name.as_str() {
            "min" => AggregateFunction::Min(field.node),
            "max" => AggregateFunction::Max(field.node),
            "sum" => AggregateFunction::Sum(field.node),
            _ => AggregateFunction::Avg(field.node),
        };
        Ok(Tall { node: Operand::Scalar(ScalarExpr::Aggregate { function, at }), height })
    }

    fn no_operand(&self) -> ParseError {
        let error = self.unexpected("`{`, `(`, an aggregate or a number");
        let is_field = match self.peek() {
            TokenKind::Attribute(_) | TokenKind::Intrinsic(_) | TokenKind::Unscoped(_) => true,
            TokenKind::Word(word) => Intrinsic::from_unscoped(word).is_some(),
            _ => false,
        };
        if is_field {
            return error.suggest("conditions on spans stand in braces: `{ duration > 2s }`");
        }
        match self.peek_word() {
            Some("topk" | "bottomk") => {
                error.suggest("it takes time series: put a function such as `rate()` before it")
            }
            Some(word) => {
                let functions = FUNCTIONS.iter().copied().chain(super::metrics::function_names());
                let suggestion = nearest(word, functions).map(did_you_mean);
                if suggestion.is_some() { error.suggest_option(suggestion) } else { error }
            }
            None => error,
        }
    }
}

const FUNCTIONS: [&str; 10] = ["count", "min", "max", "sum", "avg", "by", "coalesce", "select", "topk", "bottomk"];

/// Where a number stands that nothing is done with.
pub(super) fn uncompared(at: SourceRange) -> ParseError {
    ParseError::syntax(at, "a number by itself selects nothing").suggest("compare it, such as `count() > 2`")
}

fn number_operand(value: Static, at: SourceRange) -> Operand {
    Operand::Scalar(ScalarExpr::Literal { value, at })
}

fn operator(symbol: Symbol) -> Option<(Symbol, u8)> {
    if let Some((precedence, _)) = arithmetic(symbol) {
        return Some((symbol, precedence));
    }
    if comparison(symbol).is_some() || structural(symbol).is_some() {
        return Some((symbol, PRECEDENCE_COMPARE));
    }
    matches!(symbol, Symbol::And | Symbol::Or).then_some((symbol, PRECEDENCE_LOGICAL))
}

fn structural(symbol: Symbol) -> Option<SpansetOp> {
    use Relation::{Ancestor, Child, Descendant, Parent, Sibling};
    use StructuralMode::{NotRelated, Related, Union};
    let (relation, mode) = match symbol {
        Symbol::Greater => (Child, Related),
        Symbol::ShiftRight => (Descendant, Related),
        Symbol::Less => (Parent, Related),
        Symbol::ShiftLeft => (Ancestor, Related),
        Symbol::Tilde => (Sibling, Related),
        Symbol::NotGreater => (Child, NotRelated),
        Symbol::NotShiftRight => (Descendant, NotRelated),
        Symbol::NotLess => (Parent, NotRelated),
        Symbol::NotShiftLeft => (Ancestor, NotRelated),
        Symbol::NotTilde => (Sibling, NotRelated),
        Symbol::AndGreater => (Child, Union),
        Symbol::AndShiftRight => (Descendant, Union),
        Symbol::AndLess => (Parent, Union),
        Symbol::AndShiftLeft => (Ancestor, Union),
        Symbol::AndTilde => (Sibling, Union),
        _ => return None,
    };
    Some(SpansetOp::Structural { relation, mode })
}

fn combine(
    symbol: Symbol,
    operator_at: SourceRange,
    left: Operand,
    right: Operand,
    at: SourceRange,
) -> Result<Operand, ParseError> {
    let kinds = (left.kind(), right.kind());
    let combined = match (left, right) {
        (Operand::Spanset(left), Operand::Spanset(right)) => spanset_op(symbol)
            .map(|op| Operand::Spanset(SpansetExpr::Combine { op, left: Box::new(left), right: Box::new(right), at })),
        (Operand::Scalar(left), Operand::Scalar(right)) => combine_scalars(symbol, left, right, at),
        (Operand::Metrics(left), Operand::Metrics(right)) => combine_metrics(symbol, left, right, at),
        (Operand::Metrics(left), Operand::Scalar(scalar)) => match (ordering(symbol), folded(&scalar)) {
            (_, None) => None,
            (Some(op), Some(value)) => Some(Operand::Metrics(MetricsExpr::Then {
                input: Box::new(left),
                stage: SecondStage::Filter { op, value },
                at,
            })),
            (None, Some(value)) => combine_metrics(symbol, left, MetricsExpr::Literal { value, at: scalar.at() }, at),
        },
        (Operand::Scalar(scalar), Operand::Metrics(right)) => folded(&scalar)
            .and_then(|value| combine_metrics(symbol, MetricsExpr::Literal { value, at: scalar.at() }, right, at)),
        _ => None,
    };
    combined.ok_or_else(|| mismatch(symbol, operator_at, kinds))
}

/// What a number amounts to that no span has a part in: a literal, or plain numbers that are calculated with. Integers
/// divide as integers, as in Tempo.
pub(super) fn folded(scalar: &ScalarExpr) -> Option<Static> {
    match scalar {
        ScalarExpr::Literal { value, .. } => Some(value.clone()),
        ScalarExpr::Negate { operand, .. } => match folded(operand)? {
            Static::Int(value) => value.checked_neg().map(Static::Int),
            Static::Float(value) => Some(Static::Float(-value)),
            _ => None,
        },
        ScalarExpr::Arithmetic { op, left, right, .. } => match (folded(left)?, folded(right)?) {
            (Static::Int(left), Static::Int(right)) => op.of_ints(left, right).map(Static::Int),
            (left, right) => {
                let result = op.of_floats(plain_number(&left)?, plain_number(&right)?);
                result.is_finite().then_some(Static::Float(result))
            }
        },
        ScalarExpr::Aggregate { .. } | ScalarExpr::Pipeline { .. } => None,
    }
}

fn plain_number(value: &Static) -> Option<f64> {
    match value {
        Static::Int(value) => Some(*value as f64),
        Static::Float(value) => Some(*value),
        _ => None,
    }
}

fn spanset_op(symbol: Symbol) -> Option<SpansetOp> {
    match symbol {
        Symbol::And => Some(SpansetOp::And),
        Symbol::Or => Some(SpansetOp::Or),
        _ => structural(symbol),
    }
}

fn combine_scalars(symbol: Symbol, left: ScalarExpr, right: ScalarExpr, at: SourceRange) -> Option<Operand> {
    if let Some((_, op)) = arithmetic(symbol) {
        let (left, right) = (Box::new(left), Box::new(right));
        return Some(Operand::Scalar(ScalarExpr::Arithmetic { op, left, right, at }));
    }
    ordering(symbol).map(|op| Operand::Filter { op, left, right, at })
}

fn combine_metrics(symbol: Symbol, left: MetricsExpr, right: MetricsExpr, at: SourceRange) -> Option<Operand> {
    let (_, op) = arithmetic(symbol)?;
    if matches!(op, ArithmeticOp::Modulo | ArithmeticOp::Power) {
        return None;
    }
    Some(Operand::Metrics(MetricsExpr::Arithmetic { op, left: Box::new(left), right: Box::new(right), at }))
}

/// The comparisons that numbers know.
pub(super) fn ordering(symbol: Symbol) -> Option<ComparisonOp> {
    comparison(symbol).filter(|op| !op.is_pattern())
}

fn mismatch(symbol: Symbol, at: SourceRange, (left, right): (&str, &str)) -> ParseError {
    let spelling = symbol.spelling();
    let error =
        ParseError::syntax(at, format!("{} cannot stand between {left} and {right}", quote(spelling))).found(spelling);
    match (left, right) {
        ("a comparison", _) | (_, "a comparison") => {
            error.suggest("use a stage for each comparison: `| count() > 1 | avg(duration) > 2s`")
        }
        ("metrics", "metrics") if ordering(symbol).is_some() => error.suggest("metrics can be compared with a number"),
        ("a number", "metrics") if ordering(symbol).is_some() => error.suggest("put the metrics query on the left"),
        ("metrics", "a number") | ("a number", "metrics") => {
            error.suggest("metrics go with plain numbers and `+`, `-`, `*`, `/` or a comparison")
        }
        ("spans", "a number") | ("a number", "spans") => {
            error.suggest("compare an aggregate with the number: `{ } | count() > 2`")
        }
        _ => error,
    }
}
