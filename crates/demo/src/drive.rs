//! The run: simulate what arrives, ship what is due, keep the books.
//!
//! One task simulates and packs; a few senders take requests from a bounded queue, so a slow receiver slows the
//! simulation instead of filling memory.

use crate::batch::{Batch, Outbox, SPANS_PER_REQUEST};
use crate::clock::unix_nanos;
use crate::facts::{self, Ledger};
use crate::options::{DemoOptions, DemoSummary};
use crate::problems::REDELIVERY_SHARE;
use crate::randomness::{Purpose, stream};
use crate::rhythm::{Arrival, Arrivals, SECOND, Timeline};
use crate::send::{CONNECT_WAIT_MAX, Delivery, Exporter};
use crate::simulate::World;
use rand::Rng;
use std::future::Future;
use std::iter::Peekable;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Requests that wait for a sender.
const QUEUE_REQUESTS_MAX: usize = 32;
const SENDERS: usize = 3;
const TICK: Duration = Duration::from_millis(200);
const FACTS_EVERY: Duration = Duration::from_secs(2);
const PROGRESS_EVERY: Duration = Duration::from_secs(15);
/// How far live traffic may fall behind before the rest is left out.
const LAG_MAX: u64 = 600 * SECOND;
/// How long the end of a run waits for acknowledgements.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// Runs the demo until its duration is over or `shutdown` resolves.
///
/// # Errors
/// When the endpoint does not come up, or the facts file cannot be written.
pub async fn run(options: DemoOptions, shutdown: impl Future<Output = ()>) -> anyhow::Result<DemoSummary> {
    tokio::pin!(shutdown);
    let connecting = Exporter::connect(&options.endpoint, options.tenant.as_deref(), CONNECT_WAIT_MAX);
    let exporter = tokio::select! {
        exporter = connecting => exporter?,
        () = &mut shutdown => return Ok(DemoSummary::default()),
    };
    let history = options.history.unwrap_or_default();
    let timeline = Timeline::new(unix_nanos(), history, options.duration, options.rate);
    let world = Arc::new(World::new(options.seed, timeline));
    tracing::info!(endpoint = options.endpoint, rate = options.rate, seed = options.seed, ?history, "the shop opens");

    let (stop, stopped) = watch::channel(false);
    let driving = Drive::start(options, world, exporter, stopped).trade();
    tokio::pin!(driving);
    tokio::select! {
        summary = &mut driving => return summary,
        () = &mut shutdown => {}
    }
    stop.send_replace(true);
    driving.await
}

type SharedLedger = Arc<Mutex<Ledger>>;

struct Drive {
    options: DemoOptions,
    world: Arc<World>,
    arrivals: Peekable<Arrivals>,
    outbox: Outbox,
    ledger: SharedLedger,
    queue: mpsc::Sender<Batch>,
    senders: JoinSet<()>,
    stopped: watch::Receiver<bool>,
    in_history: bool,
    facts_written: Option<Instant>,
    progress_told: Instant,
}

impl Drive {
    fn start(options: DemoOptions, world: Arc<World>, exporter: Exporter, stopped: watch::Receiver<bool>) -> Drive {
        let (queue, requests) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let requests = Arc::new(AsyncMutex::new(requests));
        let ledger = SharedLedger::default();
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(send_all(exporter.clone(), requests.clone(), ledger.clone(), options.seed));
        }
        Drive {
            arrivals: Arrivals::new(options.seed, world.timeline).peekable(),
            in_history: world.timeline.history > 0,
            options,
            world,
            outbox: Outbox::default(),
            ledger,
            queue,
            senders,
            stopped,
            facts_written: None,
            progress_told: Instant::now(),
        }
    }

    async fn trade(mut self) -> anyhow::Result<DemoSummary> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !self.is_stopped() && self.arrivals.peek().is_some() {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = self.stopped.changed() => break,
            }
            self.advance(unix_nanos()).await?;
            self.report().await?;
        }
        self.finish().await
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Simulates all that has arrived by `now` and ships what is due.
    async fn advance(&mut self, now: u64) -> anyhow::Result<()> {
        while let Some(arrival) = self.arrivals.next_if(|arrival| arrival.at <= now) {
            if self.is_stopped() {
                return Ok(());
            }
            if arrival.at >= self.world.timeline.start {
                self.note_live();
                if now - arrival.at > LAG_MAX {
                    continue;
                }
            }
            self.simulate(arrival);
            if self.outbox.len() >= SPANS_PER_REQUEST {
                self.ship(now, SPANS_PER_REQUEST).await;
                self.report().await?;
            }
        }
        self.ship(now, 1).await;
        Ok(())
    }

    fn note_live(&mut self) {
        if std::mem::take(&mut self.in_history) {
            tracing::info!("the history is sent; going live");
        }
    }

    fn simulate(&mut self, arrival: Arrival) {
        let generated = self.world.request(arrival);
        lock(&self.ledger).generated(&generated, &self.world.fleet);
        self.outbox.put(generated.spans);
    }

    /// Queues requests of at least `spans_min` spans; waits while the queue is full.
    async fn ship(&mut self, now: u64, spans_min: usize) {
        while let Some(batch) = self.outbox.take_due(now, spans_min, &self.world.fleet) {
            // A sender outlives the queue's sending half, so this fails only if all of them panicked.
            if self.queue.send(batch).await.is_err() {
                tracing::error!("no sender is left");
                return;
            }
        }
    }

    async fn report(&mut self) -> anyhow::Result<()> {
        if self.facts_written.is_none_or(|at| at.elapsed() >= FACTS_EVERY) {
            self.write_facts(false).await?;
            self.facts_written = Some(Instant::now());
        }
        if self.progress_told.elapsed() >= PROGRESS_EVERY {
            self.tell_progress();
            self.progress_told = Instant::now();
        }
        Ok(())
    }

    fn tell_progress(&self) {
        let summary = lock(&self.ledger).summary();
        tracing::info!(
            traces = summary.traces_generated,
            spans = summary.spans_generated,
            acknowledged = summary.spans_acknowledged,
            rejected = summary.spans_rejected,
            abandoned = summary.spans_abandoned,
            retries = summary.requests_retried,
            "sent so far"
        );
    }

    async fn write_facts(&self, finished: bool) -> anyhow::Result<()> {
        let Some(path) = &self.options.facts else { return Ok(()) };
        let facts = lock(&self.ledger).facts(&self.world, &self.options.endpoint, unix_nanos(), finished);
        facts::write(&facts, path).await
    }

    /// Sends what is left, even if not due yet, so that the last traces are whole.
    async fn finish(mut self) -> anyhow::Result<DemoSummary> {
        let draining = async {
            self.ship(u64::MAX, 1).await;
            let (closed, _) = mpsc::channel(1);
            self.queue = closed;
            while self.senders.join_next().await.is_some() {}
        };
        if timeout(DRAIN_MAX, draining).await.is_err() {
            tracing::warn!("the endpoint did not acknowledge everything in time; the rest is not counted");
            self.senders.abort_all();
        }
        self.write_facts(true).await?;
        self.tell_progress();
        let summary = lock(&self.ledger).summary();
        Ok(summary)
    }
}

/// Takes requests from the queue until it is closed.
async fn send_all(
    exporter: Exporter,
    requests: Arc<AsyncMutex<mpsc::Receiver<Batch>>>,
    ledger: SharedLedger,
    seed: u64,
) {
    loop {
        let next = requests.lock().await.recv().await;
        let Some(batch) = next else { return };
        send_one(&exporter, &batch, &ledger, seed).await;
    }
}

async fn send_one(exporter: &Exporter, batch: &Batch, ledger: &SharedLedger, seed: u64) {
    let delivered = exporter.deliver(&batch.request, seed, batch.number).await;
    lock(ledger).retried(delivered.retries);
    match delivered.delivery {
        Delivery::Acknowledged { spans_rejected: 0, .. } => lock(ledger).acknowledged(&batch.contents),
        Delivery::Acknowledged { spans_rejected, message } => {
            tracing::warn!(spans_rejected, message, "the endpoint refused spans");
            lock(ledger).partly_rejected(&batch.contents, spans_rejected);
            return;
        }
        Delivery::Abandoned(status) => {
            tracing::warn!(code = ?status.code(), message = status.message(), "a request was given up");
            lock(ledger).abandoned(&batch.contents);
            return;
        }
    }
    if stream(seed, Purpose::Redelivery, batch.number).random_bool(REDELIVERY_SHARE) {
        let again = exporter.deliver(&batch.request, seed, batch.number).await;
        if matches!(again.delivery, Delivery::Acknowledged { .. }) {
            lock(ledger).redelivered(&batch.contents);
        }
    }
}

fn lock(ledger: &SharedLedger) -> MutexGuard<'_, Ledger> {
    ledger.lock().expect("no one panics while holding the ledger")
}
