//! What is known of every trace in an answer before one is put together: what its spans and it as a whole must satisfy.
//!
//! A trace that lies in one row group can be ruled out there by its length, its root and the number of matching spans.
//! Whatever cannot be said this way is left to the evaluation: drivers let too much through, never too little.

use tracehouse_traceql::{
    AggregateFunction, AttributeScope, ComparisonOp, FieldExpr, Intrinsic, Kind, LogicalOp, Pipeline, ScalarExpr,
    SpansetExpr, SpansetOp, Stage, Static, StructuralMode, compile_pattern,
};

use crate::compile::{
    Expression, asks_for_root_spans, attribute, compare, intrinsic, literal, mentions_parent, needs_trace,
};
use crate::error::QueryError;
use crate::plan::{all_of, number};

#[derive(Debug, Clone)]
pub(crate) struct Drivers {
    /// Each trace in the answer has a span that satisfies this.
    pub(crate) span: Expression,
    pub(crate) trace: TraceDriver,
}

/// What each trace in the answer satisfies.
#[derive(Debug, Clone)]
pub(crate) struct TraceDriver {
    /// Spans that satisfy the driver of spans.
    pub(crate) spans_min: usize,
    /// From the first start to the last end.
    pub(crate) duration_nanos_min: i64,
    /// A span without a parent satisfies this.
    pub(crate) root: Option<Expression>,
}

impl Drivers {
    pub(crate) fn of(pipeline: &Pipeline) -> Result<Self, QueryError> {
        let known = Known::of_stages(&pipeline.stages);
        Ok(Self {
            span: match any_of(known.spans) {
                Some(condition) => Expression::of(&condition)?,
                None => Expression::always(),
            },
            trace: TraceDriver {
                spans_min: spans_min(&pipeline.stages),
                duration_nanos_min: known.duration_min,
                root: known.root.as_ref().map(Expression::of).transpose()?,
            },
        })
    }
}

impl TraceDriver {
    /// Whether it rules nothing out.
    pub(crate) fn is_none(&self) -> bool {
        self.spans_min <= 1 && !self.looks_at_whole_traces()
    }

    /// What plans say of it.
    pub(crate) fn in_words(&self) -> Vec<String> {
        let spans = (self.spans_min > 1).then(|| format!("with at least {} such spans", self.spans_min));
        let nanos = Some(self.duration_nanos_min).filter(|nanos| *nanos > 0);
        let duration = nanos.map(|nanos| format!("as long as {} or longer", literal(Static::Duration(nanos))));
        let root = self.root.as_ref().map(|root| format!("with a span where {}", root.text));
        [spans, duration, root].into_iter().flatten().collect()
    }

    /// Whether spans count that are not themselves in question.
    pub(crate) fn looks_at_whole_traces(&self) -> bool {
        self.duration_nanos_min > 0 || self.root.is_some()
    }
}

/// What is known of each trace from which a spanset expression leaves spans.
struct Known {
    /// A span satisfies one of these; `None`: nothing is known of one.
    spans: Vec<Option<FieldExpr>>,
    duration_min: i64,
    root: Option<FieldExpr>,
}

impl Known {
    fn nothing() -> Self {
        Self { spans: vec![None], duration_min: i64::MIN, root: None }
    }

    /// Of stages that all must leave spans.
    fn of_stages(stages: &[Stage]) -> Self {
        let spansets = stages.iter().filter_map(|stage| match stage {
            Stage::Spanset(spanset) => Some(Self::of_spanset(spanset)),
            _ => None,
        });
        spansets.reduce(Self::and).unwrap_or_else(Self::nothing)
    }

    fn of_spanset(spanset: &SpansetExpr) -> Self {
        match spanset {
            SpansetExpr::Filter { condition: None, .. } => Self::nothing(),
            SpansetExpr::Filter { condition: Some(condition), .. } => Self {
                spans: vec![of_span(condition)],
                duration_min: duration_min(condition),
                root: of_root(condition).map(|condition| {
                    let is_root = compare(ComparisonOp::Equal, intrinsic(Intrinsic::ParentId), Static::Nil);
                    FieldExpr::logical(LogicalOp::And, is_root, condition)
                }),
            },
            SpansetExpr::Combine { op, left, right, .. } => {
                let (left, right) = (Self::of_spanset(left), Self::of_spanset(right));
                match op {
                    SpansetOp::Or => left.or(right),
                    SpansetOp::Structural { mode: StructuralMode::NotRelated, .. } => right,
                    SpansetOp::And | SpansetOp::Structural { .. } => left.and(right),
                }
            }
            SpansetExpr::Pipeline { pipeline, .. } => Self::of_stages(&pipeline.stages),
        }
    }

    /// Of equals the last counts, which is the side that a structural operator answers with.
    fn and(self, other: Self) -> Self {
        let last_says_more = selectivity(&other.spans) >= selectivity(&self.spans);
        Self {
            spans: if last_says_more { other.spans } else { self.spans },
            duration_min: self.duration_min.max(other.duration_min),
            root: all_of(self.root.into_iter().chain(other.root).collect()),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            spans: [self.spans, other.spans].concat(),
            duration_min: self.duration_min.min(other.duration_min),
            root: self.root.zip(other.root).map(|(one, other)| FieldExpr::logical(LogicalOp::Or, one, other)),
        }
    }
}

fn any_of(conditions: Vec<Option<FieldExpr>>) -> Option<FieldExpr> {
    let conditions: Option<Vec<FieldExpr>> = conditions.into_iter().collect();
    conditions?.into_iter().reduce(|one, other| FieldExpr::logical(LogicalOp::Or, one, other))
}

/// A guess: the more conditions must hold at once, the fewer spans there are.
fn selectivity(any: &[Option<FieldExpr>]) -> usize {
    any.iter().map(|condition| condition.as_ref().map_or(0, conditions_of)).min().unwrap_or(0)
}

fn conditions_of(condition: &FieldExpr) -> usize {
    match condition {
        FieldExpr::Logical { op: LogicalOp::And, terms, .. } => terms.iter().map(conditions_of).sum(),
        FieldExpr::Logical { op: LogicalOp::Or, terms, .. } => terms.iter().map(conditions_of).min().unwrap_or(0),
        FieldExpr::Literal { .. } => 0,
        _ => 1,
    }
}

/// What a span that satisfies a condition satisfies by itself, without its trace.
fn of_span(condition: &FieldExpr) -> Option<FieldExpr> {
    each_term(condition, &of_span, &|leaf| match leaf {
        _ if needs_trace(leaf) => None,
        _ if mentions_parent(leaf) && !asks_for_no_parent(leaf) => Some(or_callee(leaf)),
        _ => Some(leaf.clone()),
    })
}

/// Whether only spans that name no parent can satisfy a condition: the trace may show one for them, but takes none away.
fn asks_for_no_parent(condition: &FieldExpr) -> bool {
    let FieldExpr::Compare { op: ComparisonOp::Equal, left, right, .. } = condition else { return false };
    let is_parent = matches!(&**left, FieldExpr::Intrinsic { intrinsic: Intrinsic::ParentId | Intrinsic::Parent, .. });
    is_parent && matches!(&**right, FieldExpr::Literal { value: Static::Nil, .. }) || asks_for_root_spans(condition)
}

/// What spans satisfy a condition that looks at the parent, or are a half whose parent the trace tells.
fn or_callee(condition: &FieldExpr) -> FieldExpr {
    let of_kind = |kind| compare(ComparisonOp::Equal, intrinsic(Intrinsic::Kind), Static::Kind(kind));
    let halves = FieldExpr::logical(LogicalOp::Or, of_kind(Kind::Server), of_kind(Kind::Consumer));
    FieldExpr::logical(LogicalOp::Or, condition.clone(), halves)
}

/// What the root of the trace satisfies if a span satisfies a condition. Nothing is known of a trace without a root, whose
/// root has the empty name.
fn of_root(condition: &FieldExpr) -> Option<FieldExpr> {
    each_term(condition, &of_root, &|leaf| {
        let FieldExpr::Compare { op, left, right, .. } = leaf else { return None };
        let FieldExpr::Intrinsic { intrinsic: asked, .. } = &**left else { return None };
        let field = match asked {
            Intrinsic::TraceRootName => intrinsic(Intrinsic::Name),
            Intrinsic::TraceRootService => attribute(AttributeScope::Resource, "service.name"),
            _ => return None,
        };
        let FieldExpr::Literal { value: Static::String(text), .. } = &**right else { return None };
        let empty_does = match op {
            ComparisonOp::Equal => text.is_empty(),
            ComparisonOp::Matches => compile_pattern(text).map_or(true, |pattern| pattern.is_match("")),
            _ => true,
        };
        (!empty_does).then(|| compare(*op, field, Static::String(text.clone())))
    })
}

/// How long the trace is at least if a span of it satisfies a condition.
fn duration_min(condition: &FieldExpr) -> i64 {
    match condition {
        FieldExpr::Logical { op: LogicalOp::And, terms, .. } => terms.iter().map(duration_min).max(),
        FieldExpr::Logical { op: LogicalOp::Or, terms, .. } => terms.iter().map(duration_min).min(),
        FieldExpr::Compare {
            op: ComparisonOp::Greater | ComparisonOp::GreaterEqual | ComparisonOp::Equal,
            left,
            right,
            ..
        } => match (&**left, &**right) {
            (FieldExpr::Intrinsic { intrinsic: Intrinsic::TraceDuration, .. }, FieldExpr::Literal { value, .. }) => {
                Some(number(value).floor() as i64)
            }
            _ => None,
        },
        _ => None,
    }
    .unwrap_or(i64::MIN)
}

/// Of an `&&` what is known of some of its terms, of an `||` what is known of all.
fn each_term(
    condition: &FieldExpr,
    of_term: &dyn Fn(&FieldExpr) -> Option<FieldExpr>,
    of_leaf: &dyn Fn(&FieldExpr) -> Option<FieldExpr>,
) -> Option<FieldExpr> {
    match condition {
        FieldExpr::Logical { op: LogicalOp::And, terms, .. } => all_of(terms.iter().filter_map(of_term).collect()),
        FieldExpr::Logical { op: LogicalOp::Or, terms, .. } => any_of(terms.iter().map(of_term).collect()),
        leaf => of_leaf(leaf),
    }
}

/// How many spans satisfy the filter that a pipeline begins with, if it counts them.
fn spans_min(stages: &[Stage]) -> usize {
    let [Stage::Spanset(SpansetExpr::Filter { .. }), rest @ ..] = stages else { return 1 };
    if rest.iter().any(|stage| matches!(stage, Stage::Spanset(_))) {
        return 1;
    }
    let counted = rest.iter().filter_map(|stage| {
        let Stage::ScalarFilter { op, left, right, .. } = stage else { return None };
        let ScalarExpr::Aggregate { function: AggregateFunction::Count, .. } = left else { return None };
        let ScalarExpr::Literal { value, .. } = right else { return None };
        let limit = number(value);
        match op {
            ComparisonOp::Greater => Some(limit.floor() + 1.0),
            ComparisonOp::GreaterEqual | ComparisonOp::Equal => Some(limit.ceil()),
            _ => None,
        }
    });
    // The conversion keeps to the bounds of the type.
    counted.map(|count| count as usize).max().unwrap_or(1).max(1)
}
