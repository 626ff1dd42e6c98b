//! The threads of statements: each has its own, which nobody waits for, but somebody joins.

use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::SqlError;
use crate::watch::Watch;

/// Planning recurses as deep as a statement is long; the pages of a stack cost nothing until they are touched.
const STACK_BYTES: usize = 64 << 20;

/// The threads of one statement. When it is dropped they end, but nobody waits for them.
pub(crate) struct Threads {
    runtime: Option<Runtime>,
    watch: Arc<Watch>,
    ending: Arc<Ending>,
}

impl Threads {
    pub(crate) fn start(
        count: usize,
        alive: OwnedSemaphorePermit,
        watch: Arc<Watch>,
        ending: Arc<Ending>,
    ) -> Result<Self, SqlError> {
        let (begins, stops) = (watch.clone(), watch.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(count)
            .max_blocking_threads(2 * count)
            .thread_name("sql")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .on_thread_start(move || begins.enter())
            // It owns the permit and the watch: the last thread to end drops them.
            .on_thread_stop(move || {
                let _ = (&alive, &stops);
                Watch::leave();
            })
            .build();
        let runtime = runtime.inspect_err(|error| tracing::error!(%error, "threads for SQL could not be started"));
        Ok(Self { runtime: Some(runtime.map_err(|_| SqlError::Ended)?), watch, ending })
    }

    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<tokio::task::JoinHandle<T>, SqlError> {
        Ok(self.runtime.as_ref().ok_or(SqlError::Ended)?.spawn(work))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.watch.stop();
        if let Some(runtime) = self.runtime.take() {
            self.ending.join(runtime);
        }
    }
}

/// Joins the threads of statements. They may not be let go instead, as [`Runtime::shutdown_background`] does: a thread that ends in that
/// moment takes what the C library looks at with it (glibc's bug 19951), and with stacks as large as these the process with it.
#[derive(Default)]
pub(crate) struct Ending {
    joining: Mutex<Vec<JoinHandle<()>>>,
}

impl Ending {
    fn join(&self, runtime: Runtime) {
        let mut joining = self.joining.lock();
        joining.extract_if(.., |thread| thread.is_finished()).for_each(joined);
        // A runtime must not wait for its threads inside another.
        let runtime = Arc::new(Mutex::new(Some(runtime)));
        let ended = runtime.clone();
        match std::thread::Builder::new().name("sql-end".into()).spawn(move || drop(ended.lock().take())) {
            Ok(thread) => joining.push(thread),
            Err(error) => {
                tracing::error!(%error, "a thread that waits for those of a SQL statement could not be started");
                runtime.lock().take().into_iter().for_each(Runtime::shutdown_background);
            }
        }
    }
}

impl Drop for Ending {
    /// The last of them may take long, and is not let go.
    fn drop(&mut self) {
        for thread in self.joining.get_mut().drain(..) {
            if thread.is_finished() { joined(thread) } else { std::mem::forget(thread) }
        }
    }
}

fn joined(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread that waited for those of a SQL statement panicked");
    }
}
