//! Counts the questions that end before they have all that they ask for.

use metrics::{counter, describe_counter};

const ENDED: &str = "tracehouse_query_ended_early_total";

/// Why a question ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedEarly {
    /// Its time was over.
    Time,
    /// There was no memory for more.
    Memory,
    /// It had read as many bytes of files as it may.
    BytesRead,
    /// It did not begin: as many run as may.
    Places,
    /// Nobody waited for the answer any more.
    Left,
}

impl EndedEarly {
    /// Says what the counter is, for who reads metrics.
    pub fn describe() {
        describe_counter!(ENDED, "Queries that ended before they had all they asked for, by kind and reason");
    }

    /// Counts a question of a kind.
    pub fn count(self, kind: &'static str) {
        counter!(ENDED, "kind" => kind, "reason" => self.label()).increment(1);
    }

    fn label(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Memory => "memory",
            Self::BytesRead => "bytes_read",
            Self::Places => "places",
            Self::Left => "left",
        }
    }
}
