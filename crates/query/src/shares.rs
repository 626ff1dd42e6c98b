//! How a question divides the memory that it may take at most. What it does take comes from an account.

use tracehouse_scan::Bounds;

/// What the cells of series may take in one thread.
pub(crate) fn cell_bytes_max(bounds: &Bounds) -> usize {
    bounds.memory_bytes_max() / 2 / bounds.threads()
}

/// What knowing where traces stand may take.
pub(crate) fn whereabouts_bytes_max(bounds: &Bounds) -> usize {
    bounds.memory_bytes_max() / 8
}

/// What the rows of traces may take that lie in several row groups.
pub(crate) fn parts_bytes_max(bounds: &Bounds) -> usize {
    bounds.memory_bytes_max() / 4
}

/// What candidates may take.
pub(crate) fn candidate_bytes_max(bounds: &Bounds) -> usize {
    bounds.memory_bytes_max() / 4
}

/// What the traces that one thread puts together at once may take.
pub(crate) fn assembled_bytes_max(bounds: &Bounds) -> usize {
    bounds.memory_bytes_max() / 4 / bounds.threads()
}

/// How many points the series of one function may have.
pub(crate) fn points_max(bounds: &Bounds) -> usize {
    bounds.memory_bytes_max() / 8 / size_of::<Option<f64>>()
}

/// How many points there may be, in words.
pub(crate) fn too_many_points(bounds: &Bounds, made: usize, total: usize, what: &str) -> String {
    let most = points_max(bounds);
    format!("{made} of {total} {what}: all have more than {most} points; choose a longer step or a narrower query")
}
