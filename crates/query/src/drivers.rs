//! What is known of every trace in an answer before one is put together: what a span that is answered with must satisfy, and what spans
//! the trace must have besides.
//!
//! Answered spans are looked for in the range of time that is asked for. What stands beside them may have begun before it, and may lie
//! in any file; a trace that lies in one row group can be ruled out there if it lacks that. Whatever cannot be said this way is left to
//! the evaluation: drivers let too much through, never too little.

use tracehouse_traceql::{
    AggregateFunction, AttributeScope, ComparisonOp, FieldExpr, Intrinsic, Kind, LogicalOp, Pipeline, ScalarExpr,
    SpansetExpr, SpansetOp, Stage, Static, StructuralMode, compile_pattern,
};

use crate::compile::{
    Expression, all_of, asks_for_root_spans, attribute, compare, intrinsic, literal, mentions_parent, needs_trace,
    truth,
};
use crate::error::QueryError;
use crate::value::number;

#[derive(Debug, Clone)]
pub(crate) struct Drivers {
    /// Each trace in the answer has a span that is answered with, and that satisfies this.
    pub(crate) span: Expression,
    pub(crate) trace: TraceDriver,
}

/// What each trace in the answer satisfies, wherever its spans are and whenever they began.
#[derive(Debug, Clone)]
pub(crate) struct TraceDriver {
    /// From the first start to the last end.
    pub(crate) duration_nanos_min: i64,
    /// What spans it has.
    pub(crate) has: Vec<AtLeast>,
}

/// So many spans that satisfy a condition.
#[derive(Debug, Clone)]
pub(crate) struct AtLeast<C = Expression> {
    pub(crate) spans: usize,
    pub(crate) condition: C,
}

/// Of what is known beyond this, nothing is made use of: each condition costs a look at its columns.
const CONDITIONS_MAX: usize = 4;
/// Nor of what would have more regular expressions compiled than a query may have.
const PATTERNS_MAX: usize = 16;

impl Drivers {
    pub(crate) fn of(pipeline: &Pipeline) -> Result<Self, QueryError> {
        let known = Known::of_stages(&pipeline.stages);
        let span = known.answered.as_ref().map_or_else(|| Ok(Expression::always()), Expression::of)?;
        let mut has: Vec<AtLeast> = Vec::new();
        let mut patterns = 0;
        for AtLeast { spans, condition } in &known.has {
            let text = condition.to_string();
            // One such span is what the trace was found by.
            let is_new = (*spans > 1 || text != span.text) && has.iter().all(|known| known.condition.text != text);
            patterns += text.matches("=~").count() + text.matches("!~").count();
            if is_new && patterns <= PATTERNS_MAX {
                has.push(AtLeast { spans: *spans, condition: Expression::of(condition)? });
            }
        }
        has.truncate(CONDITIONS_MAX);
        Ok(Self { span, trace: TraceDriver { duration_nanos_min: known.duration_min, has } })
    }
}

impl TraceDriver {
    /// Rules nothing out.
    pub(crate) const NONE: Self = Self { duration_nanos_min: i64::MIN, has: Vec::new() };

    pub(crate) fn asks_for_length(&self) -> bool {
        self.duration_nanos_min > 0
    }

    /// What plans say of it.
    pub(crate) fn in_words(&self) -> Vec<String> {
        let nanos = Some(self.duration_nanos_min).filter(|nanos| *nanos > 0);
        let duration = nanos.map(|nanos| format!("as long as {} or longer", literal(Static::Duration(nanos))));
        let has = self.has.iter().map(|AtLeast { spans, condition }| match spans {
            0 | 1 => format!("with a span where {}", condition.text),
            spans if condition.text == "true" => format!("with at least {spans} spans"),
            spans => format!("with at least {spans} spans where {}", condition.text),
        });
        duration.into_iter().chain(has).collect()
    }
}

/// What is known of each trace from which a spanset expression leaves spans.
struct Known {
    /// Each span that is left satisfies this; `None`: nothing is known of them.
    answered: Option<FieldExpr>,
    duration_min: i64,
    has: Vec<AtLeast<FieldExpr>>,
}

impl Known {
    fn nothing() -> Self {
        Self { answered: None, duration_min: i64::MIN, has: Vec::new() }
    }

    /// Of stages that all must leave spans: what the last leaves has passed each.
    fn of_stages(stages: &[Stage]) -> Self {
        let spansets = stages.iter().filter_map(|stage| match stage {
            Stage::Spanset(spanset) => Some(Self::of_spanset(spanset)),
            _ => None,
        });
        let mut known = spansets.reduce(Self::narrowed).unwrap_or_else(Self::nothing);
        known.has.extend(counted(stages));
        known
    }

    fn of_spanset(spanset: &SpansetExpr) -> Self {
        match spanset {
            SpansetExpr::Filter { condition: None, .. } => Self::nothing(),
            SpansetExpr::Filter { condition: Some(condition), .. } => {
                let root = of_root(condition).map(|condition| {
                    let is_root = compare(ComparisonOp::Equal, intrinsic(Intrinsic::ParentId), Static::Nil);
                    AtLeast { spans: 1, condition: FieldExpr::logical(LogicalOp::And, is_root, condition) }
                });
                Self {
                    answered: of_span(condition),
                    duration_min: duration_min(condition),
                    has: root.into_iter().collect(),
                }
            }
            SpansetExpr::Combine { op, left, right, .. } => {
                let (left, right) = (Self::of_spanset(left), Self::of_spanset(right));
                match op {
                    SpansetOp::Or => left.or(right),
                    SpansetOp::And | SpansetOp::Structural { mode: StructuralMode::Union, .. } => left.with(right),
                    SpansetOp::Structural { mode: StructuralMode::NotRelated, .. } => right,
                    SpansetOp::Structural { mode: StructuralMode::Related, .. } => right.beside(left),
                }
            }
            SpansetExpr::Pipeline { pipeline, .. } => Self::of_stages(&pipeline.stages),
        }
    }

    /// Spans that satisfy both.
    fn narrowed(mut self, mut other: Self) -> Self {
        let answered = all_of(self.answered.take().into_iter().chain(other.answered.take()).collect());
        Self { answered, ..self.both(other) }
    }

    /// These spans, in a trace that has the others.
    fn beside(mut self, other: Self) -> Self {
        Self { answered: self.answered.take(), ..self.both(other.being_there()) }
    }

    /// Spans of both, in a trace that has either.
    fn with(self, other: Self) -> Self {
        let answered = any_of(vec![self.answered.clone(), other.answered.clone()]);
        Self { answered, ..self.being_there().both(other.being_there()) }
    }

    /// Says of the spans that are left that the trace has one.
    fn being_there(mut self) -> Self {
        self.has.extend(self.answered.take().map(|condition| AtLeast { spans: 1, condition }));
        self
    }

    /// Of the trace, what both say.
    fn both(self, other: Self) -> Self {
        let duration_min = self.duration_min.max(other.duration_min);
        let mut has = [self.has, other.has].concat();
        has.truncate(CONDITIONS_MAX);
        Self { answered: None, duration_min, has }
    }

    /// Spans of either, in a trace of which one of both is true.
    fn or(self, other: Self) -> Self {
        let pairs = self.has.iter().flat_map(|one| other.has.iter().map(move |other| (one, other)));
        let either = pairs.map(|(one, other)| AtLeast {
            spans: one.spans.min(other.spans),
            condition: FieldExpr::logical(LogicalOp::Or, one.condition.clone(), other.condition.clone()),
        });
        Self {
            has: either.take(CONDITIONS_MAX).collect(),
            duration_min: self.duration_min.min(other.duration_min),
            answered: any_of(vec![self.answered, other.answered]),
        }
    }
}

fn any_of(conditions: Vec<Option<FieldExpr>>) -> Option<FieldExpr> {
    let conditions: Option<Vec<FieldExpr>> = conditions.into_iter().collect();
    conditions?.into_iter().reduce(|one, other| FieldExpr::logical(LogicalOp::Or, one, other))
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

/// What is known of the trace if the pipeline begins with a filter and counts what passes it.
fn counted(stages: &[Stage]) -> Option<AtLeast<FieldExpr>> {
    let [Stage::Spanset(SpansetExpr::Filter { condition, .. }), rest @ ..] = stages else { return None };
    let before_others = rest.iter().take_while(|stage| !matches!(stage, Stage::Spanset(_)));
    let limits = before_others.filter_map(|stage| {
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
    let spans = limits.map(|limit| limit as usize).max().filter(|spans| *spans > 1)?;
    let condition = condition.as_ref().and_then(of_span).unwrap_or_else(|| truth(true));
    Some(AtLeast { spans, condition })
}
