//! Text to tokens.
//!
//! The one peculiarity of TraceQL is the attribute name: after a scope and a dot everything up to white space or one
//! of ``{ } ( ) , = ! ~ < > & | ^`` belongs to the name, so `span.is-from/foo*2` is a single attribute. Double quotes
//! open and close verbatim stretches inside it (`span.db."the statement"`).

mod number;
mod text;

use crate::error::{ParseError, quote};
use crate::field::{Attribute, AttributeScope};
use crate::intrinsic::Intrinsic;
use crate::source::SourceRange;
use crate::suggest::{did_you_mean, nearest};
use crate::token::{Symbol, Token, TokenKind};

/// Scopes that stand before a colon.
const INTRINSIC_SCOPES: [&str; 5] = ["span", "trace", "event", "link", "instrumentation"];

/// The tokens of a query, ending with [`TokenKind::End`].
pub(crate) fn tokenize(source: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer { source, position: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next_token()?;
        let ended = token.kind == TokenKind::End;
        tokens.push(token);
        if ended {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    /// Byte offset of what comes next; always on a character boundary.
    position: usize,
}

impl<'a> Lexer<'a> {
    fn next_token(&mut self) -> Result<Token, ParseError> {
        self.skip_blanks()?;
        let start = self.position;
        let kind = match self.peek() {
            None => TokenKind::End,
            Some('"') => TokenKind::String(self.quoted_string()?),
            Some('`') => TokenKind::String(self.raw_string()?),
            Some('\'') => return Err(self.single_quoted()),
            Some('0'..='9') => self.number()?,
            Some('.') if self.peek_at(1).is_some_and(|digit| digit.is_ascii_digit()) => self.number()?,
            Some('.') => {
                self.bump();
                TokenKind::Attribute(self.attribute(false, AttributeScope::Any, start)?)
            }
            Some(letter) if is_word_start(letter) => self.word()?,
            Some(_) => TokenKind::Symbol(self.symbol()?),
        };
        Ok(Token { kind, at: self.since(start) })
    }

    fn skip_blanks(&mut self) -> Result<(), ParseError> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.position += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.position += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if let Some(comment) = trimmed.strip_prefix("/*") {
                let Some(length) = comment.find("*/") else {
                    let at = SourceRange::new(self.position, self.position + 2);
                    return Err(ParseError::syntax(at, "a comment is never closed").suggest("end it with `*/`"));
                };
                self.position += length + 4;
            } else {
                return Ok(());
            }
        }
    }

    fn symbol(&mut self) -> Result<Symbol, ParseError> {
        let start = self.position;
        let rest = self.rest();
        if let Some((spelling, symbol)) = Symbol::SPELLINGS.iter().find(|row| rest.starts_with(row.0)) {
            self.position += spelling.len();
            return Ok(*symbol);
        }
        self.bump();
        let found = &self.source[start..self.position];
        let error =
            ParseError::syntax(self.since(start), format!("unexpected character {}", quote(found))).found(found);
        Err(if found == "&" { error.suggest("`&&` is TraceQL's and") } else { error })
    }

    /// A word, or what a word begins: an attribute (`span.…`) or an intrinsic (`span:…`).
    fn word(&mut self) -> Result<TokenKind, ParseError> {
        let start = self.position;
        let word = self.take_while(is_word_part);
        match self.peek() {
            Some('.') => {
                self.bump();
                self.dotted(word, start)
            }
            Some(':') => {
                self.bump();
                self.scoped_intrinsic(word, start)
            }
            _ => Ok(TokenKind::Word(word.to_owned())),
        }
    }

    fn dotted(&mut self, scope: &str, start: usize) -> Result<TokenKind, ParseError> {
        if scope == "parent" {
            let inner = AttributeScope::NAMED
                .into_iter()
                .find(|inner| self.rest().strip_prefix(inner.prefix()).is_some_and(|after| after.starts_with('.')));
            if let Some(inner) = inner {
                self.position += inner.prefix().len() + 1;
            }
            let scope = inner.unwrap_or(AttributeScope::Any);
            return Ok(TokenKind::Attribute(self.attribute(true, scope, start)?));
        }
        if let Some(scope) = AttributeScope::from_prefix(scope) {
            return Ok(TokenKind::Attribute(self.attribute(false, scope, start)?));
        }
        let name = self.attribute_name(start)?;
        Ok(TokenKind::Unscoped(format!("{scope}.{name}")))
    }

    fn attribute(&mut self, of_parent: bool, scope: AttributeScope, start: usize) -> Result<Attribute, ParseError> {
        let name = self.attribute_name(start)?;
        if name.is_empty() {
            return Err(ParseError::syntax(self.since(start), "an attribute has no name")
                .found(&self.source[start..self.position])
                .suggest("write the name right after the dot, such as `.http.route`"));
        }
        Ok(Attribute { of_parent, scope, name })
    }

    fn attribute_name(&mut self, start: usize) -> Result<String, ParseError> {
        let mut name = String::new();
        while let Some(character) = self.peek() {
            if character == '"' {
                self.quoted_name_part(&mut name, start)?;
            } else if is_attribute_part(character) {
                name.push(character);
                self.bump();
            } else {
                break;
            }
        }
        Ok(name)
    }

    fn quoted_name_part(&mut self, name: &mut String, start: usize) -> Result<(), ParseError> {
        self.bump();
        loop {
            let part_start = self.position;
            match self.bump() {
                None => break,
                Some('"') => return Ok(()),
                Some('\\') => match self.bump() {
                    Some(escaped @ ('"' | '\\')) => name.push(escaped),
                    _ => {
                        return Err(ParseError::syntax(
                            self.since(part_start),
                            "unknown escape in a quoted attribute name",
                        )
                        .found(&self.source[part_start..self.position])
                        .suggest("only `\\\"` and `\\\\` are escapes here"));
                    }
                },
                Some(plain) => name.push(plain),
            }
        }
        Err(ParseError::syntax(self.since(start), "a quoted attribute name is never closed")
            .suggest("end it with `\"`"))
    }

    fn scoped_intrinsic(&mut self, scope: &str, start: usize) -> Result<TokenKind, ParseError> {
        self.take_while(is_word_part);
        let name = &self.source[start..self.position];
        if let Some(intrinsic) = Intrinsic::from_scoped(name) {
            return Ok(TokenKind::Intrinsic(intrinsic));
        }
        Err(ParseError::syntax(self.since(start), format!("unknown intrinsic {}", quote(name)))
            .found(name)
            .suggest(intrinsic_for(scope, &name[scope.len() + 1..])))
    }

    fn rest(&self) -> &'a str {
        &self.source[self.position..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn peek_at(&self, ahead: usize) -> Option<char> {
        self.rest().chars().nth(ahead)
    }

    fn bump(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.position += character.len_utf8();
        Some(character)
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|character| !belongs(character)).unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    fn since(&self, start: usize) -> SourceRange {
        SourceRange::new(start, self.position)
    }
}

/// What was probably meant by a scope and member that are no intrinsic.
fn intrinsic_for(scope: &str, member: &str) -> String {
    let in_scope = |full: &&'static str| full.split(':').next() == Some(scope);
    if !INTRINSIC_SCOPES.contains(&scope) {
        return match nearest(&format!("{scope}:{member}"), Intrinsic::scoped_names()) {
            Some(name) => did_you_mean(name),
            None if scope == "resource" => "resources have only attributes: write `resource.` with a dot".to_owned(),
            None => format!("before the colon stands one of {}", quoted_list(INTRINSIC_SCOPES.into_iter())),
        };
    }
    let members = || Intrinsic::scoped_names().filter(in_scope).filter_map(|full| full.split(':').nth(1));
    let begun = || members().find(|known| !member.is_empty() && known.starts_with(member));
    match nearest(member, members()).or_else(begun) {
        Some(known) => did_you_mean(&format!("{scope}:{known}")),
        None => format!("there are {}", quoted_list(Intrinsic::scoped_names().filter(in_scope))),
    }
}

fn quoted_list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn is_word_start(character: char) -> bool {
    character.is_alphabetic() || character == '_'
}

fn is_word_part(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether a bare name of an attribute may have it.
pub(crate) fn is_attribute_part(character: char) -> bool {
    !character.is_whitespace()
        && !matches!(character, '{' | '}' | '(' | ')' | ',' | '=' | '!' | '~' | '<' | '>' | '&' | '|' | '^')
}
