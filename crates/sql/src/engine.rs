//! Runs statements: on threads of their own, bounded in number, memory and time.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::view::ViewTable;
use datafusion::common::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::prelude::SessionConfig;
use futures::future::BoxFuture;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracehouse_model::{Clock, TenantId};
use tracehouse_store::Store;

use crate::answer::{Collected, Cut, collect, plain_schema};
use crate::error::SqlError;
use crate::functions::functions;
use crate::plan::{JoinsGiveWay, ReadAttributesAsColumns, SpansTable};
use crate::scan::{ScanReport, Scanned};
use crate::statement::parse;
use crate::tables::{TRACES_VIEW, Table};

/// What statements may use.
#[derive(Debug, Clone)]
pub struct SqlLimits {
    /// Statements at once; further ones are asked to come back.
    pub concurrent_max: usize,
    /// Threads of all statements together.
    pub threads: usize,
    /// Memory of all statements together, for what they sort, group and join. Nothing is spilled to a disk.
    pub memory_bytes_max: usize,
    /// A statement that takes longer is ended.
    pub time_max: Duration,
    /// Most rows that a statement may ask for.
    pub rows_max: usize,
    /// Most bytes of one answer.
    pub answer_bytes_max: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            concurrent_max: 8,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            memory_bytes_max: 512 << 20,
            time_max: Duration::from_secs(30),
            rows_max: 1_000_000,
            answer_bytes_max: 256 << 20,
        }
    }
}

/// Planning recurses as deep as a statement is long; the pages of a stack cost nothing until they are touched.
const STACK_BYTES: usize = 64 << 20;

/// How long after its time nobody waits for a statement any more.
const STEP_TIME_MAX: Duration = Duration::from_secs(2);

/// A statement and how much of its answer is wanted.
#[derive(Debug, Clone)]
pub struct SqlRequest {
    pub query: String,
    /// Most rows of the answer.
    pub rows_max: usize,
}

/// Rows in the types of Arrow that every client knows: texts are `Utf8`, times `Timestamp(ns, UTC)`.
#[derive(Debug, Clone)]
pub struct SqlAnswer {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub rows: usize,
    /// False if there are more rows, or some spans could not be read.
    pub complete: bool,
    pub partial_reason: Option<String>,
    pub scanned: Scanned,
    pub elapsed: Duration,
}

/// Answers SQL over what a store holds.
pub struct SqlEngine {
    store: Arc<Store>,
    limits: SqlLimits,
    clock: Arc<dyn Clock>,
    slots: Arc<Semaphore>,
    environment: Arc<RuntimeEnv>,
    /// Taken only when the engine is dropped.
    threads: Option<Runtime>,
}

impl SqlEngine {
    /// Fails if its threads can't be started.
    pub fn new(store: Arc<Store>, limits: SqlLimits, clock: Arc<dyn Clock>) -> std::io::Result<Arc<Self>> {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits.threads)
            .max_blocking_threads(2 * limits.threads)
            .thread_name("sql")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build()?;
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes_max)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()
            .map_err(std::io::Error::other)?;
        let slots = Arc::new(Semaphore::new(limits.concurrent_max));
        Ok(Arc::new(Self { store, limits, clock, slots, environment, threads: Some(threads) }))
    }

    pub fn limits(&self) -> &SqlLimits {
        &self.limits
    }

    /// Runs a statement over a tenant's spans as they are now.
    ///
    /// Boxed here, as is [`SqlEngine::schema`], so that callers need not compile all of DataFusion's types anew.
    pub fn query(&self, tenant: &TenantId, request: SqlRequest) -> BoxFuture<'_, Result<SqlAnswer, SqlError>> {
        let session = self.session(tenant);
        Box::pin(self.run_query(session, request))
    }

    /// The columns that a statement would answer with. Nothing is read.
    pub fn schema(&self, tenant: &TenantId, query: &str) -> BoxFuture<'_, Result<SchemaRef, SqlError>> {
        let session = self.session(tenant);
        let query = query.to_owned();
        Box::pin(self.run(async move { Ok(plain_schema(session.plan(&query).await?.schema().as_arrow())) }))
    }

    async fn run_query(&self, session: Session, request: SqlRequest) -> Result<SqlAnswer, SqlError> {
        let most = self.limits.rows_max;
        if request.rows_max == 0 || request.rows_max > most {
            let asked = request.rows_max;
            return Err(SqlError::Invalid(format!("limit must be from 1 to {most}, it is {asked}")));
        }
        let begin = self.clock.monotonic();
        let limits = self.limits.clone();
        let work = self.run(async move {
            let report = session.report.clone();
            let collected = answer(session, &request, &limits).await?;
            Ok((collected, report.so_far(), limits))
        });
        // A statement looks at the time itself, but only between its steps, some of which are long.
        let answer = tokio::time::timeout(self.limits.time_max + STEP_TIME_MAX, work).await;
        let answer = answer.unwrap_or(Err(SqlError::Timeout { seconds: self.limits.time_max.as_secs() }));
        let elapsed = self.clock.monotonic().saturating_sub(begin);
        metrics::histogram!("tracehouse_query_seconds", "kind" => "sql").record(elapsed.as_secs_f64());
        let (collected, scanned, limits) = answer?;
        let partial_reason = partial_reason(&collected, &scanned, &limits);
        let Collected { schema, batches, rows, .. } = collected;
        Ok(SqlAnswer { schema, batches, rows, complete: partial_reason.is_none(), partial_reason, scanned, elapsed })
    }

    fn session(&self, tenant: &TenantId) -> Session {
        Session {
            snapshot: self.store.snapshot(tenant),
            report: Arc::default(),
            environment: self.environment.clone(),
            partitions: self.limits.threads,
            memory_bytes_max: self.limits.memory_bytes_max,
        }
    }

    /// Runs work on the threads for SQL. If nobody waits any more it is dropped at its next step.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SqlError>> + Send + 'static,
    ) -> Result<T, SqlError> {
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| SqlError::Busy { running: self.limits.concurrent_max })?;
        let threads = self.threads.as_ref().ok_or(SqlError::Ended)?;
        let mut task = AbortOnDrop(threads.spawn(async move {
            let _slot = slot;
            work.await
        }));
        (&mut task.0).await.unwrap_or_else(|error| {
            tracing::error!(%error, "a SQL statement ended unexpectedly");
            Err(SqlError::Ended)
        })
    }
}

impl Drop for SqlEngine {
    /// A runtime must not wait for its threads inside another.
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What one statement runs in: the tables of one tenant over one snapshot, and nothing else.
struct Session {
    snapshot: tracehouse_store::Snapshot,
    report: Arc<ScanReport>,
    environment: Arc<RuntimeEnv>,
    partitions: usize,
    memory_bytes_max: usize,
}

impl Session {
    async fn context(&self) -> Result<SessionContext, DataFusionError> {
        let mut config = SessionConfig::new()
            .with_target_partitions(self.partitions)
            .with_information_schema(true)
            .with_default_catalog_and_schema("tracehouse", "public");
        config.options_mut().sql_parser.collect_spans = true;
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(self.environment.clone())
            .with_optimizer_rules(optimizer_rules())
            .with_physical_optimizer_rule(Arc::new(JoinsGiveWay))
            .build();
        let context = SessionContext::new_with_state(state);
        for function in functions() {
            context.register_udf(function.as_ref().clone());
        }
        for table in Table::ALL {
            let provider = SpansTable::new(table, self.snapshot.clone(), self.report.clone());
            context.register_table(table.name(), Arc::new(provider))?;
        }
        let traces = context.state().create_logical_plan(TRACES_VIEW).await?;
        context.register_table("traces", Arc::new(ViewTable::new(traces, Some(TRACES_VIEW.to_owned()))))?;
        Ok(context)
    }

    async fn plan(&self, query: &str) -> Result<LogicalPlan, SqlError> {
        Ok(self.context_and_plan(query).await?.1)
    }

    async fn context_and_plan(&self, query: &str) -> Result<(SessionContext, LogicalPlan), SqlError> {
        let statement = parse(query)?;
        let wrong = |error: DataFusionError| SqlError::of(&error, self.memory_bytes_max);
        let context = self.context().await.map_err(wrong)?;
        let plan = context.state().statement_to_plan(statement).await.map_err(wrong)?;
        // What the parser let through may still write deep inside, as SELECT INTO does.
        let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reading.verify_plan(&plan).map_err(wrong)?;
        Ok((context, plan))
    }
}

/// DataFusion's rules, with ours where calls of `attr` have reached the scan and unneeded columns have not yet gone.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let at = rules.iter().position(|rule| rule.name() == "optimize_projections").unwrap_or(rules.len());
    rules.insert(at, Arc::new(ReadAttributesAsColumns));
    rules
}

async fn answer(session: Session, request: &SqlRequest, limits: &SqlLimits) -> Result<Collected, SqlError> {
    let wrong = |error: DataFusionError| SqlError::of(&error, limits.memory_bytes_max);
    let timeout = || SqlError::Timeout { seconds: limits.time_max.as_secs() };
    let begin = tokio::time::Instant::now();
    let stream = async {
        let (context, mut plan) = session.context_and_plan(&request.query).await?;
        // One row more than is wanted tells whether there are more. Explanations must stay at the top of their plan.
        if !matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_)) {
            let limited = LogicalPlanBuilder::from(plan).limit(0, Some(request.rows_max + 1));
            plan = limited.and_then(LogicalPlanBuilder::build).map_err(wrong)?;
        }
        let frame = context.execute_logical_plan(plan).await.map_err(wrong)?;
        frame.execute_stream().await.map_err(wrong)
    };
    let stream = tokio::time::timeout(limits.time_max, stream).await.map_err(|_| timeout())??;
    let time_left = limits.time_max.saturating_sub(begin.elapsed());
    let collected = collect(stream, request.rows_max, limits.answer_bytes_max, time_left).await.map_err(wrong)?;
    if matches!(collected.cut, Some(Cut::Time)) && collected.rows == 0 {
        return Err(timeout());
    }
    Ok(collected)
}

fn partial_reason(collected: &Collected, scanned: &Scanned, limits: &SqlLimits) -> Option<String> {
    let rows = collected.rows;
    let mut reasons = Vec::new();
    match collected.cut {
        Some(Cut::Rows) => reasons.push(format!(
            "{rows} of at least {} rows: raise the limit (up to {}) or ask for less",
            rows + 1,
            limits.rows_max
        )),
        Some(Cut::Bytes) => reasons.push(format!(
            "{rows} of an unknown number of rows: an answer may have {} bytes; ask for fewer rows or columns",
            limits.answer_bytes_max
        )),
        Some(Cut::Time) => reasons.push(format!(
            "{rows} of an unknown number of rows: {} s had passed; ask for a shorter range of start_time",
            limits.time_max.as_secs()
        )),
        None => {}
    }
    if let Some(first) = scanned.failed.first() {
        let (failed, read) = (scanned.failed.len(), scanned.files);
        reasons.push(format!(
            "{read} of {} files were read; {failed} could not be, the first of them {first}; see the server's log",
            read + failed
        ));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
