//! Which attributes get a column of their own.

use std::cmp::Ordering;

use tracehouse_model::{AttributeLists, SeededMap, SpanBatch, ValueTag};

use super::contents::{FileContents, KEYS_BYTES_MAX, KeyCount, NAME_BYTES_MAX, NameList};
use super::layout::{ColumnType, LAYOUT_VERSION, Layout, PromotedAttribute, can_be_column, with_marked_capitals};

/// Counts how many spans carry each attribute, over many batches. Senders choose keys, so what is counted is bounded in bytes:
/// rare ones are forgotten when there are too many.
#[derive(Default)]
pub struct AttributeCounts {
    span: Counts,
    resource: Counts,
    spans: u64,
}

type SpansOfKeys = SeededMap<(String, Option<ColumnType>), u64>;

/// Spans by key and type of value.
#[derive(Default)]
struct Counts {
    spans: SpansOfKeys,
    bytes: usize,
    /// Whether some were forgotten.
    is_cut: bool,
}

/// What counts of spans or resources may take in memory, about.
const COUNTS_BYTES_MAX: usize = 1024 * 1024;
/// Of an entry apart from its key.
const ENTRY_BYTES: usize = 64;
/// Names of all promoted columns together: a footer says them again for each row group.
const COLUMN_NAMES_BYTES_MAX: usize = 8 * 1024;
/// A span attribute is promoted if at least one span in so many carries it.
const SPANS_PER_OCCURRENCE_MAX: u64 = 400;
/// A column costs at least a few hundred bytes in every row group, which rare keys of small files don't repay.
const OCCURRENCES_MIN: u64 = 16;
/// Each column makes the footer larger and lookups slower.
const SPAN_COLUMNS_MAX: usize = 96;
/// Resource attributes that people filter and group by. The others share one column: a resource has dozens, all of them say
/// the same again (which instance this is), and each column would cost every span.
const RESOURCE_KEYS: [&str; 9] = [
    "cloud.region",
    "deployment.environment",
    "deployment.environment.name",
    "faas.name",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "service.name",
    "service.namespace",
    "service.version",
];

impl AttributeCounts {
    pub fn add_batch(&mut self, batch: &SpanBatch) {
        self.spans += batch.len() as u64;
        let mut by_code: SeededMap<(u32, ValueTag), u64> = SeededMap::default();
        for row in 0..batch.len() {
            count_owner(&mut by_code, &batch.attributes, row, 1);
        }
        add_counts(&mut self.span, batch, &by_code);
        by_code.clear();
        let mut spans_of_resource = vec![0u64; batch.resources.attributes.owners()];
        for &resource in &batch.resource {
            spans_of_resource[resource as usize] += 1;
        }
        for (resource, &spans) in spans_of_resource.iter().enumerate() {
            count_owner(&mut by_code, &batch.resources.attributes, resource, spans);
        }
        add_counts(&mut self.resource, batch, &by_code);
    }

    /// Adds what a file that is to be merged says of itself.
    pub fn add_file(&mut self, contents: &FileContents, spans: u64) {
        self.spans = self.spans.saturating_add(spans);
        let of_file = [
            (&mut self.span, &contents.span_keys, NameList::SpanKeys),
            (&mut self.resource, &contents.resource_keys, NameList::ResourceKeys),
        ];
        for (counts, keys, list) in of_file {
            counts.is_cut |= !contents.lists_all(list);
            keys.iter().for_each(|key| counts.add(&key.key, key.value_type, key.spans));
        }
    }

    pub fn layout(&self) -> Layout {
        let span_min = (self.spans / SPANS_PER_OCCURRENCE_MAX).max(OCCURRENCES_MIN.min(self.spans));
        Layout {
            version: LAYOUT_VERSION,
            span: choose(&self.span.spans, span_min, SPAN_COLUMNS_MAX, can_be_column),
            resource: choose(&self.resource.spans, 1, RESOURCE_KEYS.len(), |key| RESOURCE_KEYS.contains(&key)),
        }
    }

    /// The most frequent keys of spans, and whether some are missing.
    pub(crate) fn span_keys(&self) -> (Vec<KeyCount>, bool) {
        self.span.listed()
    }

    pub(crate) fn resource_keys(&self) -> (Vec<KeyCount>, bool) {
        self.resource.listed()
    }
}

impl Counts {
    fn add(&mut self, key: &str, value_type: Option<ColumnType>, spans: u64) {
        if key.len() > NAME_BYTES_MAX {
            self.is_cut = true;
            return;
        }
        let entry = (key.to_owned(), value_type);
        if let Some(known) = self.spans.get_mut(&entry) {
            // Files say how many, of which nobody knows whether it is true.
            *known = known.saturating_add(spans);
            return;
        }
        self.spans.insert(entry, spans);
        self.bytes += key.len() + ENTRY_BYTES;
        if self.bytes > COUNTS_BYTES_MAX {
            self.forget_rare();
        }
    }

    /// Keeps the most frequent keys, as many as take half of the room. A key that many spans carry is among them whenever this
    /// is called, as each batch is counted whole before it is added. After "Approximate Frequency Counts over Data Streams"
    /// (Manku and Motwani, 2002), where what was forgotten is undercounted too.
    fn forget_rare(&mut self) {
        self.is_cut = true;
        let mut kept = 0;
        let mut entries: Vec<_> = self.spans.drain().collect();
        entries.sort_unstable_by(most_frequent_first);
        entries.retain(|((key, _), _)| {
            let is_kept = kept + key.len() + ENTRY_BYTES <= COUNTS_BYTES_MAX / 2;
            kept += if is_kept { key.len() + ENTRY_BYTES } else { 0 };
            is_kept
        });
        (self.spans, self.bytes) = (entries.into_iter().collect(), kept);
    }

    fn listed(&self) -> (Vec<KeyCount>, bool) {
        let mut entries: Vec<_> = self.spans.iter().map(|(entry, spans)| (entry.clone(), *spans)).collect();
        entries.sort_unstable_by(most_frequent_first);
        let mut bytes = 0;
        let mut fits = |((key, _), _): &Counted| {
            bytes += key.len();
            bytes <= KEYS_BYTES_MAX
        };
        let count = entries.iter().take(FileContents::KEYS_MAX - 1).take_while(|&entry| fits(entry)).count();
        let is_cut = self.is_cut || count < entries.len();
        entries.truncate(count);
        let keys = entries.into_iter().map(|((key, value_type), spans)| KeyCount { key, value_type, spans });
        (keys.collect(), is_cut)
    }
}

type Counted = ((String, Option<ColumnType>), u64);

fn most_frequent_first(left: &Counted, right: &Counted) -> Ordering {
    right.1.cmp(&left.1).then_with(|| left.0.cmp(&right.0))
}

#[inline]
fn count_owner(counts: &mut SeededMap<(u32, ValueTag), u64>, lists: &AttributeLists, owner: usize, spans: u64) {
    for (key, value) in lists.of(owner) {
        *counts.entry((key, value.tag())).or_default() += spans;
    }
}

fn add_counts(counts: &mut Counts, batch: &SpanBatch, by_code: &SeededMap<(u32, ValueTag), u64>) {
    let mut counted: Vec<_> = by_code.iter().collect();
    // What is forgotten when there are too many must not go by chance, so that equal data has equal files.
    counted.sort_unstable();
    for (&(key, tag), &spans) in counted {
        counts.add(batch.strings.get(key), ColumnType::from_tag(tag), spans);
    }
}

/// The most frequent keys, each with its most frequent type, in order of name so that equal data has equal files.
fn choose(
    counts: &SpansOfKeys,
    spans_min: u64,
    most: usize,
    eligible: impl Fn(&str) -> bool,
) -> Vec<PromotedAttribute> {
    let mut best: SeededMap<&str, (u64, ColumnType)> = SeededMap::default();
    for ((key, value_type), &spans) in counts {
        let Some(value_type) = *value_type else { continue };
        let entry = best.entry(key).or_insert((spans, value_type));
        if (spans, std::cmp::Reverse(value_type)) > (entry.0, std::cmp::Reverse(entry.1)) {
            *entry = (spans, value_type);
        }
    }
    let mut ranked: Vec<_> =
        best.into_iter().filter(|(key, (spans, _))| *spans >= spans_min && eligible(key)).collect();
    ranked.sort_unstable_by(|left, right| (right.1.0, left.0).cmp(&(left.1.0, right.0)));
    let mut names_bytes = 0;
    ranked.retain(|(key, _)| {
        let bytes = with_marked_capitals(key).len();
        let fits = names_bytes + bytes <= COLUMN_NAMES_BYTES_MAX;
        names_bytes += if fits { bytes } else { 0 };
        fits
    });
    ranked.truncate(most);
    ranked.sort_unstable_by_key(|(key, _)| *key);
    ranked.into_iter().map(|(key, (_, value_type))| PromotedAttribute { key: key.to_owned(), value_type }).collect()
}

#[cfg(test)]
mod tests {
    use tracehouse_model::{AttributeValue, SpanFields};

    use super::*;

    const ROUNDS: u64 = 40;
    const HOSTILE_PER_ROUND: u64 = 1_000;

    /// Spans of which every second has a usual key, among keys that nobody has seen before: long ones, short ones.
    fn hostile_batch(round: u64) -> SpanBatch {
        let mut batch = SpanBatch::new();
        let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
        for number in round * HOSTILE_PER_ROUND..(round + 1) * HOSTILE_PER_ROUND {
            let length = if number % 2 == 0 { 250 } else { 1 };
            let hostile = batch.strings.intern_str(&format!("{number:0length$}"));
            batch.attributes.push(hostile, AttributeValue::Int(1));
            if number % 10 == 0 {
                let too_long = batch.strings.intern_str(&"k".repeat(10_000));
                batch.attributes.push(too_long, AttributeValue::Int(1));
            }
            if number % 2 == 0 {
                let usual = batch.strings.intern_str("http.route");
                batch.attributes.push(usual, AttributeValue::Int(1));
            }
            batch.finish_span(SpanFields { resource, scope, ..SpanFields::default() });
        }
        batch
    }

    #[test]
    fn hostile_keys_are_forgotten_and_usual_ones_counted() {
        let mut counts = AttributeCounts::default();
        for round in 0..ROUNDS {
            counts.add_batch(&hostile_batch(round));
            assert!(counts.span.bytes <= COUNTS_BYTES_MAX);
        }
        assert!(counts.span.spans.len() < (ROUNDS * HOSTILE_PER_ROUND) as usize / 2);
        let promoted = counts.layout().span;
        assert_eq!(promoted.iter().map(|attribute| attribute.key.as_str()).collect::<Vec<_>>(), ["http.route"]);
        let (keys, is_cut) = counts.span_keys();
        assert!(is_cut);
        assert_eq!((keys[0].key.as_str(), keys[0].spans), ("http.route", ROUNDS * HOSTILE_PER_ROUND / 2));
        assert!(keys.iter().map(|key| key.key.len()).sum::<usize>() <= KEYS_BYTES_MAX);
        let merged_contents =
            FileContents { span_keys: keys, cut: vec![NameList::SpanKeys], ..FileContents::default() };
        let mut merged = AttributeCounts::default();
        merged.add_file(&merged_contents, 1);
        assert!(merged.span_keys().1, "what a file did not list is missing in what it is merged into");
    }

    #[test]
    fn capitals_beyond_ascii_have_no_column() {
        let mut counts = AttributeCounts { spans: 1000, ..AttributeCounts::default() };
        let keys = ["userId", "userid", "größe", "ключ", "用户", "Größe", "GRÖSSE", "Ключ", "\u{212a}elvin"];
        keys.iter().for_each(|key| counts.span.add(key, Some(ColumnType::Int), 900));
        let promoted: Vec<String> = counts.layout().span.into_iter().map(|attribute| attribute.key).collect();
        assert_eq!(promoted, ["Größe", "größe", "userId", "userid", "ключ", "用户"]);
    }

    #[test]
    fn names_of_columns_are_bounded() {
        let mut counts = AttributeCounts { spans: 1000, ..AttributeCounts::default() };
        (0..SPAN_COLUMNS_MAX as u64)
            .for_each(|number| counts.span.add(&format!("{number:0250}"), Some(ColumnType::Int), 900));
        counts.span.add("short", Some(ColumnType::Int), 800);
        let names: Vec<String> = counts.layout().span.into_iter().map(|attribute| attribute.key).collect();
        assert!(names.iter().map(String::len).sum::<usize>() <= COLUMN_NAMES_BYTES_MAX);
        assert!(names.contains(&"short".to_owned()), "one that still fits is not left out with those that don't");
        let mut counts = AttributeCounts { spans: 1000, ..AttributeCounts::default() };
        (0..SPAN_COLUMNS_MAX as u64)
            .for_each(|number| counts.span.add(&format!("{number:A>250}"), Some(ColumnType::Int), 900));
        let layout = counts.layout();
        let names = layout.span.iter().map(|attribute| layout.span_column_name(&attribute.key));
        let fixed = "span.".len() * layout.span.len();
        assert!(
            names.map(|name| name.len()).sum::<usize>() <= COLUMN_NAMES_BYTES_MAX + fixed,
            "with marks of capitals"
        );
    }
}
