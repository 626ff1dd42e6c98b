//! What stands between braces, and field lists.

use super::{
    PRECEDENCE_ANY, PRECEDENCE_COMPARE, PRECEDENCE_LOGICAL, PRECEDENCE_UNARY, Parser, Tall, arithmetic, right_of,
};
use crate::error::{ParseError, quote};
use crate::field::{ArithmeticOp, ComparisonOp, FieldExpr, LogicalOp};
use crate::intrinsic::Intrinsic;
use crate::literal::Static;
use crate::suggest::{did_you_mean, nearest};
use crate::token::{Symbol, TokenKind};

#[derive(Clone, Copy)]
enum FieldOp {
    Logical(LogicalOp),
    Compare(ComparisonOp),
    Arithmetic(ArithmeticOp),
}

impl Parser<'_> {
    /// `{ … }` without the closing of the outer construct: the condition between braces, if there is one.
    pub(super) fn braces(&mut self) -> Result<Tall<Option<FieldExpr>>, ParseError> {
        self.expect(Symbol::BraceOpen, "`{`")?;
        if self.eat(Symbol::BraceClose) {
            return Ok(Tall::leaf(None));
        }
        let condition = self.field_expr(PRECEDENCE_ANY)?;
        if self.peek_symbol() != Some(Symbol::BraceClose) {
            return Err(self.after_field("an operator or `}`"));
        }
        self.bump();
        Ok(condition.map(Some))
    }

    pub(super) fn field_expr_any(&mut self) -> Result<Tall<FieldExpr>, ParseError> {
        self.field_expr(PRECEDENCE_ANY)
    }

    fn field_expr(&mut self, precedence_min: u8) -> Result<Tall<FieldExpr>, ParseError> {
        self.enter()?;
        let mut left = self.field_prefix()?;
        while let Some((precedence, op)) = self.peek_symbol().and_then(operator) {
            if precedence < precedence_min {
                break;
            }
            self.bump();
            let right = self.field_expr(right_of(precedence))?;
            left = self.join(op, left, right)?;
        }
        self.leave();
        Ok(left)
    }

    fn join(&self, op: FieldOp, left: Tall<FieldExpr>, right: Tall<FieldExpr>) -> Result<Tall<FieldExpr>, ParseError> {
        let at = left.node.at().to(right.node.at());
        let below = |side: &Tall<FieldExpr>| match (&side.node, op) {
            // A chain of one operator is one node: its height does not grow with its length.
            (FieldExpr::Logical { op: inner, .. }, FieldOp::Logical(outer)) if *inner == outer => side.height - 1,
            _ => side.height,
        };
        let height = self.above([below(&left), below(&right)], at)?;
        let (left, right) = (left.node, right.node);
        let node = match op {
            FieldOp::Logical(op) => FieldExpr::logical(op, left, right),
            FieldOp::Compare(op) => FieldExpr::Compare { op, left: Box::new(left), right: Box::new(right), at },
            FieldOp::Arithmetic(op) => FieldExpr::Arithmetic { op, left: Box::new(left), right: Box::new(right), at },
        };
        Ok(Tall { node, height })
    }

    fn field_prefix(&mut self) -> Result<Tall<FieldExpr>, ParseError> {
        let start = self.at();
        match self.peek_symbol() {
            Some(Symbol::Minus) if self.at_negative_number() => {
                let value = self.literal("a number")?;
                Ok(Tall::leaf(FieldExpr::Literal { value, at: start.to(self.last_at()) }))
            }
            Some(sign @ (Symbol::Minus | Symbol::Not)) => {
                self.bump();
                let operand = self.field_expr(PRECEDENCE_UNARY)?;
                let at = start.to(operand.node.at());
                let height = self.above([operand.height], at)?;
                let operand = Box::new(operand.node);
                let node = match sign {
                    Symbol::Not => FieldExpr::Not { operand, at },
                    _ => FieldExpr::Negate { operand, at },
                };
                Ok(Tall { node, height })
            }
            _ => self.field_primary(),
        }
    }

    fn field_primary(&mut self) -> Result<Tall<FieldExpr>, ParseError> {
        let at = self.at();
        let node = match self.peek() {
            TokenKind::Attribute(attribute) => FieldExpr::Attribute { attribute: attribute.clone(), at },
            TokenKind::Intrinsic(intrinsic) => FieldExpr::Intrinsic { intrinsic: *intrinsic, at },
            TokenKind::Word(word) => match Intrinsic::from_unscoped(word) {
                Some(intrinsic) => FieldExpr::Intrinsic { intrinsic, at },
                None => match Static::from_word(word) {
                    Some(value) => FieldExpr::Literal { value, at },
                    None => return Err(self.unknown_word(word)),
                },
            },
            TokenKind::Symbol(Symbol::ParenOpen) => return self.field_parentheses(),
            TokenKind::Symbol(Symbol::BracketOpen) => return self.array(),
            _ => {
                let value = self.literal("an attribute, an intrinsic or a value")?;
                return Ok(Tall::leaf(FieldExpr::Literal { value, at }));
            }
        };
        self.bump();
        Ok(Tall::leaf(node))
    }

    fn field_parentheses(&mut self) -> Result<Tall<FieldExpr>, ParseError> {
        let open = self.bump();
        let inner = self.field_expr(PRECEDENCE_ANY)?;
        if self.peek_symbol() != Some(Symbol::ParenClose) {
            return Err(self.after_field("an operator or `)`"));
        }
        let close = self.bump();
        Ok(inner.map(|node| node.with_range(open.to(close))))
    }

    fn array(&mut self) -> Result<Tall<FieldExpr>, ParseError> {
        let open = self.bump();
        let mut elements = Vec::new();
        loop {
            let at = self.at();
            if self.peek_symbol() == Some(Symbol::BracketOpen) {
                return Err(ParseError::syntax(at, "an array inside an array").found("["));
            }
            let element = self.literal("a value")?;
            if element == Static::Nil {
                return Err(ParseError::syntax(at, "`nil` inside an array")
                    .found("nil")
                    .suggest("test for absence with a comparison of its own: `… = nil`"));
            }
            elements.push(element);
            if !self.eat(Symbol::Comma) {
                break;
            }
        }
        let close = self.expect(Symbol::BracketClose, "`,` or `]`")?;
        Ok(Tall::leaf(FieldExpr::Literal { value: Static::Array(elements), at: open.to(close) }))
    }

    /// An attribute or intrinsic and nothing more.
    pub(super) fn plain_field(&mut self, whose: &str) -> Result<FieldExpr, ParseError> {
        let field = self.field_primary()?.node;
        if field.is_field() {
            return Ok(field);
        }
        let problem = format!("{whose} takes an attribute or an intrinsic, nothing computed");
        Err(ParseError::syntax(field.at(), problem).found(&self.source[field.at().bytes()]))
    }

    /// `(field, …)`
    pub(super) fn field_list(&mut self, whose: &str) -> Result<Vec<FieldExpr>, ParseError> {
        self.expect(Symbol::ParenOpen, "`(`")?;
        let mut fields = vec![self.plain_field(whose)?];
        while self.eat(Symbol::Comma) {
            fields.push(self.plain_field(whose)?);
        }
        self.expect(Symbol::ParenClose, "`,` or `)` after a field")?;
        Ok(fields)
    }

    /// Where a field expression ended and something stands that cannot follow it.
    fn after_field(&self, expected: &str) -> ParseError {
        let error = self.unexpected(expected);
        match self.peek_symbol() {
            Some(
                symbol @ (Symbol::ShiftLeft
                | Symbol::ShiftRight
                | Symbol::Tilde
                | Symbol::NotGreater
                | Symbol::NotShiftRight
                | Symbol::NotLess
                | Symbol::NotShiftLeft
                | Symbol::AndGreater
                | Symbol::AndShiftRight
                | Symbol::AndLess
                | Symbol::AndShiftLeft
                | Symbol::AndTilde),
            ) => {
                error.suggest(format!("this operator stands between spansets: `{{ … }} {} {{ … }}`", symbol.spelling()))
            }
            Some(Symbol::Pipe) => error.suggest("close the braces first; or write `||` for or"),
            _ => error,
        }
    }

    fn unknown_word(&self, word: &str) -> ParseError {
        let error = ParseError::syntax(self.at(), format!("unknown word {}", quote(word))).found(word);
        if super::habit(word).is_some() {
            return self.unexpected("an attribute, an intrinsic or a value");
        }
        let known = Intrinsic::unscoped_names().chain(Static::words());
        let suggestion = match nearest(word, known) {
            Some(name) => did_you_mean(name),
            None => format!("write `.{word}` for an attribute or \"{word}\" for a string"),
        };
        error.expected("an attribute, an intrinsic or a value").suggest(suggestion)
    }
}

fn operator(symbol: Symbol) -> Option<(u8, FieldOp)> {
    if let Some((precedence, op)) = arithmetic(symbol) {
        return Some((precedence, FieldOp::Arithmetic(op)));
    }
    if let Some(op) = comparison(symbol) {
        return Some((PRECEDENCE_COMPARE, FieldOp::Compare(op)));
    }
    match symbol {
        Symbol::And => Some((PRECEDENCE_LOGICAL, FieldOp::Logical(LogicalOp::And))),
        Symbol::Or => Some((PRECEDENCE_LOGICAL, FieldOp::Logical(LogicalOp::Or))),
        _ => None,
    }
}

pub(super) fn comparison(symbol: Symbol) -> Option<ComparisonOp> {
    Some(match symbol {
        Symbol::Equal => ComparisonOp::Equal,
        Symbol::NotEqual => ComparisonOp::NotEqual,
        Symbol::Less => ComparisonOp::Less,
        Symbol::LessEqual => ComparisonOp::LessEqual,
        Symbol::Greater => ComparisonOp::Greater,
        Symbol::GreaterEqual => ComparisonOp::GreaterEqual,
        Symbol::Matches => ComparisonOp::Matches,
        Symbol::NotTilde => ComparisonOp::NotMatches,
        _ => return None,
    })
}
