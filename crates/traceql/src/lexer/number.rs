//! Integers, floats and durations. Durations are computed exactly, never through floating point.

use super::{Lexer, is_attribute_part};
use crate::error::{ParseError, quote};
use crate::literal::DURATION_UNITS;
use crate::token::TokenKind;

/// Digits of a fraction beyond these cannot change a duration by a nanosecond, whatever its unit.
const FRACTION_DIGITS_MAX: usize = 18;

impl<'a> Lexer<'a> {
    pub(super) fn number(&mut self) -> Result<TokenKind, ParseError> {
        let start = self.position;
        let (integer, fraction) = self.decimal();
        let whole_with_point = fraction.is_empty() && self.at_last_point();
        if whole_with_point {
            self.bump();
        }
        if self.at_exponent() {
            self.bump();
            if matches!(self.peek(), Some('+' | '-')) {
                self.bump();
            }
            self.take_while(|digit| digit.is_ascii_digit());
            return self.float(start);
        }
        if !whole_with_point && self.peek().is_some_and(is_unit_part) {
            return self.duration(start, integer, fraction);
        }
        if whole_with_point || !fraction.is_empty() {
            return self.float(start);
        }
        integer.parse().map(TokenKind::Int).map_err(|_| self.out_of_range(start, "an integer"))
    }

    /// The digits before and after the point; a point counts only if a digit follows it.
    fn decimal(&mut self) -> (&'a str, &'a str) {
        let integer = self.take_while(|digit| digit.is_ascii_digit());
        let has_fraction = self.peek() == Some('.') && self.peek_at(1).is_some_and(|digit| digit.is_ascii_digit());
        if !has_fraction {
            return (integer, "");
        }
        self.bump();
        (integer, self.take_while(|digit| digit.is_ascii_digit()))
    }

    /// Whether a point ends the number: neither an attribute begins there nor a fraction.
    fn at_last_point(&self) -> bool {
        let begins_name = |character: char| character == '"' || is_attribute_part(character);
        let Some(after) = self.rest().strip_prefix('.') else { return false };
        is_exponent(after) || !after.starts_with(begins_name)
    }

    fn at_exponent(&self) -> bool {
        is_exponent(self.rest())
    }

    fn float(&mut self, start: usize) -> Result<TokenKind, ParseError> {
        let text = &self.source[start..self.position];
        if self.peek().is_some_and(is_unit_part) {
            self.take_while(is_unit_part);
            let whole = &self.source[start..self.position];
            return Err(
                ParseError::syntax(self.since(start), format!("malformed number {}", quote(whole))).found(whole)
            );
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(TokenKind::Float(value)),
            _ => Err(self.out_of_range(start, "a number")),
        }
    }

    /// `1h2m`, `1.5ms`: amounts with units, added up.
    fn duration(&mut self, start: usize, integer: &str, fraction: &str) -> Result<TokenKind, ParseError> {
        let mut total: u64 = 0;
        let mut amount = (integer, fraction);
        loop {
            let unit_start = self.position;
            let unit = self.take_while(is_unit_part);
            let Some((_, unit_nanos)) = DURATION_UNITS.iter().find(|row| row.0 == unit) else {
                return Err(self.unknown_unit(start, unit_start, unit));
            };
            let summed = nanos(amount.0, amount.1, *unit_nanos).and_then(|part| total.checked_add(part));
            total = summed.ok_or_else(|| self.out_of_range(start, "a duration"))?;
            let more = match self.peek() {
                Some('.') => self.peek_at(1).is_some_and(|digit| digit.is_ascii_digit()),
                Some(digit) => digit.is_ascii_digit(),
                None => false,
            };
            if !more {
                return Ok(TokenKind::Duration(total));
            }
            amount = self.decimal();
        }
    }

    fn unknown_unit(&self, start: usize, unit_start: usize, unit: &str) -> ParseError {
        let whole = &self.source[start..self.position];
        if unit.is_empty() {
            return ParseError::syntax(self.since(start), format!("the last part of {} has no unit", quote(whole)))
                .found(whole)
                .suggest("units are ns, us, ms, s, m, h, d, w, y");
        }
        let lowered = unit.to_lowercase();
        let known = DURATION_UNITS.iter().find(|row| row.0 == lowered);
        let suggestion = match known {
            Some((name, _)) => format!("did you mean `{name}`?"),
            None => "units are ns, us, ms, s, m, h, d, w, y".to_owned(),
        };
        ParseError::syntax(self.since(unit_start), format!("unknown unit {}", quote(unit)))
            .found(whole)
            .suggest(suggestion)
    }

    fn out_of_range(&self, start: usize, what: &str) -> ParseError {
        let whole = &self.source[start..self.position];
        ParseError::syntax(self.since(start), format!("{} is too large for {what}", quote(whole))).found(whole)
    }
}

/// Whether a text begins with an exponent, such as `e-3`.
fn is_exponent(text: &str) -> bool {
    let mut ahead = text.chars();
    matches!(ahead.next(), Some('e' | 'E'))
        && match ahead.next() {
            Some('+' | '-') => ahead.next().is_some_and(|digit| digit.is_ascii_digit()),
            Some(digit) => digit.is_ascii_digit(),
            None => false,
        }
}

fn nanos(integer: &str, fraction: &str, unit_nanos: u64) -> Option<u64> {
    let whole: u64 = if integer.is_empty() { 0 } else { integer.parse().ok()? };
    let digits = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let mut part: u128 = 0;
    if !digits.is_empty() {
        let scale = 10u128.pow(u32::try_from(digits.len()).ok()?);
        part = digits.parse::<u128>().ok()? * u128::from(unit_nanos) / scale;
    }
    whole.checked_mul(unit_nanos)?.checked_add(u64::try_from(part).ok()?)
}

fn is_unit_part(character: char) -> bool {
    character.is_alphabetic() || character == '_'
}
