//! Runs a pipeline over one assembled trace. The rules are those in the `traceql` crate's header.
//!
//! Spans are rows of the trace in pre-order, so a parent stands before its children and one pass in either direction
//! carries a fact down to descendants or up to ancestors.

use tracehouse_model::{AnyValue, ParentRow, SeededMap, SpanBatch, kind, status};
use tracehouse_scan::{Window, is_over};
use tracehouse_traceql::{ArithmeticOp, ComparisonOp, Relation, SpansetOp, Static, StructuralMode};

use crate::assemble::TraceTree;
use crate::compile::Expression;
use crate::plan::{AggregateKind, NamedField, PlanStage, ScalarNode, SpansetNode};
use crate::row_eval::{RowExpression, TraceFacts};
use crate::value::{Value, as_floats, calculate, compare, negate};

/// Spans of one trace, with what they share because of `by()`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spanset {
    pub(crate) by: Vec<(String, Option<AnyValue>)>,
    /// What it was compared by, such as `count()`.
    pub(crate) aggregates: Vec<(String, AnyValue)>,
    /// Ascending.
    pub(crate) rows: Vec<u32>,
}

/// A trace while pipelines run over it.
pub(crate) struct Evaluation<'a> {
    spans: &'a SpanBatch,
    tree: &'a TraceTree,
    facts: &'a TraceFacts<'a>,
}

impl<'a> Evaluation<'a> {
    pub(crate) fn new(spans: &'a SpanBatch, tree: &'a TraceTree, facts: &'a TraceFacts<'a>) -> Self {
        Self { spans, tree, facts }
    }

    /// The spansets that a pipeline leaves of the trace, each with those spans alone that a window selects. What a span stands beneath
    /// or beside, and what is counted, may lie outside of it: a trace satisfies a query or does not, whatever the range.
    pub(crate) fn run(&self, stages: &[PlanStage], window: &Window) -> Vec<Spanset> {
        let (starts, durations) = (&self.spans.start_unix_nanos, &self.spans.duration_nanos);
        let selected = |row: &u32| window.selects(starts[*row as usize], durations[*row as usize]);
        let all = Spanset { rows: self.tree.rows.clone().map(|row| row as u32).collect(), ..Spanset::default() };
        let mut spansets = self.stages(stages, vec![all.clone()], &all);
        if is_over() {
            // What was ended in the middle says nothing.
            return Vec::new();
        }
        spansets.iter_mut().for_each(|spanset| spanset.rows.retain(selected));
        spansets.retain(|spanset| !spanset.rows.is_empty());
        spansets
    }

    /// `all` is what a pipeline of its own begins with.
    fn stages(&self, stages: &[PlanStage], begin: Vec<Spanset>, all: &Spanset) -> Vec<Spanset> {
        stages.iter().fold(begin, |spansets, stage| match stage {
            _ if spansets.is_empty() => spansets,
            PlanStage::Spanset(node) => spansets
                .into_iter()
                .map(|spanset| Spanset { rows: self.spanset(node, &spanset, all), ..spanset })
                .filter(|spanset| !spanset.rows.is_empty())
                .collect(),
            PlanStage::ScalarFilter { op, left, right } => {
                let holds = |spanset: &Spanset| self.scalar_holds(*op, left, right, spanset, all);
                let with_aggregates = |mut spanset: Spanset| {
                    let mut found = Vec::new();
                    [left, right].into_iter().for_each(|scalar| self.aggregates(scalar, &spanset, &mut found));
                    found.retain(|new| !spanset.aggregates.iter().any(|known| known.0 == new.0));
                    spanset.aggregates.extend(found);
                    spanset
                };
                spansets.into_iter().filter(holds).map(with_aggregates).collect()
            }
            PlanStage::By(field) => spansets.into_iter().flat_map(|spanset| self.split(field, &spanset)).collect(),
            PlanStage::Coalesce => vec![Spanset { rows: union_of(&spansets), ..Spanset::default() }],
        })
    }

    fn spanset(&self, node: &SpansetNode, from: &Spanset, all: &Spanset) -> Vec<u32> {
        match node {
            SpansetNode::Filter(expression) => {
                let expression = self.bind(expression);
                from.rows.iter().copied().filter(|&row| expression.holds(row as usize)).collect()
            }
            SpansetNode::Combine { op, left, right } => {
                let left = self.spanset(left, from, all);
                let right = self.spanset(right, from, all);
                match op {
                    SpansetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
                    SpansetOp::And | SpansetOp::Or => merged(&left, &right),
                    SpansetOp::Structural { relation, mode } => self.related(*relation, *mode, &left, &right),
                }
            }
            SpansetNode::Pipeline(stages) => union_of(&self.stages(stages, vec![from.clone()], all)),
        }
    }

    fn related(&self, relation: Relation, mode: StructuralMode, left: &[u32], right: &[u32]) -> Vec<u32> {
        match mode {
            StructuralMode::Related => self.standing(relation, left, right, true),
            StructuralMode::NotRelated => self.standing(relation, left, right, false),
            StructuralMode::Union => {
                let of_right = self.standing(relation, left, right, true);
                let of_left = self.standing(inverse(relation), right, left, true);
                merged(&of_left, &of_right)
            }
        }
    }

    /// The rows among `right` that stand in a relation to one of `left`, or that do not.
    fn standing(&self, relation: Relation, left: &[u32], right: &[u32], wanted: bool) -> Vec<u32> {
        let first = self.tree.rows.start;
        let place = |row: &u32| *row as usize - first;
        let spans = self.tree.parent.len();
        let mut is_left = vec![false; spans];
        left.iter().for_each(|row| is_left[place(row)] = true);
        let parent = |at: usize| match self.tree.parent[at] {
            ParentRow::Row(parent) => Some(parent as usize),
            ParentRow::Root | ParentRow::Missing => None,
        };
        let mut stands = vec![false; spans];
        match relation {
            Relation::Child => {
                (0..spans).for_each(|at| stands[at] = parent(at).is_some_and(|parent| is_left[parent]));
            }
            Relation::Descendant => {
                for at in 0..spans {
                    stands[at] = parent(at).is_some_and(|parent| is_left[parent] || stands[parent]);
                }
            }
            Relation::Parent => {
                left.iter().filter_map(|row| parent(place(row))).for_each(|parent| stands[parent] = true);
            }
            Relation::Ancestor => {
                for at in (0..spans).rev() {
                    if let Some(parent) = parent(at)
                        && (is_left[at] || stands[at])
                    {
                        stands[parent] = true;
                    }
                }
            }
            Relation::Sibling => {
                // Two may name the same parent though it is missing.
                let beneath = |at: usize| {
                    let row = first + at;
                    if let ParentRow::Row(parent) = self.tree.parent[at]
                        && self.spans.span_id[first + parent as usize] == self.spans.span_id[row]
                    {
                        return Some((self.spans.span_id[row].as_u64(), true));
                    }
                    let named = self.spans.parent_span_id[row];
                    (!named.is_none()).then_some((named.as_u64(), false))
                };
                let mut of_left: SeededMap<(u64, bool), u32> = SeededMap::default();
                for parent in left.iter().filter_map(|row| beneath(place(row))) {
                    *of_left.entry(parent).or_default() += 1;
                }
                for at in 0..spans {
                    let siblings = beneath(at).and_then(|parent| of_left.get(&parent)).copied().unwrap_or(0);
                    stands[at] = siblings > u32::from(is_left[at]);
                }
            }
        }
        right.iter().copied().filter(|row| stands[place(row)] == wanted).collect()
    }

    fn split(&self, field: &NamedField, spanset: &Spanset) -> Vec<Spanset> {
        let expression = self.bind(&field.expression);
        let mut groups: Vec<(Option<AnyValue>, Vec<u32>)> = Vec::new();
        let mut known: SeededMap<String, usize> = SeededMap::default();
        for &row in &spanset.rows {
            let mut value = expression.value_of(row as usize).to_any();
            if let Some(AnyValue::Double(number)) = &mut value {
                // There is one zero.
                *number += 0.0;
            }
            let key = value.as_ref().map_or_else(String::new, AnyValue::to_canonical_json);
            let group = *known.entry(key).or_insert_with(|| {
                groups.push((value, Vec::new()));
                groups.len() - 1
            });
            groups[group].1.push(row);
        }
        let spansets = groups.into_iter().map(|(value, rows)| {
            let mut by = spanset.by.clone();
            by.push((field.name.clone(), value));
            Spanset { by, rows, ..Spanset::default() }
        });
        spansets.collect()
    }

    fn scalar_holds(
        &self,
        op: ComparisonOp,
        left: &ScalarNode,
        right: &ScalarNode,
        spanset: &Spanset,
        all: &Spanset,
    ) -> bool {
        compare(op, &self.scalar(left, spanset, all), &self.scalar(right, spanset, all))
    }

    /// A number; missing if there is nothing to make it of.
    fn scalar(&self, scalar: &ScalarNode, spanset: &Spanset, all: &Spanset) -> Value<'static> {
        match scalar {
            ScalarNode::Literal(value) => value.clone(),
            ScalarNode::Count => Value::Int(spanset.rows.len() as i64),
            ScalarNode::Aggregate { kind, field, .. } => {
                let (field, mut aggregate) = (self.bind(field), Aggregate::default());
                for &row in &spanset.rows {
                    field.value_of(row as usize).each_single(&mut |value| aggregate.add(value));
                }
                aggregate.result(*kind)
            }
            ScalarNode::Arithmetic { op, left, right } => {
                let (left, right) = (self.scalar(left, spanset, all), self.scalar(right, spanset, all));
                // A share of a count is a fraction.
                let left = if *op == ArithmeticOp::Divide { as_floats(&left) } else { left };
                calculate(*op, &left, &right)
            }
            ScalarNode::Negate(operand) => negate(&self.scalar(operand, spanset, all)),
            ScalarNode::Pipeline { stages, scalar } => {
                let rows = union_of(&self.stages(stages, vec![all.clone()], all));
                self.scalar(scalar, &Spanset { rows, ..Spanset::default() }, all)
            }
        }
    }

    /// The aggregates of a spanset that a number is made of, with their names.
    fn aggregates(&self, scalar: &ScalarNode, spanset: &Spanset, found: &mut Vec<(String, AnyValue)>) {
        match scalar {
            ScalarNode::Count => found.push(("count()".to_owned(), AnyValue::Int(spanset.rows.len() as i64))),
            ScalarNode::Aggregate { name, is_duration, .. } => {
                let shown = match self.scalar(scalar, spanset, spanset) {
                    Value::Int(nanos) if *is_duration => duration(nanos),
                    Value::Float(nanos) if *is_duration => duration(nanos.round() as i64),
                    value => value.to_any(),
                };
                found.extend(shown.map(|shown| (name.clone(), shown)));
            }
            ScalarNode::Arithmetic { left, right, .. } => {
                self.aggregates(left, spanset, found);
                self.aggregates(right, spanset, found);
            }
            ScalarNode::Negate(operand) => self.aggregates(operand, spanset, found),
            ScalarNode::Literal(_) | ScalarNode::Pipeline { .. } => {}
        }
    }

    fn bind<'e>(&self, expression: &'e Expression) -> RowExpression<'e>
    where
        'a: 'e,
    {
        RowExpression::new(expression, self.spans, Some(self.facts))
    }
}

fn duration(nanos: i64) -> Option<AnyValue> {
    Some(AnyValue::String(Static::Duration(nanos).to_string()))
}

/// What is made of the numbers of a spanset. Of integers alone it is exact.
struct Aggregate {
    count: u64,
    /// Integers alone so far.
    exact: bool,
    int_sum: i128,
    int_min: i64,
    int_max: i64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Default for Aggregate {
    fn default() -> Self {
        let (int_min, int_max, min, max) = (i64::MAX, i64::MIN, f64::INFINITY, f64::NEG_INFINITY);
        Self { count: 0, exact: true, int_sum: 0, int_min, int_max, sum: 0.0, min, max }
    }
}

impl Aggregate {
    fn add(&mut self, value: &Value<'_>) {
        // As in series, NaN is not measured.
        let Some(number) = value.as_float().filter(|number| !number.is_nan()) else { return };
        match value {
            Value::Int(int) => {
                self.int_sum += i128::from(*int);
                self.int_min = self.int_min.min(*int);
                self.int_max = self.int_max.max(*int);
            }
            _ => self.exact = false,
        }
        self.count += 1;
        self.sum += number;
        self.min = self.min.min(number);
        self.max = self.max.max(number);
    }

    fn result(&self, kind: AggregateKind) -> Value<'static> {
        match kind {
            _ if self.count == 0 => Value::Missing,
            AggregateKind::Average => Value::Float(self.sum / self.count as f64),
            AggregateKind::Min if self.exact => Value::Int(self.int_min),
            AggregateKind::Max if self.exact => Value::Int(self.int_max),
            AggregateKind::Sum if self.exact => {
                i64::try_from(self.int_sum).map_or(Value::Float(self.int_sum as f64), Value::Int)
            }
            AggregateKind::Min => Value::Float(self.min),
            AggregateKind::Max => Value::Float(self.max),
            AggregateKind::Sum => Value::Float(self.sum),
        }
    }
}

pub(crate) fn inverse(relation: Relation) -> Relation {
    match relation {
        Relation::Child => Relation::Parent,
        Relation::Parent => Relation::Child,
        Relation::Descendant => Relation::Ancestor,
        Relation::Ancestor => Relation::Descendant,
        Relation::Sibling => Relation::Sibling,
    }
}

fn merged(left: &[u32], right: &[u32]) -> Vec<u32> {
    let mut rows = [left, right].concat();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// The rows of several spansets, each once.
pub(crate) fn union_of(spansets: &[Spanset]) -> Vec<u32> {
    if let [only] = spansets {
        return only.rows.clone();
    }
    let mut rows: Vec<u32> = spansets.iter().flat_map(|spanset| spanset.rows.iter().copied()).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

impl Value<'_> {
    /// The value out of its batch, as answers show it: statuses and kinds by name. `None` if there is none.
    pub(crate) fn to_any(&self) -> Option<AnyValue> {
        Some(match self {
            Value::Missing | Value::Nil => return None,
            Value::String(text) => AnyValue::String(text.clone().into_owned()),
            Value::Int(value) => AnyValue::Int(*value),
            Value::Float(value) => AnyValue::Double(*value),
            Value::Bool(value) => AnyValue::Bool(*value),
            Value::Id(id) => AnyValue::String(id.to_string()),
            Value::Status(code) => AnyValue::String(status::name(*code).to_owned()),
            Value::Kind(code) => AnyValue::String(kind::name(*code).to_owned()),
            Value::Each(values) if values.len() == 1 => return values[0].to_any(),
            Value::Many(values) | Value::Each(values) => {
                AnyValue::Array(values.iter().filter_map(Value::to_any).collect())
            }
            Value::Other => return None,
        })
    }
}
