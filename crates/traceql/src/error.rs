//! What is wrong with a query, said so that the person who wrote it can mend it.

use std::fmt::{self, Write};

use crate::source::{SourceRange, floor_boundary};

/// The widest stretch of a source line that [`ParseError::render`] shows, in characters.
const RENDERED_LINE_CHARS_MAX: usize = 100;
/// Characters shown before the error when a line is too long to show whole.
const RENDERED_CONTEXT_CHARS: usize = 40;
/// Longer pieces of the query are cut when a message quotes them.
const QUOTED_CHARS_MAX: usize = 40;

/// A query that cannot be used. `Display` is one line; [`render`](Self::render) shows the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    pub kind: ErrorKind,
    /// The bytes of the query the error is about.
    pub at: SourceRange,
    /// What is wrong, in a few words, without the place.
    pub problem: String,
    /// What stands there, as written, if it is a matter of syntax.
    pub found: Option<String>,
    /// What could stand there instead.
    pub expected: Option<String>,
    /// What was probably meant, or what to do.
    pub suggestion: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Not a TraceQL query.
    Syntax,
    /// A query that could never be meaningful, such as `duration > "x"`.
    Type,
    /// A regular expression that does not compile or is too large.
    Pattern,
    /// Over one of the limits in the crate's root.
    Limit,
}

impl ParseError {
    pub(crate) fn new(kind: ErrorKind, at: SourceRange, problem: impl Into<String>) -> Self {
        ParseError { kind, at, problem: problem.into(), found: None, expected: None, suggestion: None }
    }

    pub(crate) fn syntax(at: SourceRange, problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::Syntax, at, problem)
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }

    pub(crate) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    pub(crate) fn suggest_option(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    /// Several lines: the message, the line of the query with the place underlined, the suggestion.
    /// `source` must be the text that was parsed.
    pub fn render(&self, source: &str) -> String {
        let excerpt = Excerpt::around(self.at, source);
        let number = excerpt.line_number.to_string();
        let gutter = " ".repeat(number.len());
        let mut out = format!("error: {}\n", self.message());
        let _ = writeln!(out, "{gutter}--> line {number}, column {}", excerpt.column);
        let _ = writeln!(out, "{gutter} |");
        let _ = writeln!(out, "{number} | {}", excerpt.text);
        let _ = writeln!(out, "{gutter} | {}{}", " ".repeat(excerpt.indent), "^".repeat(excerpt.width));
        if let Some(suggestion) = &self.suggestion {
            let _ = writeln!(out, "{gutter} = help: {suggestion}");
        }
        out
    }

    /// What could stand at the place, one by one; empty if it is not a matter of syntax.
    pub fn alternatives(&self) -> Vec<&str> {
        match self.expected.as_deref().map(|expected| (expected, expected.rsplit_once(" or "))) {
            None => Vec::new(),
            Some((_, Some((others, last)))) => others.split(", ").chain([last]).collect(),
            Some((only, None)) => vec![only],
        }
    }

    /// One line: what is wrong and what was expected, without the place.
    pub fn message(&self) -> String {
        match &self.expected {
            Some(expected) => format!("{}, expected {expected}", self.problem),
            None => self.problem.clone(),
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.message(), self.at.start)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " ({suggestion})"),
            None => Ok(()),
        }
    }
}

/// A piece of the query for a message: one line, not too long, in backquotes.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("`");
    for (count, character) in text.chars().enumerate() {
        if count == QUOTED_CHARS_MAX {
            quoted.push('…');
            break;
        }
        quoted.push(printable(character));
    }
    quoted.push('`');
    quoted
}

/// Control characters would break the layout of the message, or of the terminal it is shown on.
fn printable(character: char) -> char {
    match character {
        '\t' | '\n' | '\r' => ' ',
        control if control.is_control() => '\u{fffd}',
        plain => plain,
    }
}

/// The part of one source line that is shown, and where the underline goes, in characters.
struct Excerpt {
    line_number: usize,
    column: usize,
    text: String,
    indent: usize,
    width: usize,
}

impl Excerpt {
    fn around(at: SourceRange, source: &str) -> Excerpt {
        let start = floor_boundary(source, at.start as usize);
        let end = floor_boundary(source, at.end as usize).max(start);
        let before = &source[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |newline| start + newline);
        let column = source[line_start..start].chars().count();
        let marked = source[start..end.min(line_end)].chars().count();

        let line: Vec<char> = source[line_start..line_end].chars().map(printable).collect();
        let first =
            if line.len() > RENDERED_LINE_CHARS_MAX { column.saturating_sub(RENDERED_CONTEXT_CHARS) } else { 0 };
        let last = line.len().min(first + RENDERED_LINE_CHARS_MAX);
        let mut text: String = line[first..last].iter().collect();
        let mut indent = column - first;
        if first > 0 {
            text.insert(0, '…');
            indent += 1;
        }
        if last < line.len() {
            text.push('…');
        }
        Excerpt {
            line_number: before.matches('\n').count() + 1,
            column: column + 1,
            text,
            indent,
            width: marked.min(last.saturating_sub(column)).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_cut_around_the_error() {
        let source = format!("{{ {} bad }}", "x ".repeat(400));
        let place = source.find("bad").expect("it is there");
        let error = ParseError::syntax(SourceRange::new(place, place + 3), "no");
        let rendered = error.render(&source);
        let lines: Vec<&str> = rendered.lines().collect();
        let caret = lines[4].find("^^^").expect("underlined");
        let shown: String = lines[3].chars().collect();
        let byte = shown.find("bad").expect("shown");
        assert_eq!(shown[..byte].chars().count(), lines[4][..caret].chars().count());
        assert!(shown.chars().count() < 120);
    }

    #[test]
    fn alternatives_are_apart() {
        let table: [(&str, &[&str]); 4] = [
            ("`{`, `(`, an aggregate or a number", &["`{`", "`(`", "an aggregate", "a number"]),
            ("`,` or `)`", &["`,`", "`)`"]),
            ("`)`, as it takes no arguments", &["`)`, as it takes no arguments"]),
            ("`(`", &["`(`"]),
        ];
        for (expected, alternatives) in table {
            let error = ParseError::syntax(SourceRange::default(), "no").expected(expected);
            assert_eq!(error.alternatives(), alternatives);
        }
        assert!(ParseError::syntax(SourceRange::default(), "no").alternatives().is_empty());
    }

    #[test]
    fn a_range_from_another_text_does_not_panic() {
        let error = ParseError::syntax(SourceRange::new(5, 900), "no");
        assert!(error.render("ü").contains("no"));
        assert!(error.render("").contains("no"));
    }
}
