use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tracehouse_model::{Clock, TenantId};
use tracehouse_query::QueryEngine;
use tracehouse_sql::SqlEngine;
use tracehouse_store::Store;

use crate::engine::{Answers, Engines};

/// What every handler needs. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub(crate) answers: Arc<dyn Answers>,
    pub(crate) prometheus: PrometheusHandle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) default_tenant: TenantId,
    /// On [`Clock::monotonic`].
    pub(crate) started: Duration,
    pub(crate) ingest_rates: Arc<IngestRates>,
    /// Bounds how many large answers are written out at once, and so the memory for them.
    pub(crate) large_answers: Arc<Semaphore>,
    /// Held from reading the saved queries until they are written.
    pub(crate) saving_queries: Arc<tokio::sync::Mutex<()>>,
}

const LARGE_ANSWERS_AT_ONCE: usize = 2;

impl ApiState {
    /// What a running server answers from. `default_tenant` is whose data requests ask for that name no tenant.
    pub fn new(
        engine: Arc<QueryEngine>,
        sql: Arc<SqlEngine>,
        store: Arc<Store>,
        prometheus: PrometheusHandle,
        clock: Arc<dyn Clock>,
        default_tenant: TenantId,
    ) -> Self {
        Self::with_answers(Arc::new(Engines { engine, sql, store }), prometheus, clock, default_tenant)
    }

    /// `default_tenant` is whose data requests ask for that name no tenant.
    pub fn with_answers(
        answers: Arc<dyn Answers>,
        prometheus: PrometheusHandle,
        clock: Arc<dyn Clock>,
        default_tenant: TenantId,
    ) -> Self {
        Self {
            answers,
            prometheus,
            started: clock.monotonic(),
            clock,
            default_tenant,
            ingest_rates: Arc::default(),
            saving_queries: Arc::default(),
            large_answers: Arc::new(Semaphore::new(LARGE_ANSWERS_AT_ONCE)),
        }
    }

    /// Nanoseconds since a moment of [`Clock::monotonic`].
    pub(crate) fn elapsed_nanos(&self, begun: Duration) -> u64 {
        u64::try_from(self.clock.monotonic().saturating_sub(begun).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// How many spans come in per second, from how the number of spans grows between questions for it.
#[derive(Default)]
pub(crate) struct IngestRates(Mutex<HashMap<TenantId, VecDeque<Sample>>>);

#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    spans: u64,
}

impl IngestRates {
    const TENANTS_MAX: usize = 256;
    const INTERVAL_MIN: Duration = Duration::from_secs(1);
    const WINDOW: Duration = Duration::from_secs(15);

    /// Spans per second over the last seconds; 0 at the first question, and while retention removes more than comes in.
    pub(crate) fn observe(&self, tenant: &TenantId, at: Duration, spans: u64) -> f64 {
        let mut tenants = self.0.lock();
        if tenants.len() >= Self::TENANTS_MAX && !tenants.contains_key(tenant) {
            tenants.clear();
        }
        let samples = tenants.entry(tenant.clone()).or_default();
        // The window's oldest sample is the last one that is older than the window, if there is one.
        while samples.get(1).is_some_and(|second| at.saturating_sub(second.at) >= Self::WINDOW) {
            samples.pop_front();
        }
        let due = samples.back().is_none_or(|last| at.saturating_sub(last.at) >= Self::INTERVAL_MIN);
        let oldest = samples.front().copied();
        if due {
            samples.push_back(Sample { at, spans });
        }
        let Some(oldest) = oldest else {
            return 0.0;
        };
        let seconds = at.saturating_sub(oldest.at).as_secs_f64();
        if seconds <= 0.0 { 0.0 } else { spans.saturating_sub(oldest.spans) as f64 / seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_the_growth() {
        let rates = IngestRates::default();
        let tenant = TenantId::default();
        let at = |seconds: u64, spans: u64| rates.observe(&tenant, Duration::from_secs(seconds), spans);
        assert_eq!(at(0, 1000), 0.0);
        assert_eq!(at(2, 1200), 100.0);
        assert_eq!(at(10, 2000), 100.0);
        // Only the window counts: from second 10 on nothing came.
        assert_eq!(at(25, 2000), 0.0);
        assert_eq!(at(26, 500), 0.0);
    }
}
