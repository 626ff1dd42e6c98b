//! String literals: `"…"` with the escapes of Go, and `` `…` `` without any.

use super::Lexer;
use crate::error::ParseError;

impl Lexer<'_> {
    pub(super) fn raw_string(&mut self) -> Result<String, ParseError> {
        let start = self.position;
        self.bump();
        let text = self.take_while(|character| character != '`').to_owned();
        match self.bump() {
            Some(_) => Ok(text),
            None => Err(self.never_closed(start, '`')),
        }
    }

    pub(super) fn quoted_string(&mut self) -> Result<String, ParseError> {
        let start = self.position;
        self.bump();
        let mut text = String::new();
        loop {
            match self.peek() {
                None | Some('\n') => return Err(self.never_closed(start, '"')),
                Some('"') => {
                    self.bump();
                    return Ok(text);
                }
                Some('\\') => text.push(self.escape()?),
                Some(plain) => {
                    self.bump();
                    text.push(plain);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        let start = self.position;
        self.bump();
        let simple = match self.bump() {
            Some('a') => '\u{07}',
            Some('b') => '\u{08}',
            Some('f') => '\u{0c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{0b}',
            Some(same @ ('\\' | '"' | '\'')) => same,
            Some('x') => return self.code_point(start, 2),
            Some('u') => return self.code_point(start, 4),
            Some('U') => return self.code_point(start, 8),
            _ => {
                return Err(ParseError::syntax(self.since(start), "unknown escape in a string")
                    .found(&self.source[start..self.position])
                    .suggest(
                        "write a backslash as `\\\\`, or quote the string with backquotes, which know no escapes",
                    ));
            }
        };
        Ok(simple)
    }

    fn code_point(&mut self, start: usize, digits: usize) -> Result<char, ParseError> {
        let mut value: u32 = 0;
        for _ in 0..digits {
            let Some(digit) = self.peek().and_then(|character| character.to_digit(16)) else {
                let problem = format!("an escape needs {digits} hexadecimal digits");
                return Err(ParseError::syntax(self.since(start), problem).found(&self.source[start..self.position]));
            };
            self.bump();
            value = value.wrapping_mul(16).wrapping_add(digit);
        }
        // `\x80` and above would be a lone byte of UTF-8 in Go; a string here is always text.
        let is_text = digits > 2 || value < 0x80;
        char::from_u32(value).filter(|_| is_text).ok_or_else(|| {
            ParseError::syntax(self.since(start), "an escape names no character")
                .found(&self.source[start..self.position])
        })
    }

    pub(super) fn single_quoted(&mut self) -> ParseError {
        let start = self.position;
        self.bump();
        let inside = self.take_while(|character| character != '\'' && character != '\n');
        let suggestion = if inside.chars().count() <= 40 && !inside.contains('"') {
            format!("write \"{inside}\"")
        } else {
            "use double quotes".to_owned()
        };
        if self.peek() == Some('\'') {
            self.bump();
        }
        ParseError::syntax(self.since(start), "strings have double quotes").found("'").suggest(suggestion)
    }

    fn never_closed(&self, start: usize, delimiter: char) -> ParseError {
        ParseError::syntax(self.since(start), "a string is never closed")
            .found(delimiter)
            .suggest(if delimiter == '`' { "end it with a backquote" } else { "end it with `\"`" })
    }
}
