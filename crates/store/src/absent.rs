//! Files that are part of what is stored and can't be read now: missing, set aside, or unknown to the catalogue.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tracehouse_catalogue::{DamagedRow, FileRecord};
use tracehouse_model::TenantId;
use tracehouse_spanfile::NANOS_PER_HOUR;

use crate::lost::Lost;
use crate::other_tables::OfOtherTables;
use crate::survey::{Survey, UnknownFile};

/// How often missing files are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// So many files of a kind are named; of the rest the number is told.
pub(crate) const NAMED_MAX: usize = 20;

/// A file that an answer over its times would need, and can't have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Inside the store's folder.
    pub path: String,
    /// How many spans nobody can read now; 0 if that is not known.
    pub spans: u64,
    /// First and last start of a span inside, in nanoseconds since the Unix epoch; an hour if no more is known.
    pub start_min: i64,
    pub start_max: i64,
    /// No span inside ends later; `None`: not known.
    pub end_max: Option<i64>,
    pub reason: UnreadableReason,
}

impl Unreadable {
    pub(crate) fn of(record: &FileRecord, reason: UnreadableReason) -> Self {
        let FileRecord { spans, start_min, start_max, end_max, .. } = *record;
        Self { path: record.path.clone(), spans, start_min, start_max, end_max, reason }
    }
}

/// Why a file can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadableReason {
    /// The catalogue lists it, and it is not in its folder.
    Missing,
    /// It is in its folder, and the catalogue does not list it.
    Unknown,
    /// It is damaged and was set aside.
    SetAside,
    /// It was out of reach, and was not compared with the other files since: spans in it may have been sent again.
    HeldBack,
    /// The folder in which the catalogue lists it can't be listed.
    OutOfReach,
    /// It lies in an object store that is not configured.
    Elsewhere,
}

impl fmt::Display for UnreadableReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown to the catalogue",
            Self::SetAside => "damaged and set aside",
            Self::OutOfReach => "in a folder that can't be listed",
            Self::Elsewhere => "in an object store that is not configured",
            Self::HeldBack => "not compared with the others yet, after it was out of reach",
        })
    }
}

/// All such files of a store.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    pub(crate) missing: Vec<FileRecord>,
    /// In folders that could not be listed.
    pub(crate) out_of_reach: Vec<FileRecord>,
    /// In object stores that are not configured.
    pub(crate) elsewhere: Vec<FileRecord>,
    /// These are no part of any answer.
    pub(crate) of_other_tables: OfOtherTables,
    /// There again, but not compared with the files that were written meanwhile: see [`crate::held_back`].
    pub(crate) held_back: Vec<FileRecord>,
    pub(crate) aside: Vec<FileRecord>,
    pub(crate) unknown: Vec<UnknownFile>,
    damaged_rows: Vec<DamagedRow>,
    /// What else the catalogue does not know any more.
    pub(crate) lost: Lost,
    /// When missing files are looked for again, on the monotonic clock.
    pub(crate) look_at: Duration,
}

impl Absent {
    /// Takes these files out of a survey.
    pub(crate) fn of(survey: &mut Survey) -> Self {
        Self {
            missing: std::mem::take(&mut survey.missing),
            out_of_reach: std::mem::take(&mut survey.out_of_reach),
            elsewhere: std::mem::take(&mut survey.elsewhere),
            of_other_tables: std::mem::take(&mut survey.of_other_tables),
            held_back: Vec::new(),
            aside: std::mem::take(&mut survey.aside),
            unknown: std::mem::take(&mut survey.unknown),
            damaged_rows: std::mem::take(&mut survey.damaged_rows),
            lost: Lost::default(),
            look_at: Duration::ZERO,
        }
    }

    /// Missing files are not looked for at once.
    pub(crate) fn look_after(&mut self, now: Duration) {
        self.look_at = now + LOOK_INTERVAL;
    }

    pub(crate) fn by_tenant(&self) -> BTreeMap<TenantId, Vec<Unreadable>> {
        let mut tenants: BTreeMap<TenantId, Vec<Unreadable>> = BTreeMap::new();
        let listed = self.missing.iter().map(|record| (record, UnreadableReason::Missing));
        let aside = self.aside.iter().map(|record| (record, UnreadableReason::SetAside));
        let held_back = self.held_back.iter().map(|record| (record, UnreadableReason::HeldBack));
        let out_of_reach = self.out_of_reach.iter().map(|record| (record, UnreadableReason::OutOfReach));
        let elsewhere = self.elsewhere.iter().map(|record| (record, UnreadableReason::Elsewhere));
        for (record, reason) in listed.chain(aside).chain(held_back).chain(out_of_reach).chain(elsewhere) {
            tenants.entry(record.tenant.clone()).or_default().push(Unreadable::of(record, reason));
        }
        for file in &self.unknown {
            // One that lies where no file of ours does is named, but nobody asks for its times.
            let Some((tenant, hour)) = &file.place else { continue };
            let start_min = hour * NANOS_PER_HOUR;
            tenants.entry(tenant.clone()).or_default().push(Unreadable {
                path: file.path.clone(),
                spans: 0,
                start_min,
                start_max: start_min + NANOS_PER_HOUR - 1,
                end_max: None,
                reason: UnreadableReason::Unknown,
            });
        }
        tenants
    }

    pub(crate) fn report_gauges(&self) {
        metrics::gauge!("tracehouse_store_missing_files").set(self.missing.len() as f64);
        metrics::gauge!("tracehouse_store_out_of_reach_files").set(self.out_of_reach.len() as f64);
        metrics::gauge!("tracehouse_store_elsewhere_files").set(self.elsewhere.len() as f64);
        metrics::gauge!("tracehouse_store_held_back_files").set(self.held_back.len() as f64);
        metrics::gauge!("tracehouse_store_set_aside_files").set(self.aside.len() as f64);
        metrics::gauge!("tracehouse_store_unknown_files").set(self.unknown.len() as f64);
        metrics::gauge!("tracehouse_catalogue_damaged_rows").set((self.damaged_rows.len() + self.lost.count()) as f64);
    }

    /// Names the files in the log, as every start does.
    pub(crate) fn tell(&self) {
        tell_missing(self.missing.iter());
        for file in self.unknown.iter().take(NAMED_MAX) {
            tracing::error!(path = file.path, "the catalogue does not know a stored file: its spans are not shown");
        }
        for record in self.aside.iter().take(NAMED_MAX) {
            tracing::warn!(
                path = record.path,
                spans = record.spans,
                "a stored file is damaged and set aside: its spans are not shown"
            );
        }
        for row in self.damaged_rows.iter().take(NAMED_MAX) {
            let (id, path) = (row.id.as_deref(), row.path.as_deref());
            tracing::error!(id, path, reason = row.reason, "a row of the catalogue is damaged: its file is not shown");
        }
        self.troubles(None).iter().for_each(|trouble| tracing::error!("{trouble}"));
    }

    /// What is wrong, and what to do about it. `only`: for who may know of one tenant; of others' files they learn how many there are.
    pub(crate) fn troubles(&self, only: Option<&TenantId>) -> Vec<String> {
        const REPAIR: &str = "stop the server and run `tracehouse store repair`";
        let is_own = |tenant: Option<&TenantId>| only.is_none() || tenant.is_none() || tenant == only;
        let own_of = |records: &[FileRecord]| records.iter().filter(|record| is_own(Some(&record.tenant))).count();
        let mut troubles = Vec::new();
        let missing = own_of(&self.missing);
        if missing > 0 {
            troubles.push(format!(
                "{} that the catalogue lists {} missing; put back what was there, or stop the server and run \
                 `tracehouse store repair --forget-missing`",
                files(missing),
                are(missing)
            ));
        }
        let out_of_reach = own_of(&self.out_of_reach);
        if out_of_reach > 0 {
            let count = out_of_reach;
            let lie = if count == 1 { "lies" } else { "lie" };
            troubles.push(format!(
                "{} {lie} in folders that can't be listed, which the server's log names; let the server's user own and read \
                 them",
                files(count)
            ));
        }
        let elsewhere: Vec<&FileRecord> = self.elsewhere.iter().filter(|record| is_own(Some(&record.tenant))).collect();
        if !elsewhere.is_empty() {
            let count = elsewhere.len();
            let lie = if count == 1 { "lies" } else { "lie" };
            let mut names: Vec<&str> = elsewhere.iter().map(|record| record.object_store.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            let names = names.join(", ");
            troubles.push(format!("{} {lie} in object stores that are not configured: {names}", files(count)));
        }
        troubles.extend(self.of_other_tables.trouble());
        let of_unknown = |file: &&UnknownFile| is_own(file.place.as_ref().map(|(tenant, _)| tenant));
        let unknown = self.unknown.iter().filter(of_unknown).count();
        if unknown > 0 {
            troubles.push(format!(
                "{} {} unknown to the catalogue, which may have been lost or restored from an older copy, and the \
                 saved queries with it; to have the spans again, {REPAIR}, which names what is only a copy and can be removed",
                files(unknown),
                are(unknown)
            ));
        }
        if !self.damaged_rows.is_empty() {
            let count = self.damaged_rows.len();
            let rows = if count == 1 { "row" } else { "rows" };
            troubles.push(format!("{count} {rows} of the catalogue {} damaged; {REPAIR}", are(count)));
        }
        troubles.extend(self.lost.findings(only).into_iter().map(|finding| format!("{finding}; {REPAIR}")));
        let aside = own_of(&self.aside);
        if aside > 0 {
            let what = format!("{} {} damaged and set aside; the spans are not shown", files(aside), are(aside));
            troubles.push(format!("{what}. If there is an intact copy, put it into the store's folder, and {REPAIR}"));
        }
        let lists = [&self.missing, &self.out_of_reach, &self.elsewhere, &self.aside];
        let all = lists.into_iter().map(Vec::len).sum::<usize>() + self.unknown.len();
        let others = all - missing - out_of_reach - elsewhere.len() - unknown - aside;
        if others > 0 {
            troubles.push(format!("{} of other tenants can't be read; see the server's log", files(others)));
        }
        troubles
    }
}

fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn files(count: usize) -> String {
    if count == 1 { "1 stored file".to_owned() } else { format!("{count} stored files") }
}

/// Names missing files in the log.
pub(crate) fn tell_missing<'a>(records: impl Iterator<Item = &'a FileRecord>) {
    for record in records.take(NAMED_MAX) {
        tracing::error!(
            path = record.path,
            spans = record.spans,
            "a stored file is missing, or something else is in its place; it is read again if it comes back"
        );
    }
}
