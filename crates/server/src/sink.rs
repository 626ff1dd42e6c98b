use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tracehouse_model::{Caller, Clock, SpanBatch, TenantId, is_set_clock};
use tracehouse_pipeline::{Pipeline, TenantGate, TenantRefusal};
use tracehouse_receive::{Accepted, Refusal, SpanSink};
use tracehouse_store::{AppendError, Store};

/// Where the receivers' spans go: past the gate of the tenants and through the pipeline into the store. Answers when the
/// spans are durable.
pub(crate) struct StoreSink {
    tenants: TenantGate,
    pipeline: Pipeline,
    store: Arc<Store>,
    /// By which spans are judged.
    clock: Arc<dyn Clock>,
    /// Whether the operator was told that the clock was never set.
    clock_told: AtomicBool,
}

/// When to come back after an answer that needs a person or a restart.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(30);
const RETRY_AFTER_SHUTDOWN: Duration = Duration::from_secs(2);

impl StoreSink {
    pub(crate) fn new(tenants: TenantGate, pipeline: Pipeline, store: Arc<Store>) -> Self {
        let clock = store.clock().latest();
        Self { tenants, pipeline, store, clock, clock_told: AtomicBool::new(false) }
    }

    /// Fails while the clock was never set: it would take all spans for ones of the future, and refuse them for good.
    fn check_clock(&self) -> Result<(), Refusal> {
        if is_set_clock(self.clock.now_unix_nanos()) {
            return Ok(());
        }
        if !self.clock_told.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "this machine's clock shows a time before 2020, so it was never set: senders are asked to retry later"
            );
        }
        let reason = "this server's clock was never set, so the times of spans can't be judged; set it, by NTP for instance, \
                      and send again";
        Err(Refusal::Unavailable { retry_after: RETRY_AFTER_FAILURE, reason: reason.to_owned() })
    }
}

#[async_trait]
impl SpanSink for StoreSink {
    fn check(&self, caller: &Caller) -> Result<(), Refusal> {
        self.tenants.check(one_tenant(caller)?).map_err(forbidden)
    }

    async fn accept(&self, caller: &Caller, batch: SpanBatch) -> Result<Accepted, Refusal> {
        let tenant = one_tenant(caller)?;
        self.check_clock()?;
        self.tenants.enter(tenant).map_err(forbidden)?;
        let processed = self.pipeline.process(tenant, batch);
        if processed.of_the_future {
            self.store.clock().met_spans_of_the_future();
        }
        let traces = processed.batch.trace_id.clone();
        if let Err(error) = self.store.append(tenant.clone(), processed.batch).await {
            self.pipeline.not_kept(tenant, &traces);
            return Err(refusal(error));
        }
        Ok(Accepted { rejected_spans: processed.rejected_spans, message: processed.message })
    }
}

/// Spans are one tenant's.
fn one_tenant(caller: &Caller) -> Result<&TenantId, Refusal> {
    caller.tenant().map_err(|error| Refusal::Invalid { reason: error.to_string() })
}

fn forbidden(refusal: TenantRefusal) -> Refusal {
    Refusal::Forbidden { reason: refusal.to_string() }
}

/// What a sender is told. All of it may be sent again: none of it is the spans' fault.
fn refusal(error: AppendError) -> Refusal {
    let reason = error.to_string();
    match error {
        AppendError::Busy { retry_after, .. } => Refusal::Busy { retry_after, reason },
        AppendError::DiskFull { retry_after, .. } => Refusal::Unavailable { retry_after, reason },
        AppendError::Failed { .. } => Refusal::Unavailable { retry_after: RETRY_AFTER_FAILURE, reason },
        AppendError::ShuttingDown => Refusal::Unavailable { retry_after: RETRY_AFTER_SHUTDOWN, reason },
    }
}
