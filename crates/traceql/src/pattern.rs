//! Regular expressions of `=~` and `!~`: compiled here and nowhere else, so that checking a query and running it agree.

use regex::{Regex, RegexBuilder};

use crate::{PATTERN_COMPILED_BYTES_MAX, PATTERN_NESTING_MAX};

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
/// The dialect is that of the `regex` crate, which agrees with Go's but for details: `\d`, `\w`, `\s` and `\b` know
/// Unicode here. Matching takes time linear in the value.
pub fn compile_pattern(pattern: &str) -> Result<Regex, PatternError> {
    // Compiled bare first: `a)(b` must not become valid through the group that is put around it.
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}

fn build(pattern: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(pattern)
        .dot_matches_new_line(true)
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(PATTERN_COMPILED_BYTES_MAX)
        .nest_limit(PATTERN_NESTING_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge,
            other => PatternError::Invalid(last_line(&other.to_string())),
        })
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
            let compiled = compile_pattern(pattern).expect("a valid pattern");
            assert_eq!(compiled.is_match(text), matches, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["(", "a)(b", "[", "*", "(?P<n>", "a{2,1}", "(?m)a)|(b"] {
            assert!(matches!(compile_pattern(pattern), Err(PatternError::Invalid(_))), "{pattern}");
        }
        assert_eq!(compile_pattern(r"(\w{200}){200}").err(), Some(PatternError::TooLarge));
    }
}
