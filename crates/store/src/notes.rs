//! The names under which a store is remembered: by a file in its folder, and by its catalogue.

/// The file in the store's folder that names the store.
pub(crate) const MARKER: &str = "STORE_ID";
/// What the catalogue remembers the store's name under.
pub(crate) const STORE_META: &str = "store";
/// What the catalogue remembers this under.
pub(crate) const CLOCK_META: &str = "clock";
/// Under which the catalogue remembers the ids of files that are to be compared before they count.
pub(crate) const HELD_BACK_META: &str = "held-back";
/// With what the names begin under which the catalogue remembers the saved queries of tenants.
pub(crate) const SAVED_QUERIES_META: &str = "saved-queries/";
/// Under which the catalogue remembers the names of what was lost and not mended yet.
pub(crate) const LOST_META: &str = "lost";
