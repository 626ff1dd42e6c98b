//! The tree of a whole query: spansets, pipelines, scalar filters, metrics.

use crate::field::{ArithmeticOp, ComparisonOp, FieldExpr};
use crate::literal::Static;
use crate::source::SourceRange;

/// A parsed query.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub expr: QueryExpr,
    /// `with(key = value, …)`, in the order written. Unknown keys are kept; the engine ignores what it does not know.
    pub hints: Vec<Hint>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum QueryExpr {
    /// Selects spans: answers a search.
    Spans(Pipeline),
    /// Computes time series from spans.
    Metrics(MetricsExpr),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Hint {
    pub key: String,
    pub value: Static,
    pub at: SourceRange,
}

/// Stages joined by `|`; at least one. Each takes the spansets of one trace and gives spansets.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    pub stages: Vec<Stage>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// `{ … }` and its combinations.
    Spanset(SpansetExpr),
    /// `count() > 2`: keeps the spansets for which it holds.
    ScalarFilter { op: ComparisonOp, left: ScalarExpr, right: ScalarExpr, at: SourceRange },
    /// `by(field)`: splits each spanset by a value.
    By { field: FieldExpr, at: SourceRange },
    /// `coalesce()`: merges the spansets of a trace into one.
    Coalesce { at: SourceRange },
    /// `select(field, …)`: asks for more fields in the answer; at least one, attributes or intrinsics only.
    Select { fields: Vec<FieldExpr>, at: SourceRange },
}

#[derive(Debug, Clone, PartialEq)]
pub enum SpansetExpr {
    /// `{ condition }`; no condition selects every span.
    Filter {
        condition: Option<FieldExpr>,
        at: SourceRange,
    },
    Combine {
        op: SpansetOp,
        left: Box<SpansetExpr>,
        right: Box<SpansetExpr>,
        at: SourceRange,
    },
    /// `( … | … )`; never just one `Stage::Spanset`, which needs no pipeline around it.
    Pipeline {
        pipeline: Pipeline,
        at: SourceRange,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SpansetOp {
    /// `&&`: both sides found spans in the trace; gives the spans of both.
    And,
    /// `||`: either side found spans; gives the spans of both.
    Or,
    Structural {
        relation: Relation,
        mode: StructuralMode,
    },
}

/// What a span of the right side is to a span of the left side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// `>`
    Child,
    /// `>>`
    Descendant,
    /// `<`
    Parent,
    /// `<<`
    Ancestor,
    /// `~`
    Sibling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StructuralMode {
    /// `>`: gives the spans of the right side that stand in the relation to one of the left side.
    Related,
    /// `!>`: gives the spans of the right side that stand in the relation to none of the left side.
    NotRelated,
    /// `&>`: as `>`, but gives the matching spans of both sides.
    Union,
}

/// A number computed from one spanset.
#[derive(Debug, Clone, PartialEq)]
pub enum ScalarExpr {
    /// An integer, float or duration.
    Literal {
        value: Static,
        at: SourceRange,
    },
    Aggregate {
        function: AggregateFunction,
        at: SourceRange,
    },
    Arithmetic {
        op: ArithmeticOp,
        left: Box<ScalarExpr>,
        right: Box<ScalarExpr>,
        at: SourceRange,
    },
    Negate {
        operand: Box<ScalarExpr>,
        at: SourceRange,
    },
    /// `({ … } | count())`: a number computed from a spanset of its own.
    Pipeline {
        pipeline: Pipeline,
        scalar: Box<ScalarExpr>,
        at: SourceRange,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum AggregateFunction {
    /// `count()`: spans in the spanset.
    Count,
    Min(FieldExpr),
    Max(FieldExpr),
    Sum(FieldExpr),
    Avg(FieldExpr),
}

/// Time series.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricsExpr {
    /// `{ … } | rate() by(…)`. `by` holds attributes and intrinsics only.
    Series { spans: Pipeline, function: MetricsFunction, by: Vec<FieldExpr>, at: SourceRange },
    /// `… | topk(10)`, `… > 10`.
    Then { input: Box<MetricsExpr>, stage: SecondStage, at: SourceRange },
    /// `(…) / (…)`: point by point. At most one side is a `Literal`; the operator is one of `+ - * /`.
    Arithmetic { op: ArithmeticOp, left: Box<MetricsExpr>, right: Box<MetricsExpr>, at: SourceRange },
    /// An integer, float or duration; only ever one side of `Arithmetic`.
    Literal { value: Static, at: SourceRange },
}

/// What is computed per time step. Field arguments are attributes or intrinsics.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricsFunction {
    /// Spans per second.
    Rate,
    CountOverTime,
    SumOverTime(FieldExpr),
    MinOverTime(FieldExpr),
    MaxOverTime(FieldExpr),
    AvgOverTime(FieldExpr),
    HistogramOverTime(FieldExpr),
    /// At least one quantile, each within 0..=1 (checked by validation).
    QuantileOverTime {
        field: FieldExpr,
        quantiles: Vec<f64>,
    },
    /// How the attributes of the selected spans differ from those of the rest.
    Compare {
        /// The condition of the selecting filter; none selects every span.
        selection: Option<FieldExpr>,
        /// Values reported per attribute; the engine's default if absent.
        top: Option<i64>,
        /// The selection holds only within these times, nanoseconds since the Unix epoch.
        window: Option<(i64, i64)>,
    },
}

/// A step that takes time series and gives time series.
#[derive(Debug, Clone, PartialEq)]
pub enum SecondStage {
    TopK(i64),
    BottomK(i64),
    /// Keeps the points for which it holds; the value is an integer, float or duration.
    Filter {
        op: ComparisonOp,
        value: Static,
    },
}

impl Query {
    /// The value of a hint; the last one counts if it was given twice.
    pub fn hint(&self, key: &str) -> Option<&Static> {
        self.hints.iter().rev().find(|hint| hint.key == key).map(|hint| &hint.value)
    }
}

impl Stage {
    pub fn at(&self) -> SourceRange {
        match self {
            Stage::Spanset(spanset) => spanset.at(),
            Stage::ScalarFilter { at, .. }
            | Stage::By { at, .. }
            | Stage::Coalesce { at }
            | Stage::Select { at, .. } => *at,
        }
    }
}

impl SpansetExpr {
    pub fn at(&self) -> SourceRange {
        match self {
            SpansetExpr::Filter { at, .. } | SpansetExpr::Combine { at, .. } | SpansetExpr::Pipeline { at, .. } => *at,
        }
    }
}

impl ScalarExpr {
    pub fn at(&self) -> SourceRange {
        match self {
            ScalarExpr::Literal { at, .. }
            | ScalarExpr::Aggregate { at, .. }
            | ScalarExpr::Arithmetic { at, .. }
            | ScalarExpr::Negate { at, .. }
            | ScalarExpr::Pipeline { at, .. } => *at,
        }
    }
}

impl MetricsExpr {
    pub fn at(&self) -> SourceRange {
        match self {
            MetricsExpr::Series { at, .. }
            | MetricsExpr::Then { at, .. }
            | MetricsExpr::Arithmetic { at, .. }
            | MetricsExpr::Literal { at, .. } => *at,
        }
    }
}

impl SpansetOp {
    pub fn symbol(self) -> &'static str {
        use Relation::{Ancestor, Child, Descendant, Parent, Sibling};
        use StructuralMode::{NotRelated, Related, Union};
        match self {
            SpansetOp::And => "&&",
            SpansetOp::Or => "||",
            SpansetOp::Structural { relation, mode } => match (mode, relation) {
                (Related, Child) => ">",
                (Related, Descendant) => ">>",
                (Related, Parent) => "<",
                (Related, Ancestor) => "<<",
                (Related, Sibling) => "~",
                (NotRelated, Child) => "!>",
                (NotRelated, Descendant) => "!>>",
                (NotRelated, Parent) => "!<",
                (NotRelated, Ancestor) => "!<<",
                (NotRelated, Sibling) => "!~",
                (Union, Child) => "&>",
                (Union, Descendant) => "&>>",
                (Union, Parent) => "&<",
                (Union, Ancestor) => "&<<",
                (Union, Sibling) => "&~",
            },
        }
    }
}

impl AggregateFunction {
    pub fn name(&self) -> &'static str {
        match self {
            AggregateFunction::Count => "count",
            AggregateFunction::Min(_) => "min",
            AggregateFunction::Max(_) => "max",
            AggregateFunction::Sum(_) => "sum",
            AggregateFunction::Avg(_) => "avg",
        }
    }

    pub fn field(&self) -> Option<&FieldExpr> {
        match self {
            AggregateFunction::Count => None,
            AggregateFunction::Min(field)
            | AggregateFunction::Max(field)
            | AggregateFunction::Sum(field)
            | AggregateFunction::Avg(field) => Some(field),
        }
    }
}

impl MetricsFunction {
    pub fn name(&self) -> &'static str {
        match self {
            MetricsFunction::Rate => "rate",
            MetricsFunction::CountOverTime => "count_over_time",
            MetricsFunction::SumOverTime(_) => "sum_over_time",
            MetricsFunction::MinOverTime(_) => "min_over_time",
            MetricsFunction::MaxOverTime(_) => "max_over_time",
            MetricsFunction::AvgOverTime(_) => "avg_over_time",
            MetricsFunction::HistogramOverTime(_) => "histogram_over_time",
            MetricsFunction::QuantileOverTime { .. } => "quantile_over_time",
            MetricsFunction::Compare { .. } => "compare",
        }
    }

    /// The field whose values are aggregated, if the function takes one.
    pub fn field(&self) -> Option<&FieldExpr> {
        match self {
            MetricsFunction::SumOverTime(field)
            | MetricsFunction::MinOverTime(field)
            | MetricsFunction::MaxOverTime(field)
            | MetricsFunction::AvgOverTime(field)
            | MetricsFunction::HistogramOverTime(field)
            | MetricsFunction::QuantileOverTime { field, .. } => Some(field),
            MetricsFunction::Rate | MetricsFunction::CountOverTime | MetricsFunction::Compare { .. } => None,
        }
    }
}
