/// Why a query was not answered at all. A partial answer is not an error: see `partial_reason`.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The question is wrong; the text says what to change.
    #[error("{0}")]
    Invalid(String),
    /// Too many queries are running.
    #[error("{running} queries are running, the limit; try again in a moment")]
    Busy { running: usize },
    /// Other queries hold the memory for all of them.
    #[error("queries use up the memory for them; try again in a moment")]
    Memory,
    /// It is not among what can be read, and may be in what cannot: which spans these are, with `N of M`.
    #[error("it is not among what can be read: {0}")]
    Unreadable(String),
    /// The query's thread ended early: a defect of Tracehouse.
    #[error("the query ended unexpectedly; this is a defect, please report it with the server's log")]
    Ended,
}
