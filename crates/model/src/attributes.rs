use crate::any_value::AnyValue;
use crate::strings::{Remap, StringCode, StringTable};

/// The type of an attribute's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ValueTag {
    Empty = 0,
    String = 1,
    Int = 2,
    Double = 3,
    Bool = 4,
    /// The string code names raw bytes.
    Bytes = 5,
    /// An array or a key-value list: the string code names its canonical JSON (see [`AnyValue::to_canonical_json`]).
    Json = 6,
}

impl ValueTag {
    #[inline]
    pub fn from_u8(tag: u8) -> Option<Self> {
        use ValueTag::*;
        const BY_NUMBER: [ValueTag; 7] = [Empty, String, Int, Double, Bool, Bytes, Json];
        BY_NUMBER.get(usize::from(tag)).copied()
    }
}

/// One attribute value, its text in the string table of the batch that holds it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum AttributeValue {
    Empty,
    String(StringCode),
    Int(i64),
    Double(f64),
    Bool(bool),
    Bytes(StringCode),
    Json(StringCode),
}

impl AttributeValue {
    #[inline]
    pub fn tag(self) -> ValueTag {
        match self {
            AttributeValue::Empty => ValueTag::Empty,
            AttributeValue::String(_) => ValueTag::String,
            AttributeValue::Int(_) => ValueTag::Int,
            AttributeValue::Double(_) => ValueTag::Double,
            AttributeValue::Bool(_) => ValueTag::Bool,
            AttributeValue::Bytes(_) => ValueTag::Bytes,
            AttributeValue::Json(_) => ValueTag::Json,
        }
    }

    #[inline]
    pub fn payload(self) -> u64 {
        match self {
            AttributeValue::Empty => 0,
            AttributeValue::Int(value) => value as u64,
            AttributeValue::Double(value) => value.to_bits(),
            AttributeValue::Bool(value) => u64::from(value),
            AttributeValue::String(code) | AttributeValue::Bytes(code) | AttributeValue::Json(code) => u64::from(code),
        }
    }

    #[inline]
    pub fn from_parts(tag: ValueTag, payload: u64) -> Self {
        match tag {
            ValueTag::Empty => AttributeValue::Empty,
            ValueTag::String => AttributeValue::String(payload as u32),
            ValueTag::Int => AttributeValue::Int(payload as i64),
            ValueTag::Double => AttributeValue::Double(f64::from_bits(payload)),
            ValueTag::Bool => AttributeValue::Bool(payload != 0),
            ValueTag::Bytes => AttributeValue::Bytes(payload as u32),
            ValueTag::Json => AttributeValue::Json(payload as u32),
        }
    }

    /// The value with its text, out of the batch.
    pub fn resolve(self, strings: &StringTable) -> AnyValue {
        match self {
            AttributeValue::Empty => AnyValue::Empty,
            AttributeValue::String(code) => AnyValue::String(strings.get(code).to_owned()),
            AttributeValue::Int(value) => AnyValue::Int(value),
            AttributeValue::Double(value) => AnyValue::Double(value),
            AttributeValue::Bool(value) => AnyValue::Bool(value),
            AttributeValue::Bytes(code) => AnyValue::Bytes(strings.bytes(code).to_vec()),
            AttributeValue::Json(code) => AnyValue::from_canonical_json(strings.get(code)).unwrap_or(AnyValue::Empty),
        }
    }

    /// The same value with its code translated by `remap[old code] = new code`.
    #[inline]
    pub fn remapped(self, remap: &[StringCode]) -> Self {
        self.with_code(|code| remap[code as usize])
    }

    #[inline]
    fn with_code(self, mut translate: impl FnMut(StringCode) -> StringCode) -> Self {
        match self {
            AttributeValue::String(code) => AttributeValue::String(translate(code)),
            AttributeValue::Bytes(code) => AttributeValue::Bytes(translate(code)),
            AttributeValue::Json(code) => AttributeValue::Json(translate(code)),
            other => other,
        }
    }
}

/// Attributes of many owners (spans, resources, events, …): owner `i` has the entries `offsets[i]..offsets[i + 1]`.
///
/// Kept as lists in order of arrival, not as a column for each key: which keys deserve a column is known only when a
/// file is written.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeLists {
    pub(crate) offsets: Vec<u32>,
    pub(crate) keys: Vec<StringCode>,
    pub(crate) tags: Vec<u8>,
    pub(crate) payloads: Vec<u64>,
}

impl Default for AttributeLists {
    fn default() -> Self {
        Self { offsets: vec![0], keys: Vec::new(), tags: Vec::new(), payloads: Vec::new() }
    }
}

impl AttributeLists {
    pub(crate) const BYTES_PER_ENTRY: usize = 4 + 1 + 8;

    /// Whether the payload of a value with this tag is the code of a string.
    #[inline]
    pub(crate) fn holds_code(tag: u8) -> bool {
        const TEXTS: [u8; 3] = [ValueTag::String as u8, ValueTag::Bytes as u8, ValueTag::Json as u8];
        TEXTS.contains(&tag)
    }

    /// How many owners have been finished.
    pub fn owners(&self) -> usize {
        self.offsets.len() - 1
    }

    /// How many attributes there are in all.
    pub fn entries(&self) -> usize {
        self.keys.len()
    }

    /// Adds an attribute to the owner that is being built. A key that the owner already has is replaced, as
    /// OpenTelemetry's attribute collections are maps; returns whether it is new.
    #[inline]
    pub fn push(&mut self, key: StringCode, value: AttributeValue) -> bool {
        let begin = self.offsets[self.offsets.len() - 1] as usize;
        if let Some(at) = position(&self.keys[begin..], key) {
            self.tags[begin + at] = value.tag() as u8;
            self.payloads[begin + at] = value.payload();
            return false;
        }
        self.keys.push(key);
        self.tags.push(value.tag() as u8);
        self.payloads.push(value.payload());
        true
    }

    /// Attributes that the owner being built has so far.
    #[inline]
    pub fn open_len(&self) -> usize {
        self.keys.len() - self.offsets[self.offsets.len() - 1] as usize
    }

    /// Drops what the owner being built has so far.
    pub fn discard_open(&mut self) {
        let begin = self.offsets[self.offsets.len() - 1] as usize;
        self.keys.truncate(begin);
        self.tags.truncate(begin);
        self.payloads.truncate(begin);
    }

    /// Keeps only the first `owners` owners, and nothing open.
    pub(crate) fn truncate_owners(&mut self, owners: usize) {
        self.offsets.truncate(owners + 1);
        self.discard_open();
    }

    /// Makes room for so many more owners.
    pub(crate) fn reserve(&mut self, owners: usize) {
        /// Few spans have fewer.
        const ATTRIBUTES_PER_OWNER: usize = 4;
        self.offsets.reserve(owners);
        self.keys.reserve(owners * ATTRIBUTES_PER_OWNER);
        self.tags.reserve(owners * ATTRIBUTES_PER_OWNER);
        self.payloads.reserve(owners * ATTRIBUTES_PER_OWNER);
    }

    /// Finishes the owner that is being built.
    #[inline]
    pub fn finish_owner(&mut self) {
        self.offsets.push(self.keys.len() as u32);
    }

    #[inline]
    fn range(&self, owner: usize) -> std::ops::Range<usize> {
        self.offsets[owner] as usize..self.offsets[owner + 1] as usize
    }

    #[inline]
    pub fn count(&self, owner: usize) -> usize {
        self.range(owner).len()
    }

    #[inline]
    pub fn of(&self, owner: usize) -> impl ExactSizeIterator<Item = (StringCode, AttributeValue)> + '_ {
        self.range(owner).map(|at| (self.keys[at], self.value(at)))
    }

    #[inline]
    pub fn get(&self, owner: usize, key: StringCode) -> Option<AttributeValue> {
        self.range(owner).find(|&at| self.keys[at] == key).map(|at| self.value(at))
    }

    #[inline]
    fn value(&self, at: usize) -> AttributeValue {
        AttributeValue::from_parts(ValueTag::from_u8(self.tags[at]).unwrap_or(ValueTag::Empty), self.payloads[at])
    }

    /// The keys of all attributes of all owners.
    pub fn keys(&self) -> &[StringCode] {
        &self.keys
    }

    /// Changes values in place; the callback gets `(key, value)` of each attribute. What a redaction stage uses.
    pub fn for_each_mut(&mut self, mut change: impl FnMut(StringCode, AttributeValue) -> AttributeValue) {
        for at in 0..self.keys.len() {
            let changed = change(self.keys[at], self.value(at));
            self.tags[at] = changed.tag() as u8;
            self.payloads[at] = changed.payload();
        }
    }

    /// Appends one owner copied from other lists, its codes translated.
    #[inline]
    pub(crate) fn push_owner_from(&mut self, other: &AttributeLists, owner: usize, remap: &mut Remap<'_>) {
        for at in other.range(owner) {
            self.keys.push(remap.code(other.keys[at]));
            self.tags.push(other.tags[at]);
            self.payloads.push(other.value(at).with_code(|code| remap.code(code)).payload());
        }
        self.finish_owner();
    }

    pub fn memory_bytes(&self) -> usize {
        4 * self.offsets.capacity() + 4 * self.keys.capacity() + self.tags.capacity() + 8 * self.payloads.capacity()
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        self.offsets.shrink_to_fit();
        self.keys.shrink_to_fit();
        self.tags.shrink_to_fit();
        self.payloads.shrink_to_fit();
    }
}

/// Where a key stands among those of one owner. Compared in groups without a way out in between, which compilers turn into
/// wide instructions: a sender who repeats the last of many keys costs little.
#[inline]
fn position(keys: &[StringCode], key: StringCode) -> Option<usize> {
    const GROUP: usize = 16;
    let (groups, rest) = keys.as_chunks::<GROUP>();
    let within = |keys: &[StringCode]| keys.iter().position(|&known| known == key);
    for (number, group) in groups.iter().enumerate() {
        if group.iter().fold(false, |found, &known| found | (known == key)) {
            return within(group).map(|at| number * GROUP + at);
        }
    }
    within(rest).map(|at| groups.len() * GROUP + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_wherever_it_stands() {
        for count in 0..70 {
            let keys: Vec<StringCode> = (10..10 + count).collect();
            for key in 0..90 {
                assert_eq!(position(&keys, key), keys.iter().position(|&known| known == key), "{key} of {count}");
            }
        }
    }
}
