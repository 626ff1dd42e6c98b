//! Evaluates an expression for single spans: those in memory, and those of an assembled trace.

use std::borrow::Cow;

use tracehouse_model::{AttributeLists, ParentRow, SpanBatch, SpanId, StringCode};
use tracehouse_scan::is_over;
use tracehouse_traceql::{AttributeScope, Intrinsic};

use crate::assemble::TraceTree;
use crate::compile::{Expression, Node};
use crate::value::{Id, Value, as_floats, calculate, compare, matches_pattern, negate};

/// A filter bound to a batch: keys are codes of its string table.
pub(crate) struct RowExpression<'a> {
    node: &'a Node,
    batch: &'a SpanBatch,
    keys: Vec<Option<StringCode>>,
    /// Set if the batch is an assembled trace; else whatever needs the trace is missing.
    trace: Option<&'a TraceFacts<'a>>,
    /// Which spans are halves of calls that stand beneath the other half, where that is known without the trace.
    is_half: Option<&'a dyn Fn(usize) -> bool>,
}

/// What expressions may ask about a whole trace.
pub(crate) struct TraceFacts<'a> {
    /// Where the trace begins in its batch; the lists below count from there.
    first_row: usize,
    duration_nanos: i64,
    root_name: &'a str,
    root_service: &'a str,
    parents: &'a [ParentRow],
    child_counts: Vec<u32>,
    /// Entry and exit number of each span in a depth-first walk, from 1.
    nested_set: Vec<(u32, u32)>,
}

impl<'a> TraceFacts<'a> {
    pub(crate) fn of(spans: &'a SpanBatch, tree: &'a TraceTree) -> Self {
        let mut child_counts = vec![0u32; tree.rows.len()];
        for parent in &tree.parent {
            if let ParentRow::Row(row) = parent {
                child_counts[*row as usize] += 1;
            }
        }
        let root = tree.root.map(|row| tree.rows.start + row as usize);
        Self {
            first_row: tree.rows.start,
            duration_nanos: tree.duration_nanos,
            root_name: root.map(|row| spans.strings.get(spans.name[row])).unwrap_or_default(),
            root_service: root.map(|row| spans.strings.get(spans.service_name(row))).unwrap_or_default(),
            parents: &tree.parent,
            child_counts,
            nested_set: nested_set(&tree.parent),
        }
    }
}

/// Rows stand in pre-order, so one pass with a stack of open ancestors numbers them.
fn nested_set(parents: &[ParentRow]) -> Vec<(u32, u32)> {
    let mut numbers = vec![(0, 0); parents.len()];
    let mut open: Vec<usize> = Vec::new();
    let mut next = 1;
    for (row, parent) in parents.iter().enumerate() {
        let parent = if let ParentRow::Row(parent) = parent { Some(*parent as usize) } else { None };
        while let Some(&last) = open.last() {
            if Some(last) == parent {
                break;
            }
            numbers[last].1 = next;
            next += 1;
            open.pop();
        }
        numbers[row].0 = next;
        next += 1;
        open.push(row);
    }
    while let Some(last) = open.pop() {
        numbers[last].1 = next;
        next += 1;
    }
    numbers
}

impl<'a> RowExpression<'a> {
    pub(crate) fn new(filter: &'a Expression, batch: &'a SpanBatch, trace: Option<&'a TraceFacts<'a>>) -> Self {
        let keys = filter.keys.iter().map(|key| batch.strings.find(key.as_bytes())).collect();
        Self { node: &filter.node, batch, keys, trace, is_half: None }
    }

    /// With what is known of halves of calls.
    pub(crate) fn with_halves(self, is_half: &'a dyn Fn(usize) -> bool) -> Self {
        Self { is_half: Some(is_half), ..self }
    }

    pub(crate) fn holds(&self, row: usize) -> bool {
        // A calculation that was ended says nothing.
        self.truth(self.node, row) && !is_over()
    }

    pub(crate) fn value_of(&self, row: usize) -> Value<'a> {
        self.value(self.node, row)
    }

    /// Whether a condition that compares a field would hold if this one value were all of the field.
    pub(crate) fn holds_of(&self, value: &Value<'_>, row: usize) -> bool {
        match self.node {
            Node::Compare { op, right, .. } => compare(*op, value, &self.value(right, row)),
            Node::Matches { negated, pattern, .. } => matches_pattern(value, pattern, *negated),
            _ => self.holds(row),
        }
    }

    fn truth(&self, node: &Node, row: usize) -> bool {
        match node {
            Node::And(terms) => terms.iter().all(|term| self.truth(term, row)),
            Node::Or(terms) => terms.iter().any(|term| self.truth(term, row)),
            Node::Not(operand) => !self.truth(operand, row),
            Node::Compare { op, left, right } => compare(*op, &self.value(left, row), &self.value(right, row)),
            Node::Matches { negated, operand, pattern } => {
                matches_pattern(&self.value(operand, row), pattern, *negated)
            }
            other => self.value(other, row).is_true(),
        }
    }

    fn value(&self, node: &'a Node, row: usize) -> Value<'a> {
        match node {
            Node::And(_) | Node::Or(_) | Node::Not(_) | Node::Compare { .. } | Node::Matches { .. } => {
                Value::Bool(self.truth(node, row))
            }
            Node::Arithmetic { op, left, right } => calculate(*op, &self.value(left, row), &self.value(right, row)),
            Node::Float(operand) => as_floats(&self.value(operand, row)),
            Node::Negate(operand) => negate(&self.value(operand, row)),
            Node::Literal(literal) => Value::of_literal(literal),
            Node::Attribute { of_parent: false, scope, key } => self.attribute(*scope, *key, row),
            Node::Attribute { of_parent: true, scope, key } => match self.parent(row) {
                Some(parent) => self.attribute(*scope, *key, parent),
                None => Value::Missing,
            },
            Node::Intrinsic(intrinsic) => self.intrinsic(*intrinsic, row),
        }
    }

    fn parent(&self, row: usize) -> Option<usize> {
        let trace = self.trace?;
        match trace.parents[row - trace.first_row] {
            ParentRow::Row(parent) => Some(trace.first_row + parent as usize),
            ParentRow::Root | ParentRow::Missing => None,
        }
    }

    /// The id of the parent: as the trace has it, else as the span names it.
    fn parent_id(&self, row: usize) -> Option<SpanId> {
        let id = match self.parent(row) {
            Some(parent) => self.batch.span_id[parent],
            None if self.is_half.is_some_and(|is_half| is_half(row)) => self.batch.span_id[row],
            None => self.batch.parent_span_id[row],
        };
        (!id.is_none()).then_some(id)
    }

    fn attribute(&self, scope: AttributeScope, key: usize, row: usize) -> Value<'a> {
        let Some(key) = self.keys[key] else { return Value::Missing };
        let batch = self.batch;
        let of = |lists: &AttributeLists, owner: usize| {
            lists.get(owner, key).map_or(Value::Missing, |value| Value::of_attribute(value, &batch.strings))
        };
        let several =
            |lists: &AttributeLists, owners: std::ops::Range<usize>| Value::each(owners.map(|owner| of(lists, owner)));
        match scope {
            AttributeScope::Span => of(&batch.attributes, row),
            AttributeScope::Resource => of(&batch.resources.attributes, batch.resource[row] as usize),
            AttributeScope::Any => {
                let own = of(&batch.attributes, row);
                if !own.is_missing() {
                    return own;
                }
                of(&batch.resources.attributes, batch.resource[row] as usize)
            }
            AttributeScope::Instrumentation => of(&batch.scopes.attributes, batch.scope[row] as usize),
            AttributeScope::Event => several(&batch.events.attributes, batch.event_range(row)),
            AttributeScope::Link => several(&batch.links.attributes, batch.link_range(row)),
        }
    }

    fn intrinsic(&self, intrinsic: Intrinsic, row: usize) -> Value<'a> {
        let batch = self.batch;
        let text = |code: StringCode| Value::String(Cow::Borrowed(batch.strings.get(code)));
        match intrinsic {
            Intrinsic::Name => text(batch.name[row]),
            Intrinsic::Duration => Value::Int(batch.duration_nanos[row]),
            Intrinsic::Status => Value::Status(batch.status_code[row]),
            Intrinsic::StatusMessage => text(batch.status_message[row]),
            Intrinsic::Kind => Value::Kind(batch.kind[row]),
            Intrinsic::SpanId => Value::Id(Id::of_span(batch.span_id[row])),
            Intrinsic::ParentId => self.parent_id(row).map_or(Value::Missing, |id| Value::Id(Id::of_span(id))),
            Intrinsic::TraceId => Value::Id(Id::of_trace(batch.trace_id[row])),
            Intrinsic::EventName => Value::each(batch.event_range(row).map(|event| text(batch.events.name[event]))),
            Intrinsic::EventTimeSinceStart => {
                let start = batch.start_unix_nanos[row];
                let since = |event: usize| Value::Int(batch.events.time_unix_nanos[event].saturating_sub(start));
                Value::each(batch.event_range(row).map(since))
            }
            Intrinsic::LinkTraceId => {
                let id = |link: usize| Value::Id(Id::of_trace(batch.links.trace_id[link]));
                Value::each(batch.link_range(row).map(id))
            }
            Intrinsic::LinkSpanId => {
                let id = |link: usize| Value::Id(Id::of_span(batch.links.span_id[link]));
                Value::each(batch.link_range(row).map(id))
            }
            Intrinsic::InstrumentationName => text(batch.scopes.name[batch.scope[row] as usize]),
            Intrinsic::InstrumentationVersion => text(batch.scopes.version[batch.scope[row] as usize]),
            Intrinsic::Parent => self.parent_id(row).map_or(Value::Missing, |_| Value::Other),
            _ => self.trace_intrinsic(intrinsic, row),
        }
    }

    fn trace_intrinsic(&self, intrinsic: Intrinsic, row: usize) -> Value<'a> {
        let Some(trace) = self.trace else { return Value::Missing };
        let number = |number: u32| Value::Int(i64::from(number));
        match intrinsic {
            Intrinsic::TraceDuration => Value::Int(trace.duration_nanos),
            Intrinsic::TraceRootName => Value::String(Cow::Borrowed(trace.root_name)),
            Intrinsic::TraceRootService => Value::String(Cow::Borrowed(trace.root_service)),
            Intrinsic::ChildCount => number(trace.child_counts[row - trace.first_row]),
            Intrinsic::NestedSetLeft => number(trace.nested_set[row - trace.first_row].0),
            Intrinsic::NestedSetRight => number(trace.nested_set[row - trace.first_row].1),
            Intrinsic::NestedSetParent => match trace.parents[row - trace.first_row] {
                ParentRow::Row(parent) => number(trace.nested_set[parent as usize].0),
                ParentRow::Missing => Value::Int(0),
                ParentRow::Root => Value::Int(-1),
            },
            _ => Value::Missing,
        }
    }
}
