//! The operator confirms the clock of a store that does not run.

use std::sync::Arc;

use std::time::Duration;
use tracehouse_catalogue::{Catalogue, CatalogueError, Commit};
use tracehouse_model::Clock;

use crate::clock::StoreClock;
use crate::lost::Lost;
use crate::notes::CLOCK_META;

/// Confirms the machine's clock for a store that does not run: see [`crate::Store::trust_clock`]. Returns its new time in
/// nanoseconds since the Unix epoch.
pub async fn trust_clock(
    catalogue: &dyn Catalogue,
    wall: Arc<dyn Clock>,
    retention: Duration,
) -> Result<i64, CatalogueError> {
    let contents = catalogue.load().await?;
    let clock = StoreClock::of_catalogue(wall, retention, &contents);
    clock.trust();
    let mut meta = vec![(CLOCK_META.to_owned(), clock.to_remember())];
    let mut lost = Lost::of(&contents);
    lost.find_clock();
    meta.extend(lost.to_remember());
    catalogue.commit(Commit { meta, ..Commit::default() }).await?;
    Ok(clock.time_unix_nanos())
}
