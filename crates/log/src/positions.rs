//! What of the log stands in files already.
//!
//! A tenant's position says that its records up to there are stored in files, or carried forward: repeated by later records
//! of the kind [`RecordKind::Carried`]. The position for everyone says the same of all tenants, so the log need not keep
//! records up to there.
//!
//! A carried record counts only when it was *adopted*: one commit moves the tenant's position over the records that are
//! repeated, and the adopted number over those that repeat them. A crash before that commit leaves both on the disk, and the
//! earlier ones count; after it the later ones do. Never both: an adopted record's number is above the tenant's position, and
//! a record that was never adopted is below the position that the next adoption moves to.
//!
//! A position that the catalogue lost makes records count that need not: what they hold is recognised as stored already, or
//! as a copy. So if any is lost all carried records count.

use std::collections::BTreeMap;

use tracehouse_model::{LogPosition, TenantId};

use crate::segment::RecordKind;

/// The name of the log in the catalogue.
const LOG_NAME: &str = "local";
/// The name in the catalogue of the numbers up to which carried records are adopted.
const ADOPTED_NAME: &str = "local-adopted";

/// The log's positions as the catalogue knows them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// For everyone.
    all: u64,
    stored: BTreeMap<TenantId, u64>,
    adopted: BTreeMap<TenantId, u64>,
    /// The same number for everyone, as a repair leaves it.
    all_adopted: u64,
    /// Some are not known any more.
    are_lost: bool,
}

impl Positions {
    /// `known`: of this log and others. `are_lost`: some were known, and are not any more.
    pub fn new(known: &[LogPosition], are_lost: bool) -> Self {
        let mut positions = Self { are_lost, ..Self::default() };
        for LogPosition { log, tenant, position } in known {
            match (log.as_str(), tenant) {
                (LOG_NAME, None) => positions.all = *position,
                (LOG_NAME, Some(tenant)) => drop(positions.stored.insert(tenant.clone(), *position)),
                (ADOPTED_NAME, None) => positions.all_adopted = *position,
                (ADOPTED_NAME, Some(tenant)) => drop(positions.adopted.insert(tenant.clone(), *position)),
                _ => {}
            }
        }
        positions
    }

    pub fn are_lost(&self) -> bool {
        self.are_lost
    }

    /// Everything up to here is stored or carried forward, whosever it is.
    pub fn all(&self) -> u64 {
        self.all
    }

    /// Every number up to here has been given.
    pub fn highest(&self) -> u64 {
        self.stored.values().chain(self.adopted.values()).copied().fold(self.all.max(self.all_adopted), u64::max)
    }

    /// Whether a record's spans are to be read from it.
    pub fn counts(&self, tenant: &TenantId, kind: RecordKind, sequence: u64) -> bool {
        let of = |positions: &BTreeMap<TenantId, u64>| positions.get(tenant).copied().unwrap_or(0);
        let is_adopted = || self.are_lost || sequence <= self.all_adopted.max(of(&self.adopted));
        sequence > self.all.max(of(&self.stored)) && (kind == RecordKind::New || is_adopted())
    }
}

/// Everything of these tenants up to a number is stored.
pub fn stored(tenant: Option<&TenantId>, position: u64) -> LogPosition {
    LogPosition { log: LOG_NAME.into(), tenant: tenant.cloned(), position }
}

/// Whether a position is known already, or one further on.
pub fn is_stored(known: &[LogPosition], wanted: &LogPosition) -> bool {
    let covers =
        |other: &LogPosition| other.log == wanted.log && (other.tenant.is_none() || other.tenant == wanted.tenant);
    known.iter().any(|other| covers(other) && other.position >= wanted.position)
}

/// The tenant's carried records up to a number count from now on.
pub fn adopted(tenant: &TenantId, position: u64) -> LogPosition {
    LogPosition { log: ADOPTED_NAME.into(), tenant: Some(tenant.clone()), position }
}

/// The same for everyone's.
pub fn all_adopted(position: u64) -> LogPosition {
    LogPosition { log: ADOPTED_NAME.into(), tenant: None, position }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_record_and_the_one_that_repeats_it_exactly_one_counts() {
        use RecordKind::{Carried, New};
        let tenant = TenantId::default();
        let counting = |known: &[LogPosition]| {
            let positions = Positions::new(known, false);
            // 10 and 12 repeated by 14 and 15 in vain (a crash came before the commit), then by 20 and 21.
            let records = [(New, 10), (New, 12), (Carried, 14), (Carried, 15), (Carried, 20), (Carried, 21), (New, 22)];
            let counts = records.into_iter().filter(|(kind, number)| positions.counts(&tenant, *kind, *number));
            counts.map(|(_, number)| number).collect::<Vec<u64>>()
        };
        assert_eq!(counting(&[]), [10, 12, 22]);
        assert_eq!(counting(&[stored(None, 9)]), [10, 12, 22]);
        let carried = [stored(None, 9), stored(Some(&tenant), 19), adopted(&tenant, 21)];
        assert_eq!(counting(&carried), [20, 21, 22]);
        assert_eq!(Positions::new(&carried, false).highest(), 21);
        assert_eq!(counting(&[stored(None, 21), adopted(&tenant, 21)]), [22]);
        // A repair found 22 to be the last number.
        assert_eq!(counting(&[stored(None, 9), stored(Some(&tenant), 19), all_adopted(22)]), [20, 21, 22]);
    }

    /// Otherwise the spans in them would be gone.
    #[test]
    fn carried_records_count_if_nobody_knows_which_were_adopted() {
        let tenant = TenantId::default();
        let known = [stored(None, 9), stored(Some(&tenant), 19)];
        let positions = Positions::new(&known, false);
        assert!(!positions.counts(&tenant, RecordKind::Carried, 20));
        let positions = Positions::new(&known, true);
        assert!(positions.counts(&tenant, RecordKind::Carried, 20));
        assert!(!positions.counts(&tenant, RecordKind::Carried, 19), "what is known to be stored is");
        assert_eq!(positions.highest(), 19);
    }
}
