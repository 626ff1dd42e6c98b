//! The seam between HTTP and the engines behind it, so that tests can answer in their place.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tracehouse_model::{Caller, Span, SpanId, TenantId, TraceId, error_chain};
use tracehouse_query::{
    Among, Arrivals, AttributeKey, AttributeValueSeen, Explanation, Listing, MetricsAnswer, MetricsRequest, Operation,
    QueryEngine, QueryError, Scope, SearchAnswer, SearchRequest, Trace, TraceCount, TraceDetail,
};
use tracehouse_sql::{SqlAnswer, SqlEngine, SqlError, SqlRequest};
use tracehouse_store::{CompactReport, FlushReport, Store};
use tracehouse_traceql::FieldExpr;

/// Everything that this crate asks of the query engine and the store. What can be asked of several tenants at once is answered over
/// all of them, each result with its tenant.
#[async_trait]
pub trait Answers: Send + Sync + 'static {
    async fn trace(
        &self,
        caller: &Caller,
        id: TraceId,
        spans_max: usize,
        detail: TraceDetail,
    ) -> Result<Option<Trace>, QueryError>;
    async fn span(&self, caller: &Caller, id: TraceId, span: SpanId) -> Result<Option<Span>, QueryError>;
    async fn search(&self, caller: &Caller, request: SearchRequest) -> Result<SearchAnswer, QueryError>;
    /// How many traces a search would find without a limit.
    async fn count(&self, caller: &Caller, request: SearchRequest) -> Result<TraceCount, QueryError>;
    /// Traces of which spans came after a position; without one, none, but from where to go on.
    async fn arrivals(
        &self,
        caller: &Caller,
        request: SearchRequest,
        after: Option<u64>,
    ) -> Result<Arrivals, QueryError>;
    async fn metrics(&self, caller: &Caller, request: MetricsRequest) -> Result<MetricsAnswer, QueryError>;
    /// How a TraceQL query over a range of times would run.
    async fn explain(
        &self,
        caller: &Caller,
        traceql: &str,
        range: std::ops::Range<i64>,
    ) -> Result<Explanation, QueryError>;
    async fn services(&self, caller: &Caller, among: &Among) -> Result<Listing<String>, QueryError>;
    async fn operations(
        &self,
        caller: &Caller,
        service: Option<&str>,
        among: &Among,
    ) -> Result<Listing<String>, QueryError>;
    /// Names of spans, once for each kind that spans of the name have.
    async fn operations_by_kind(
        &self,
        caller: &Caller,
        service: Option<&str>,
        among: &Among,
    ) -> Result<Listing<Operation>, QueryError>;
    async fn attribute_keys(
        &self,
        caller: &Caller,
        scope: Option<Scope>,
        among: &Among,
    ) -> Result<Listing<AttributeKey>, QueryError>;
    async fn attribute_values(
        &self,
        caller: &Caller,
        scope: Scope,
        key: &str,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError>;
    /// Values of a field that every span has by itself, or of an attribute wherever it stands.
    async fn field_values(
        &self,
        caller: &Caller,
        field: &FieldExpr,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError>;

    /// Runs a SQL statement of a caller with one tenant.
    async fn sql(&self, caller: &Caller, request: SqlRequest) -> Result<SqlAnswer, SqlError>;
    /// The columns that a SQL statement would answer with.
    async fn sql_schema(&self, caller: &Caller, query: &str) -> Result<SchemaRef, SqlError>;

    /// Writes what is in memory to files.
    async fn flush(&self) -> Result<FlushReport, AdminError>;
    /// Merges files until nothing is left to merge.
    async fn compact(&self) -> Result<CompactReport, AdminError>;
    /// The operator confirms that the machine's clock is right.
    async fn trust_clock(&self) -> Result<(), AdminError>;
    /// The saved queries of a tenant, as they were given to be saved.
    async fn saved_queries(&self, tenant: &TenantId) -> Result<Option<String>, AdminError>;
    async fn save_queries(&self, tenant: &TenantId, queries: String) -> Result<(), AdminError>;
    fn stored(&self, tenant: &TenantId) -> Stored;
    /// What is wrong with the store and does not go away by itself, and what to do about it. `tenant`: without what is another's
    /// business.
    fn troubles(&self, tenant: Option<&TenantId>) -> Vec<String>;
    /// Whether spans can be taken in and queries answered; else why not.
    fn ready(&self) -> Result<(), String>;
}

/// How much is kept of one tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored {
    pub spans_hot: u64,
    pub spans_stored: u64,
    pub files: u64,
    pub bytes_stored: u64,
}

/// A task of an administrator failed: with all that caused it, as an administrator may know.
#[derive(Debug)]
pub struct AdminError(pub String);

fn one_tenant(caller: &Caller) -> Result<&TenantId, SqlError> {
    caller.tenant().map_err(|error| SqlError::Invalid(error.to_string()))
}

/// The engines of a running server.
pub(crate) struct Engines {
    pub(crate) engine: Arc<QueryEngine>,
    pub(crate) sql: Arc<SqlEngine>,
    pub(crate) store: Arc<Store>,
}

#[async_trait]
impl Answers for Engines {
    async fn trace(
        &self,
        caller: &Caller,
        id: TraceId,
        spans_max: usize,
        detail: TraceDetail,
    ) -> Result<Option<Trace>, QueryError> {
        self.engine.of(caller.tenants()).trace(id, spans_max, detail).await
    }

    async fn span(&self, caller: &Caller, id: TraceId, span: SpanId) -> Result<Option<Span>, QueryError> {
        self.engine.of(caller.tenants()).span(id, span).await
    }

    async fn search(&self, caller: &Caller, request: SearchRequest) -> Result<SearchAnswer, QueryError> {
        self.engine.of(caller.tenants()).search(request).await
    }

    async fn count(&self, caller: &Caller, request: SearchRequest) -> Result<TraceCount, QueryError> {
        self.engine.of(caller.tenants()).count(request).await
    }

    async fn arrivals(
        &self,
        caller: &Caller,
        request: SearchRequest,
        after: Option<u64>,
    ) -> Result<Arrivals, QueryError> {
        self.engine.of(caller.tenants()).arrivals(request, after).await
    }

    async fn metrics(&self, caller: &Caller, request: MetricsRequest) -> Result<MetricsAnswer, QueryError> {
        self.engine.of(caller.tenants()).metrics(request).await
    }

    async fn explain(
        &self,
        caller: &Caller,
        traceql: &str,
        range: std::ops::Range<i64>,
    ) -> Result<Explanation, QueryError> {
        self.engine.of(caller.tenants()).explain(traceql, range).await
    }

    async fn services(&self, caller: &Caller, among: &Among) -> Result<Listing<String>, QueryError> {
        self.engine.of(caller.tenants()).services(among).await
    }

    async fn operations(
        &self,
        caller: &Caller,
        service: Option<&str>,
        among: &Among,
    ) -> Result<Listing<String>, QueryError> {
        self.engine.of(caller.tenants()).operations(service, among).await
    }

    async fn operations_by_kind(
        &self,
        caller: &Caller,
        service: Option<&str>,
        among: &Among,
    ) -> Result<Listing<Operation>, QueryError> {
        self.engine.of(caller.tenants()).operations_by_kind(service, among).await
    }

    async fn attribute_keys(
        &self,
        caller: &Caller,
        scope: Option<Scope>,
        among: &Among,
    ) -> Result<Listing<AttributeKey>, QueryError> {
        self.engine.of(caller.tenants()).attribute_keys(scope, among).await
    }

    async fn attribute_values(
        &self,
        caller: &Caller,
        scope: Scope,
        key: &str,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError> {
        self.engine.of(caller.tenants()).attribute_values(scope, key, limit, among).await
    }

    async fn field_values(
        &self,
        caller: &Caller,
        field: &FieldExpr,
        limit: usize,
        among: &Among,
    ) -> Result<Listing<AttributeValueSeen>, QueryError> {
        self.engine.of(caller.tenants()).field_values(field, limit, among).await
    }

    async fn sql(&self, caller: &Caller, request: SqlRequest) -> Result<SqlAnswer, SqlError> {
        self.sql.query(one_tenant(caller)?, request).await
    }

    async fn sql_schema(&self, caller: &Caller, query: &str) -> Result<SchemaRef, SqlError> {
        self.sql.schema(one_tenant(caller)?, query).await
    }

    async fn flush(&self) -> Result<FlushReport, AdminError> {
        self.store.flush().await.map_err(|error| AdminError(error_chain(&error)))
    }

    async fn compact(&self) -> Result<CompactReport, AdminError> {
        self.store.compact().await.map_err(|error| AdminError(error_chain(&error)))
    }

    async fn trust_clock(&self) -> Result<(), AdminError> {
        self.store.trust_clock().await.map_err(|error| AdminError(error_chain(&error)))
    }

    fn troubles(&self, tenant: Option<&TenantId>) -> Vec<String> {
        self.store.troubles_shown_to(tenant)
    }

    async fn saved_queries(&self, tenant: &TenantId) -> Result<Option<String>, AdminError> {
        self.store.saved_queries(tenant).await.map_err(|error| AdminError(error_chain(&error)))
    }

    async fn save_queries(&self, tenant: &TenantId, queries: String) -> Result<(), AdminError> {
        self.store.save_queries(tenant, queries).await.map_err(|error| AdminError(error_chain(&error)))
    }

    fn stored(&self, tenant: &TenantId) -> Stored {
        let status = self.store.status(tenant);
        Stored {
            spans_hot: status.spans_hot,
            spans_stored: status.spans_stored,
            files: status.files,
            bytes_stored: status.bytes_stored,
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.store.ready()
    }
}
