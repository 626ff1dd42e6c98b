//! Keeps matching of patterns short: how long a match may take grows with the pattern times the text, and a few bytes of a
//! pattern, as `(a{1000}){1000}`, may stand for millions.
//!
//! Source of the worst case: the documentation of the crate `regex`, "Untrusted input": a search takes `O(m * n)`.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, concat};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::Bounds;
use super::functions::{Invoke, part_of};

/// Longest pattern.
const PATTERN_BYTES_MAX: usize = 4 * 1024;
/// Most places of a pattern, repeats written out: a letter or a class of letters is one.
const PLACES_MAX: u64 = 5_000;
/// How deep a pattern may be nested.
const PATTERN_NESTING_MAX: u32 = 100;
/// Places times bytes of text that one step may match, a second or two where each place is reached at each byte.
const STEP_WORK_MAX: u64 = 100_000_000;
/// The same for one text, which can't be divided.
const TEXT_WORK_MAX: u64 = 1_000_000_000;
/// What a pattern takes when it is made ready to match, at least, and for each place. All patterns of one call are kept.
const READY_BYTES_MIN: u64 = 64 << 10;
const READY_BYTES_PER_PLACE: u64 = 4 << 10;
const READY_BYTES_MAX: u64 = 64 << 20;

/// How a pattern is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Regular,
    /// Of LIKE.
    Wildcards,
}

/// Functions whose second argument is a regular expression.
pub(super) fn matches_pattern(name: &str) -> bool {
    matches!(name, "regexp_like" | "regexp_match" | "regexp_replace" | "regexp_count" | "regexp_instr")
}

/// The result of a call that matches patterns, made in steps that are sure to be short.
pub(super) fn invoke_in_steps(
    call: ScalarFunctionArgs,
    bounds: &Bounds,
    syntax: Syntax,
    invoke: &Invoke<'_>,
) -> Result<ColumnarValue> {
    let [texts, pattern, ..] = call.args.as_slice() else { return invoke(call) };
    if call.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_))) {
        bounds.watch.check()?;
        let (texts, patterns) = (as_texts(texts, 1)?, as_texts(pattern, 1)?);
        Steps { texts, patterns, syntax, known: None }.step(0, 1)?;
        return invoke(call);
    }
    let rows = call.number_rows;
    let constant = matches!(pattern, ColumnarValue::Scalar(_));
    let patterns = as_texts(pattern, if constant { 1 } else { rows })?;
    let mut steps = Steps { texts: as_texts(texts, rows)?, patterns, syntax, known: None };
    let mut made: Vec<ArrayRef> = Vec::new();
    let mut first = 0;
    while first < rows || made.is_empty() {
        bounds.watch.check()?;
        let step = if rows == 0 { 0 } else { steps.step(first, rows)? };
        if step == rows {
            return invoke(call);
        }
        let args = call.args.iter().map(|value| part_of(value, first, step)).collect();
        let result = invoke(ScalarFunctionArgs { args, number_rows: step, ..call.clone() })?;
        made.push(result.into_array(step)?);
        first += step;
    }
    let made: Vec<&dyn Array> = made.iter().map(|array| array.as_ref()).collect();
    Ok(ColumnarValue::Array(concat(&made)?))
}

fn as_texts(value: &ColumnarValue, rows: usize) -> Result<ArrayRef> {
    Ok(cast(&value.to_array(rows)?, &DataType::Utf8View)?)
}

/// Divides the rows of a call.
struct Steps {
    texts: ArrayRef,
    /// One for each text, or one for all.
    patterns: ArrayRef,
    syntax: Syntax,
    /// The pattern that was measured last, and its places: patterns that follow each other are often the same.
    known: Option<(String, u64)>,
}

impl Steps {
    /// How many rows from the first on one step may take; at least one.
    fn step(&mut self, first: usize, rows: usize) -> Result<usize> {
        let (texts, patterns) = (self.texts.clone(), self.patterns.clone());
        let (texts, patterns) = (texts.as_string_view(), patterns.as_string_view());
        let (mut work, mut ready_bytes) = (0_u64, 0_u64);
        for row in first..rows {
            let of_row = if patterns.len() == 1 { 0 } else { row };
            if patterns.is_null(of_row) || texts.is_null(row) {
                continue;
            }
            let (places, is_new) = self.places(patterns.value(of_row))?;
            let row_work = places.saturating_mul(texts.value(row).len() as u64 + 1);
            if row_work > TEXT_WORK_MAX {
                let bytes = texts.value(row).len();
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "a pattern of {places} places would be matched with one text of {bytes} bytes, which takes too long"
                )));
            }
            work = work.saturating_add(row_work);
            if is_new || row == first {
                ready_bytes += READY_BYTES_MIN + READY_BYTES_PER_PLACE * places;
            }
            if row > first && (work > STEP_WORK_MAX || ready_bytes > READY_BYTES_MAX) {
                return Ok(row - first);
            }
        }
        Ok(rows - first)
    }

    /// The places of a pattern, and whether it is another one than before.
    fn places(&mut self, pattern: &str) -> Result<(u64, bool)> {
        match &self.known {
            Some((known, places)) if known == pattern => Ok((*places, false)),
            _ => {
                let places = places_of(pattern, self.syntax)?;
                self.known = Some((pattern.to_owned(), places));
                Ok((places, true))
            }
        }
    }
}

/// How many places a pattern has, if they are not too many.
fn places_of(pattern: &str, syntax: Syntax) -> Result<u64> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return exec_err!("a pattern has {} bytes; at most {PATTERN_BYTES_MAX} are matched; shorten it", pattern.len());
    }
    let places = match syntax {
        Syntax::Wildcards => pattern.len() as u64 + 1,
        Syntax::Regular => {
            let parsed = ParserBuilder::new().nest_limit(PATTERN_NESTING_MAX).build().parse(pattern);
            // The function itself says what is wrong with it, or knows a syntax that is not known here: its own limit for
            // what it makes of a pattern holds.
            parsed.map_or(pattern.len() as u64, |parsed| places_of_hir(&parsed))
        }
    };
    if places > PLACES_MAX {
        return exec_err!(
            "a pattern with its repeats written out has {places} places; at most {PLACES_MAX} are matched; use smaller \
             numbers in {{…}}"
        );
    }
    Ok(places.max(1))
}

fn places_of_hir(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty => 0,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(Class::Unicode(_) | Class::Bytes(_)) | HirKind::Look(_) => 1,
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or_else(|| repetition.min.saturating_add(1));
            // Even of nothing: it is written out too.
            places_of_hir(&repetition.sub).max(1).saturating_mul(u64::from(times))
        }
        HirKind::Capture(capture) => places_of_hir(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(places_of_hir).fold(0, u64::saturating_add)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_written_out() {
        for (pattern, places) in [
            ("", 1),
            ("abc", 3),
            ("^[a-z]+$", 4),
            ("(GET|POST) /cart/[0-9]{1,6}", 7 + 7 + 6),
            ("a{1000}", 1000),
            ("(?:a{10}b){20}", 220),
            ("(((a)))*", 1),
        ] {
            assert_eq!(places_of(pattern, Syntax::Regular).expect("few"), places, "{pattern}");
        }
        for pattern in ["a{6000}", "(a{100}){100}", "((((a{50}){50}){50}){50}){50}"] {
            let refused = places_of(pattern, Syntax::Regular).expect_err(pattern).to_string();
            assert!(refused.contains("smaller numbers"), "{refused}");
        }
        assert!(places_of(&"a".repeat(PATTERN_BYTES_MAX + 1), Syntax::Wildcards).is_err());
        // What is wrong is for the function to say.
        assert!(places_of("(", Syntax::Regular).is_ok());
    }
}
