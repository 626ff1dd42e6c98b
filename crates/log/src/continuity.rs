//! Whether the log holds all that it should: it goes on where the catalogue's positions end, without a gap, up to the last
//! number that the catalogue knows to have been given.
//!
//! A log that lost its beginning, its end, a segment, or all of it looks like one that never had them. So the catalogue is told
//! from time to time how far the log has come ([`LogMark`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::positions::Positions;

/// Under which the catalogue remembers a [`LogMark`].
pub const LOG_META: &str = "log";

/// How far the log had come when the catalogue was last told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogMark {
    /// Every number up to here has been given to a record that was durable.
    pub reached: u64,
    /// What the log took on the disk.
    pub bytes: u64,
    /// Nothing was written after it: the store was shut down.
    pub is_last: bool,
}

impl LogMark {
    pub fn parse(remembered: &str) -> Option<Self> {
        let mut words = remembered.split(' ');
        let (reached, bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { reached, bytes, is_last: words.next()? == "ended" })
    }
}

impl fmt::Display for LogMark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_last { "ended" } else { "open" };
        write!(formatter, "{} {} {state}", self.reached, self.bytes)
    }
}

/// Records that should be there and are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRecords {
    pub first: u64,
    pub last: u64,
}

impl LostRecords {
    pub fn count(self) -> u64 {
        self.last - self.first + 1
    }
}

impl fmt::Display for LostRecords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        write!(formatter, "records {first} to {last} of the log are lost; spans in them that stand in no file are gone")
    }
}

/// The log's end is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndLost {
    /// The last number that the log still tells of.
    pub ends_with: u64,
    /// A number that was given.
    pub reached: u64,
    /// What the log took on the disk when the catalogue was last told; 0: it was never told.
    pub bytes: u64,
    /// Records that no position says to be stored.
    pub lost: Option<LostRecords>,
    /// There may have been records after those.
    pub may_have_more: bool,
}

impl fmt::Display for EndLost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ends_with, reached, bytes, lost, may_have_more } = self;
        write!(
            formatter,
            "the log ends with record {ends_with}, but record {reached} was written: its end was deleted, "
        )?;
        write!(formatter, "emptied or replaced by an older one. ")?;
        match lost {
            Some(LostRecords { first, last }) => write!(formatter, "Records {first} to {last} are lost")?,
            None => write!(formatter, "All records up to that one stand in files")?,
        }
        if *may_have_more {
            write!(formatter, "; later ones, if there were any, are lost too")?;
        }
        if *bytes > 0 {
            write!(
                formatter,
                ". The log took {bytes} bytes when the catalogue was last told; lost records held at most that, "
            )?;
            write!(formatter, "and what came after it")?;
        }
        Ok(())
    }
}

/// Follows the numbers of the log's records, in their order.
#[derive(Debug)]
pub(crate) struct Continuity<'a> {
    positions: &'a Positions,
    mark: Option<LogMark>,
    /// The number that follows the last one met, or the first that is not stored. `None`: any, as nothing is known of the log.
    next: Option<u64>,
}

impl<'a> Continuity<'a> {
    pub(crate) fn new(positions: &'a Positions, mark: Option<LogMark>) -> Self {
        let is_begin_lost = positions.are_lost() && positions.all() == 0;
        let is_known = !is_begin_lost && (mark.is_some() || positions.highest() > 0);
        Self { positions, mark, next: is_known.then(|| positions.all() + 1) }
    }

    /// A record with this number is there, or a segment that begins with it: those before it should have been met.
    pub(crate) fn meet(&mut self, sequence: u64) -> Option<LostRecords> {
        let expected = *self.next.get_or_insert(sequence);
        if sequence <= expected {
            return None;
        }
        self.next = Some(sequence);
        Some(LostRecords { first: expected, last: sequence - 1 })
    }

    /// The record with this number was met.
    pub(crate) fn pass(&mut self, sequence: u64) {
        self.next = Some(self.next.map_or(sequence + 1, |next| next.max(sequence + 1)));
    }

    /// All records were met. `told`: the highest number that the log tells of, by its records and by the names of segments.
    pub(crate) fn end(&self, told: u64) -> Option<EndLost> {
        let reached = self.mark.map_or(0, |mark| mark.reached).max(self.positions.highest());
        let all = self.positions.all();
        let first = told.max(all) + 1;
        let lost = (first <= reached).then_some(LostRecords { first, last: reached });
        let is_last = self.mark.is_some_and(|mark| mark.is_last);
        // Nobody needs a log of which all stands in files, and an earlier version did not tell how far it came.
        let is_needless = lost.is_none() && (is_last || self.mark.is_none());
        if told >= reached || is_needless {
            return None;
        }
        let bytes = self.mark.map_or(0, |mark| mark.bytes);
        Some(EndLost { ends_with: told, reached, bytes, lost, may_have_more: !is_last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored;

    fn mark(reached: u64, is_last: bool) -> LogMark {
        LogMark { reached, bytes: 1000, is_last }
    }

    #[test]
    fn marks_are_read_as_they_were_written() {
        for mark in [mark(0, false), mark(u64::MAX, true)] {
            assert_eq!(LogMark::parse(&mark.to_string()), Some(mark));
        }
        for other in ["", "7", "7 8", "x 8 open", "7 -1 ended"] {
            assert_eq!(LogMark::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_gap_is_lost_wherever_it_is() {
        let positions = Positions::new(&[stored(None, 10)], false);
        for (what, met, lost) in [
            ("it goes on", vec![11, 12], vec![]),
            ("some are stored already", vec![4, 5, 6, 7, 8, 9, 10, 11], vec![]),
            ("the beginning is gone", vec![15, 16], vec![(11, 14)]),
            ("the middle is gone", vec![11, 14, 15, 20], vec![(12, 13), (16, 19)]),
        ] {
            let mut continuity = Continuity::new(&positions, None);
            let mut found = Vec::new();
            for sequence in met {
                found.extend(continuity.meet(sequence).map(|lost| (lost.first, lost.last)));
                continuity.pass(sequence);
            }
            assert_eq!(found, lost, "{what}");
        }
        // Nothing is known of the log: it may begin anywhere, but has no gaps.
        let unknown = Positions::default();
        let mut continuity = Continuity::new(&unknown, None);
        assert_eq!(continuity.meet(70), None);
        assert_eq!(continuity.meet(72), Some(LostRecords { first: 70, last: 71 }));
    }

    #[test]
    fn an_end_is_lost_that_somebody_may_need() {
        let positions = Positions::new(&[stored(None, 10)], false);
        for (what, told, mark, lost) in [
            ("it ends where it should", 12, Some(mark(12, false)), None),
            ("it went on", 15, Some(mark(12, false)), None),
            ("an earlier version did not say", 0, None, None),
            ("all stands in files, and the store was shut down", 0, Some(mark(10, true)), None),
            ("all stands in files, as far as is known", 0, Some(mark(10, false)), Some(None)),
            ("some do not", 0, Some(mark(12, true)), Some(Some((11, 12)))),
            ("some are left", 11, Some(mark(14, false)), Some(Some((12, 14)))),
        ] {
            let found = Continuity::new(&positions, mark).end(told);
            let numbers = |lost: LostRecords| (lost.first, lost.last);
            assert_eq!(found.map(|found| found.lost.map(numbers)), lost, "{what}");
        }
    }
}
