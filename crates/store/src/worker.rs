//! One who works in the background, round by round.

use std::time::Duration;

use tracehouse_model::Bell;

use crate::shared::Shared;

/// One who works in the background.
pub(crate) trait Worker: Send + 'static {
    const NAME: &'static str;
    /// So long after a round the next one begins.
    const TICK: Duration;

    /// `begin`: when the store opened, on the monotonic clock.
    fn new(begin: Duration) -> Self;

    /// Rings when a round is wanted at once.
    fn wanted(shared: &Shared) -> &Bell;

    /// Does what is due.
    fn round(&mut self, shared: &Shared);
}
