//! What every part of a question needs to know.

use tracehouse_scan::{Bounds, Reach};
use tracehouse_store::Snapshot;

/// A question while it is answered: over which spans, within what bounds, and what could not be read.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) bounds: &'a Bounds,
    pub(crate) reach: &'a Reach,
}
