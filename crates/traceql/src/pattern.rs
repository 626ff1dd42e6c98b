//! Regular expressions of `=~` and `!~`: compiled here and nowhere else, so that checking a query and running it agree.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

use crate::{PATTERN_CACHE_BYTES_MAX, PATTERN_COMPILED_BYTES_MAX, PATTERN_NESTING_MAX};

/// A regular expression that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the regular expression is too large when compiled (limit {PATTERN_COMPILED_BYTES_MAX} bytes)")]
    TooLarge,
    #[error("invalid regular expression: {0}")]
    Invalid(String),
}

/// Compiles a pattern as TraceQL means it: it must match the whole value, and `.` matches newlines too.
///
/// The dialect is Go's (RE2), as far as the `regex` crate can express it: `\d`, `\w`, `\s`, `\b` are ASCII, and inside
/// brackets `[`, `&` and `~` are themselves. Matching takes time linear in the value.
pub fn compile_pattern(pattern: &str) -> Result<Regex, PatternError> {
    let translated = translate(pattern)?;
    RegexBuilder::new(&format!("^(?:{translated})$"))
        .dot_matches_new_line(true)
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(PATTERN_CACHE_BYTES_MAX)
        .nest_limit(PATTERN_NESTING_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            other => PatternError::Invalid(last_line(&other.to_string())),
        })
}

/// From Go's dialect to that of the `regex` crate.
///
/// It also makes sure that the parentheses balance by themselves: `a)|(b` must not become valid, and lose its anchors,
/// through the group that is put around it.
fn translate(pattern: &str) -> Result<String, PatternError> {
    let mut rest = pattern.chars().peekable();
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut groups_open: usize = 0;
    while let Some(character) = rest.next() {
        match character {
            '\\' => translate_escape(&mut rest, &mut out)?,
            '[' => translate_class(&mut rest, &mut out)?,
            '(' => {
                groups_open += 1;
                refuse_verbose_flag(rest.clone())?;
                out.push('(');
            }
            ')' => {
                groups_open = groups_open.checked_sub(1).ok_or_else(|| invalid("unopened group"))?;
                out.push(')');
            }
            plain => out.push(plain),
        }
    }
    if groups_open > 0 { Err(invalid("unclosed group")) } else { Ok(out) }
}

fn translate_escape(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), PatternError> {
    match rest.next() {
        Some('b') => out.push_str(r"(?-u:\b)"),
        Some('Q') => {
            let text: String = rest.clone().collect();
            let literal = text.split(r"\E").next().unwrap_or_default();
            out.push_str(&regex::escape(literal));
            let ending = if literal.len() < text.len() { 2 } else { 0 };
            rest.by_ref().take(literal.chars().count() + ending).for_each(drop);
        }
        Some(escaped) => push_escaped(escaped, out),
        None => return Err(invalid("a backslash at the end")),
    }
    Ok(())
}

fn translate_class(rest: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), PatternError> {
    out.push('[');
    if let Some(negation) = rest.next_if_eq(&'^') {
        out.push(negation);
    }
    if rest.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    while let Some(character) = rest.next() {
        match character {
            ']' => {
                out.push(']');
                return Ok(());
            }
            '\\' => match rest.next() {
                Some(escaped) => push_escaped(escaped, out),
                None => return Err(invalid("a backslash at the end")),
            },
            // `[:alpha:]` and its like are known to both dialects.
            '[' if rest.peek() == Some(&':') => out.push('['),
            '[' | '&' | '~' => out.extend(['\\', character]),
            ':' if rest.peek() == Some(&']') && inside_named_class(out) => {
                out.push_str(":]");
                rest.next();
            }
            plain => out.push(plain),
        }
    }
    Err(invalid("unclosed character class"))
}

fn inside_named_class(out: &str) -> bool {
    let name = out.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == '^');
    name.ends_with("[:")
}

fn push_escaped(escaped: char, out: &mut String) {
    match escaped {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str(r"[\t\n\f\r ]"),
        'S' => out.push_str(r"[^\t\n\f\r ]"),
        other => out.extend(['\\', other]),
    }
}

/// Go has no verbose mode; with it, a comment could swallow the closing of the group around the pattern.
fn refuse_verbose_flag(mut after_group_open: Peekable<Chars<'_>>) -> Result<(), PatternError> {
    if after_group_open.next() != Some('?') {
        return Ok(());
    }
    let mut flags = after_group_open.take_while(|flag| flag.is_ascii_alphabetic() || *flag == '-');
    // `(?P<name>…)` and `(?<name>…)` are names, not flags.
    if flags.any(|flag| flag == 'x') { Err(invalid("unknown flag `x`")) } else { Ok(()) }
}

fn invalid(why: &str) -> PatternError {
    PatternError::Invalid(why.to_owned())
}

/// The crate's syntax errors draw the pattern over several lines and end with `error: what`.
fn last_line(message: &str) -> String {
    let line = message.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(message);
    line.trim().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored_at_both_ends() {
        let cases = [
            ("bar", "bar", true),
            ("bar", "bars", false),
            ("a|ab", "ab", true),
            ("a|b", "ab", false),
            (".*err.*", "an\nerror", true),
            ("(?i)get", "GET", true),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, text, matches) in cases {
            assert_match(pattern, text, matches);
        }
    }

    #[test]
    fn the_dialect_is_that_of_go() {
        let cases = [
            (r"\d+", "123", true),
            (r"\d+", "١٢٣", false),
            (r"\w+", "größe", false),
            (r"\D\W\S", "ßßß", true),
            (r"a\sb", "a\u{a0}b", false),
            (r"[\d-]+", "1-2", true),
            (r"[^\d\s]+", "abc", true),
            (r"[^\d\s]+", "a c", false),
            (r"[[]x[]]", "[x]", true),
            (r"[]x]+", "]x]", true),
            (r"[^]x]+", "ab", true),
            (r"[a&&b~~]+", "a&b~", true),
            (r"[[:alpha:]_]+", "ab_c", true),
            (r"[[:^digit:]]+", "ab", true),
            (r"[:x]+", "x:", true),
            (r"[(]a[)]", "(a)", true),
            (r"\(a\)", "(a)", true),
            (r"\Qa.b(\E+", "a.b((", true),
            (r"\Qa.b(", "a.b(", true),
            (r"a.*\bc.*", "a c", true),
            (r"\pL+", "größe", true),
            (r"(?P<x>a)(?:x)", "ax", true),
            (r"\w{32}", "0123456789abcdef0123456789abcdef", true),
        ];
        for (pattern, text, matches) in cases {
            assert_match(pattern, text, matches);
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        let bad =
            ["(", "a)(b", "a)|(b", "[", "[a", "*", "(?P<n>", "a{2,1}", "(?m)a)|(b", "(?x)a # ", "(?ix:a)", "\\", "[\\"];
        for pattern in bad {
            assert!(matches!(compile_pattern(pattern), Err(PatternError::Invalid(_))), "{pattern}");
        }
        assert_eq!(compile_pattern(r"(\w{400}){400}").err(), Some(PatternError::TooLarge));
    }

    /// Dashboards join what was chosen in a list into one alternation.
    #[test]
    fn long_alternations_fit() {
        let names: Vec<String> = (0..1_000).map(|number| format!("checkout-service-{number:08x}")).collect();
        assert_match(&names.join("|"), "checkout-service-0000002a", true);
    }

    fn assert_match(pattern: &str, text: &str, matches: bool) {
        match compile_pattern(pattern) {
            Ok(compiled) => assert_eq!(compiled.is_match(text), matches, "{pattern:?} on {text:?}"),
            Err(error) => panic!("{pattern:?}: {error}"),
        }
    }
}
