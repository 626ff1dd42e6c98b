//! Runs queries: on threads of their own, bounded in number and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tracehouse_model::{Clock, Span, SpanId, TenantId, TraceId};
use tracehouse_store::{Snapshot, Store};
use tracehouse_traceql::{FieldExpr, Query, QueryExpr, conditions_of_unfinished};

use crate::assemble::assemble;
use crate::bounds::Bounds;
use crate::compile::{Expression, conditions_of};
use crate::error::QueryError;
use crate::explain::explain;
use crate::metrics::{MetricsPlan, metrics};
use crate::names::{self, KnownValues};
use crate::plan::{Plan, all_of};
use crate::request::{
    Among, AttributeKey, AttributeValueSeen, Explanation, Listing, MetricsAnswer, MetricsRequest, Scope, SearchAnswer,
    SearchRequest, Trace,
};
use crate::search::search;

/// What queries may use.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// Queries at once; further ones are asked to come back.
    pub concurrent_max: usize,
    /// Threads of one search.
    pub threads_per_search: usize,
    /// A query that takes longer answers with what it has, and says so.
    pub time_max: Duration,
    /// A query that would need more memory for what it gathers answers with what it has, and says so.
    pub memory_bytes_max: usize,
    /// A query that reads more of the files answers with what it has, and says so.
    pub scanned_bytes_max: u64,
    /// Most traces that one search may ask for.
    pub traces_max: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            concurrent_max: 4 * cores.max(4),
            threads_per_search: cores,
            time_max: Duration::from_secs(20),
            memory_bytes_max: 512 << 20,
            scanned_bytes_max: 100 << 30,
            traces_max: 1500,
        }
    }
}

/// Answers questions about what a store holds.
pub struct QueryEngine {
    store: Arc<Store>,
    limits: QueryLimits,
    clock: Arc<dyn Clock>,
    slots: Arc<Semaphore>,
    known_values: Arc<KnownValues>,
}

impl QueryEngine {
    pub fn new(store: Arc<Store>, limits: QueryLimits, clock: Arc<dyn Clock>) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(limits.concurrent_max));
        Arc::new(Self { store, limits, clock, slots, known_values: Arc::default() })
    }

    /// A trace, with at most `spans_max` of its spans; `None` if no span of it is stored.
    pub async fn trace(&self, tenant: &TenantId, id: TraceId, spans_max: usize) -> Result<Option<Trace>, QueryError> {
        self.run("trace", tenant, move |snapshot, _| Ok(assemble(&snapshot, id, spans_max)?)).await
    }

    /// One span with all that belongs to it.
    pub async fn span(&self, tenant: &TenantId, id: TraceId, span: SpanId) -> Result<Option<Span>, QueryError> {
        self.run("span", tenant, move |snapshot, _| {
            let trace = assemble(&snapshot, id, usize::MAX)?;
            Ok(trace.and_then(|trace| {
                let row = trace.spans.span_id.iter().position(|&candidate| candidate == span)?;
                Some(trace.spans.span(row))
            }))
        })
        .await
    }

    /// The newest traces of which the conditions and the query leave spans.
    pub async fn search(&self, tenant: &TenantId, request: SearchRequest) -> Result<SearchAnswer, QueryError> {
        self.check(&request)?;
        let plan = plan_of(&request)?;
        self.run_bounded("search", tenant, move |snapshot, bounds| Ok(search(snapshot, &plan, &request, bounds)?)).await
    }

    /// Time series of a TraceQL metrics query.
    pub async fn metrics(&self, tenant: &TenantId, request: MetricsRequest) -> Result<MetricsAnswer, QueryError> {
        let plan = MetricsPlan::of(compile(&request.traceql)?, &request)?;
        self.run_bounded("metrics", tenant, move |snapshot, bounds| metrics(snapshot, &plan, bounds)).await
    }

    /// How a TraceQL query would run over spans that begin in a range of times.
    pub async fn explain(
        &self,
        tenant: &TenantId,
        traceql: &str,
        range: std::ops::Range<i64>,
    ) -> Result<Explanation, QueryError> {
        let query = compile(traceql)?;
        self.run("explain", tenant, move |snapshot, _| explain(&snapshot, &query, range)).await
    }

    fn check(&self, request: &SearchRequest) -> Result<(), QueryError> {
        if request.limit == 0 || request.limit > self.limits.traces_max {
            let most = self.limits.traces_max;
            return Err(QueryError::Invalid(format!("limit must be from 1 to {most}, it is {}", request.limit)));
        }
        if let (Some(start), Some(end)) = (request.start_unix_nanos, request.end_unix_nanos)
            && start >= end
        {
            return Err(QueryError::Invalid("the time range is empty: start must be before end".into()));
        }
        Ok(())
    }

    pub async fn services(&self, tenant: &TenantId, among: &Among) -> Result<Listing<String>, QueryError> {
        if !conditions(among).is_empty() {
            return self.names_of("resource.service.name", tenant, among).await;
        }
        let range = range_of(among)?;
        self.run("services", tenant, move |snapshot, _| Ok(names::services(&names::within(snapshot, &range)))).await
    }

    /// Names of spans, of one service or of all.
    pub async fn operations(
        &self,
        tenant: &TenantId,
        service: Option<&str>,
        among: &Among,
    ) -> Result<Listing<String>, QueryError> {
        if service.is_none() && !conditions(among).is_empty() {
            return self.names_of("name", tenant, among).await;
        }
        let (service, range) = (service.map(str::to_owned), range_of(among)?);
        let names = move |snapshot| names::operations(&names::within(snapshot, &range), service.as_deref());
        self.run("operations", tenant, move |snapshot, _| Ok(names(snapshot))).await
    }

    async fn names_of(&self, field: &str, tenant: &TenantId, among: &Among) -> Result<Listing<String>, QueryError> {
        let found = self.field_values(tenant, field, names::NAMES_MAX, among).await?;
        let named = found.items.into_iter().map(|seen| seen.value).filter(|name| !name.is_empty());
        Ok(Listing { items: named.collect(), complete: found.complete })
    }

    pub async fn attribute_keys(
        &self,
        tenant: &TenantId,
        scope: Option<Scope>,
        among: &Among,
    ) -> Result<Listing<AttributeKey>, QueryError> {
        let (range, filter) = (range_of(among)?, all_of(conditions(among)));
        let filter = filter.as_ref().map(Expression::of).transpose()?.filter(|filter| !filter.needs_trace);
        self.run_bounded_by("attribute_keys", tenant, self.limits_for_names(), move |snapshot, bounds| match &filter {
            None => Ok(names::attribute_keys(&names::within(snapshot.clone(), &range), scope)),
            Some(filter) => Ok(names::attribute_keys_of(snapshot, scope, filter, &range, bounds)?),
        })
        .await
    }

    /// Values of an attribute, at most `limit`.
    pub async fn attribute_values(
        &self,
        tenant: &TenantId,
        scope: Scope,
        key: &str,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError> {
        if matches!(scope, Scope::Event | Scope::Link) || !conditions(among).is_empty() {
            return self.field_values(tenant, &names::field_of(scope, key), limit, among).await;
        }
        let (range, key, known) = (range_of(among)?, key.to_owned(), self.known_values.clone());
        self.run_bounded_by("attribute_values", tenant, self.limits_for_names(), move |snapshot, bounds| {
            let snapshot = names::within(snapshot.clone(), &range);
            Ok(names::attribute_values(&snapshot, scope, &key, limit, &known, bounds)?)
        })
        .await
    }

    /// Values of a field, which is named as in TraceQL, at most `limit`.
    async fn field_values(
        &self,
        tenant: &TenantId,
        field: &str,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError> {
        let (range, field, conditions) = (range_of(among)?, field.to_owned(), conditions(among));
        self.run_bounded_by("field_values", tenant, self.limits_for_names(), move |snapshot, bounds| {
            names::field_values(snapshot, &field, &conditions, &range, limit, bounds)
        })
        .await
    }

    /// Somebody waits for names while typing.
    fn limits_for_names(&self) -> QueryLimits {
        QueryLimits { time_max: self.limits.time_max.min(NAMES_TIME_MAX), ..self.limits.clone() }
    }

    async fn run_bounded<T: Send + 'static>(
        &self,
        kind: &'static str,
        tenant: &TenantId,
        work: impl FnOnce(&Snapshot, &Bounds<'_>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        self.run_bounded_by(kind, tenant, self.limits.clone(), work).await
    }

    /// The same as [`Self::run`] within limits, for queries that look at many spans.
    async fn run_bounded_by<T: Send + 'static>(
        &self,
        kind: &'static str,
        tenant: &TenantId,
        limits: QueryLimits,
        work: impl FnOnce(&Snapshot, &Bounds<'_>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        let clock = self.clock.clone();
        let begin = clock.monotonic();
        self.run(kind, tenant, move |snapshot, cancelled| {
            let elapsed = || clock.monotonic().saturating_sub(begin);
            work(&snapshot, &Bounds::new(&limits, &elapsed, cancelled))
        })
        .await
    }

    /// Runs a query on a thread of its own over one snapshot. If nobody waits any more it is told to stop.
    async fn run<T: Send + 'static>(
        &self,
        kind: &'static str,
        tenant: &TenantId,
        work: impl FnOnce(Snapshot, &AtomicBool) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| QueryError::Busy { running: self.limits.concurrent_max })?;
        let (store, tenant) = (self.store.clone(), tenant.clone());
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel_when_dropped = CancelOnDrop(cancelled.clone());
        let begin = self.clock.monotonic();
        let outcome = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            work(store.snapshot(&tenant), &cancelled)
        })
        .await;
        let took = self.clock.monotonic().saturating_sub(begin);
        metrics::histogram!("tracehouse_query_seconds", "kind" => kind).record(took.as_secs_f64());
        outcome.unwrap_or_else(|error| {
            tracing::error!(%error, kind, "a query ended unexpectedly");
            Err(QueryError::Ended)
        })
    }
}

/// How long it may take to find names.
const NAMES_TIME_MAX: Duration = Duration::from_secs(2);

fn conditions(among: &Among) -> Vec<FieldExpr> {
    among.traceql.as_deref().map_or_else(Vec::new, conditions_of_unfinished)
}

fn range_of(among: &Among) -> Result<std::ops::Range<i64>, QueryError> {
    let all = names::ALL_TIME;
    let range = among.start_unix_nanos.unwrap_or(all.start)..among.end_unix_nanos.unwrap_or(all.end);
    if range.is_empty() {
        return Err(QueryError::Invalid("the time range is empty: start must be before end".into()));
    }
    Ok(range)
}

pub(crate) fn compile(traceql: &str) -> Result<Query, QueryError> {
    tracehouse_traceql::compile(traceql).map_err(|error| QueryError::Invalid(error.render(traceql).to_string()))
}

/// The pipeline of a search: the query's, whose spans must satisfy the other conditions too.
fn plan_of(request: &SearchRequest) -> Result<Plan, QueryError> {
    let conditions = conditions_of(request);
    let Some(text) = &request.traceql else {
        return Plan::of_condition(all_of(conditions));
    };
    match compile(text)?.expr {
        QueryExpr::Spans(pipeline) => Plan::of(pipeline, conditions),
        QueryExpr::Metrics(_) => Err(QueryError::Invalid(
            "the query computes time series; ask for its metrics, or search without the function".into(),
        )),
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
