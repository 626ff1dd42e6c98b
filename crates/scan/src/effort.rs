//! What one value takes to calculate may be much. A thread that works for a question counts it, and ends with the question's time.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracehouse_model::Clock;

/// So many steps are taken between two looks at the clock.
const STEPS_PER_LOOK: usize = 1 << 16;

/// Of the question that a thread works for.
pub(crate) struct Effort {
    pub(crate) clock: Arc<dyn Clock>,
    /// On the monotonic clock.
    pub(crate) end: Duration,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) steps: usize,
    pub(crate) is_over: bool,
}

thread_local! {
    static EFFORT: RefCell<Option<Effort>> = const { RefCell::new(None) };
}

/// Counts steps of a calculation; false if it should end, as its question does. What comes of it then is to be dropped: see
/// [`is_over`].
#[inline]
pub fn may_go_on(steps: usize) -> bool {
    EFFORT.with_borrow_mut(|effort| {
        let Some(effort) = effort else { return true };
        effort.steps = effort.steps.saturating_add(steps);
        if effort.steps >= STEPS_PER_LOOK && !effort.is_over {
            effort.steps = 0;
            effort.is_over = effort.clock.monotonic() > effort.end || effort.cancelled.load(Ordering::Relaxed);
        }
        !effort.is_over
    })
}

/// Whether a calculation was ended on this thread: what it says since then is not so.
#[inline]
pub fn is_over() -> bool {
    EFFORT.with_borrow(|effort| effort.as_ref().is_some_and(|effort| effort.is_over))
}

/// Counts the steps of a function for a question.
pub(crate) fn counted<T>(effort: Effort, work: impl FnOnce() -> T) -> T {
    struct Before(Option<Effort>);
    impl Drop for Before {
        fn drop(&mut self) {
            EFFORT.set(self.0.take());
        }
    }
    let _before = Before(EFFORT.replace(Some(effort)));
    work()
}
