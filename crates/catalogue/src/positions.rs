//! How far logs are stored, and whether somebody who moves a position knows where it is.
//!
//! A position of a tenant counts only where it is ahead of the one for everyone, which covers all tenants. So who moves a
//! tenant's has to know the greater of the two, and who moves the one for everyone has to know all of the log's.

use std::collections::BTreeMap;

use tracehouse_model::TenantId;

use crate::{CatalogueError, LogPosition};

/// The positions of logs, as somebody knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPositions {
    logs: BTreeMap<String, OfLog>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfLog {
    /// For everyone.
    all: u64,
    /// Those ahead of it.
    ahead: BTreeMap<TenantId, u64>,
}

impl OfLog {
    fn of(&self, tenant: Option<&TenantId>) -> u64 {
        tenant.and_then(|tenant| self.ahead.get(tenant)).copied().unwrap_or(self.all)
    }

    fn set(&mut self, tenant: Option<&TenantId>, position: u64) {
        match tenant {
            None => {
                self.all = position;
                self.ahead.retain(|_, ahead| *ahead > position);
            }
            Some(tenant) if position > self.all => drop(self.ahead.insert(tenant.clone(), position)),
            Some(tenant) => drop(self.ahead.remove(tenant)),
        }
    }

    /// The first whose position another knows to be elsewhere.
    fn difference(&self, other: &Self) -> Option<Option<TenantId>> {
        if self.all != other.all {
            return Some(None);
        }
        let mut tenants = self.ahead.keys().chain(other.ahead.keys());
        tenants.find(|tenant| self.of(Some(*tenant)) != other.of(Some(*tenant))).cloned().map(Some)
    }
}

impl KnownPositions {
    /// As they are listed, in any order.
    pub fn of(positions: &[LogPosition]) -> Self {
        let mut known = Self::default();
        let (tenants, all): (Vec<_>, Vec<_>) = positions.iter().partition(|position| position.tenant.is_some());
        for LogPosition { log, tenant, position } in all.into_iter().chain(tenants) {
            known.logs.entry(log.clone()).or_default().set(tenant.as_ref(), *position);
        }
        known
    }

    /// What a commit that moves some positions has to say that it is based on.
    pub fn basis_of(&self, moves: &[LogPosition]) -> Vec<LogPosition> {
        let mut basis = BTreeMap::new();
        for LogPosition { log, tenant, .. } in moves {
            let of_log = self.of_log(log);
            basis.insert((log, None), of_log.all);
            match tenant {
                Some(tenant) => drop(basis.insert((log, Some(tenant)), of_log.of(Some(tenant)))),
                None => basis.extend(of_log.ahead.iter().map(|(tenant, position)| ((log, Some(tenant)), *position))),
            }
        }
        let listed = basis.into_iter().map(|((log, tenant), position)| LogPosition {
            log: log.clone(),
            tenant: tenant.cloned(),
            position,
        });
        listed.collect()
    }

    fn of_log(&self, log: &str) -> &OfLog {
        static NOTHING: OfLog = OfLog { all: 0, ahead: BTreeMap::new() };
        self.logs.get(log).unwrap_or(&NOTHING)
    }

    /// Whether a log is known to be stored up to a position, or further.
    pub fn reach(&self, wanted: &LogPosition) -> bool {
        self.of_log(&wanted.log).of(wanted.tenant.as_ref()) >= wanted.position
    }

    /// Moves a position forward.
    pub fn move_to(&mut self, to: &LogPosition) -> Result<(), CatalogueError> {
        let of_log = self.logs.entry(to.log.clone()).or_default();
        let known = of_log.of(to.tenant.as_ref());
        if to.position < known {
            return Err(CatalogueError::PositionBack { log: to.log.clone(), known, wanted: to.position });
        }
        of_log.set(to.tenant.as_ref(), to.position);
        Ok(())
    }

    /// Moves positions forward for somebody who believes that they are elsewhere, or not: then nothing may be changed.
    pub fn compare_and_move(&mut self, based_on: &[LogPosition], moves: &[LogPosition]) -> Result<(), CatalogueError> {
        let believed = Self::of(based_on);
        for LogPosition { log, tenant, .. } in moves {
            let (known, expected) = (self.of_log(log), believed.of_log(log));
            let moved = match tenant {
                None => known.difference(expected),
                Some(own) => (known.of(Some(own)) != expected.of(Some(own))).then(|| Some(own.clone())),
            };
            if let Some(moved) = moved {
                let [known, expected] = [known, expected].map(|positions| positions.of(moved.as_ref()));
                return Err(CatalogueError::PositionMoved { log: log.clone(), tenant: moved, expected, known });
            }
        }
        moves.iter().try_for_each(|to| self.move_to(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(log: &str, tenant: Option<&str>, position: u64) -> LogPosition {
        let tenant = tenant.map(|name| TenantId::new(name).expect("a valid name"));
        LogPosition { log: log.into(), tenant, position }
    }

    #[test]
    fn who_moves_a_position_knows_all_that_it_covers() {
        let listed =
            [position("l", Some("a"), 8), position("l", None, 5), position("l", Some("b"), 5), position("m", None, 2)];
        let known = KnownPositions::of(&listed);
        let [to_all, to_a, to_b] = [None, Some("a"), Some("b")].map(|tenant| position("l", tenant, 9));
        let moved = |based_on: &[LogPosition], to: &LogPosition| {
            known.clone().compare_and_move(based_on, std::slice::from_ref(to)).map_err(|error| match error {
                CatalogueError::PositionMoved { tenant, expected, known, .. } => (tenant, expected, known),
                other => panic!("{other:?}"),
            })
        };
        let tenant = |name: &str| Some(TenantId::new(name).expect("a valid name"));
        for (what, to, based_on, outcome) in [
            ("all of it is known", &to_all, vec![position("l", None, 5), position("l", Some("a"), 8)], Ok(())),
            ("one is further", &to_all, vec![position("l", None, 5)], Err((tenant("a"), 5, 8))),
            ("everyone is further", &to_all, vec![position("l", None, 4)], Err((None, 4, 5))),
            ("nothing is known", &to_all, vec![position("m", None, 5)], Err((None, 0, 5))),
            ("its own is enough", &to_a, vec![position("l", Some("a"), 8)], Ok(())),
            ("its own is further", &to_a, vec![position("l", None, 5)], Err((tenant("a"), 5, 8))),
            ("everyone's is its own", &to_b, vec![position("l", None, 5), position("l", Some("a"), 6)], Ok(())),
            ("it was everyone's", &to_b, vec![position("l", None, 4)], Err((tenant("b"), 4, 5))),
        ] {
            assert_eq!(moved(&based_on, to), outcome, "{what}");
        }
        for to in [to_all, to_a, to_b] {
            moved(&known.basis_of(std::slice::from_ref(&to)), &to).expect("the basis is what is needed");
        }
    }

    #[test]
    fn one_commit_moves_several_from_where_they_were_before_it() {
        let mut known = KnownPositions::default();
        let moves = [position("l", None, 5), position("l", Some("a"), 8), position("m", Some("a"), 3)];
        known.compare_and_move(&[], &moves).expect("nothing was known");
        assert_eq!(known, KnownPositions::of(&moves));
        let back = known.clone().compare_and_move(&known.basis_of(&moves), &[position("l", Some("a"), 7)]);
        assert!(matches!(back, Err(CatalogueError::PositionBack { known: 8, wanted: 7, .. })), "{back:?}");
        known.compare_and_move(&known.basis_of(&moves), &[position("l", None, 8)]).expect("it goes forward");
        assert_eq!(known, KnownPositions::of(&[position("l", None, 8), position("m", Some("a"), 3)]));
    }
}
