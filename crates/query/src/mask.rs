//! Which rows of a row group an expression holds for, while that is being found out.

use arrow::buffer::BooleanBuffer;
use tracehouse_scan::{Test, Undecided};

/// Which rows of a row group an expression may hold for.
#[derive(Clone)]
pub(crate) struct Mask {
    pub(crate) rows: BooleanBuffer,
    /// Whether it holds for every one of them.
    pub(crate) exact: bool,
}

pub(crate) fn exact(rows: BooleanBuffer) -> Mask {
    Mask { rows, exact: true }
}

pub(crate) fn unknown(among: &BooleanBuffer) -> Mask {
    Mask { rows: among.clone(), exact: false }
}

impl Mask {
    /// With what holds for some of its rows.
    pub(crate) fn narrowed(&self, by: &Mask) -> Mask {
        Mask { rows: &self.rows & &by.rows, exact: self.exact && by.exact }
    }

    pub(crate) fn or(&self, other: &Mask) -> Mask {
        Mask { rows: &self.rows | &other.rows, exact: self.exact && other.exact }
    }

    /// Of some rows those for which it does not hold.
    pub(crate) fn not(&self, among: &BooleanBuffer) -> Mask {
        if self.exact { exact(among & &!&self.rows) } else { unknown(among) }
    }
}

/// What is known of an expression before its last conditions are decided. These have numbers.
pub(crate) enum Partly {
    Known(Mask),
    Waits(usize),
    /// Of the terms that are known, and the others.
    And(Mask, Vec<Partly>),
    Or(Mask, Vec<Partly>),
    /// Of some rows.
    Not(BooleanBuffer, Box<Partly>),
}

impl Partly {
    /// Once the conditions are decided.
    pub(crate) fn mask<T: Test>(self, decided: &[Undecided<'_, T>]) -> Mask {
        match self {
            Partly::Known(mask) => mask,
            Partly::Waits(number) => exact(decided[number].rows()),
            Partly::And(known, others) => {
                others.into_iter().fold(known, |left, other| left.narrowed(&other.mask(decided)))
            }
            Partly::Or(known, others) => others.into_iter().fold(known, |any, other| any.or(&other.mask(decided))),
            Partly::Not(among, operand) => operand.mask(decided).not(&among),
        }
    }
}
