//! Rows of a column by their values, for some rows that are in question: a page that holds none of them is not read, and no value is
//! made for a row that is not among them.
//!
//! Whether a value is wanted is noted as a bit for each value of a page, 64 at once. Where rows are without a value these bits are then
//! spread over the rows that have one.

use arrow::buffer::{BooleanBuffer, Buffer};
use parquet::basic::{Encoding, Type as Physical};
use parquet::errors::Result;

use super::numbered::{Chunk, ValuesPage, each_text, put_numbers};
use super::rows::damaged;

const WORD: usize = u64::BITS as usize;

/// What the pages of a column that were read say of the rows of a row group. Rows of other pages are in neither.
#[derive(Debug, PartialEq)]
pub struct Sought {
    /// Rows with a wanted value.
    pub holding: BooleanBuffer,
    /// Rows with any value.
    pub present: BooleanBuffer,
}

/// The integers that some rows have.
#[derive(Debug, PartialEq)]
pub struct IntsOfRows {
    /// Of the rows in question those that have one.
    pub present: BooleanBuffer,
    /// One for each of these.
    pub values: Vec<i64>,
}

/// Which of the values that a column numbers are wanted.
pub(super) enum Wanted {
    All(usize),
    One(u32, usize),
    /// Whether it is, for each number.
    Some(Vec<u8>),
}

impl Wanted {
    pub(super) fn of(values: &BooleanBuffer) -> Self {
        match (values.count_set_bits(), values.set_indices().next()) {
            (set, _) if set == values.len() => Self::All(set),
            (1, Some(only)) => Self::One(only as u32, values.len()),
            _ => Self::Some(values.iter().map(u8::from).collect()),
        }
    }

    /// How many values there are, wanted or not.
    fn count(&self) -> usize {
        match self {
            Self::All(count) | Self::One(_, count) => *count,
            Self::Some(values) => values.len(),
        }
    }

    /// A bit for each number, all of which are below the count.
    fn put_hits(&self, numbers: &[u32], hits: &mut Vec<u64>) {
        match self {
            Self::All(_) => put_hits(numbers, hits, |_| 1),
            Self::One(wanted, _) => put_hits(numbers, hits, |number| u8::from(number == *wanted)),
            Self::Some(values) => put_hits(numbers, hits, |number| values[number as usize]),
        }
    }
}

/// Bytes first and bits afterwards: both are done for many values at once.
fn put_hits(numbers: &[u32], hits: &mut Vec<u64>, is_wanted: impl Fn(u32) -> u8) {
    let mut bytes = [0; WORD];
    for numbers in numbers.chunks(WORD) {
        bytes.iter_mut().zip(numbers).for_each(|(byte, number)| *byte = is_wanted(*number));
        bytes[numbers.len()..].fill(0);
        hits.push(bits_of(&bytes));
    }
}

/// The lowest bit of each of 64 bytes, which is their only one.
fn bits_of(bytes: &[u8; WORD]) -> u64 {
    // Each byte is moved to another bit of the highest byte of the product.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (eights, _) = bytes.as_chunks::<8>();
    let bits = eights.iter().enumerate().map(|(at, eight)| {
        let bits = u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> (WORD - 8);
        bits << (8 * at)
    });
    bits.fold(0, |word, bits| word | bits)
}

/// Bits that are put one after the other.
struct Bits {
    words: Vec<u64>,
    length: usize,
}

impl Bits {
    fn for_rows(rows: usize) -> Self {
        Self { words: Vec::with_capacity(rows.div_ceil(WORD)), length: 0 }
    }

    /// The lowest `count` bits of a word, whose others are not set; at most 64.
    fn put(&mut self, word: u64, count: usize) {
        let used = self.length % WORD;
        match self.words.last_mut() {
            Some(last) if used > 0 => {
                *last |= word << used;
                if used + count > WORD {
                    self.words.push(word >> (WORD - used));
                }
            }
            _ => self.words.push(word),
        }
        self.length += count;
    }

    fn put_all(&mut self, words: impl IntoIterator<Item = u64>, count: usize) {
        let mut left = count;
        for word in words {
            if left == 0 {
                return;
            }
            let taken = left.min(WORD);
            self.put(word, taken);
            left -= taken;
        }
    }

    /// Bits that are not set, up to a place.
    fn skip_to(&mut self, end: usize) {
        self.words.resize(end.div_ceil(WORD), 0);
        self.length = end;
    }

    fn put_set(&mut self, count: usize) {
        let (whole, rest) = (count / WORD, count % WORD);
        self.put_all(std::iter::repeat_n(u64::MAX, whole), whole * WORD);
        if rest > 0 {
            self.put(lowest(rest), rest);
        }
    }

    fn finish(self) -> BooleanBuffer {
        BooleanBuffer::new(Buffer::from_vec(self.words), 0, self.length)
    }
}

/// A word with its lowest bits set: less than all.
fn lowest(count: usize) -> u64 {
    (1 << count) - 1
}

/// The words of a mask; what is beyond its end is not set.
fn words(mask: &BooleanBuffer) -> impl Iterator<Item = u64> + '_ {
    let chunks = mask.bit_chunks();
    let last = chunks.remainder_bits();
    chunks.into_iter().chain([last])
}

/// `count` bits of a row of words from a place on: at most 64.
fn bits_at(words: &[u64], at: usize, count: usize) -> u64 {
    let (word, begin) = (at / WORD, at % WORD);
    let mut bits = words.get(word).map_or(0, |word| word >> begin);
    if begin > 0 {
        bits |= words.get(word + 1).map_or(0, |next| next << (WORD - begin));
    }
    if count < WORD { bits & lowest(count) } else { bits }
}

/// Moves the lowest bits to where a word has its bits set, one to each.
fn spread(mut bits: u64, mut over: u64) -> u64 {
    if bits.count_ones() == over.count_ones() {
        return over;
    }
    let mut spread = 0;
    while bits != 0 {
        let place = over & over.wrapping_neg();
        spread |= if bits & 1 == 1 { place } else { 0 };
        over ^= place;
        bits >>= 1;
    }
    spread
}

/// Gathers what the pages of a column say of the rows of a row group.
struct Gathering {
    holding: Bits,
    present: Bits,
    rows: usize,
}

impl Gathering {
    fn of(rows: usize) -> Self {
        Self { holding: Bits::for_rows(rows), present: Bits::for_rows(rows), rows }
    }

    /// Adds a page, with a bit for each of its values.
    fn add(&mut self, page: &ValuesPage, hits: &[u64]) {
        self.holding.skip_to(page.rows.start);
        self.present.skip_to(page.rows.start);
        let rows = page.rows.len();
        let Some(present) = &page.present else {
            self.holding.put_all(hits.iter().copied(), rows);
            self.present.put_set(rows);
            return;
        };
        self.present.put_all(words(present), rows);
        if hits.iter().all(|word| *word == 0) {
            return;
        }
        let mut at = 0;
        let over_rows = words(present).map(|over| {
            let count = over.count_ones() as usize;
            at += count;
            spread(bits_at(hits, at - count, count), over)
        });
        self.holding.put_all(over_rows, rows);
    }

    fn finish(mut self) -> Sought {
        self.holding.skip_to(self.rows);
        self.present.skip_to(self.rows);
        Sought { holding: self.holding.finish(), present: self.present.finish() }
    }
}

impl Chunk {
    /// Which of some rows have a value that is wanted by its number. The dictionary was read before.
    pub(super) fn with_numbers(self, wanted: &Wanted, among: &BooleanBuffer) -> Result<Sought> {
        let mut gathering = Gathering::of(self.rows);
        let (mut numbers, mut hits) = (Vec::new(), Vec::new());
        self.each_page(Some(among), |page| {
            numbers.clear();
            hits.clear();
            put_numbers(&page, wanted.count(), &mut numbers)?;
            wanted.put_hits(&numbers, &mut hits);
            gathering.add(&page, &hits);
            Ok(())
        })?;
        Ok(gathering.finish())
    }

    /// Which of some rows have a text, in a column that is written row by row. `None`: it is not.
    pub(super) fn with_text(self, text: &str, among: &BooleanBuffer) -> Result<Option<Sought>> {
        if self.physical != Physical::BYTE_ARRAY || text.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(None);
        }
        let mut gathering = Gathering::of(self.rows);
        let (mut bits, mut is_plain) = (Vec::new(), true);
        self.each_page(Some(among), |page| {
            is_plain &= page.encoding == Encoding::PLAIN;
            if is_plain {
                bits.clear();
                bits.resize(page.values.div_ceil(WORD), 0);
                let mut at = 0;
                each_text(&page.bytes, page.values, |found| {
                    bits[at / WORD] |= u64::from(found == text.as_bytes()) << (at % WORD);
                    at += 1;
                })?;
                gathering.add(&page, &bits);
            }
            Ok(())
        })?;
        Ok(is_plain.then(|| gathering.finish()))
    }

    /// The integers that some rows have, in a column that is written row by row. `None`: it is not, or of another type.
    pub(super) fn ints(self, among: &BooleanBuffer) -> Result<Option<IntsOfRows>> {
        if self.physical != Physical::INT64 {
            return Ok(None);
        }
        let (rows, mut present, mut values) = (self.rows, Bits::for_rows(self.rows), Vec::new());
        let mut is_known = true;
        self.each_page(Some(among), |page| {
            let Some(ints) = Ints::of(&page)? else {
                is_known = false;
                return Ok(());
            };
            present.skip_to(page.rows.start);
            let wanted = among.slice(page.rows.start, page.rows.len());
            if page.present.is_none() && wanted.count_set_bits() == wanted.len() {
                ints.put_all(&mut values);
                present.put_set(wanted.len());
                return Ok(());
            }
            let of_page: Option<Vec<u64>> = page.present.as_ref().map(|present| words(present).collect());
            let mut before = 0;
            let found = words(&wanted).enumerate().map(|(number, wanted)| {
                let with_value = of_page.as_ref().map_or(u64::MAX, |words| words[number]);
                let found = wanted & with_value;
                let mut left = found;
                while left != 0 {
                    let below = (left & left.wrapping_neg()) - 1;
                    values.push(ints.value(before + (with_value & below).count_ones() as usize));
                    left &= left - 1;
                }
                before += with_value.count_ones() as usize;
                found
            });
            present.put_all(found, page.rows.len());
            Ok(())
        })?;
        present.skip_to(rows);
        Ok(is_known.then(|| IntsOfRows { present: present.finish(), values }))
    }
}

/// The integers of a page, as they are stored.
enum Ints<'p> {
    Plain(&'p [[u8; 8]]),
    /// The first bytes of all, the second of all, and so on.
    ByBytes([&'p [u8]; 8]),
}

impl<'p> Ints<'p> {
    /// `None`: they are stored in another way.
    fn of(page: &'p ValuesPage) -> Result<Option<Self>> {
        let bytes = page.bytes.get(..page.values * 8).ok_or_else(|| damaged("a page has fewer values than rows"))?;
        Ok(match page.encoding {
            Encoding::PLAIN => Some(Self::Plain(bytes.as_chunks().0)),
            Encoding::BYTE_STREAM_SPLIT => {
                Some(Self::ByBytes(std::array::from_fn(|byte| &bytes[byte * page.values..(byte + 1) * page.values])))
            }
            _ => None,
        })
    }

    fn put_all(&self, values: &mut Vec<i64>) {
        match self {
            Self::Plain(plain) => values.extend(plain.iter().map(|value| i64::from_le_bytes(*value))),
            Self::ByBytes([a, b, c, d, e, f, g, h]) => {
                let low = a.iter().zip(*b).zip(c.iter().zip(*d));
                let high = e.iter().zip(*f).zip(g.iter().zip(*h));
                values.extend(
                    low.zip(high).map(|(((a, b), (c, d)), ((e, f), (g, h)))| {
                        i64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])
                    }),
                );
            }
        }
    }

    fn value(&self, at: usize) -> i64 {
        i64::from_le_bytes(match self {
            Self::Plain(values) => values[at],
            Self::ByBytes(bytes) => bytes.map(|bytes| bytes[at]),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;
    use tracehouse_model::{AnyValue, AttributeValue, Span, SpanBatch};

    use super::*;
    use crate::damage::Part;
    use crate::pages::CheckedPages;
    use crate::sample;

    fn mask(rows: usize, is_set: impl Fn(usize) -> bool) -> BooleanBuffer {
        BooleanBuffer::collect_bool(rows, is_set)
    }

    proptest! {
        #[test]
        fn bits_of_values_come_to_the_rows_that_have_them(
            rows in proptest::collection::vec(proptest::option::of(0u32..9), 1..300),
            wanted in proptest::collection::vec(any::<bool>(), 9),
            begin in 0usize..100,
        ) {
            let numbers: Vec<u32> = rows.iter().flatten().copied().collect();
            let mut hits = Vec::new();
            Wanted::of(&mask(9, |number| wanted[number])).put_hits(&numbers, &mut hits);
            let present = (numbers.len() < rows.len()).then(|| mask(rows.len(), |row| rows[row].is_some()));
            let page = ValuesPage {
                rows: begin..begin + rows.len(),
                present,
                values: numbers.len(),
                encoding: Encoding::PLAIN,
                bytes: bytes::Bytes::new(),
            };
            let all = begin + rows.len() + 70;
            let mut gathering = Gathering::of(all);
            gathering.add(&page, &hits);
            let of_row = |row: usize| row.checked_sub(begin).and_then(|at| *rows.get(at)?);
            let Sought { holding, present } = gathering.finish();
            prop_assert_eq!(present, mask(all, |row| of_row(row).is_some()));
            prop_assert_eq!(holding, mask(all, |row| of_row(row).is_some_and(|number| wanted[number as usize])));
        }
    }

    const ROWS: u64 = 40_000;

    /// No two are alike, and none can be guessed from another.
    fn request(number: u64) -> String {
        let half = |seed| twox_hash::XxHash64::oneshot(seed, &number.to_le_bytes());
        format!("{:016x}{:016x}", half(1), half(2))
    }

    /// Attributes on some spans: texts and integers that repeat, and some that don't.
    fn batch() -> SpanBatch {
        let mut batch = SpanBatch::new();
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        for number in 0..ROWS {
            let mut put = |key: &str, value: AnyValue| {
                let key = batch.strings.intern_str(key);
                let value = match value {
                    AnyValue::String(text) => AttributeValue::String(batch.strings.intern_str(&text)),
                    AnyValue::Int(int) => AttributeValue::Int(int),
                    _ => AttributeValue::Empty,
                };
                batch.attributes.push(key, value);
            };
            if number % 3 > 0 {
                put("often", AnyValue::String(format!("value {}", number * number % 301)));
            }
            if number / 1000 % 2 == 0 {
                put("count", AnyValue::Int((number * 31 % 97) as i64));
                put("offset", AnyValue::Int((number * 7919) as i64 - 70_000));
            }
            if number % 7 != 2 {
                put("path", AnyValue::String(format!("/carts/{number}")));
                put("request", AnyValue::String(request(number)));
            }
            let name = batch.strings.intern_str(["GET", "POST", "PUT"][number as usize / 5 % 3]);
            batch.finish_span(tracehouse_model::SpanFields {
                trace_id: tracehouse_model::TraceId(u128::from(number / 10 + 1).to_be_bytes()),
                span_id: tracehouse_model::SpanId((number + 1).to_be_bytes()),
                start_unix_nanos: 1_700_000_000_000_000_000 + number as i64,
                duration_nanos: (number * 65_537 % 1_000_003) as i64 - 5,
                name,
                resource,
                scope,
                ..Default::default()
            });
        }
        batch
    }

    fn value(span: &Span, column: &str) -> Option<AnyValue> {
        match column.strip_prefix("span.") {
            Some(key) => span.attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone()),
            None if column == "name" => Some(AnyValue::String(span.name.clone())),
            None => Some(AnyValue::Int(span.duration_nanos)),
        }
    }

    fn expected(
        spans: &[Span],
        column: &str,
        among: &BooleanBuffer,
        holds: impl Fn(&AnyValue) -> bool,
    ) -> [BooleanBuffer; 2] {
        let of_row = |row: usize| value(&spans[row], column).filter(|_| among.value(row));
        let rows = spans.len();
        [mask(rows, |row| of_row(row).is_some_and(|value| holds(&value))), mask(rows, |row| of_row(row).is_some())]
    }

    /// What is said of other rows of the pages that were read is as good, but nobody asked.
    fn within(sought: &Sought, among: &BooleanBuffer) -> [BooleanBuffer; 2] {
        [&sought.holding & among, &sought.present & among]
    }

    #[test]
    fn rows_are_found_by_their_values_among_any_rows() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.parquet");
        let (spans, tail_bytes) = sample::write(&path, &[batch()]);
        let (spans, rows) = (&spans[0], ROWS as usize);
        let open = sample::open(&path, tail_bytes).expect("it opens");
        let some = [
            mask(rows, |_| true),
            mask(rows, |_| false),
            mask(rows, |row| row % 9001 == 5),
            mask(rows, |row| row > 12_345 && row % 3 < 2),
        ];
        for among in &some {
            for column in ["name", "span.often", "span.count"] {
                let distinct = || open.distinct(0, column).expect("it can be read").expect("it has a dictionary");
                let values = distinct().values().expect("it can be read");
                for wanted in [
                    mask(values.len(), |_| true),
                    mask(values.len(), |at| at == 1),
                    mask(values.len(), |at| at % 3 == 1),
                ] {
                    let sought = distinct().rows().sought(&wanted, among).expect("it can be read");
                    let holds = |value: &AnyValue| match (&values, value) {
                        (crate::DistinctValues::Texts(texts), AnyValue::String(text)) => {
                            wanted.value(texts.iter().position(|known| known == text).expect("it is listed"))
                        }
                        (crate::DistinctValues::Ints(ints), AnyValue::Int(int)) => {
                            wanted.value(ints.iter().position(|known| known == int).expect("it is listed"))
                        }
                        other => panic!("{column}: {other:?}"),
                    };
                    assert_eq!(within(&sought, among), expected(spans, column, among, holds), "{column}");
                }
            }
            for text in ["/carts/17", "/carts/39999", "none", ""] {
                assert!(open.has_texts_by_row(0, "span.path"));
                let sought = open.with_text(0, "span.path", text, among).expect("it can be read").expect("it is known");
                let holds = |value: &AnyValue| *value == AnyValue::String(text.to_owned());
                assert_eq!(within(&sought, among), expected(spans, "span.path", among, holds), "{text}");
            }
            for column in ["duration_nanos", "span.offset"] {
                assert!(open.has_ints_by_row(0, column), "{column}");
                let found = open.ints(0, column, among).expect("it can be read").expect("it is known");
                assert_eq!(found.present, expected(spans, column, among, |_| false)[1], "{column}");
                let values = found.present.set_indices().map(|row| value(&spans[row], column));
                assert!(values.eq(found.values.iter().map(|int| Some(AnyValue::Int(*int)))), "{column}");
            }
        }
        let all = &some[0];
        assert_eq!(open.with_text(0, "name", "GET", all).expect("it is looked up"), None, "it has a dictionary");
        assert_eq!(open.ints(0, "start_time", all).expect("it is looked up"), None, "these are times");
        assert_eq!(open.ints(0, "span.path", all).expect("it is looked up"), None, "these are texts");
    }

    /// A page of which no row is in question may be damaged; the others may not.
    #[test]
    fn pages_without_a_row_in_question_are_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.parquet");
        let (_, tail_bytes) = sample::write(&path, &[batch()]);
        let file = OpenOptions::new().write(true).read(true).open(&path).expect("it can be written");
        let open = sample::open(&path, tail_bytes).expect("it opens");
        for column in ["span.often", "span.path", "span.offset", "duration_nanos"] {
            let leaf = open.file.shape.leaves_of(column).start;
            let pages = CheckedPages::new(open.file.clone(), 0, leaf).expect("a column");
            let pages: Vec<_> = pages.places().filter(|place| !place.is_dictionary).cloned().collect();
            let (damaged, others) = (&pages[1], mask(ROWS as usize, |row| !pages[1].rows.contains(&row)));
            let at = damaged.offset + damaged.bytes as u64 / 2;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("it is read");
            file.write_all_at(&[!byte[0]], at).expect("it is written");
            let read = |among: &BooleanBuffer| match open.distinct(0, column).expect("its dictionary is right") {
                Some(distinct) => distinct.rows().sought(&mask(301, |at| at == 3), among).map(drop),
                None => {
                    open.with_text(0, column, "/carts/1", among).and_then(|_| open.ints(0, column, among)).map(drop)
                }
            };
            read(&others).unwrap_or_else(|error| panic!("{column}: {error}"));
            let one = mask(ROWS as usize, |row| row == damaged.rows.start);
            assert!(read(&one).is_err(), "{column}");
            let bytes = |among: &BooleanBuffer| open.bytes_among(0, column, among).expect("it is known");
            assert_eq!(bytes(&one), damaged.bytes as u64, "{column}");
            assert_eq!(
                bytes(&one) + bytes(&others),
                pages.iter().map(|page| page.bytes as u64).sum::<u64>(),
                "{column}"
            );
            file.write_all_at(&byte, at).expect("it is written");
        }
    }

    #[test]
    fn a_text_is_looked_for_in_the_pages_that_may_have_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.parquet");
        let (spans, tail_bytes) = sample::write(&path, &[batch()]);
        let open = sample::open(&path, tail_bytes).expect("it opens");
        let rows_with = |text: &str| open.rows_that_may_have(0, "span.request", text).expect("it can be read");
        let mut read = 0;
        for number in (0..ROWS).filter(|number| number % 7 != 2).step_by(13) {
            let (text, rows) = (request(number), rows_with(&request(number)).expect("there are filters"));
            let row =
                spans[0].iter().position(|span| span.span_id.0 == (number + 1).to_be_bytes()).expect("it is there");
            assert!(rows.value(row), "{text}");
            read += rows.count_set_bits();
        }
        let share = read as f64 / (ROWS / 7 * 6 / 13) as f64 / ROWS as f64;
        assert!(share < 0.5, "{share} of the rows are looked at");
        let absent = (ROWS..ROWS + 100).map(|number| rows_with(&request(number)).expect("there are filters"));
        assert!(absent.filter(|rows| rows.count_set_bits() == 0).count() > 10);
        for (column, text) in [("span.often", "value 7"), ("span.path", "/carts/17"), ("span.request", "\u{fffd}")] {
            assert!(open.rows_that_may_have(0, column, text).expect("it is looked up").is_none(), "{column}");
        }

        let leaf = open.file.shape.leaves_of("span.request").start;
        let section = open.file.index.chunk(0, leaf).page_filters().expect("there are filters");
        let file = OpenOptions::new().write(true).read(true).open(&path).expect("it can be written");
        for at in [0, 5, u64::from(section.bytes) / 2, u64::from(section.bytes) - 1].map(|at| section.offset + at) {
            assert!(open.damaged_parts().expect("it is read").is_empty());
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("it is read");
            file.write_all_at(&[byte[0] ^ 4], at).expect("it is written");
            let error = open.rows_that_may_have(0, "span.request", "x").expect_err("it is damaged");
            assert!(crate::is_damage(&error), "{error}");
            assert_eq!(open.damaged_parts().expect("it is read"), [Part::PageFilters]);
            file.write_all_at(&byte, at).expect("it is written");
        }
    }
}
