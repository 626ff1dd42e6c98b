//! One answer over several tenants: each is asked by itself, under its own name and within its own limits, and the answers are put
//! together. Nothing is counted or compared across tenants; only the spans of one trace meet.
//!
//! Tenants are asked one after the other, so that a question takes one place at a time and never waits for itself.

mod trace;

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use tracehouse_model::{AnyValue, SeededSet, Span, SpanId, TenantId, Tenants, TraceId};
use tracehouse_scan::Reservation;
use tracehouse_traceql::FieldExpr;

use crate::engine::QueryEngine;
use crate::error::QueryError;
use crate::metrics::label_key;
use crate::names::NAMES_MAX;
use crate::order::{newest_first, newest_match_first};
use crate::request::{
    Among, Arrivals, AttributeKey, AttributeValueSeen, Explanation, Listing, MetricsAnswer, MetricsRequest, Operation,
    Order, Scope, SearchAnswer, SearchRequest, Trace, TraceCount, TraceDetail, TraceSummary,
};

/// Under which key an answer over several tenants names the tenant of a resource or a series. What a sender says under this key is
/// not shown then.
pub const TENANT_KEY: &str = "tenant";

/// Questions about what several tenants have. About one alone they are the engine's own, and so are their answers.
pub struct Together<'a> {
    engine: &'a QueryEngine,
    tenants: &'a Tenants,
}

/// What tenants answered, each by itself.
struct Asked<T> {
    answers: Vec<(TenantId, T)>,
    /// Why not all of them were asked.
    cut: Option<String>,
}

/// Why an answer is not everything, each reason with the tenant that it is about.
#[derive(Default)]
struct Reasons(Vec<String>);

impl Reasons {
    fn of_cut(cut: Option<String>) -> Self {
        Self(cut.into_iter().collect())
    }

    fn add(&mut self, tenant: &TenantId, reason: Option<String>) {
        self.0.extend(reason.map(|reason| format!("tenant {tenant}: {reason}")));
    }

    fn in_words(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join("; "))
    }
}

impl QueryEngine {
    /// Questions about what several tenants have.
    pub fn of<'a>(&'a self, tenants: &'a Tenants) -> Together<'a> {
        Together::new(self, tenants)
    }
}

impl<'a> Together<'a> {
    pub(crate) fn new(engine: &'a QueryEngine, tenants: &'a Tenants) -> Self {
        Self { engine, tenants }
    }

    async fn each<T, F>(&self, ask: impl Fn(QueryEngine, TenantId) -> F) -> Result<Asked<T>, QueryError>
    where
        F: Future<Output = Result<T, QueryError>>,
    {
        self.each_within(self.engine.limits().time_max, ask).await
    }

    /// Asks one tenant after the other, as long as there is time and memory: each by an engine that may take what is left of the
    /// time for the whole question.
    async fn each_within<T, F>(
        &self,
        time_max: Duration,
        ask: impl Fn(QueryEngine, TenantId) -> F,
    ) -> Result<Asked<T>, QueryError>
    where
        F: Future<Output = Result<T, QueryError>>,
    {
        let tenants = self.tenants.all();
        let begin = self.engine.clock().monotonic();
        let mut asked = Asked { answers: Vec::with_capacity(tenants.len()), cut: None };
        for (number, tenant) in tenants.iter().enumerate() {
            let cut = |why: &str| Some(format!("{number} of {} tenants were asked: {why}", tenants.len()));
            let took = self.engine.clock().monotonic().saturating_sub(begin);
            let left = time_max.saturating_sub(took);
            if number > 0 && left.is_zero() {
                asked.cut = cut("the time for a query was used up");
                break;
            }
            match ask(self.engine.within(left), tenant.clone()).await {
                Ok(answer) => asked.answers.push((tenant.clone(), answer)),
                // The answers before this one hold the memory: it is waited for in vain.
                Err(QueryError::Memory) if number > 0 => {
                    asked.cut = cut("the memory for queries is used up");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(asked)
    }

    /// A trace of all spans that the tenants have of it, with at most `spans_max` of them. Each resource names its tenant.
    pub async fn trace(&self, id: TraceId, spans_max: usize, detail: TraceDetail) -> Result<Option<Trace>, QueryError> {
        if let Some(tenant) = self.tenants.only() {
            return self.engine.trace(tenant, id, spans_max, detail).await;
        }
        let ask = |engine: QueryEngine, tenant| async move {
            or_unreadable(engine.trace(&tenant, id, spans_max, detail).await)
        };
        let asked = self.each(ask).await?;
        let (parts, reasons) = found(asked);
        if parts.is_empty() {
            return reasons.in_words().map_or(Ok(None), |reason| Err(QueryError::Unreadable(reason)));
        }
        let answer_bytes_max = self.engine.limits().answer_bytes_max;
        let joining = trace::Joining { detail, spans_max, answer_bytes_max };
        let joined = tokio::task::spawn_blocking(move || joining.join(parts, reasons)).await;
        joined.map(Some).map_err(|error| {
            tracing::error!(%error, "putting a trace of several tenants together ended unexpectedly");
            QueryError::Ended
        })
    }

    /// One span; of several under the same id the one that keeps it where each needs its own.
    pub async fn span(&self, id: TraceId, span: SpanId) -> Result<Option<Span>, QueryError> {
        if let Some(tenant) = self.tenants.only() {
            return self.engine.span(tenant, id, span).await;
        }
        let ask = |engine: QueryEngine, tenant| async move { or_unreadable(engine.span(&tenant, id, span).await) };
        let asked = self.each(ask).await?;
        let (spans, reasons) = found(asked);
        let named = spans.into_iter().map(|(tenant, mut span): (TenantId, Span)| {
            span.resource_attributes.retain(|(key, _)| key != TENANT_KEY);
            span.resource_attributes.push((TENANT_KEY.to_owned(), AnyValue::String(tenant.to_string())));
            span
        });
        match named.min_by_key(crate::trace::rank) {
            Some(span) => Ok(Some(span)),
            None => reasons.in_words().map_or(Ok(None), |reason| Err(QueryError::Unreadable(reason))),
        }
    }

    /// Traces of all tenants. One of which several tenants have spans is there once for each, and counts once.
    pub async fn search(&self, request: SearchRequest) -> Result<SearchAnswer, QueryError> {
        if let Some(tenant) = self.tenants.only() {
            return self.engine.search(tenant, request).await;
        }
        let asked_for = &request;
        let ask = |engine: QueryEngine, tenant| async move { engine.search(&tenant, asked_for.clone()).await };
        Ok(searches(self.each(ask).await?, request.limit, request.order))
    }

    /// How many traces a search would find: one of which several tenants have spans counts once for each.
    pub async fn count(&self, request: SearchRequest) -> Result<TraceCount, QueryError> {
        if let Some(tenant) = self.tenants.only() {
            return self.engine.count(tenant, request).await;
        }
        let asked_for = &request;
        let ask = |engine: QueryEngine, tenant| async move { engine.count(&tenant, asked_for.clone()).await };
        Ok(sum(self.each(ask).await?))
    }

    /// Traces of which spans came after a position; without one, or with one that is yet to come, none, but from where to go on. A
    /// trace counts once for each tenant.
    pub async fn arrivals(&self, request: SearchRequest, after: Option<u64>) -> Result<Arrivals, QueryError> {
        // One for all, read before any of them is asked: what comes meanwhile is in the next answer.
        let up_to = self.engine.position();
        let is_ahead = after.is_some_and(|after| after > up_to);
        let after = after.filter(|_| !is_ahead).unwrap_or(up_to);
        let mut arrivals = self.arrivals_between(request, after, up_to).await?;
        if is_ahead {
            arrivals.found.partial_reason = Some("the position is of another store; this goes on from now".to_owned());
        }
        Ok(arrivals)
    }

    async fn arrivals_between(&self, request: SearchRequest, after: u64, up_to: u64) -> Result<Arrivals, QueryError> {
        if let Some(tenant) = self.tenants.only() {
            return self.engine.arrivals(tenant, request, after, up_to).await;
        }
        let asked_for = &request;
        let ask = |engine: QueryEngine, tenant| async move {
            engine.arrivals(&tenant, asked_for.clone(), after, up_to).await
        };
        let Asked { answers, cut } = self.each(ask).await?;
        let spans_arrived = answers.iter().map(|(_, arrivals)| arrivals.spans_arrived).sum();
        let traces_begun = answers.iter().map(|(_, arrivals)| arrivals.traces_begun).sum();
        let answers = answers.into_iter().map(|(tenant, arrivals)| (tenant, arrivals.found)).collect();
        let found = searches(Asked { answers, cut }, request.limit, None);
        Ok(Arrivals { found, traces_begun, spans_arrived, position: up_to })
    }

    /// The series of each tenant, which the label [`TENANT_KEY`] names, after all other labels. Nothing is added up across
    /// tenants, as quantiles and averages can't be.
    pub async fn metrics(&self, request: MetricsRequest) -> Result<MetricsAnswer, QueryError> {
        if let Some(tenant) = self.tenants.only() {
            return self.engine.metrics(tenant, request).await;
        }
        let share = |most: usize| most.div_ceil(self.tenants.all().len());
        let of_each = &MetricsRequest { exemplars_in_all_max: request.exemplars_in_all_max.map(share), ..request };
        let ask = |engine: QueryEngine, tenant| async move { engine.metrics(&tenant, of_each.clone()).await };
        Ok(series(self.each(ask).await?))
    }

    /// How a TraceQL query would run: the plan is the same for each tenant, what it would read is added up.
    pub async fn explain(&self, traceql: &str, range: Range<i64>) -> Result<Explanation, QueryError> {
        let range = &range;
        let ask = |engine: QueryEngine, tenant| async move { engine.explain(&tenant, traceql, range.clone()).await };
        let mut explanations = self.each(ask).await?.answers.into_iter().map(|(_, explanation)| explanation);
        let mut all = explanations.next().unwrap_or_default();
        for explanation in explanations {
            all.files_total += explanation.files_total;
            all.files_to_read += explanation.files_to_read;
            all.spans_in_memory += explanation.spans_in_memory;
            all.spans_in_files += explanation.spans_in_files;
        }
        Ok(all)
    }

    /// Names of services.
    pub async fn services(&self, among: &Among) -> Result<Listing<String>, QueryError> {
        let ask = |engine: QueryEngine, tenant| async move { engine.services(&tenant, among).await };
        self.listing(ask, NAMES_MAX).await
    }

    /// Names of spans, of one service or of all.
    pub async fn operations(&self, service: Option<&str>, among: &Among) -> Result<Listing<String>, QueryError> {
        let ask = |engine: QueryEngine, tenant| async move { engine.operations(&tenant, service, among).await };
        self.listing(ask, NAMES_MAX).await
    }

    /// Names of spans, once for each kind that spans of the name have.
    pub async fn operations_by_kind(
        &self,
        service: Option<&str>,
        among: &Among,
    ) -> Result<Listing<Operation>, QueryError> {
        let ask = |engine: QueryEngine, tenant| async move { engine.operations_by_kind(&tenant, service, among).await };
        self.listing(ask, usize::MAX).await
    }

    /// Keys of attributes.
    pub async fn attribute_keys(
        &self,
        scope: Option<Scope>,
        among: &Among,
    ) -> Result<Listing<AttributeKey>, QueryError> {
        let ask = |engine: QueryEngine, tenant| async move { engine.attribute_keys(&tenant, scope, among).await };
        self.listing(ask, NAMES_MAX).await
    }

    /// Values of an attribute, at most `limit`.
    pub async fn attribute_values(
        &self,
        scope: Scope,
        key: &str,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError> {
        let ask = |engine: QueryEngine, tenant| async move {
            engine.attribute_values(&tenant, scope, key, limit, among).await
        };
        self.listing(ask, limit).await
    }

    /// Values of a field that every span has by itself, or of an attribute wherever it stands, at most `limit`.
    pub async fn field_values(
        &self,
        field: &FieldExpr,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError> {
        let ask = |engine: QueryEngine, tenant| async move { engine.field_values(&tenant, field, limit, among).await };
        self.listing(ask, limit).await
    }

    /// What any of the tenants has, each item once, at most `limit`.
    async fn listing<T: Ord, F>(
        &self,
        ask: impl Fn(QueryEngine, TenantId) -> F,
        limit: usize,
    ) -> Result<Listing<T>, QueryError>
    where
        F: Future<Output = Result<Listing<T>, QueryError>>,
    {
        match self.tenants.only() {
            Some(tenant) => ask(self.engine.clone(), tenant.clone()).await,
            None => Ok(union(self.each_within(self.engine.limits_for_names().time_max, ask).await?, limit)),
        }
    }
}

/// An answer, or why it may be in what can't be read, which keeps the other tenants' from nobody.
fn or_unreadable<T>(answer: Result<Option<T>, QueryError>) -> Result<Result<Option<T>, String>, QueryError> {
    match answer {
        Ok(found) => Ok(Ok(found)),
        Err(QueryError::Unreadable(reason)) => Ok(Err(reason)),
        Err(error) => Err(error),
    }
}

/// What the tenants have, and why this may not be all.
fn found<T>(asked: Asked<Result<Option<T>, String>>) -> (Vec<(TenantId, T)>, Reasons) {
    let mut reasons = Reasons::of_cut(asked.cut);
    let mut all = Vec::new();
    for (tenant, answer) in asked.answers {
        match answer {
            Ok(found) => all.extend(found.map(|found| (tenant, found))),
            Err(reason) => reasons.add(&tenant, Some(reason)),
        }
    }
    (all, reasons)
}

fn searches(asked: Asked<SearchAnswer>, limit: usize, order: Option<Order>) -> SearchAnswer {
    let none = SearchAnswer { traces_matched: Some(0), ..SearchAnswer::default() };
    let (mut all, mut reasons) = (none, Reasons::of_cut(asked.cut));
    let mut memory = Vec::new();
    for (tenant, answer) in asked.answers {
        let named = answer.traces.into_iter().map(|trace| TraceSummary { tenant: Some(tenant.clone()), ..trace });
        all.traces.extend(named);
        all.traces_matched = all.traces_matched.zip(answer.traces_matched).map(|(one, other)| one + other);
        all.inspected.add(answer.inspected);
        reasons.add(&tenant, answer.partial_reason);
        memory.push(answer.memory);
    }
    all.traces.sort_by(|left, right| match order {
        Some(order) => order.compare(left, right),
        None => newest_match_first(left, right),
    });
    let mut ids: SeededSet<TraceId> = SeededSet::default();
    all.traces.retain(|trace| ids.contains(&trace.trace_id) || ids.len() < limit && ids.insert(trace.trace_id));
    if order.is_none() {
        all.traces.sort_by(newest_first);
    }
    SearchAnswer { partial_reason: reasons.in_words(), memory: Reservation::together(memory), ..all }
}

fn sum(asked: Asked<TraceCount>) -> TraceCount {
    let (mut all, mut reasons) = (TraceCount::default(), Reasons::of_cut(asked.cut));
    for (tenant, answer) in asked.answers {
        all.traces += answer.traces;
        all.inspected.add(answer.inspected);
        reasons.add(&tenant, answer.partial_reason);
    }
    TraceCount { partial_reason: reasons.in_words(), ..all }
}

fn series(asked: Asked<MetricsAnswer>) -> MetricsAnswer {
    let (mut all, mut reasons) = (MetricsAnswer::default(), Reasons::of_cut(asked.cut));
    let mut memory = Vec::new();
    for (tenant, answer) in asked.answers {
        // The same of each, as they come of the question.
        (all.start_unix_nanos, all.step_nanos, all.steps) = (answer.start_unix_nanos, answer.step_nanos, answer.steps);
        all.meaning = answer.meaning;
        let label = || (TENANT_KEY.to_owned(), Some(AnyValue::String(tenant.to_string())));
        all.series.extend(answer.series.into_iter().map(|mut series| {
            series.labels.push(label());
            series
        }));
        all.inspected.add(answer.inspected);
        all.weighting.spans += answer.weighting.spans;
        all.weighting.spans_of_unknown_probability += answer.weighting.spans_of_unknown_probability;
        reasons.add(&tenant, answer.partial_reason);
        memory.push(answer.memory);
    }
    all.series.sort_by_cached_key(|series| label_key(&series.labels));
    MetricsAnswer { partial_reason: reasons.in_words(), memory: Reservation::together(memory), ..all }
}

fn union<T: Ord>(asked: Asked<Listing<T>>, limit: usize) -> Listing<T> {
    let mut all = Listing { items: Vec::new(), complete: asked.cut.is_none(), partial_reason: None };
    let mut reasons = Reasons::of_cut(asked.cut);
    for (tenant, listing) in asked.answers {
        all.items.extend(listing.items);
        all.complete &= listing.complete;
        reasons.add(&tenant, listing.partial_reason);
    }
    all.items.sort_unstable();
    all.items.dedup();
    all.complete &= all.items.len() <= limit;
    all.items.truncate(limit);
    Listing { partial_reason: reasons.in_words(), ..all }
}
