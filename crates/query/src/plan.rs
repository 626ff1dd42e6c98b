//! A compiled pipeline: expressions ready to run, and what must be found before a trace is worth putting together.

use tracehouse_traceql::{
    AggregateFunction, ArithmeticOp, ComparisonOp, FieldExpr, MetricsExpr, MetricsFunction, Pipeline, Query, QueryExpr,
    ScalarExpr, SpansetExpr, SpansetOp, Stage,
};

use crate::compile::{Expression, HERE, all_of, compile, field_first};
use crate::drivers::Drivers;
use crate::error::QueryError;
use crate::value::{Value, exact_number};

/// Stages that take the spansets of one trace and give spansets.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) stages: Vec<PlanStage>,
    pub(crate) drivers: Drivers,
    /// Fields that go with each span of the answer: those of `select()`, then those that conditions mention.
    pub(crate) shown: Vec<ShownField>,
}

#[derive(Debug, Clone)]
pub(crate) enum PlanStage {
    Spanset(SpansetNode),
    ScalarFilter { op: ComparisonOp, left: ScalarNode, right: ScalarNode },
    By(NamedField),
    Coalesce,
}

#[derive(Debug, Clone)]
pub(crate) enum SpansetNode {
    Filter(Expression),
    Combine { op: SpansetOp, left: Box<SpansetNode>, right: Box<SpansetNode> },
    Pipeline(Vec<PlanStage>),
}

#[derive(Debug, Clone)]
pub(crate) enum ScalarNode {
    Literal(Value<'static>),
    Count,
    Aggregate {
        kind: AggregateKind,
        field: Expression,
        /// Under which answers show it, such as `avg(duration)`.
        name: String,
        is_duration: bool,
    },
    Arithmetic {
        op: ArithmeticOp,
        left: Box<ScalarNode>,
        right: Box<ScalarNode>,
    },
    Negate(Box<ScalarNode>),
    /// A number of a spanset of its own.
    Pipeline {
        stages: Vec<PlanStage>,
        scalar: Box<ScalarNode>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AggregateKind {
    Min,
    Max,
    Sum,
    Average,
}

impl AggregateKind {
    fn name(self) -> &'static str {
        match self {
            AggregateKind::Min => "min",
            AggregateKind::Max => "max",
            AggregateKind::Sum => "sum",
            AggregateKind::Average => "avg",
        }
    }
}

/// A field with the name under which answers show it.
#[derive(Debug, Clone)]
pub(crate) struct NamedField {
    pub(crate) name: String,
    pub(crate) expression: Expression,
}

impl NamedField {
    pub(crate) fn of(field: &FieldExpr) -> Result<Self, QueryError> {
        Ok(Self { name: field.label(), expression: Expression::of(field)? })
    }
}

/// A field that goes with each span of the answer.
#[derive(Debug, Clone)]
pub(crate) struct ShownField {
    pub(crate) field: NamedField,
    /// The conditions that compare it with something, if it is there for their sake alone: of several values, those that satisfy one
    /// of them are what was asked for.
    pub(crate) conditions: Vec<Expression>,
}

/// A field in a query, with the condition that compares it with something; `None` if it is asked for as a whole.
type Mention<'a> = (&'a FieldExpr, Option<&'a FieldExpr>);

/// Most fields that are shown because conditions mention them.
const MENTIONED_FIELDS_MAX: usize = 16;
/// What answers say of each span anyway.
const ALWAYS_SHOWN: [&str; 3] = ["name", "duration", "resource.service.name"];

impl Plan {
    /// The pipeline, whose spans must satisfy the conditions too.
    pub(crate) fn of(mut pipeline: Pipeline, conditions: Vec<FieldExpr>) -> Result<Self, QueryError> {
        if let Some(condition) = all_of(conditions) {
            let at = condition.at();
            pipeline.stages.push(Stage::Spanset(SpansetExpr::Filter { condition: Some(condition), at }));
        }
        let pipeline = &joined(pipeline);
        let stages = stages(pipeline)?;
        Ok(Self { stages, drivers: Drivers::of(pipeline)?, shown: shown_fields(pipeline)? })
    }

    /// A single filter, as a search by conditions makes it.
    pub(crate) fn of_condition(condition: Option<FieldExpr>) -> Result<Self, QueryError> {
        let at = condition.as_ref().map_or(HERE, FieldExpr::at);
        let stages = vec![Stage::Spanset(SpansetExpr::Filter { condition, at })];
        Ok(Self { shown: Vec::new(), ..Self::of(Pipeline { stages }, Vec::new())? })
    }

    /// The condition, if one condition on each span by itself is all there is to the pipeline.
    pub(crate) fn single_filter(&self) -> Option<&Expression> {
        match self.stages.as_slice() {
            [PlanStage::Spanset(SpansetNode::Filter(expression))] => Some(expression),
            _ => None,
        }
    }

    /// Every expression that is evaluated while the pipeline runs, apart from what is only shown.
    pub(crate) fn expressions(&self) -> Vec<&Expression> {
        let mut found = Vec::new();
        self.stages.iter().for_each(|stage| stage_expressions(stage, &mut found));
        found
    }
}

/// The fields that a series mentions: what is measured and grouped by, then those of conditions.
pub(crate) fn mentioned_fields(
    spans: &Pipeline,
    function: &MetricsFunction,
    by: &[FieldExpr],
) -> Result<Vec<NamedField>, QueryError> {
    let mut mentions: Vec<Mention<'_>> = Vec::new();
    function.field().into_iter().chain(by).for_each(|field| mentioned_by_expression(field, &mut mentions));
    spans.stages.iter().for_each(|stage| mentioned_by_stage(stage, &mut mentions));
    let mut fields: Vec<NamedField> = Vec::new();
    for (field, _) in mentions {
        let named = NamedField::of(field)?;
        if fields.len() < MENTIONED_FIELDS_MAX && !fields.iter().any(|known| known.name == named.name) {
            fields.push(named);
        }
    }
    Ok(fields)
}

fn shown_fields(pipeline: &Pipeline) -> Result<Vec<ShownField>, QueryError> {
    let mut mentions: Vec<Mention<'_>> = Vec::new();
    for stage in &pipeline.stages {
        if let Stage::Select { fields, .. } = stage {
            mentions.extend(fields.iter().map(|field| (field, None)));
        }
    }
    let selected = mentions.len();
    pipeline.stages.iter().for_each(|stage| mentioned_by_stage(stage, &mut mentions));
    let mut shown: Vec<ShownField> = Vec::new();
    for (number, (field, condition)) in mentions.into_iter().enumerate() {
        let name = field.label();
        let condition = condition.map(Expression::of).transpose()?;
        let is_wanted =
            number < selected || (shown.len() < MENTIONED_FIELDS_MAX && !ALWAYS_SHOWN.contains(&name.as_str()));
        match shown.iter_mut().find(|known| known.field.name == name) {
            // What is asked for as a whole stays whole.
            Some(known) if known.conditions.is_empty() => {}
            Some(known) => match condition {
                Some(condition) => known.conditions.push(condition),
                None => known.conditions.clear(),
            },
            None if is_wanted => {
                let field = NamedField { name, expression: Expression::of(field)? };
                shown.push(ShownField { field, conditions: condition.into_iter().collect() });
            }
            None => {}
        }
    }
    Ok(shown)
}

/// Filters that follow each other as one: what passes both passes them together.
fn joined(pipeline: Pipeline) -> Pipeline {
    let mut stages: Vec<Stage> = Vec::new();
    for stage in pipeline.stages {
        match (stages.last_mut(), stage) {
            (
                Some(Stage::Spanset(SpansetExpr::Filter { condition: first, .. })),
                Stage::Spanset(SpansetExpr::Filter { condition: second, .. }),
            ) => *first = all_of(first.take().into_iter().chain(second).collect()),
            (_, stage) => stages.push(stage),
        }
    }
    Pipeline { stages }
}

fn stages(pipeline: &Pipeline) -> Result<Vec<PlanStage>, QueryError> {
    let mut planned = Vec::new();
    for stage in &pipeline.stages {
        planned.push(match stage {
            Stage::Spanset(spanset) => PlanStage::Spanset(spanset_node(spanset)?),
            Stage::ScalarFilter { op, left, right, .. } => {
                PlanStage::ScalarFilter { op: *op, left: scalar_node(left)?, right: scalar_node(right)? }
            }
            Stage::By { field, .. } => PlanStage::By(NamedField::of(field)?),
            Stage::Coalesce { .. } => PlanStage::Coalesce,
            Stage::Select { .. } => continue,
        });
    }
    Ok(planned)
}

fn spanset_node(spanset: &SpansetExpr) -> Result<SpansetNode, QueryError> {
    Ok(match spanset {
        SpansetExpr::Filter { condition, .. } => SpansetNode::Filter(match condition {
            Some(condition) => Expression::of(condition)?,
            None => Expression::always(),
        }),
        SpansetExpr::Combine { op, left, right, .. } => {
            SpansetNode::Combine { op: *op, left: Box::new(spanset_node(left)?), right: Box::new(spanset_node(right)?) }
        }
        SpansetExpr::Pipeline { pipeline, .. } => SpansetNode::Pipeline(stages(pipeline)?),
    })
}

fn scalar_node(scalar: &ScalarExpr) -> Result<ScalarNode, QueryError> {
    let aggregate = |kind: AggregateKind, field: &FieldExpr| {
        let name = format!("{}({})", kind.name(), field.label());
        Ok(ScalarNode::Aggregate { kind, field: Expression::of(field)?, name, is_duration: field.is_duration() })
    };
    Ok(match scalar {
        ScalarExpr::Literal { value, .. } => ScalarNode::Literal(exact_number(value)),
        ScalarExpr::Aggregate { function, .. } => match function {
            AggregateFunction::Count => ScalarNode::Count,
            AggregateFunction::Min(field) => return aggregate(AggregateKind::Min, field),
            AggregateFunction::Max(field) => return aggregate(AggregateKind::Max, field),
            AggregateFunction::Sum(field) => return aggregate(AggregateKind::Sum, field),
            AggregateFunction::Avg(field) => return aggregate(AggregateKind::Average, field),
        },
        ScalarExpr::Arithmetic { op, left, right, .. } => {
            ScalarNode::Arithmetic { op: *op, left: Box::new(scalar_node(left)?), right: Box::new(scalar_node(right)?) }
        }
        ScalarExpr::Negate { operand, .. } => ScalarNode::Negate(Box::new(scalar_node(operand)?)),
        ScalarExpr::Pipeline { pipeline, scalar, .. } => {
            ScalarNode::Pipeline { stages: stages(pipeline)?, scalar: Box::new(scalar_node(scalar)?) }
        }
    })
}

fn mentioned_by_stage<'a>(stage: &'a Stage, mentions: &mut Vec<Mention<'a>>) {
    match stage {
        Stage::Spanset(spanset) => mentioned_by_spanset(spanset, mentions),
        Stage::ScalarFilter { left, right, .. } => {
            mentioned_by_scalar(left, mentions);
            mentioned_by_scalar(right, mentions);
        }
        Stage::By { field, .. } => mentioned_by_expression(field, mentions),
        Stage::Coalesce { .. } | Stage::Select { .. } => {}
    }
}

fn mentioned_by_spanset<'a>(spanset: &'a SpansetExpr, mentions: &mut Vec<Mention<'a>>) {
    match spanset {
        SpansetExpr::Filter { condition, .. } => {
            condition.iter().for_each(|condition| mentioned_by_expression(condition, mentions));
        }
        SpansetExpr::Combine { left, right, .. } => {
            mentioned_by_spanset(left, mentions);
            mentioned_by_spanset(right, mentions);
        }
        SpansetExpr::Pipeline { pipeline, .. } => {
            pipeline.stages.iter().for_each(|stage| mentioned_by_stage(stage, mentions));
        }
    }
}

fn mentioned_by_scalar<'a>(scalar: &'a ScalarExpr, mentions: &mut Vec<Mention<'a>>) {
    match scalar {
        ScalarExpr::Literal { .. } => {}
        ScalarExpr::Aggregate { function, .. } => {
            function.field().into_iter().for_each(|field| mentioned_by_expression(field, mentions));
        }
        ScalarExpr::Arithmetic { left, right, .. } => {
            mentioned_by_scalar(left, mentions);
            mentioned_by_scalar(right, mentions);
        }
        ScalarExpr::Negate { operand, .. } => mentioned_by_scalar(operand, mentions),
        ScalarExpr::Pipeline { pipeline, scalar, .. } => {
            pipeline.stages.iter().for_each(|stage| mentioned_by_stage(stage, mentions));
            mentioned_by_scalar(scalar, mentions);
        }
    }
}

fn mentioned_by_expression<'a>(expression: &'a FieldExpr, mentions: &mut Vec<Mention<'a>>) {
    if let FieldExpr::Compare { op, left, right, .. } = expression {
        let (_, field, other) = field_first(*op, left, right);
        if field.is_field() && !other.is_field() {
            mentions.push((field, Some(expression)));
            return mentioned_by_expression(other, mentions);
        }
    }
    if expression.is_field() {
        mentions.push((expression, None));
    }
    expression.children().for_each(|child| mentioned_by_expression(child, mentions));
}

fn stage_expressions<'a>(stage: &'a PlanStage, found: &mut Vec<&'a Expression>) {
    match stage {
        PlanStage::Spanset(spanset) => spanset_expressions(spanset, found),
        PlanStage::ScalarFilter { left, right, .. } => {
            scalar_expressions(left, found);
            scalar_expressions(right, found);
        }
        PlanStage::By(field) => found.push(&field.expression),
        PlanStage::Coalesce => {}
    }
}

fn spanset_expressions<'a>(spanset: &'a SpansetNode, found: &mut Vec<&'a Expression>) {
    match spanset {
        SpansetNode::Filter(expression) => found.push(expression),
        SpansetNode::Combine { left, right, .. } => {
            spanset_expressions(left, found);
            spanset_expressions(right, found);
        }
        SpansetNode::Pipeline(stages) => stages.iter().for_each(|stage| stage_expressions(stage, found)),
    }
}

fn scalar_expressions<'a>(scalar: &'a ScalarNode, found: &mut Vec<&'a Expression>) {
    match scalar {
        ScalarNode::Literal(_) | ScalarNode::Count => {}
        ScalarNode::Aggregate { field, .. } => found.push(field),
        ScalarNode::Arithmetic { left, right, .. } => {
            scalar_expressions(left, found);
            scalar_expressions(right, found);
        }
        ScalarNode::Negate(operand) => scalar_expressions(operand, found),
        ScalarNode::Pipeline { stages, scalar } => {
            stages.iter().for_each(|stage| stage_expressions(stage, found));
            scalar_expressions(scalar, found);
        }
    }
}

/// `{ conditions } | count_over_time() by (fields)`. The conditions need not be such as can be written: there is no literal of infinity.
pub(crate) fn counts_by(fields: &str, conditions: Vec<FieldExpr>) -> Result<Query, QueryError> {
    let mut query = compile(&format!("{{ }} | count_over_time() by ({fields})"))?;
    let QueryExpr::Metrics(MetricsExpr::Series { spans, .. }) = &mut query.expr else { return Ok(query) };
    if let Some(condition) = all_of(conditions) {
        let at = condition.at();
        spans.stages = vec![Stage::Spanset(SpansetExpr::Filter { condition: Some(condition), at })];
    }
    Ok(query)
}
