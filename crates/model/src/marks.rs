/// What the receiver or the pipeline had to change or noticed about a span. A set of bits, stored with the span.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks(pub u16);

impl Marks {
    /// The span ended before it began: its duration is stored as 0.
    pub const END_BEFORE_START: Marks = Marks(1);
    /// An attribute value, a name or another text was longer than the limit and was cut.
    pub const VALUE_CUT: Marks = Marks(2);
    /// More attributes, events or links than the limit, or an attribute nested too deep: those were dropped and added
    /// to the dropped counts.
    pub const OVER_LIMIT: Marks = Marks(4);
    /// A string was not UTF-8; the wrong bytes were replaced by U+FFFD.
    pub const INVALID_UTF8: Marks = Marks(8);
    /// The span had no end time: its duration is stored as 0.
    pub const NO_END: Marks = Marks(16);
    /// The span's kind or status was a number that OTLP does not know; stored as unspecified or unset.
    pub const UNKNOWN_ENUM: Marks = Marks(32);
    /// The parent id was the span's own id; stored as a root.
    pub const OWN_PARENT: Marks = Marks(64);

    pub const NAMES: [(Marks, &'static str); 7] = [
        (Self::END_BEFORE_START, "end_before_start"),
        (Self::VALUE_CUT, "value_cut"),
        (Self::OVER_LIMIT, "over_limit"),
        (Self::INVALID_UTF8, "invalid_utf8"),
        (Self::NO_END, "no_end"),
        (Self::UNKNOWN_ENUM, "unknown_enum"),
        (Self::OWN_PARENT, "own_parent"),
    ];

    pub fn contains(self, other: Marks) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn insert(&mut self, other: Marks) {
        self.0 |= other.0;
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(mark, _)| self.contains(*mark)).map(|(_, name)| name)
    }
}
