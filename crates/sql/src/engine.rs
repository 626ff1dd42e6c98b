//! Runs statements: each on threads of its own, bounded in number, memory and time.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::view::ViewTable;
use datafusion::common::DataFusionError;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerRule};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracehouse_memory::Pool;
use tracehouse_model::{Clock, TenantId};
use tracehouse_scan::{EndedEarly, Places, Reservation};
use tracehouse_store::Snapshots;

use crate::aggregates::aggregates;
use crate::answer::{Collected, Cut, collect, plain_schema};
use crate::error::SqlError;
use crate::exact::with_exact_comparisons;
use crate::functions::functions;
use crate::ids::with_ids;
use crate::keys::with_keys_as_columns;
use crate::limits::{
    Amounts, BoundedOperators, Bounds, bounded_functions, check_windows, with_checked_negation, with_one_nan,
};
use crate::plan::{Checkpoint, GuardBatches, ReadAttributesAsColumns, SpansTable, watched, with_checkpoints};
use crate::scan::{ScanReport, Scanned};
use crate::statement::{Parsed, parse};
use crate::tables::{TRACES_VIEW, Table};
use crate::threads::{Ending, Threads};
use crate::watch::Watch;

/// What statements may use.
#[derive(Debug, Clone)]
pub struct SqlLimits {
    /// Statements at once; further ones are asked to come back.
    pub concurrent_max: usize,
    /// Threads of each statement.
    pub threads: usize,
    /// Memory of all statements together: their share of what all queries may have. Nothing is spilled to a disk.
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

/// How long after its time nobody waits for a statement any more.
const STEP_TIME_MAX: Duration = Duration::from_secs(2);

/// So many times the statements that may run at once may have threads. Those beyond are statements that nobody waits
/// for any more, and that end as soon as they have computed what they are at.
const ENDING_SHARE: usize = 2;

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
    /// What the rows take of the memory for queries. Keep it for as long as the answer, or a text made of it, is there.
    pub memory: Reservation,
}

/// What metrics call a statement.
const KIND: &str = "sql";

/// Answers SQL over what a store holds.
pub struct SqlEngine {
    store: Arc<dyn Snapshots>,
    limits: SqlLimits,
    clock: Arc<dyn Clock>,
    /// One for each statement that somebody waits for.
    places: Arc<Places>,
    /// One for each statement that has threads.
    alive: Arc<Semaphore>,
    /// The threads of statements that have come to their ends.
    ending: Arc<Ending>,
    pool: Pool,
    environment: Arc<RuntimeEnv>,
}

impl SqlEngine {
    /// With memory of its own. Fails if what its statements share can't be set up.
    pub fn new(store: Arc<dyn Snapshots>, limits: SqlLimits, clock: Arc<dyn Clock>) -> std::io::Result<Arc<Self>> {
        let pool = Pool::new(limits.memory_bytes_max);
        Self::with_pool(store, limits, &pool, clock)
    }

    /// With a share of the memory for all queries. Fails if what its statements share can't be set up.
    pub fn with_pool(
        store: Arc<dyn Snapshots>,
        limits: SqlLimits,
        pool: &Pool,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Arc<Self>> {
        let environment = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()
            .map_err(std::io::Error::other)?;
        EndedEarly::describe();
        let places = Places::new(limits.concurrent_max);
        let alive = Arc::new(Semaphore::new(ENDING_SHARE * limits.concurrent_max));
        let pool = pool.share(limits.memory_bytes_max);
        Ok(Arc::new(Self { store, limits, clock, places, alive, ending: Arc::default(), pool, environment }))
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
        let (tenant, watch) = (tenant.clone(), session.watch.clone());
        let work = async move { Ok(plain_schema(session.plan(&query).await?.schema().as_arrow())) };
        Box::pin(async move { self.run(&tenant, watch, work).await })
    }

    async fn run_query(&self, session: Session, request: SqlRequest) -> Result<SqlAnswer, SqlError> {
        let most = self.limits.rows_max;
        if request.rows_max == 0 || request.rows_max > most {
            let asked = request.rows_max;
            return Err(SqlError::Invalid(format!("limit must be from 1 to {most}, it is {asked}")));
        }
        let begin = self.clock.monotonic();
        let tenant = session.tenant.clone();
        let work = self.run(&tenant, session.watch.clone(), async move {
            let (report, limits, watch) = (session.report.clone(), session.limits.clone(), session.watch.clone());
            let collected = answer(session, &request).await?;
            Ok((collected, report.so_far(watch.bounds()), limits))
        });
        let answer = work.await;
        let elapsed = self.clock.monotonic().saturating_sub(begin);
        metrics::histogram!("tracehouse_query_seconds", "kind" => KIND).record(elapsed.as_secs_f64());
        let (collected, scanned, limits) = answer?;
        match collected.cut {
            Some(Cut::Memory) => EndedEarly::Memory.count(KIND),
            Some(Cut::Time) => EndedEarly::Time.count(KIND),
            Some(Cut::Rows | Cut::Bytes) | None => {}
        }
        let partial_reason = partial_reason(&collected, &scanned, &limits);
        let complete = partial_reason.is_none();
        let Collected { schema, batches, rows, memory, .. } = collected;
        Ok(SqlAnswer { schema, batches, rows, complete, partial_reason, scanned, elapsed, memory })
    }

    fn session(&self, tenant: &TenantId) -> Session {
        Session {
            store: self.store.clone(),
            tenant: tenant.clone(),
            report: Arc::default(),
            environment: self.environment.clone(),
            limits: SqlLimits { memory_bytes_max: self.pool.bytes_max(), ..self.limits.clone() },
            watch: Arc::new(Watch::new(&self.pool, Instant::now() + self.limits.time_max, self.clock.clone())),
        }
    }

    /// Runs work on threads of its own: planning and functions compute for long at times, and may not hold up other
    /// statements. If nobody waits any more, or its time is up, it is dropped at its next step.
    async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        watch: Arc<Watch>,
        work: impl Future<Output = Result<T, SqlError>> + Send + 'static,
    ) -> Result<T, SqlError> {
        let mut waited_for = WaitedFor { to_its_end: false };
        let answer = self.run_while_waited_for(tenant, watch, work).await;
        waited_for.to_its_end = true;
        match &answer {
            Err(SqlError::Busy { .. }) => EndedEarly::Places.count(KIND),
            Err(SqlError::Timeout { .. }) => EndedEarly::Time.count(KIND),
            Err(SqlError::Memory { .. }) => EndedEarly::Memory.count(KIND),
            Err(SqlError::Invalid(_) | SqlError::Ended) | Ok(_) => {}
        }
        answer
    }

    async fn run_while_waited_for<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        watch: Arc<Watch>,
        work: impl Future<Output = Result<T, SqlError>> + Send + 'static,
    ) -> Result<T, SqlError> {
        let busy = || SqlError::Busy { running: self.limits.concurrent_max };
        let _place = self.places.take(tenant).ok_or_else(busy)?;
        let alive = self.alive.clone().try_acquire_owned().map_err(|_| busy())?;
        let threads = Threads::start(self.limits.threads, alive, watch, self.ending.clone())?;
        // A statement looks at the time itself, but only between its steps, some of which are long.
        let ended = tokio::time::timeout(self.limits.time_max + STEP_TIME_MAX, threads.spawn(work)?).await;
        let ended = ended.map_err(|_| SqlError::Timeout { seconds: self.limits.time_max.as_secs() })?;
        ended.unwrap_or_else(|error| {
            tracing::error!(%error, "a SQL statement ended unexpectedly");
            Err(SqlError::Ended)
        })
    }
}

/// Counts a statement as left if it is dropped before its end.
struct WaitedFor {
    to_its_end: bool,
}

impl Drop for WaitedFor {
    fn drop(&mut self) {
        if !self.to_its_end {
            EndedEarly::Left.count(KIND);
        }
    }
}

/// What one statement runs in: the tables of one tenant over one snapshot, and nothing else.
struct Session {
    store: Arc<dyn Snapshots>,
    tenant: TenantId,
    report: Arc<ScanReport>,
    environment: Arc<RuntimeEnv>,
    limits: SqlLimits,
    watch: Arc<Watch>,
}

impl Session {
    async fn context(&self, amounts: Amounts) -> Result<SessionContext, DataFusionError> {
        let mut config = SessionConfig::new()
            .with_target_partitions(self.limits.threads)
            .with_batch_size(amounts.rows_per_batch)
            .with_information_schema(true)
            .with_default_catalog_and_schema("tracehouse", "public");
        config.options_mut().sql_parser.collect_spans = true;
        // It takes each NaN for another group.
        config.options_mut().optimizer.enable_topk_aggregation = false;
        let environment =
            RuntimeEnvBuilder::from_runtime_env(&self.environment).with_memory_pool(self.watch.clone()).build_arc()?;
        let checkpoint = || Checkpoint::new(self.watch.clone());
        let mut physical_rules = PhysicalOptimizer::new().rules;
        physical_rules.push(Arc::new(GuardBatches::new(self.watch.clone())));
        let mut builder = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(environment)
            .with_analyzer_rules(with_checkpoints(Analyzer::new().rules, || checkpoint()))
            .with_optimizer_rules(with_checkpoints(watched(optimizer_rules(), &self.watch), || checkpoint()))
            .with_physical_optimizer_rules(with_checkpoints(physical_rules, || checkpoint()))
            // Functions with functions as arguments call those as often as lists have elements.
            .with_higher_order_functions(Vec::new());
        let functions_of_datafusion = builder.scalar_functions().take().unwrap_or_default();
        let bounds = Bounds { amounts, watch: self.watch.clone() };
        let bounded = bounded_functions(functions_of_datafusion, &bounds);
        let operators = Arc::new(BoundedOperators::new(&bounded, &bounds));
        builder.expr_planners().get_or_insert_default().insert(0, operators);
        let context = SessionContext::new_with_state(builder.with_scalar_functions(bounded).build());
        for function in functions() {
            context.register_udf(function.as_ref().clone());
        }
        for function in aggregates() {
            context.register_udaf(function);
        }
        // On a thread of the statement: telling copies may read files.
        let snapshot = self.store.snapshot(&self.tenant);
        for table in Table::ALL {
            let provider = SpansTable::new(table, snapshot.clone(), self.report.clone(), self.watch.clone());
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
        let Parsed { statement, amounts } = parse(query)?;
        let wrong = |error: DataFusionError| SqlError::of(&error, &self.limits);
        let context = self.context(amounts).await.map_err(wrong)?;
        let plan = context.state().statement_to_plan(statement).await.map_err(wrong)?;
        let plan = with_ids(plan, &self.watch)
            .and_then(with_exact_comparisons)
            .and_then(with_keys_as_columns)
            .and_then(with_checked_negation)
            .and_then(with_one_nan)
            .map_err(wrong)?;
        // What the parser let through may still write deep inside, as SELECT INTO does.
        let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reading.verify_plan(&plan).map_err(wrong)?;
        Checkpoint::new(self.watch.clone()).pass(&plan).map_err(wrong)?;
        check_windows(&plan).map_err(wrong)?;
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

/// The rules that move calls of `attr` towards the scan and into it, and what they name such a call.
const MOVING_RULES: [&str; 3] =
    ["extract_leaf_expressions", "push_down_leaf_projections", "read_attributes_as_columns"];
const MOVED: &str = "__datafusion_extracted";

/// How a plan is carried out. Those rules lose calls on the way out of conditions of joins; without them the calls stay where they are, which
/// takes longer.
async fn physical_plan(state: SessionState, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    // An explanation would hold the error, and be none.
    let tried = match plan {
        LogicalPlan::Explain(explain) => &explain.plan,
        other => other,
    };
    match state.create_physical_plan(tried).await {
        Ok(_) if !std::ptr::eq(tried, plan) => state.create_physical_plan(plan).await,
        Err(error) if error.to_string().contains(MOVED) => {
            let rules = state
                .optimizers()
                .iter()
                .filter(|rule| !MOVING_RULES.iter().any(|moving| rule.name().contains(moving)));
            let rules = rules.cloned().collect();
            let staying = SessionStateBuilder::new_from_existing(state).with_optimizer_rules(rules).build();
            let planned = staying.create_physical_plan(plan).await;
            // Of what can't be planned the first tells more.
            let ended = |error: &DataFusionError| {
                matches!(error.find_root(), DataFusionError::ResourcesExhausted(_) | DataFusionError::External(_))
            };
            planned.map_err(|second| if ended(&second) { second } else { error })
        }
        outcome => outcome,
    }
}

async fn answer(session: Session, request: &SqlRequest) -> Result<Collected, SqlError> {
    let limits = &session.limits;
    let wrong = |error: DataFusionError| SqlError::of(&error, limits);
    let timeout = || SqlError::Timeout { seconds: limits.time_max.as_secs() };
    let watch = session.watch.clone();
    let stream = async {
        let (context, mut plan) = session.context_and_plan(&request.query).await?;
        // One row more than is wanted tells whether there are more. Explanations must stay at the top of their plan.
        if !matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) | LogicalPlan::DescribeTable(_)) {
            let limited = LogicalPlanBuilder::from(plan).limit(0, Some(request.rows_max + 1));
            plan = limited.and_then(LogicalPlanBuilder::build).map_err(wrong)?;
        }
        let physical = physical_plan(context.state(), &plan).await.map_err(wrong)?;
        execute_stream(physical, context.task_ctx()).map_err(wrong)
    };
    let stream = tokio::time::timeout(watch.time_left(), stream).await.map_err(|_| timeout())??;
    let collected = collect(stream, request.rows_max, limits.answer_bytes_max, &watch).await.map_err(wrong)?;
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
        Some(Cut::Memory) => reasons.push(format!(
            "{rows} of an unknown number of rows: further ones have no room in the {} bytes for SQL; ask for fewer rows or \
             columns",
            limits.memory_bytes_max
        )),
        Some(Cut::Time) => reasons.push(format!(
            "{rows} of an unknown number of rows: {} s had passed; ask for a shorter range of start_time",
            limits.time_max.as_secs()
        )),
        None => {}
    }
    reasons.extend(scanned.unreadable.iter().cloned());
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
