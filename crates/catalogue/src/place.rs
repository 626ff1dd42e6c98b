//! What a file holds rows of, for how long, and which store of objects it lies in.

use std::borrow::Cow;
use std::fmt;

/// What a file holds rows of. Files of one table are read, merged and removed with each other, and with none of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(Cow<'static, str>);

impl Table {
    pub const SPANS: Self = Self(Cow::Borrowed("spans"));
    const NAME_BYTES_MAX: usize = 32;

    /// `None`: no table has such a name. It stands in paths, so it has small letters, digits and `_`, and begins with a letter.
    pub fn new(name: &str) -> Option<Self> {
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let is_name = begins_well && name.len() <= Self::NAME_BYTES_MAX && name.bytes().all(is_part);
        is_name.then(|| Self(Cow::Owned(name.to_owned())))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How long a file is kept. Files of one tier are merged with no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    Hot,
    Warm,
    Cold,
}

impl Tier {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Hot, Self::Warm, Self::Cold].into_iter().find(|tier| tier.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_can_stand_in_paths() {
        assert_eq!(Table::new("spans"), Some(Table::SPANS));
        assert!(["a", "rollups_1h", &"x".repeat(32)].iter().all(|name| Table::new(name).is_some()));
        for wrong in ["", "Spans", "1h", "_a", "a/b", "..", "a b", "ä", &"x".repeat(33)] {
            assert_eq!(Table::new(wrong), None, "{wrong:?}");
        }
    }
}
