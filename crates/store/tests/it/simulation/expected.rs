//! What must hold, whatever happens:
//!
//! 1. A span that was acknowledged is there, once, with the content it was sent with, until it may expire; so is another that says
//!    something else under the same ids.
//! 2. What was sent and not acknowledged is there as a whole batch or not at all. Nothing else is there.
//! 3. What has expired does not come back, unless it was sent again: then a copy may be in the log.
//! 4. An answer that lacks something says so; on a sound disk nothing is lacking.
//! 5. What is in memory, and what the files take, stays within its budget.
//! 6. In the end the folder holds the files that count, and nothing else.
//! 7. Whose files can't be made keeps nobody else's spans in memory.
//! 8. Who holds on to a snapshot can read all of it for as long as nothing is deleted that counted then.
//! 9. Who holds less than a share of the memory is not refused, as long as all together hold less than all of it.
//!    Who holds a share already is refused, and a flush brings memory down.
//! 10. In the end nothing is wrong any more, or somebody has to acknowledge it, and the log holds nothing. A loss is told once.
//! 11. A log whose synchronisation failed acknowledges nothing more and is not synchronised again; its segments stay bounded.
//! 12. A folder that can't be listed or read costs what is in it, and no start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parquet::errors::ParquetError;
use tracehouse_model::{Span, SpanBatch};
use tracehouse_spanfile::{Projection, is_damage};
use tracehouse_store::{HotBatch, Snapshot, SpanFile, Unreadable, UnreadableReason};

use super::disk::looking;
use crate::spans::{self, sorted};
use crate::world::spans_of;

pub(crate) const TENANTS: usize = 3;

/// What tells spans apart: their ids, and all that they say. A copy has the same; another span under the same ids has not.
pub(crate) type Key = (spans::Key, u64);

pub(crate) fn key_of(span: &Span) -> Key {
    struct Said(DefaultHasher);
    impl Write for Said {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut said = Said(DefaultHasher::new());
    write!(said, "{:?}", sorted(span)).expect("a hash takes any text");
    (spans::key_of(span), said.0.finish())
}

/// What was sent of a batch, and what became of it.
pub(crate) struct Sent {
    pub(crate) tenant: usize,
    pub(crate) spans: Vec<Span>,
    /// Of the spans, in their order.
    keys: Vec<Key>,
    /// On the monotonic clock.
    acknowledged_at: Option<Duration>,
    /// A failure of the power must not take it any more.
    is_durable: bool,
    /// The disk may have dropped it, and the log has said that it failed.
    is_doubtful: bool,
    /// Where it stands in the log, if it does, somebody may have removed.
    is_in_removed_log: bool,
    /// Had been removed with their files, and must be there again.
    returned: Vec<Key>,
}

#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) batches: Vec<Sent>,
    /// Of each tenant the batches that hold a span.
    holders: [BTreeMap<Key, Vec<usize>>; TENANTS],
    /// Expired, as far as was seen.
    gone: [BTreeSet<Key>; TENANTS],
    /// In files that were removed: may be gone, whatever their age is.
    removed: [BTreeSet<Key>; TENANTS],
    /// Files that were removed, as far as was seen.
    files_removed: BTreeSet<String>,
    /// Of tenants: a file was removed of which nothing could be read.
    is_unsure: [bool; TENANTS],
    /// In files that the catalogue lost the rows of: may not be shown, as long as nobody repairs that.
    in_lost_rows: [BTreeSet<Key>; TENANTS],
    /// A file's row was lost.
    has_lost_rows: bool,
    /// Of what was acknowledged and not durable a failure of the power may have taken some, which the log then tells.
    pub(crate) has_lost_some: bool,
    /// The log went on after a part of it was removed, so that it can tell.
    is_removal_seen: bool,
    /// Batches that went with a process and a log that was removed beneath it, to be told of.
    lost: Vec<usize>,
    /// What each tenant found at the last look, if that was all.
    found_last: [Option<BTreeSet<Key>>; TENANTS],
    /// What the log holds of spans that expired may come back, until the catalogue knows again what is stored.
    pub(crate) log_is_read_again: bool,
    /// What was read of files, by their ids: they do not change while the power is on.
    files: BTreeMap<String, Vec<Key>>,
    /// What each tenant had in memory at the last look.
    hot: [Vec<(Arc<HotBatch>, Vec<Key>)>; TENANTS],
    pub(crate) found: u64,
    pub(crate) expired: u64,
}

/// Which spans may expire.
pub(crate) struct MayExpire {
    /// Those that begin before, in nanoseconds since the Unix epoch.
    pub(crate) before: i64,
    /// Those in files that were removed, as all together took too much.
    pub(crate) for_room: bool,
}

impl Expected {
    /// Returns the number of the batch.
    pub(crate) fn sent(&mut self, tenant: usize, spans: Vec<Span>) -> usize {
        let number = self.batches.len();
        let keys: Vec<Key> = spans.iter().map(key_of).collect();
        for key in &keys {
            self.holders[tenant].entry(*key).or_default().push(number);
            // Sent again, it may be there again.
            self.gone[tenant].remove(key);
        }
        self.batches.push(Sent {
            tenant,
            spans,
            keys,
            acknowledged_at: None,
            is_durable: false,
            is_doubtful: false,
            is_in_removed_log: false,
            returned: Vec::new(),
        });
        number
    }

    pub(crate) fn acknowledged(&mut self, batch: usize, at: Duration) {
        let batch = &mut self.batches[batch];
        batch.acknowledged_at = Some(at);
        // Sent again, it is there again.
        let removed = &mut self.removed[batch.tenant];
        batch.returned.extend(batch.keys.iter().filter(|key| removed.remove(key)));
    }

    /// From now on a failure of the power must not take what was acknowledged up to a moment.
    pub(crate) fn durable(&mut self, up_to: Duration) {
        for batch in self.batches.iter_mut().filter(|batch| !batch.is_durable && !batch.is_doubtful) {
            batch.is_durable = batch.acknowledged_at.is_some_and(|at| at <= up_to);
            self.is_removal_seen |= batch.is_durable && !batch.is_in_removed_log;
        }
    }

    /// A synchronisation failed: nobody can make durable what was acknowledged before and was not yet.
    pub(crate) fn doubt(&mut self) {
        for batch in self.batches.iter_mut().filter(|batch| !batch.is_durable && batch.acknowledged_at.is_some()) {
            batch.is_doubtful = true;
        }
    }

    /// The power failed: what was not durable may be lost.
    pub(crate) fn power_failed(&mut self) {
        // Those that count are read again.
        self.files.clear();
        for batch in self.batches.iter_mut().filter(|batch| !batch.is_durable) {
            self.has_lost_some |= batch.acknowledged_at.take().is_some();
            self.removed[batch.tenant].extend(batch.returned.drain(..));
        }
    }

    /// Whether a file was read.
    pub(crate) fn knows_file(&self, id: &str) -> bool {
        self.files.contains_key(id)
    }

    /// The catalogue lost the row of a file that was read.
    pub(crate) fn row_lost(&mut self, tenant: usize, id: &str) {
        self.in_lost_rows[tenant].extend(&self.files[id]);
        self.has_lost_rows = true;
    }

    /// What has expired may be there again.
    pub(crate) fn may_return(&mut self) {
        self.gone.iter_mut().for_each(BTreeSet::clear);
        self.log_is_read_again = true;
    }

    /// A part of the log was removed: what was acknowledged stays in memory, until it is in files or the process ends.
    pub(crate) fn log_removed(&mut self) {
        self.is_removal_seen = false;
        for batch in self.batches.iter_mut().filter(|batch| batch.acknowledged_at.is_some()) {
            batch.is_in_removed_log = true;
        }
    }

    /// The process ends with what a tenant has in memory.
    pub(crate) fn process_ends(&mut self, what: &str, tenant: usize, snapshot: &Snapshot) {
        let hot: BTreeSet<Key> = self.hot_keys(what, tenant, snapshot).into_iter().collect();
        for (number, batch) in self.batches.iter_mut().enumerate().filter(|(_, batch)| batch.tenant == tenant) {
            let in_memory = batch.keys.iter().filter(|key| hot.contains(key)).count();
            if std::mem::take(&mut batch.is_in_removed_log) && in_memory > 0 {
                batch.acknowledged_at = None;
                self.removed[tenant].extend(batch.returned.drain(..));
                // Of others a part may have expired before.
                let is_to_be_told = self.is_removal_seen && in_memory == batch.keys.len();
                self.lost.extend(is_to_be_told.then_some(number));
            }
        }
    }

    /// One of the batches that a process lost as the log was removed beneath it, if the last look found nothing of it.
    pub(crate) fn take_lost_batch(&mut self) -> Option<usize> {
        let lost = std::mem::take(&mut self.lost);
        lost.into_iter().find(|number| {
            let batch = &self.batches[*number];
            let found = self.found_last[batch.tenant].as_ref();
            found.is_some_and(|found| batch.keys.iter().any(|key| !found.contains(key)))
        })
    }

    /// A file has expired.
    pub(crate) fn removed(&mut self, tenant: usize, file_id: &str) {
        if !self.files_removed.insert(file_id.to_owned()) {
            return;
        }
        match self.files.get(file_id) {
            Some(keys) => self.removed[tenant].extend(keys),
            None => self.is_unsure[tenant] = true,
        }
    }

    /// Compares what a tenant finds.
    pub(crate) fn check(
        &mut self,
        what: &str,
        tenant: usize,
        snapshot: &Snapshot,
        may_expire: &MayExpire,
        must_be_whole: bool,
    ) {
        let (found, is_whole) = self.everything(what, tenant, snapshot);
        assert!(is_whole || !must_be_whole, "{what}: the answer is partial on a sound disk: {:?}", snapshot.unreadable);
        let mut keys: BTreeSet<Key> = BTreeSet::new();
        for key in found {
            assert!(
                keys.insert(key),
                "{what}: a span is there twice: {key:?}, {}",
                self.whereabouts(tenant, snapshot, &key)
            );
            assert!(!self.gone[tenant].contains(&key), "{what}: a span that had expired is there again: {key:?}");
        }
        self.found += keys.len() as u64;
        if !is_whole {
            self.found_last[tenant] = None;
            return;
        }
        let removed = &self.removed[tenant];
        let may_go = |(span, key): (&Span, &Key)| {
            let for_room = may_expire.for_room && (self.is_unsure[tenant] || removed.contains(key));
            for_room || span.start_unix_nanos < may_expire.before || self.in_lost_rows[tenant].contains(key)
        };
        for (number, batch) in self.batches.iter().enumerate().filter(|(_, batch)| batch.tenant == tenant) {
            let spans = || batch.spans.iter().zip(&batch.keys);
            let missing: Vec<(&Span, &Key)> = spans().filter(|(_, key)| !keys.contains(key)).collect();
            let (lacks, of) = (missing.len(), batch.keys.len());
            if batch.acknowledged_at.is_some() {
                for (span, key) in missing {
                    assert!(
                        may_go((span, key)),
                        "{what}: a span of batch {number} that was acknowledged is missing: {key:?}, {lacks} of {of} are"
                    );
                    if self.holders[tenant][key].len() == 1 && !self.log_is_read_again {
                        self.expired += u64::from(self.gone[tenant].insert(*key));
                    }
                }
                continue;
            }
            let is_alone = batch.keys.iter().all(|key| self.holders[tenant][key].len() == 1);
            if is_alone && !spans().any(&may_go) {
                assert!(
                    missing.is_empty() || lacks == of,
                    "{what}: of batch {number}, which was not acknowledged, {} of {of} spans are there",
                    of - lacks
                );
            }
        }
        self.found_last[tenant] = Some(keys);
    }

    /// For people: where a span is.
    fn whereabouts(&self, tenant: usize, snapshot: &Snapshot, key: &Key) -> String {
        let files =
            snapshot.files.iter().filter(|file| self.files.get(&file.record.id).is_some_and(|keys| keys.contains(key)));
        let files: Vec<&str> = files.map(|file| file.record.path.as_str()).collect();
        let hot = self.hot[tenant].iter().filter(|(_, keys)| keys.contains(key)).count();
        format!("in {hot} batches in memory and {files:?}; not readable are {:?}", snapshot.unreadable)
    }

    /// From here on every file is read anew.
    pub(crate) fn forget_files(&mut self) {
        self.files.clear();
    }

    /// The keys of all spans of a snapshot, and whether that is all that is stored.
    fn everything(&mut self, what: &str, tenant: usize, snapshot: &Snapshot) -> (Vec<Key>, bool) {
        let mut found = self.hot_keys(what, tenant, snapshot);
        // What lies in files whose rows are lost is known, and that no answer shows it.
        let is_expected = |file: &Unreadable| self.has_lost_rows && file.reason == UnreadableReason::Unknown;
        let mut is_whole = snapshot.unreadable.iter().all(is_expected);
        for file in snapshot.files.iter() {
            let id = &file.record.id;
            if self.files.contains_key(id) && looking(|| file.open().is_err()) {
                is_whole = false;
                continue;
            }
            if !self.files.contains_key(id) {
                match read_file(file) {
                    Ok(spans) => drop(self.files.insert(id.clone(), self.keys_of(what, tenant, &spans))),
                    // It went after it was opened, or before.
                    Err(error) if !is_damage(&error) => {
                        is_whole = false;
                        continue;
                    }
                    Err(error) => panic!("{what}: a file is damaged: {error}"),
                }
            }
            found.extend(&self.files[id]);
        }
        (found, is_whole)
    }

    /// The keys of what is in memory.
    fn hot_keys(&mut self, what: &str, tenant: usize, snapshot: &Snapshot) -> Vec<Key> {
        let known = std::mem::take(&mut self.hot[tenant]);
        for batch in snapshot.hot.iter() {
            let keys = match known.iter().find(|(known, _)| Arc::ptr_eq(known, batch)) {
                Some((_, keys)) => keys.clone(),
                None => self.keys_of(what, tenant, &spans_of(&batch.spans)),
            };
            self.hot[tenant].push((batch.clone(), keys));
        }
        self.hot[tenant].iter().flat_map(|(_, keys)| keys).copied().collect()
    }

    /// The keys of some spans, all of which a tenant sent as they are.
    fn keys_of(&self, what: &str, tenant: usize, spans: &[Span]) -> Vec<Key> {
        let key_of_sent = |span| {
            let key = key_of(span);
            assert!(self.holders[tenant].contains_key(&key), "{what}: nobody sent this span: {span:#?}");
            key
        };
        spans.iter().map(key_of_sent).collect()
    }
}

/// All spans of a file, in its order.
pub(crate) fn read_file(file: &SpanFile) -> Result<Vec<Span>, ParquetError> {
    looking(|| {
        let open = file.open().map_err(|error| error.source)?;
        let rows = |group| open.read_rows(group, 0..open.rows_of(group), Projection::All);
        let batches: Result<Vec<SpanBatch>, _> = (0..open.row_groups()).map(rows).collect();
        Ok(batches?.iter().flat_map(spans_of).collect())
    })
}
