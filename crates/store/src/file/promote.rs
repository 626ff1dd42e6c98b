//! Which attributes get a column of their own.

use tracehouse_model::{AttributeLists, SeededMap, SpanBatch, ValueTag};

use super::contents::KeyCount;
use super::layout::{ColumnType, LAYOUT_VERSION, Layout, PromotedAttribute};

/// Counts how many spans carry each attribute, over many batches.
#[derive(Default)]
pub(crate) struct AttributeCounts {
    span: Counts,
    resource: Counts,
    spans: u64,
}

type Counts = SeededMap<(String, Option<ColumnType>), u64>;

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
    pub(crate) fn add_batch(&mut self, batch: &SpanBatch) {
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
    pub(crate) fn add_file(&mut self, span: &[KeyCount], resource: &[KeyCount], spans: u64) {
        self.spans += spans;
        for (counts, keys) in [(&mut self.span, span), (&mut self.resource, resource)] {
            for key in keys {
                *counts.entry((key.key.clone(), key.value_type)).or_default() += key.spans;
            }
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        let span_min = (self.spans / SPANS_PER_OCCURRENCE_MAX).max(OCCURRENCES_MIN.min(self.spans));
        Layout {
            version: LAYOUT_VERSION,
            span: choose(&self.span, span_min, SPAN_COLUMNS_MAX, |_| true),
            resource: choose(&self.resource, 1, RESOURCE_KEYS.len(), |key| RESOURCE_KEYS.contains(&key)),
        }
    }

    pub(crate) fn span_keys(&self, most: usize) -> Vec<KeyCount> {
        key_counts(&self.span, most)
    }

    pub(crate) fn resource_keys(&self, most: usize) -> Vec<KeyCount> {
        key_counts(&self.resource, most)
    }
}

#[inline]
fn count_owner(counts: &mut SeededMap<(u32, ValueTag), u64>, lists: &AttributeLists, owner: usize, spans: u64) {
    for (key, value) in lists.of(owner) {
        *counts.entry((key, value.tag())).or_default() += spans;
    }
}

fn add_counts(counts: &mut Counts, batch: &SpanBatch, by_code: &SeededMap<(u32, ValueTag), u64>) {
    for (&(key, tag), &spans) in by_code {
        let key = (batch.strings.get(key).to_owned(), ColumnType::from_tag(tag));
        *counts.entry(key).or_default() += spans;
    }
}

/// The most frequent keys, each with its most frequent type, in order of name so that equal data has equal files.
fn choose(counts: &Counts, spans_min: u64, most: usize, eligible: impl Fn(&str) -> bool) -> Vec<PromotedAttribute> {
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
    ranked.truncate(most);
    ranked.sort_unstable_by_key(|(key, _)| *key);
    ranked.into_iter().map(|(key, (_, value_type))| PromotedAttribute { key: key.to_owned(), value_type }).collect()
}

fn key_counts(counts: &Counts, most: usize) -> Vec<KeyCount> {
    let mut keys: Vec<KeyCount> = counts
        .iter()
        .map(|((key, value_type), &spans)| KeyCount { key: key.clone(), value_type: *value_type, spans })
        .collect();
    keys.sort_unstable_by(|left, right| {
        (right.spans, &left.key, left.value_type).cmp(&(left.spans, &right.key, right.value_type))
    });
    keys.truncate(most);
    keys
}
