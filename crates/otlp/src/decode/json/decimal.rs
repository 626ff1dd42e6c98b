//! Numbers as JSON writes them, read exactly.

/// The integer that a number is, whether it is written with a fraction, an exponent or neither: `2`, `2.0`, `2e0`, `20e-1`.
/// `None` if it is no integer, no number at all, or has more than 38 digits.
#[inline]
pub(super) fn integer(text: &[u8]) -> Option<i128> {
    /// So many digits are below 2^64. Times have as many.
    const SHORT: usize = 19;
    if text.len() <= SHORT && !text.is_empty() && text.iter().all(u8::is_ascii_digit) {
        let digit = |value: u64, digit: &u8| value * 10 + u64::from(digit - b'0');
        return Some(text.iter().fold(0, digit).into());
    }
    any_integer(text)
}

#[inline(never)]
fn any_integer(text: &[u8]) -> Option<i128> {
    let (is_negative, unsigned) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match unsigned.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], exponent(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    let all_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
    if whole.is_empty() || !all_digits || (fraction.is_empty() && whole.len() < mantissa.len()) {
        return None;
    }
    let digits = whole.len() + fraction.len();
    let zeros = fraction.iter().rev().chain(whole.iter().rev()).take_while(|digit| **digit == b'0').count();
    if zeros == digits {
        return Some(0);
    }
    // The value is the digits without the zeros at the end, times ten to this power.
    let power = exponent.checked_add(i64::try_from(zeros).ok()?)?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let power = u32::try_from(power).ok()?;
    let significant = whole.iter().chain(fraction).take(digits - zeros);
    let value = significant
        .map(|digit| i128::from(digit - b'0'))
        .try_fold(0i128, |value, digit| value.checked_mul(10)?.checked_add(digit))?;
    let value = value.checked_mul(10i128.checked_pow(power)?)?;
    Some(if is_negative { -value } else { value })
}

fn exponent(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then_some(())?;
    // One that is out of range is out of the range of every field too, but for a zero.
    let clamped = if text.starts_with(b"-") { i64::MIN / 4 } else { i64::MAX / 4 };
    Some(std::str::from_utf8(text).ok()?.parse().unwrap_or(clamped).clamp(i64::MIN / 4, i64::MAX / 4))
}

/// The double next to a number, also to one in a string; `None` if it is none, or beyond the largest.
pub(super) fn double(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    // Rust reads words as well, of which there are three in JSON.
    let is_word = matches!(text, "NaN" | "Infinity" | "-Infinity");
    (is_word || value.is_finite()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_every_form() {
        let cases: [(&str, Option<i128>); 28] = [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("007", Some(7)),
            ("2.0", Some(2)),
            ("2.000e0", Some(2)),
            ("20e-1", Some(2)),
            ("1.5e1", Some(15)),
            ("1.5", None),
            ("15e-1", None),
            ("1.544712660e18", Some(1_544_712_660_000_000_000)),
            ("1544712660000000001.0", Some(1_544_712_660_000_000_001)),
            ("18446744073709551615", Some(u64::MAX as i128)),
            ("-9223372036854775808", Some(i64::MIN as i128)),
            ("-9223372036854775808.0", Some(i64::MIN as i128)),
            ("0e999999999999999999999", Some(0)),
            ("1e999999999999999999999", None),
            ("1e-999999999999999999999", None),
            ("1e38", Some(10i128.pow(38))),
            ("1e39", None),
            ("100000000000000000000000000000000000000000000e-42", Some(100)),
            ("", None),
            ("-", None),
            ("1.", None),
            (".5", None),
            ("1e", None),
            ("+1", None),
            ("NaN", None),
            ("１", None),
        ];
        for (text, expected) in cases {
            assert_eq!(integer(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn doubles_in_every_form() {
        let cases = [
            ("0.1", Some(0.1)),
            ("1e308", Some(1e308)),
            ("1e309", None),
            ("Infinity", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("inf", None),
            ("nan", None),
            ("", None),
            ("1 ", None),
        ];
        for (text, expected) in cases {
            assert_eq!(double(text.as_bytes()), expected, "{text}");
        }
        assert!(double(b"NaN").is_some_and(f64::is_nan));
    }
}
