//! What is looked at after each event.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracehouse_catalogue::RetirementReason;
use tracehouse_model::Clock;

use tracehouse_store::{Snapshots, Store, UnreadableReason};

use super::Run;
use crate::simulation::expected::{MayExpire, TENANTS};
use crate::world::tenant;

/// So many troubles there are at most: 11 of background work, 8 of what the log lost, and one for each other thing that may go wrong.
const TROUBLES_MAX: usize = 11 + 8 + 9;

impl Run {
    pub(super) fn may_expire(&mut self) -> MayExpire {
        let retention = i64::try_from(self.config.retention.as_nanos()).unwrap_or(i64::MAX);
        let for_room = self.config.disk_budget_bytes.is_some();
        if for_room {
            // One that still counts the store has not heard of: what is sent again meanwhile is taken for a copy of what is in it.
            let files_of = |store: &Arc<Store>| {
                Vec::from_iter((0..TENANTS).flat_map(|of| store.snapshot_as_sent(&tenant(of)).files.to_vec()))
            };
            let live = self.store.as_ref().map_or_else(Vec::new, files_of);
            for file in self.catalogue.contents().files {
                let has_expired = file.retired.is_some_and(|retired| retired.reason == RetirementReason::Expired);
                let counts = live.iter().any(|live| live.record.id == file.id);
                let of = (0..TENANTS).find(|number| tenant(*number) == file.tenant);
                if has_expired
                    && !counts
                    && let Some(of) = of
                {
                    self.expected.removed(of, &file.id);
                }
            }
        }
        // A store whose first clock was wrong can't tell which of the times that it was told is right.
        let latest = self.now() + self.is_believed_ahead.unwrap_or(0);
        let before = match self.nothing_expires_until {
            Some((until, before)) if self.clock.monotonic() < until => before,
            _ => latest.saturating_sub(retention),
        };
        MayExpire { before, for_room }
    }

    pub(super) fn look(&mut self) {
        let what = self.what();
        let may_expire = self.may_expire();
        self.expected.log_is_read_again &= !self.catalogue.contents().damaged_notes.is_empty();
        let mut hot_bytes = 0;
        for number in 0..TENANTS {
            let snapshot = self.store().snapshot(&tenant(number));
            hot_bytes += snapshot.hot.iter().map(|batch| batch.spans.memory_bytes()).sum::<usize>();
            let is_aside = snapshot.unreadable.iter().any(|file| file.reason == UnreadableReason::SetAside);
            assert!(!is_aside, "{what}: a file that is whole is set aside: {:?}", snapshot.unreadable);
            self.expected.check(&what, number, &snapshot, &may_expire, false);
        }
        // One batch of each may go beyond.
        let hot_bytes_max = 2 * self.config.hot_bytes_max + TENANTS * self.batch_bytes_max;
        assert!(hot_bytes <= hot_bytes_max, "{what}: {hot_bytes} bytes in memory");
        self.look_at_readers();
        let troubles = self.store().troubles();
        let distinct: BTreeSet<&String> = troubles.iter().collect();
        assert!(distinct.len() == troubles.len() && troubles.len() <= TROUBLES_MAX, "{what}: {troubles:#?}");
        assert_eq!(self.disk.too_long(), None, "{what}: a segment grows on and on");
        assert_eq!(self.disk.synchronised_again(), None, "{what}: as if what was dropped were durable");
        assert_eq!(self.disk.number_given_again(), None, "{what}: a segment begins with a number that was given");
    }

    /// A start lets no more into memory than it must: it writes files as it reads the log.
    pub(super) fn look_at_replayed(&self) {
        if !self.is_sound || !self.disk.has_power() || self.refused.is_some() {
            return;
        }
        let hot = (0..TENANTS)
            .flat_map(|number| Vec::from_iter(self.store().snapshot_as_sent(&tenant(number)).hot.iter().cloned()));
        let bytes: usize = hot.map(|batch| batch.spans.memory_bytes()).sum();
        let bytes_max = self.config.flush_bytes.min(self.config.hot_bytes_max / 2);
        assert!(bytes <= bytes_max, "{}: {bytes} bytes in memory after a start, of {bytes_max}", self.what());
    }

    /// After a flush of everything: whose spans can't be written keeps nobody else's in memory.
    pub(super) fn look_who_is_in_memory(&self) {
        if !self.is_sound || !self.disk.has_power() {
            return;
        }
        for number in (0..TENANTS).filter(|number| self.refused != Some(*number)) {
            let hot = self.store().snapshot(&tenant(number)).hot;
            assert!(hot.is_empty(), "{}: spans of {} stay in memory for another's sake", self.what(), tenant(number));
        }
    }
}
