//! Background work that failed: when it is tried again, and what people are told.
//!
//! One piece of work that fails (a tenant's flush, one merge, the deletions) waits by itself; all else goes on. Each attempt
//! in vain doubles the wait up to a bound, with some chance in it, so that what failed together is not tried together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_model::{Clock, Randomness, TenantId};

const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// So many troubles are told; of the rest the number.
const TOLD_MAX: usize = 10;

/// A piece of background work that fails or succeeds by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// Changes of the catalogue for flushes.
    Commit,
    /// Writing a tenant's spans to files.
    Flush(TenantId),
    /// Repeating a tenant's spans further on in the log.
    Carry(TenantId),
    /// Merging files of a tenant and an hour (since the epoch).
    Merge(TenantId, i64),
    /// Comparing a tenant's file with the others, after it could not be read for a while.
    Compare(TenantId, String),
    Expire,
    Delete,
    /// Writing down in the catalogue what time it is.
    RememberClock,
}

impl Work {
    const KINDS: [&'static str; 8] = ["commit", "flush", "carry", "merge", "compare", "expire", "delete", "clock"];

    /// Whose spans it is about; `None`: everyone's.
    fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Flush(tenant) | Self::Carry(tenant) | Self::Merge(tenant, _) | Self::Compare(tenant, _) => {
                Some(tenant)
            }
            Self::Commit | Self::Expire | Self::Delete | Self::RememberClock => None,
        }
    }

    /// A label of metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Flush(_) => "flush",
            Self::Carry(_) => "carry",
            Self::Merge(..) => "merge",
            Self::Compare(..) => "compare",
            Self::Expire => "expire",
            Self::Delete => "delete",
            Self::RememberClock => "clock",
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit => write!(formatter, "writing down in the catalogue what was flushed"),
            Self::Flush(tenant) => write!(formatter, "writing the spans of tenant {tenant} to files"),
            Self::Carry(tenant) => write!(formatter, "repeating the spans of tenant {tenant} in the log"),
            Self::Merge(tenant, hour) => write!(formatter, "merging the files of tenant {tenant} and hour {hour}"),
            Self::Compare(tenant, file) => {
                write!(
                    formatter,
                    "comparing the file {file} of tenant {tenant}, which was out of reach, with the others"
                )
            }
            Self::Expire => write!(formatter, "taking out files beyond retention or the disk budget"),
            Self::Delete => write!(formatter, "deleting files that no longer count"),
            Self::RememberClock => write!(formatter, "writing down the time"),
        }
    }
}

struct Trouble {
    /// In a row.
    failures: u32,
    /// On the monotonic clock.
    next_attempt: Duration,
    reason: String,
}

/// All work that failed when it was last tried.
pub(crate) struct Troubles {
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    failing: Mutex<BTreeMap<Work, Trouble>>,
}

impl Troubles {
    pub(crate) fn new(clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        Self { clock, randomness, failing: Mutex::default() }
    }

    /// An attempt failed; the next one waits. Tells the log and the metrics.
    pub(crate) fn failed(&self, work: Work, reason: String) {
        let mut failing = self.failing.lock();
        let failures = failing.get(&work).map_or(0, |trouble| trouble.failures).saturating_add(1);
        let wait = self.wait(failures);
        match work {
            Work::Commit | Work::Flush(_) | Work::Carry(_) => {
                metrics::counter!("tracehouse_store_flush_failures_total", "work" => work.kind()).increment(1);
            }
            Work::Merge(..) | Work::Compare(..) => {
                metrics::counter!("tracehouse_store_compaction_failures_total").increment(1)
            }
            Work::Expire | Work::Delete | Work::RememberClock => {
                metrics::counter!("tracehouse_store_removal_failures_total", "work" => work.kind()).increment(1);
            }
        }
        tracing::error!(failures, retry_seconds = wait.as_secs(), "{work} failed; it is tried again: {reason}");
        failing.insert(work, Trouble { failures, next_attempt: self.clock.monotonic() + wait, reason });
    }

    pub(crate) fn succeeded(&self, work: &Work) {
        if self.failing.lock().remove(work).is_some() {
            tracing::info!("{work} works again");
        }
    }

    /// Whether the next attempt is still to come.
    pub(crate) fn must_wait(&self, work: &Work) -> bool {
        let now = self.clock.monotonic();
        self.failing.lock().get(work).is_some_and(|trouble| now < trouble.next_attempt)
    }

    pub(crate) fn is_failing(&self, work: &Work) -> bool {
        self.failing.lock().contains_key(work)
    }

    /// The tenants whose flushes fail, and whether the next attempt is due.
    pub(crate) fn failing_tenants(&self) -> Vec<(TenantId, bool)> {
        let now = self.clock.monotonic();
        let failing = self.failing.lock();
        let flushes = failing.iter().filter_map(|(work, trouble)| match work {
            Work::Flush(tenant) => Some((tenant.clone(), now >= trouble.next_attempt)),
            _ => None,
        });
        flushes.collect()
    }

    /// Forgets troubles of work that there is no longer.
    pub(crate) fn retain(&self, still_there: impl Fn(&Work) -> bool) {
        self.failing.lock().retain(|work, _| still_there(work));
    }

    /// For people. `only`: those who may know of one tenant; of others they learn how many there are, and of the work for all
    /// no reasons, which may name others' files.
    pub(crate) fn tell(&self, only: Option<&TenantId>) -> Vec<String> {
        let failing = self.failing.lock();
        let is_told = |work: &Work| only.is_none() || work.tenant().is_none_or(|tenant| Some(tenant) == only);
        let (told, others): (Vec<_>, Vec<_>) = failing.iter().partition(|(work, _)| is_told(work));
        let tell = |(work, trouble): &(&Work, &Trouble)| {
            let may_know = only.is_none() || work.tenant().is_some();
            let reason = if may_know { trouble.reason.as_str() } else { "the server's log has the reason" };
            format!("{work} failed {} times: {reason}", trouble.failures)
        };
        let mut texts: Vec<String> = told.iter().take(TOLD_MAX).map(tell).collect();
        if told.len() > TOLD_MAX {
            texts.push(format!("{} more pieces of background work fail", told.len() - TOLD_MAX));
        }
        if !others.is_empty() {
            texts.push(format!("background work for other tenants fails too ({}); see the server's log", others.len()));
        }
        texts
    }

    pub(crate) fn report_gauges(&self) {
        let failing = self.failing.lock();
        for kind in Work::KINDS {
            let count = failing.keys().filter(|work| work.kind() == kind).count();
            metrics::gauge!("tracehouse_store_failing_work", "work" => kind).set(count as f64);
        }
    }

    fn wait(&self, failures: u32) -> Duration {
        const EIGHTHS: u64 = 8;
        let doubled = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_WAIT);
        // Between three quarters and one and a quarter of it.
        let eighth = doubled / EIGHTHS as u32;
        let chance = Duration::from_nanos(self.randomness.next_u64() % (4 * eighth.as_nanos() as u64).max(1));
        doubled - 2 * eighth + chance
    }
}

#[cfg(test)]
mod tests {
    use tracehouse_model::{ManualClock, SystemRandomness};

    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_end_with_success() {
        let clock = Arc::new(ManualClock::default());
        let troubles = Troubles::new(clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
        let work = Work::Flush(TenantId::default());
        let mut waits = Vec::new();
        for _ in 0..12 {
            troubles.failed(work.clone(), "no room".into());
            assert!(!troubles.must_wait(&Work::Expire), "others do not wait");
            let begin = clock.monotonic();
            while troubles.must_wait(&work) {
                clock.advance(Duration::from_millis(100));
            }
            waits.push((clock.monotonic() - begin).as_secs_f64());
        }
        for (at, wait) in waits.iter().enumerate() {
            let expected = (5.0 * 2f64.powi(at as i32)).min(300.0);
            assert!((0.74..1.27).contains(&(wait / expected)), "wait {at}: {wait} s, expected about {expected} s");
        }
        assert_eq!(troubles.tell(None), ["writing the spans of tenant default to files failed 12 times: no room"]);
        assert_eq!(troubles.failing_tenants(), [(TenantId::default(), true)]);
        troubles.succeeded(&work);
        assert!(troubles.tell(None).is_empty() && !troubles.is_failing(&work));
    }
    #[test]
    fn a_tenant_does_not_learn_who_the_others_are() {
        let troubles = Troubles::new(Arc::new(ManualClock::default()), Arc::new(SystemRandomness::from_seed(1)));
        let tenant = |name: &str| TenantId::new(name).expect("a name");
        troubles.failed(Work::Flush(tenant("mine")), "no room for mine".into());
        troubles.failed(Work::Merge(tenant("theirs"), 3), "no room for theirs".into());
        troubles.failed(Work::Delete, "tenant=theirs is not writable".into());
        let told = troubles.tell(Some(&tenant("mine")));
        assert!(!told.concat().contains("theirs"), "{told:?}");
        assert!(
            told[0].contains("no room for mine") && told[1].contains("the server's log has the reason"),
            "{told:?}"
        );
        assert!(told[2].contains("for other tenants fails too (1)"), "{told:?}");
        assert_eq!(troubles.tell(None).len(), 3);
    }
}
