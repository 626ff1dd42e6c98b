//! What queries see: the spans in memory and the list of files, as one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tracehouse_catalogue::FileRecord;
use tracehouse_model::TenantId;

use crate::absent::Unreadable;
use crate::arrivals::{Arrived, LeftMemory};
use crate::hot_batch::HotBatch;
use crate::hot_batches::{HotBatches, Newest};
use crate::hot_copies::{HotCopies, TakenOut};
use crate::snapshot::Snapshot;
use crate::span_file::SpanFile;
use tracehouse_log::DurableBatch;

/// The moving set of hot batches and files. One lock guards both, so that no span is missed or seen twice while it moves
/// from memory to a file.
#[derive(Default)]
pub(crate) struct State {
    tenants: RwLock<Tenants>,
    /// For each tenant that was asked about, what finds copies among its spans in memory.
    hot_copies: Mutex<HashMap<TenantId, Arc<Mutex<HotCopies>>>>,
}

#[derive(Default)]
struct Tenants {
    by_id: BTreeMap<TenantId, Snapshot>,
    hot_bytes: usize,
    hot_spans: u64,
    last_sequence: u64,
    /// Of each tenant with spans in memory.
    hot_bytes_of: BTreeMap<TenantId, usize>,
    /// Of tenants whose spans in memory the log holds further on than where they first stood.
    carried: BTreeMap<TenantId, CarriedForward>,
    /// Batches up to here are being written to files and must stay as they are.
    flushing_up_to: u64,
    left_memory: LeftMemory,
}

/// Where the log repeats a tenant's batches.
struct CarriedForward {
    /// Batches up to this number …
    up_to: u64,
    /// … stand in the log from this number on.
    from: u64,
}

impl State {
    pub(crate) fn snapshot(&self, tenant: &TenantId) -> Snapshot {
        self.tenants.read().by_id.get(tenant).cloned().unwrap_or_default()
    }

    /// All spans of a tenant at this moment, with copies of others among those in memory.
    pub(crate) fn snapshot_as_sent(&self, tenant: &TenantId, now_unix_nanos: i64) -> Snapshot {
        Snapshot { taken_unix_nanos: now_unix_nanos, ..self.snapshot(tenant) }
    }

    /// All spans of a tenant at this moment, each once: copies of others are taken out of what is in memory. May read files, and
    /// gives those that it could not read: they may hold twins.
    pub(crate) fn snapshot_without_copies(
        &self,
        tenant: &TenantId,
        now_unix_nanos: i64,
    ) -> (Snapshot, Vec<Arc<SpanFile>>) {
        let all_known = |snapshot: &Snapshot| snapshot.hot.iter().all(|batch| batch.is_without_copies());
        let snapshot = self.snapshot_as_sent(tenant, now_unix_nanos);
        if all_known(&snapshot) {
            return (snapshot, Vec::new());
        }
        let copies = self.hot_copies_of(tenant);
        // One at a time for each tenant: what one has found the next need not look for.
        let mut copies = copies.lock();
        let mut snapshot = self.snapshot_as_sent(tenant, now_unix_nanos);
        if all_known(&snapshot) {
            return (snapshot, Vec::new());
        }
        let TakenOut { replaced, unread } = copies.take_out(&mut snapshot, now_unix_nanos);
        self.replace_hot(tenant, &replaced);
        (snapshot, unread)
    }

    fn hot_copies_of(&self, tenant: &TenantId) -> Arc<Mutex<HotCopies>> {
        self.hot_copies.lock().entry(tenant.clone()).or_default().clone()
    }

    /// Adds files of a tenant that were not written from what was in memory, and takes others away. What is in memory may hold
    /// copies of them, so all of it is looked at again.
    pub(crate) fn let_in(&self, tenant: &TenantId, add: Vec<Arc<SpanFile>>, remove: &[String]) {
        let copies = self.hot_copies_of(tenant);
        // Nobody may call a batch known that was not compared with these files.
        let mut copies = copies.lock();
        copies.forget();
        let mut tenants = self.tenants.write();
        tenants.change_files(add, remove);
        for batch in tenants.by_id.get(tenant).iter().flat_map(|snapshot| snapshot.hot.iter()) {
            batch.set_unknown();
        }
    }

    /// Puts batches in the place of others. One that is no longer in memory needs no replacement.
    fn replace_hot(&self, tenant: &TenantId, replaced: &[(Arc<HotBatch>, Arc<HotBatch>)]) {
        if replaced.is_empty() {
            return;
        }
        let mut tenants = self.tenants.write();
        let tenants = &mut *tenants;
        let Some(snapshot) = tenants.by_id.get_mut(tenant) else { return };
        for (old, new) in replaced {
            if snapshot.hot.replace(old, new) {
                tenants.hot_bytes = tenants.hot_bytes - old.bytes + new.bytes;
                let of_tenant = tenants.hot_bytes_of.entry(tenant.clone()).or_default();
                *of_tenant = of_tenant.saturating_sub(old.bytes) + new.bytes;
                tenants.hot_spans -= (old.spans.len() - new.spans.len()) as u64;
            }
        }
    }

    /// The tenants that have spans, in memory or in files.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        let has_spans = |snapshot: &Snapshot| !(snapshot.hot.is_empty() && snapshot.files.is_empty());
        let tenants = self.tenants.read();
        tenants.by_id.iter().filter(|(_, snapshot)| has_spans(snapshot)).map(|(tenant, _)| tenant.clone()).collect()
    }

    pub(crate) fn hot_bytes(&self) -> usize {
        self.tenants.read().hot_bytes
    }

    pub(crate) fn hot_spans(&self) -> u64 {
        self.tenants.read().hot_spans
    }

    /// Makes durable batches visible.
    pub(crate) fn add_hot(&self, batches: Vec<DurableBatch>) {
        let ready: Vec<(TenantId, Newest)> = batches
            .into_iter()
            .map(|batch| (batch.tenant, Newest::new(HotBatch::new(batch.spans, batch.sequence, batch.sequence))))
            .collect();
        let mut tenants = self.tenants.write();
        let tenants = &mut *tenants;
        for (tenant, newest) in ready {
            let batch = newest.batch();
            let bytes = batch.bytes;
            tenants.hot_spans += batch.spans.len() as u64;
            tenants.last_sequence = tenants.last_sequence.max(batch.last_sequence);
            let hot = &mut tenants.by_id.entry(tenant.clone()).or_default().hot;
            let saved = hot.push(newest, tenants.flushing_up_to);
            tenants.hot_bytes = (tenants.hot_bytes + bytes).saturating_sub(saved);
            let of_tenant = tenants.hot_bytes_of.entry(tenant).or_default();
            *of_tenant = (*of_tenant + bytes).saturating_sub(saved);
        }
    }

    /// The log has given numbers up to this one, also to records that hold no new spans.
    pub(crate) fn advance(&self, sequence: u64) {
        let mut tenants = self.tenants.write();
        tenants.last_sequence = tenants.last_sequence.max(sequence);
    }

    /// The highest number that the log has given to a record that is durable.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.tenants.read().last_sequence
    }

    /// The log was read; what comes from now on has higher numbers.
    pub(crate) fn begin(&self) {
        let mut tenants = self.tenants.write();
        let last_sequence = tenants.last_sequence;
        tenants.left_memory.begin(last_sequence);
    }

    /// What came to a tenant after a number of the log, up to another that was given already.
    pub(crate) fn arrived(&self, tenant: &TenantId, after: u64, up_to: u64) -> Arrived {
        let tenants = self.tenants.read();
        let hot = tenants.by_id.get(tenant).map(|snapshot| &snapshot.hot);
        tenants.left_memory.arrived(tenant, hot.unwrap_or(&HotBatches::default()), after, up_to)
    }

    pub(crate) fn hot_bytes_of(&self, tenant: &TenantId) -> usize {
        self.tenants.read().hot_bytes_of.get(tenant).copied().unwrap_or(0)
    }

    /// What is in memory, of all but some tenants.
    pub(crate) fn hot_except(&self, left_out: &[TenantId]) -> HotExcept {
        let tenants = self.tenants.read();
        let counted = tenants.hot_bytes_of.iter().filter(|(tenant, _)| !left_out.contains(tenant));
        let mut hot = HotExcept { bytes: 0, bytes_of_largest: 0, tenants: tenants.by_id.len() };
        for (_, bytes) in counted {
            hot.bytes += bytes;
            hot.bytes_of_largest = hot.bytes_of_largest.max(*bytes);
        }
        hot
    }

    /// Whether no other tenant has spans in memory or in files.
    pub(crate) fn is_only_tenant(&self, tenant: &TenantId) -> bool {
        let tenants = self.tenants.read();
        tenants.by_id.len() - usize::from(tenants.by_id.contains_key(tenant)) == 0
    }

    /// The log repeats a tenant's batches up to a number from another number on.
    pub(crate) fn carried_forward(&self, tenant: &TenantId, up_to: u64, from: u64) {
        self.tenants.write().carried.insert(tenant.clone(), CarriedForward { up_to, from });
    }

    /// Everything in the log up to here is in files, or repeated further on.
    pub(crate) fn stored_up_to(&self) -> u64 {
        let tenants = self.tenants.read();
        let needed = tenants.by_id.iter().filter_map(|(id, snapshot)| {
            let carried = tenants.carried.get(id);
            snapshot.hot.iter().map(|batch| needed_from(batch, carried)).min()
        });
        needed.min().map_or(tenants.last_sequence, |oldest| oldest - 1)
    }

    /// Takes everything that is in memory now, to be written to files. Ends with [`State::end_flush`].
    pub(crate) fn begin_flush(&self) -> FlushSet {
        let mut tenants = self.tenants.write();
        tenants.flushing_up_to = tenants.last_sequence;
        let with_hot = tenants.by_id.iter().filter(|(_, snapshot)| !snapshot.hot.is_empty());
        let with_hot = with_hot.map(|(id, snapshot)| TenantToFlush {
            tenant: id.clone(),
            batches: snapshot.hot.iter().cloned().collect(),
            up_to: tenants.last_sequence,
            is_carried: tenants.carried.contains_key(id),
            bytes: tenants.hot_bytes_of.get(id).copied().unwrap_or(0),
        });
        FlushSet { up_to: tenants.last_sequence, tenants: with_hot.collect() }
    }

    /// Replaces the batches that some tenants had, each up to a number of the log, by the files that hold their spans.
    pub(crate) fn flushed<'a>(
        &self,
        flushed: impl IntoIterator<Item = (&'a TenantId, u64)>,
        files: Vec<Arc<SpanFile>>,
    ) {
        let (mut tenants, mut left) = (self.tenants.write(), Vec::new());
        for (tenant, up_to) in flushed {
            if let Some(snapshot) = tenants.by_id.get_mut(tenant) {
                let leaving = snapshot.hot.iter().take_while(|batch| batch.last_sequence <= up_to);
                left.extend(leaving.map(|batch| (tenant.clone(), batch.clone())));
                snapshot.hot.retain(|batch| batch.last_sequence > up_to);
            }
            tenants.carried.remove(tenant);
        }
        tenants.change_files(files, &[]);
        tenants.left_memory.add(left);
        tenants.recount();
    }

    pub(crate) fn end_flush(&self) {
        self.tenants.write().flushing_up_to = 0;
    }

    /// Adds files and takes others away, at once.
    pub(crate) fn change_files(&self, add: Vec<Arc<SpanFile>>, remove: &[String]) {
        self.tenants.write().change_files(add, remove);
    }

    /// Whether all of these files still count.
    pub(crate) fn has_files(&self, files: &[Arc<SpanFile>]) -> bool {
        let tenants = self.tenants.read();
        files.iter().all(|file| {
            let of_tenant = tenants.by_id.get(&file.record.tenant);
            of_tenant.is_some_and(|snapshot| snapshot.files.iter().any(|live| live.record.id == file.record.id))
        })
    }

    pub(crate) fn tenant_ids(&self) -> Vec<TenantId> {
        self.tenants.read().by_id.keys().cloned().collect()
    }

    /// Puts these files that can't be read in the place of those known so far.
    pub(crate) fn set_unreadable(&self, of_tenants: BTreeMap<TenantId, Vec<Unreadable>>) {
        self.tenants.write().set_unreadable(of_tenants);
    }

    /// The same, when files can be read again or can't any more: an answer counts each once.
    pub(crate) fn change_files_and_unreadable(
        &self,
        add: Vec<Arc<SpanFile>>,
        remove: &[String],
        of_tenants: BTreeMap<TenantId, Vec<Unreadable>>,
    ) {
        let mut tenants = self.tenants.write();
        tenants.change_files(add, remove);
        tenants.set_unreadable(of_tenants);
    }

    /// Makes the files of other tables than spans known.
    pub(crate) fn set_other_tables(&self, records: &[FileRecord]) {
        let mut tenants = self.tenants.write();
        let mut of_tenants: BTreeMap<&TenantId, Vec<Arc<FileRecord>>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.retired.is_none()) {
            of_tenants.entry(&record.tenant).or_default().push(Arc::new(record.clone()));
        }
        for (tenant, mut of_tenant) in of_tenants {
            of_tenant.sort_by(|left, right| (right.start_max, &left.id).cmp(&(left.start_max, &right.id)));
            tenants.by_id.entry(tenant.clone()).or_default().other_tables = Arc::new(of_tenant);
        }
    }

    /// All files of spans.
    pub(crate) fn all_files(&self) -> Vec<Arc<SpanFile>> {
        self.tenants.read().by_id.values().flat_map(|snapshot| snapshot.files.iter().cloned()).collect()
    }
}

impl Tenants {
    fn change_files(&mut self, add: Vec<Arc<SpanFile>>, remove: &[String]) {
        let remove: HashSet<&str> = remove.iter().map(String::as_str).collect();
        let is_removed = |file: &Arc<SpanFile>| remove.contains(file.record.id.as_str());
        for snapshot in self.by_id.values_mut().filter(|_| !remove.is_empty()) {
            if snapshot.files.iter().any(is_removed) {
                Arc::make_mut(&mut snapshot.files).retain(|file| !is_removed(file));
            }
        }
        // A start adds all files at once: each tenant's are sorted once, not for each file.
        let mut of_tenants: BTreeMap<TenantId, Vec<Arc<SpanFile>>> = BTreeMap::new();
        for file in add {
            of_tenants.entry(file.record.tenant.clone()).or_default().push(file);
        }
        for (tenant, added) in of_tenants {
            let files = Arc::make_mut(&mut self.by_id.entry(tenant).or_default().files);
            files.extend(added);
            files.sort_by(|left, right| {
                (right.record.start_max, &left.record.id).cmp(&(left.record.start_max, &right.record.id))
            });
        }
    }

    fn set_unreadable(&mut self, mut of_tenants: BTreeMap<TenantId, Vec<Unreadable>>) {
        for (tenant, snapshot) in &mut self.by_id {
            snapshot.unreadable = Arc::new(of_tenants.remove(tenant).unwrap_or_default());
        }
        for (tenant, unreadable) in of_tenants {
            self.by_id.entry(tenant).or_default().unreadable = Arc::new(unreadable);
        }
    }

    fn recount(&mut self) {
        let hot = || self.by_id.values().flat_map(|snapshot| snapshot.hot.iter());
        self.hot_bytes = hot().map(|batch| batch.bytes).sum();
        self.hot_spans = hot().map(|batch| batch.spans.len() as u64).sum();
        let bytes_of = |snapshot: &Snapshot| snapshot.hot.iter().map(|batch| batch.bytes).sum();
        let with_hot = self.by_id.iter().filter(|(_, snapshot)| !snapshot.hot.is_empty());
        self.hot_bytes_of = with_hot.map(|(id, snapshot)| (id.clone(), bytes_of(snapshot))).collect();
    }
}

/// The number from which on the log must keep its records for a batch.
fn needed_from(batch: &HotBatch, carried: Option<&CarriedForward>) -> u64 {
    match carried {
        // Small batches may have been joined over the boundary.
        Some(carried) if batch.first_sequence <= carried.up_to && batch.last_sequence > carried.up_to => {
            carried.from.min(carried.up_to + 1)
        }
        Some(carried) if batch.first_sequence <= carried.up_to => carried.from,
        _ => batch.first_sequence,
    }
}

/// See [`State::hot_except`].
pub(crate) struct HotExcept {
    pub(crate) bytes: usize,
    /// Of the tenant that has most.
    pub(crate) bytes_of_largest: usize,
    /// How many have spans in memory or in files.
    pub(crate) tenants: usize,
}

/// What is in memory as a flush begins, up to a number of the log.
pub(crate) struct FlushSet {
    pub(crate) up_to: u64,
    pub(crate) tenants: Vec<TenantToFlush>,
}

/// Batches of a tenant.
pub(crate) struct TenantToFlush {
    pub(crate) tenant: TenantId,
    pub(crate) batches: Vec<Arc<HotBatch>>,
    /// The log number up to which these are all, after those that are in files.
    pub(crate) up_to: u64,
    /// The log repeats them, so they are written together or not at all.
    pub(crate) is_carried: bool,
    /// What they take in memory.
    pub(crate) bytes: usize,
}
