//! Values as they are listed for completion.

use std::collections::BTreeSet;

use tracehouse_model::{AnyValue, double_text};

use crate::question::Question;
use crate::request::{AttributeValueSeen, Listing};

/// Longer values help nobody to choose.
const VALUE_BYTES_MAX: usize = 256;

/// Distinct values with their types, up to a limit.
pub(crate) struct Values {
    /// Type and text.
    seen: BTreeSet<(&'static str, String)>,
    limit: usize,
    has_too_long: bool,
}

impl Values {
    pub(crate) fn new(limit: usize) -> Self {
        Self { seen: BTreeSet::new(), limit, has_too_long: false }
    }

    /// Whether further ones are not taken.
    pub(crate) fn full(&self) -> bool {
        self.seen.len() > self.limit
    }

    /// Whether all that were given are there.
    pub(crate) fn has_all(&self) -> bool {
        !self.full() && !self.has_too_long
    }

    pub(crate) fn into_seen(self) -> Vec<(&'static str, String)> {
        self.seen.into_iter().collect()
    }

    /// Conditions hold for a list if they do for any of its values, so each of them is listed.
    pub(crate) fn add(&mut self, value: AnyValue) {
        let shown = match &value {
            AnyValue::String(text) => return self.add_text(value.type_name(), text),
            AnyValue::Int(value) => value.to_string(),
            // There is one zero: of either sign, and 0, it makes 0.
            AnyValue::Double(value) => double_text(*value + 0.0),
            AnyValue::Bool(value) => value.to_string(),
            AnyValue::Array(_) => {
                let AnyValue::Array(items) = value else { return };
                return items.into_iter().for_each(|item| self.add(item));
            }
            AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::KeyValueList(_) => return,
        };
        self.add_text(value.type_name(), &shown);
    }

    pub(crate) fn add_text(&mut self, value_type: &'static str, shown: &str) {
        let is_too_long = shown.len() > VALUE_BYTES_MAX;
        self.has_too_long |= is_too_long;
        if !self.full() && !is_too_long {
            self.seen.insert((value_type, shown.to_owned()));
        }
    }

    pub(crate) fn listing(self, question: Question<'_>, complete: bool) -> Listing<AttributeValueSeen> {
        let partial_reason = question.reach.partial_reason();
        let complete = complete && self.has_all() && partial_reason.is_none();
        let items = self.seen.into_iter().map(|(value_type, value)| AttributeValueSeen { value_type, value });
        Listing { items: items.take(self.limit).collect(), complete, partial_reason }
    }
}
