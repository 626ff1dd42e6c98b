//! What the lexer gives the parser.

use crate::field::Attribute;
use crate::intrinsic::Intrinsic;
use crate::source::SourceRange;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub kind: TokenKind,
    pub at: SourceRange,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind {
    /// Magnitude; a minus before it is the parser's business, which is how `-9223372036854775808` can be read.
    Int(u64),
    Float(f64),
    /// Magnitude in nanoseconds.
    Duration(u64),
    String(String),
    /// A bare word: keyword, function, unscoped intrinsic, hint key.
    Word(String),
    /// `http.method`: a dotted name whose first part is no scope. Always an error, reported by the parser.
    Unscoped(String),
    Attribute(Attribute),
    /// `span:duration`; bare `duration` is a `Word`.
    Intrinsic(Intrinsic),
    Symbol(Symbol),
    End,
}

/// Operators and brackets. Which of them mean something depends on where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Symbol {
    BraceOpen,
    BraceClose,
    ParenOpen,
    ParenClose,
    BracketOpen,
    BracketClose,
    Comma,
    Pipe,
    And,
    Or,
    Not,
    Equal,
    NotEqual,
    Matches,
    /// `!~`: "does not match" between fields, "is no sibling" between spansets.
    NotTilde,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    Caret,
    Tilde,
    ShiftRight,
    ShiftLeft,
    NotGreater,
    NotShiftRight,
    NotLess,
    NotShiftLeft,
    AndGreater,
    AndShiftRight,
    AndLess,
    AndShiftLeft,
    AndTilde,
}

impl Symbol {
    /// Longer spellings come before their prefixes, so the first match is the longest.
    pub(crate) const SPELLINGS: &[(&'static str, Symbol)] = &[
        ("!>>", Symbol::NotShiftRight),
        ("!<<", Symbol::NotShiftLeft),
        ("&>>", Symbol::AndShiftRight),
        ("&<<", Symbol::AndShiftLeft),
        ("!>", Symbol::NotGreater),
        ("!<", Symbol::NotLess),
        ("!=", Symbol::NotEqual),
        ("!~", Symbol::NotTilde),
        ("&&", Symbol::And),
        ("&>", Symbol::AndGreater),
        ("&<", Symbol::AndLess),
        ("&~", Symbol::AndTilde),
        ("||", Symbol::Or),
        ("=~", Symbol::Matches),
        ("<=", Symbol::LessEqual),
        (">=", Symbol::GreaterEqual),
        ("<<", Symbol::ShiftLeft),
        (">>", Symbol::ShiftRight),
        ("{", Symbol::BraceOpen),
        ("}", Symbol::BraceClose),
        ("(", Symbol::ParenOpen),
        (")", Symbol::ParenClose),
        ("[", Symbol::BracketOpen),
        ("]", Symbol::BracketClose),
        (",", Symbol::Comma),
        ("|", Symbol::Pipe),
        ("!", Symbol::Not),
        ("=", Symbol::Equal),
        ("<", Symbol::Less),
        (">", Symbol::Greater),
        ("+", Symbol::Plus),
        ("-", Symbol::Minus),
        ("*", Symbol::Star),
        ("/", Symbol::Slash),
        ("%", Symbol::Percent),
        ("^", Symbol::Caret),
        ("~", Symbol::Tilde),
    ];

    pub(crate) fn spelling(self) -> &'static str {
        Self::SPELLINGS.iter().find(|row| row.1 == self).map_or("", |row| row.0)
    }
}
