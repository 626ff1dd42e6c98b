//! Those who work in the background, round by round: threads that wait for their time, or whoever calls them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::StoreStep;
use crate::error::OpenError;
use crate::flusher::Flusher;
use crate::keeper::Keeper;
use crate::merger::Merger;
use crate::shared::Shared;
use crate::worker::Worker;
use tracehouse_log::Background;

/// All who work in the background.
pub(crate) enum Workers {
    Threads(Mutex<Vec<JoinHandle<()>>>),
    Called { flusher: Mutex<Flusher>, merger: Mutex<Merger>, keeper: Mutex<Keeper> },
}

impl Workers {
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self, OpenError> {
        // They count from here, whenever the system lets them begin.
        let begin = shared.clock.monotonic();
        Ok(match shared.config.background {
            Background::Threads => Self::Threads(Mutex::new(vec![
                spawn::<Flusher>(shared, begin)?,
                spawn::<Merger>(shared, begin)?,
                spawn::<Keeper>(shared, begin)?,
            ])),
            Background::Called => Self::Called {
                flusher: Mutex::new(Flusher::new(begin)),
                merger: Mutex::new(Merger::new(begin)),
                keeper: Mutex::new(Keeper::new(begin)),
            },
        })
    }

    /// Does a round of one of them on this thread. Nothing if threads do.
    pub(crate) fn step(&self, shared: &Shared, step: StoreStep) {
        let Self::Called { flusher, merger, keeper } = self else { return };
        match step {
            StoreStep::Log => shared.log().write_queued(),
            StoreStep::Flush => flusher.lock().round(shared),
            StoreStep::Merge => merger.lock().round(shared),
            StoreStep::Keep => keeper.lock().round(shared),
        }
    }

    /// The threads, for who waits until they have ended.
    pub(crate) fn take_threads(&self) -> Vec<JoinHandle<()>> {
        match self {
            Self::Threads(threads) => threads.lock().drain(..).collect(),
            Self::Called { .. } => Vec::new(),
        }
    }
}

fn spawn<W: Worker>(shared: &Arc<Shared>, begin: Duration) -> Result<JoinHandle<()>, OpenError> {
    let shared = shared.clone();
    let run = move || {
        let mut worker = W::new(begin);
        let mut next = begin.saturating_add(W::TICK);
        while !shared.stopping() {
            shared.clock.wait(W::wanted(&shared), next);
            worker.round(&shared);
            // A round that takes long is not followed at once.
            next = shared.clock.monotonic().saturating_add(W::TICK);
        }
    };
    let spawned = std::thread::Builder::new().name(W::NAME.into()).spawn(run);
    spawned.map_err(|source| OpenError::Folder { path: format!("thread {}", W::NAME), source })
}
