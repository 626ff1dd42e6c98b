//! What can go wrong with a statement, as its author should read it.

use datafusion::common::DataFusionError;

use crate::engine::SqlLimits;
use crate::watch::Stopped;

/// Why a statement was not answered at all. A partial answer is not an error.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The statement is wrong or not allowed; the text says where and what to change.
    #[error("{0}")]
    Invalid(String),
    /// Too many statements are running.
    #[error("{running} SQL statements are running, the limit; try again in a moment")]
    Busy { running: usize },
    /// It took too long before its first row was there.
    #[error("the statement took longer than {seconds} s; ask for a shorter range of start_time, or aggregate less")]
    Timeout { seconds: u64 },
    /// It needed more memory than statements may use, or made too much of one batch of rows.
    #[error("the statement needs more memory than it may take of the {bytes_max} bytes for SQL; narrow it: {detail}")]
    Memory { bytes_max: usize, detail: String },
    /// A defect of Tracehouse.
    #[error("the statement ended unexpectedly; this is a defect, please report it with the server's log")]
    Ended,
}

impl SqlError {
    /// Why a statement with these limits ended, as its author should read it.
    pub(crate) fn of(error: &DataFusionError, limits: &SqlLimits) -> Self {
        if let DataFusionError::ResourcesExhausted(detail) = error.find_root() {
            let detail = match detail.lines().next().unwrap_or_default() {
                // DataFusion's advice is about files that nothing is written to here.
                line if line.contains("DiskManager") => "further rows to sort or to group have no room".to_owned(),
                line => line.to_owned(),
            };
            return SqlError::Memory { bytes_max: limits.memory_bytes_max, detail };
        }
        match Stopped::of(error) {
            Some(Stopped::TimeIsUp) => SqlError::Timeout { seconds: limits.time_max.as_secs() },
            // Nobody reads it.
            Some(Stopped::NobodyWaits) => SqlError::Ended,
            None => Self::of_statement(error),
        }
    }

    /// The part of a DataFusion error that helps the author of the statement.
    pub(crate) fn of_statement(error: &DataFusionError) -> Self {
        let place = place(error);
        match error.find_root() {
            DataFusionError::Internal(detail) => {
                tracing::error!(detail, "planning or running SQL failed inside");
                SqlError::Invalid(format!("the statement can't be planned: {}", first_lines(detail)))
            }
            root => {
                let text = first_lines(&root.strip_backtrace());
                SqlError::Invalid(format!("{place}{text}{}", hint(&text)))
            }
        }
    }
}

/// What to do where a call of `attr` can't be evaluated, as the message names columns that nobody wrote.
fn hint(text: &str) -> &'static str {
    if text.contains("RecursionLimitExceeded") {
        return "; brackets, calls and subqueries may be nested about 40 deep";
    }
    let of_attributes = text.contains("attributes");
    if of_attributes && text.contains("Ambiguous") {
        "; in a join, name the table before the function: s.attr('key')"
    } else if text.contains("__datafusion_extracted") {
        "; where a subquery looks for attributes of the row outside, work both out before: WITH s AS (SELECT *, attr('key') AS value FROM spans)"
    } else if of_attributes && text.contains("No field named") {
        "; attr('key') reads attributes and resource_attributes: select them in the subquery, or call it there"
    } else {
        ""
    }
}

/// Where in the statement the error is, if DataFusion knows.
fn place(error: &DataFusionError) -> String {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    span.map(|span| format!("line {}, column {}: ", span.start.line, span.start.column)).unwrap_or_default()
}

/// How an error begins that says which arguments a function takes.
const NO_FUNCTION: &str = "No function matches the given name";

/// Errors list all known fields or functions at times: as much as a person reads.
fn first_lines(text: &str) -> String {
    const CHARS_MAX: usize = 1_000;
    let text = text.trim();
    // What is before says the same in DataFusion's words, as if it were a fault of its own.
    let text = text.find(NO_FUNCTION).map_or(text, |at| &text[at..]);
    let prefix = ["Error during planning: ", "Execution error: ", "Arrow error: "];
    let text = prefix.into_iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
