use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// The number of a string in a [`StringTable`]; 0 is the empty string.
pub type StringCode = u32;

/// Each distinct string of a batch once, numbered in order of first appearance.
///
/// Interning at the door means that every later stage compares, sorts and counts small numbers, and hashes a string
/// once for a batch, not once for a span. The hash is seeded, so a sender can't choose colliding strings.
#[derive(Clone)]
pub struct StringTable {
    bytes: Vec<u8>,
    /// `ends[code]` is where the string ends; it begins where the one before ends.
    ends: Vec<u32>,
    index: HashTable<StringCode>,
    hasher: DefaultHashBuilder,
}

impl Default for StringTable {
    fn default() -> Self {
        Self::new()
    }
}

impl StringTable {
    /// Beside its text: where it ends, and its place in the index.
    pub(crate) const BYTES_PER_STRING: usize = 4 + 5;

    pub fn new() -> Self {
        let mut table = Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        };
        let hash = table.hasher.hash_one(b"".as_slice());
        table.add(b"", hash);
        table
    }

    /// How many strings; never 0, as the empty string is always there.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    /// The code of `string`, which is added if it is new.
    #[inline]
    pub fn intern(&mut self, string: &[u8]) -> StringCode {
        self.intern_if(string, |_| true).expect("every string is admitted")
    }

    /// The code of `string`, which is added if it is new and `admit` agrees: a receiver checks a string only once.
    #[inline]
    pub fn intern_if(&mut self, string: &[u8], admit: impl FnOnce(&[u8]) -> bool) -> Option<StringCode> {
        if string.is_empty() {
            return Some(0);
        }
        let hash = self.hasher.hash_one(string);
        let (bytes, ends) = (&self.bytes, &self.ends);
        if let Some(code) = self.index.find(hash, |&code| slice(bytes, ends, code) == string) {
            return Some(*code);
        }
        admit(string).then(|| self.add(string, hash))
    }

    fn add(&mut self, string: &[u8], hash: u64) -> StringCode {
        let code = StringCode::try_from(self.ends.len()).expect("a batch holds fewer than 2^32 strings");
        self.bytes.extend_from_slice(string);
        self.ends.push(u32::try_from(self.bytes.len()).expect("the strings of a batch are below 4 GiB"));
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        self.index.insert_unique(hash, code, |&code| hasher.hash_one(slice(bytes, ends, code)));
        code
    }

    pub fn intern_str(&mut self, string: &str) -> StringCode {
        self.intern(string.as_bytes())
    }

    /// The code of a string that is already here.
    pub fn find(&self, string: &[u8]) -> Option<StringCode> {
        if string.is_empty() {
            return Some(0);
        }
        if self.index.is_empty() {
            // A sealed table: looked through, as keeping the index would cost memory for every hot batch.
            return (0..self.len() as u32).find(|&code| self.bytes(code) == string);
        }
        let hash = self.hasher.hash_one(string);
        self.index.find(hash, |&code| self.bytes(code) == string).copied()
    }

    #[inline]
    pub fn bytes(&self, code: StringCode) -> &[u8] {
        slice(&self.bytes, &self.ends, code)
    }

    /// Whether a code is that of `string`. Empty strings are not compared: they lie nowhere, and a wide load of nothing
    /// from nowhere takes a hundred times as long as one of a string.
    #[inline]
    pub fn is(&self, code: StringCode, string: &[u8]) -> bool {
        if string.is_empty() { code == 0 } else { self.bytes(code) == string }
    }

    /// The string of a code; empty for a binary value, which is not UTF-8 (see [`crate::ValueTag::Bytes`]).
    #[inline]
    pub fn get(&self, code: StringCode) -> &str {
        std::str::from_utf8(self.bytes(code)).unwrap_or_default()
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len() as u32).map(|code| self.bytes(code))
    }

    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Drops the index, which only building needs, and spare capacity.
    pub fn seal(&mut self) {
        self.index = HashTable::new();
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// Rebuilds the index after [`StringTable::seal`] or decoding, before more is interned.
    pub fn unseal(&mut self) {
        if !self.index.is_empty() {
            return;
        }
        let (bytes, ends, hasher) = (&self.bytes, &self.ends, &self.hasher);
        for code in 0..ends.len() as u32 {
            let hash = hasher.hash_one(slice(bytes, ends, code));
            self.index.insert_unique(hash, code, |&code| hasher.hash_one(slice(bytes, ends, code)));
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + 4 * self.ends.capacity() + 5 * self.index.capacity()
    }

    pub(crate) fn raw(&self) -> (&[u8], &[u32]) {
        (&self.bytes, &self.ends)
    }

    /// A sealed table from its two parts; `None` if they don't fit together.
    pub(crate) fn from_raw(bytes: Vec<u8>, ends: Vec<u32>) -> Option<Self> {
        let ordered = ends.first() == Some(&0) && ends.is_sorted();
        let whole = ends.last().is_some_and(|&end| end as usize == bytes.len());
        (ordered && whole).then(|| Self { bytes, ends, index: HashTable::new(), hasher: DefaultHashBuilder::default() })
    }
}

/// Takes strings over from one table into another: each when it is first asked for, so that copying a few spans out of a
/// large batch costs little.
pub(crate) struct Remap<'a> {
    from: &'a StringTable,
    to: StringTable,
    codes: Vec<StringCode>,
}

impl<'a> Remap<'a> {
    const NOT_YET: StringCode = StringCode::MAX;

    pub(crate) fn new(from: &'a StringTable, mut to: StringTable) -> Self {
        to.unseal();
        Self { from, to, codes: vec![Self::NOT_YET; from.len()] }
    }

    #[inline]
    pub(crate) fn code(&mut self, code: StringCode) -> StringCode {
        let known = self.codes[code as usize];
        if known != Self::NOT_YET {
            return known;
        }
        let taken = self.to.intern(self.from.bytes(code));
        self.codes[code as usize] = taken;
        taken
    }

    pub(crate) fn into_table(self) -> StringTable {
        self.to
    }
}

#[inline]
fn slice<'a>(bytes: &'a [u8], ends: &[u32], code: StringCode) -> &'a [u8] {
    let code = code as usize;
    let begin = if code == 0 { 0 } else { ends[code - 1] as usize };
    &bytes[begin..ends[code] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interning_numbers_each_string_once() {
        let mut table = StringTable::new();
        let first = table.intern_str("cart");
        assert_eq!(table.intern_str("cart"), first);
        assert_ne!(table.intern_str("checkout"), first);
        assert_eq!(table.intern_str(""), 0);
        table.seal();
        assert_eq!(table.find(b"checkout"), Some(2));
        table.unseal();
        assert_eq!(table.intern_str("checkout"), 2);
        assert_eq!(table.len(), 3);
    }
}
