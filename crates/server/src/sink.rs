use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tracehouse_model::{SpanBatch, TenantId};
use tracehouse_pipeline::{Pipeline, TenantGate, TenantRefusal};
use tracehouse_receive::{Accepted, Refusal, SpanSink};
use tracehouse_store::{AppendError, Store};

/// Where the receivers' spans go: past the gate of the tenants and through the pipeline into the store. Answers when the
/// spans are durable.
pub(crate) struct StoreSink {
    tenants: TenantGate,
    pipeline: Pipeline,
    store: Arc<Store>,
}

/// When to come back after an answer that needs a person or a restart.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(30);
const RETRY_AFTER_SHUTDOWN: Duration = Duration::from_secs(2);

impl StoreSink {
    pub(crate) fn new(tenants: TenantGate, pipeline: Pipeline, store: Arc<Store>) -> Self {
        Self { tenants, pipeline, store }
    }
}

#[async_trait]
impl SpanSink for StoreSink {
    fn check_tenant(&self, tenant: &TenantId) -> Result<(), Refusal> {
        self.tenants.check(tenant).map_err(forbidden)
    }

    async fn accept(&self, tenant: TenantId, batch: SpanBatch) -> Result<Accepted, Refusal> {
        self.tenants.enter(&tenant).map_err(forbidden)?;
        let processed = self.pipeline.process(&tenant, batch);
        let traces = processed.batch.trace_id.clone();
        if let Err(error) = self.store.append(tenant.clone(), processed.batch).await {
            self.pipeline.not_kept(&tenant, &traces);
            return Err(refusal(error));
        }
        Ok(Accepted { rejected_spans: processed.rejected_spans, message: processed.message })
    }
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
