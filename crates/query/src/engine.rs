//! Runs queries: on threads of their own, bounded in number and time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracehouse_model::{Clock, Span, SpanId, TenantId, TraceId};
use tracehouse_scan::{Bounds, EndedEarly, Limits, Places, Pool, Reach, Window};
use tracehouse_store::Snapshots;
use tracehouse_traceql::{ComparisonOp, FieldExpr, Intrinsic, QueryExpr, Static, conditions_of_unfinished};

use crate::arrivals::arrivals;
use crate::attribute_values::attribute_values;
use crate::compile::{Expression, all_of, compare, compile, intrinsic};
use crate::conditions::{condition_expr, conditions_of};
use crate::error::QueryError;
use crate::explain::{explain, window_of};
use crate::groups::{Kept, field_of, field_values};
use crate::known_values::KnownValues;
use crate::metrics::{MetricsPlan, metrics};
use crate::names;
use crate::operations::{operations, operations_by_kind};
use crate::plan::Plan;
use crate::question::Question;
use crate::request::{
    Among, Arrivals, AttributeKey, AttributeValueSeen, Condition, Explanation, Listing, MetricsAnswer, MetricsRequest,
    Operation, Scope, SearchAnswer, SearchRequest, Trace, TraceCount, TraceDetail,
};
use crate::search::{count, search};
use crate::services::{SERVICE_NAME, services, services_among};
use crate::targets_told::add_targets;
use crate::trace::{self, TraceQuestion};

/// What queries may use.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// Queries at once; further ones are asked to come back.
    pub concurrent_max: usize,
    /// Threads of one search.
    pub threads_per_search: usize,
    /// A query that takes longer answers with what it has, and says so.
    pub time_max: Duration,
    /// What all queries together may hold of memory, answers that were not sent yet included. A query that would need more
    /// than is left answers with what it has, and says so.
    pub memory_bytes_max: usize,
    /// A trace of which the text would be longer is answered with as many spans as fit, and says so.
    pub answer_bytes_max: usize,
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
            answer_bytes_max: 128 << 20,
            scanned_bytes_max: 100 << 30,
            traces_max: 1500,
        }
    }
}

/// Answers questions about what a store holds.
#[derive(Clone)]
pub struct QueryEngine {
    store: Arc<dyn Snapshots>,
    limits: QueryLimits,
    clock: Arc<dyn Clock>,
    places: Arc<Places>,
    pool: Pool,
    known_values: Arc<KnownValues>,
}

impl QueryEngine {
    /// An engine with memory of its own, as much as the limits say.
    pub fn new(store: Arc<dyn Snapshots>, limits: QueryLimits, clock: Arc<dyn Clock>) -> Arc<Self> {
        let pool = Pool::new(limits.memory_bytes_max);
        Self::with_pool(store, limits, pool, clock)
    }

    /// An engine that shares its memory with others; `memory_bytes_max` of the limits does not count.
    pub fn with_pool(store: Arc<dyn Snapshots>, limits: QueryLimits, pool: Pool, clock: Arc<dyn Clock>) -> Arc<Self> {
        EndedEarly::describe();
        let places = Places::new(limits.concurrent_max);
        Arc::new(Self { store, limits, clock, places, pool, known_values: Arc::default() })
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn limits(&self) -> &QueryLimits {
        &self.limits
    }

    /// The same for questions that may take no longer than this.
    pub(crate) fn within(&self, time_max: Duration) -> Self {
        let limits = QueryLimits { time_max: self.limits.time_max.min(time_max), ..self.limits.clone() };
        Self { limits, ..self.clone() }
    }

    /// A trace, with at most `spans_max` of its spans; `None` if no span of it is stored.
    pub async fn trace(
        &self,
        tenant: &TenantId,
        id: TraceId,
        spans_max: usize,
        detail: TraceDetail,
    ) -> Result<Option<Trace>, QueryError> {
        let asked = self.trace_of(tenant, id, spans_max, detail).await;
        let spans = match &asked {
            Ok((Some(trace), true)) => trace.spans.len(),
            Ok((None, true)) | Err(QueryError::Unreadable(_)) => 0,
            _ => return asked.map(|(trace, _)| trace),
        };
        let asked = asked.map(|(trace, _)| trace);
        if detail != TraceDetail::OutlineWithTargets {
            return asked;
        }
        // What calls are about stands in columns of its own. Where those can't be read, spans are shown without it.
        match self.trace_of(tenant, id, spans_max, TraceDetail::Outline).await {
            Ok((Some(mut outline), _)) if outline.spans.len() > spans => {
                outline.partial_reason.get_or_insert_with(|| TARGETS_UNREADABLE.to_owned());
                Ok(Some(outline))
            }
            _ => asked,
        }
    }

    /// A trace, and whether anything of what was wanted of it could not be read.
    async fn trace_of(
        &self,
        tenant: &TenantId,
        id: TraceId,
        spans_max: usize,
        detail: TraceDetail,
    ) -> Result<(Option<Trace>, bool), QueryError> {
        let answer_bytes_max = self.limits.answer_bytes_max;
        self.run("trace", tenant, Copies::Left, Window::starting(EVER), move |question| {
            let asked = TraceQuestion { id, detail, spans_max, answer_bytes_max, reads_whole: false };
            let found = trace::trace(question, asked)?;
            Ok((found, question.reach.partial_reason().is_some()))
        })
        .await
    }

    /// One span with all that belongs to it.
    pub async fn span(&self, tenant: &TenantId, id: TraceId, span: SpanId) -> Result<Option<Span>, QueryError> {
        self.run("span", tenant, Copies::Left, Window::starting(EVER), move |question| trace::span(question, id, span))
            .await
    }

    /// Traces of which the conditions and the query leave spans: the newest, or those that are first in another order.
    pub async fn search(&self, tenant: &TenantId, request: SearchRequest) -> Result<SearchAnswer, QueryError> {
        self.check(&request)?;
        let plan = plan_of(&request)?;
        let window = request.window();
        self.run("search", tenant, Copies::Left, window, move |question| {
            let mut found = search(question, &plan, &request);
            if request.targets {
                add_targets(question, &mut found);
            }
            Ok(found)
        })
        .await
    }

    /// How many traces a search would find without a limit.
    pub async fn count(&self, tenant: &TenantId, request: SearchRequest) -> Result<TraceCount, QueryError> {
        self.check(&request)?;
        let plan = plan_of(&request)?;
        let window = request.window();
        self.run("count", tenant, Copies::Left, window, move |question| Ok(count(question, &plan, &request))).await
    }

    /// A position up to which all that came can be asked for.
    pub fn position(&self) -> u64 {
        self.store.position()
    }

    /// Traces of which spans came after a position, up to another, and of which the conditions and the query leave spans. Times of the
    /// request do not count.
    pub async fn arrivals(
        &self,
        tenant: &TenantId,
        request: SearchRequest,
        after: u64,
        up_to: u64,
    ) -> Result<Arrivals, QueryError> {
        let request = SearchRequest { start_unix_nanos: None, end_unix_nanos: None, ..request };
        self.check(&request)?;
        let plan = plan_of(&request)?;
        // Whatever it holds is still there, in memory or in files, when the snapshot is taken.
        let arrived = self.store.arrived(tenant, after, up_to);
        let limits = QueryLimits { time_max: self.limits.time_max.min(LIVE_TIME_MAX), ..self.limits.clone() };
        let work = move |question: Question<'_>| {
            let mut arrivals = arrivals(question, &plan, &request, &arrived, after, up_to);
            if request.targets {
                add_targets(question, &mut arrivals.found);
            }
            Ok(arrivals)
        };
        self.run_within("arrivals", tenant, Copies::Left, limits, Window::starting(EVER), work).await
    }

    /// Time series of a TraceQL metrics query.
    pub async fn metrics(&self, tenant: &TenantId, request: MetricsRequest) -> Result<MetricsAnswer, QueryError> {
        let plan = MetricsPlan::of(compile(&request.traceql)?, &request)?;
        let window = plan.steps.window();
        self.run("metrics", tenant, Copies::TakenOut, window, move |question| Ok(metrics(question, &plan))).await
    }

    /// How a TraceQL query would run over a range of times.
    pub async fn explain(
        &self,
        tenant: &TenantId,
        traceql: &str,
        range: Range<i64>,
    ) -> Result<Explanation, QueryError> {
        let query = compile(traceql)?;
        let window = window_of(&query, range);
        let again = window.clone();
        self.run("explain", tenant, Copies::Left, again, move |question| explain(question, &query, window)).await
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
        let (range, conditions, known) = (range_of(among)?, conditions(among), self.known_values.clone());
        let (copies, limits) = (Copies::Left, self.limits_for_names());
        let work = move |question: Question<'_>| match conditions.as_slice() {
            [] => services(question, &range, &known),
            conditions => services_among(question, conditions, &range),
        };
        self.run_within("services", tenant, copies, limits, window_of_names(among)?, work).await
    }

    /// Names of spans, of one service or of all.
    pub async fn operations(
        &self,
        tenant: &TenantId,
        service: Option<&str>,
        among: &Among,
    ) -> Result<Listing<String>, QueryError> {
        if service.is_none() && !conditions(among).is_empty() {
            let found = self.values_of(tenant, ("name", Kept::All), names::NAMES_MAX, among, conditions(among)).await?;
            let named = found.items.into_iter().map(|seen| seen.value).filter(|name| !name.is_empty());
            return Ok(Listing {
                items: named.collect(),
                complete: found.complete,
                partial_reason: found.partial_reason,
            });
        }
        let (service, range, limits) = (service.map(str::to_owned), range_of(among)?, self.limits_for_names());
        let work = move |question: Question<'_>| operations(question, &range, service.as_deref());
        self.run_within("operations", tenant, Copies::Left, limits, window_of_names(among)?, work).await
    }

    /// Names of spans, of one service or of all, once for each kind that spans of the name have. This counts spans, where
    /// [`QueryEngine::operations`] goes by lists.
    pub async fn operations_by_kind(
        &self,
        tenant: &TenantId,
        service: Option<&str>,
        among: &Among,
    ) -> Result<Listing<Operation>, QueryError> {
        let (service, range, limits) = (service.map(str::to_owned), range_of(among)?, self.limits_for_names());
        let work = move |question: Question<'_>| operations_by_kind(question, &range, service.as_deref());
        self.run_within("operations", tenant, Copies::Left, limits, window_of_names(among)?, work).await
    }

    pub async fn attribute_keys(
        &self,
        tenant: &TenantId,
        scope: Option<Scope>,
        among: &Among,
    ) -> Result<Listing<AttributeKey>, QueryError> {
        let (range, filter) = (range_of(among)?, all_of(conditions(among)));
        let filter = filter.as_ref().map(Expression::of).transpose()?.filter(|filter| !filter.needs_trace);
        let work = move |question: Question<'_>| match &filter {
            None => Ok(names::attribute_keys(question, &range, scope)),
            Some(filter) => Ok(names::attribute_keys_of(question, scope, filter, &range)),
        };
        self.run_within(
            "attribute_keys",
            tenant,
            Copies::TakenOut,
            self.limits_for_names(),
            window_of_names(among)?,
            work,
        )
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
            let field = field_of(scope, key);
            return self.values_of(tenant, (&field, Kept::All), limit, among, conditions(among)).await;
        }
        let (range, key, known) = (range_of(among)?, key.to_owned(), self.known_values.clone());
        let work = move |question: Question<'_>| Ok(attribute_values(question, &range, scope, &key, limit, &known));
        self.run_within(
            "attribute_values",
            tenant,
            Copies::TakenOut,
            self.limits_for_names(),
            window_of_names(among)?,
            work,
        )
        .await
    }

    /// Values of a field that every span has by itself, or of an attribute wherever it stands, at most `limit`. Empty texts of the
    /// former are left out.
    pub async fn field_values(
        &self,
        tenant: &TenantId,
        field: &FieldExpr,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError> {
        let FieldExpr::Intrinsic { intrinsic: wanted, .. } = field else {
            return self.values_of(tenant, (&field.to_string(), Kept::All), limit, among, conditions(among)).await;
        };
        let conditions = conditions(among);
        let of_root = match wanted {
            // What all traces have is what all roots have, which needs no traces put together.
            _ if !conditions.is_empty() => None,
            Intrinsic::TraceRootName => Some(Intrinsic::Name.name().to_owned()),
            Intrinsic::TraceRootService => Some(field_of(Scope::Resource, SERVICE_NAME)),
            _ => None,
        };
        let mut found = match of_root {
            Some(field) => {
                let is_root = compare(ComparisonOp::Equal, intrinsic(Intrinsic::ParentId), Static::Nil);
                // The field of the trace is the text, and no other name of its root.
                self.values_of(tenant, (&field, Kept::Texts), limit, among, vec![is_root]).await?
            }
            None => self.values_of(tenant, (wanted.name(), Kept::All), limit, among, conditions).await?,
        };
        found.items.retain(|seen| !seen.value.is_empty());
        Ok(found)
    }

    async fn values_of(
        &self,
        tenant: &TenantId,
        (field, kept): (&str, Kept),
        limit: usize,
        among: &Among,
        conditions: Vec<FieldExpr>,
    ) -> Result<Listing<AttributeValueSeen>, QueryError> {
        let (range, field) = (range_of(among)?, field.to_owned());
        let work = move |question: Question<'_>| field_values(question, &field, &conditions, &range, kept, limit);
        self.run_within(
            "field_values",
            tenant,
            Copies::TakenOut,
            self.limits_for_names(),
            window_of_names(among)?,
            work,
        )
        .await
    }

    /// Somebody waits for names while typing.
    pub(crate) fn limits_for_names(&self) -> QueryLimits {
        QueryLimits { time_max: self.limits.time_max.min(NAMES_TIME_MAX), ..self.limits.clone() }
    }

    async fn run<T: Send + 'static>(
        &self,
        kind: &'static str,
        tenant: &TenantId,
        copies: Copies,
        window: Window,
        work: impl FnOnce(Question<'_>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        self.run_within(kind, tenant, copies, self.limits.clone(), window, work).await
    }

    /// Runs a query about spans that a window selects, on a thread of its own over one snapshot, within limits. If
    /// nobody waits any more it is told to stop.
    async fn run_within<T: Send + 'static>(
        &self,
        kind: &'static str,
        tenant: &TenantId,
        copies: Copies,
        limits: QueryLimits,
        window: Window,
        work: impl FnOnce(Question<'_>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        let place = self.places.take(tenant).ok_or_else(|| {
            EndedEarly::Places.count(kind);
            QueryError::Busy { running: self.limits.concurrent_max }
        })?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel_when_dropped = CancelOnDrop(cancelled.clone());
        let limits = Limits {
            threads: limits.threads_per_search,
            time_max: limits.time_max,
            scanned_bytes_max: limits.scanned_bytes_max,
        };
        let bounds = Bounds::new(limits, self.pool.clone(), self.clock.clone(), cancelled);
        let (store, tenant) = (self.store.clone(), tenant.clone());
        let begin = self.clock.monotonic();
        let outcome = tokio::task::spawn_blocking(move || {
            let _place = place;
            let snapshot = match copies {
                Copies::TakenOut => store.snapshot(&tenant),
                Copies::Left => store.snapshot_as_sent(&tenant),
            };
            let reach = Reach::of(&snapshot, &window);
            let answer = bounds.counted(|| work(Question { snapshot: &snapshot, bounds: &bounds, reach: &reach }));
            // Also of those whose caller is gone, who learns nothing of it.
            if let Some(reason) = bounds.ended_early() {
                reason.count(kind);
            } else if matches!(answer, Err(QueryError::Memory)) {
                EndedEarly::Memory.count(kind);
            }
            answer
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

/// What a question needs to be done about copies of spans in memory.
#[derive(Clone, Copy)]
enum Copies {
    /// It counts spans.
    TakenOut,
    /// It finds them itself, in the traces that it puts together, or they make no difference.
    Left,
}

/// The range of a question that has none.
const EVER: Range<i64> = i64::MIN..i64::MAX;
const TARGETS_UNREADABLE: &str = "the spans are all there, but what calls are about can't be read";

/// How long it may take to look through what came, for somebody who looks every second or so.
const LIVE_TIME_MAX: Duration = Duration::from_secs(2);

/// How long it may take to find names.
const NAMES_TIME_MAX: Duration = Duration::from_secs(2);

fn conditions(among: &Among) -> Vec<FieldExpr> {
    let mut conditions = among.traceql.as_deref().map_or_else(Vec::new, conditions_of_unfinished);
    conditions.extend(among.service.clone().map(|service| condition_expr(&Condition::Service(service))));
    conditions
}

/// Names are those of spans that begin in the range.
fn window_of_names(among: &Among) -> Result<Window, QueryError> {
    range_of(among).map(Window::starting)
}

fn range_of(among: &Among) -> Result<Range<i64>, QueryError> {
    let all = names::ALL_TIME;
    let range = among.start_unix_nanos.unwrap_or(all.start)..among.end_unix_nanos.unwrap_or(all.end);
    if range.is_empty() {
        return Err(QueryError::Invalid("the time range is empty: start must be before end".into()));
    }
    Ok(range)
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
