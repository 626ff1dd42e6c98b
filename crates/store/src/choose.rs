//! Which files are merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracehouse_catalogue::Tier;
use tracehouse_model::TenantId;
use tracehouse_spanfile::hour_of;

use crate::span_file::SpanFile;

/// How much is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Where enough files of a size have gathered.
    Routine,
    /// Until nothing is left that merging would improve.
    Everything,
}

/// Merged files hold about so many spans: large enough for dictionaries and footers to pay, small enough that a search
/// for the newest traces reads little.
const SPANS_PER_FILE: u64 = 512 * 1024;
/// Files of one size class are merged when there are so many of them.
const FILES_PER_MERGE_MIN: usize = 4;
const FILES_PER_MERGE_MAX: usize = 16;
/// Row groups of files that are merged, together: where texts are long there are more of them for the same spans, and each
/// makes the end of the file larger.
const ROW_GROUPS_PER_MERGE_MAX: u32 = 64;

/// The tenant, the hour (since the epoch), the size class, the tier and the object store of files that are merged with each other.
pub(crate) type MergeKey = (TenantId, i64, u32, Tier, String);

/// Files to merge: of one key, oldest first.
pub(crate) struct Choice {
    pub(crate) key: MergeKey,
    pub(crate) inputs: Vec<Arc<SpanFile>>,
}

/// What to merge next: at most one merge for each key. Empty if nothing is left that merging would improve.
pub(crate) fn choose(files: &[Arc<SpanFile>], effort: Effort) -> Vec<Choice> {
    let mut groups: BTreeMap<MergeKey, Vec<Arc<SpanFile>>> = BTreeMap::new();
    for file in files {
        let record = &file.record;
        let is_large = record.level > 0 && record.spans >= SPANS_PER_FILE / 2;
        if is_large || file.is_suspected() || record.lost_spans > 0 {
            continue;
        }
        // Files are merged with others of their size, so that a span is rewritten seldom.
        let size_class = match effort {
            Effort::Routine => (record.spans.max(1).ilog2() / 2).max(6),
            Effort::Everything => 0,
        };
        let place = (record.tier, record.object_store.clone());
        let key = (record.tenant.clone(), hour_of(record.start_min), size_class, place.0, place.1);
        groups.entry(key).or_default().push(file.clone());
    }
    let choices =
        groups.into_iter().filter_map(|(key, group)| Some(Choice { key, inputs: choose_among(group, effort)? }));
    choices.collect()
}

fn choose_among(mut group: Vec<Arc<SpanFile>>, effort: Effort) -> Option<Vec<Arc<SpanFile>>> {
    group.sort_by(|left, right| left.record.id.cmp(&right.record.id));
    let total: u64 = group.iter().map(|file| file.record.spans).sum();
    let worthwhile = match effort {
        Effort::Routine => group.len() >= FILES_PER_MERGE_MIN || total >= SPANS_PER_FILE,
        Effort::Everything => group.len() > 1 || group.iter().any(|file| file.record.level == 0),
    };
    if !worthwhile {
        return None;
    }
    // A file too large for its neighbours must not keep those behind it from being merged.
    (0..group.len()).find_map(|first| {
        let chosen = that_fit(&group[first..]);
        let improves = chosen.len() > 1 || chosen[0].record.level == 0;
        improves.then(|| chosen.to_vec())
    })
}

/// As many files from the first on as make one of the intended size.
fn that_fit(files: &[Arc<SpanFile>]) -> &[Arc<SpanFile>] {
    let (mut spans, mut row_groups) = (0, 0);
    let fits = |file: &&Arc<SpanFile>| {
        spans += file.record.spans;
        row_groups += file.record.row_groups;
        let is_first = spans == file.record.spans;
        is_first || (spans <= SPANS_PER_FILE * 5 / 4 && row_groups <= ROW_GROUPS_PER_MERGE_MAX)
    };
    let count = files.iter().take(FILES_PER_MERGE_MAX).take_while(fits).count();
    &files[..count]
}
