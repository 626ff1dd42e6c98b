//! Keeps single values and single batches of rows small. What collects rows takes its memory from the pool, which is
//! bounded; what makes one batch from another does not, so that the size of a batch has to be bounded by itself.

mod functions;
mod negation;
mod one_nan;
mod operators;
mod patterns;
mod sizes;
mod windows;

use std::sync::Arc;

use datafusion::common::DataFusionError;

use crate::scan::ROWS_PER_STEP;
use crate::watch::Watch;

pub(crate) use functions::{bounded_functions, is_bounded, is_left_out, left_out};
pub(crate) use negation::with_checked_negation;
pub(crate) use one_nan::{with_one_nan, without_signs};
pub(crate) use operators::BoundedOperators;
pub(crate) use sizes::{bytes_of, bytes_of_batch, elements_of, widest};
pub(crate) use windows::check_windows;

/// Most bytes of the values of one batch of rows, as an operator gives it.
pub(crate) const BATCH_BYTES_MAX: usize = 128 << 20;
/// Most bytes that one call of a function may make of one batch.
const CALL_BYTES_MAX: usize = 64 << 20;
/// Most bytes that the constants of a statement may make if every row of a batch repeats them.
const CONSTANTS_BYTES_MAX: usize = 64 << 20;
/// A digit and a comma are a number of eight bytes.
const CONSTANT_BYTES_PER_CHARACTER: usize = 4;

/// What one statement may make of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Amounts {
    pub(crate) rows_per_batch: usize,
    /// For each call of a function.
    pub(crate) call_bytes_max: usize,
}

impl Amounts {
    /// By the length of a statement and the number of its calls that may make much of little: the results of all of
    /// them may be in memory at once.
    pub(crate) fn new(statement_bytes: usize, calls: usize) -> Self {
        let constants = CONSTANT_BYTES_PER_CHARACTER * statement_bytes.max(1);
        let rows = (CONSTANTS_BYTES_MAX / constants).min(ROWS_PER_STEP);
        let call_bytes_max = (BATCH_BYTES_MAX / calls.max(1)).min(CALL_BYTES_MAX);
        Self { rows_per_batch: rows.max(1), call_bytes_max }
    }
}

/// What every function of a statement is called within.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) amounts: Amounts,
    pub(crate) watch: Arc<Watch>,
}

/// The end of a statement whose `what` is too large.
pub(crate) fn too_large(what: &str, bytes_max: usize) -> DataFusionError {
    DataFusionError::ResourcesExhausted(format!("{what} would take more than {bytes_max} bytes for one batch of rows"))
}
