//! Bounds on arrays and key-value lists inside values. They are rare and may be slow, but never large.

use tracehouse_model::AnyValue;

/// Room for the content of one nested value while it is read, about in bytes of its JSON. Without it, an array of
/// empty values would take sixteen times the memory of its encoding.
pub(crate) struct Room {
    bytes: usize,
    pub(crate) cut: bool,
    pub(crate) invalid_utf8: bool,
}

impl Room {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes, cut: false, invalid_utf8: false }
    }

    /// Takes room for one element or key. Once there is none, nothing more fits.
    pub(crate) fn take(&mut self, content_bytes: usize) -> bool {
        const LEAST: usize = 2;
        match self.bytes.checked_sub(content_bytes.saturating_add(LEAST)) {
            Some(left) if !self.cut => {
                self.bytes = left;
                true
            }
            _ => {
                self.cut = true;
                false
            }
        }
    }

    /// The text of bytes that should be UTF-8.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        self.invalid_utf8 |= matches!(text, std::borrow::Cow::Owned(_));
        text.into_owned()
    }
}

/// Leaves out elements from the end until the canonical JSON fits. The value stays valid and of its type, which a cut
/// through its text would not leave it.
pub(crate) fn shorten(value: &mut AnyValue, bytes_max: usize) {
    let mut room = bytes_max;
    fit(value, &mut room);
}

/// Takes from `room` what the value needs; returns whether any of it may stay.
fn fit(value: &mut AnyValue, room: &mut usize) -> bool {
    const BRACKETS: usize = 2;
    const COMMA: usize = 1;
    match value {
        AnyValue::Array(values) => {
            if !take(room, BRACKETS + COMMA) {
                return false;
            }
            let fitting = values.iter_mut().position(|value| !fit(value, room));
            values.truncate(fitting.unwrap_or(values.len()));
            true
        }
        AnyValue::KeyValueList(entries) => {
            if !take(room, BRACKETS + COMMA) {
                return false;
            }
            let fitting = entries.iter_mut().position(|(key, value)| {
                // The quotes are in the length; the colon and the doubling of a leading `$` are not.
                let key_bytes = AnyValue::String(std::mem::take(key));
                let fits = take(room, key_bytes.to_canonical_json().len() + 2) && fit(value, room);
                if let AnyValue::String(text) = key_bytes {
                    *key = text;
                }
                !fits
            });
            entries.truncate(fitting.unwrap_or(entries.len()));
            true
        }
        leaf => take(room, leaf.to_canonical_json().len() + COMMA),
    }
}

fn take(room: &mut usize, bytes: usize) -> bool {
    let fits = bytes <= *room;
    *room = if fits { *room - bytes } else { 0 };
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_values_fit_and_stay_readable() {
        let text = |text: &str| AnyValue::String(text.into());
        let long = AnyValue::Array(vec![
            AnyValue::Int(1),
            AnyValue::KeyValueList(vec![("a".into(), text("bcd")), ("$e\u{1}".into(), text("\u{1}\u{1}"))]),
            AnyValue::Array(vec![AnyValue::Empty; 10]),
        ]);
        let whole = long.to_canonical_json();
        for bytes_max in 3..whole.len() + 20 {
            let mut short = long.clone();
            shorten(&mut short, bytes_max);
            let json = short.to_canonical_json();
            assert!(json.len() <= bytes_max, "{json} in {bytes_max}");
            assert_eq!(AnyValue::from_canonical_json(&json).expect("canonical"), short);
            if bytes_max >= whole.len() + 19 {
                assert_eq!(json, whole);
            }
        }
    }
}
