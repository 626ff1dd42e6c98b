//! The filters of a scan: what they say about rows, and which files and row groups they rule out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampNanosecondArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column as ColumnName, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Operator, lit};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column as PhysicalColumn, Literal};
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee, collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use tracehouse_model::TraceId;

use crate::functions::AttributeFunction;
use crate::tables::Column;

/// More traces than this are not looked up one by one.
const TRACES_MAX: usize = 1_000;

/// All conditions of a scan, every one of which must hold.
#[derive(Debug)]
pub(crate) struct Predicate {
    /// Cheap ones first.
    pub(crate) conditions: Vec<Condition>,
    /// The only traces that can satisfy it, if it says so.
    pub(crate) traces: Option<Vec<TraceId>>,
    pruning: Option<PruningPredicate>,
}

/// One condition, over the columns that it names.
#[derive(Debug)]
pub(crate) struct Condition {
    expr: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    /// In the order of the schema.
    pub(crate) columns: Vec<Column>,
    /// It compares its only column with a literal, so that it holds between two values if it holds for both.
    is_interval: bool,
    /// The one text that its only column must have.
    only_text: Option<String>,
}

impl Predicate {
    /// From filters over a table's columns. Calls of `attr` become columns of their own.
    pub(crate) fn new(filters: &[Expr], columns: &[Column], session: &dyn Session) -> Result<Self> {
        let mut columns = columns.to_vec();
        let filters =
            filters.iter().map(|filter| replace_attributes(filter, &mut columns)).collect::<Result<Vec<_>>>()?;
        let schema: SchemaRef = Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>()));
        let named = DFSchema::try_from(schema.clone())?;
        let physical = |expr: &Expr| create_physical(expr, &named, session);
        let mut conditions = Vec::new();
        for filter in filters.iter().cloned().flat_map(split_conjunction_owned) {
            conditions.push(Condition::new(physical(&filter)?, &schema, &columns)?);
        }
        conditions.sort_by_key(Condition::cost);
        let whole = physical(&conjunction(filters).unwrap_or_else(|| lit(true)))?;
        let traces = traces_of(&whole);
        let pruning = PruningPredicateBuilder::new().with_file_schema(schema).try_build(whole).ok();
        Ok(Self { conditions, traces, pruning })
    }

    /// Whether rows with values in these ranges may satisfy it.
    pub(crate) fn may_hold(&self, ranges: &Ranges) -> bool {
        let Some(pruning) = &self.pruning else { return true };
        // A predicate that can't be decided from ranges rules nothing out.
        pruning.prune(ranges).ok().and_then(|kept| kept.first().copied()).unwrap_or(true)
    }
}

fn create_physical(expr: &Expr, schema: &DFSchema, session: &dyn Session) -> Result<Arc<dyn PhysicalExpr>> {
    create_physical_expr(expr, schema, session.execution_props(), &Default::default())
}

/// An expression over a table in which calls of `attr` and its like are columns; new ones are added to `columns`.
fn replace_attributes(expr: &Expr, columns: &mut Vec<Column>) -> Result<Expr> {
    let replaced = expr.clone().transform_up(|expr| match AttributeFunction::column_of(&expr) {
        Some(attribute) => {
            let column = Column::Attribute(attribute);
            let name = column.name();
            if !columns.contains(&column) {
                columns.push(column);
            }
            Ok(Transformed::yes(Expr::Column(ColumnName::new_unqualified(name))))
        }
        None => match expr {
            Expr::Column(column) => Ok(Transformed::yes(Expr::Column(ColumnName::new_unqualified(column.name)))),
            other => Ok(Transformed::no(other)),
        },
    });
    replaced.map(|replaced| replaced.data)
}

fn traces_of(predicate: &Arc<dyn PhysicalExpr>) -> Option<Vec<TraceId>> {
    let guarantees = LiteralGuarantee::analyze(predicate);
    let wanted = Column::TraceId.name();
    let of_trace = guarantees.iter().find(|known| known.column.name() == wanted && known.guarantee == Guarantee::In)?;
    if of_trace.literals.len() > TRACES_MAX {
        return None;
    }
    // What is not an id in the form of the column is equal to no id.
    let id = |literal: &ScalarValue| {
        let text = literal.try_as_str().flatten()?;
        text.parse::<TraceId>().ok().filter(|id| id.to_string() == text)
    };
    Some(of_trace.literals.iter().filter_map(id).collect())
}

/// Whether an expression compares a column, or one of another type of time or number, with a literal.
fn is_interval(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let Some(comparison) = expr.downcast_ref::<BinaryExpr>() else { return false };
    let is_column = |side: &Arc<dyn PhysicalExpr>| match side.downcast_ref::<CastExpr>() {
        Some(cast) => cast.expr().is::<PhysicalColumn>(),
        None => side.is::<PhysicalColumn>(),
    };
    let (left, right) = (comparison.left(), comparison.right());
    let sides = (is_column(left) && right.is::<Literal>()) || (left.is::<Literal>() && is_column(right));
    sides && matches!(comparison.op(), Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// The text with which a column is compared for equality.
fn only_text(expr: &Arc<dyn PhysicalExpr>) -> Option<String> {
    let comparison = expr.downcast_ref::<BinaryExpr>().filter(|comparison| *comparison.op() == Operator::Eq)?;
    let (left, right) = (comparison.left(), comparison.right());
    let literal =
        if left.is::<PhysicalColumn>() { right } else { Some(left).filter(|_| right.is::<PhysicalColumn>())? };
    literal.downcast_ref::<Literal>()?.value().try_as_str()?.map(str::to_owned)
}

impl Condition {
    fn new(expr: Arc<dyn PhysicalExpr>, schema: &Schema, columns: &[Column]) -> Result<Self> {
        let mut used: Vec<usize> = collect_columns(&expr).iter().map(|column| column.index()).collect();
        used.sort_unstable();
        used.dedup();
        let projected = Arc::new(schema.project(&used)?);
        let expr = reassign_expr_columns(expr, &projected)?;
        let (is_interval, only_text) = (is_interval(&expr), only_text(&expr));
        let columns = used.into_iter().map(|at| columns[at].clone()).collect();
        Ok(Self { expr, schema: projected, columns, is_interval, only_text })
    }

    /// The one text that its only column must have, if it says that and nothing else.
    pub(crate) fn only_text(&self) -> Option<&str> {
        self.only_text.as_deref()
    }

    /// For which rows it holds: not where it is false or null. The columns are those of [`Condition::columns`].
    pub(crate) fn holds(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<BooleanBuffer> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.nullable_schema(), columns, &options)?;
        let value = self.expr.evaluate(&batch)?.into_array(rows)?;
        let truth = value.as_boolean();
        Ok(match truth.nulls() {
            Some(nulls) => truth.values() & nulls.inner(),
            None => truth.values().clone(),
        })
    }

    /// Whether it is known to hold for all rows with values in these ranges.
    pub(crate) fn holds_throughout(&self, ranges: &Ranges) -> bool {
        let ([column], true) = (self.columns.as_slice(), self.is_interval) else { return false };
        let ends = ranges.ends(column).map(|ends| self.holds(vec![ends], 2));
        ends.is_some_and(|holds| holds.is_ok_and(|holds| holds.count_set_bits() == 2))
    }

    /// Whether it holds where all its columns are null, as the columns of a key are where it does not occur.
    pub(crate) fn holds_for_null(&self) -> Result<bool> {
        let nulls = self.columns.iter().map(|column| arrow::array::new_null_array(&column.data_type(), 1)).collect();
        Ok(self.holds(nulls, 1)?.value(0))
    }

    fn nullable_schema(&self) -> SchemaRef {
        let nullable = |field: &Arc<arrow::datatypes::Field>| field.as_ref().clone().with_nullable(true);
        Arc::new(Schema::new(self.schema.fields().iter().map(nullable).collect::<Vec<_>>()))
    }

    fn cost(&self) -> u8 {
        let cost = |column: &Column| match column {
            Column::ServiceName | Column::Kind | Column::Status => 0,
            Column::Name | Column::SpanName | Column::StartTime | Column::DurationNanos => 1,
            Column::Attribute(_) => 2,
            Column::Attributes | Column::ResourceAttributes => 9,
            _ => 3,
        };
        self.columns.iter().map(cost).max().unwrap_or(0)
    }
}

/// What is known of the values of one file or row group: first and last.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    pub(crate) start_time: Option<(i64, i64)>,
    pub(crate) duration_nanos: Option<(i64, i64)>,
}

impl Ranges {
    /// The first and the last value of a column that is never null.
    fn ends(&self, column: &Column) -> Option<ArrayRef> {
        match column {
            Column::StartTime => {
                let (first, last) = self.start_time?;
                Some(Arc::new(TimestampNanosecondArray::from(vec![first, last]).with_timezone("UTC")))
            }
            Column::DurationNanos => {
                let (first, last) = self.duration_nanos?;
                Some(Arc::new(Int64Array::from(vec![first, last])))
            }
            _ => None,
        }
    }

    fn of(&self, column: &ColumnName, pick: impl Fn((i64, i64)) -> i64) -> Option<ArrayRef> {
        if column.name == Column::StartTime.name() {
            let value = self.start_time.map(pick)?;
            return Some(Arc::new(TimestampNanosecondArray::from(vec![value]).with_timezone("UTC")));
        }
        if column.name == Column::DurationNanos.name() {
            return Some(Arc::new(Int64Array::from(vec![self.duration_nanos.map(pick)?])));
        }
        None
    }
}

impl PruningStatistics for Ranges {
    fn min_values(&self, column: &ColumnName) -> Option<ArrayRef> {
        self.of(column, |(first, _)| first)
    }

    fn max_values(&self, column: &ColumnName) -> Option<ArrayRef> {
        self.of(column, |(_, last)| last)
    }

    fn num_containers(&self) -> usize {
        1
    }

    fn null_counts(&self, _: &ColumnName) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(
        &self,
        _: &ColumnName,
        _: &std::collections::HashSet<ScalarValue>,
    ) -> Option<arrow::array::BooleanArray> {
        None
    }
}
