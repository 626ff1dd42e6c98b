//! What the catalogue, and a file itself, say of the file.

use tracehouse_model::{SeededSet, StringCode, StringTable, TraceId};

use super::contents::{FileContents, NameList, NameSet, ServiceNames};
use super::group::Group;
use super::hour::hour_of;
use super::promote::AttributeCounts;
use super::trace_filter::TraceFilter;

/// What the catalogue needs to know of a file.
pub struct WrittenFile {
    pub spans: u64,
    pub start_min: i64,
    pub start_max: i64,
    /// When the last span ends.
    pub end_max: i64,
    /// Bit `i` is set if a span begins in minute `i` of the hour of `start_min`; all are if spans begin in other hours too.
    pub minutes: u64,
    pub row_groups: u32,
    /// How much of the file's end is read to open it.
    pub tail_bytes: u32,
    pub trace_filter: TraceFilter,
    pub contents: FileContents,
}

/// When a span ends. One that claims to end before it begins ends where it begins.
pub(super) fn end_of(start_unix_nanos: i64, duration_nanos: i64) -> i64 {
    start_unix_nanos.saturating_add(duration_nanos.max(0))
}

const NANOS_PER_MINUTE: i64 = 60_000_000_000;
const MINUTES_PER_HOUR: i64 = 60;

/// Gathers, over all row groups, what is said of a file.
pub(super) struct Summary {
    spans: u64,
    start: Option<(i64, i64)>,
    end_max: i64,
    minutes: u64,
    trace_hashes: Vec<u64>,
    services: ServiceNames,
    scope_keys: NameSet,
    event_keys: NameSet,
    link_keys: NameSet,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            spans: 0,
            start: None,
            end_max: i64::MIN,
            minutes: 0,
            trace_hashes: Vec::new(),
            services: ServiceNames::default(),
            scope_keys: NameSet::of_keys(),
            event_keys: NameSet::of_keys(),
            link_keys: NameSet::of_keys(),
        }
    }
}

impl Summary {
    /// Adds what a row group holds, but for its traces, times and names.
    pub(super) fn add(&mut self, group: &Group<'_>) {
        self.spans += group.rows.len() as u64;
        self.add_keys(group);
    }

    /// Adds the services and the names of the spans of a row group, of each row.
    pub(super) fn add_names(&mut self, services: &[StringCode], names: &[StringCode], strings: &StringTable) {
        // In order of appearance, so that equal data has equal files even where names are left out.
        let mut seen_pairs: SeededSet<(StringCode, StringCode)> = SeededSet::default();
        let mut last_pair = None;
        for pair in services.iter().copied().zip(names.iter().copied()) {
            if last_pair != Some(pair) {
                if seen_pairs.insert(pair) {
                    self.services.add(strings.get(pair.0), strings.get(pair.1));
                }
                last_pair = Some(pair);
            }
        }
    }

    /// Adds the traces of a row group, by the id of each row.
    pub(super) fn add_traces(&mut self, ids: &[TraceId]) {
        self.trace_hashes.extend(ids.chunk_by(|left, right| left == right).map(|trace| trace[0].hash64()));
    }

    /// Adds the times of a row group, of each row.
    pub(super) fn add_times(&mut self, start_unix_nanos: &[i64], duration_nanos: &[i64]) {
        let (mut start_min, mut start_max) = self.start.unwrap_or((i64::MAX, i64::MIN));
        for (&start, &duration) in start_unix_nanos.iter().zip(duration_nanos) {
            start_min = start_min.min(start);
            start_max = start_max.max(start);
            self.end_max = self.end_max.max(end_of(start, duration));
            self.minutes |= 1 << start.div_euclid(NANOS_PER_MINUTE).rem_euclid(MINUTES_PER_HOUR);
        }
        self.start = Some((start_min, start_max));
    }

    fn add_keys(&mut self, group: &Group<'_>) {
        for batch in group.batches {
            let owners = [
                (&mut self.scope_keys, &batch.scopes.attributes),
                (&mut self.event_keys, &batch.events.attributes),
                (&mut self.link_keys, &batch.links.attributes),
            ];
            for (keys, lists) in owners {
                let mut codes: Vec<StringCode> = lists.keys().to_vec();
                codes.sort_unstable();
                codes.dedup();
                for code in codes {
                    keys.add(batch.strings.get(code));
                }
            }
        }
    }

    pub(super) fn finish(mut self, counts: &AttributeCounts) -> WrittenFile {
        self.trace_hashes.dedup();
        let (start_min, start_max) = self.start.unwrap_or_default();
        let of_one_hour = hour_of(start_min) == hour_of(start_max);
        let (span_keys, span_keys_cut) = counts.span_keys();
        let (resource_keys, resource_keys_cut) = counts.resource_keys();
        let cut = [
            (NameList::Services, self.services.is_cut()),
            (NameList::Operations, self.services.operations_are_cut()),
            (NameList::SpanKeys, span_keys_cut),
            (NameList::ResourceKeys, resource_keys_cut),
            (NameList::ScopeKeys, self.scope_keys.is_cut()),
            (NameList::EventKeys, self.event_keys.is_cut()),
            (NameList::LinkKeys, self.link_keys.is_cut()),
        ];
        let cut: Vec<NameList> = cut.into_iter().filter_map(|(list, is_cut)| is_cut.then_some(list)).collect();
        let contents = FileContents {
            services: self.services.sorted(),
            span_keys,
            resource_keys,
            scope_keys: self.scope_keys.sorted(),
            event_keys: self.event_keys.sorted(),
            link_keys: self.link_keys.sorted(),
            complete: cut.is_empty(),
            cut,
        };
        WrittenFile {
            spans: self.spans,
            start_min,
            start_max,
            end_max: if self.spans == 0 { 0 } else { self.end_max },
            minutes: if of_one_hour { self.minutes } else { u64::MAX },
            row_groups: 0,
            tail_bytes: 0,
            trace_filter: TraceFilter::build(&self.trace_hashes),
            contents,
        }
    }
}
