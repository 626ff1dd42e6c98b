//! Tokens to tree: a recursive-descent parser with operator precedence.
//!
//! From loosest to tightest: `|`, then `&&` and `||` (one level, left to right, as in Tempo), then comparisons and
//! structural operators, `+ -`, `* / %`, unary `!` and `-`, and `^` (right-associative). The same table serves the
//! inside of braces ([`field`]) and what stands around them ([`operand`]).

mod field;
mod metrics;
mod operand;
mod pipeline;

use crate::error::{ErrorKind, ParseError, quote};
use crate::field::{ArithmeticOp, AttributeScope};
use crate::lexer::tokenize;
use crate::literal::Static;
use crate::query::{Hint, Query, QueryExpr};
use crate::source::SourceRange;
use crate::suggest::{did_you_mean, nearest};
use crate::token::{Symbol, Token, TokenKind};
use crate::{DEPTH_MAX, QUERY_BYTES_MAX};
use pipeline::Body;

/// Recursion of the parser itself. A tree of `DEPTH_MAX` levels is printed with at most a bracket, a sign and a right
/// operand per level, so whatever was parsed can be printed and parsed again.
const RECURSION_MAX: usize = 4 * DEPTH_MAX;

const PRECEDENCE_ANY: u8 = 0;
const PRECEDENCE_LOGICAL: u8 = 1;
const PRECEDENCE_COMPARE: u8 = 2;
const PRECEDENCE_SUM: u8 = 3;
const PRECEDENCE_PRODUCT: u8 = 4;
const PRECEDENCE_UNARY: u8 = 5;
const PRECEDENCE_POWER: u8 = 6;

/// Reads a query. It may still be meaningless: [`validate`](crate::validate) finds that out.
pub fn parse(source: &str) -> Result<Query, ParseError> {
    if source.len() > QUERY_BYTES_MAX {
        let problem = format!("the query has {} bytes, the limit is {QUERY_BYTES_MAX}", source.len());
        return Err(ParseError::new(ErrorKind::Limit, SourceRange::default(), problem));
    }
    let tokens = tokenize(source)?;
    Parser { source, tokens, next: 0, recursion: 0 }.query()
}

struct Parser<'a> {
    source: &'a str,
    /// Ends with `TokenKind::End`, which is never consumed.
    tokens: Vec<Token>,
    next: usize,
    recursion: usize,
}

/// A node and how many levels it has, so that no tree becomes too deep to walk recursively.
struct Tall<T> {
    node: T,
    height: usize,
}

impl<T> Tall<T> {
    fn leaf(node: T) -> Self {
        Tall { node, height: 1 }
    }

    fn map<U>(self, change: impl FnOnce(T) -> U) -> Tall<U> {
        Tall { node: change(self.node), height: self.height }
    }
}

impl Parser<'_> {
    fn query(mut self) -> Result<Query, ParseError> {
        if *self.peek() == TokenKind::End {
            return Err(ParseError::syntax(self.at(), "the query is empty").suggest("`{ }` selects every span"));
        }
        let body = self.pipeline()?.node;
        let mut hints = Vec::new();
        while self.peek_word() == Some("with") {
            hints.extend(self.hints()?);
        }
        if *self.peek() != TokenKind::End {
            return Err(if hints.is_empty() {
                self.after_pipeline("`|`, an operator or the end of the query")
            } else {
                self.unexpected("the end of the query after the hints")
            });
        }
        let expr = match body {
            Body::Spans(pipeline) => QueryExpr::Spans(pipeline),
            Body::Metrics(metrics) => QueryExpr::Metrics(metrics),
            Body::Scalar { scalar, .. } => return Err(operand::uncompared(scalar.at())),
        };
        Ok(Query { expr, hints })
    }

    fn hints(&mut self) -> Result<Vec<Hint>, ParseError> {
        self.bump();
        self.expect(Symbol::ParenOpen, "`(` after `with`")?;
        let mut hints = Vec::new();
        loop {
            let start = self.at();
            let TokenKind::Word(key) = self.peek().clone() else {
                return Err(self.unexpected("the name of a hint"));
            };
            self.bump();
            self.expect(Symbol::Equal, "`=` after the name of the hint")?;
            let value = self.literal("a value for the hint")?;
            hints.push(Hint { key, value, at: start.to(self.last_at()) });
            if !self.eat(Symbol::Comma) {
                break;
            }
        }
        self.expect(Symbol::ParenClose, "`,` or `)` after a hint")?;
        Ok(hints)
    }

    /// Where an operator or the end was expected after a complete pipeline.
    fn after_pipeline(&self, expected: &str) -> ParseError {
        let error = self.unexpected(expected);
        match self.peek() {
            TokenKind::Symbol(Symbol::Plus | Symbol::Minus | Symbol::Star | Symbol::Slash) => {
                error.suggest("arithmetic takes metrics queries in parentheses: `({ } | rate()) / ({ } | rate())`")
            }
            TokenKind::Word(word) if word == "with" => error.suggest("hints stand at the very end of the query"),
            TokenKind::Word(word) if word == "by" => {
                error.suggest("grouping is a stage of its own, before the aggregate: `| by(…) | count() > 1`")
            }
            _ => error,
        }
    }

    /// A literal with an optional minus, but no array.
    fn literal(&mut self, expected: &str) -> Result<Static, ParseError> {
        let negative = self.eat(Symbol::Minus);
        if let Some(number) = self.number(negative)? {
            return Ok(number);
        }
        let literal = match self.peek() {
            TokenKind::String(text) if !negative => Some(Static::String(text.clone())),
            TokenKind::Word(word) if !negative => Static::from_word(word),
            _ => None,
        };
        match literal {
            Some(value) => {
                self.bump();
                Ok(value)
            }
            None => Err(self.unexpected(if negative { "a number after `-`" } else { expected })),
        }
    }

    /// The number that comes next, if one does.
    fn number(&mut self, negative: bool) -> Result<Option<Static>, ParseError> {
        let at = self.at();
        let signed = |magnitude: u64| {
            let value = if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
            value.ok_or_else(|| {
                let found = &self.source[at.bytes()];
                ParseError::syntax(at, format!("{} does not fit in 64 bits", quote(found))).found(found)
            })
        };
        let number = match self.peek() {
            TokenKind::Int(magnitude) => Static::Int(signed(*magnitude)?),
            TokenKind::Duration(nanos) => Static::Duration(signed(*nanos)?),
            TokenKind::Float(value) => Static::Float(if negative { -value } else { *value }),
            _ => return Ok(None),
        };
        self.bump();
        Ok(Some(number))
    }

    /// Whether a minus stands before a number it belongs to; `-2 ^ 2` is the negation of a power instead.
    fn at_negative_number(&self) -> bool {
        let kind = |ahead: usize| self.tokens.get(self.next + ahead).map(|token| &token.kind);
        kind(0) == Some(&TokenKind::Symbol(Symbol::Minus))
            && matches!(kind(1), Some(TokenKind::Int(_) | TokenKind::Float(_) | TokenKind::Duration(_)))
            && kind(2) != Some(&TokenKind::Symbol(Symbol::Caret))
    }

    /// The level above nodes of these heights.
    fn above(&self, heights: impl IntoIterator<Item = usize>, at: SourceRange) -> Result<usize, ParseError> {
        let height = heights.into_iter().max().unwrap_or(0) + 1;
        if height > DEPTH_MAX { Err(too_deep(at)) } else { Ok(height) }
    }

    fn enter(&mut self) -> Result<(), ParseError> {
        self.recursion += 1;
        if self.recursion > RECURSION_MAX { Err(too_deep(self.at())) } else { Ok(()) }
    }

    /// An error abandons the parse, so only success needs to leave.
    fn leave(&mut self) {
        self.recursion -= 1;
    }

    fn peek(&self) -> &TokenKind {
        &self.token().kind
    }

    fn at(&self) -> SourceRange {
        self.token().at
    }

    /// Where the token before the current one stands.
    fn last_at(&self) -> SourceRange {
        self.tokens[self.next.saturating_sub(1)].at
    }

    fn token(&self) -> &Token {
        self.tokens.get(self.next).or(self.tokens.last()).expect("the lexer always gives an end token")
    }

    fn peek_word(&self) -> Option<&str> {
        match self.peek() {
            TokenKind::Word(word) => Some(word),
            _ => None,
        }
    }

    fn peek_symbol(&self) -> Option<Symbol> {
        match self.peek() {
            TokenKind::Symbol(symbol) => Some(*symbol),
            _ => None,
        }
    }

    fn bump(&mut self) -> SourceRange {
        let at = self.at();
        if *self.peek() != TokenKind::End {
            self.next += 1;
        }
        at
    }

    fn eat(&mut self, symbol: Symbol) -> bool {
        let found = self.peek_symbol() == Some(symbol);
        if found {
            self.bump();
        }
        found
    }

    fn expect(&mut self, symbol: Symbol, expected: &str) -> Result<SourceRange, ParseError> {
        if self.peek_symbol() == Some(symbol) { Ok(self.bump()) } else { Err(self.unexpected(expected)) }
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        let at = self.at();
        let found = &self.source[at.bytes()];
        let error = match self.peek() {
            TokenKind::End => return ParseError::syntax(at, "the query ends too early").expected(expected),
            TokenKind::Unscoped(name) => ParseError::syntax(at, format!("the attribute {} has no scope", quote(name)))
                .suggest_option(Some(scope_for(name))),
            TokenKind::Word(word) => ParseError::syntax(at, format!("unexpected {}", quote(found)))
                .expected(expected)
                .suggest_option(habit(word).map(str::to_owned)),
            TokenKind::Symbol(Symbol::Equal) => ParseError::syntax(at, "unexpected `=`")
                .expected(expected)
                .suggest_option(self.doubled_equal().then(|| "equality is a single `=`".to_owned())),
            _ => ParseError::syntax(at, format!("unexpected {}", quote(found))).expected(expected),
        };
        error.found(found)
    }

    fn doubled_equal(&self) -> bool {
        let before = self.next.checked_sub(1).and_then(|index| self.tokens.get(index));
        before.is_some_and(|token| token.kind == TokenKind::Symbol(Symbol::Equal))
    }
}

fn arithmetic(symbol: Symbol) -> Option<(u8, ArithmeticOp)> {
    Some(match symbol {
        Symbol::Plus => (PRECEDENCE_SUM, ArithmeticOp::Add),
        Symbol::Minus => (PRECEDENCE_SUM, ArithmeticOp::Subtract),
        Symbol::Star => (PRECEDENCE_PRODUCT, ArithmeticOp::Multiply),
        Symbol::Slash => (PRECEDENCE_PRODUCT, ArithmeticOp::Divide),
        Symbol::Percent => (PRECEDENCE_PRODUCT, ArithmeticOp::Modulo),
        Symbol::Caret => (PRECEDENCE_POWER, ArithmeticOp::Power),
        _ => return None,
    })
}

/// The least precedence an operator needs to belong to the right operand of one of this precedence.
fn right_of(precedence: u8) -> u8 {
    if precedence == PRECEDENCE_POWER { precedence } else { precedence + 1 }
}

fn too_deep(at: SourceRange) -> ParseError {
    ParseError::new(ErrorKind::Limit, at, format!("the query is nested deeper than {DEPTH_MAX} levels"))
}

/// Words people bring from other languages.
fn habit(word: &str) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_str() {
        "and" => Some("write `&&`"),
        "or" => Some("write `||`"),
        "not" => Some("write `!`"),
        "in" => Some("write `= [\"a\", \"b\"]`"),
        "like" | "contains" => Some("write `=~ \".*text.*\"`"),
        "null" | "none" => Some("write `nil`"),
        _ => None,
    }
}

fn scope_for(name: &str) -> String {
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    let scopes = AttributeScope::NAMED.map(AttributeScope::prefix);
    if let Some(scope) = nearest(first, scopes.into_iter().chain(["parent"])) {
        return did_you_mean(&format!("{scope}.{rest}"));
    }
    match first {
        "trace" => "traces have only intrinsics, such as `trace:duration`".to_owned(),
        "service" | "telemetry" | "host" | "k8s" | "process" | "container" | "cloud" | "deployment" => {
            did_you_mean(&format!("resource.{name}"))
        }
        _ => format!("write `.{name}`, or `span.{name}` to look at spans only"),
    }
}
